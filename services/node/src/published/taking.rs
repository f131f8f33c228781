//! Takes in what stands on the intake stream, whoever wrote it there.
//!
//! The position is committed once what it caused is on the log. A crash in between repeats a page: what was taken is told by its sequence,
//! and only what has none, such as garbage, is put into quarantine a second time.
//!
//! What could not be taken can be taken again from the quarantine, as long as nothing that stood behind it has told its record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lethe_exchange::{EventName, PublishedRecord, Refused, Sequence};
use lethe_intake::{Before, EventNote, Intake, KeptEvent, Taken, Turn};
use lethe_journal::{Place, Position, Stored, Stream};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::EventLog;
use lethe_store::{Batch, Store};
use lethe_terms::{RecordToken, ShardName, SystemName};
use tokio::sync::{Mutex, watch};

use super::Checker;
use super::checking::{Checked, Opened, Rejection, not_sealed};
use super::desk::{late, taken_of, unknown};
use super::told::{Since, Teller, Told};
use crate::follow_ups::FollowUps;
use crate::quarantine::Quarantine;
use crate::systems::System;
use crate::{Error, poison, shell};

/// Events of one page: moved as one batch, so it bounds memory and the time until the first of them is known.
const PAGE_EVENTS: usize = 1_000;

/// Wait before a page that could not be taken in is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What the taking of published events needs.
pub(crate) struct Needs {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) follow_ups: Arc<FollowUps>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) quarantine: Arc<Quarantine>,
    /// The published systems, to be told how far the stream was read.
    pub(crate) systems: BTreeMap<SystemName, Arc<System>>,
    /// How often the stream is looked at where nothing is known to wait.
    pub(crate) every: Duration,
}

/// Takes published events in.
pub(crate) struct Taking {
    needs: Needs,
    told: Told,
    /// Held while something is taken: what was taken of a shard is read, and then said anew.
    turn: Mutex<()>,
}

/// What a page holds for one system.
#[derive(Default)]
struct Portion {
    observations: Vec<(Teller, Observation)>,
    /// What its publishers said that cannot be taken.
    rejected: Vec<KeptEvent>,
    cursors: BTreeMap<ShardName, Taken>,
}

/// What a page holds.
#[derive(Default)]
struct Sorted {
    portions: BTreeMap<SystemName, Portion>,
    /// What nobody is proven to have said, by the system that it names.
    rejected: BTreeMap<Option<SystemName>, Vec<KeptEvent>>,
}

impl Sorted {
    fn reject(&mut self, system: Option<SystemName>, event: KeptEvent) {
        self.rejected.entry(system).or_default().push(event);
    }

    /// Whether something of it goes into quarantine.
    fn has_rejected(&self) -> bool {
        let mut portions = self.portions.values();
        !self.rejected.is_empty() || portions.any(|portion| !portion.rejected.is_empty())
    }
}

/// An event as it stands on the stream, and what it says where it was opened.
struct Stands<'a> {
    position: Position,
    bytes: &'a [u8],
    opened: Option<Opened>,
}

impl Stands<'_> {
    /// What goes into quarantine: the event, with what it says where that is proven and with what decides whether it may be taken again.
    fn kept(self, refused: &Refused, before: Before) -> KeptEvent {
        let Self {
            position,
            bytes,
            opened,
        } = self;
        let readable = opened.and_then(|opened| Some((opened.readable(bytes)?, opened.by)));
        let (input, proof) = match readable {
            Some((event, by)) => (event, Some(by)),
            None => (bytes.to_vec(), None),
        };
        KeptEvent {
            rejected: Rejected {
                position: format!("intake {position}: {}", refused.place),
                code: refused.code,
                expected: refused.expected.clone(),
                input,
                of: Vec::new(),
            },
            note: EventNote {
                position,
                before,
                proof,
            },
        }
    }
}

fn place() -> Place {
    Place::new(Stream::Intake, 0)
}

impl Taking {
    pub(crate) fn new(needs: Needs) -> Self {
        Self {
            told: Told::new(Arc::clone(&needs.store)),
            turn: Mutex::default(),
            needs,
        }
    }

    /// Reads the stream until `stop`.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut from = self.needs.store.position(&Stream::Intake)?;
        while !*stop.borrow() {
            if let Err(error) = self.needs.checker.tend() {
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
        for system in self.needs.systems.values() {
            system.feed.fell_short(error.code());
        }
    }

    /// Waits for entries, for somebody who asks for a look, or for the time.
    async fn news(&self, from: Position) {
        let at = place();
        let asked = async {
            if self.needs.systems.is_empty() {
                return std::future::pending().await;
            }
            let asks = self.needs.systems.values().map(|system| Box::pin(system.asked()));
            futures::future::select_all(asks).await;
        };
        tokio::select! {
            // Whether the wait failed shows when the stream is read.
            _ = self.needs.log.wait(&at, from, self.needs.every) => {}
            () = asked => {}
        }
    }

    /// Takes a page in. Where to read on, and the head.
    async fn step(&self, from: Position) -> Result<(Position, Position), Error> {
        let began = shell::now();
        let systems = self.needs.systems.values();
        let looks: Vec<_> = systems.map(|system| (system, system.feed.look())).collect();
        let page = self.needs.log.read(&place(), from, PAGE_EVENTS).await?;
        if page.fell_behind && from > 0 {
            let what = "the reader of published events, whose position fell off the start of its queue,";
            poison::fell_off(&self.needs.checker.intake, (&place(), from), &page, what).await?;
        }
        let turn = self.turn.lock().await;
        if let Some(first) = page.entries.first() {
            let sorted = self.sorted(&page.entries)?;
            self.remember(first.position, &sorted).await?;
            self.take(sorted).await?;
        } else {
            self.remembers().await?;
        }
        if page.next != from {
            self.needs
                .store
                .commit(&Stream::Intake, from, page.next, &Batch::default())?;
        }
        drop(turn);
        if page.next >= page.head {
            self.needs.checker.keys.read_up_to(began);
            for (system, look) in looks {
                system.feed.caught_up(look);
            }
        }
        Ok((page.next, page.head))
    }

    fn sorted(&self, entries: &[Stored]) -> Result<Sorted, Error> {
        let mut sorted = Sorted::default();
        for stored in entries {
            let bytes = stored.entry.value.as_deref().unwrap_or_default();
            let stands = |opened| Stands {
                position: stored.position,
                bytes,
                opened,
            };
            match self.needs.checker.check(bytes)? {
                Ok(Checked {
                    name,
                    record,
                    sealed: Some((_, opened)),
                }) => self.sort(&mut sorted, stands(Some(opened)), &name, Ok(record))?,
                Ok(Checked { name, .. }) => {
                    let before = self.before(&sorted, Some(&name))?;
                    sorted.reject(Some(name.system), stands(None).kept(&not_sealed(), before));
                }
                Err(Rejection {
                    refused,
                    name: Some(name),
                    is_proven: true,
                    opened,
                }) => self.sort(&mut sorted, stands(opened), &name, Err(refused))?,
                Err(Rejection {
                    refused,
                    name,
                    opened,
                    ..
                }) => {
                    let before = self.before(&sorted, name.as_ref())?;
                    let system = name.map(|name| name.system);
                    let known = system.filter(|system| self.needs.checker.knows(system));
                    sorted.reject(known, stands(opened).kept(&refused, before));
                }
            }
        }
        Ok(sorted)
    }

    /// What was taken of the shard of an event, with this page so far.
    fn taken<'a>(&self, sorted: &'a mut Sorted, name: &EventName) -> Result<&'a mut Taken, Error> {
        let cursors = &mut sorted.portions.entry(name.system.clone()).or_default().cursors;
        if !cursors.contains_key(&name.shard) {
            cursors.insert(name.shard.clone(), taken_of(&self.needs.checker, name)?);
        }
        Ok(cursors.entry(name.shard.clone()).or_default())
    }

    /// What was taken of the shard that an event names, which may be nobody's.
    fn before(&self, sorted: &Sorted, name: Option<&EventName>) -> Result<Before, Error> {
        let Some(name) = name else {
            return Ok(Before::Unknown);
        };
        let portion = sorted.portions.get(&name.system);
        Ok(
            match portion.and_then(|portion| portion.cursors.get(&name.shard)) {
                Some(taken) => before(taken),
                None => before(&taken_of(&self.needs.checker, name)?),
            },
        )
    }

    /// Puts what was proven to its system where it belongs: what it says, or that it cannot be taken.
    fn sort(
        &self,
        sorted: &mut Sorted,
        stands: Stands<'_>,
        name: &EventName,
        said: Result<PublishedRecord, Refused>,
    ) -> Result<(), Error> {
        let taken = self.taken(sorted, name)?;
        let before = before(taken);
        let said = match judged(taken, stands.position, name.sequence) {
            Turn::Next => said,
            Turn::Repeated => return Ok(()),
            Turn::Late => Err(late(taken)),
            Turn::Unknown => Err(unknown(taken)),
        };
        let portion = sorted.portions.entry(name.system.clone()).or_default();
        match said {
            Ok(record) => portion
                .observations
                .push((teller(name, stands.position), observation(record))),
            Err(refused) => portion.rejected.push(stands.kept(&refused, before)),
        }
        Ok(())
    }

    /// Whether an event counts that may be taken again; where none does, what was remembered for that is let go.
    async fn remembers(&self) -> Result<bool, Error> {
        let quarantine = &self.needs.quarantine;
        if quarantine.holds_events() {
            return Ok(true);
        }
        if !self.told.is_kept()? {
            return Ok(false);
        }
        quarantine.catch_up().await?;
        if quarantine.holds_events() {
            return Ok(true);
        }
        self.told.let_go()?;
        Ok(false)
    }

    /// Notes, before anything of a page has an effect, which records it tells, where an event stands in quarantine or will.
    async fn remember(&self, first: Position, sorted: &Sorted) -> Result<(), Error> {
        if !sorted.has_rejected() && !self.remembers().await? {
            return Ok(());
        }
        let mut told = Vec::new();
        for (system, portion) in &sorted.portions {
            let records = portion.observations.iter();
            told.extend(records.map(|(teller, seen)| (self.record(system, seen), teller.clone())));
        }
        self.told.note(first, &told)
    }

    fn record(&self, system: &SystemName, seen: &Observation) -> RecordToken {
        let tokens = self.needs.checker.intake.tokens();
        tokens.record(system, &seen.dataset, &seen.key)
    }

    /// Takes an event of the quarantine as one that comes anew, unless something that stood behind it has told its record since; why it stays,
    /// where it does.
    pub(crate) async fn take_again(
        &self,
        event: &[u8],
        note: &EventNote,
    ) -> Result<Option<lethe_intake::Refused>, Error> {
        self.needs.checker.tend()?;
        let (name, record) = match self.needs.checker.check_kept(event, note.proof.as_ref())? {
            Ok(checked) => checked,
            Err(refused) => return Ok(Some(stays(refused))),
        };
        let _turn = self.turn.lock().await;
        let mut taken = taken_of(&self.needs.checker, &name)?;
        let is_late = match note.before {
            Before::Nothing => false,
            Before::UpTo(highest) => name.sequence.0 <= highest,
            Before::Unknown => taken.turn(name.sequence.0) != Turn::Next,
        };
        if is_late {
            return Ok(Some(stays(late(&taken))));
        }
        let (teller, seen) = (teller(&name, note.position), observation(record));
        let token = self.record(&name.system, &seen);
        match self.told.behind(&teller, token)? {
            Since::Nothing => {}
            Since::Something => return Ok(Some(lethe_intake::changed_since())),
            Since::Unknown => return Ok(Some(stays(unknown(&taken)))),
        }
        self.told.note(note.position, &[(token, teller.clone())])?;
        taken.take(name.sequence.0);
        let portion = Portion {
            observations: vec![(teller, seen)],
            cursors: BTreeMap::from([(name.shard, taken)]),
            ..Portion::default()
        };
        self.take_portion(&name.system, portion).await?;
        Ok(None)
    }

    /// What has a sequence goes first, its cursor last: repeated after a crash it is known. The rest has nothing to be known by.
    async fn take(&self, sorted: Sorted) -> Result<(), Error> {
        for (name, portion) in sorted.portions {
            self.take_portion(&name, portion).await?;
        }
        set_aside(&self.needs.checker.intake, &sorted.rejected).await
    }

    async fn take_portion(&self, system: &SystemName, portion: Portion) -> Result<(), Error> {
        let intake: &Intake = &self.needs.checker.intake;
        let observations = portion.observations.into_iter();
        let page = FeedPage {
            observations: observations.map(|(_, seen)| seen).collect(),
            ..FeedPage::default()
        };
        let published = loop {
            match intake.publish(system, intake.mark(system), &page).await {
                Err(lethe_intake::Error::Stale) => {}
                published => break published?,
            }
        };
        for finding in published.findings {
            self.needs.follow_ups.open(finding).await?;
        }
        intake.put_away_events(Some(system), &portion.rejected).await?;
        for (shard, taken) in portion.cursors {
            intake.advance(system, &shard, &taken.to_string()).await?;
        }
        if let Some(system) = self.needs.systems.get(system) {
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
    rejected: &BTreeMap<Option<SystemName>, Vec<KeptEvent>>,
) -> Result<(), Error> {
    for (system, rejected) in rejected {
        intake.put_away_events(system.as_ref(), rejected).await?;
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

fn teller(name: &EventName, position: Position) -> Teller {
    Teller {
        shard: name.shard.clone(),
        sequence: name.sequence.0,
        position,
    }
}

fn before(taken: &Taken) -> Before {
    taken.highest().map_or(Before::Nothing, Before::UpTo)
}

fn stays(Refused { code, expected, .. }: Refused) -> lethe_intake::Refused {
    lethe_intake::Refused { code, expected }
}

#[cfg(test)]
#[path = "taking_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "again_tests.rs"]
mod again_tests;
