//! Taking pages in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lethe_journal::{
    CursorAdvanced, Entry, ErasedMark, Event, KeyWrapped, Kind, Place, Position, RecordSecret, Sealed, Stream,
};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::{APPEND_ENTRIES_MAX, Appended, EventLog, PAGE_ENTRIES_MAX};
use lethe_terms::{
    CaseId, EntryId, Identifier, RecordToken, ShardName, Strength, SuppressionToken, SystemName, Timestamp,
};
use lethe_vault::{KeyVault, Tokens, open_json};

use crate::page::{Maker, Outgoing, Read, read, record_context};
use crate::suppression::{Finding, Suppressed};
use crate::Error;

/// Records that were appended and may not be folded yet: beyond that intake waits for the fold.
const RECENT_MAX: usize = 20_000;

/// What is known of records: the fold of `records` and `keys`, which lags a little behind what intake appends.
#[async_trait]
pub trait Known: Send + Sync {
    /// Digest of the state in which a record was last observed.
    ///
    /// # Errors
    /// Of the store.
    fn digest(&self, record: RecordToken) -> Result<Option<String>, lethe_store::Error>;

    /// The wrapped data key of a record.
    ///
    /// # Errors
    /// Of the store.
    fn wrapped_key(&self, record: RecordToken) -> Result<Option<KeyWrapped>, lethe_store::Error>;

    /// Returns once everything that was appended before is folded; whether it did in time.
    async fn settled(&self) -> bool;
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

/// A record that was appended and may not be folded yet; nothing where it is gone.
type Recent = Option<(String, KeyWrapped)>;

#[derive(Default)]
struct State {
    cursors: BTreeMap<String, String>,
    suppressed: Suppressed,
    positions: BTreeMap<Stream, Position>,
}

/// Takes observations in. One page at a time, so that what is known is never older than what was appended.
pub struct Intake {
    log: Arc<dyn EventLog>,
    vault: Arc<dyn KeyVault>,
    tokens: Tokens,
    known: Arc<dyn Known>,
    shell: Shell,
    state: Mutex<State>,
    recent: tokio::sync::Mutex<BTreeMap<RecordToken, Recent>>,
    counts: Counts,
}

impl Intake {
    /// An intake; [`Intake::recover`] comes first.
    pub fn new(
        log: Arc<dyn EventLog>,
        vault: Arc<dyn KeyVault>,
        tokens: Tokens,
        known: Arc<dyn Known>,
        shell: Shell,
    ) -> Self {
        Self {
            log,
            vault,
            tokens,
            known,
            shell,
            state: Mutex::default(),
            recent: tokio::sync::Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Folds `cursors` and `erased`.
    ///
    /// # Errors
    /// Of the log, and where an entry cannot be read.
    pub async fn recover(&self) -> Result<(), Error> {
        for (key, value) in self.table::<CursorAdvanced>(&Stream::Cursors).await? {
            let name = String::from_utf8_lossy(&key).into_owned();
            if let Some(advanced) = value {
                self.state().cursors.insert(name, advanced.cursor);
            }
        }
        for (key, value) in self.table::<ErasedMark>(&Stream::Erased).await? {
            if let Ok(token) = <[u8; 16]>::try_from(key.as_slice()) {
                self.state().suppressed.set(SuppressionToken::from_bytes(token), value);
            }
        }
        Ok(())
    }

    async fn table<T: Kind>(&self, stream: &Stream) -> Result<Vec<(Vec<u8>, Option<T>)>, Error> {
        let at = Place::new(stream.clone(), 0);
        let (mut rows, mut from) = (Vec::new(), 0);
        loop {
            let page = self.log.read(&at, from, PAGE_ENTRIES_MAX).await.map_err(Error::Log)?;
            for stored in page.entries {
                let value = stored.entry.value.map(|value| Event::<T>::decode(&value)).transpose();
                rows.push((stored.entry.key, value.map_err(Error::Journal)?.map(|event| event.data)));
            }
            from = page.next;
            if from >= page.head {
                self.state().positions.insert(stream.clone(), from);
                return Ok(rows);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes tokens as this intake does.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
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
        self.state().positions.get(stream).map_or_else(BTreeMap::new, |position| BTreeMap::from([(0, *position)]))
    }

    /// Opens what a record's entry keeps sealed.
    ///
    /// # Errors
    /// Where the key does not open it.
    pub fn open_record(&self, record: RecordToken, wrapped: &KeyWrapped, secret: &Sealed) -> Result<RecordSecret, Error> {
        let key = self.vault.unwrap(wrapped).map_err(Error::Vault)?;
        open_json(&key, &record_context(record), secret).map_err(Error::Vault)
    }

    /// Takes a page of a shard in, with the cursor that it reaches.
    ///
    /// # Errors
    /// Where it could not be taken, or where that is unknown: the same page again changes nothing.
    pub async fn publish(&self, system: &SystemName, shard: &ShardName, page: FeedPage) -> Result<Published, Error> {
        let (published, _) = self.take(system, page.observations, &page.rejected).await?;
        let name = cursor_key(system, shard);
        if self.state().cursors.get(&name) != Some(&page.cursor) {
            let advanced =
                CursorAdvanced { system: system.clone(), shard: shard.clone(), cursor: page.cursor.clone() };
            let entry = self.entry(name.clone().into_bytes(), advanced)?;
            let next = self.append(&Stream::Cursors, 0, vec![entry]).await?;
            let mut state = self.state();
            state.positions.insert(Stream::Cursors, next);
            state.cursors.insert(name, page.cursor);
        }
        Ok(published)
    }

    /// Takes in what locating found; whether each record was known before.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn publish_located(
        &self,
        system: &SystemName,
        observations: Vec<Observation>,
    ) -> Result<Vec<(RecordToken, bool)>, Error> {
        self.take(system, observations, &[]).await.map(|(_, records)| records)
    }

    /// Ends records that were observed absent.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn gone_records(&self, _system: &SystemName, records: &[RecordToken]) -> Result<(), Error> {
        let mut recent = self.recent.lock().await;
        let maker = self.maker();
        let mut out = Outgoing::default();
        let mut ended = 0;
        for record in records {
            if self.last_of(&recent, *record)?.is_some() {
                maker.gone(*record, &mut out);
                recent.insert(*record, None);
                ended += 1;
            }
        }
        let touched: Vec<_> = records.to_vec();
        self.send(out, &mut recent, &touched).await?;
        self.counts.gone.fetch_add(ended, Ordering::Relaxed);
        Ok(())
    }

    /// Remembers that a person was erased.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn mark_erased(&self, case: CaseId, identifiers: &[Identifier], until: Timestamp) -> Result<(), Error> {
        let strong = identifiers.iter().filter(|identifier| identifier.kind.strength() == Strength::Strong);
        let marks: Vec<_> = strong.map(|identifier| self.tokens.suppression(identifier)).collect();
        if marks.is_empty() {
            return Ok(());
        }
        let mark = ErasedMark { case, until };
        let entries: Result<Vec<_>, _> =
            marks.iter().map(|token| self.entry(token.as_bytes().to_vec(), mark.clone())).collect();
        let next = self.append(&Stream::Erased, 0, entries?).await?;
        let mut state = self.state();
        state.positions.insert(Stream::Erased, next);
        for token in marks {
            state.suppressed.set(token, Some(mark.clone()));
        }
        Ok(())
    }

    fn maker(&self) -> Maker<'_> {
        Maker { vault: &*self.vault, tokens: &self.tokens, now: (self.shell.now)(), id: self.shell.id }
    }

    fn entry<T: Kind>(&self, key: Vec<u8>, data: T) -> Result<Entry, Error> {
        let id = (self.shell.id)();
        let event = Event { id, source: "/lethe/intake", time: (self.shell.now)(), data };
        Ok(Entry { id, key, value: Some(event.encode().map_err(Error::Journal)?) })
    }

    /// The state in which a record was last seen, here or in the fold.
    fn last_of(&self, recent: &BTreeMap<RecordToken, Recent>, record: RecordToken) -> Result<Recent, Error> {
        if let Some(recent) = recent.get(&record) {
            return Ok(recent.clone());
        }
        let Some(digest) = self.known.digest(record).map_err(Error::Known)? else { return Ok(None) };
        let wrapped = self.known.wrapped_key(record).map_err(Error::Known)?;
        Ok(wrapped.map(|wrapped| (digest, wrapped)))
    }

    async fn take(
        &self,
        system: &SystemName,
        observations: Vec<Observation>,
        rejected: &[Rejected],
    ) -> Result<(Published, Vec<(RecordToken, bool)>), Error> {
        let mut recent = self.recent.lock().await;
        if recent.len() + observations.len() > RECENT_MAX && !recent.is_empty() {
            if !self.known.settled().await {
                return Err(Error::Lagging);
            }
            recent.clear();
        }
        let maker = self.maker();
        let (mut out, mut published, mut records) = (Outgoing::default(), Published::default(), Vec::new());
        for observation in observations {
            let (read, unreadable) = read(observation, system, &self.tokens);
            for rejected in &unreadable {
                maker.quarantined(rejected, system, &mut out)?;
            }
            published.quarantined += unreadable.len();
            let was_known = self.take_one(&maker, system, &read, &mut recent, &mut out, &mut published)?;
            records.push((read.record, was_known));
        }
        for rejected in rejected {
            maker.quarantined(rejected, system, &mut out)?;
        }
        published.quarantined += rejected.len();
        let touched: Vec<_> = records.iter().map(|(record, _)| *record).collect();
        self.send(out, &mut recent, &touched).await?;
        self.count(&published);
        Ok((published, records))
    }

    fn take_one(
        &self,
        maker: &Maker<'_>,
        system: &SystemName,
        read: &Read,
        recent: &mut BTreeMap<RecordToken, Recent>,
        out: &mut Outgoing,
        published: &mut Published,
    ) -> Result<bool, Error> {
        let last = self.last_of(recent, read.record)?;
        if read.observation.gone {
            if last.is_some() {
                maker.gone(read.record, out);
                recent.insert(read.record, None);
                published.gone += 1;
            }
            return Ok(last.is_some());
        }
        let was_known = last.is_some();
        if last.as_ref().is_some_and(|(digest, _)| *digest == read.digest) {
            published.known += 1;
            return Ok(was_known);
        }
        let wrapped = maker.observed(read, system, last.map(|(_, wrapped)| wrapped), out)?;
        recent.insert(read.record, Some((read.digest.clone(), wrapped)));
        published.appended += 1;
        let erased = self.state().suppressed.case_of(&read.identifiers, &self.tokens, maker.now);
        if let Some(of) = erased {
            published.findings.push(Finding {
                system: system.clone(),
                dataset: read.observation.dataset.clone(),
                of,
                identifiers: read.identifiers.clone(),
            });
        }
        Ok(was_known)
    }

    /// Appends in the order in which a reader may need it. Where anything fails, what was noted as appended is forgotten.
    async fn send(
        &self,
        out: Outgoing,
        recent: &mut BTreeMap<RecordToken, Recent>,
        touched: &[RecordToken],
    ) -> Result<(), Error> {
        let sent = async {
            self.append_all(&Stream::Keys, out.new_keys).await?;
            self.append_all(&Stream::Records, out.records).await?;
            self.append_all(&Stream::Keys, out.gone_keys).await?;
            self.append_all(&Stream::Quarantine, BTreeMap::from([(0, out.quarantine)])).await
        };
        let sent = sent.await;
        if sent.is_err() {
            for record in touched {
                recent.remove(record);
            }
        }
        sent
    }

    async fn append_all(&self, stream: &Stream, partitions: BTreeMap<u16, Vec<Entry>>) -> Result<(), Error> {
        let appends = partitions
            .into_iter()
            .filter(|(_, entries)| !entries.is_empty())
            .map(|(partition, entries)| self.append(stream, partition, entries));
        futures::future::try_join_all(appends).await.map(drop)
    }

    async fn append(&self, stream: &Stream, partition: u16, entries: Vec<Entry>) -> Result<Position, Error> {
        let at = Place::new(stream.clone(), partition);
        let mut entries = entries;
        let mut reached = 0;
        while !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(APPEND_ENTRIES_MAX));
            match self.log.append(&at, None, entries).await.map_err(Error::Log)? {
                Appended::At { next, .. } => reached = next,
                Appended::StaleEpoch { .. } => return Err(Error::Fenced { stream: stream.to_string() }),
            }
            entries = rest;
        }
        Ok(reached)
    }

    fn count(&self, published: &Published) {
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

fn cursor_key(system: &SystemName, shard: &ShardName) -> String {
    format!("{system}/{shard}")
}
