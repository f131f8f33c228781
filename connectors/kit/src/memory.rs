//! A system of personal data in memory: the reference of the contract, and for tests of everything that talks to connectors.
//!
//! It can be told to be wrong in a named way. Each [`Fault`] breaks one MUST of CONTRACT.md, and the suite's own tests show that the suite notices.

mod fault;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lethe_terms::{
    DataCategory, DatasetName, Identifier, IdentifierKind, Independence, InstructionId, IssuedKind,
    LegalBasis, NameError, Observed as Seen, Outcome, Purpose, ShardName, Strength, SystemName, Verb,
};

use crate::{
    Ask, Connector, DatasetManifest, Error, FeedPage, Finding, Located, Manifest, Observation, Observed,
    Page, Performed, Receipt, Selected, Selector,
};

pub use fault::Fault;

/// Records in one page of locating.
const PAGE_RECORDS: usize = 50;
/// A call that takes longer counts as unanswered, in milliseconds.
const TIMEOUT_MS: u64 = 5_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    identifiers: Vec<Identifier>,
    restricted: bool,
    /// Times that it was changed: shows a second effect.
    version: u64,
}

type RecordId = (DatasetName, String);

/// What lasts: the system itself.
#[derive(Default)]
struct World {
    records: BTreeMap<RecordId, Stored>,
    instructions: BTreeMap<InstructionId, Receipt>,
    generations: BTreeMap<RecordId, (u64, u32)>,
    /// Every change, oldest first, as the record that changed.
    changes: Vec<RecordId>,
}

/// The reference connector. Clones and restarts share one system.
pub struct MemoryConnector {
    manifest: Manifest,
    world: Arc<Mutex<World>>,
    faults: BTreeSet<Fault>,
    /// What this very instance erased: lost when it is restarted.
    erased: Mutex<BTreeSet<RecordId>>,
    /// Cursors that this very instance was read from.
    read: Mutex<BTreeSet<usize>>,
    crash: Arc<Mutex<bool>>,
}

impl MemoryConnector {
    /// An empty system with the dataset `contacts`. Malformed names are refused.
    pub fn new(system: &str) -> Result<Self, NameError> {
        Ok(Self {
            manifest: manifest(system.parse()?, "contacts".parse()?, "contacts".parse()?),
            world: Arc::default(),
            faults: BTreeSet::new(),
            erased: Mutex::default(),
            read: Mutex::default(),
            crash: Arc::default(),
        })
    }

    /// Is wrong in this way from now on.
    #[must_use]
    pub fn with(mut self, fault: Fault) -> Self {
        self.faults.insert(fault);
        self
    }

    /// Says erased and erases nothing.
    #[must_use]
    pub fn says_erased_but_does_not(self) -> Self {
        self.with(Fault::SaysErasedButDoesNot)
    }

    /// Says erased, erases nothing, and says absent when asked.
    #[must_use]
    pub fn observe_lies_too(self) -> Self {
        self.with(Fault::SaysErasedButDoesNot).with(Fault::ObserveLiesToo)
    }

    /// How independent it declares its observations to be.
    #[must_use]
    pub fn with_independence(mut self, independence: Independence) -> Self {
        self.manifest.independence = independence;
        self
    }

    /// The same system behind a connector that was started anew.
    #[must_use]
    pub fn restarted(&self) -> Self {
        if self.is(Fault::ForgetsIds) {
            self.world().instructions.clear();
        }
        Self {
            manifest: self.manifest.clone(),
            world: Arc::clone(&self.world),
            faults: self.faults.clone(),
            erased: Mutex::default(),
            read: Mutex::default(),
            crash: Arc::clone(&self.crash),
        }
    }

    /// Puts a record there, or puts it back as it was.
    pub fn put(&self, dataset: &DatasetName, key: &str, identifiers: Vec<Identifier>) {
        let mut world = self.world();
        let id = (dataset.clone(), key.to_owned());
        world.records.insert(
            id.clone(),
            Stored {
                identifiers,
                restricted: false,
                version: 0,
            },
        );
        world.changes.push(id);
    }

    /// Whether a value stands anywhere in the system.
    pub fn holds(&self, value: &str) -> bool {
        self.world()
            .records
            .values()
            .any(|r| r.identifiers.iter().any(|i| i.value == value))
    }

    /// Everything in the system except these records, as text.
    pub fn dump_except(&self, keys: &[String]) -> String {
        let world = self.world();
        let others = world.records.iter().filter(|((_, key), _)| !keys.contains(key));
        others
            .map(|((dataset, key), r)| dump_line(dataset, key, r))
            .collect()
    }

    /// These records, as text.
    pub fn dump_of(&self, keys: &[String]) -> String {
        let world = self.world();
        let these = world.records.iter().filter(|((_, key), _)| keys.contains(key));
        these
            .map(|((dataset, key), r)| {
                dump_line(
                    dataset,
                    key,
                    &Stored {
                        version: 0,
                        ..r.clone()
                    },
                )
            })
            .collect()
    }

    /// What ordinary use of the system shows of a value.
    pub fn in_ordinary_use(&self, value: &str) -> bool {
        let hides = |r: &Stored| r.restricted && !self.is(Fault::RestrictsInNameOnly);
        self.world()
            .records
            .values()
            .any(|r| !hides(r) && r.identifiers.iter().any(|i| i.value == value))
    }

    /// The next instruction takes effect and its answer is lost.
    pub fn crash_after_next_effect(&self) {
        *lock(&self.crash) = true;
    }

    fn is(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn leak(&self, said: &str) -> String {
        if self.is(Fault::LeaksIdentifier) {
            format!("cannot understand {said}")
        } else {
            "not understood".to_owned()
        }
    }

    /// The selected records that are there.
    fn selected(&self, world: &World, dataset: &DatasetName, selector: &Selector) -> Vec<RecordId> {
        if self.is(Fault::EmptyMeansAll) && selector.records.is_empty() {
            return world
                .records
                .keys()
                .filter(|(d, _)| d == dataset)
                .cloned()
                .collect();
        }
        let id = |record: &Selected| (dataset.clone(), record.handle.clone());
        let mut ids: Vec<RecordId> = selector
            .records
            .iter()
            .map(id)
            .filter(|id| world.records.contains_key(id))
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    fn act(&self, world: &mut World, ask: &Ask) -> Performed {
        let asked: Vec<RecordId> = ask
            .selector
            .records
            .iter()
            .map(|r| (ask.dataset.clone(), r.handle.clone()))
            .collect();
        let newest = asked.iter().filter_map(|id| world.generations.get(id)).max();
        let lifts_newer = self.is(Fault::LiftsNewer) && ask.verb == Verb::Lift;
        if newest.is_some_and(|newest| *newest > ask.generation)
            && !self.is(Fault::AcceptsStale)
            && !lifts_newer
        {
            let reason = "a newer instruction was carried out already".to_owned();
            return Performed::Refused {
                code: "kit-memory",
                reason,
            };
        }
        let ids = self.selected(world, &ask.dataset, &ask.selector);
        for id in &ids {
            self.act_on(world, ask.verb, id);
        }
        for id in asked {
            world.generations.insert(id, ask.generation);
        }
        if self.is(Fault::TouchesBystander)
            && let Some((_, other)) = world.records.iter_mut().find(|(id, _)| !ids.contains(id))
        {
            other.version += 1;
        }
        let outcome = match ask.verb {
            _ if ids.is_empty() => Outcome::NotFound,
            Verb::Erase => Outcome::Erased,
            Verb::Restrict => Outcome::Restricted,
            _ => Outcome::Lifted,
        };
        let short = self.is(Fault::CountsLiftShort) && ask.verb == Verb::Lift;
        let records = (ids.len() as u64).saturating_sub(u64::from(short));
        let details = BTreeMap::from([(ask.dataset.to_string(), records)]);
        Performed::Done(Receipt {
            outcome,
            records,
            details,
        })
    }

    fn act_on(&self, world: &mut World, verb: Verb, id: &RecordId) {
        if verb == Verb::Erase {
            lock(&self.erased).insert(id.clone());
            if self.is(Fault::SaysErasedButDoesNot) {
                return;
            }
            world.records.remove(id);
        } else if let Some(record) = world.records.get_mut(id) {
            record.restricted = verb == Verb::Restrict;
            record.version += 1;
            if verb == Verb::Lift && self.is(Fault::LosesPlace) {
                record.identifiers.reverse();
            }
        }
        world.changes.push(id.clone());
    }

    fn observation(&self, world: &World, id: &RecordId) -> Observation {
        let identifiers = world
            .records
            .get(id)
            .map(|r| r.identifiers.clone())
            .unwrap_or_default();
        let gone = identifiers.is_empty();
        Observation {
            dataset: id.0.clone(),
            key: id.1.clone(),
            unit: None,
            handle: id.1.clone(),
            identifiers,
            count: u64::from(!gone),
            gone,
        }
    }
}

fn dump_line(dataset: &DatasetName, key: &str, record: &Stored) -> String {
    let values: Vec<&str> = record.identifiers.iter().map(|i| i.value.as_str()).collect();
    format!(
        "{dataset} {key} {} {} {}\n",
        values.join(" "),
        record.restricted,
        record.version
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn manifest(system: SystemName, dataset: DatasetName, shard: ShardName) -> Manifest {
    Manifest {
        system,
        kind: "memory",
        version: env!("CARGO_PKG_VERSION"),
        datasets: vec![DatasetManifest {
            name: dataset,
            unit: "a contact".to_owned(),
            verbs: vec![
                Verb::Locate,
                Verb::Observe,
                Verb::Export,
                Verb::Erase,
                Verb::Restrict,
                Verb::Lift,
            ],
            categories: vec![DataCategory::EmailAddress, DataCategory::TelephoneNumber],
            purpose: Purpose::CustomerSupport,
            basis: LegalBasis::LegitimateInterest,
            keeps: Vec::new(),
            after: Vec::new(),
            proves_identity: true,
            settle_ms: 0,
            lead_ms: 0,
        }],
        shards: vec![shard],
        locates_by: [
            IdentifierKind::Email,
            IdentifierKind::Phone,
            IdentifierKind::UserId,
            IdentifierKind::ContactId,
        ]
        .map(IssuedKind::from)
        .to_vec(),
        detects_repeats: true,
        independence: Independence::SeparateConnection,
        concurrency_max: 4,
        pace_ms: 0,
        timeout_ms: TIMEOUT_MS,
        backup_days: None,
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        if self.is(Fault::CheckTouches) {
            self.world()
                .records
                .values_mut()
                .for_each(|record| record.version += 1);
        }
        Ok(vec![Finding {
            what: "memory".to_owned(),
            ok: true,
            detail: "there".to_owned(),
        }])
    }

    async fn feed(&self, shard: &ShardName, cursor: Option<&str>, limit: usize) -> Result<FeedPage, Error> {
        if !self.manifest.shards.contains(shard) {
            return Err(Error::Permanent {
                code: "kit-memory",
                reason: self.leak(shard.as_str()),
            });
        }
        let text = cursor.unwrap_or("0");
        let number = text.split(' ').next().unwrap_or_default();
        let from: usize = number.parse().map_err(|_| Error::Permanent {
            code: "kit-memory",
            reason: self.leak(text),
        })?;
        let world = self.world();
        let limit = if self.is(Fault::UnboundedPages) {
            usize::MAX
        } else {
            limit.max(1)
        };
        let to = from.saturating_add(limit).min(world.changes.len());
        let changed: BTreeSet<&RecordId> = world.changes.get(from..to).unwrap_or_default().iter().collect();
        let mut observations: Vec<Observation> =
            changed.iter().map(|id| self.observation(&world, id)).collect();
        if self.is(Fault::KeepsSilentAboutGone) {
            observations.retain(|o| !o.gone);
        }
        let read_before = cursor.is_some() && !lock(&self.read).insert(from) && self.is(Fault::ConsumesFeed);
        if read_before || (cursor.is_some() && self.is(Fault::NeverFollows)) {
            observations.clear();
        }
        let mut cursor = to.max(from).to_string();
        if let Some(id) = changed.last().filter(|_| self.is(Fault::KeyInCursor)) {
            cursor = format!("{cursor} {}", id.1);
        }
        let (done, total) = (to as u64, world.changes.len() as u64);
        let more = done < total;
        Ok(FeedPage {
            observations,
            rejected: Vec::new(),
            cursor,
            more,
            progress: Some((done, total)),
        })
    }

    async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, Error> {
        let text = page.0.unwrap_or_else(|| "0".to_owned());
        let skip: usize = text.parse().map_err(|_| Error::Permanent {
            code: "kit-memory",
            reason: self.leak(&text),
        })?;
        let world = self.world();
        let wanted =
            |i: &Identifier| i.kind.strength() != Strength::Shared && selector.identifiers.contains(i);
        let depth = if self.is(Fault::FindsByFirstOnly) {
            1
        } else {
            usize::MAX
        };
        let found: Vec<&RecordId> = world
            .records
            .iter()
            .filter(|(_, r)| r.identifiers.iter().take(depth).any(wanted))
            .map(|(id, _)| id)
            .collect();
        let mut observations: Vec<Observation> = found
            .iter()
            .skip(skip)
            .take(PAGE_RECORDS)
            .map(|id| self.observation(&world, id))
            .collect();
        if self.is(Fault::DropsIdentifier) {
            observations.iter_mut().for_each(|o| drop(o.identifiers.pop()));
        }
        let next = skip + observations.len();
        Ok(Located {
            next: (next < found.len()).then(|| next.to_string()),
            observations,
        })
    }

    async fn perform(&self, ask: &Ask) -> Result<Performed, Error> {
        let mut world = self.world();
        if let Some(receipt) = world
            .instructions
            .get(&ask.id)
            .filter(|_| !self.is(Fault::ActsTwice))
        {
            return Ok(Performed::Done(receipt.clone()));
        }
        if ask.dataset.as_str() != "contacts" {
            return Ok(Performed::Refused {
                code: "kit-memory",
                reason: self.leak(ask.dataset.as_str()),
            });
        }
        let cannot = self.is(Fault::ManifestLies) && ask.verb == Verb::Restrict;
        if cannot || !matches!(ask.verb, Verb::Erase | Verb::Restrict | Verb::Lift) {
            return Ok(Performed::Refused {
                code: "kit-memory",
                reason: "cannot do that".to_owned(),
            });
        }
        if self.is(Fault::UnknownHandleIsError)
            && self.selected(&world, &ask.dataset, &ask.selector).len() < ask.selector.records.len()
        {
            return Err(Error::Permanent {
                code: "kit-memory",
                reason: "no such record".to_owned(),
            });
        }
        let performed = self.act(&mut world, ask);
        let crash = std::mem::take(&mut *lock(&self.crash));
        if let Performed::Done(receipt) = &performed
            && !(crash && self.is(Fault::RemembersTooLate))
        {
            world.instructions.insert(ask.id, receipt.clone());
        }
        if crash {
            return Err(Error::Unknown {
                code: "kit-memory",
                reason: "the answer was lost".to_owned(),
            });
        }
        Ok(performed)
    }

    async fn poll(&self, ask: &Ask, _ticket: &str) -> Result<Performed, Error> {
        let receipt = self.world().instructions.get(&ask.id).cloned();
        let reason = || "it was not carried out".to_owned();
        receipt.map(Performed::Done).ok_or_else(|| Error::Transient {
            code: "kit-memory",
            reason: reason(),
        })
    }

    async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Error> {
        let world = self.world();
        let wanted =
            |i: &Identifier| i.kind.strength() == Strength::Strong && selector.identifiers.contains(i);
        let is_selected = |id: &RecordId| selector.records.iter().any(|r| r.handle == id.1);
        let mut seen: BTreeMap<&RecordId, &Stored> = world
            .records
            .iter()
            .filter(|(id, r)| id.0 == *dataset && (is_selected(id) || r.identifiers.iter().any(wanted)))
            .collect();
        if self.is(Fault::ObserveLiesToo) || self.is(Fault::ObservesFromMemory) {
            let erased = lock(&self.erased);
            seen.retain(|id, _| !erased.contains(*id));
        }
        let observed = if seen.is_empty() {
            Seen::Absent
        } else if seen.values().all(|r| r.restricted) {
            Seen::Restricted
        } else {
            Seen::Present
        };
        let absent = |r: &&Selected| !seen.keys().any(|id| id.1 == r.handle);
        let mut gone: Vec<_> = selector
            .records
            .iter()
            .filter(absent)
            .map(|r| (dataset.clone(), r.handle.clone()))
            .collect();
        if self.is(Fault::KeepsSilentAboutGone) {
            gone.clear();
        }
        Ok(Observed {
            observed,
            records: seen.len() as u64,
            independence: self.manifest.independence,
            gone,
        })
    }

    async fn export(
        &self,
        selector: &Selector,
        _page: Page,
    ) -> Result<(Vec<serde_json::Value>, Page), Error> {
        let world = self.world();
        let wanted = |r: &Stored| r.identifiers.iter().any(|i| selector.identifiers.contains(i));
        let values = |r: &Stored| {
            r.identifiers
                .iter()
                .map(|i| (i.name(), i.value.clone()))
                .collect::<Vec<_>>()
        };
        let values = |r: &Stored| {
            let mut values = values(r);
            if self.is(Fault::ExportsHalf) {
                values.pop();
            }
            values
        };
        let found = world.records.values().filter(|r| wanted(r));
        Ok((
            found
                .map(|r| serde_json::json!({ "identifiers": values(r) }))
                .collect(),
            Page::default(),
        ))
    }
}
