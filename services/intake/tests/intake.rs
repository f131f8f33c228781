//! Intake on a log in memory, with a fold that lags until it is waited for, and a log that fails where it hurts.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lethe_intake::{Again, Error, Intake, Known, KnownRecord, Shell};
use lethe_journal::{Entry, Epoch, Event, KeyWrapped, Place, Position, Quarantined, RecordObserved, Stream};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::{Appended, EventLog, GoneBy, MemoryLog, Page};
use lethe_terms::{CaseId, EntryId, Identifier, IdentifierKind, RecordToken, Timestamp};
use lethe_vault::{MemoryVault, Normaliser, SeededEntropy};

/// The fold of `records` and `keys`: stands still until somebody waits for it, as a real one may.
struct Fold {
    log: MemoryLog,
    rows: Mutex<BTreeMap<RecordToken, String>>,
    keys: Mutex<BTreeMap<RecordToken, KeyWrapped>>,
}

async fn newest<T: lethe_journal::Kind>(log: &MemoryLog, stream: &Stream) -> BTreeMap<Vec<u8>, T> {
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

fn token(key: &[u8]) -> RecordToken {
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

/// A log whose n-th append fails, before it took effect or after.
struct Failing {
    log: MemoryLog,
    fails_at: u64,
    took_effect: bool,
    appends: AtomicU64,
    order: Mutex<Vec<String>>,
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

fn now() -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000)
}

fn id() -> EntryId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    EntryId::from_bytes(u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes())
}

struct World {
    log: MemoryLog,
    port: Arc<Failing>,
    intake: Intake,
}

const NEVER: u64 = u64::MAX;

async fn world(fails_at: u64, took_effect: bool) -> World {
    let vault = Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(7))).unwrap());
    world_on(MemoryLog::new(), vault, "DE", (fails_at, took_effect)).await
}

/// An intake on what is there, with phone numbers read as in a country.
async fn world_on(
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
    let normaliser = Normaliser::new(country).unwrap();
    let intake = Intake::new(Arc::clone(&port) as _, vault, normaliser, fold, Shell { now, id });
    intake.recover().await.unwrap();
    World { log, port, intake }
}

fn observation(key: &str, email: &str) -> Observation {
    Observation {
        dataset: "accounts".parse().unwrap(),
        key: key.into(),
        handle: format!("handle-{key}"),
        identifiers: vec![
            Identifier::new(IdentifierKind::Email, email),
            Identifier::new(IdentifierKind::Ip, "203.0.113.7"),
        ],
        count: 1,
        gone: false,
    }
}

fn page(observations: Vec<Observation>, cursor: &str) -> FeedPage {
    FeedPage {
        observations,
        cursor: cursor.into(),
        ..FeedPage::default()
    }
}

async fn take(world: &World, page: &FeedPage) -> Result<lethe_intake::Published, Error> {
    let (system, shard) = ("shop".parse().unwrap(), "accounts".parse().unwrap());
    let published = world
        .intake
        .publish(&system, world.intake.mark(&system), page)
        .await?;
    world.intake.advance(&system, &shard, &page.cursor).await?;
    Ok(published)
}

async fn records(world: &World) -> Vec<(RecordToken, String)> {
    let rows = newest::<RecordObserved>(&world.log, &Stream::Records).await;
    rows.into_values().map(|row| (row.record, row.digest)).collect()
}

#[tokio::test]
async fn known_is_free_changed_is_appended_and_gone_leaves_nothing() {
    let world = world(NEVER, false).await;
    let first = page(
        vec![
            observation("1", "ada@example.org"),
            observation("2", "bob@example.org"),
        ],
        "c1",
    );
    assert_eq!(take(&world, &first).await.unwrap().appended, 2);
    let again = take(&world, &first).await.unwrap();
    assert_eq!((again.appended, again.known), (0, 2));
    let changed = take(&world, &page(vec![observation("1", "ada@new.example")], "c2"))
        .await
        .unwrap();
    assert_eq!(changed.appended, 1);
    let gone = Observation {
        gone: true,
        ..observation("1", "ada@new.example")
    };
    assert_eq!(take(&world, &page(vec![gone], "c3")).await.unwrap().gone, 1);
    assert_eq!(records(&world).await.len(), 1);
    assert_eq!(newest::<KeyWrapped>(&world.log, &Stream::Keys).await.len(), 1);
}

#[tokio::test]
async fn keys_come_before_records_and_the_cursor_last() {
    let world = world(NEVER, false).await;
    take(&world, &page(vec![observation("1", "ada@example.org")], "c1"))
        .await
        .unwrap();
    assert_eq!(*world.port.order.lock().unwrap(), ["keys", "records", "cursors"]);
}

#[tokio::test]
async fn a_page_that_failed_anywhere_comes_out_the_same_when_it_is_taken_again() {
    let pages = [
        page(
            vec![
                observation("1", "ada@example.org"),
                observation("2", "bob@example.org"),
            ],
            "c1",
        ),
        page(
            vec![
                observation("1", "ada@new.example"),
                Observation {
                    gone: true,
                    ..observation("2", "b@c.example")
                },
            ],
            "c2",
        ),
    ];
    let faultless = world(NEVER, false).await;
    for page in &pages {
        take(&faultless, page).await.unwrap();
    }
    let expected = records(&faultless).await;
    for fails_at in 0..12 {
        for took_effect in [false, true] {
            let world = world(fails_at, took_effect).await;
            for page in &pages {
                while take(&world, page).await.is_err() {}
            }
            assert_eq!(
                records(&world).await,
                expected,
                "append {fails_at}, took effect: {took_effect}"
            );
            let keys = newest::<KeyWrapped>(&world.log, &Stream::Keys).await;
            for (record, row) in newest::<RecordObserved>(&world.log, &Stream::Records).await {
                world
                    .intake
                    .open_record(token(&record), &keys[&record], &row.secret)
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn nothing_personal_stands_in_the_clear_behind_intake() {
    let world = world(NEVER, false).await;
    let canary = "canary-5e1f";
    let seen = Observation {
        handle: format!("handle-{canary}"),
        identifiers: vec![
            Identifier::new(IdentifierKind::Email, format!("{canary}@example.org")),
            Identifier::new(IdentifierKind::Email, format!("no address {canary}")),
            Identifier::new(IdentifierKind::UserId, canary),
        ],
        ..observation(canary, "x@y.example")
    };
    let rejected = Rejected {
        position: "access.log byte 7".into(),
        code: "weblog-line",
        expected: "a line".into(),
        input: canary.as_bytes().to_vec(),
    };
    let page = FeedPage {
        rejected: vec![rejected],
        ..page(vec![seen], "c1")
    };
    let published = take(&world, &page).await.unwrap();
    assert_eq!((published.appended, published.quarantined), (1, 2));
    let shown = format!("{page:?} {published:?}");
    assert!(!shown.contains(canary), "{shown}");
    for stream in Stream::FIXED {
        for at in Place::all(&stream) {
            for stored in world.log.read(&at, 0, 4_096).await.unwrap().entries {
                let bytes = [stored.entry.key, stored.entry.value.unwrap_or_default()].concat();
                assert!(
                    !bytes
                        .windows(canary.len())
                        .any(|window| window == canary.as_bytes()),
                    "{at}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_comes_back_of_an_erased_person_is_recorded_and_told() {
    let world = world(NEVER, false).await;
    let ada = world
        .intake
        .normalised(&Identifier::new(IdentifierKind::Email, "Ada@Example.org"))
        .unwrap();
    let case = CaseId::from_bytes([3; 8]);
    world
        .intake
        .mark_erased(case, &[ada], Timestamp::MAX)
        .await
        .unwrap();
    let published = take(&world, &page(vec![observation("1", "ada@example.org")], "c1"))
        .await
        .unwrap();
    assert_eq!(published.appended, 1);
    assert_eq!(
        published
            .findings
            .iter()
            .map(|finding| finding.of)
            .collect::<Vec<_>>(),
        [case]
    );
    let others = take(&world, &page(vec![observation("2", "bob@example.org")], "c2"))
        .await
        .unwrap();
    assert!(others.findings.is_empty(), "a shared address alone is nobody's");
}

#[tokio::test]
async fn a_page_that_was_read_before_a_record_ended_does_not_bring_it_back() {
    let world = world(NEVER, false).await;
    let system = "shop".parse().unwrap();
    let first = page(vec![observation("1", "ada@example.org")], "c1");
    take(&world, &first).await.unwrap();
    let mark = world.intake.mark(&system);
    let ended: Vec<_> = records(&world)
        .await
        .into_iter()
        .map(|(record, _)| record)
        .collect();
    world.intake.gone_records(&system, &ended).await.unwrap();
    assert!(matches!(
        world.intake.publish(&system, mark, &first).await,
        Err(Error::Stale)
    ));
    assert!(records(&world).await.is_empty());
}

#[tokio::test]
async fn the_cursor_survives_a_restart() {
    let world = world(NEVER, false).await;
    take(&world, &page(vec![], "c9")).await.unwrap();
    world.intake.recover().await.unwrap();
    let cursor = world
        .intake
        .cursor(&"shop".parse().unwrap(), &"accounts".parse().unwrap())
        .unwrap();
    assert_eq!(cursor.as_deref(), Some("c9"));
}

async fn inputs(world: &World) -> Vec<Quarantined> {
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

/// A number that is too short where it is read as an American one.
fn with_phone(key: &str) -> Observation {
    let mut seen = observation(key, "ada@example.org");
    seen.identifiers
        .push(Identifier::new(IdentifierKind::Phone, "12345"));
    seen
}

#[tokio::test]
async fn an_input_is_taken_in_again_once_its_normaliser_was_mended_and_only_while_its_record_is_as_it_was() {
    let vault = Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(7))).unwrap());
    let wrong = world_on(MemoryLog::new(), Arc::clone(&vault), "US", (NEVER, false)).await;
    let system = "shop".parse().unwrap();
    let published = take(&wrong, &page(["1", "2", "3"].map(with_phone).into(), "c1"))
        .await
        .unwrap();
    assert_eq!((published.appended, published.quarantined), (3, 3));
    let kept = inputs(&wrong).await;
    let again = wrong.intake.take_again(&system, &kept[0]).await.unwrap();
    assert!(
        matches!(&again, Again::Stays(refused) if refused.code == kept[0].code),
        "nothing was mended: {again:?}"
    );
    take(&wrong, &page(vec![observation("2", "bob@example.org")], "c2"))
        .await
        .unwrap();
    let third = records(&wrong).await.len();
    let gone = Observation {
        gone: true,
        ..with_phone("3")
    };
    take(&wrong, &page(vec![gone], "c3")).await.unwrap();
    assert_eq!(records(&wrong).await.len(), third - 1);

    let mended = world_on(wrong.log.clone(), vault, "DE", (NEVER, false)).await;
    let before = records(&mended).await;
    let outcomes = [
        mended.intake.take_again(&system, &kept[0]).await.unwrap(),
        mended.intake.take_again(&system, &kept[1]).await.unwrap(),
        mended.intake.take_again(&system, &kept[2]).await.unwrap(),
        mended.intake.take_again(&system, &kept[0]).await.unwrap(),
    ];
    assert_eq!(
        [&outcomes[0], &outcomes[3]],
        [&Again::Taken(Vec::new()); 2],
        "once, and again"
    );
    for changed in &outcomes[1..3] {
        assert!(
            matches!(changed, Again::Stays(refused) if refused.code == "intake-changed-since"),
            "{changed:?}"
        );
    }
    let after = records(&mended).await;
    assert_eq!(after.len(), before.len(), "nothing came back");
    assert_eq!(
        after.iter().filter(|record| !before.contains(record)).count(),
        1,
        "one record has its telephone number now, and no other changed"
    );
    assert_eq!(
        take(&mended, &page(vec![with_phone("1")], "c4"))
            .await
            .unwrap()
            .known,
        1,
        "it is as its source tells it"
    );
}

#[tokio::test]
async fn what_was_not_kept_whole_says_what_to_do_instead() {
    let world = world(NEVER, false).await;
    let rejected = |bytes| Rejected {
        position: "access.log byte 7".into(),
        code: "weblog-line",
        expected: "a line".into(),
        input: vec![b'x'; bytes],
    };
    let unread = FeedPage {
        rejected: vec![rejected(9), rejected(lethe_intake::INPUT_BYTES_MAX + 1)],
        ..page(Vec::new(), "c1")
    };
    take(&world, &unread).await.unwrap();
    let mut codes = Vec::new();
    for input in inputs(&world).await {
        match world
            .intake
            .take_again(&"shop".parse().unwrap(), &input)
            .await
            .unwrap()
        {
            Again::Stays(refused) => codes.push(refused.code),
            Again::Taken(_) => panic!("there is nothing to be taken in"),
        }
    }
    assert_eq!(codes, ["intake-source-only", "intake-cut-off"]);
}
