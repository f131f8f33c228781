//! The owner of one lineage partition: folds its part of `records` and `keys` into a store of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_journal::{DatasetRef, Place, Position, Stream};
use lethe_lineage::{Change, Chunk, RowPair, Rows, fold, records_by_dataset};
use lethe_log::EventLog;
use lethe_store::{Batch, Store};
use lethe_store_sled::{Condition, SledStore};
use tokio::sync::watch;

use super::question::{Folded, Question};
use crate::Error;

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
    pub(crate) async fn fold_all(self: &Arc<Self>, log: &Arc<dyn EventLog>) -> Result<(), Error> {
        while self.step(log).await? {}
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<DatasetRef, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        log: Arc<dyn EventLog>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            if self.step(&log).await? {
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

    /// Folds a page of each stream; whether there was anything.
    async fn step(self: &Arc<Self>, log: &Arc<dyn EventLog>) -> Result<bool, Error> {
        let mut moved = false;
        for (slot, stream) in FOLDED.iter().enumerate() {
            let from = self.folded.borrow()[slot];
            let page = log
                .read(
                    &Place::new(stream.clone(), self.partition),
                    from,
                    FOLD_ENTRIES_MAX,
                )
                .await?;
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
            let (owner, stream, next) = (Arc::clone(self), stream.clone(), page.next);
            tokio::task::spawn_blocking(move || owner.fold_page(&stream, from, &page.entries, page.next))
                .await
                .map_err(|_| Error::Stopped { what: "a fold" })??;
            self.folded.send_modify(|at| at[slot] = next);
            moved = true;
        }
        Ok(moved)
    }

    fn fold_page(
        &self,
        stream: &Stream,
        from: Position,
        entries: &[lethe_journal::Stored],
        next: Position,
    ) -> Result<(), Error> {
        for chunk in fold(&StoreRows(&self.store), stream, from, entries, next)? {
            self.commit(stream, chunk)?;
        }
        // An empty entry with a key ends a record; one without is a fence or a heartbeat.
        if *stream == Stream::Records {
            let ended = entries
                .iter()
                .filter(|stored| stored.entry.value.is_none() && !stored.entry.key.is_empty());
            self.ended.fetch_add(
                u64::try_from(ended.count()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
        Ok(())
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
