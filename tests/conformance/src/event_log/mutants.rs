//! Deliberately wrong logs. A suite that does not catch each of them is itself wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::{Entry, Epoch, Place, Position, Stream};
use lethe_log::{Appended, Compaction, Error, EventLog, GoneBy, MemoryLog, Page};

use super::{Factory, Log, PowerLossLogs, Subject, read_from, stored, streams};

/// What a wrong log does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The end of each partition is missing after a reopening, and nobody is told.
    LosesTail,
    /// A compaction removes the newest entry of a key with several.
    ForgetsNewest,
    /// After a compaction, positions start from the beginning.
    ReusesPositions,
    /// A stale writer may write.
    IgnoresEpoch,
    /// A batch is stored backwards.
    ReordersBatch,
    /// A reader that missed a tombstone is not told.
    HidesMissedTombstones,
}

/// The mutants: what they are called, how they are made, and the check that must catch each.
pub fn all() -> Vec<(&'static str, Arc<dyn Factory>, &'static str)> {
    let faulty = |fault| Arc::new(FaultyLogs { fault }) as Arc<dyn Factory>;
    vec![
        (
            "acknowledges before its bytes last",
            Arc::new(PowerLossLogs::that_lie_about_bytes()),
            "what_was_acknowledged_survives_power_loss",
        ),
        (
            "acknowledges before its names last",
            Arc::new(PowerLossLogs::that_lie_about_names()),
            "what_was_acknowledged_survives_power_loss",
        ),
        (
            "loses a tail in silence",
            faulty(Fault::LosesTail),
            "everything_acknowledged_is_there_after_a_reopening",
        ),
        (
            "forgets the newest entry of a key",
            faulty(Fault::ForgetsNewest),
            "compaction_keeps_the_newest_entry_of_each_key",
        ),
        (
            "uses positions again",
            faulty(Fault::ReusesPositions),
            "positions_are_never_used_again",
        ),
        (
            "ignores a stale epoch",
            faulty(Fault::IgnoresEpoch),
            "a_stale_writer_stores_nothing",
        ),
        (
            "reorders a batch",
            faulty(Fault::ReordersBatch),
            "a_batch_is_stored_whole_and_in_order",
        ),
        (
            "hides missed tombstones",
            faulty(Fault::HidesMissedTombstones),
            "a_reader_that_missed_a_tombstone_is_told",
        ),
    ]
}

/// Logs in memory with one fault.
#[derive(Debug)]
pub struct FaultyLogs {
    fault: Fault,
}

#[async_trait]
impl Factory for FaultyLogs {
    async fn open(&self) -> Log {
        Arc::new(Faulty {
            fault: self.fault,
            inner: Mutex::new(MemoryLog::new()),
            hidden: Mutex::default(),
        })
    }

    async fn reopen(&self, log: Log) -> Log {
        if self.fault != Fault::LosesTail {
            return log;
        }
        let shorter = MemoryLog::new();
        for at in streams()
            .iter()
            .flat_map(|stream| Place::all(stream).collect::<Vec<_>>())
        {
            let mut entries = read_from(&*log, &at, 0).await;
            entries.pop();
            if !entries.is_empty() {
                stored(
                    &shorter,
                    &at,
                    entries.into_iter().map(|stored| stored.entry).collect(),
                )
                .await;
            }
        }
        Arc::new(Faulty {
            fault: self.fault,
            inner: Mutex::new(shorter),
            hidden: Mutex::default(),
        })
    }
}

#[derive(Debug)]
struct Faulty {
    fault: Fault,
    inner: Mutex<MemoryLog>,
    hidden: Mutex<BTreeSet<(Place, Position)>>,
}

impl Faulty {
    fn inner(&self) -> MemoryLog {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hidden(&self) -> MutexGuard<'_, BTreeSet<(Place, Position)>> {
        self.hidden.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forget_newest(&self, stream: &Stream) {
        for at in Place::all(stream) {
            let entries = read_from(&self.inner(), &at, 0).await;
            let mut keys = BTreeSet::new();
            let again = entries
                .iter()
                .rev()
                .find(|stored| !keys.insert(stored.entry.key.clone()));
            let newest = again.and_then(|again| {
                entries
                    .iter()
                    .rfind(|stored| stored.entry.key == again.entry.key)
                    .map(|stored| stored.position)
            });
            self.hidden()
                .extend(newest.map(|position| (at.clone(), position)));
        }
    }

    async fn start_again(&self) {
        let again = MemoryLog::new();
        let old = self.inner();
        for at in streams()
            .iter()
            .flat_map(|stream| Place::all(stream).collect::<Vec<_>>())
        {
            let entries: Vec<_> = read_from(&old, &at, 0)
                .await
                .into_iter()
                .map(|stored| stored.entry)
                .collect();
            if !entries.is_empty() {
                stored(&again, &at, entries).await;
            }
        }
        *self.inner.lock().unwrap_or_else(PoisonError::into_inner) = again;
    }
}

#[async_trait]
impl Subject for Faulty {
    async fn compact(&self, stream: &Stream, seen: &BTreeMap<u16, Position>) -> Result<Compaction, Error> {
        if self.fault == Fault::ForgetsNewest {
            self.forget_newest(stream).await;
        }
        let report = MemoryLog::compact(&self.inner(), stream, seen).await?;
        if self.fault == Fault::ReusesPositions {
            self.start_again().await;
        }
        Ok(report)
    }

    async fn expire(&self, stream: &Stream, before: &BTreeMap<u16, Position>) -> Result<Compaction, Error> {
        MemoryLog::expire(&self.inner(), stream, before).await
    }
}

#[async_trait]
impl EventLog for Faulty {
    async fn acquire(&self, at: &Place) -> Result<Epoch, Error> {
        self.inner().acquire(at).await
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        mut entries: Vec<Entry>,
    ) -> Result<Appended, Error> {
        if self.fault == Fault::ReordersBatch {
            entries.reverse();
        }
        let writer = writer.filter(|_| self.fault != Fault::IgnoresEpoch);
        self.inner().append(at, writer, entries).await
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
        let mut page = self.inner().read(at, from, limit).await?;
        page.entries
            .retain(|stored| !self.hidden().contains(&(at.clone(), stored.position)));
        if self.fault == Fault::HidesMissedTombstones {
            page.fell_behind = false;
        }
        Ok(page)
    }

    async fn head(&self, at: &Place) -> Result<Position, Error> {
        self.inner().head(at).await
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error> {
        self.inner().wait(at, position, patience).await
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        self.inner().gone_by(stream)
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner().check().await
    }
}
