//! Deliberately wrong stores, each with the check that must notice it.

use std::sync::{Arc, Mutex, PoisonError};

use lethe_journal::{Position, Stream};
use lethe_store::{Batch, Error, MemoryStore, Row, Store};

use super::Site;

/// What a mutant does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the suite must pass it.
    None,
    /// Writes the position before the rows, in a step of its own.
    PositionApartFromBatch,
    /// Forgets that rows were removed.
    ForgetsRemoval,
    /// Gives rows in another order.
    ScansOutOfOrder,
    /// Starts each scan at its prefix, wherever the last one ended.
    IgnoresAfter,
    /// Passes over a row when a scan goes on.
    SkipsAfter,
    /// Takes a commit wherever it starts.
    AcceptsWrongPosition,
    /// Has one position for all streams.
    OnePositionForAll,
    /// Loses the last commit's rows when it is opened again, and keeps its position.
    LosesTailOnReopen,
    /// Takes as many rows as come.
    AcceptsTooManyRows,
    /// Lets the first change of a key win.
    FirstChangeWins,
    /// Keeps positions when it is wiped.
    WipeKeepsPositions,
}

/// Every mutant with the check that must notice it.
pub const MUTANTS: &[(Fault, &str)] = &[
    (
        Fault::PositionApartFromBatch,
        "a_reader_never_sees_rows_without_their_position",
    ),
    (Fault::ForgetsRemoval, "a_removed_row_is_absent"),
    (
        Fault::ScansOutOfOrder,
        "a_scan_is_in_order_and_stays_under_its_prefix",
    ),
    (Fault::IgnoresAfter, "a_scan_goes_on_after_a_key"),
    (Fault::SkipsAfter, "a_scan_goes_on_after_a_key"),
    (
        Fault::AcceptsWrongPosition,
        "a_commit_from_a_wrong_position_changes_nothing",
    ),
    (Fault::OnePositionForAll, "positions_of_streams_are_apart"),
    (
        Fault::LosesTailOnReopen,
        "rows_and_positions_are_there_after_opening_again",
    ),
    (
        Fault::AcceptsTooManyRows,
        "a_commit_of_too_many_rows_changes_nothing",
    ),
    (Fault::FirstChangeWins, "the_last_change_of_a_key_wins"),
    (Fault::WipeKeepsPositions, "wiping_removes_rows_and_positions"),
];

/// Where a mutant lives: in memory.
pub struct MutantSite {
    fault: Fault,
    disk: Arc<Disk>,
}

/// A key and its value; `None` where there is none.
type Change = (Vec<u8>, Option<Vec<u8>>);

#[derive(Default)]
struct Disk {
    rows: MemoryStore,
    /// The last commit's keys with the values before it.
    before_last: Mutex<Vec<Change>>,
    /// Positions that mutants keep for themselves.
    own: Mutex<std::collections::BTreeMap<String, Position>>,
}

impl MutantSite {
    /// A fresh site of this mutant.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            disk: Arc::default(),
        }
    }
}

impl Site for MutantSite {
    fn open(&self) -> Box<dyn Store> {
        let mutant = Mutant {
            fault: self.fault,
            disk: Arc::clone(&self.disk),
        };
        if self.fault == Fault::LosesTailOnReopen {
            mutant.lose_tail();
        }
        Box::new(mutant)
    }
}

struct Mutant {
    fault: Fault,
    disk: Arc<Disk>,
}

impl Mutant {
    fn own(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, Position>> {
        self.disk.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream under which the mutant keeps the position of a stream.
    fn stream_for<'a>(&self, stream: &'a Stream) -> &'a Stream {
        if self.fault == Fault::OnePositionForAll {
            &Stream::Records
        } else {
            stream
        }
    }

    fn lose_tail(&self) {
        let mut batch = Batch::default();
        let mut before = self
            .disk
            .before_last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (key, value) in before.drain(..) {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.remove(key),
            }
        }
        let at = self.disk.rows.position(&Stream::Records).unwrap_or(0);
        let _ = self.disk.rows.commit(&Stream::Records, at, at, &batch);
    }

    fn remember(&self, batch: &Batch) {
        let before = batch
            .changes()
            .iter()
            .map(|(key, _)| (key.clone(), self.disk.rows.get(key).unwrap_or(None)));
        *self
            .disk
            .before_last
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = before.collect();
    }

    fn commit_in_parts(
        &self,
        stream: &Stream,
        at: Position,
        to: Position,
        batch: &Batch,
    ) -> Result<(), Error> {
        for changes in batch.changes().chunks(1_000) {
            let mut part = Batch::default();
            for (key, value) in changes {
                match value {
                    Some(value) => part.put(key.clone(), value.clone()),
                    None => part.remove(key.clone()),
                }
            }
            self.disk.rows.commit(stream, at, at, &part)?;
        }
        self.disk.rows.commit(stream, at, to, &Batch::default())
    }
}

/// A batch of some changes of another.
fn only<'a>(changes: impl Iterator<Item = &'a Change>) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put(key.clone(), value.clone()),
            None => batch.remove(key.clone()),
        }
    }
    batch
}

impl Store for Mutant {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.disk.rows.get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        let rows = &self.disk.rows;
        match (self.fault, after) {
            (Fault::ScansOutOfOrder, _) => rows
                .scan(prefix, after, limit)
                .map(|rows| rows.into_iter().rev().collect()),
            (Fault::IgnoresAfter, _) => rows.scan(prefix, None, limit),
            (Fault::SkipsAfter, Some(_)) => rows
                .scan(prefix, after, limit)
                .map(|rows| rows.into_iter().skip(1).collect()),
            _ => rows.scan(prefix, after, limit),
        }
    }

    fn commit(&self, stream: &Stream, from: Position, to: Position, batch: &Batch) -> Result<(), Error> {
        let rows = &self.disk.rows;
        let stream = self.stream_for(stream);
        let at = rows.position(stream)?;
        match self.fault {
            Fault::PositionApartFromBatch => {
                batch.check(from, to, at)?;
                rows.commit(stream, from, to, &Batch::default())?;
                // Long enough for a reader on the other core to look in between.
                (0..500).for_each(|_| std::thread::yield_now());
                rows.commit(stream, to, to, batch)
            }
            Fault::ForgetsRemoval => rows.commit(
                stream,
                from,
                to,
                &only(batch.changes().iter().filter(|c| c.1.is_some())),
            ),
            Fault::AcceptsWrongPosition => rows.commit(stream, at, to.max(at), batch),
            Fault::AcceptsTooManyRows => {
                Batch::default().check(from, to, at)?;
                self.commit_in_parts(stream, at, to, batch)
            }
            Fault::FirstChangeWins => rows.commit(stream, from, to, &only(batch.changes().iter().rev())),
            Fault::LosesTailOnReopen => {
                batch.check(from, to, at)?;
                self.remember(batch);
                rows.commit(stream, from, to, batch)
            }
            _ => rows.commit(stream, from, to, batch),
        }
    }

    fn position(&self, stream: &Stream) -> Result<Position, Error> {
        let kept = self.own().get(&stream.to_string()).copied().unwrap_or(0);
        Ok(self.disk.rows.position(self.stream_for(stream))?.max(kept))
    }

    fn wipe(&self) -> Result<(), Error> {
        if self.fault == Fault::WipeKeepsPositions {
            let at = self.disk.rows.position(&Stream::Records)?;
            self.own().insert(Stream::Records.to_string(), at);
        }
        self.disk.rows.wipe()
    }
}
