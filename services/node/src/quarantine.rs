//! What could not be read: one fold of its stream, kept up to date, which counts it, lists it, and knows what was asked of it.
//!
//! An operator drops an input, or asks for it to be taken in again; both go over the stream. Whoever hosts its system takes it in again,
//! since only one intake may write the records of a system, and says there what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_gateway::views::{QuarantineList, QuarantinedInput, QuarantinedView, RetriedView};
use lethe_intake::{Again, Intake, Refused, can_be_taken_again};
use lethe_journal::{
    Event, InputDropped, InputRetried, InputRetryAsked, InputStays, Kind, Place, Position, Quarantined,
    Stored, Stream,
};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_terms::{SystemName, Timestamp};
use lethe_vault::KeyVault;
use tokio::sync::watch;

use crate::follow_ups::FollowUps;
use crate::systems::System;
use crate::{Error, publish};

/// Longest wait before the fold looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// Wait before an input that could not be taken in for want of the log or the fold is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How long somebody who asked for an input to be taken in again waits for what became of it: shorter than the API's own limit.
const RETRY_PATIENCE: Duration = Duration::from_secs(15);

/// How long somebody who wants to know how many inputs there are waits for the fold.
const COUNT_PATIENCE: Duration = Duration::from_secs(2);

/// Inputs whose particulars stay in memory, the newest: more than a page of a list. Of older ones only the place stays, and they are read again.
const VIEWS_MAX: usize = 1_000;

/// What an entry of the stream says.
enum Said {
    Kept(Timestamp, Quarantined),
    Dropped(InputDropped),
    RetryAsked(InputRetryAsked),
    Retried(InputRetried),
}

fn said(stored: &Stored) -> Result<Option<Said>, Error> {
    let Some(value) = &stored.entry.value else {
        return Ok(None);
    };
    match Event::<Quarantined>::decode(value) {
        Ok(event) => return Ok(Some(Said::Kept(event.time, event.data))),
        Err(lethe_journal::Error::UnexpectedType { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(dropped) = if_of_kind(value)? {
        return Ok(Some(Said::Dropped(dropped)));
    }
    if let Some(asked) = if_of_kind(value)? {
        return Ok(Some(Said::RetryAsked(asked)));
    }
    Ok(Some(Said::Retried(Event::decode(value)?.data)))
}

fn if_of_kind<T: Kind>(value: &[u8]) -> Result<Option<T>, Error> {
    match Event::<T>::decode(value) {
        Ok(event) => Ok(Some(event.data)),
        Err(lethe_journal::Error::UnexpectedType { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn place() -> Place {
    Place::new(Stream::Quarantine, 0)
}

/// The stream, folded.
#[derive(Default)]
struct Fold {
    /// Inputs that count, with their systems.
    kept: BTreeMap<Position, Option<SystemName>>,
    /// The newest of them.
    views: BTreeMap<Position, QuarantinedView>,
    /// Why inputs that were tried again stay.
    stay: BTreeMap<Position, InputStays>,
    /// Inputs to be taken in again, of which nobody has said what became.
    asked: BTreeSet<Position>,
    next: Position,
}

impl Fold {
    fn take(&mut self, stored: &Stored) -> Result<(), Error> {
        match said(stored)? {
            Some(Said::Kept(at, input)) => {
                let view = view(stored.position, at, &input);
                self.kept.insert(stored.position, input.system);
                self.views.insert(stored.position, view);
                if self.views.len() > VIEWS_MAX {
                    self.views.pop_first();
                }
            }
            Some(Said::Dropped(dropped)) => self.leaves(dropped.position),
            Some(Said::RetryAsked(asked)) if self.kept.contains_key(&asked.position) => {
                self.asked.insert(asked.position);
            }
            Some(Said::Retried(retried)) => match retried.stays {
                None => self.leaves(retried.position),
                Some(stays) => {
                    self.asked.remove(&retried.position);
                    if self.kept.contains_key(&retried.position) {
                        self.stay.insert(retried.position, stays);
                    }
                }
            },
            Some(Said::RetryAsked(_)) | None => {}
        }
        Ok(())
    }

    fn leaves(&mut self, position: Position) {
        self.kept.remove(&position);
        self.views.remove(&position);
        self.stay.remove(&position);
        self.asked.remove(&position);
    }

    /// Inputs that are asked for and are this process's to take in again.
    fn asked_of(&self, retrier: &Retrier) -> Vec<Position> {
        let is_ours = |position: &Position| match self.kept.get(position) {
            Some(Some(system)) => retrier.systems.contains(system),
            Some(None) | None => retrier.nobodys,
        };
        self.asked.iter().copied().filter(is_ours).collect()
    }

    fn count_of(&self, name: &SystemName) -> u64 {
        let own = self.kept.values().filter(|system| system.as_ref() == Some(name));
        u64::try_from(own.count()).unwrap_or(u64::MAX)
    }

    /// With the newest reason why it stays.
    fn with_reason(&self, mut view: QuarantinedView) -> QuarantinedView {
        if let Some(stays) = self.stay.get(&view.position) {
            view.code.clone_from(&stays.code);
            view.expected.clone_from(&stays.expected);
        }
        view
    }
}

/// The quarantine as this process knows it.
pub(crate) struct Quarantine {
    log: Arc<dyn EventLog>,
    vault: Arc<dyn KeyVault>,
    fold: Mutex<Fold>,
    /// Hears of every page that was folded.
    changed: watch::Sender<Position>,
}

/// What takes inputs in again: where connectors are hosted, those of their systems.
pub(crate) struct Retrier {
    pub(crate) systems: BTreeSet<SystemName>,
    /// Whether it also takes those in again that name no system.
    pub(crate) nobodys: bool,
    pub(crate) intake: Arc<Intake>,
    pub(crate) follow_ups: Arc<FollowUps>,
}

impl Quarantine {
    pub(crate) fn new(log: Arc<dyn EventLog>, vault: Arc<dyn KeyVault>) -> Self {
        Self {
            log,
            vault,
            fold: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the fold stands.
    pub(crate) fn stands(&self) -> (Place, Position) {
        (place(), self.fold().next)
    }

    /// Up to where nothing of the stream counts any more: the first input that does, or where the fold stands.
    pub(crate) fn passed(&self) -> Position {
        let fold = self.fold();
        fold.kept.keys().next().copied().unwrap_or(fold.next)
    }

    /// How many inputs count of all that stand on the log now; nothing where that cannot be told in time.
    pub(crate) async fn count(&self) -> Option<u64> {
        let mut changed = self.changed.subscribe();
        let folded = async {
            let head = self.log.head(&place()).await.ok()?;
            changed.wait_for(|next| *next >= head).await.ok().map(drop)
        };
        tokio::time::timeout(COUNT_PATIENCE, folded).await.ok()??;
        Some(u64::try_from(self.fold().kept.len()).unwrap_or(u64::MAX))
    }

    /// Reads what is there, so that hosted systems know how much of theirs it is.
    pub(crate) async fn catch_up(&self, systems: &BTreeMap<SystemName, Arc<System>>) -> Result<(), Error> {
        while self.step().await? {}
        self.tell_counts(systems);
        Ok(())
    }

    /// Goes on folding until `stop`, and takes in again what is asked for where this process does that.
    pub(crate) async fn follow(
        self: Arc<Self>,
        systems: BTreeMap<SystemName, Arc<System>>,
        retrier: Option<Retrier>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let at = place();
        while !*stop.borrow() {
            if self.step().await? {
                self.tell_counts(&systems);
                continue;
            }
            let left = match &retrier {
                Some(retrier) => self.retry_asked(retrier).await,
                None => false,
            };
            let (next, idle) = (self.fold().next, if left { RETRY_PAUSE } else { IDLE });
            tokio::select! {
                woken = self.log.wait(&at, next, idle) => woken?,
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Folds a page; whether there was one.
    async fn step(&self) -> Result<bool, Error> {
        let from = self.fold().next;
        let page = self.log.read(&place(), from, PAGE_ENTRIES_MAX).await?;
        let mut fold = self.fold();
        for stored in &page.entries {
            fold.take(stored)?;
        }
        fold.next = page.next;
        drop(fold);
        self.changed.send_replace(page.next);
        Ok(page.next != from)
    }

    fn tell_counts(&self, systems: &BTreeMap<SystemName, Arc<System>>) {
        let fold = self.fold();
        for (name, system) in systems {
            system
                .feed
                .quarantined
                .store(fold.count_of(name), Ordering::Relaxed);
        }
    }

    /// Takes in again what was asked for; whether something of it is left. What could not be tried for now is tried later: nothing is said of it
    /// yet. What fails for good stays, and is said to.
    async fn retry_asked(&self, retrier: &Retrier) -> bool {
        let asked = self.fold().asked_of(retrier);
        for position in asked {
            if let Err(error) = self.retry_one(retrier, position).await {
                tracing::warn!(
                    code = error.code(),
                    position,
                    "an input could not be taken in again"
                );
                return true;
            }
        }
        false
    }

    async fn retry_one(&self, retrier: &Retrier, position: Position) -> Result<(), Error> {
        let Some((_, input)) = self.find(position).await? else {
            self.fold().leaves(position);
            return Ok(());
        };
        let stays = match take_again(retrier, &input).await {
            Ok(stays) => stays,
            Err(error) if error.is_of_the_moment() => return Err(error),
            // It would fail the next time, too, and hold up every input behind it.
            Err(error) => Some(stays_for_good(position, &error)),
        };
        let retried = InputRetried {
            system: input.system.clone(),
            position,
            stays: stays.map(|Refused { code, expected }| InputStays {
                code: code.to_owned(),
                expected,
            }),
        };
        self.say(input.system.as_ref(), "/lethe/intake", retried).await?;
        // The entry itself is folded next; until then the input must not be taken in once more.
        self.fold().asked.remove(&position);
        Ok(())
    }

    async fn say<T: Kind>(
        &self,
        system: Option<&SystemName>,
        source: &'static str,
        data: T,
    ) -> Result<(), Error> {
        let name = system.map_or("", SystemName::as_str);
        let entry = publish::entry(name.as_bytes(), source, data)?;
        publish::append(&*self.log, &place(), vec![entry], "quarantine").await
    }

    /// The newest inputs that count, at most `limit` and only older ones than `before`, and how many there are.
    pub(crate) async fn list(
        &self,
        system: Option<&SystemName>,
        before: Option<Position>,
        limit: usize,
    ) -> Result<QuarantineList, Error> {
        let (positions, total) = {
            let fold = self.fold();
            let fits = |kept: &Option<SystemName>| system.is_none() || kept.as_ref() == system;
            let total = fold.kept.values().filter(|kept| fits(kept)).count();
            let older = fold.kept.range(..before.unwrap_or(Position::MAX)).rev();
            let fitting = older
                .filter(|(_, kept)| fits(kept))
                .map(|(position, _)| *position);
            (fitting.take(limit).collect::<Vec<_>>(), total)
        };
        let mut inputs = Vec::with_capacity(positions.len());
        for position in positions {
            let known = self.fold().views.get(&position).cloned();
            let found = match known {
                Some(view) => Some(view),
                None => self
                    .find(position)
                    .await?
                    .map(|(at, input)| view(position, at, &input)),
            };
            inputs.extend(found.map(|view| self.fold().with_reason(view)));
        }
        Ok(QuarantineList {
            inputs,
            total: u64::try_from(total).unwrap_or(u64::MAX),
        })
    }

    /// One input with what it is; nothing where there is none of that number.
    pub(crate) async fn show(&self, position: Position) -> Result<Option<QuarantinedInput>, Error> {
        // What was dropped or taken in is nobody's business any more, though its entry may stand there for a while.
        if !self.fold().kept.contains_key(&position) {
            return Ok(None);
        }
        let Some((at, input)) = self.find(position).await? else {
            return Ok(None);
        };
        let key = self.vault.unwrap(&input.key)?;
        let plain = key.open("quarantine", &input.input)?;
        Ok(Some(QuarantinedInput {
            about: self.fold().with_reason(view(position, at, &input)),
            input: STANDARD.encode(&*plain),
        }))
    }

    /// Takes an input out of the count; nothing where there is none of that number.
    pub(crate) async fn drop_one(&self, position: Position) -> Result<Option<QuarantinedView>, Error> {
        let Some((at, input)) = self.find(position).await? else {
            return Ok(None);
        };
        let dropped = InputDropped {
            system: input.system.clone(),
            position,
        };
        self.say(input.system.as_ref(), "/lethe/gateway", dropped).await?;
        Ok(Some(self.fold().with_reason(view(position, at, &input))))
    }

    /// Has an input taken in again and waits for what becomes of it.
    pub(crate) async fn retry(&self, position: Position) -> Result<Retry, Error> {
        let Some((at, input)) = self.find(position).await? else {
            return Ok(Retry::NoSuchInput);
        };
        if let Err(refused) = can_be_taken_again(&input) {
            return Ok(Retry::Impossible(refused));
        }
        let asked = InputRetryAsked {
            system: input.system.clone(),
            position,
        };
        let mut changed = self.changed.subscribe();
        self.say(input.system.as_ref(), "/lethe/gateway", asked).await?;
        let head = self.log.head(&place()).await?;
        let settled = changed.wait_for(|next| *next >= head && !self.fold().asked.contains(&position));
        match tokio::time::timeout(RETRY_PATIENCE, settled).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Ok(Retry::Unsettled),
        }
        let fold = self.fold();
        Ok(Retry::Done(RetriedView {
            taken_in: !fold.kept.contains_key(&position),
            about: fold.with_reason(view(position, at, &input)),
        }))
    }

    async fn find(&self, position: Position) -> Result<Option<(Timestamp, Quarantined)>, Error> {
        if position >= self.log.head(&place()).await? {
            return Ok(None);
        }
        let page = self.log.read(&place(), position, 1).await?;
        let stored = page.entries.first().filter(|stored| stored.position == position);
        match stored.map(said).transpose()?.flatten() {
            Some(Said::Kept(at, input)) => Ok(Some((at, input))),
            _ => Ok(None),
        }
    }
}

/// What became of a wish to take an input in again.
pub(crate) enum Retry {
    /// It was tried.
    Done(RetriedView),
    /// There is none of that number.
    NoSuchInput,
    /// What was kept is not enough.
    Impossible(Refused),
    /// Nobody has tried it yet; it will be.
    Unsettled,
}

/// Takes an input in again and follows up what it finds; why it stays, where it does.
async fn take_again(retrier: &Retrier, input: &Quarantined) -> Result<Option<Refused>, Error> {
    let Some(system) = &input.system else {
        return Ok(can_be_taken_again(input).err());
    };
    match retrier.intake.take_again(system, input).await? {
        Again::Taken(findings) => {
            for finding in findings {
                retrier.follow_ups.open(finding).await?;
            }
            Ok(None)
        }
        Again::Stays(refused) => Ok(Some(refused)),
    }
}

fn stays_for_good(position: Position, error: &Error) -> Refused {
    let code = error.code();
    tracing::warn!(code, position, "an input cannot be taken in again: it stays");
    Refused {
        code,
        expected: format!("an input that can be taken in again: {error}"),
    }
}

fn view(position: Position, at: Timestamp, input: &Quarantined) -> QuarantinedView {
    QuarantinedView {
        position,
        at,
        system: input.system.as_ref().map(ToString::to_string),
        place: input.position.clone(),
        code: input.code.clone(),
        expected: input.expected.clone(),
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
