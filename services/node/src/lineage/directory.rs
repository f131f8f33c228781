//! Who folds which partition: what owners tell on the `owners` table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Event, PartitionOwned, Place, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use tokio::sync::watch;

use crate::{Error, publish};

/// Longest wait before the directory looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// Owners that have caught up, by partition.
pub(crate) type Told = BTreeMap<u16, PartitionOwned>;

/// Reads what owners tell, until `stop`.
pub(crate) async fn follow(
    log: Arc<dyn EventLog>,
    told: watch::Sender<Told>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let (at, mut from) = (Place::new(Stream::Owners, 0), 0);
    while !*stop.borrow() {
        let page = log.read(&at, from, PAGE_ENTRIES_MAX).await?;
        let mut news = Told::new();
        for value in page
            .entries
            .iter()
            .filter_map(|stored| stored.entry.value.as_ref())
        {
            let owned = Event::<PartitionOwned>::decode(value)?.data;
            news.insert(owned.partition, owned);
        }
        if !news.is_empty() {
            told.send_modify(|known| known.extend(news));
        }
        let moved = page.next != from;
        from = page.next;
        if !moved {
            tokio::select! {
                woken = log.wait(&at, from, IDLE) => woken?,
                _ = stop.changed() => {}
            }
        }
    }
    Ok(())
}

/// Tells that a partition is folded here, up to what the log held a moment ago.
pub(crate) async fn tell(log: &dyn EventLog, owned: PartitionOwned) -> Result<(), Error> {
    let key = owned.partition.to_string();
    let entry = publish::entry(key.as_bytes(), "/lethe/lineage", owned)?;
    publish::append(log, &Place::new(Stream::Owners, 0), vec![entry], "owners").await
}
