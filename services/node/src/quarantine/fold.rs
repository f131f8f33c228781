//! The stream, folded.

use std::collections::{BTreeMap, BTreeSet};

use lethe_gateway::views::QuarantinedView;
use lethe_intake::{is_event, records_of, unless_of_nobody};
use lethe_journal::{
    Event, InputDropped, InputEnded, InputRetried, InputRetryAsked, InputStays, Kind, Place, PlaceCleared,
    Position, Quarantined, Stood, Stored, Stream, StreamKind,
};
use lethe_terms::{EntryId, RecordToken, SystemName, Timestamp, UnitToken};
use lethe_vault::KeyVault;

use super::{Retrier, view};
use crate::poison::FELL_OFF;
use crate::recent::Recent;

/// Inputs whose particulars stay in memory, the newest: more than a page of a list. Of older ones only the place stays, and they are read again.
pub(super) const VIEWS_MAX: usize = 1_000;

/// Inputs that are remembered as taken in for whoever asked for that: more than are asked for at a time.
const TAKEN_IN_MAX: usize = 1_000;

/// What an entry of the stream says.
pub(super) enum Said {
    Kept(Timestamp, Quarantined),
    Dropped(InputDropped),
    Ended(InputEnded),
    RetryAsked(InputRetryAsked),
    Retried(InputRetried),
    Cleared(PlaceCleared),
}

/// What an entry says; nothing, and that is told, where it can be none.
pub(super) fn said(stored: &Stored) -> Result<Option<Said>, lethe_journal::Error> {
    let Some(value) = &stored.entry.value else {
        return Ok(None);
    };
    unless_of_nobody(said_by(value), &Stream::Quarantine, stored.position)
}

fn said_by(value: &[u8]) -> Result<Said, lethe_journal::Error> {
    if let Some(event) = if_of_kind::<Quarantined>(value)? {
        return Ok(Said::Kept(event.time, event.data));
    }
    if let Some(dropped) = if_of_kind(value)? {
        return Ok(Said::Dropped(dropped.data));
    }
    if let Some(ended) = if_of_kind(value)? {
        return Ok(Said::Ended(ended.data));
    }
    if let Some(asked) = if_of_kind(value)? {
        return Ok(Said::RetryAsked(asked.data));
    }
    if let Some(cleared) = if_of_kind(value)? {
        return Ok(Said::Cleared(cleared.data));
    }
    Ok(Said::Retried(Event::decode(value)?.data))
}

/// Of which records an input is a part; of none where no key of this vault opens that: the input counts all the same.
fn records_known(
    vault: &dyn KeyVault,
    input: &Quarantined,
    position: Position,
) -> Result<Vec<RecordToken>, lethe_intake::Error> {
    use lethe_vault::Error::{CannotOpen, UnexpectedContent, UnknownBucket};
    match records_of(vault, input) {
        Err(error @ (CannotOpen { .. } | UnexpectedContent | UnknownBucket { .. })) => {
            let code = error.code();
            tracing::error!(
                code,
                position,
                "of what an input in quarantine is a part cannot be opened"
            );
            Ok(Vec::new())
        }
        records => records.map_err(lethe_intake::Error::Vault),
    }
}

fn if_of_kind<T: Kind>(value: &[u8]) -> Result<Option<Event<T>>, lethe_journal::Error> {
    match Event::<T>::decode(value) {
        Ok(event) => Ok(Some(event)),
        Err(lethe_journal::Error::UnexpectedType { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// An input that counts.
struct Kept {
    id: EntryId,
    system: Option<SystemName>,
    /// Whether it is no input of a source, nor one that was lost, but stood among Lethe's own entries.
    has_stood: bool,
    /// Whether it may have taken the place of anybody's record.
    is_anybodys: bool,
    /// Whether it is a published event that was kept whole.
    is_event: bool,
    /// What it is a part of.
    units: BTreeSet<UnitToken>,
}

impl Kept {
    /// Whether something may be missing for it that is known of people.
    const fn hides(&self) -> bool {
        !self.has_stood || self.system.is_some() || self.is_anybodys
    }
}

/// How many inputs count.
#[derive(Default)]
struct Counts {
    /// Those that may hide somebody.
    hiding: u64,
    /// Those of a system.
    of: BTreeMap<SystemName, u64>,
    /// Those of them that came by the topic that programs publish to and name no system.
    of_a_publisher: u64,
    /// Those that may have taken the place of anybody's record.
    anybodys: u64,
    /// Those that stood among Lethe's own entries.
    stood: u64,
    /// Published events that were kept whole.
    events: u64,
}

impl Counts {
    fn change(&mut self, kept: &Kept, by: i64) {
        let add = |count: &mut u64, is: bool| {
            if is {
                *count = count.saturating_add_signed(by);
            }
        };
        let of_nobody = kept.system.is_none();
        add(&mut self.hiding, kept.hides());
        add(&mut self.of_a_publisher, of_nobody && !kept.has_stood);
        add(&mut self.anybodys, of_nobody && kept.is_anybodys);
        add(&mut self.stood, kept.has_stood);
        add(&mut self.events, kept.is_event);
        if let Some(system) = &kept.system {
            add(self.of.entry(system.clone()).or_default(), true);
        }
    }
}

/// What is put away of a place of the log.
#[derive(Debug, Default)]
struct PutAway {
    /// The position before which that is everything that can be no entry.
    before: Position,
    /// Where in the quarantine that is said.
    at: Position,
}

/// What the stream says, up to a position.
#[derive(Default)]
pub(super) struct Fold {
    kept: BTreeMap<Position, Kept>,
    /// Where each stands: what its source tells again is no other input.
    places: BTreeMap<EntryId, Position>,
    /// Those that are a part of a unit: what is erased of a row or a line for one person is the whole of it.
    parts: BTreeMap<UnitToken, BTreeSet<Position>>,
    /// The newest of them.
    views: BTreeMap<Position, QuarantinedView>,
    /// Why inputs that were tried again stay.
    stay: BTreeMap<Position, InputStays>,
    /// Inputs to be taken in again, of which nobody has said what became.
    asked: BTreeSet<Position>,
    /// Those of them that were tried here: what became of them is on its way.
    tried: BTreeSet<Position>,
    /// Those that were taken in, the last ones.
    taken_in: Recent<Position, (), TAKEN_IN_MAX>,
    /// By place of the log: what is put away of it. What is read again after it was dropped is no other.
    put_away: BTreeMap<(String, u16), PutAway>,
    /// How many of those that are kept count for what.
    counts: Counts,
    /// Behind the newest of those that stood among Lethe's own entries.
    stood_before: Position,
    /// The newest input that counts no more.
    decided: Position,
    pub(super) next: Position,
}

/// Whether a place is of a stream that is read from its beginning now and then: then what was put away of it is met again.
fn is_read_again(((stream, _), _): &(&(String, u16), &PutAway)) -> bool {
    let stream = stream.parse::<Stream>();
    stream.is_ok_and(|stream| stream.kind() != StreamKind::Queue || matches!(stream, Stream::Requests(_)))
}

impl Fold {
    pub(super) fn take(&mut self, stored: &Stored, vault: &dyn KeyVault) -> Result<(), lethe_intake::Error> {
        match said(stored).map_err(lethe_intake::Error::Journal)? {
            Some(Said::Kept(_, input)) if self.is_dropped(stored.entry.id, &input) => {}
            Some(Said::Kept(at, input)) => {
                // The newer one: the older may have been put away by an attempt that failed.
                if let Some(older) = self.places.get(&stored.entry.id) {
                    self.leaves(*older);
                }
                let records = records_known(vault, &input, stored.position)?;
                self.keep(stored, at, input, records);
            }
            Some(Said::Dropped(dropped)) => self.leaves(dropped.position),
            Some(Said::Ended(ended)) => self.leaves(ended.position),
            Some(Said::Cleared(cleared)) => {
                self.clear(
                    (cleared.stream, cleared.partition),
                    cleared.before,
                    stored.position,
                );
            }
            Some(Said::RetryAsked(asked)) if self.counts(asked.position) => {
                self.asked.insert(asked.position);
            }
            Some(Said::Retried(retried)) => match retried.stays {
                None => {
                    if self.counts(retried.position) {
                        self.taken_in.insert(retried.position, ());
                    }
                    self.leaves(retried.position);
                }
                Some(stays) => {
                    self.answered(retried.position);
                    if self.counts(retried.position) {
                        self.stay.insert(retried.position, stays);
                    }
                }
            },
            Some(Said::RetryAsked(_)) | None => {}
        }
        Ok(())
    }

    /// Whether something was put away before that stood where this stood, and counts no more.
    fn is_dropped(&self, id: EntryId, input: &Quarantined) -> bool {
        let is_behind = |stood: &Stood| {
            let place = (stood.stream.clone(), stood.partition);
            let before = self.put_away.get(&place);
            before.is_some_and(|known| stood.position < known.before)
        };
        // What a queue lost stands before what was put away of it.
        input.code != FELL_OFF && input.stood.as_ref().is_some_and(is_behind) && !self.holds(id)
    }

    /// The position of a place before which everything is put away that can be no entry.
    pub(super) fn put_away_before(&self, at: &Place) -> Position {
        let place = (at.stream.to_string(), at.partition);
        self.put_away.get(&place).map_or(0, |known| known.before)
    }

    fn keep(&mut self, stored: &Stored, at: Timestamp, input: Quarantined, records: Vec<RecordToken>) {
        let (position, id) = (stored.position, stored.entry.id);
        self.views.insert(position, view(position, at, &input));
        if self.views.len() > VIEWS_MAX {
            self.views.pop_first();
        }
        self.places.insert(id, position);
        let units: BTreeSet<_> = records.into_iter().map(RecordToken::unit).collect();
        for unit in &units {
            self.parts.entry(*unit).or_default().insert(position);
        }
        let is_event = is_event(&input);
        // What was lost of what programs publish may have been about anybody.
        let is_ours = |stood: &Stood| stood.stream != Stream::Intake.to_string();
        let has_stood = input.stood.as_ref().is_some_and(is_ours);
        let is_anybodys = input.stood.as_ref().is_some_and(|stood| stood.hides);
        if let Some(stood) = input.stood {
            let before = stood.position.saturating_add(1);
            self.clear((stood.stream, stood.partition), before, position);
        }
        if has_stood {
            self.stood_before = self.stood_before.max(position.saturating_add(1));
        }
        let kept = Kept {
            id,
            system: input.system,
            has_stood,
            is_anybodys,
            is_event,
            units,
        };
        self.counts.change(&kept, 1);
        self.kept.insert(position, kept);
    }

    /// Notes that everything is put away of a place before a position, which an entry says that stands at another.
    fn clear(&mut self, place: (String, u16), before: Position, said_at: Position) {
        let known = self.put_away.entry(place).or_default();
        if before >= known.before {
            known.before = before;
            known.at = said_at;
        }
    }

    /// Of which places is to be said again up to where they are cleared: what says it keeps something that was decided, and nothing else does.
    pub(super) fn to_say_again(&self) -> Vec<PlaceCleared> {
        let first = self.kept.keys().next().copied().unwrap_or(self.next);
        let keeps = |(_, known): &(&(String, u16), &PutAway)| known.at < first && known.at <= self.decided;
        let again = self.put_away.iter().filter(is_read_again).filter(keeps);
        again
            .map(|((stream, partition), known)| PlaceCleared {
                stream: stream.clone(),
                partition: *partition,
                before: known.before,
            })
            .collect()
    }

    pub(super) fn leaves(&mut self, position: Position) {
        if let Some(kept) = self.kept.remove(&position) {
            self.decided = self.decided.max(position);
            self.places.remove(&kept.id);
            self.counts.change(&kept, -1);
            for unit in kept.units {
                if let Some(parts) = self.parts.get_mut(&unit) {
                    parts.remove(&position);
                }
                if self.parts.get(&unit).is_some_and(BTreeSet::is_empty) {
                    self.parts.remove(&unit);
                }
            }
        }
        self.views.remove(&position);
        self.stay.remove(&position);
        self.answered(position);
    }

    /// Lets go of the inputs before a position, which stand there no more: what said that they were decided may have gone with them.
    pub(super) fn lost_before(&mut self, position: Position) {
        let lost: Vec<_> = self.kept.range(..position).map(|(at, _)| *at).collect();
        for at in lost {
            self.leaves(at);
        }
    }

    /// Whether the input at a position counts.
    pub(super) fn counts(&self, position: Position) -> bool {
        self.kept.contains_key(&position)
    }

    pub(super) const fn holds_events(&self) -> bool {
        self.counts.events > 0
    }

    /// Whether this input counts, wherever it stands.
    pub(super) fn holds(&self, input: EntryId) -> bool {
        self.places.contains_key(&input)
    }

    /// Where the first input stands that counts, or that says of a history or a table, which is read again and again, what is put away of it.
    pub(super) fn first(&self) -> Option<Position> {
        let again = self.put_away.iter().filter(is_read_again);
        let newest = again.map(|(_, known)| known.at);
        newest.chain(self.kept.keys().next().copied()).min()
    }

    /// Those that are a part of the unit of any of these records.
    pub(super) fn parts_of(&self, records: &[RecordToken]) -> BTreeSet<Position> {
        let parts = records.iter().filter_map(|record| self.parts.get(&record.unit()));
        parts.flatten().copied().collect()
    }

    /// The newest that are older than a position, at most so many of one system or of all, and how many there are of them at all.
    pub(super) fn older(
        &self,
        system: Option<&SystemName>,
        before: Option<Position>,
        limit: usize,
    ) -> (Vec<Position>, usize) {
        let fits = |kept: &Kept| system.is_none() || kept.system.as_ref() == system;
        let total = self.kept.values().filter(|kept| fits(kept)).count();
        let older = self.kept.range(..before.unwrap_or(Position::MAX)).rev();
        let fitting = older
            .filter(|(_, kept)| fits(kept))
            .map(|(position, _)| *position);
        (fitting.take(limit).collect(), total)
    }

    /// The particulars of an input, where they are in memory.
    pub(super) fn view(&self, position: Position) -> Option<QuarantinedView> {
        self.views.get(&position).cloned()
    }

    pub(super) fn is_asked(&self, position: Position) -> bool {
        self.asked.contains(&position)
    }

    /// Whether an input counts no more because it was taken in.
    pub(super) fn was_taken_in(&self, position: Position) -> bool {
        self.taken_in.get(&position).is_some()
    }

    /// Notes that an input was tried: it must not be once more before the entry that says so is folded.
    pub(super) fn tried(&mut self, position: Position) {
        if self.asked.contains(&position) {
            self.tried.insert(position);
        }
    }

    fn answered(&mut self, position: Position) {
        self.asked.remove(&position);
        self.tried.remove(&position);
    }

    /// Inputs that are asked for and are this process's to take in again.
    pub(super) fn asked_of(&self, retrier: &Retrier) -> Vec<Position> {
        let is_ours = |position: &Position| match self.kept.get(position) {
            Some(Kept {
                system: Some(system),
                is_event: false,
                ..
            }) => retrier.systems.contains(system),
            // Who takes published events takes those of every system, also of one that the settings no longer name.
            _ => retrier.taking.is_some(),
        };
        self.asked
            .difference(&self.tried)
            .copied()
            .filter(is_ours)
            .collect()
    }

    /// How many inputs count that may hide somebody.
    pub(super) const fn count(&self) -> u64 {
        self.counts.hiding
    }

    /// How many inputs of a system count. What names no system came by the topic that programs publish to, and may be any published system's, or it
    /// took the place of a record, and that may be any system's.
    pub(super) fn count_of(&self, name: &SystemName, is_published: bool) -> u64 {
        let counts = &self.counts;
        let published = if is_published { counts.of_a_publisher } else { 0 };
        counts.of.get(name).copied().unwrap_or(0) + published + counts.anybodys
    }

    /// How many count that stood among Lethe's own entries.
    pub(super) const fn put_away_count(&self) -> u64 {
        self.counts.stood
    }

    /// Where the quarantine went on behind the newest that ever stood among Lethe's own entries.
    pub(super) const fn stood_before(&self) -> Position {
        self.stood_before
    }

    /// Whether anything was ever put away that may have taken the place of a record.
    pub(super) fn may_have_displaced(&self) -> bool {
        let folded = [Stream::Records, Stream::Keys].map(|stream| stream.to_string());
        let mut places = self.put_away.keys();
        places.any(|(stream, _)| folded.contains(stream))
    }

    /// With the newest reason why it stays.
    pub(super) fn with_reason(&self, mut view: QuarantinedView) -> QuarantinedView {
        if let Some(stays) = self.stay.get(&view.position) {
            view.code.clone_from(&stays.code);
            view.expected.clone_from(&stays.expected);
        }
        view
    }

    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.views.len()
    }
}
