//! How the log reaches Kafka, as it stands in the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use serde::Deserialize;

use crate::Error;
use crate::bootstrap::STATISTICS_MS;

/// Properties of librdkafka that Lethe sets itself, since the promises of the log rest on them, each with the reason.
const OWNED: [(&str, &str); 26] = [
    ("bootstrap.servers", "it is `bootstrap` here"),
    ("metadata.broker.list", "it is `bootstrap` here"),
    (
        "acks",
        "an append is durable only when all in-sync replicas have it",
    ),
    (
        "request.required.acks",
        "an append is durable only when all in-sync replicas have it",
    ),
    (
        "enable.idempotence",
        "without it a retry could store an entry twice",
    ),
    (
        "enable.gapless.guarantee",
        "an unknown outcome ends the writer instead",
    ),
    ("transactional.id", "it is the writer's, per partition"),
    (
        "transaction.timeout.ms",
        "readers wait so long for a writer that died",
    ),
    ("message.timeout.ms", "it decides when an append is unknown"),
    ("delivery.timeout.ms", "it decides when an append is unknown"),
    ("message.max.bytes", "it follows from the largest append"),
    ("isolation.level", "what was aborted must not be read"),
    (
        "enable.auto.commit",
        "positions stand with their effect, not in Kafka",
    ),
    (
        "auto.commit.enable",
        "positions stand with their effect, not in Kafka",
    ),
    (
        "enable.auto.offset.store",
        "positions stand with their effect, not in Kafka",
    ),
    (
        "auto.offset.reset",
        "a position that is gone is said, not skipped",
    ),
    ("enable.partition.eof", "it ends a page"),
    ("check.crcs", "a damaged entry must be noticed"),
    (
        "client.rack",
        "a follower's word that nothing more is there may be old: readers ask leaders",
    ),
    (
        "partitioner",
        "the partition follows from the key, everywhere the same",
    ),
    ("allow.auto.create.topics", "topics are made with their settings"),
    ("receive.message.max.bytes", "it follows from the largest append"),
    ("fetch.max.bytes", "it follows from the largest append"),
    ("group.instance.id", "members come and go by themselves"),
    ("log_level", "the program's own log decides"),
    (
        "statistics.interval.ms",
        "only its statistics tell that a client has lost all brokers",
    ),
];

/// How the log reaches Kafka and what its topics are like.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Addresses of brokers to begin with, `host:port`, separated by commas.
    pub bootstrap: String,
    /// Before the name of each topic and transaction.
    #[serde(default = "default_prefix")]
    pub topic_prefix: String,
    /// Replicas of each partition.
    #[serde(default = "default_replication")]
    pub replication_factor: u16,
    /// Replicas that must have an entry before it is acknowledged. By default all but one, so that one broker may be away.
    #[serde(default)]
    pub min_insync_replicas: Option<u16>,
    /// A name of this process that stays the same when it starts again and that no other process has: Kafka then ends at once what the
    /// earlier run left half done, where readers would otherwise wait [`TRANSACTION_TIMEOUT`](crate::TRANSACTION_TIMEOUT).
    #[serde(default)]
    pub instance: Option<String>,
    /// Properties of librdkafka by their names; those that the log's promises rest on are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Properties whose value stands in a file, such as `sasl.password`: the file's text without the line end.
    #[serde(default)]
    pub properties_from_files: BTreeMap<String, PathBuf>,
    /// For `sasl.mechanism = OAUTHBEARER` without OIDC: a file that holds the current token, renewed by somebody else.
    #[serde(default)]
    pub oauthbearer_token_file: Option<PathBuf>,
    /// How long things stay.
    #[serde(default)]
    pub retention: Retention,
}

/// How long things stay in the topics: what *gone by* is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// How long a replaced value may stand before a table's partition must be compacted, in milliseconds.
    pub compaction_lag_max_ms: u64,
    /// How long a tombstone stays after its first compaction, in milliseconds. A store that was away for more than half of it rebuilds.
    pub tombstone_ms: u64,
    /// After which age a segment is closed with the next entry, in milliseconds.
    pub segment_ms: u64,
    /// How long entries of a queue stay, in milliseconds.
    pub queue_ms: u64,
    /// How often somebody calls [`KafkaLog::heartbeat`](crate::KafkaLog::heartbeat), in milliseconds.
    pub heartbeat_ms: u64,
    /// How long Kafka keeps a file after it took it out of the log, in milliseconds.
    pub file_ms: u64,
    /// What the cleaner may need until it has come to a partition and passed it, in milliseconds.
    pub cleaner_ms: u64,
}

const HOUR_MS: u64 = 3_600_000;

impl Default for Retention {
    fn default() -> Self {
        Self {
            compaction_lag_max_ms: 24 * HOUR_MS,
            tombstone_ms: 7 * 24 * HOUR_MS,
            segment_ms: 24 * HOUR_MS,
            queue_ms: 7 * 24 * HOUR_MS,
            heartbeat_ms: HOUR_MS,
            file_ms: 60_000,
            cleaner_ms: HOUR_MS,
        }
    }
}

fn default_prefix() -> String {
    "lethe.".to_owned()
}

const fn default_replication() -> u16 {
    3
}

impl fmt::Debug for KafkaSettings {
    /// Without the values of properties: passwords stand among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap", &self.bootstrap)
            .field("topic_prefix", &self.topic_prefix)
            .field("replication_factor", &self.replication_factor)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// Settings with nothing but defaults.
    pub fn new(bootstrap: impl Into<String>) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            topic_prefix: default_prefix(),
            replication_factor: default_replication(),
            min_insync_replicas: None,
            instance: None,
            properties: BTreeMap::new(),
            properties_from_files: BTreeMap::new(),
            oauthbearer_token_file: None,
            retention: Retention::default(),
        }
    }

    /// Replicas that must have an entry before it is acknowledged.
    pub fn min_insync(&self) -> u16 {
        self.min_insync_replicas
            .unwrap_or_else(|| self.replication_factor.saturating_sub(1).max(1))
    }

    /// What every client of this log is configured with.
    ///
    /// Errors: [`Error::Settings`] where something is missing, malformed or not for the configuration to decide, or a file cannot be read.
    pub(crate) fn client(&self) -> Result<ClientConfig, Error> {
        self.check()?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("client.id", "lethe");
        // A broker that is back is found within a second, not after the library's ten.
        config.set("reconnect.backoff.max.ms", "1000");
        // A broker that stood still took no connections, and TCP asks again ever later: whoever began one meanwhile begins anew after as long as
        // Kafka's own clients give it, not after the library's thirty seconds.
        config.set("socket.connection.setup.timeout.ms", "10000");
        // A question for a leader that was lost with its broker is asked again with the next refresh, by default after five minutes.
        config.set("topic.metadata.refresh.interval.ms", "10000");
        config.set("statistics.interval.ms", STATISTICS_MS);
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        for (name, file) in &self.properties_from_files {
            config.set(name, secret(name, file)?);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Settings(what));
        if self.bootstrap.trim().is_empty() {
            return wrong("bootstrap is empty: name at least one broker as host:port".to_owned());
        }
        let names_topic = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.topic_prefix.len() > PREFIX_BYTES_MAX || !self.topic_prefix.chars().all(names_topic) {
            return wrong(format!(
                "topic_prefix may hold at most {PREFIX_BYTES_MAX} letters, digits, dots, dashes and underscores"
            ));
        }
        if self.replication_factor == 0
            || self.min_insync() == 0
            || self.min_insync() > self.replication_factor
        {
            return wrong(format!(
                "min_insync_replicas is {} of {} replicas: at least 1, and no more than there are",
                self.min_insync(),
                self.replication_factor
            ));
        }
        let names = self.properties.keys().chain(self.properties_from_files.keys());
        for name in names {
            if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| owned == name) {
                return wrong(format!("the property {name} is Lethe's own: {reason}"));
            }
        }
        let twice = self
            .properties
            .keys()
            .find(|name| self.properties_from_files.contains_key(*name));
        if let Some(name) = twice {
            return wrong(format!(
                "the property {name} is given both as text and from a file"
            ));
        }
        self.retention.check()
    }
}

/// A topic's name has at most 249 characters; the longest stream's name needs the rest.
const PREFIX_BYTES_MAX: usize = 100;

impl Retention {
    fn check(self) -> Result<(), Error> {
        let all = [
            ("compaction_lag_max_ms", self.compaction_lag_max_ms),
            ("tombstone_ms", self.tombstone_ms),
            ("segment_ms", self.segment_ms),
            ("queue_ms", self.queue_ms),
            ("heartbeat_ms", self.heartbeat_ms),
        ];
        match all.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(Error::Settings(format!("retention.{name} must be at least 1"))),
            None => Ok(()),
        }
    }

    /// How old what a table's reader has not read may be, before it has to begin again: half of what Kafka promises, for the
    /// reader needs time to catch up.
    #[must_use]
    pub const fn reader_away_max(self) -> Duration {
        Duration::from_millis(self.tombstone_ms / 2)
    }
}

fn secret(name: &str, file: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Error::Settings(format!(
            "the file of {name}, {}, cannot be read: {error}",
            file.display()
        ))
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let settings: KafkaSettings = toml::from_str(text).unwrap();
        settings.client().unwrap_err().to_string()
    }

    #[test]
    fn what_the_promises_rest_on_is_refused_with_the_reason() {
        for (owned, _) in OWNED {
            let told = refused(&format!(
                "bootstrap = \"b:1\"\nproperties = {{ \"{owned}\" = \"0\" }}"
            ));
            assert!(told.contains(owned) && told.contains("Lethe's own"), "{told}");
        }
        let told = refused("bootstrap = \"b:1\"\nproperties_from_files = { acks = \"/nowhere\" }");
        assert!(told.contains("all in-sync replicas"), "{told}");
    }

    #[test]
    fn other_properties_reach_the_client_and_passwords_come_from_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let mut settings = KafkaSettings::new("b:1");
        settings
            .properties
            .insert("sasl.mechanism".to_owned(), "SCRAM-SHA-512".to_owned());
        settings
            .properties_from_files
            .insert("sasl.password".to_owned(), file.path().to_owned());
        let config = settings.client().unwrap();
        assert_eq!(config.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(config.get("sasl.password"), Some("s3cret"));
        settings
            .properties
            .insert("ssl.key.password".to_owned(), "hidden".to_owned());
        assert!(!format!("{settings:?}").contains("hidden"));
    }

    #[test]
    fn a_setting_that_does_not_exist_is_refused() {
        assert!(toml::from_str::<KafkaSettings>("bootstrap = \"b:1\"\nreplication = 3").is_err());
        assert!(toml::from_str::<KafkaSettings>("bootstrap = \"b:1\"\n[retention]\nqueue = 3").is_err());
        assert!(refused("bootstrap = \" \"").contains("bootstrap"));
        assert!(refused("bootstrap = \"b:1\"\ntopic_prefix = \"a/b\"").contains("topic_prefix"));
        assert!(
            refused("bootstrap = \"b:1\"\nreplication_factor = 2\nmin_insync_replicas = 3")
                .contains("3 of 2")
        );
    }
}
