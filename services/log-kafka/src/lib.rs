//! The EventLog port on Apache Kafka.
//!
//! ```text
//! append ──> queue of the place ──> one turn at a time ──> one transaction (or one lone message) ──> readable ──> answers
//! read ────> positions asked for ──> a consumer that stands there ──> a page, without what a fenced writer wrote
//! wait ────> one thread asks for the heads of all places that somebody waits for
//! ```
//!
//! A position is Kafka's offset. Control records of transactions, aborted entries, fences and heartbeats are gaps: a page that holds no entry
//! may still lead on, and a reader must follow [`Page::next`]. The head is the last stable offset: everything below it can be read.
//!
//! # What rests on what
//!
//! Always `acks=all` and idempotent. An acknowledgement means the page cache of `min.insync.replicas` brokers, not a disk.
//! *All or none* rests on Kafka's transactions. *One writer* does not rest on them alone: the epoch is a number in the partition itself (a fence
//! entry begins it, each entry of the writer carries it), a writer reads its own fence back before it writes, and a reader
//! leaves out what carries an older epoch than the fence before it. After an unknown outcome a writer's handle is gone, and only
//! [`EventLog::acquire`] gives another one.
//!
//! Groups only share partitions out ([`KafkaLog::join`]); nobody reads through them.
//!
//! What is deliberately not here: offsets that count (a position stands with its effect; what is committed only shows people's tools how far
//! readers are), clocks of producers, retries of
//! appends, and topics that make themselves.

mod appending;
mod bootstrap;
mod channel;
mod cleaning;
mod clients;
mod closed;
mod context;
mod group;
mod hanging;
mod health;
mod moment;
mod reading;
mod settings;
mod shared;
mod token;
mod topics;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lethe_journal::{Entry, Epoch, Place, Position, Stream};
use lethe_log::{Appended, EventLog, GoneBy, Page, rules};
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use crate::channel::{Append, Channel, Request};
use crate::shared::Shared;
use crate::wire::{Content, OWN_KEY_PREFIX};

pub use clients::TRANSACTION_TIMEOUT;
pub use group::{Membership, Pulse};
pub use health::Finding;
pub use settings::{KafkaSettings, Retention};
pub use topics::Drift;

/// How long closing the log waits for the thread that looks after heads: a broker that is there answers it in less.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// How often is looked whether that thread has ended.
const CLOSE_LOOK: Duration = Duration::from_millis(5);

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is not usable; nothing was asked of the cluster.
    #[error("the configuration of Kafka: {0}")]
    Settings(String),
    /// The cluster does not answer, or not to us.
    #[error("Kafka does not answer: {0}")]
    Unreachable(String),
    /// A topic cannot be made or described.
    #[error("a topic of the log: {0}")]
    TopicRefused(String),
    /// A topic has another number of partitions: keys would stand where nobody looks for them.
    #[error("topic {topic} has {found} partitions, not {declared}")]
    WrongPartitions {
        /// Name of the topic.
        topic: String,
        /// Partitions that Lethe needs.
        declared: u16,
        /// Partitions that it has.
        found: usize,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings(_) => "log-kafka-settings",
            Self::Unreachable(_) => "log-kafka-unreachable",
            Self::TopicRefused(_) => "log-kafka-topic-refused",
            Self::WrongPartitions { .. } => "log-kafka-wrong-partitions",
        }
    }
}

/// What Kafka's library says, without values of the configuration.
pub(crate) fn told(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, name, _) => format!("{what} ({name})"),
        other => other.to_string(),
    }
}

/// The log on Kafka.
pub struct KafkaLog {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(watcher) = self.watcher.take() {
            // In the middle of a question to a broker that does not answer it ends later, and changes nothing any more.
            let until = Instant::now() + CLOSE_TIME_MAX;
            while !watcher.is_finished() && Instant::now() < until {
                std::thread::sleep(CLOSE_LOOK);
            }
        }
    }
}

impl KafkaLog {
    /// Opens the log with these streams: makes the topics that are missing and looks at the others. Topics whose settings differ are
    /// warned of and found again by [`KafkaLog::findings`].
    ///
    /// Errors: [`Error::WrongPartitions`] where a topic has another number of partitions than its stream, and the others of this crate.
    pub async fn open(settings: KafkaSettings, streams: &[Stream]) -> Result<Self, Error> {
        let clients = off_thread({
            let settings = settings.clone();
            move || clients::Clients::new(&settings)
        })
        .await
        .ok_or_else(|| Error::Unreachable("the program is ending".to_owned()))??;
        let admin = clients.admin()?;
        topics::ensure(&admin, &settings, streams)
            .await
            .map_err(|error| clients.talk().because(error))?;
        let shared = Arc::new(Shared::new(settings, clients, streams));
        let watcher = std::thread::Builder::new()
            .name("log-heads".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || shared.watch()
            })
            .map_err(|error| Error::Settings(format!("a thread cannot start: {error}")))?;
        let log = Self {
            shared,
            watcher: Some(watcher),
        };
        log.partitions_as_declared().await?;
        for drift in topics::drift(&admin, &log.shared.settings, streams).await? {
            tracing::warn!(
                topic = drift.topic,
                setting = drift.setting,
                declared = drift.declared,
                found = drift.found,
                "a topic's setting differs"
            );
        }
        Ok(log)
    }

    /// The streams of the log.
    pub fn streams(&self) -> Vec<Stream> {
        let mut streams: Vec<Stream> = self.shared.channels.keys().map(|at| at.stream.clone()).collect();
        streams.dedup();
        streams
    }

    /// Name of a stream's topic.
    pub fn topic(&self, stream: &Stream) -> String {
        topics::name(&self.shared.settings, stream)
    }

    /// Runs what blocks where it blocks no other task.
    async fn blocking<T: Send + 'static>(
        &self,
        at: &Place,
        act: impl FnOnce(&Shared, &Channel) -> Result<T, lethe_log::Error> + Send + 'static,
    ) -> Result<T, lethe_log::Error> {
        let channel = Arc::clone(self.shared.channel(at)?);
        let shared = Arc::clone(&self.shared);
        off_thread(move || act(&shared, &channel))
            .await
            .ok_or_else(ending)?
    }

    async fn ask<T>(
        &self,
        at: &Place,
        request: Request,
        answer: oneshot::Receiver<Result<T, lethe_log::Error>>,
    ) -> Result<T, lethe_log::Error> {
        let channel = Arc::clone(self.shared.channel(at)?);
        if channel.push(request) {
            let shared = Arc::clone(&self.shared);
            // Not awaited: it serves whoever comes next, too, and goes on where this caller stops waiting.
            drop(tokio::task::spawn_blocking(move || {
                appending::serve(&shared, &channel)
            }));
        }
        answer
            .await
            .map_err(|_| lethe_log::Error::Unknown(format!("the writer of {at} ended before it answered")))?
    }
}

fn ending() -> lethe_log::Error {
    lethe_log::Error::NotStored("the program is ending".to_owned())
}

/// Runs what blocks; `None` where the runtime ends meanwhile.
async fn off_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(act).await.ok()
}

/// Refuses a key that only the log's own entries may have.
fn check_keys(at: &Place, entries: &[Entry]) -> Result<(), lethe_log::Error> {
    if entries.iter().any(|entry| entry.key.starts_with(OWN_KEY_PREFIX)) {
        return Err(lethe_log::Error::NotStored(format!(
            "an append to {at} has a key that is the log's own"
        )));
    }
    Ok(())
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn acquire(&self, at: &Place) -> Result<Epoch, lethe_log::Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(at, Request::Acquire(reply), answer).await
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, lethe_log::Error> {
        rules::check_batch(at, &entries)?;
        check_keys(at, &entries)?;
        let contents = entries.into_iter().map(Content::Entry).collect();
        let (reply, answer) = oneshot::channel();
        self.ask(
            at,
            Request::Append(Append {
                writer,
                contents,
                reply,
            }),
            answer,
        )
        .await
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, lethe_log::Error> {
        self.blocking(at, move |shared, channel| shared.page(channel, from, limit))
            .await
    }

    async fn head(&self, at: &Place) -> Result<Position, lethe_log::Error> {
        self.blocking(at, |shared, channel| {
            let (_, head) = shared.span(channel)?;
            channel.raise(head);
            Ok(head)
        })
        .await
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), lethe_log::Error> {
        /// Stops waiting also where the caller drops the future.
        struct Waiting<'a>(&'a Shared, &'a Place);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.end_waiting(self.1);
            }
        }
        let mut head = self.shared.channel(at)?.head.subscribe();
        self.shared.begin_waiting(at);
        let _waiting = Waiting(&self.shared, at);
        // Running out of patience is no error: the caller reads on and sees.
        let _ = tokio::time::timeout(patience, head.wait_for(|head| *head > position)).await;
        Ok(())
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        topics::gone_by(&self.shared.settings, stream)
    }

    async fn check(&self) -> Result<(), lethe_log::Error> {
        let findings = self
            .findings()
            .await
            .map_err(|error| lethe_log::Error::NotStored(error.to_string()))?;
        if findings.is_empty() {
            return Ok(());
        }
        let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Err(lethe_log::Error::NotAsDeclared(told.join("; ")))
    }
}
