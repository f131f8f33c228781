//! The check with the power cut: random work, a cut at a random operation, and what must be there afterwards.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{Entry, Epoch, Place, Position, Stored, Stream, StreamKind};
use lethe_log::{Appended, Error};

use super::{Factory, Random, Subject, entry, read_from};

/// Histories that are tried, each cut three times, unless the environment variable [`SEEDS_VARIABLE`] says how many.
const SEEDS: u64 = 60;

/// Names the number of histories for a long run.
const SEEDS_VARIABLE: &str = "LETHE_POWER_LOSS_SEEDS";

/// Cuts of one history.
const CUTS: u64 = 3;

/// A cut comes within so many operations on files.
const OPERATIONS_MAX: u64 = 1_500;

/// What one partition must hold.
#[derive(Debug, Default)]
struct Expected {
    /// What was acknowledged, by position.
    stored: BTreeMap<Position, Entry>,
    head: Position,
    epoch: Epoch,
    /// Batches of which it is unknown whether they are stored: all of one or nothing.
    unknown: Vec<Vec<Entry>>,
    /// Up to where entries may be missing: the start of a queue, what all readers of a table have seen.
    may_miss_below: Position,
    /// Up to where they must be missing.
    must_miss_below: Position,
}

/// What the histories came through: a check that meets none of it proves nothing.
#[derive(Debug, Default)]
struct Met {
    acknowledged_batches: u64,
    unknown_batches: u64,
    rewritings: u64,
    interrupted_rewritings: u64,
}

#[derive(Debug)]
struct Model {
    random: Random,
    number: u64,
    places: BTreeMap<Place, Expected>,
    met: Met,
}

/// For many seeds: append, take over and compact at random, cut the power at a random moment, lose a random part of what was not
/// synced, and open the log again. Everything acknowledged is there, an unacknowledged batch wholly or not at all, and
/// nothing else. Passes where the implementation has no power to lose.
pub async fn what_was_acknowledged_survives_power_loss(factory: &dyn Factory) {
    if !factory.can_lose_power() {
        return;
    }
    let seeds = std::env::var(SEEDS_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SEEDS);
    let mut met = Met::default();
    for seed in 0..seeds {
        let mut log = factory.open().await;
        let mut model = Model {
            met,
            ..Model::new(seed)
        };
        for cut in 0..CUTS {
            factory.cut_power_after(model.random.below(OPERATIONS_MAX));
            while model.step(&*log).await {}
            log = factory.reopen_after_power_loss(log, model.random.next()).await;
            model.verify(&*log, &format!("seed {seed}, cut {cut}")).await;
        }
        met = model.met;
    }
    let met_all = met.acknowledged_batches > seeds
        && met.unknown_batches > seeds / 4
        && met.rewritings > seeds / 4
        && met.interrupted_rewritings > seeds / 4;
    assert!(met_all, "the histories met too little: {met:?}");
}

impl Met {
    const fn count(&mut self, is_rewritten: bool) -> bool {
        if is_rewritten {
            self.rewritings += 1;
        } else {
            self.interrupted_rewritings += 1;
        }
        is_rewritten
    }
}

impl Model {
    fn new(seed: u64) -> Self {
        let places = [
            Place::new(Stream::Records, 0),
            Place::new(Stream::Records, 1),
            Place::new(Stream::Cases, 3),
            Place::new(Stream::Commands, 0),
        ];
        let places = places.into_iter().map(|at| (at, Expected::default())).collect();
        Self {
            random: Random::new(seed),
            number: 0,
            places,
            met: Met::default(),
        }
    }

    fn any_place(&mut self) -> Place {
        let index = usize::try_from(self.random.below(self.places.len() as u64)).expect("few places");
        self.places
            .keys()
            .nth(index)
            .expect("an index below the length")
            .clone()
    }

    fn batch(&mut self) -> Vec<Entry> {
        (0..=self.random.below(5))
            .map(|_| {
                self.number += 1;
                let key = format!("key {}", self.random.below(9));
                let value = format!(
                    "value {} {}",
                    self.number,
                    "x".repeat(usize::try_from(self.random.below(900)).unwrap())
                );
                entry(
                    self.number,
                    &key,
                    self.random.chance(75).then_some(value.as_str()),
                )
            })
            .collect()
    }

    /// Does something; false once the power is gone.
    async fn step(&mut self, log: &dyn Subject) -> bool {
        match self.random.below(100) {
            0..70 => self.append(log).await,
            70..80 => self.take_over(log).await,
            80..92 => self.compact(log).await,
            _ => self.expire(log).await,
        }
    }

    async fn append(&mut self, log: &dyn Subject) -> bool {
        // Two places at once: their streams may share nothing but the power.
        let (one, other) = (self.any_place(), self.any_place());
        let (first, second) = (self.batch(), self.batch());
        let (first_done, second_done) = tokio::join!(
            log.append(&one, None, first.clone()),
            log.append(&other, None, second.clone())
        );
        let first_went = self.note(&one, first, first_done);
        let second_went = self.note(&other, second, second_done);
        first_went && second_went
    }

    fn note(&mut self, at: &Place, batch: Vec<Entry>, done: Result<Appended, Error>) -> bool {
        let expected = self.places.get_mut(at).expect("a known place");
        match done {
            Ok(Appended::At { first, next }) => {
                expected.stored.extend((first..).zip(batch));
                expected.head = expected.head.max(next);
                self.met.acknowledged_batches += 1;
                true
            }
            Ok(Appended::StaleEpoch { .. }) => panic!("an append without an epoch was stale"),
            Err(Error::NotStored(_)) => false,
            Err(_) => {
                expected.unknown.push(batch);
                self.met.unknown_batches += 1;
                false
            }
        }
    }

    async fn take_over(&mut self, log: &dyn Subject) -> bool {
        let at = self.any_place();
        let Ok(epoch) = log.acquire(&at).await else {
            return false;
        };
        self.places.get_mut(&at).expect("a known place").epoch = epoch;
        true
    }

    async fn compact(&mut self, log: &dyn Subject) -> bool {
        let mut seen = BTreeMap::new();
        for (at, expected) in self
            .places
            .iter_mut()
            .filter(|(at, _)| at.stream == Stream::Records)
        {
            let position = self.random.below(expected.head + 1);
            expected.may_miss_below = expected.may_miss_below.max(position);
            seen.insert(at.partition, position);
        }
        let done = log.compact(&Stream::Records, &seen).await.is_ok();
        self.met.count(done)
    }

    async fn expire(&mut self, log: &dyn Subject) -> bool {
        let expected = self
            .places
            .get_mut(&Place::new(Stream::Commands, 0))
            .expect("a known place");
        let before = self.random.below(expected.head + 1);
        expected.may_miss_below = expected.may_miss_below.max(before);
        let done = log
            .expire(&Stream::Commands, &BTreeMap::from([(0, before)]))
            .await
            .is_ok();
        if done {
            expected.must_miss_below = expected.must_miss_below.max(before);
        }
        self.met.count(done)
    }

    async fn verify(&mut self, log: &dyn Subject, when: &str) {
        log.check()
            .await
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        for (at, expected) in &mut self.places {
            let found = read_from(log, at, 0).await;
            let when = format!("{when}, {at}");
            let head = log.head(at).await.unwrap();
            assert!(
                head >= expected.head,
                "{when}: the head fell from {} to {head}",
                expected.head
            );
            expected.verify(&found, at.stream.kind(), &when);
            expected.head = head;
            expected.stored = found
                .into_iter()
                .map(|stored| (stored.position, stored.entry))
                .collect();
            expected.unknown.clear();
            let epoch = log.acquire(at).await.unwrap();
            assert!(
                epoch > expected.epoch,
                "{when}: epoch {epoch} was given out before"
            );
            expected.epoch = epoch;
        }
    }
}

impl Expected {
    fn verify(&self, found: &[Stored], kind: StreamKind, when: &str) {
        let (known, new): (Vec<_>, Vec<_>) = found.iter().partition(|stored| stored.position < self.head);
        for stored in &known {
            assert_eq!(
                self.stored.get(&stored.position),
                Some(&stored.entry),
                "{when}: at {}",
                stored.position
            );
        }
        self.verify_new(&new, when);
        let positions: BTreeSet<Position> = known.iter().map(|stored| stored.position).collect();
        let newest: BTreeMap<&[u8], Position> = self
            .stored
            .iter()
            .map(|(position, entry)| (entry.key.as_slice(), *position))
            .chain(
                new.iter()
                    .map(|stored| (stored.entry.key.as_slice(), stored.position)),
            )
            .collect();
        for (position, entry) in &self.stored {
            let may_miss = match kind {
                StreamKind::History => false,
                StreamKind::Queue => *position < self.may_miss_below,
                StreamKind::Table => {
                    let is_newest = newest.get(entry.key.as_slice()) == Some(position);
                    !is_newest || (entry.value.is_none() && *position < self.may_miss_below)
                }
            };
            assert!(
                may_miss || positions.contains(position),
                "{when}: the entry at {position} is lost"
            );
            assert!(
                *position >= self.must_miss_below || !positions.contains(position),
                "{when}: the entry at {position} came back"
            );
        }
    }

    /// Unacknowledged batches are there whole or not at all.
    fn verify_new(&self, new: &[&Stored], when: &str) {
        let mut unknown = self.unknown.clone();
        let mut rest = new;
        while let Some(first) = rest.first() {
            let whole = unknown.iter().position(|batch| {
                batch.len() <= rest.len()
                    && batch
                        .iter()
                        .zip(rest)
                        .all(|(entry, stored)| *entry == stored.entry)
            });
            let Some(index) = whole else {
                panic!("{when}: the entry at {} is nobody's", first.position)
            };
            rest = &rest[unknown.remove(index).len()..];
        }
    }
}
