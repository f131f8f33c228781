//! A log in memory, a fold that lags until it is waited for, and a log that fails where it hurts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lethe_intake::{Error, Inputs, Intake, Known, KnownRecord, Shell, open_input, records_of};
use lethe_journal::{Entry, Epoch, Event, KeyWrapped, Place, Position, Quarantined, RecordObserved, Stream};
use lethe_kit::{FeedPage, Observation};
use lethe_log::{Appended, EventLog, GoneBy, MemoryLog, Page};
use lethe_terms::{EntryId, Identifier, IdentifierKind, RecordToken, Timestamp};
use lethe_vault::{MemoryVault, Normaliser, SeededEntropy};

/// The fold of `records` and `keys`: stands still until somebody waits for it, as a real one may.
pub(crate) struct Fold {
    log: MemoryLog,
    rows: Mutex<BTreeMap<RecordToken, String>>,
    keys: Mutex<BTreeMap<RecordToken, KeyWrapped>>,
}

pub(crate) async fn newest<T: lethe_journal::Kind>(log: &MemoryLog, stream: &Stream) -> BTreeMap<Vec<u8>, T> {
    let mut newest = BTreeMap::new();
    for at in Place::all(stream) {
        for stored in log.read(&at, 0, 4_096).await.unwrap().entries {
            match stored.entry.value {
                Some(value) => newest.insert(stored.entry.key, Event::<T>::decode(&value).unwrap().data),
                None => newest.remove(&stored.entry.key),
            };
        }
    }
    newest
}

pub(crate) fn token(key: &[u8]) -> RecordToken {
    RecordToken::from_bytes(key.try_into().unwrap())
}

#[async_trait]
impl Known for Fold {
    async fn known(&self, records: &[RecordToken]) -> Result<BTreeMap<RecordToken, KnownRecord>, Error> {
        let (rows, keys) = (self.rows.lock().unwrap(), self.keys.lock().unwrap());
        let known = |record: &RecordToken| {
            let (digest, key) = (rows.get(record)?.clone(), keys.get(record).cloned());
            Some((*record, KnownRecord { digest, key }))
        };
        Ok(records.iter().filter_map(known).collect())
    }

    async fn settled(&self) -> bool {
        let records = newest::<RecordObserved>(&self.log, &Stream::Records).await;
        let keys = newest::<KeyWrapped>(&self.log, &Stream::Keys).await;
        *self.rows.lock().unwrap() = records
            .into_iter()
            .map(|(key, row)| (token(&key), row.digest))
            .collect();
        *self.keys.lock().unwrap() = keys
            .into_iter()
            .map(|(key, wrapped)| (token(&key), wrapped))
            .collect();
        true
    }
}

/// Remembers the records with which inputs were to end.
#[derive(Default)]
pub(crate) struct Ended(pub(crate) Mutex<Vec<RecordToken>>);

#[async_trait]
impl Inputs for Ended {
    fn holds(&self, _: EntryId) -> bool {
        false
    }

    async fn parts_of(&self, records: &[RecordToken]) -> Result<Vec<Position>, Error> {
        self.0.lock().unwrap().extend_from_slice(records);
        Ok(Vec::new())
    }
}

/// A log whose n-th append fails, before it took effect or after.
pub(crate) struct Failing {
    log: MemoryLog,
    fails_at: u64,
    took_effect: bool,
    appends: AtomicU64,
    pub(crate) order: Mutex<Vec<String>>,
}

#[async_trait]
impl EventLog for Failing {
    async fn acquire(&self, at: &Place) -> Result<Epoch, lethe_log::Error> {
        self.log.acquire(at).await
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, lethe_log::Error> {
        let number = self.appends.fetch_add(1, Ordering::Relaxed);
        self.order.lock().unwrap().push(at.stream.to_string());
        if number == self.fails_at {
            if self.took_effect {
                self.log.append(at, writer, entries).await?;
            }
            return Err(lethe_log::Error::Unknown("injected".into()));
        }
        self.log.append(at, writer, entries).await
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, lethe_log::Error> {
        self.log.read(at, from, limit).await
    }

    async fn head(&self, at: &Place) -> Result<Position, lethe_log::Error> {
        self.log.head(at).await
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), lethe_log::Error> {
        self.log.wait(at, position, patience).await
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        self.log.gone_by(stream)
    }

    async fn check(&self) -> Result<(), lethe_log::Error> {
        self.log.check().await
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

pub(crate) fn id() -> EntryId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    EntryId::from_bytes(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes())
}

pub(crate) struct World {
    pub(crate) log: MemoryLog,
    pub(crate) port: Arc<Failing>,
    pub(crate) intake: Intake,
    pub(crate) vault: Arc<MemoryVault>,
    pub(crate) ended: Arc<Ended>,
}

pub(crate) const NEVER: u64 = u64::MAX;

pub(crate) async fn world(fails_at: u64, took_effect: bool) -> World {
    let vault = Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(7))).unwrap());
    world_on(MemoryLog::new(), vault, "DE", (fails_at, took_effect)).await
}

/// An intake on what is there, with phone numbers read as in a country.
pub(crate) async fn world_on(
    log: MemoryLog,
    vault: Arc<MemoryVault>,
    country: &str,
    (fails_at, took_effect): (u64, bool),
) -> World {
    let port = Arc::new(Failing {
        log: log.clone(),
        fails_at,
        took_effect,
        appends: AtomicU64::new(0),
        order: Mutex::default(),
    });
    let fold = Arc::new(Fold {
        log: log.clone(),
        rows: Mutex::default(),
        keys: Mutex::default(),
    });
    let ended = Arc::new(Ended::default());
    let normaliser = Normaliser::new(country).unwrap();
    let intake = Intake::new(
        Arc::clone(&port) as _,
        Arc::clone(&vault) as _,
        normaliser,
        fold,
        Arc::clone(&ended) as _,
        Shell { now, id },
    );
    intake.recover().await.unwrap();
    World {
        log,
        port,
        intake,
        vault,
        ended,
    }
}

pub(crate) fn observation(key: &str, email: &str) -> Observation {
    Observation {
        dataset: "accounts".parse().unwrap(),
        key: key.into(),
        unit: None,
        handle: format!("handle-{key}"),
        identifiers: vec![
            Identifier::new(IdentifierKind::Email, email),
            Identifier::new(IdentifierKind::Ip, "203.0.113.7"),
        ],
        count: 1,
        gone: false,
    }
}

pub(crate) fn page(observations: Vec<Observation>, cursor: &str) -> FeedPage {
    FeedPage {
        observations,
        cursor: cursor.into(),
        ..FeedPage::default()
    }
}

pub(crate) async fn take(world: &World, page: &FeedPage) -> Result<lethe_intake::Published, Error> {
    let (system, shard) = ("shop".parse().unwrap(), "accounts".parse().unwrap());
    let published = world
        .intake
        .publish(&system, world.intake.mark(&system), page)
        .await?;
    world.intake.advance(&system, &shard, &page.cursor).await?;
    Ok(published)
}

pub(crate) async fn records(world: &World) -> Vec<(RecordToken, String)> {
    let rows = newest::<RecordObserved>(&world.log, &Stream::Records).await;
    rows.into_values().map(|row| (row.record, row.digest)).collect()
}

pub(crate) async fn inputs(world: &World) -> Vec<Quarantined> {
    let page = world
        .log
        .read(&Place::new(Stream::Quarantine, 0), 0, 4_096)
        .await
        .unwrap();
    page.entries
        .into_iter()
        .map(|stored| {
            Event::<Quarantined>::decode(&stored.entry.value.unwrap())
                .unwrap()
                .data
        })
        .collect()
}

/// The bytes of an input, with the keys that its record has now.
pub(crate) async fn plain_input(world: &World, input: &Quarantined) -> Option<Vec<u8>> {
    let keys = newest::<KeyWrapped>(&world.log, &Stream::Keys).await;
    let records = records_of(&*world.vault, input).unwrap();
    let first = records
        .first()
        .map(|record| (*record, keys.get(record.as_bytes().as_slice())));
    let plain = open_input(&*world.vault, input, first).unwrap();
    plain.map(|plain| plain.to_vec())
}

/// What stands in quarantine, each input once: its place, its code, and what it is. What a failed attempt put away opens no more.
pub(crate) async fn plain_inputs(world: &World) -> BTreeSet<(String, String, Vec<u8>)> {
    let mut plain = BTreeSet::new();
    for input in inputs(world).await {
        if let Some(bytes) = plain_input(world, &input).await {
            plain.insert((input.position, input.code, bytes));
        }
    }
    plain
}
