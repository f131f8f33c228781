//! Compaction: what stays is copied into a new file, and the old file goes. Removing rows in place would leave their bytes in
//! free pages, and a copy is the only way to give bytes back.
//!
//! The new file is built beside the old one while appends go on; the writer then copies the short rest, replaces the manifest,
//! and removes the old file. A crash anywhere leaves one whole file that the manifest names.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lethe_journal::{Entry, Position};

use crate::files::{FileLayer, Lock};
use crate::generation::{Failure, Generation, Settings, Snapshot};
use crate::manifest::damaged;
use crate::rules::{self, Rule, Sieve, State, Verdict};
use crate::{Compaction, Error};

/// Most bytes that are copied in one transaction.
const COPY_BYTES_MAX: usize = 4 << 20;

/// How often the copy runs after new appends before the writer stops for the rest.
const CATCH_UP_ROUNDS: usize = 2;

/// A rewritten file that is not yet the current one.
#[derive(Debug)]
pub(crate) struct Built {
    /// The new file.
    pub(crate) generation: Generation,
    /// The states of its partitions.
    pub(crate) states: Vec<State>,
    /// What was kept and what went.
    pub(crate) report: Compaction,
}

/// Runs code over files that may be damaged.
pub(crate) fn guarded<T>(name: &str, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(damaged(&format!("{name} is damaged"))))
}

/// Removes a file that never became the current one.
pub(crate) fn discard(files: &dyn FileLayer, built: Built) {
    remove_remnant(files, &built.generation.name());
}

fn remove_remnant(files: &dyn FileLayer, name: &str) {
    // What stays is a remnant that the next start removes.
    if let Err(error) = files.remove(name).and_then(|()| files.sync_names()) {
        tracing::warn!(%error, file = name, "a remnant of a compaction stays until the next start");
    }
}

/// Writes what the rule keeps of a file into the next generation; `None` where the file holds nothing else.
pub(crate) fn build(
    files: &dyn FileLayer,
    lock: Arc<Lock>,
    old: &Generation,
    stream: &lethe_journal::Stream,
    rule: &Rule,
    settings: Settings,
) -> Result<Option<Built>, Error> {
    let snapshot = old.snapshot()?;
    if old.is_clean && !removes_anything(&snapshot, rule)? {
        return Ok(None);
    }
    // The new file starts where the old one stands, without an entry.
    let states: Vec<State> = snapshot
        .states
        .iter()
        .map(|state| State { last: 0, ..*state })
        .collect();
    let number = old.number + 1;
    let generation = Generation::create(files, lock, stream, number, &states, settings)?;
    let mut built = Built {
        generation,
        states,
        report: Compaction::default(),
    };
    let copied = copy_all(&snapshot, rule, &mut built).and_then(|()| {
        drop(snapshot);
        (0..CATCH_UP_ROUNDS).try_for_each(|_| catch_up(old, &mut built))
    });
    match copied {
        Ok(()) => Ok(Some(built)),
        Err(error) => {
            discard(files, built);
            Err(error)
        }
    }
}

fn removes_anything(snapshot: &Snapshot<'_>, rule: &Rule) -> Result<bool, Error> {
    for (partition, state) in (0..).zip(&snapshot.states) {
        let sieve = sieve(snapshot, rule, partition, state.head)?;
        let mut removes = false;
        snapshot.scan(partition, 0, |position, frame| {
            removes = sieve.judge(position, frame.key, frame.value.is_none()) != Verdict::Kept;
            Ok(if removes {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        if removes {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sieve(snapshot: &Snapshot<'_>, rule: &Rule, partition: u16, head: Position) -> Result<Sieve, Error> {
    let mut sieve = Sieve::new(rule, partition, head);
    if sieve.must_look() {
        snapshot.scan(partition, 0, |position, frame| {
            sieve.look(position, frame.key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(sieve)
}

fn copy_all(snapshot: &Snapshot<'_>, rule: &Rule, built: &mut Built) -> Result<(), Error> {
    for (partition, old) in (0..).zip(&snapshot.states) {
        let sieve = sieve(snapshot, rule, partition, old.head)?;
        let mut batch = Batch::new(partition);
        let mut marks = *old;
        snapshot.scan(partition, 0, |position, frame| {
            let verdict = sieve.judge(position, frame.key, frame.value.is_none());
            verdict.account(position, &mut marks, &mut built.report);
            if verdict == Verdict::Kept {
                batch.add(position, frame.to_entry(), &built.generation, &mut built.states)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        batch.removed_below = marks.removed_below;
        batch.flush(&built.generation, &mut built.states)?;
    }
    Ok(())
}

/// Copies what was appended to the old file since, and the epochs that were given out.
pub(crate) fn catch_up(old: &Generation, built: &mut Built) -> Result<(), Error> {
    let snapshot = old.snapshot()?;
    for (partition, state) in (0..).zip(&snapshot.states) {
        let from = built.states[usize::from(partition)].head;
        let mut batch = Batch::new(partition);
        batch.epoch = state.epoch;
        snapshot.scan(partition, from, |position, frame| {
            built.report.kept_entries += 1;
            batch.add(position, frame.to_entry(), &built.generation, &mut built.states)?;
            Ok(ControlFlow::Continue(()))
        })?;
        batch.flush(&built.generation, &mut built.states)?;
    }
    Ok(())
}

/// Entries on their way into the new file.
struct Batch {
    partition: u16,
    entries: Vec<(Position, Entry)>,
    bytes: usize,
    removed_below: Position,
    epoch: u64,
}

impl Batch {
    const fn new(partition: u16) -> Self {
        Self {
            partition,
            entries: Vec::new(),
            bytes: 0,
            removed_below: 0,
            epoch: 0,
        }
    }

    fn add(
        &mut self,
        position: Position,
        entry: Entry,
        new: &Generation,
        states: &mut Vec<State>,
    ) -> Result<(), Error> {
        self.bytes += rules::entry_bytes(&entry);
        self.entries.push((position, entry));
        if self.bytes < COPY_BYTES_MAX && self.entries.len() < crate::APPEND_ENTRIES_MAX {
            return Ok(());
        }
        self.flush(new, states)
    }

    fn flush(&mut self, new: &Generation, states: &mut Vec<State>) -> Result<(), Error> {
        let (partition, removed_below, epoch) = (self.partition, self.removed_below, self.epoch);
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        new.commit(states, |writing| {
            for (position, entry) in &entries {
                writing.put(partition, *position, entry)?;
            }
            let state = writing.state(partition);
            state.removed_below = state.removed_below.max(removed_below);
            state.epoch = state.epoch.max(epoch);
            Ok(())
        })
        .map_err(Failure::into_error)
    }
}
