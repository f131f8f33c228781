//! Takes in what stands on the intake stream, whoever wrote it there.
//!
//! The position is committed once what it caused is on the log. A crash in between repeats a page: what was taken is told by its sequence,
//! and only what has none, such as garbage, is put into quarantine a second time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lethe_exchange::{EventName, PublishedRecord, Refused, Sequence};
use lethe_intake::{Intake, Taken, Turn};
use lethe_journal::{Place, Position, Stored, Stream};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::EventLog;
use lethe_store::{Batch, Store};
use lethe_terms::{ShardName, SystemName};
use tokio::sync::watch;

use super::Checker;
use super::checking::{Checked, Rejection};
use super::desk::{late, taken_of, unknown};
use crate::follow_ups::FollowUps;
use crate::systems::System;
use crate::{Error, poison, shell};

/// Events of one page: moved as one batch, so it bounds memory and the time until the first of them is known.
const PAGE_EVENTS: usize = 1_000;

/// Wait before a page that could not be taken in is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Takes published events in.
pub(crate) struct Taking {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) follow_ups: Arc<FollowUps>,
    pub(crate) store: Arc<dyn Store>,
    /// The published systems, to be told how far the stream was read.
    pub(crate) systems: BTreeMap<SystemName, Arc<System>>,
    /// How often the stream is looked at where nothing is known to wait.
    pub(crate) every: Duration,
}

/// What a page holds for one system.
#[derive(Default)]
struct Portion {
    observations: Vec<Observation>,
    /// What its publishers said that cannot be taken.
    rejected: Vec<Rejected>,
    cursors: BTreeMap<ShardName, Taken>,
}

/// What a page holds.
#[derive(Default)]
struct Sorted {
    portions: BTreeMap<SystemName, Portion>,
    /// What nobody is proven to have said, by the system that it names.
    rejected: BTreeMap<Option<SystemName>, Vec<Rejected>>,
}

impl Sorted {
    fn reject(&mut self, system: Option<SystemName>, rejected: Rejected) {
        self.rejected.entry(system).or_default().push(rejected);
    }
}

fn place() -> Place {
    Place::new(Stream::Intake, 0)
}

impl Taking {
    /// Reads the stream until `stop`.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut from = self.store.position(&Stream::Intake)?;
        while !*stop.borrow() {
            if let Err(error) = self.checker.tend() {
                tracing::warn!(code = error.code(), "intake keys could not be looked after");
            }
            match self.step(from).await {
                Ok((next, head)) => {
                    from = next;
                    if next < head {
                        continue;
                    }
                    tokio::select! {
                        () = self.news(from) => {}
                        _ = stop.changed() => {}
                    }
                }
                Err(error @ (Error::Stopped { .. } | Error::Store(_))) => return Err(error),
                Err(error) => {
                    self.fell_short(&error);
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        _ = stop.changed() => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn fell_short(&self, error: &Error) {
        tracing::warn!(
            code = error.code(),
            error = error as &dyn std::error::Error,
            "published events could not be taken in"
        );
        for system in self.systems.values() {
            system.feed.fell_short(error.code());
        }
    }

    /// Waits for entries, for somebody who asks for a look, or for the time.
    async fn news(&self, from: Position) {
        let at = place();
        let asked = async {
            if self.systems.is_empty() {
                return std::future::pending().await;
            }
            let asks = self.systems.values().map(|system| Box::pin(system.asked()));
            futures::future::select_all(asks).await;
        };
        tokio::select! {
            // Whether the wait failed shows when the stream is read.
            _ = self.log.wait(&at, from, self.every) => {}
            () = asked => {}
        }
    }

    /// Takes a page in. Where to read on, and the head.
    async fn step(&self, from: Position) -> Result<(Position, Position), Error> {
        let began = shell::now();
        let page = self.log.read(&place(), from, PAGE_EVENTS).await?;
        if page.fell_behind && from > 0 {
            let what = "the reader of published events, whose position fell off the start of its queue,";
            poison::fell_off(&self.checker.intake, (&place(), from), &page, what).await?;
        }
        if !page.entries.is_empty() {
            let sorted = self.sorted(&page.entries)?;
            self.take(sorted).await?;
        }
        if page.next != from {
            self.store
                .commit(&Stream::Intake, from, page.next, &Batch::default())?;
        }
        if page.next >= page.head {
            self.checker.keys.read_up_to(began);
            self.systems
                .values()
                .for_each(|system| system.feed.caught_up(began));
        }
        Ok((page.next, page.head))
    }

    fn sorted(&self, entries: &[Stored]) -> Result<Sorted, Error> {
        let mut sorted = Sorted::default();
        for stored in entries {
            let bytes = stored.entry.value.as_deref().unwrap_or_default();
            match self.checker.check(bytes)? {
                Ok(Checked {
                    name,
                    record,
                    sealed: Some(_),
                }) => self.sort(&mut sorted, stored.position, bytes, &name, Ok(record))?,
                Ok(Checked { name, .. }) => {
                    let refused = Refused {
                        code: "event-not-sealed",
                        place: "data".to_owned(),
                        expected: "data_base64 with a sealed record".to_owned(),
                    };
                    sorted.reject(Some(name.system), rejected(stored.position, &refused, bytes));
                }
                Err(Rejection {
                    refused,
                    name: Some(name),
                    is_proven: true,
                }) => self.sort(&mut sorted, stored.position, bytes, &name, Err(refused))?,
                Err(Rejection { refused, name, .. }) => {
                    let system = name.map(|name| name.system);
                    sorted.reject(system, rejected(stored.position, &refused, bytes));
                }
            }
        }
        Ok(sorted)
    }

    /// What was taken of the shard of an event, with this page so far.
    fn taken<'a>(&self, sorted: &'a mut Sorted, name: &EventName) -> Result<&'a mut Taken, Error> {
        let cursors = &mut sorted.portions.entry(name.system.clone()).or_default().cursors;
        if !cursors.contains_key(&name.shard) {
            cursors.insert(name.shard.clone(), taken_of(&self.checker, name)?);
        }
        Ok(cursors.entry(name.shard.clone()).or_default())
    }

    /// Puts what was proven to its system where it belongs: what it says, or that it cannot be taken.
    fn sort(
        &self,
        sorted: &mut Sorted,
        position: Position,
        bytes: &[u8],
        name: &EventName,
        said: Result<PublishedRecord, Refused>,
    ) -> Result<(), Error> {
        let taken = self.taken(sorted, name)?;
        let said = match judged(taken, position, name.sequence) {
            Turn::Next => said,
            Turn::Repeated => return Ok(()),
            Turn::Late => Err(late(taken)),
            Turn::Unknown => Err(unknown(taken)),
        };
        let portion = sorted.portions.entry(name.system.clone()).or_default();
        match said {
            Ok(record) => portion.observations.push(observation(record)),
            Err(refused) => portion.rejected.push(rejected(position, &refused, bytes)),
        }
        Ok(())
    }

    /// What has a sequence goes first, its cursor last: repeated after a crash it is known. The rest has nothing to be known by.
    async fn take(&self, sorted: Sorted) -> Result<(), Error> {
        for (name, portion) in sorted.portions {
            self.take_portion(&name, portion).await?;
        }
        set_aside(&self.checker.intake, &sorted.rejected).await
    }

    async fn take_portion(&self, system: &SystemName, portion: Portion) -> Result<(), Error> {
        let intake: &Intake = &self.checker.intake;
        let page = FeedPage {
            observations: portion.observations,
            rejected: portion.rejected,
            ..FeedPage::default()
        };
        let published = loop {
            match intake.publish(system, intake.mark(system), &page).await {
                Err(lethe_intake::Error::Stale) => {}
                published => break published?,
            }
        };
        for finding in published.findings {
            self.follow_ups.open(finding).await?;
        }
        for (shard, taken) in portion.cursors {
            intake.advance(system, &shard, &taken.to_string()).await?;
        }
        if let Some(system) = self.systems.get(system) {
            system.feed.took(published.appended);
            let events = u64::try_from(page.observations.len()).unwrap_or(u64::MAX);
            system.feed.done.fetch_add(events, Ordering::Relaxed);
            system.feed.total.fetch_add(events, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Puts what nobody is proven to have said into quarantine, at once for each system: garbage must not hold up what stands behind it.
async fn set_aside(
    intake: &Intake,
    rejected: &BTreeMap<Option<SystemName>, Vec<Rejected>>,
) -> Result<(), Error> {
    for (system, rejected) in rejected {
        intake.quarantine(system.as_ref(), rejected).await?;
    }
    Ok(())
}

/// What an event at a position is, noted as taken. Of an unknown one the position tells whether a crash had it read again.
fn judged(taken: &mut Taken, position: Position, sequence: Sequence) -> Turn {
    let turn = match taken.turn(sequence.0) {
        Turn::Unknown if taken.was_read(position) => Turn::Repeated,
        turn => turn,
    };
    taken.read(position);
    if turn != Turn::Repeated {
        taken.take(sequence.0);
    }
    turn
}

fn observation(record: PublishedRecord) -> Observation {
    Observation {
        handle: record.handle.unwrap_or_else(|| record.key.clone()),
        dataset: record.dataset,
        key: record.key,
        unit: None,
        identifiers: record.identifiers,
        count: record.count,
        gone: record.gone,
    }
}

/// What goes into quarantine: the input as it stands on the stream, and where.
fn rejected(position: Position, refused: &Refused, bytes: &[u8]) -> Rejected {
    Rejected {
        position: format!("intake {position}: {}", refused.place),
        code: refused.code,
        expected: refused.expected.clone(),
        input: bytes.to_vec(),
        of: Vec::new(),
    }
}

#[cfg(test)]
#[path = "taking_tests.rs"]
mod tests;
