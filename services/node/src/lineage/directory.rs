//! Who folds which partition: what owners tell on the `owners` table.
//!
//! Whoever may write to the table is not therefore an owner: each word bears a code that only processes of the installation can make. What bears none
//! is passed by, and nobody has the partition until its owner, who reads this too, has told it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use lethe_journal::{PartitionOwned, Place, Stream};
use lethe_log::{EventLog, Page};
use lethe_vault::InternalKey;
use tokio::sync::watch;

use crate::following::Following;
use crate::{Error, poison, publish};

/// What codes of owners are made for.
const PURPOSE: &str = "owner/v1";

/// The code of what stands for a partition and is the word of no owner.
const UNPROVEN: &str = "node-owner-unproven";

/// Owners that have caught up, by partition.
pub(crate) type Told = BTreeMap<u16, PartitionOwned>;

/// Reads what owners tell, until `stop`.
pub(crate) async fn follow(
    log: Arc<dyn EventLog>,
    key: InternalKey,
    told: watch::Sender<Told>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut pages = Following::new(&*log, Place::new(Stream::Owners, 0), 0);
    while let Some(page) = pages.next(&mut stop).await? {
        let news = news(&key, &page)?;
        if news.is_empty() {
            continue;
        }
        told.send_modify(|known| {
            for (partition, owned) in news {
                match owned {
                    Some(owned) => known.insert(partition, owned),
                    None => known.remove(&partition),
                };
            }
        });
    }
    Ok(())
}

/// The last word of a page on each partition; nothing where that is no owner's, which took the place of an owner's all the same.
fn news(key: &InternalKey, page: &Page) -> Result<BTreeMap<u16, Option<PartitionOwned>>, Error> {
    let mut words = Vec::new();
    for stored in &page.entries {
        let event = poison::event_of::<PartitionOwned>(&Stream::Owners, stored)?;
        if let Some(partition) = named_by(&stored.entry.key) {
            let owned = event.map(|event| event.data);
            let proven = owned.filter(|owned| owned.partition == partition && is_proven(key, owned));
            words.push((stored.position, partition, proven));
        }
    }
    for stray in &page.strays {
        words.extend(named_by(&stray.key).map(|partition| (stray.position, partition, None)));
    }
    words.sort_by_key(|(position, ..)| *position);
    let words = words.into_iter().map(|(_, partition, owned)| (partition, owned));
    let news: BTreeMap<_, _> = words.collect();
    for (partition, _) in news.iter().filter(|(_, owned)| owned.is_none()) {
        tracing::warn!(
            code = UNPROVEN,
            partition,
            "what stands on the log for a partition of lineage is the word of no owner of this installation: nobody has it until its owner tells again"
        );
    }
    Ok(news)
}

/// The partition whose key that is.
fn named_by(key: &[u8]) -> Option<u16> {
    std::str::from_utf8(key).ok()?.parse().ok()
}

/// The word of an owner, with the code that proves it.
pub(crate) fn proven(key: &InternalKey, partition: u16, instance: &str, address: &str) -> PartitionOwned {
    let mut owned = PartitionOwned {
        partition,
        instance: instance.to_owned(),
        address: address.to_owned(),
        mac: None,
    };
    let mac = with_said(&owned, |said| key.mac(PURPOSE, said));
    owned.mac = Some(mac);
    owned
}

fn is_proven(key: &InternalKey, owned: &PartitionOwned) -> bool {
    let shown = owned.mac.as_deref();
    shown.is_some_and(|mac| with_said(owned, |said| key.is_mac(mac, PURPOSE, said)))
}

/// What an owner says, as the code is made of it: of which stream it is a partition, too.
fn with_said<T>(owned: &PartitionOwned, with: impl FnOnce([&[u8]; 4]) -> T) -> T {
    let stream = Stream::Records.to_string();
    with([
        stream.as_bytes(),
        &owned.partition.to_be_bytes(),
        owned.instance.as_bytes(),
        owned.address.as_bytes(),
    ])
}

/// Tells that a partition is folded here, up to what the log held a moment ago.
pub(crate) async fn tell(log: &dyn EventLog, owned: PartitionOwned) -> Result<(), Error> {
    let key = owned.partition.to_string();
    let entry = publish::entry(key.as_bytes(), "/lethe/lineage", owned)?;
    publish::append(log, &Place::new(Stream::Owners, 0), vec![entry], "owners").await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lethe_journal::Entry;
    use lethe_log::{MemoryLog, Stray};
    use lethe_vault::TokenKeys;

    use super::*;
    use crate::shell;

    const ADDRESS: &str = "http://127.0.0.1:7381";

    /// How long anything may take that comes at once.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn key(byte: u8) -> InternalKey {
        TokenKeys::new(&[1; 32], &[byte; 32]).internal()
    }

    fn said(partition: u16) -> PartitionOwned {
        proven(&key(2), partition, "lineage-1", ADDRESS)
    }

    /// Told until this is what is known.
    async fn known(told: &mut watch::Receiver<Told>, partitions: &[u16]) {
        let expected = |told: &Told| told.keys().copied().collect::<Vec<_>>() == partitions;
        let heard = tokio::time::timeout(PATIENCE, told.wait_for(expected)).await;
        drop(heard.expect("that is told").unwrap());
    }

    #[tokio::test]
    async fn who_is_no_owner_of_the_installation_has_no_partition_and_the_owner_has_it_once_it_tells_again() {
        let log = Arc::new(MemoryLog::new());
        let (telling, mut told) = watch::channel(Told::new());
        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(follow(Arc::clone(&log) as _, key(2), telling, stopped));
        for partition in [3, 4, 5, 6, 7, 8] {
            tell(&*log, said(partition)).await.unwrap();
        }
        known(&mut told, &[3, 4, 5, 6, 7, 8]).await;
        let rogue = "http://127.0.0.1:6666".to_owned();
        let bare = |partition| PartitionOwned {
            address: rogue.clone(),
            mac: None,
            ..said(partition)
        };
        tell(&*log, bare(3)).await.unwrap();
        let moved = PartitionOwned {
            address: rogue.clone(),
            ..said(4)
        };
        tell(&*log, moved).await.unwrap();
        let foreign = proven(&key(3), 5, "lineage-1", &rogue);
        tell(&*log, foreign).await.unwrap();
        let of_another = publish::entry(b"6", "/lethe/lineage", said(7)).unwrap();
        let ended = Entry {
            id: shell::entry_id(),
            key: b"7".to_vec(),
            value: None,
        };
        let at = Place::new(Stream::Owners, 0);
        publish::append(&*log, &at, vec![of_another, ended], "a test")
            .await
            .unwrap();
        known(&mut told, &[8]).await;
        tell(&*log, said(3)).await.unwrap();
        known(&mut told, &[3, 8]).await;
        stop.send(true).unwrap();
        following.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn of_a_stray_and_an_owner_the_later_one_counts() {
        let log = MemoryLog::new();
        for partition in [3, 4] {
            tell(&log, said(partition)).await.unwrap();
        }
        let at = Place::new(Stream::Owners, 0);
        let mut page = log.read(&at, 0, 9).await.unwrap();
        page.entries[1].position = 2;
        let stray = |position, key: &[u8]| Stray {
            position,
            key: key.to_vec(),
            value: Vec::new(),
        };
        page.strays = vec![stray(1, b"4"), stray(3, b"3"), stray(4, b"stray")];
        let expected = BTreeMap::from([(3, None), (4, Some(said(4)))]);
        assert_eq!(news(&key(2), &page).unwrap(), expected);
    }
}
