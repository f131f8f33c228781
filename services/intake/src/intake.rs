//! Taking pages in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lethe_journal::{
    CursorAdvanced, Entry, ErasedMark, Event, KeyWrapped, Kind, Position, RecordSecret, Sealed, Stream,
};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::EventLog;
use lethe_terms::{CaseId, EntryId, Identifier, RecordToken, ShardName, Strength, SystemName, Timestamp};
use lethe_vault::{DataKey, KeyVault, Normaliser, TokenKeys, open_json, record_context};

use crate::Error;
use crate::inputs::Inputs;
use crate::outgoing::Batch;
use crate::page::{Maker, Naming, Read, oversize, read_for};
use crate::suppression::{Finding, Suppressed};

/// Records that were appended and may not be folded yet: beyond that intake waits for the fold.
const RECENT_MAX: usize = 20_000;

/// What is known of records: the fold of `records` and `keys`, which lags a little behind what intake appends.
#[async_trait]
pub trait Known: Send + Sync {
    /// Those of the records that are known.
    ///
    /// # Errors
    /// [`Error::Known`] where rows cannot be read, [`Error::Lagging`] where a fold cannot be asked or has not come as far as it had when
    /// [`Known::settled`] last returned.
    async fn known(&self, records: &[RecordToken]) -> Result<BTreeMap<RecordToken, KnownRecord>, Error>;

    /// Returns once everything that was appended before is folded; whether it did in time.
    async fn settled(&self) -> bool;
}

/// What is known of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRecord {
    /// Digest of the state in which it was last observed.
    pub digest: String,
    /// Its wrapped data key.
    pub key: Option<KeyWrapped>,
}

/// The shell's clock and randomness.
#[derive(Debug, Clone, Copy)]
pub struct Shell {
    /// Now.
    pub now: fn() -> Timestamp,
    /// A fresh entry id.
    pub id: fn() -> EntryId,
}

/// What became of a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// Records that were new or changed.
    pub appended: usize,
    /// Records that were known as they are.
    pub known: usize,
    /// Records that are gone.
    pub gone: usize,
    /// Inputs that went to quarantine.
    pub quarantined: usize,
    /// Data of erased people that came back.
    pub findings: Vec<Finding>,
}

/// What became of records that were found by identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// Each record, and whether it was known before.
    pub records: Vec<(RecordToken, bool)>,
    /// Data of erased people that came back.
    pub findings: Vec<Finding>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records that were new or changed.
    pub appended: u64,
    /// Records that were known as they are.
    pub known: u64,
    /// Records that are gone.
    pub gone: u64,
    /// Inputs that went to quarantine.
    pub quarantined: u64,
    /// Data of erased people that came back.
    pub findings: u64,
}

#[derive(Default)]
struct Counts {
    appended: AtomicU64,
    known: AtomicU64,
    gone: AtomicU64,
    quarantined: AtomicU64,
    findings: AtomicU64,
}

/// How observations came.
enum Why {
    /// From a feed that was read after this mark.
    Fed { mark: u64 },
    /// They were found by these identifiers, in their one spelling.
    Located { sought: BTreeSet<Identifier> },
}

/// A record as it was last appended: its digest and its key, where that is known; nothing where it is gone.
pub(crate) type Last = Option<(String, Option<KeyWrapped>)>;

/// What was appended and may not be folded yet.
#[derive(Default)]
pub(crate) struct Recent {
    pub(crate) records: BTreeMap<RecordToken, Last>,
    /// Whether an append ended without saying what is stored: the fold has to catch up before anything is known again.
    pub(crate) unsure: bool,
    /// Up to where entries were put away by then: a later one may have taken the place of what was appended.
    put_away: Position,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) cursors: BTreeMap<String, String>,
    pub(crate) suppressed: Suppressed,
    pub(crate) positions: BTreeMap<Stream, Position>,
    /// Up to where the marks of other processes were read.
    pub(crate) followed: Position,
    /// How often records of a system were ended.
    ended: BTreeMap<SystemName, u64>,
}

/// Takes observations in. One page at a time, so that what is known is never older than what was appended.
pub struct Intake {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) vault: Arc<dyn KeyVault>,
    pub(crate) naming: Naming,
    known: Arc<dyn Known>,
    pub(crate) inputs: Arc<dyn Inputs>,
    shell: Shell,
    state: Mutex<State>,
    pub(crate) recent: tokio::sync::Mutex<Recent>,
    counts: Counts,
}

impl Intake {
    /// An intake; [`Intake::recover`] comes first.
    pub fn new(
        log: Arc<dyn EventLog>,
        vault: Arc<dyn KeyVault>,
        normaliser: Normaliser,
        known: Arc<dyn Known>,
        inputs: Arc<dyn Inputs>,
        shell: Shell,
    ) -> Self {
        Self {
            naming: Naming {
                keys: vault.tokens(),
                normaliser,
            },
            log,
            vault,
            known,
            inputs,
            shell,
            state: Mutex::default(),
            recent: tokio::sync::Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes tokens as this intake does.
    pub fn tokens(&self) -> &TokenKeys {
        &self.naming.keys
    }

    /// The identifier in its one spelling.
    ///
    /// # Errors
    /// Where the value is not of its kind.
    pub fn normalised(&self, identifier: &Identifier) -> Result<Identifier, Error> {
        self.naming.normaliser.normalise(identifier).map_err(Error::Vault)
    }

    /// How far a shard was read.
    ///
    /// # Errors
    /// None at present; a remote intake would have to ask.
    pub fn cursor(&self, system: &SystemName, shard: &ShardName) -> Result<Option<String>, Error> {
        Ok(self.state().cursors.get(&cursor_key(system, shard)).cloned())
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            appended: read(&self.counts.appended),
            known: read(&self.counts.known),
            gone: read(&self.counts.gone),
            quarantined: read(&self.counts.quarantined),
            findings: read(&self.counts.findings),
        }
    }

    /// Where the folds of `cursors` and `erased` stand, by partition.
    pub fn positions(&self, stream: &Stream) -> BTreeMap<u16, Position> {
        self.state()
            .positions
            .get(stream)
            .map_or_else(BTreeMap::new, |position| BTreeMap::from([(0, *position)]))
    }

    /// Opens what a record's entry keeps sealed.
    ///
    /// # Errors
    /// Where the key does not open it.
    pub fn open_record(
        &self,
        record: RecordToken,
        wrapped: &KeyWrapped,
        secret: &Sealed,
    ) -> Result<RecordSecret, Error> {
        let key = self.vault.unwrap(wrapped).map_err(Error::Vault)?;
        open_json(&key, &record_context(record), secret).map_err(Error::Vault)
    }

    /// Marks the moment before a page of a system is read: [`Intake::publish`] refuses a page that was read before a record of the system was
    /// ended, since it may show what is not there any more.
    pub fn mark(&self, system: &SystemName) -> u64 {
        self.state().ended.get(system).copied().unwrap_or(0)
    }

    /// Takes the records of a page in. What it finds is handed on before [`Intake::advance`] moves the cursor.
    ///
    /// # Errors
    /// [`Error::Stale`] where the page is to be read again; otherwise where it could not be taken, or where that is unknown: the same page
    /// again changes nothing.
    pub async fn publish(&self, system: &SystemName, mark: u64, page: &FeedPage) -> Result<Published, Error> {
        let (published, _) = self
            .take(
                system,
                Why::Fed { mark },
                page.observations.clone(),
                &page.rejected,
            )
            .await?;
        Ok(published)
    }

    /// Moves the cursor of a shard to where a page ended.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn advance(&self, system: &SystemName, shard: &ShardName, cursor: &str) -> Result<(), Error> {
        let name = cursor_key(system, shard);
        if self
            .state()
            .cursors
            .get(&name)
            .is_some_and(|known| known == cursor)
        {
            return Ok(());
        }
        let advanced = CursorAdvanced {
            system: system.clone(),
            shard: shard.clone(),
            cursor: cursor.to_owned(),
        };
        let entry = self.entry(name.clone().into_bytes(), advanced)?;
        let next = self.append(&Stream::Cursors, 0, vec![entry]).await?;
        let mut state = self.state();
        state.positions.insert(Stream::Cursors, next);
        state.cursors.insert(name, cursor.to_owned());
        Ok(())
    }

    /// Takes the cursor of a shard back: it is read from its beginning, and compared with what the fold knows.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn begin_anew(&self, system: &SystemName, shard: &ShardName) -> Result<(), Error> {
        self.recent.lock().await.unsure = true;
        let name = cursor_key(system, shard);
        if !self.state().cursors.contains_key(&name) {
            return Ok(());
        }
        let ended = self.maker().ended(name.clone().into_bytes());
        let next = self.append(&Stream::Cursors, 0, vec![ended]).await?;
        let mut state = self.state();
        state.positions.insert(Stream::Cursors, next);
        state.cursors.remove(&name);
        Ok(())
    }

    /// Takes in what was found by these identifiers.
    ///
    /// # Errors
    /// [`Error::Oversize`] where a record that was found cannot be named; otherwise as [`Intake::publish`].
    pub async fn publish_located(
        &self,
        system: &SystemName,
        sought: &[Identifier],
        observations: Vec<Observation>,
    ) -> Result<Located, Error> {
        if observations.iter().any(|one| oversize(one).is_some()) {
            return Err(Error::Oversize);
        }
        let normalised = sought.iter().filter_map(|one| self.normalised(one).ok());
        let why = Why::Located {
            sought: normalised.collect(),
        };
        let (Published { findings, .. }, records) = self.take(system, why, observations, &[]).await?;
        Ok(Located { records, findings })
    }

    /// Ends records that were observed absent.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn gone_records(&self, system: &SystemName, records: &[RecordToken]) -> Result<(), Error> {
        let mut recent = self.recent.lock().await;
        self.be_sure(&mut recent, 0).await?;
        *self.state().ended.entry(system.clone()).or_default() += 1;
        let known = self.known_of(&recent, records).await?;
        let maker = self.maker();
        let (mut batch, mut ended) = (Batch::default(), 0);
        for record in records {
            let last = last_of(&recent, &batch.staged, &known, *record);
            ended += u64::from(last.is_some());
            self.end(&maker, *record, last, &mut batch)?;
        }
        self.send(system, &mut batch, &mut recent).await?;
        self.counts.gone.fetch_add(ended, Ordering::Relaxed);
        Ok(())
    }

    /// Remembers that a person was erased.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn mark_erased(
        &self,
        case: CaseId,
        identifiers: &[Identifier],
        until: Timestamp,
    ) -> Result<(), Error> {
        let strong = identifiers
            .iter()
            .filter(|identifier| identifier.kind.strength() == Strength::Strong);
        let marks: Vec<_> = strong
            .map(|identifier| self.naming.keys.suppression(identifier))
            .collect();
        if marks.is_empty() {
            return Ok(());
        }
        let mark = ErasedMark { case, until };
        let entries: Result<Vec<_>, _> = marks
            .iter()
            .map(|token| self.entry(token.as_bytes().to_vec(), mark.clone()))
            .collect();
        let next = self.append(&Stream::Erased, 0, entries?).await?;
        let mut state = self.state();
        state.positions.insert(Stream::Erased, next);
        for token in marks {
            state.suppressed.set(token, Some(mark.clone()));
        }
        Ok(())
    }

    /// Ends a record that is known. Of one that is not, something may stand in the log under its name that can be no entry: that ends, too.
    fn end(
        &self,
        maker: &Maker<'_>,
        record: RecordToken,
        last: Last,
        batch: &mut Batch,
    ) -> Result<(), Error> {
        if last.is_none() && !self.inputs.may_have_displaced() {
            return Ok(());
        }
        let key = last.and_then(|(_, key)| key);
        maker.gone(record, key.as_ref(), &mut batch.out)?;
        batch.staged.insert(record, None);
        Ok(())
    }

    pub(crate) fn maker(&self) -> Maker<'_> {
        Maker {
            vault: &*self.vault,
            keys: &self.naming.keys,
            inputs: &*self.inputs,
            now: (self.shell.now)(),
            id: self.shell.id,
        }
    }

    fn entry<T: Kind>(&self, key: Vec<u8>, data: T) -> Result<Entry, Error> {
        let id = (self.shell.id)();
        let event = Event {
            id,
            source: "/lethe/intake",
            time: (self.shell.now)(),
            data,
        };
        Ok(Entry {
            id,
            key,
            value: Some(event.encode().map_err(Error::Journal)?),
        })
    }

    /// What the fold knows of those records that were not appended since it was last waited for.
    pub(crate) async fn known_of(
        &self,
        recent: &Recent,
        records: &[RecordToken],
    ) -> Result<BTreeMap<RecordToken, KnownRecord>, Error> {
        let asked: BTreeSet<_> = records
            .iter()
            .filter(|record| !recent.records.contains_key(record))
            .copied()
            .collect();
        let asked: Vec<_> = asked.into_iter().collect();
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.known.known(&asked).await
    }

    /// Waits for the fold where what was appended is unsure, or is too much to remember.
    pub(crate) async fn be_sure(&self, recent: &mut Recent, more: usize) -> Result<(), Error> {
        let full = recent.records.len() + more > RECENT_MAX && !recent.records.is_empty();
        let put_away = self.inputs.put_away_behind();
        if recent.unsure || full || put_away != recent.put_away {
            if !self.known.settled().await {
                return Err(Error::Lagging);
            }
            *recent = Recent {
                put_away,
                ..Recent::default()
            };
        }
        Ok(())
    }

    async fn take(
        &self,
        system: &SystemName,
        why: Why,
        observations: Vec<Observation>,
        rejected: &[Rejected],
    ) -> Result<(Published, Vec<(RecordToken, bool)>), Error> {
        let mut recent = self.recent.lock().await;
        // Whom a conductor elsewhere has marked meanwhile: a feed tells of a record that does not change only once.
        self.refresh().await?;
        let sought = match why {
            Why::Fed { mark } if mark != self.mark(system) => return Err(Error::Stale),
            Why::Fed { .. } => BTreeSet::new(),
            Why::Located { sought } => sought,
        };
        self.be_sure(&mut recent, observations.len()).await?;
        let maker = self.maker();
        let (mut batch, mut records) = (Batch::default(), Vec::new());
        let mut fitting = Vec::with_capacity(observations.len());
        for observation in observations {
            match oversize(&observation) {
                Some(refused) => batch.refuse(&maker, system, &refused, None)?,
                None => fitting.push(observation),
            }
        }
        let named: Vec<_> = fitting
            .iter()
            .map(|observation| self.naming.record(system, &observation.name()))
            .collect();
        let known = self.known_of(&recent, &named).await?;
        let mut parts = Vec::new();
        for observation in fitting {
            let (read, unread, part) = read_for(observation, system, &self.naming, &sought);
            parts.extend(part);
            let last = last_of(&recent, &batch.staged, &known, read.record);
            let is_new = last.is_none();
            records.push((read.record, !is_new));
            if let Some(key) = self.take_one(&maker, system, &read, last, &mut batch)? {
                batch.put_away(&maker, system, (&read, key, is_new), &unread)?;
            }
            self.send_if_much(system, &mut batch, &mut recent).await?;
        }
        let named: Vec<_> = parts.iter().map(|part| part.record).collect();
        let known_parts = self.known_of(&recent, &named).await?;
        for part in parts {
            let last = last_of(&recent, &batch.staged, &known_parts, part.record);
            records.push((part.record, last.is_some()));
            self.take_one(&maker, system, &part, last, &mut batch)?;
            self.send_if_much(system, &mut batch, &mut recent).await?;
        }
        let new = records.iter().filter(|(_, known)| !known);
        let new: BTreeSet<_> = new.map(|(record, _)| *record).collect();
        for rejected in rejected {
            let origin = self.origin(system, rejected, &new, |record| {
                last_of(&recent, &batch.staged, &known, record)
            })?;
            batch.refuse(&maker, system, rejected, origin.as_ref())?;
            self.send_if_much(system, &mut batch, &mut recent).await?;
        }
        self.send(system, &mut batch, &mut recent).await?;
        self.counted(&batch.published).await?;
        self.count(&batch.published);
        Ok((batch.published, records))
    }

    /// Takes one record in; its data key where it was new or changed.
    pub(crate) fn take_one(
        &self,
        maker: &Maker<'_>,
        system: &SystemName,
        read: &Read,
        last: Last,
        batch: &mut Batch,
    ) -> Result<Option<DataKey>, Error> {
        if read.observation.gone || read.observation.identifiers.is_empty() {
            batch.published.gone += usize::from(last.is_some());
            self.end(maker, read.record, last, batch)?;
            return Ok(None);
        }
        // Looked up for known records, too: a crash may have come between the record and the finding.
        batch
            .published
            .findings
            .extend(self.findings(system, read, maker.now));
        // Without its key nothing of it can be opened: it is told anew.
        let is_known = |(digest, key): &(String, Option<KeyWrapped>)| *digest == read.digest && key.is_some();
        if last.as_ref().is_some_and(is_known) {
            batch.published.known += 1;
            return Ok(None);
        }
        let (key, wrapped) = maker.observed(read, system, last.and_then(|(_, key)| key), &mut batch.out)?;
        batch
            .staged
            .insert(read.record, Some((read.digest.clone(), Some(wrapped))));
        batch.published.appended += 1;
        Ok(Some(key))
    }

    /// What of a record is of erased people: one finding for each case that had erased one.
    fn findings(&self, system: &SystemName, read: &Read, now: Timestamp) -> Vec<Finding> {
        let erased = self.state().suppressed.erased(
            read.identifiers.iter().chain(&read.beyond),
            &self.naming.keys,
            now,
        );
        let finding = |(of, identifiers)| Finding {
            system: system.clone(),
            dataset: read.observation.dataset.clone(),
            of,
            record: read.record,
            identifiers,
        };
        erased.into_iter().map(finding).collect()
    }

    pub(crate) fn count(&self, published: &Published) {
        let add = |count: &AtomicU64, amount: usize| {
            count.fetch_add(u64::try_from(amount).unwrap_or(u64::MAX), Ordering::Relaxed);
        };
        add(&self.counts.appended, published.appended);
        add(&self.counts.known, published.known);
        add(&self.counts.gone, published.gone);
        add(&self.counts.quarantined, published.quarantined);
        add(&self.counts.findings, published.findings.len());
    }
}

/// The state in which a record was last seen: on this page, in what was appended, or in the fold.
pub(crate) fn last_of(
    recent: &Recent,
    staged: &BTreeMap<RecordToken, Last>,
    known: &BTreeMap<RecordToken, KnownRecord>,
    record: RecordToken,
) -> Last {
    if let Some(last) = staged.get(&record).or_else(|| recent.records.get(&record)) {
        return last.clone();
    }
    let known = known.get(&record)?;
    Some((known.digest.clone(), known.key.clone()))
}

fn cursor_key(system: &SystemName, shard: &ShardName) -> String {
    format!("{system}/{shard}")
}
