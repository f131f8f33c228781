//! Whether Kafka is as the log needs it: looked at now and then, and kept for whoever promises something about the log.
//!
//! When a value is gone from the log rests on settings that anybody with rights on the cluster can change at any time, on replicas that are
//! there, and on a cleaner that keeps up. A statement names the time only while the last look found nothing against it; what nobody could look at promises nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_gateway::views::{TopicList, TopicView};
use lethe_gateway::words;
use lethe_journal::{Stream, StreamKind};
use lethe_log_kafka::{Drift, Finding, KafkaLog};
use tokio::sync::watch;

use crate::Error;
use crate::log::Log;

/// How often the cluster is looked at: what a statement says is at most so old, and to describe a dozen topics costs a broker little.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Pause after a look that failed, or that found what a process ends by itself: who waits for the cluster to be well hears of it sooner.
const LOOK_RETRY: Duration = Duration::from_secs(5);

/// How long one look may take, so that an old one does not stand while the next never ends.
const LOOK_TIME_MAX: Duration = Duration::from_secs(30);

/// Our own copies as the statement names them: what is folded into stores, what waits to be worked off, and what stays as long as the evidence.
const TABLES: &str = "lethe log and stores";
const QUEUES: &str = "lethe log, queues";
const HISTORIES: &str = "lethe log, histories of cases";

/// When what no retention removes is gone.
const WITH_KEY: &str = "not by time: it stays, sealed under the key of its case";
const WHEN_DECIDED: &str = "not by time: each stays, sealed, until somebody has decided on it";

/// What the last look found; nothing where nobody could look.
pub(crate) type Found = Option<Vec<Finding>>;

/// What is known of the cluster. The embedded log has none, and nothing is found.
pub(crate) struct Cluster {
    log: Log,
    /// How long what was ended may still stand in each stream, where nothing delays its removal; nothing where that is until its key is destroyed.
    lasting: Vec<(Stream, Option<Duration>)>,
    found: Mutex<Found>,
}

impl Cluster {
    /// Looks for the first time: a case that went on before the start may end at once.
    pub(crate) async fn open(log: Log, streams: Vec<Stream>, compact_after_s: u64) -> Arc<Self> {
        let compact_after = Duration::from_secs(compact_after_s);
        let lasting = streams.into_iter().map(|stream| {
            let within = log.gone_within(&stream, compact_after);
            (stream, within)
        });
        let lasting = lasting.collect();
        let first = match &log {
            Log::Kafka(kafka) => look(kafka).await,
            Log::Embedded(_) => Some(Vec::new()),
        };
        let cluster = Self {
            log,
            lasting,
            found: Mutex::new(Some(Vec::new())),
        };
        cluster.note(first);
        Arc::new(cluster)
    }

    /// What the last look found.
    pub(crate) fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a statement says now about copies of our own: where, and when they are gone.
    pub(crate) fn copies(&self) -> Vec<(String, String)> {
        let pending = pending(self.found().as_deref());
        let longest = |kind: StreamKind| {
            let of_kind = self.lasting.iter().filter(|(stream, _)| stream.kind() == kind);
            of_kind
                .filter_map(|(_, within)| *within)
                .max()
                .unwrap_or_default()
        };
        let gone_by = |kind, from| {
            let promised = || format!("{} after {from}", words::at_most(longest(kind)));
            pending.clone().unwrap_or_else(promised)
        };
        // The last instruction, which asks whether all is gone, goes out before the statement.
        vec![
            (TABLES.to_owned(), gone_by(StreamKind::Table, "a record ended")),
            (QUEUES.to_owned(), gone_by(StreamKind::Queue, "this statement")),
            (HISTORIES.to_owned(), WITH_KEY.to_owned()),
        ]
    }

    /// How long what was ended may still stand in each topic, and what was found about it.
    pub(crate) fn topics(&self) -> TopicList {
        let found = self.found();
        let topic = |(stream, within): &(Stream, Option<Duration>)| TopicView {
            topic: self.log.topic(stream),
            kind: kind_name(stream.kind()).to_owned(),
            gone_by: within.map_or_else(|| without_time(stream).to_owned(), words::at_most),
            gone_by_s: within.map(|time| time.as_secs()),
            findings: found
                .iter()
                .flatten()
                .filter(|finding| self.is_about(finding, stream))
                .map(ToString::to_string)
                .collect(),
        };
        TopicList {
            topics: self.lasting.iter().map(topic).collect(),
            looked: found.is_some(),
            pending: pending(found.as_deref()),
        }
    }

    fn is_about(&self, finding: &Finding, stream: &Stream) -> bool {
        match finding {
            Finding::Drift(Drift { topic, .. }) | Finding::Partitions { topic, .. } => {
                *topic == self.log.topic(stream)
            }
            Finding::NoLeader(at)
            | Finding::NotCleaned(at)
            | Finding::NotReadable { at, .. }
            | Finding::ReplicasAway { at, .. }
            | Finding::Replication { at, .. } => at.stream == *stream,
        }
    }

    /// Whether there is a cluster at all.
    pub(crate) const fn is_there(&self) -> bool {
        matches!(self.log, Log::Kafka(_))
    }

    /// Whether work can go on, and what was found, in words for who runs Lethe.
    pub(crate) fn stands(&self) -> (bool, String) {
        stands(self.found().as_deref())
    }

    /// Looks until `stop`.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let Log::Kafka(kafka) = &self.log else {
            // It must not end before the others: a task that ends by itself has failed.
            let _ = stop.wait_for(|stop| *stop).await;
            return Ok(());
        };
        while !*stop.borrow() {
            tokio::select! {
                () = self.look_again(kafka) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Looks after a pause, and ends what keeps readers out where a process can.
    async fn look_again(&self, kafka: &KafkaLog) {
        tokio::time::sleep(pause_after(self.found().as_deref())).await;
        let found = look(kafka).await;
        self.note(found.clone());
        for finding in found.iter().flatten() {
            kafka.end_hanging(finding).await;
        }
    }

    /// Keeps what a look found, and tells of what is new in it.
    fn note(&self, found: Found) {
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.as_deref().unwrap_or_default();
        for finding in found.iter().flatten().filter(|finding| !before.contains(finding)) {
            tracing::warn!(%finding, "Kafka is not as declared");
        }
        if found.as_ref().is_some_and(Vec::is_empty) && !before.is_empty() {
            tracing::info!("Kafka is as declared again");
        }
        *known = found;
    }
}

/// Who waits for what is mended within seconds hears of it within seconds.
fn pause_after(found: Option<&[Finding]>) -> Duration {
    let passes = |finding: &Finding| matches!(finding, Finding::NotReadable { .. });
    match found {
        Some(found) if !found.iter().any(passes) => LOOK_EVERY,
        _ => LOOK_RETRY,
    }
}

async fn look(kafka: &KafkaLog) -> Found {
    match tokio::time::timeout(LOOK_TIME_MAX, kafka.findings()).await {
        Ok(Ok(found)) => Some(found),
        Ok(Err(error)) => {
            tracing::warn!(code = error.code(), "Kafka could not be looked at");
            None
        }
        Err(_) => {
            tracing::warn!("Kafka could not be looked at in time");
            None
        }
    }
}

/// Why nobody can say when a value is gone from the log, in words for the statement; nothing where one can. They name no topic and no setting:
/// the statement is for people who have no business with either.
fn pending(found: Option<&[Finding]>) -> Option<String> {
    let Some(found) = found else {
        return Some("pending: whether the log removes what ended could not be looked at".to_owned());
    };
    let delaying: Vec<&Finding> = found.iter().filter(|finding| finding.delays_removal()).collect();
    let is_there = |kind: fn(&Finding) -> bool| delaying.iter().any(|finding| kind(finding));
    let mut whys = Vec::new();
    if is_there(|finding| matches!(finding, Finding::Drift(_))) {
        whys.push("a setting of the log is not as declared");
    }
    if is_there(|finding| matches!(finding, Finding::Partitions { .. })) {
        whys.push("a part of the log has another number of partitions than declared");
    }
    if is_there(|finding| matches!(finding, Finding::NoLeader(_) | Finding::ReplicasAway { .. })) {
        whys.push("a replica of the log is away");
    }
    if is_there(|finding| matches!(finding, Finding::NotCleaned(_))) {
        whys.push("what cleans the log is behind");
    }
    if is_there(|finding| matches!(finding, Finding::NotReadable { .. })) {
        whys.push("a part of the log cannot be read to its end");
    }
    (!delaying.is_empty()).then(|| format!("pending: {}", whys.join(", and ")))
}

fn without_time(stream: &Stream) -> &'static str {
    if *stream == Stream::Quarantine {
        WHEN_DECIDED
    } else {
        WITH_KEY
    }
}

const fn kind_name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Table => "table",
        StreamKind::Queue => "queue",
        StreamKind::History => "history",
    }
}

/// Most findings that are named: a broker that is away is found at every partition.
const NAMED_MAX: usize = 3;

fn stands(found: Option<&[Finding]>) -> (bool, String) {
    let Some(found) = found else {
        return (false, "the topics could not be looked at".to_owned());
    };
    // What is in the way comes first.
    let (mut named, others): (Vec<&Finding>, Vec<&Finding>) =
        found.iter().partition(|finding| finding.is_in_the_way());
    let is_well = named.is_empty();
    named.extend(others);
    let left = named.len().saturating_sub(NAMED_MAX);
    let mut words: Vec<String> = named.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if left > 0 {
        words.push(format!("and {left} more"));
    }
    (is_well, words.join("; "))
}

#[cfg(test)]
mod tests {
    use lethe_journal::Place;

    use super::*;

    fn drift() -> Finding {
        Finding::Drift(Drift {
            topic: "lethe.records".into(),
            setting: "cleanup.policy".into(),
            declared: "compact".into(),
            found: "delete".into(),
        })
    }

    fn added() -> Finding {
        Finding::Partitions {
            topic: "lethe.cases".into(),
            declared: 4,
            found: 8,
        }
    }

    fn away() -> Finding {
        Finding::ReplicasAway {
            at: Place::new(Stream::Records, 3),
            in_sync: 2,
            replicas: 3,
        }
    }

    #[test]
    fn a_changed_setting_is_in_the_way_and_a_replica_that_is_away_is_only_told() {
        assert_eq!(stands(Some(&[])), (true, String::new()));
        assert!(!stands(None).0);
        let (is_well, words) = stands(Some(&[away()]));
        assert!(is_well && words.contains("2 of 3 replicas"), "{words}");
        let (is_well, words) = stands(Some(&[away(), away(), away(), drift()]));
        assert!(!is_well, "{words}");
        assert!(
            words.starts_with("topic lethe.records has cleanup.policy = delete, not compact; "),
            "{words}"
        );
        assert!(words.ends_with("; and 1 more"), "{words}");
        let (is_well, words) = stands(Some(&[added()]));
        assert!(!is_well, "{words}");
        assert_eq!(words, "topic lethe.cases has 8 partitions, not 4");
    }

    #[test]
    fn a_time_is_promised_only_where_somebody_looked_and_nothing_delays_removal() {
        let more = Finding::Replication {
            at: Place::new(Stream::Records, 3),
            declared: 3,
            found: 4,
        };
        assert_eq!(pending(Some(&[])), None);
        assert_eq!(
            pending(Some(&[more])),
            None,
            "one replica more removes as the others"
        );
        assert!(pending(None).is_some_and(|why| why.starts_with("pending: ")));
        let no_leader = Finding::NoLeader(Place::new(Stream::Keys, 0));
        let not_cleaned = Finding::NotCleaned(Place::new(Stream::Keys, 0));
        let not_readable = Finding::NotReadable {
            at: Place::new(Stream::Keys, 0),
            from: 7,
        };
        for (found, expected) in [
            (vec![drift()], "pending: a setting of the log is not as declared"),
            (
                vec![added()],
                "pending: a part of the log has another number of partitions than declared",
            ),
            (vec![away()], "pending: a replica of the log is away"),
            (vec![no_leader], "pending: a replica of the log is away"),
            (vec![not_cleaned], "pending: what cleans the log is behind"),
            (
                vec![not_readable],
                "pending: a part of the log cannot be read to its end",
            ),
            (
                vec![away(), drift(), drift()],
                "pending: a setting of the log is not as declared, and a replica of the log is away",
            ),
        ] {
            assert_eq!(pending(Some(&found)).as_deref(), Some(expected));
        }
    }
}
