//! The clients of Kafka: how each is configured, and the few that all places share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_journal::{Place, TABLE_PARTITIONS};
use rdkafka::admin::AdminClient;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{FutureProducer, Producer};

use crate::channel::Channel;
use crate::context::Talk;
use crate::settings::KafkaSettings;
use crate::topics::MESSAGE_BYTES_MAX;
use crate::{Error, hanging, token, told};

/// How long a transaction may stay open. While one of a writer that died is open, nobody reads past it; a new writer of the
/// same partition, or a new run of the same [`instance`](KafkaSettings::instance), ends it at once.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an entry may be under way before its outcome is unknown: shorter than its transaction lives, and longer than the cluster needs
/// to notice that a broker broke down (`broker.session.timeout.ms`, 9 s by default) and to elect another leader.
pub(crate) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a new writer may wait for the transactions of an earlier one to end.
pub(crate) const FENCING_TIMEOUT: Duration = Duration::from_secs(30);

/// Idle transactional producers that are kept. A page of intake goes to every partition of a table at once, beside what others append; each
/// producer has a few threads and connections, and making one takes half a second.
const SPARE_PRODUCERS_MAX: usize = TABLE_PARTITIONS as usize + 4;

/// Most things that a client is told between two looks at it: its statistics, and lines of its log where somebody asked for them.
const TOLD_MAX: usize = 64;

pub(crate) type Sender = FutureProducer<Talk>;
pub(crate) type Consumer = BaseConsumer<Talk>;

/// Makes clients, and keeps those that are used again.
pub(crate) struct Clients {
    settings: KafkaSettings,
    config: ClientConfig,
    talk: Talk,
    /// Names this process among the writers that need no epoch.
    instance: String,
    /// For entries that stand alone.
    single: Mutex<Sender>,
    /// For questions about positions.
    pub(crate) asking: Consumer,
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    producers: Vec<Shared>,
    free_numbers: Vec<u32>,
    last_number: u32,
    /// Where producers were given up that may have left a transaction open there: the next of the same number ends that first, before it commits
    /// anything, for what was given up must not come to be seen with it.
    left: BTreeMap<u32, (String, i32)>,
}

/// A transactional producer for partitions without a single writer.
pub(crate) struct Shared {
    pub(crate) producer: Sender,
    number: u32,
    /// Where nothing is left of an earlier run.
    clean: BTreeSet<Place>,
}

/// Why there is no producer of a number.
enum Unmade {
    /// No coordinator answers.
    Away(Error),
    /// What the one before left could not be ended.
    Left(Error),
}

impl Unmade {
    fn why(self) -> Error {
        match self {
            Self::Away(error) | Self::Left(error) => error,
        }
    }
}

impl Clients {
    /// The clients that every log needs.
    pub(crate) fn new(settings: &KafkaSettings) -> Result<Self, Error> {
        let config = settings.client()?;
        let instance = match &settings.instance {
            Some(name) => name.clone(),
            None => random_name()?,
        };
        let talk = Talk::new(settings)?;
        let single = made(&producer(&config), &talk)?;
        let asking = read_by(&consumer(&config, settings), &talk)?;
        Ok(Self {
            settings: settings.clone(),
            config,
            talk,
            instance,
            single: Mutex::new(single),
            asking,
            spare: Mutex::default(),
        })
    }

    /// What every client is configured with.
    pub(crate) fn base(&self) -> ClientConfig {
        self.config.clone()
    }

    /// Whether partitions have one replica, whose leader is always the same.
    pub(crate) const fn has_one_replica(&self) -> bool {
        self.settings.replication_factor == 1
    }

    /// Before the name of each topic, transaction and group.
    pub(crate) fn prefix(&self) -> &str {
        &self.settings.topic_prefix
    }

    /// What a client says and asks that is not made yet.
    pub(crate) fn talk(&self) -> Talk {
        self.talk.of_another()
    }

    /// The producer for entries that stand alone. One that met an error after which it can do nothing is replaced.
    pub(crate) fn single(&self) -> Result<Sender, Error> {
        let mut single = self.single.lock().unwrap_or_else(PoisonError::into_inner);
        if single.client().fatal_error().is_some() {
            *single = made(&producer(&self.config), &self.talk)?;
        }
        Ok(single.clone())
    }

    /// A client for topics and their settings.
    pub(crate) fn admin(&self) -> Result<AdminClient<Talk>, Error> {
        let admin: AdminClient<Talk> = self
            .config
            .create_with_context(self.talk())
            .map_err(|error| refused(&error))?;
        self.give_token(admin.inner())?;
        Ok(admin)
    }

    /// Gives a client its token that nobody polls.
    fn give_token(&self, client: &Client<Talk>) -> Result<(), Error> {
        match &self.settings.oauthbearer_token_file {
            Some(file) => token::give(client, token::read(file)?),
            None => Ok(()),
        }
    }

    /// Answers what the client for questions asks for, such as a new token: it reads nothing, so nobody else polls it.
    pub(crate) fn tend(&self) {
        tend(&self.asking);
    }

    /// A consumer that stands nowhere.
    pub(crate) fn consumer(&self) -> Result<Consumer, Error> {
        read_by(&consumer(&self.config, &self.settings), &self.talk)
    }

    /// A consumer that sees what transactions have under way as well, for a few questions about positions.
    pub(crate) fn reader_of_everything(&self) -> Result<Consumer, Error> {
        let mut config = consumer(&self.config, &self.settings);
        config.set("isolation.level", "read_uncommitted");
        let consumer = read_by(&config, &self.talk)?;
        self.give_token(consumer.client())?;
        Ok(consumer)
    }

    /// The producer of a partition's single writer: every earlier one is fenced off when this returns.
    pub(crate) fn writer(&self, at: &Place) -> Result<Sender, Error> {
        self.transactional(&format!(
            "{}{}.{}",
            self.settings.topic_prefix, at.stream, at.partition
        ))
    }

    fn transactional(&self, id: &str) -> Result<Sender, Error> {
        let mut config = producer(&self.config);
        config.set("transactional.id", id);
        config.set("transaction.timeout.ms", millis(TRANSACTION_TIMEOUT));
        let producer = made(&config, &self.talk)?;
        producer
            .init_transactions(FENCING_TIMEOUT)
            .map_err(|error| Error::Unreachable(told(&error)))?;
        Ok(producer)
    }

    /// A transactional producer that nobody else uses now.
    pub(crate) fn borrow(&self) -> Result<Shared, Error> {
        let number = {
            let mut spare = self.spare();
            if let Some(producer) = spare.producers.pop() {
                return Ok(producer);
            }
            spare.free_numbers.pop()
        };
        let made = match number {
            Some(number) => self.made(number),
            None => self.made(self.new_number()),
        };
        match made {
            // What one left in a partition that nobody can write to now is no other partition's affair.
            Err(Unmade::Left(_)) => self.made(self.new_number()),
            made => made,
        }
        .map_err(Unmade::why)
    }

    fn new_number(&self) -> u32 {
        let mut spare = self.spare();
        spare.last_number += 1;
        spare.last_number
    }

    /// Numbers of producers that this process has, and of those that an earlier run of it kept. Without a name of its own it had none.
    pub(crate) fn numbers(&self) -> std::ops::RangeInclusive<u32> {
        let earlier = self.settings.instance.as_ref().map_or(0, |_| SPARE_PRODUCERS_MAX);
        let earlier = u32::try_from(earlier).unwrap_or(0);
        let spare = self.spare();
        1..=spare.last_number.max(earlier)
    }

    /// The producer of this number; nothing while somebody uses it.
    pub(crate) fn borrow_number(&self, number: u32) -> Option<Result<Shared, Error>> {
        {
            let mut spare = self.spare();
            let known = spare
                .producers
                .iter()
                .position(|producer| producer.number == number);
            if let Some(index) = known {
                return Some(Ok(spare.producers.swap_remove(index)));
            }
            while spare.last_number < number {
                spare.last_number += 1;
                let last = spare.last_number;
                spare.free_numbers.push(last);
            }
            let free = spare.free_numbers.iter().position(|free| *free == number)?;
            spare.free_numbers.swap_remove(free);
        }
        Some(self.made(number).map_err(Unmade::why))
    }

    fn made(&self, number: u32) -> Result<Shared, Unmade> {
        let id = format!("{}{}.shared.{number}", self.settings.topic_prefix, self.instance);
        let made = self
            .transactional(&id)
            .map_err(Unmade::Away)
            .and_then(|producer| {
                let left = self.spare().left.get(&number).cloned();
                if let Some((topic, partition)) = left {
                    let ended = hanging::touch(&producer, &topic, partition);
                    ended.map_err(|error| Unmade::Left(Error::Unreachable(told(&error))))?;
                    self.spare().left.remove(&number);
                }
                Ok(Shared {
                    producer,
                    number,
                    clean: BTreeSet::new(),
                })
            });
        if made.is_err() {
            // The others come first.
            self.spare().free_numbers.insert(0, number);
        }
        made
    }

    /// Before anything is committed in a partition: ends what an earlier run of this process may have left there under the producer's name, for what
    /// was given up must not come to be seen with it.
    pub(crate) fn clean(&self, shared: &mut Shared, channel: &Channel) -> Result<(), KafkaError> {
        if self.settings.instance.is_some() && !shared.clean.contains(&channel.at) {
            hanging::touch(&shared.producer, &channel.topic, channel.partition())?;
            shared.clean.insert(channel.at.clone());
        }
        Ok(())
    }

    fn spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back a producer whose last transaction ended well.
    pub(crate) fn give_back(&self, shared: Shared) {
        let number = shared.number;
        {
            let mut spare = self.spare();
            if spare.producers.len() < SPARE_PRODUCERS_MAX {
                spare.producers.push(shared);
                return;
            }
        }
        drop(shared);
        self.spare().free_numbers.push(number);
    }

    /// Gives up a producer whose last transaction, in this partition, did not; its name may be used again, which ends what it left.
    pub(crate) fn give_up(&self, shared: Shared, channel: &Channel) {
        let number = shared.number;
        drop(shared);
        let mut spare = self.spare();
        spare
            .left
            .insert(number, (channel.topic.clone(), channel.partition()));
        spare.free_numbers.push(number);
    }
}

/// Takes what a consumer that reads nothing is told and asked. A look takes one thing, and says of none that it was there.
pub(crate) fn tend(consumer: &Consumer) {
    for _ in 0..TOLD_MAX {
        drop(consumer.poll(Duration::ZERO));
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

fn producer(base: &ClientConfig) -> ClientConfig {
    let mut config = base.clone();
    if config.get("linger.ms").is_none() {
        // An append is a batch already: waiting for more to come would only add latency.
        config.set("linger.ms", "0");
    }
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", millis(DELIVERY_TIMEOUT))
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("allow.auto.create.topics", "false");
    config
}

fn consumer(base: &ClientConfig, settings: &KafkaSettings) -> ClientConfig {
    let mut config = base.clone();
    let defaults = [
        // Only a name: readers are assigned by hand, and what is committed is for people's tools to see, never read here.
        ("group.id", group(settings)),
        // What is fetched ahead of a page and not asked for is fetched in vain.
        ("queued.min.messages", "10000".to_owned()),
        ("queued.max.messages.kbytes", "16384".to_owned()),
        ("fetch.message.max.bytes", (8 << 20).to_string()),
        ("fetch.error.backoff.ms", "50".to_owned()),
        // Kafka's word that nothing more is there comes so late, and a consumer that is sent elsewhere waits so long. None fetches but
        // for a page that somebody waits for.
        ("fetch.wait.max.ms", "1".to_owned()),
        ("fetch.queue.backoff.ms", "10".to_owned()),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    config
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("allow.auto.create.topics", "false")
        .set("fetch.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set(
            "receive.message.max.bytes",
            (MESSAGE_BYTES_MAX + (1 << 20)).to_string(),
        );
    config
}

fn made(config: &ClientConfig, talk: &Talk) -> Result<Sender, Error> {
    let talk = talk.of_another();
    let producer: Sender = config
        .create_with_context(talk.clone())
        .map_err(|error| refused(&error))?;
    talk.of(producer.client());
    Ok(producer)
}

fn read_by(config: &ClientConfig, talk: &Talk) -> Result<Consumer, Error> {
    let talk = talk.of_another();
    let consumer: Consumer = config
        .create_with_context(talk.clone())
        .map_err(|error| refused(&error))?;
    talk.of(consumer.client());
    Ok(consumer)
}

/// The error of a client that librdkafka does not make: what it says, without the value, which may be a password.
fn refused(error: &KafkaError) -> Error {
    Error::Settings(told(error))
}

/// Name of the group under which tools find how far the readers of this process are.
pub(crate) fn group(settings: &KafkaSettings) -> String {
    let instance = settings.instance.as_deref().unwrap_or("readers");
    format!("{}{instance}", settings.topic_prefix)
}

fn random_name() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| Error::Settings("the system gives no randomness".to_owned()))?;
    Ok(hex::encode(bytes))
}
