//! The broker that the tests find, and logs on it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_conformance::event_log::{Factory, Log, Subject, read_from, streams};
use lethe_journal::{Entry, Epoch, Place, Position, Stream};
use lethe_log::{Appended, Compaction, Error, EventLog, GoneBy, Page};
use lethe_log_kafka::{KafkaLog, KafkaSettings};
use rdkafka::config::ClientConfig;
use rdkafka::producer::FutureProducer;

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The bootstrap address of the broker to test on.
pub(crate) fn bootstrap() -> Option<String> {
    let found = std::env::var("LETHE_TEST_KAFKA")
        .ok()
        .filter(|address| !address.is_empty());
    if found.is_none() {
        println!("SKIPPED: Kafka: LETHE_TEST_KAFKA is not set");
    }
    found
}

/// Settings of a log that nobody else uses, on one broker.
pub(crate) fn settings(bootstrap: &str) -> KafkaSettings {
    let mut settings = KafkaSettings::new(bootstrap);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    settings.topic_prefix = format!("t{}-{number}.", std::process::id());
    settings.replication_factor = 1;
    settings
}

/// A log with the streams of the suite.
pub(crate) async fn open(settings: &KafkaSettings) -> KafkaLog {
    KafkaLog::open(settings.clone(), &streams())
        .await
        .expect("the log opens")
}

/// A log on Kafka as the suite takes it.
pub(crate) struct OnKafka(pub(crate) KafkaLog);

#[async_trait]
impl EventLog for OnKafka {
    async fn acquire(&self, at: &Place) -> Result<Epoch, Error> {
        self.0.acquire(at).await
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, Error> {
        self.0.append(at, writer, entries).await
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
        self.0.read(at, from, limit).await
    }

    async fn head(&self, at: &Place) -> Result<Position, Error> {
        self.0.head(at).await
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error> {
        self.0.wait(at, position, patience).await
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        self.0.gone_by(stream)
    }

    async fn check(&self) -> Result<(), Error> {
        self.0.check().await
    }
}

#[async_trait]
impl Subject for OnKafka {
    /// Kafka compacts by itself: what must hold after a compaction has to hold before it, too.
    async fn compact(&self, _stream: &Stream, _seen: &BTreeMap<u16, Position>) -> Result<Compaction, Error> {
        Ok(Compaction::default())
    }

    async fn expire(&self, stream: &Stream, before: &BTreeMap<u16, Position>) -> Result<Compaction, Error> {
        let at = Place::new(stream.clone(), 0);
        let held_before = read_from(self, &at, 0).await.len() as u64;
        self.0.drop_start(stream, before).await?;
        let kept_entries = read_from(self, &at, 0).await.len() as u64;
        Ok(Compaction {
            kept_entries,
            removed_entries: held_before - kept_entries,
            ..Compaction::default()
        })
    }
}

/// Logs on the broker, each with topics of its own.
pub(crate) struct KafkaLogs {
    bootstrap: String,
    last: Mutex<Option<KafkaSettings>>,
}

impl KafkaLogs {
    /// Logs on the broker that the tests find.
    pub(crate) fn found() -> Option<Self> {
        Some(Self {
            bootstrap: bootstrap()?,
            last: Mutex::default(),
        })
    }
}

#[async_trait]
impl Factory for KafkaLogs {
    async fn open(&self) -> Log {
        let settings = settings(&self.bootstrap);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(settings.clone());
        Arc::new(OnKafka(open(&settings).await))
    }

    async fn reopen(&self, log: Log) -> Log {
        drop(log);
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Arc::new(OnKafka(open(&last.expect("a log was opened before")).await))
    }

    fn has_gaps(&self) -> bool {
        true
    }

    fn compacts_when_told(&self) -> bool {
        false
    }
}

/// Appends without an epoch and expects it to be stored.
pub(crate) async fn appended(log: &OnKafka, at: &Place, entries: Vec<Entry>) {
    let outcome = log.append(at, None, entries).await.expect("an append is stored");
    assert!(matches!(outcome, Appended::At { .. }), "{outcome:?}");
}

/// A producer that knows nothing of Lethe.
pub(crate) fn raw_producer(bootstrap: &str) -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap()
}
