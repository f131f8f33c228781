//! The owner of one lineage partition: folds its part of `records` and `keys` into a store of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_intake::Poison;
use lethe_journal::{DatasetRef, Place, Position, Stored, Stream};
use lethe_lineage::{
    Change, Chunk, Displaced, Folded as Changes, RowPair, Rows, Stretch, fold, records_by_dataset,
};
use lethe_log::{EventLog, Page};
use lethe_store::{Batch, Store};
use lethe_store_sled::{Condition, SledStore};
use tokio::sync::watch;

use super::question::{Folded, Question};
use crate::Error;
use crate::poison::{PutsAway, of_stray};

/// Longest wait before an owner looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// Entries that a fold takes at a time: all partitions hold such a page at once, decoded, and one flush carries it.
const FOLD_ENTRIES_MAX: usize = 256;

/// The streams that an owner folds. Keys first: a record is of no use without the key that opens it.
pub(crate) const FOLDED: [Stream; 2] = [Stream::Keys, Stream::Records];

/// One partition.
pub(crate) struct Owner {
    partition: u16,
    store: SledStore,
    /// Where the folds of keys and records stand.
    folded: watch::Sender<Folded>,
    /// How many records the fold has seen end since the start.
    ended: AtomicU64,
    /// Records by dataset: counted at the start, then as the fold changes them. Reading all rows again would keep all of them in memory.
    counts: Mutex<BTreeMap<DatasetRef, u64>>,
}

/// A store as the pure fold sees it.
struct StoreRows<'a>(&'a dyn Store);

impl Rows for StoreRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, lethe_lineage::Error> {
        self.0
            .get(key)
            .map_err(|error| lethe_lineage::Error::RowsUnavailable(error.to_string()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RowPair>, lethe_lineage::Error> {
        self.0
            .scan(prefix, after, limit)
            .map_err(|error| lethe_lineage::Error::RowsUnavailable(error.to_string()))
    }
}

impl Owner {
    /// Opens the store of a partition in a folder. A damaged one is empty afterwards, and its fold starts again.
    pub(crate) fn open(partition: u16, folder: &Path) -> Result<Self, Error> {
        let opened = SledStore::open(folder)?;
        if let Condition::Rebuild { why } = &opened.condition {
            tracing::warn!(partition, why, "a store was damaged and is rebuilt from the log");
        }
        let at = [
            opened.store.position(&FOLDED[0])?,
            opened.store.position(&FOLDED[1])?,
        ];
        Ok(Self {
            partition,
            counts: Mutex::new(records_by_dataset(&StoreRows(&opened.store))?),
            store: opened.store,
            folded: watch::Sender::new(at),
            ended: AtomicU64::new(0),
        })
    }

    /// Where the folds stand.
    pub(crate) fn folded(&self) -> Folded {
        *self.folded.borrow()
    }

    /// Returns once the folds stand there at least.
    ///
    /// # Errors
    /// [`Error::Lagging`] where that does not come in time.
    pub(crate) async fn caught_up(&self, at_least: Folded, patience: Duration) -> Result<(), Error> {
        let mut folded = self.folded.subscribe();
        let there = folded.wait_for(|at| at[0] >= at_least[0] && at[1] >= at_least[1]);
        match tokio::time::timeout(patience, there).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped { what: "an owner" }),
            Err(_) => Err(Error::Lagging),
        }
    }

    /// Answers from rows that have read so far.
    ///
    /// # Errors
    /// [`Error::Lagging`] where they do not come so far in time, or began anew meanwhile.
    pub(crate) async fn answer<Q: Question>(
        self: &Arc<Self>,
        question: Arc<Q>,
        at_least: Folded,
        patience: Duration,
    ) -> Result<Q::Answer, Error> {
        self.caught_up(at_least, patience).await?;
        let owner = Arc::clone(self);
        let answered = tokio::task::spawn_blocking(move || question.answered(&owner));
        let answer = answered
            .await
            .map_err(|_| Error::Stopped { what: "a question" })??;
        self.caught_up(at_least, Duration::ZERO).await?;
        Ok(answer)
    }

    /// The rows.
    pub(crate) fn rows(&self) -> impl Rows + '_ {
        StoreRows(&self.store)
    }

    /// How many records of each dataset there are.
    pub(crate) fn records_by_dataset(&self) -> BTreeMap<DatasetRef, u64> {
        self.counts().clone()
    }

    /// How many records were ended since the start.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Copies the store into a fresh one, so that nothing of a removed row is left.
    pub(crate) fn compact(&self) -> Result<(), Error> {
        Ok(self.store.compact()?)
    }

    /// Folds everything that the log holds, once.
    pub(crate) async fn fold_all(
        self: &Arc<Self>,
        log: &Arc<dyn EventLog>,
        away: &dyn PutsAway,
    ) -> Result<(), Error> {
        let (_stop, mut never) = watch::channel(false);
        while self.step(log, away, &mut never).await? {}
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<DatasetRef, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        log: Arc<dyn EventLog>,
        away: Arc<dyn PutsAway>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            if self.step(&log, &*away, &mut stop).await? {
                continue;
            }
            let at = *self.folded.borrow();
            let places = FOLDED.map(|stream| Place::new(stream, self.partition));
            tokio::select! {
                woken = log.wait(&places[0], at[0], IDLE) => woken?,
                woken = log.wait(&places[1], at[1], IDLE) => woken?,
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Folds a page of each stream; whether there was anything that could be folded. What can be no entry is put away before the fold stands behind
    /// it: a crash in between finds it again.
    async fn step(
        self: &Arc<Self>,
        log: &Arc<dyn EventLog>,
        away: &dyn PutsAway,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let mut moved = false;
        for (slot, stream) in FOLDED.iter().enumerate() {
            let from = self.folded.borrow()[slot];
            let at = Place::new(stream.clone(), self.partition);
            let page = log.read(&at, from, FOLD_ENTRIES_MAX).await?;
            if page.fell_behind {
                tracing::warn!(
                    partition = self.partition,
                    "a fold slept through a compaction and is rebuilt from the log"
                );
                // First where it stands: a question that is being answered finds afterwards that it was answered from too little.
                self.folded.send_replace([0, 0]);
                self.store.wipe()?;
                self.counts().clear();
                return Ok(true);
            }
            if page.next == from {
                continue;
            }
            let (owner, folded, next) = (Arc::clone(self), stream.clone(), page.next);
            let PageFolded {
                chunks,
                ended,
                poison,
            } = blocking(move || owner.fold_page(&folded, from, page)).await?;
            if !poison.is_empty() && !away.put_away(&at, &poison, stop).await? {
                continue;
            }
            let (owner, folded) = (Arc::clone(self), stream.clone());
            blocking(move || {
                chunks
                    .into_iter()
                    .try_for_each(|chunk| owner.commit(&folded, chunk))
            })
            .await?;
            self.ended.fetch_add(ended, Ordering::Relaxed);
            self.folded.send_modify(|at| at[slot] = next);
            moved = true;
        }
        Ok(moved)
    }

    fn fold_page(&self, stream: &Stream, from: Position, page: Page) -> Result<PageFolded, Error> {
        let strays: Vec<_> = page
            .strays
            .iter()
            .map(|stray| (stray.position, &*stray.key))
            .collect();
        let stretch = Stretch {
            entries: &page.entries,
            strays: &strays,
            next: page.next,
        };
        let Changes {
            chunks,
            unreadable,
            mut displaced,
        } = fold(&StoreRows(&self.store), stream, from, stretch)?;
        let is_records = *stream == Stream::Records;
        let ended = page
            .entries
            .iter()
            .filter(|stored| is_records && ends(stored))
            .count()
            + displaced.len();
        let mut poison: Vec<_> = page.strays.into_iter().map(of_stray).collect();
        poison.extend(unreadable.into_iter().map(|(position, error)| Poison {
            position,
            system: None,
            is_anybodys: false,
            code: error.code(),
            expected: format!("an entry that Lethe wrote: {error}"),
            value: value_at(&page.entries, position),
        }));
        poison.sort_by_key(|one| one.position);
        for one in &mut poison {
            match displaced.remove(&one.position) {
                Some(Displaced::Of(system)) => one.system = Some(system),
                Some(Displaced::Unknown) => one.is_anybodys = true,
                None => {}
            }
        }
        Ok(PageFolded {
            chunks,
            ended: u64::try_from(ended).unwrap_or(u64::MAX),
            poison,
        })
    }

    fn commit(&self, stream: &Stream, chunk: Chunk) -> Result<(), Error> {
        let mut batch = Batch::default();
        for change in chunk.changes {
            match change {
                Change::Put(key, value) => batch.put(key, value),
                Change::Remove(key) => batch.remove(key),
            }
        }
        self.store.commit(stream, chunk.from, chunk.to, &batch)?;
        let mut counts = self.counts();
        for (place, by) in chunk.counts {
            let count = counts.entry(place).or_default();
            *count = count.saturating_add_signed(by);
        }
        Ok(())
    }
}

/// What a page becomes.
struct PageFolded {
    chunks: Vec<Chunk>,
    /// How many records it ends.
    ended: u64,
    poison: Vec<Poison>,
}

/// Whether an entry of records ends one. An empty entry without a key is a fence or a heartbeat.
fn ends(stored: &Stored) -> bool {
    stored.entry.value.is_none() && !stored.entry.key.is_empty()
}

fn value_at(entries: &[Stored], position: Position) -> Vec<u8> {
    let found = entries.iter().find(|stored| stored.position == position);
    found
        .and_then(|stored| stored.entry.value.clone())
        .unwrap_or_default()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Stopped { what: "a fold" })?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use async_trait::async_trait;
    use lethe_journal::{Entry, RecordObserved, Sealed};
    use lethe_log::MemoryLog;
    use lethe_terms::RecordToken;

    use super::*;
    use crate::{publish, shell};

    /// What was put away: where, of which system, and why.
    type Away = (Stream, Option<String>, &'static str);

    #[derive(Default)]
    struct Quarantine {
        is_open: AtomicBool,
        away: Mutex<Vec<Away>>,
    }

    #[async_trait]
    impl PutsAway for Quarantine {
        async fn put_away(
            &self,
            at: &Place,
            poison: &[Poison],
            _: &mut watch::Receiver<bool>,
        ) -> Result<bool, Error> {
            let is_open = self.is_open.load(Ordering::Relaxed);
            if is_open {
                let one = |one: &Poison| {
                    let system = one.system.as_ref().map(ToString::to_string);
                    (at.stream.clone(), system, one.code)
                };
                self.away.lock().unwrap().extend(poison.iter().map(one));
            }
            Ok(is_open)
        }
    }

    #[tokio::test]
    async fn what_can_be_no_entry_is_put_away_before_the_fold_stands_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(MemoryLog::new());
        let record = RecordToken::from_bytes([3; 16]);
        let observed = RecordObserved {
            record,
            system: "shop".parse().unwrap(),
            dataset: "orders".parse().unwrap(),
            tokens: Vec::new(),
            secret: Sealed::from_bytes(Vec::new()),
            digest: String::new(),
            count: 1,
        };
        let damaged = || Entry {
            id: shell::entry_id(),
            key: record.as_bytes().to_vec(),
            value: Some(b"no event".to_vec()),
        };
        let good = publish::entry(record.as_bytes(), "/lethe/intake", observed).unwrap();
        for (stream, entries) in [
            (Stream::Keys, vec![damaged()]),
            (Stream::Records, vec![good, damaged(), damaged()]),
        ] {
            let at = Place::new(stream, 0);
            publish::append(&*log, &at, entries, "a test").await.unwrap();
        }
        let (owner, quarantine) = (
            Arc::new(Owner::open(0, folder.path()).unwrap()),
            Quarantine::default(),
        );
        let log: Arc<dyn EventLog> = log;
        owner.fold_all(&log, &quarantine).await.unwrap();
        assert_eq!(owner.folded(), [0, 0]);
        quarantine.is_open.store(true, Ordering::Relaxed);
        owner.fold_all(&log, &quarantine).await.unwrap();
        assert_eq!(owner.folded(), [1, 3]);
        assert_eq!(owner.records_by_dataset().values().sum::<u64>(), 0);
        let unreadable = "lineage-entry-unreadable";
        let expected = [
            (Stream::Keys, None, unreadable),
            (Stream::Records, Some("shop".to_owned()), unreadable),
            (Stream::Records, None, unreadable),
        ];
        assert_eq!(*quarantine.away.lock().unwrap(), expected);
    }
}
