//! The topics of the log and their settings: declared here and nowhere else.

use std::collections::BTreeMap;
use std::time::Duration;

use lethe_journal::{Stream, StreamKind};
use lethe_log::{APPEND_BYTES_MAX, GoneBy};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::ClientContext;
use rdkafka::error::RDKafkaErrorCode;

use crate::settings::{KafkaSettings, Retention};
use crate::{Error, told};

/// Most bytes of one message: the largest append may be one entry, and headers and Kafka's own framing come on top.
pub(crate) const MESSAGE_BYTES_MAX: usize = APPEND_BYTES_MAX + (1 << 20);

/// Most bytes that a program which is not Lethe can write at once: a published event has at most half a MiB, and clients send batches of
/// 1 MiB unless told otherwise.
const FOREIGN_BYTES_MAX: usize = 2 << 20;

/// How often Kafka looks for segments whose time has come (`log.retention.check.interval.ms`), by default.
const RETENTION_CHECK: Duration = Duration::from_mins(5);

/// How long the cluster may take to make or describe topics: a new topic waits for an election of each partition.
const ADMIN_DEADLINE: Duration = Duration::from_secs(30);

/// A topic whose settings are not those that Lethe declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Name of the topic.
    pub topic: String,
    /// Kafka's name of the setting, or `replication`.
    pub setting: String,
    /// What Lethe declared.
    pub declared: String,
    /// What the cluster has.
    pub found: String,
}

/// Name of a stream's topic.
pub(crate) fn name(settings: &KafkaSettings, stream: &Stream) -> String {
    format!("{}{stream}", settings.topic_prefix)
}

/// The settings of a stream's topic, by Kafka's names.
pub(crate) fn declared(settings: &KafkaSettings, stream: &Stream) -> BTreeMap<&'static str, String> {
    let Retention {
        compaction_lag_max_ms,
        tombstone_ms,
        segment_ms,
        queue_ms,
        file_ms,
        ..
    } = settings.retention;
    let mut all = BTreeMap::from([
        ("min.insync.replicas", settings.min_insync().to_string()),
        ("max.message.bytes", MESSAGE_BYTES_MAX.to_string()),
        // What counts is when the broker got an entry; a producer's clock may be wrong, and retention rests on it.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        // A replica that is behind must never lead: that would lose acknowledged entries and use positions twice.
        ("unclean.leader.election.enable", "false".to_owned()),
        ("file.delete.delay.ms", file_ms.to_string()),
        ("retention.bytes", "-1".to_owned()),
        // Whatever the brokers' default is: a codec that a reader was built without would stop it.
        ("compression.type", "producer".to_owned()),
    ]);
    let of_kind: &[(&'static str, String)] = match stream.kind() {
        StreamKind::Table => &[
            ("cleanup.policy", "compact".to_owned()),
            ("max.compaction.lag.ms", compaction_lag_max_ms.to_string()),
            ("min.compaction.lag.ms", "0".to_owned()),
            ("delete.retention.ms", tombstone_ms.to_string()),
            ("segment.ms", segment_ms.to_string()),
            // Compaction is due by age; a low ratio only spreads the work.
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ],
        StreamKind::Queue => &[
            ("cleanup.policy", "delete".to_owned()),
            (
                "retention.ms",
                if stays_until_decided(stream) {
                    "-1".to_owned()
                } else {
                    queue_ms.to_string()
                },
            ),
            ("segment.ms", segment_ms.to_string()),
        ],
        StreamKind::History => &[
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", "-1".to_owned()),
        ],
    };
    all.extend(of_kind.iter().cloned());
    if stream.is_foreign() {
        all.insert("max.message.bytes", FOREIGN_BYTES_MAX.to_string());
        // The broker then stores what every reader can read, whatever a writer's library compresses with.
        all.insert("compression.type", "uncompressed".to_owned());
    }
    all
}

/// Whether entries of a queue stay until somebody has decided on them. What could not be read may be about anybody: were it gone by time alone,
/// plans would no longer say that it may hide something. Its start is dropped as far as nothing of it counts.
fn stays_until_decided(stream: &Stream) -> bool {
    *stream == Stream::Quarantine
}

/// How long a value can outlive its tombstone in a stream, when no replica is away and the cleaner keeps up.
///
/// Of a table: Kafka never compacts the segment that is written to, and closes it only with an entry that comes once its oldest is older
/// than `segment.ms` or `max.compaction.lag.ms`; the heartbeat is that entry at the latest. Compaction is due when the oldest entry that was
/// not compacted is older than `max.compaction.lag.ms`. The first pass after the tombstone therefore ends at the latest
/// `pass = max(min(segment.ms, max.compaction.lag.ms) + heartbeat, max.compaction.lag.ms) + cleaner` later, and takes the value away. The
/// tombstone holds the key, which is a token, and stays `delete.retention.ms` from then on. To take it away needs a second pass, and there
/// is one only where something new became due: a heartbeat, one `pass` later. The files of the last pass stay a while more.
///
/// `2 * pass + delete.retention.ms + file.delete.delay.ms`
///
/// Of a queue: a segment goes when its newest entry is older than `retention.ms`; its oldest is up to `segment.ms` and a heartbeat older.
pub(crate) fn gone_by(settings: &KafkaSettings, stream: &Stream) -> GoneBy {
    let retention = settings.retention;
    let ms = match stream.kind() {
        StreamKind::History => return GoneBy::KeyDestroyed,
        StreamKind::Queue if stays_until_decided(stream) => return GoneBy::KeyDestroyed,
        StreamKind::Table => pass_ms(&retention)
            .saturating_mul(2)
            .saturating_add(retention.tombstone_ms),
        StreamKind::Queue => retention
            .queue_ms
            .saturating_add(retention.segment_ms)
            .saturating_add(retention.heartbeat_ms),
    };
    let checked = match stream.kind() {
        StreamKind::Queue => RETENTION_CHECK,
        StreamKind::Table | StreamKind::History => Duration::ZERO,
    };
    GoneBy::Within(Duration::from_millis(ms.saturating_add(retention.file_ms)).saturating_add(checked))
}

/// When the first pass of the cleaner after an entry of a table ends at the latest.
pub(crate) const fn pass(retention: &Retention) -> Duration {
    Duration::from_millis(pass_ms(retention))
}

const fn pass_ms(retention: &Retention) -> u64 {
    let lag = retention.compaction_lag_max_ms;
    let closed = if retention.segment_ms < lag {
        retention.segment_ms
    } else {
        lag
    };
    let closed = closed.saturating_add(retention.heartbeat_ms);
    let due = if closed > lag { closed } else { lag };
    due.saturating_add(retention.cleaner_ms)
}

/// Makes the topics that are missing; those that are there stay as they are.
pub(crate) async fn ensure<C: ClientContext>(
    admin: &AdminClient<C>,
    settings: &KafkaSettings,
    streams: &[Stream],
) -> Result<(), Error> {
    let declared: Vec<_> = streams
        .iter()
        .map(|stream| (name(settings, stream), stream, declared(settings, stream)))
        .collect();
    let topics: Vec<_> = declared
        .iter()
        .map(|(name, stream, settings_of)| {
            let replication = TopicReplication::Fixed(i32::from(settings.replication_factor));
            let new = NewTopic::new(name, i32::from(stream.partitions()), replication);
            settings_of
                .iter()
                .fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let made = admin
        .create_topics(&topics, &options())
        .await
        .map_err(|error| Error::Unreachable(told(&error)))?;
    for outcome in made {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::TopicRefused(format!("{topic}: {code}"))),
        }
    }
    Ok(())
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ADMIN_DEADLINE))
        .operation_timeout(Some(ADMIN_DEADLINE))
}

/// Compares the settings that the cluster has with the declared ones.
pub(crate) async fn drift<C: ClientContext>(
    admin: &AdminClient<C>,
    settings: &KafkaSettings,
    streams: &[Stream],
) -> Result<Vec<Drift>, Error> {
    let names: Vec<_> = streams.iter().map(|stream| name(settings, stream)).collect();
    let resources: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let described = admin
        .describe_configs(&resources, &options())
        .await
        .map_err(|error| Error::Unreachable(told(&error)))?;
    let mut found = Vec::new();
    for described in described {
        let described =
            described.map_err(|code| Error::TopicRefused(format!("the settings of a topic: {code}")))?;
        let stream = names
            .iter()
            .zip(streams)
            .find(|(name, _)| matches!(&described.specifier, OwnedResourceSpecifier::Topic(topic) if topic == *name));
        if let Some((topic, stream)) = stream {
            found.extend(drift_of(topic, &declared(settings, stream), &described));
        }
    }
    Ok(found)
}

fn drift_of(
    topic: &str,
    declared: &BTreeMap<&'static str, String>,
    described: &ConfigResource,
) -> Vec<Drift> {
    let differs = declared.iter().filter_map(|(setting, declared)| {
        let found = described.get(setting).and_then(|entry| entry.value.clone());
        (found.as_ref() != Some(declared)).then(|| Drift {
            topic: topic.to_owned(),
            setting: (*setting).to_owned(),
            declared: declared.clone(),
            found: found.unwrap_or_else(|| "nothing".to_owned()),
        })
    });
    differs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> KafkaSettings {
        let mut settings = KafkaSettings::new("b:1");
        settings.retention = Retention {
            compaction_lag_max_ms: 100,
            tombstone_ms: 1_000,
            segment_ms: 300,
            queue_ms: 5_000,
            heartbeat_ms: 10,
            file_ms: 1,
            cleaner_ms: 7,
        };
        settings
    }

    #[test]
    fn gone_by_counts_the_second_pass_that_the_tombstone_needs() {
        let within = |ms| GoneBy::Within(Duration::from_millis(ms));
        assert_eq!(
            gone_by(&settings(), &Stream::Records),
            within(2 * (110 + 7) + 1_000 + 1)
        );
        let mut quick = settings();
        quick.retention.segment_ms = 20;
        assert_eq!(
            gone_by(&quick, &Stream::Keys),
            within(2 * (100 + 7) + 1_000 + 1),
            "what closes early still waits for its lag"
        );
        assert_eq!(gone_by(&settings(), &Stream::Cases), GoneBy::KeyDestroyed);
        assert_eq!(
            gone_by(&settings(), &Stream::Answers),
            within(5_000 + 300 + 10 + 1 + 300_000)
        );
    }

    #[test]
    fn no_default_of_the_brokers_says_how_entries_are_compressed() {
        let codec = |stream| declared(&settings(), &stream)["compression.type"].clone();
        assert_eq!(codec(Stream::Systems), "producer");
        assert_eq!(codec(Stream::Intake), "uncompressed");
    }

    #[test]
    fn each_kind_ends_in_its_own_way() {
        let policy = |stream| declared(&settings(), &stream)["cleanup.policy"].clone();
        assert_eq!(policy(Stream::Erased), "compact");
        assert_eq!(policy(Stream::Commands), "delete");
        assert_eq!(declared(&settings(), &Stream::Leaves)["retention.ms"], "-1");
        assert!(
            !declared(&settings(), &Stream::Records).contains_key("retention.ms"),
            "a table's entry never goes by its age"
        );
    }
}
