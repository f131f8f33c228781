//! Whether the cluster is as the log needs it, and the heartbeat.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe_journal::{Place, Position, Stream, StreamKind};
use rdkafka::consumer::Consumer as _;

use crate::shared::{ASK_TIMEOUT, Shared};
use crate::wire::Content;
use crate::{Drift, Error, KafkaLog, off_thread, told, topics};

/// Something about the cluster that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Somebody changed a setting of a topic: how long values survive there may not be what certificates say.
    Drift(Drift),
    /// A topic has another number of partitions: entries of ours in those that are missing cannot be read, and what others write to those that
    /// were added is read by nobody.
    Partitions {
        /// Name of the topic.
        topic: String,
        /// Partitions that Lethe declared.
        declared: u16,
        /// Partitions that there are.
        found: usize,
    },
    /// A partition has no leader: nothing can be read or appended.
    NoLeader(Place),
    /// Replicas of a partition are away: what they hold is not removed until they are back.
    ReplicasAway {
        /// The partition.
        at: Place,
        /// Replicas that keep up.
        in_sync: usize,
        /// Replicas that there are.
        replicas: usize,
    },
    /// A topic has fewer or more replicas than declared.
    Replication {
        /// The partition.
        at: Place,
        /// Replicas that Lethe declared.
        declared: u16,
        /// Replicas that there are.
        found: usize,
    },
    /// The cleaner has not removed from a partition what it should have: it is behind, or has stopped.
    NotCleaned(Place),
    /// A partition cannot be read to its end, nor be cleaned from there on: a transaction was left open.
    NotReadable {
        /// The partition.
        at: Place,
        /// Where the transaction begins.
        from: Position,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drift(drift) => write!(
                f,
                "topic {} has {} = {}, not {}",
                drift.topic, drift.setting, drift.found, drift.declared
            ),
            Self::Partitions {
                topic,
                declared,
                found,
            } => write!(f, "topic {topic} has {found} partitions, not {declared}"),
            Self::NoLeader(at) => write!(f, "{at} has no leader"),
            Self::ReplicasAway {
                at,
                in_sync,
                replicas,
            } => {
                write!(f, "{at} has {in_sync} of {replicas} replicas in sync")
            }
            Self::Replication { at, declared, found } => {
                write!(f, "{at} has {found} replicas, not {declared}")
            }
            Self::NotCleaned(at) => write!(
                f,
                "{at} still holds what was replaced: Kafka's log cleaner is behind or has stopped"
            ),
            Self::NotReadable { at, from } => write!(
                f,
                "{at} cannot be read from position {from} on: a transaction was left open there"
            ),
        }
    }
}

impl Finding {
    /// Every kind, as metrics name it.
    pub const KINDS: [&str; 7] = [
        "setting",
        "partitions",
        "no_leader",
        "replicas_away",
        "replication",
        "not_cleaned",
        "not_readable",
    ];

    /// Which of [`Self::KINDS`] it is.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Drift(_) => "setting",
            Self::Partitions { .. } => "partitions",
            Self::NoLeader(_) => "no_leader",
            Self::ReplicasAway { .. } => "replicas_away",
            Self::Replication { .. } => "replication",
            Self::NotCleaned(_) => "not_cleaned",
            Self::NotReadable { .. } => "not_readable",
        }
    }

    /// Whether new work should wait while this is so: what is appended may not stay, or cannot be appended or read. Another number of replicas is
    /// none of it, as a broker that starts anew is away for a moment.
    pub const fn is_in_the_way(&self) -> bool {
        matches!(
            self,
            Self::Drift(_) | Self::Partitions { .. } | Self::NoLeader(_) | Self::NotReadable { .. }
        )
    }

    /// Whether what erasure removes may survive longer than [`gone_by`](lethe_log::EventLog::gone_by) says while this is so.
    pub const fn delays_removal(&self) -> bool {
        matches!(
            self,
            Self::Drift(_)
                | Self::Partitions { .. }
                | Self::NoLeader(_)
                | Self::ReplicasAway { .. }
                | Self::NotCleaned(_)
                | Self::NotReadable { .. }
        )
    }
}

/// What the cluster says of a stream's topic.
struct Seen {
    topic: String,
    stream: Stream,
    /// Partitions that the topic has.
    found: usize,
    /// Those of them that the stream has.
    partitions: Vec<(Place, Replicas)>,
}

/// What the cluster says of a partition.
struct Replicas {
    has_leader: bool,
    there: usize,
    in_sync: usize,
}

impl KafkaLog {
    /// Everything about the cluster that is not as it should be.
    ///
    /// Errors: [`Error::Unreachable`] where it does not answer.
    pub async fn findings(&self) -> Result<Vec<Finding>, Error> {
        let mut findings: Vec<Finding> = self.drift().await?.into_iter().map(Finding::Drift).collect();
        for seen in self.topics_seen().await? {
            let declared = seen.stream.partitions();
            if seen.found != usize::from(declared) {
                findings.push(Finding::Partitions {
                    topic: seen.topic,
                    declared,
                    found: seen.found,
                });
            }
            for (at, replicas) in seen.partitions {
                findings.extend(self.of_replicas(&at, &replicas));
            }
        }
        let leaderless = |found: &Finding| match found {
            Finding::NoLeader(at) => Some(at.clone()),
            _ => None,
        };
        let without_leader = findings.iter().filter_map(leaderless).collect();
        match self.not_readable(&without_leader).await {
            Ok(closed) => findings.extend(closed),
            Err(error) if !findings.iter().any(Finding::is_in_the_way) => return Err(error),
            // What was found may be in the way of the question as well, and nothing better is thought of the cluster than without it.
            Err(_) => {}
        }
        findings.extend(self.not_cleaned(&without_leader).await);
        Ok(findings)
    }

    fn of_replicas(&self, at: &Place, seen: &Replicas) -> Vec<Finding> {
        let mut findings = Vec::new();
        if !seen.has_leader {
            findings.push(Finding::NoLeader(at.clone()));
        }
        if seen.in_sync < seen.there {
            findings.push(Finding::ReplicasAway {
                at: at.clone(),
                in_sync: seen.in_sync,
                replicas: seen.there,
            });
        }
        let declared = self.shared.settings.replication_factor;
        if seen.there != usize::from(declared) {
            findings.push(Finding::Replication {
                at: at.clone(),
                declared,
                found: seen.there,
            });
        }
        findings
    }

    /// Settings of topics that somebody changed.
    ///
    /// Errors: [`Error::Unreachable`] and [`Error::TopicRefused`].
    pub async fn drift(&self) -> Result<Vec<Drift>, Error> {
        let admin = self.shared.clients.admin()?;
        topics::drift(&admin, &self.shared.settings, &self.streams()).await
    }

    /// How often somebody is to call [`Self::heartbeat`].
    pub fn heartbeat_every(&self) -> Duration {
        Duration::from_millis(self.shared.settings.retention.heartbeat_ms)
    }

    /// Appends an entry that nobody reads to each partition of a table or queue, so that segments close and compaction and retention come
    /// to them though nobody writes. To be called every [`heartbeat_ms`](crate::Retention::heartbeat_ms), by one process at least.
    ///
    /// Gives the number of partitions. Errors: [`lethe_log::Error::Unknown`] where some may not have got theirs; calling it again mends that.
    pub async fn heartbeat(&self) -> Result<usize, lethe_log::Error> {
        let content = Content::Heartbeat;
        let parts = content.parts(None);
        let channels = self
            .shared
            .channels
            .values()
            .filter(|channel| channel.at.stream.kind() != StreamKind::History);
        let failed = |what: String| lethe_log::Error::Unknown(format!("a heartbeat: {what}"));
        let single = self
            .shared
            .clients
            .single()
            .map_err(|error| failed(error.to_string()))?;
        let mut sent = Vec::new();
        for channel in channels {
            let under_way = parts.send(&single, &channel.topic, channel.partition());
            sent.push((channel, under_way.map_err(|error| failed(told(&error)))?));
        }
        let partitions = sent.len();
        for (channel, under_way) in sent {
            match under_way.await {
                Ok(Ok(delivered)) => {
                    if let Ok(position) = Position::try_from(delivered.offset) {
                        self.shared.beats.note(&channel.at, position);
                    }
                }
                Ok(Err((error, _))) => return Err(failed(told(&error))),
                Err(_) => return Err(failed("the producer ended".to_owned())),
            }
        }
        Ok(partitions)
    }

    /// Shows the tools of Kafka how far the readers of this process are, as committed offsets of the group that is named `topic_prefix` and
    /// [`instance`](crate::KafkaSettings::instance). Nobody waits for it, and nothing ever reads it back: a position stands with its effect. A
    /// process without a name of its own shows nothing, for every start would leave a group behind.
    pub fn show_positions(&self, positions: &BTreeMap<Place, Position>) {
        if self.shared.settings.instance.is_none() {
            return;
        }
        let mut list = rdkafka::TopicPartitionList::new();
        for (at, position) in positions {
            let offset = rdkafka::Offset::Offset(i64::try_from(*position).unwrap_or(i64::MAX));
            let topic = topics::name(&self.shared.settings, &at.stream);
            if list
                .add_partition_offset(&topic, i32::from(at.partition), offset)
                .is_err()
            {
                return;
            }
        }
        let asking = &self.shared.clients.asking;
        if let Err(error) = asking.commit(&list, rdkafka::consumer::CommitMode::Async) {
            tracing::debug!(error = told(&error), "positions could not be shown");
        }
    }

    /// Drops the start of partitions of a queue, up to but without the given positions: nothing before them is read again. Kafka
    /// removes a file once nothing in it is left.
    ///
    /// Errors: [`lethe_log::Error::NotStored`] where the stream is no queue, or a position is past the head.
    pub async fn drop_start(
        &self,
        stream: &Stream,
        before: &BTreeMap<u16, Position>,
    ) -> Result<(), lethe_log::Error> {
        if stream.kind() != StreamKind::Queue {
            return Err(lethe_log::Error::NotStored(format!(
                "{stream} is no queue: the start of a table or a history is never dropped"
            )));
        }
        let failed = |what: String| {
            lethe_log::Error::NotStored(format!("the start of {stream} is still there: {what}"))
        };
        let mut list = rdkafka::TopicPartitionList::new();
        let topic = topics::name(&self.shared.settings, stream);
        for (partition, position) in before {
            let offset = rdkafka::Offset::Offset(i64::try_from(*position).unwrap_or(i64::MAX));
            list.add_partition_offset(&topic, i32::from(*partition), offset)
                .map_err(|error| failed(told(&error)))?;
        }
        let admin = self
            .shared
            .clients
            .admin()
            .map_err(|error| failed(error.to_string()))?;
        let done = admin
            .delete_records(
                &list,
                &rdkafka::admin::AdminOptions::new().operation_timeout(Some(ASK_TIMEOUT)),
            )
            .await
            .map_err(|error| failed(told(&error)))?;
        for element in done.elements() {
            element.error().map_err(|error| failed(told(&error)))?;
        }
        Ok(())
    }

    /// Refuses topics that have another number of partitions than their stream.
    ///
    /// Errors: [`Error::WrongPartitions`] and [`Error::Unreachable`].
    pub(crate) async fn partitions_as_declared(&self) -> Result<(), Error> {
        for seen in self.topics_seen().await? {
            let declared = seen.stream.partitions();
            if seen.found != usize::from(declared) {
                return Err(Error::WrongPartitions {
                    topic: seen.topic,
                    declared,
                    found: seen.found,
                });
            }
        }
        Ok(())
    }

    /// What the cluster says of each topic of the log.
    async fn topics_seen(&self) -> Result<Vec<Seen>, Error> {
        let (shared, streams) = (Arc::clone(&self.shared), self.streams());
        off_thread(move || streams.into_iter().map(|stream| seen(&shared, stream)).collect())
            .await
            .ok_or_else(|| Error::Unreachable("the program is ending".to_owned()))?
    }
}

/// How long a topic may take to be known to every broker after it was made.
const KNOWN_PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks whether it is.
const KNOWN_PAUSE: Duration = Duration::from_millis(20);

fn seen(shared: &Shared, stream: Stream) -> Result<Seen, Error> {
    let topic = topics::name(&shared.settings, &stream);
    let until = Instant::now() + KNOWN_PATIENCE;
    let metadata = loop {
        let metadata = shared
            .clients
            .asking
            .fetch_metadata(Some(&topic), ASK_TIMEOUT)
            .map_err(|error| Error::Unreachable(told(&error)))?;
        let is_known = metadata
            .topics()
            .iter()
            .any(|topic| !topic.partitions().is_empty());
        if is_known || Instant::now() >= until {
            break metadata;
        }
        std::thread::sleep(KNOWN_PAUSE);
    };
    let found = metadata
        .topics()
        .first()
        .map(|topic| topic.partitions())
        .unwrap_or_default();
    let partitions = found.iter().filter_map(|partition| {
        let number = u16::try_from(partition.id()).ok()?;
        let replicas = Replicas {
            has_leader: partition.leader() >= 0,
            there: partition.replicas().len(),
            in_sync: partition.isr().len(),
        };
        (number < stream.partitions()).then(|| (Place::new(stream.clone(), number), replicas))
    });
    Ok(Seen {
        found: found.len(),
        partitions: partitions.collect(),
        topic,
        stream,
    })
}
