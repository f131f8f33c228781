//! A log in memory, for tests and simulation: gone with the process, and otherwise as strict as the durable ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::{Entry, Epoch, Place, Position, Stored, Stream, StreamKind};
use tokio::sync::watch;

use crate::rules::{self, PageRoom, Rule, Sieve, Standing, State};
use crate::{Appended, Compaction, Error, EventLog, GoneBy, Page};

/// A log in memory. Clones share their entries, so a clone stands for a reopened log.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    partitions: Arc<Mutex<BTreeMap<Place, Partition>>>,
}

#[derive(Debug, Default)]
struct Partition {
    entries: BTreeMap<Position, Entry>,
    state: State,
    head: watch::Sender<Position>,
}

impl MemoryLog {
    /// An empty log with every stream.
    pub fn new() -> Self {
        Self::default()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<Place, Partition>> {
        // A panic of a test elsewhere leaves whole partitions behind: every change below is made in one step.
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, at: &Place, act: impl FnOnce(&mut Partition) -> T) -> Result<T, Error> {
        rules::check_place(at)?;
        Ok(act(self.locked().entry(at.clone()).or_default()))
    }

    /// Keeps only the newest entry of each key of a table, and removes tombstones that every reader has passed.
    ///
    /// `seen` says per partition up to where the slowest reader has read; without it no tombstone of the partition goes.
    /// Errors: [`Error::NotStored`] where the stream is not a table.
    pub async fn compact(
        &self,
        stream: &Stream,
        seen: &BTreeMap<u16, Position>,
    ) -> Result<Compaction, Error> {
        self.rewrite(stream, &Rule::Newest { seen: seen.clone() })
    }

    /// Drops the start of a queue, per partition, up to but without the given position.
    ///
    /// Errors: [`Error::NotStored`] where the stream is not a queue.
    pub async fn expire(
        &self,
        stream: &Stream,
        before: &BTreeMap<u16, Position>,
    ) -> Result<Compaction, Error> {
        self.rewrite(
            stream,
            &Rule::From {
                before: before.clone(),
            },
        )
    }

    fn rewrite(&self, stream: &Stream, rule: &Rule) -> Result<Compaction, Error> {
        rule.check(stream)?;
        let mut report = Compaction::default();
        for at in Place::all(stream) {
            self.with(&at, |partition| {
                partition.rewrite(rule, at.partition, &mut report)
            })?;
        }
        Ok(report)
    }
}

impl Partition {
    fn append(&mut self, entries: Vec<Entry>) -> Appended {
        let first = self.state.head;
        for entry in entries {
            let position = self.state.head;
            self.entries.insert(position, entry);
            self.state.advance(position);
        }
        self.head.send_replace(self.state.head);
        Appended::At {
            first,
            next: self.state.head,
        }
    }

    fn page(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
        rules::check_from(at, from, self.state.head)?;
        let mut room = PageRoom::new(limit);
        let mut next = self.state.head;
        for (position, entry) in self.entries.range(from..) {
            if room.is_full() || !room.fits(entry.value.as_ref().map_or(0, Vec::len)) {
                next = *position;
                break;
            }
            room.push(Stored {
                position: *position,
                taken_at: None,
                entry: entry.clone(),
            });
        }
        let fell_behind = rules::fell_behind(at.stream.kind(), from, self.state.removed_below);
        Ok(Page {
            entries: room.entries,
            strays: Vec::new(),
            next,
            head: self.state.head,
            fell_behind,
        })
    }

    fn rewrite(&mut self, rule: &Rule, number: u16, report: &mut Compaction) {
        let mut sieve = Sieve::new(rule, number, self.state.head);
        if sieve.must_look() {
            for (position, entry) in &self.entries {
                sieve.look(*position, entry.key.clone());
            }
        }
        let state = &mut self.state;
        self.entries.retain(|position, entry| {
            let verdict = sieve.judge(*position, &entry.key, entry.value.is_none());
            verdict.account(*position, state, report);
            verdict == rules::Verdict::Kept
        });
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn acquire(&self, at: &Place) -> Result<Epoch, Error> {
        self.with(at, |partition| {
            partition.state.epoch += 1;
            partition.state.epoch
        })
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, Error> {
        rules::check_batch(at, &entries)?;
        self.with(at, |partition| {
            let current = partition.state.epoch;
            match rules::standing(writer, current) {
                Standing::Current => Ok(partition.append(entries)),
                Standing::Stale => Ok(Appended::StaleEpoch { current }),
                Standing::Unheard => Err(rules::unheard(at, current)),
            }
        })?
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
        self.with(at, |partition| partition.page(at, from, limit))?
    }

    async fn head(&self, at: &Place) -> Result<Position, Error> {
        self.with(at, |partition| partition.state.head)
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error> {
        let mut head = self.with(at, |partition| partition.head.subscribe())?;
        // Running out of patience and the end of the log are no errors: the caller reads on and sees.
        let _ = tokio::time::timeout(patience, head.wait_for(|head| *head > position)).await;
        Ok(())
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        gone_by(stream)
    }

    async fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// How long a value outlives its tombstone in the logs that rewrite when they are told to.
pub(crate) const fn gone_by(stream: &Stream) -> GoneBy {
    match (stream, stream.kind()) {
        (Stream::Quarantine, _) | (_, StreamKind::History) => GoneBy::KeyDestroyed,
        (_, StreamKind::Table | StreamKind::Queue) => GoneBy::NextCompaction,
    }
}
