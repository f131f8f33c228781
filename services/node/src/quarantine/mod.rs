//! What could not be read: one fold of its stream, kept up to date, which counts it, lists it, and knows what was asked of it.
//!
//! An operator drops an input, or asks for it to be taken in again; both go over the stream. Whoever hosts its system takes it in again,
//! since only one intake may write the records of a system, and says there what became of it.

mod fold;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_gateway::views::{QuarantineList, QuarantinedInput, QuarantinedView, RetriedView};
use lethe_intake::{
    Again, Inputs, Intake, Known, Refused, can_be_taken_again, is_event, open_event, open_input, records_of,
};
use lethe_journal::{
    InputDropped, InputRetried, InputRetryAsked, InputStays, Kind, Place, Position, Quarantined, Stream,
};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_terms::{EntryId, RecordToken, SystemName, Timestamp};
use lethe_vault::KeyVault;
use tokio::sync::watch;
use zeroize::Zeroizing;

use self::fold::{Fold, Said, said};

use crate::follow_ups::FollowUps;
use crate::published::Taking;
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

fn place() -> Place {
    Place::new(Stream::Quarantine, 0)
}

/// The quarantine as this process knows it.
pub(crate) struct Quarantine {
    log: Arc<dyn EventLog>,
    vault: Arc<dyn KeyVault>,
    /// Knows the keys of the records that inputs are a part of.
    known: Arc<dyn Known>,
    /// Those that this process hosts: each is told how many inputs of it count.
    systems: BTreeMap<SystemName, Arc<System>>,
    fold: Mutex<Fold>,
    /// Hears of every page that was folded.
    changed: watch::Sender<Position>,
}

/// What takes inputs in again: where connectors are hosted, those of their systems.
pub(crate) struct Retrier {
    pub(crate) systems: BTreeSet<SystemName>,
    /// What takes published events again, and answers for inputs that name no system, where this process has it.
    pub(crate) taking: Option<Arc<Taking>>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) follow_ups: Arc<FollowUps>,
}

impl Quarantine {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        vault: Arc<dyn KeyVault>,
        known: Arc<dyn Known>,
        systems: BTreeMap<SystemName, Arc<System>>,
    ) -> Self {
        Self {
            log,
            vault,
            known,
            systems,
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
        fold.first().unwrap_or(fold.next)
    }

    /// Has what was decided kept by nothing but what still counts: what is to be known of places of the log is said again at the end.
    ///
    /// # Errors
    /// Of the log.
    pub(crate) async fn say_again(&self) -> Result<(), Error> {
        let cleared = self.fold().to_say_again().into_iter();
        let entries: Vec<_> = cleared
            .map(|place| publish::entry(b"", "/lethe/intake", place))
            .collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Ok(());
        }
        publish::append(&*self.log, &place(), entries, "quarantine").await?;
        Ok(self.catch_up().await?)
    }

    /// How many inputs count of all that stand on the log now; nothing where that cannot be told in time.
    pub(crate) async fn count(&self) -> Option<u64> {
        let mut changed = self.changed.subscribe();
        let folded = async {
            let head = self.log.head(&place()).await.ok()?;
            changed.wait_for(|next| *next >= head).await.ok().map(drop)
        };
        tokio::time::timeout(COUNT_PATIENCE, folded).await.ok()??;
        Some(self.fold().count())
    }

    /// Reads what is there, so that hosted systems know how much of theirs it is.
    pub(crate) async fn catch_up(&self) -> Result<(), lethe_intake::Error> {
        while self.step().await? {}
        Ok(())
    }

    /// Goes on folding until `stop`, and takes in again what is asked for where this process does that.
    pub(crate) async fn follow(
        self: Arc<Self>,
        retrier: Option<Retrier>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let at = place();
        while !*stop.borrow() {
            if self.step().await? {
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

    /// Whether a published event counts that may be asked for again.
    pub(crate) fn holds_events(&self) -> bool {
        self.fold().holds_events()
    }

    /// Folds a page; whether there was one.
    async fn step(&self) -> Result<bool, lethe_intake::Error> {
        let from = self.fold().next;
        let page = self.log.read(&place(), from, PAGE_ENTRIES_MAX).await;
        let page = page.map_err(lethe_intake::Error::Log)?;
        let mut fold = self.fold();
        // Somebody who wanted it up to date at once may have read the page meanwhile.
        if fold.next != from {
            return Ok(true);
        }
        if page.fell_behind {
            let stray = page.strays.first().map_or(page.next, |stray| stray.position);
            let first = page
                .entries
                .first()
                .map_or(stray, |stored| stored.position.min(stray));
            fold.lost_before(first);
        }
        for stored in &page.entries {
            fold.take(stored, &*self.vault)?;
        }
        fold.next = page.next;
        self.tell_counts(&fold);
        drop(fold);
        self.changed.send_replace(page.next);
        Ok(page.next != from)
    }

    fn tell_counts(&self, fold: &Fold) {
        for (name, system) in &self.systems {
            system
                .feed
                .quarantined
                .store(fold.count_of(name, system.is_published()), Ordering::Relaxed);
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
        let stays = match self.take_again(retrier, &input).await {
            Ok(stays) => stays,
            Err(error) if error.is_no_verdict() => return Err(error),
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
        self.fold().tried(position);
        Ok(())
    }

    /// Takes an input in again and follows up what it finds; why it stays, where it does.
    async fn take_again(&self, retrier: &Retrier, input: &Quarantined) -> Result<Option<Refused>, Error> {
        if let Some((event, note)) = open_event(&*self.vault, input)? {
            return match &retrier.taking {
                Some(taking) => taking.take_again(&event, &note).await,
                None => Err(Error::Stopped {
                    what: "the taking of published events",
                }),
            };
        }
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
        let (positions, total) = self.fold().older(system, before, limit);
        let mut inputs = Vec::with_capacity(positions.len());
        for position in positions {
            let known = self.fold().view(position);
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

    /// One input with what it is, a published event as it can be read; nothing where there is none of that number.
    pub(crate) async fn show(
        &self,
        position: Position,
        readable: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, Error> + Send + Sync,
    ) -> Result<Option<QuarantinedInput>, Error> {
        // What was dropped or taken in is nobody's business any more, though its entry may stand there for a while.
        if !self.fold().counts(position) {
            return Ok(None);
        }
        let Some((at, input)) = self.find(position).await? else {
            return Ok(None);
        };
        let about = self.fold().with_reason(view(position, at, &input));
        let Some(plain) = self.open(&input).await? else {
            return Ok(None);
        };
        let readable = if is_event(&input) { readable(&plain)? } else { None };
        Ok(Some(QuarantinedInput {
            about,
            input: STANDARD.encode(readable.as_deref().unwrap_or(&plain)),
        }))
    }

    /// The bytes of an input; nothing where it was a part of a record that is gone.
    async fn open(&self, input: &Quarantined) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let records = records_of(&*self.vault, input)?;
        let Some(first) = records.first() else {
            return Ok(open_input(&*self.vault, input, None)?);
        };
        let known = self.known.known(&[*first]).await?;
        let key = known.get(first).and_then(|known| known.key.as_ref());
        Ok(open_input(&*self.vault, input, Some((*first, key)))?)
    }

    /// Takes an input out of the count; nothing where none of that number counts.
    pub(crate) async fn drop_one(&self, position: Position) -> Result<Option<QuarantinedView>, Error> {
        let Some((at, input)) = self.find_counting(position).await? else {
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
        let Some((at, input)) = self.find_counting(position).await? else {
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
        let settled = changed.wait_for(|next| *next >= head && !self.fold().is_asked(position));
        match tokio::time::timeout(RETRY_PATIENCE, settled).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Ok(Retry::Unsettled),
        }
        let fold = self.fold();
        let taken_in = fold.was_taken_in(position);
        // Somebody dropped it meanwhile, or its record ended.
        if !taken_in && !fold.counts(position) {
            return Ok(Retry::NoSuchInput);
        }
        Ok(Retry::Done(RetriedView {
            taken_in,
            about: fold.with_reason(view(position, at, &input)),
        }))
    }

    /// The input at a position; nothing where none counts there by now. What was dropped may stand there for a while.
    async fn find_counting(&self, position: Position) -> Result<Option<(Timestamp, Quarantined)>, Error> {
        self.catch_up().await?;
        if !self.fold().counts(position) {
            return Ok(None);
        }
        self.find(position).await
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

#[async_trait]
impl Inputs for Quarantine {
    fn holds(&self, input: EntryId) -> bool {
        self.fold().holds(input)
    }

    async fn counted(&self) -> Result<(), lethe_intake::Error> {
        self.catch_up().await
    }

    fn put_away_count(&self) -> u64 {
        self.fold().put_away_count()
    }

    fn put_away_behind(&self) -> Position {
        self.fold().stood_before()
    }

    fn may_have_displaced(&self) -> bool {
        self.fold().may_have_displaced()
    }

    async fn put_away_before(&self, at: &Place) -> Result<Position, lethe_intake::Error> {
        self.catch_up().await?;
        Ok(self.fold().put_away_before(at))
    }

    async fn parts_of(&self, records: &[RecordToken]) -> Result<Vec<Position>, lethe_intake::Error> {
        self.catch_up().await?;
        Ok(self.fold().parts_of(records).into_iter().collect())
    }
}

/// What became of a wish to take an input in again.
pub(crate) enum Retry {
    /// It was tried.
    Done(RetriedView),
    /// None of that number counts, or does any more.
    NoSuchInput,
    /// What was kept is not enough.
    Impossible(Refused),
    /// Nobody has tried it yet; it will be.
    Unsettled,
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
mod tests;
