//! Sharing the partitions of a stream out among processes: a consumer group that reads nothing. Kafka says who is to have which partition;
//! what each does with it, and when it gives it up, is its own affair.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lethe_journal::Stream;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::watch;

use crate::clients::Clients;
use crate::context::{Talk, is_broker_away};
use crate::{Error, KafkaLog, told};

/// After so long without a word a member is taken for gone, and its partitions go to others: longer than a broker needs to be replaced in
/// most cases, short enough that a person who waits for an answer still does.
const SESSION_TIMEOUT_MS: &str = "10000";
/// Three words a session, as Kafka recommends.
const HEARTBEAT_MS: &str = "3000";
/// After so long without a pulse a member leaves the group. Longer than anything that whoever works does in one go, such as working out what
/// all cases hold; short enough that a person who waits for an answer still does.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How long leaving a group may take. The library goes on for ever where it does not hear from the group's coordinator, such as after that was
/// replaced (librdkafka, issue 3740); then the group misses the member instead.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks whether the group is left, which takes milliseconds.
const LEAVE_PAUSE: Duration = Duration::from_millis(10);
/// How long a poll waits for news.
const POLL: Duration = Duration::from_millis(200);

/// A member of a group among which the partitions of a stream are shared out. Dropping it leaves the group.
pub struct Membership {
    assigned: watch::Receiver<BTreeSet<u16>>,
    pulse: Pulse,
    closed: Arc<AtomicBool>,
    poller: JoinHandle<()>,
}

/// The pulse of whoever works on what a member is given. The membership has a thread of its own, which lives on where that is stuck, such as on
/// a disk that does not answer.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Mutex<Option<Instant>>>);

impl Pulse {
    /// Says that whoever works is not stuck. Once said it must be said every few seconds: after half a minute without, the member leaves the
    /// group until it is said again.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago that was said last; nothing where it never was.
    pub fn age(&self) -> Option<Duration> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|last| last.elapsed())
    }

    fn is_stuck(&self) -> bool {
        self.age().is_some_and(|age| age > STUCK_AFTER)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("assigned", &*self.assigned.borrow())
            .finish_non_exhaustive()
    }
}

impl Membership {
    /// The partitions that this member is to have now.
    pub fn assigned(&self) -> watch::Receiver<BTreeSet<u16>> {
        self.assigned.clone()
    }

    /// Where whoever works on that says that it is not stuck.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let until = Instant::now() + LEAVE_TIME_MAX;
        // It never panics, and there would be nobody left to tell.
        while !self.poller.is_finished() {
            if Instant::now() >= until {
                tracing::warn!("a group could not be left: it misses this member");
                return;
            }
            std::thread::sleep(LEAVE_PAUSE);
        }
    }
}

impl KafkaLog {
    /// Joins the group of this name among which the partitions of a stream are shared out. When members come and go only as many partitions
    /// move as must. Partitions that were added to the topic are no part of the stream, and nobody is given them.
    ///
    /// # Errors
    /// [`Error::Settings`] where no client can be made of the settings.
    pub fn join(&self, group: &str, stream: &Stream) -> Result<Membership, Error> {
        let (sender, assigned) = watch::channel(BTreeSet::new());
        let topic = format!("{}{stream}", self.shared.settings.topic_prefix);
        let consumer = self.shared.clients.member(group, stream, sender)?;
        consumer
            .subscribe(&[&topic])
            .map_err(|error| Error::Unreachable(told(&error)))?;
        let (closed, pulse) = (Arc::new(AtomicBool::new(false)), Pulse::default());
        let poller = std::thread::Builder::new()
            .name("log-group".to_owned())
            .spawn({
                let (closed, pulse) = (Arc::clone(&closed), pulse.clone());
                move || poll(&consumer, &topic, &pulse, &closed)
            })
            .map_err(|error| Error::Settings(format!("a thread cannot start: {error}")))?;
        Ok(Membership {
            assigned,
            pulse,
            closed,
            poller,
        })
    }
}

/// Keeps the membership alive, but not for somebody who is stuck. Its partitions are paused, so that nothing but news of the group comes.
fn poll(consumer: &BaseConsumer<Member>, topic: &str, pulse: &Pulse, closed: &AtomicBool) {
    let mut has_left = false;
    while !closed.load(Ordering::Relaxed) {
        match (pulse.is_stuck(), has_left) {
            (true, false) => {
                tracing::error!(topic, "whoever works on partitions is stuck: they go to others");
                consumer.unsubscribe();
                has_left = true;
            }
            (false, true) => match consumer.subscribe(&[topic]) {
                Ok(()) => has_left = false,
                Err(error) => tracing::warn!(error = told(&error), "the group cannot be joined again"),
            },
            _ => {}
        }
        match consumer.poll(POLL) {
            Some(Err(error)) if is_broker_away(&error) => {
                tracing::debug!(error = told(&error), "the group of owners cannot be heard");
            }
            Some(Err(error)) => tracing::warn!(error = told(&error), "the group of owners cannot be heard"),
            _ => {}
        }
    }
}

impl Clients {
    fn member(
        &self,
        group: &str,
        stream: &Stream,
        assigned: watch::Sender<BTreeSet<u16>>,
    ) -> Result<BaseConsumer<Member>, Error> {
        let mut config = self.base();
        for (name, value) in [
            ("session.timeout.ms", SESSION_TIMEOUT_MS),
            ("heartbeat.interval.ms", HEARTBEAT_MS),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config
            .set("group.id", format!("{}{group}", self.prefix()))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest")
            .set("allow.auto.create.topics", "false");
        let talk = self.talk();
        let member = Member {
            talk: talk.clone(),
            partitions: stream.partitions(),
            assigned,
        };
        let consumer: BaseConsumer<Member> = config
            .create_with_context(member)
            .map_err(|error| Error::Settings(told(&error)))?;
        talk.of(consumer.client());
        Ok(consumer)
    }
}

/// What a member hears from its group.
struct Member {
    talk: Talk,
    /// Partitions of the stream. Its topic may have got more: nobody writes there, and whoever is given one of them would wait for it for ever.
    partitions: u16,
    assigned: watch::Sender<BTreeSet<u16>>,
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = Talk::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.talk.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.talk.error(error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.talk.stats_raw(statistics);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.talk.generate_oauth_token(config)
    }
}

impl ConsumerContext for Member {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(given) => {
                // Whoever folds a partition reads it with a position of its own.
                if let Err(error) = consumer.pause(given) {
                    tracing::warn!(error = told(&error), "an assigned partition is fetched in vain");
                }
                let given = partitions(given).filter(|partition| *partition < self.partitions);
                self.assigned.send_modify(|assigned| assigned.extend(given));
            }
            Rebalance::Revoke(taken) => {
                let taken: BTreeSet<u16> = partitions(taken).collect();
                self.assigned
                    .send_modify(|assigned| assigned.retain(|partition| !taken.contains(partition)));
            }
            Rebalance::Error(error) => {
                tracing::warn!(error = told(error), "partitions could not be shared out");
            }
        }
    }
}

fn partitions(list: &TopicPartitionList) -> impl Iterator<Item = u16> {
    list.elements()
        .into_iter()
        .filter_map(|element| u16::try_from(element.partition()).ok())
        .collect::<Vec<_>>()
        .into_iter()
}
