//! The log of this server, embedded or on Kafka, and what each needs besides the port: the embedded one is compacted by the janitor, Kafka compacts
//! by itself and wants heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Place, Position, Stream};
use lethe_ledger::Start;
use lethe_log::{EmbeddedLog, EventLog, GoneBy, OpenOptions, Pages};
use lethe_log_kafka::KafkaLog;
use lethe_proof::Leaf;
use tokio::sync::watch;

use crate::Error;
use crate::server::Folders;
use crate::settings::Settings;

/// Longest wait until a heartbeat that failed is tried again.
const HEARTBEAT_RETRY: Duration = Duration::from_secs(10);

/// The log.
#[derive(Clone)]
pub(crate) enum Log {
    /// In files of this server.
    Embedded(Arc<EmbeddedLog>),
    /// On Kafka.
    Kafka(Arc<KafkaLog>),
}

impl Log {
    /// Opens the log that the settings name.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Error> {
        let streams = settings.streams();
        let Some(kafka) = &settings.kafka else {
            let folder = Folders::of_one(&settings.data_dir).log();
            let log = EmbeddedLog::open(&folder, &streams, OpenOptions::default())?;
            return Ok(Self::Embedded(Arc::new(log)));
        };
        let log = KafkaLog::open(kafka.clone(), &streams).await?;
        Ok(Self::Kafka(Arc::new(log)))
    }

    /// The log as everybody else sees it.
    pub(crate) fn port(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Embedded(log) => Arc::clone(log) as _,
            Self::Kafka(log) => Arc::clone(log) as _,
        }
    }

    /// What people who run the log call a stream: the name of its topic, where it has one.
    pub(crate) fn topic(&self, stream: &Stream) -> String {
        match self {
            Self::Embedded(_) => stream.to_string(),
            Self::Kafka(log) => log.topic(stream),
        }
    }

    /// Whether no key was ever written: only then may the vault begin with a new root.
    pub(crate) async fn holds_no_keys(&self) -> Result<bool, Error> {
        let port = self.port();
        for at in Place::all(&Stream::Keys) {
            if port.head(&at).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a leaf was ever written; fences and heartbeats are none, nor is what others write there.
    async fn holds_leaves(&self) -> Result<bool, Error> {
        let (port, at) = (self.port(), Place::new(Stream::Leaves, 0));
        let mut pages = Pages::new(&*port, &at, 0);
        while let Some(page) = pages.next().await? {
            let mut values = page
                .entries
                .iter()
                .filter_map(|stored| stored.entry.value.as_ref());
            if values.any(|value| Leaf::from_bytes(value).is_ok()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the ledger begins with this run.
    pub(crate) async fn start(&self) -> Result<Start, Error> {
        Ok(if self.holds_leaves().await? {
            Start::Again
        } else {
            Start::First
        })
    }

    /// Removes from a table what newer entries replaced, as far as its readers have seen it. Kafka does that by itself.
    pub(crate) async fn compact(&self, stream: &Stream, seen: &BTreeMap<u16, Position>) -> Result<(), Error> {
        if let Self::Embedded(log) = self {
            log.compact(stream, seen).await?;
        }
        Ok(())
    }

    /// Drops the start of a queue, up to but without the given positions.
    pub(crate) async fn drop_start(
        &self,
        stream: &Stream,
        before: &BTreeMap<u16, Position>,
    ) -> Result<(), Error> {
        match self {
            Self::Embedded(log) => {
                log.expire(stream, before).await?;
            }
            Self::Kafka(log) => log.drop_start(stream, before).await?,
        }
        Ok(())
    }

    /// How long what was ended may still stand in a stream where nothing delays its removal; nothing where it stands until its key is destroyed.
    pub(crate) fn gone_within(&self, stream: &Stream, compact_after: Duration) -> Option<Duration> {
        match self.port().gone_by(stream) {
            GoneBy::NextCompaction => Some(compact_after),
            GoneBy::Within(time) => Some(time),
            GoneBy::KeyDestroyed => None,
        }
    }
}

/// Keeps Kafka's segments rolling until `stop`.
pub(crate) async fn beat(log: Arc<KafkaLog>, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
    let every = log.heartbeat_every();
    while !*stop.borrow() {
        let pause = match log.heartbeat().await {
            Ok(_) => every,
            Err(error) => {
                tracing::warn!(code = error.code(), "a heartbeat may be missing in the log");
                every.min(HEARTBEAT_RETRY)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => {}
        }
    }
    Ok(())
}
