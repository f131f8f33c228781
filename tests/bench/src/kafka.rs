//! Published events over a real Kafka: a real server that takes them from the intake topic into lineage, beside a bare loop that consumes and
//! decodes the same events.

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_exchange::{EventName, KEY_BYTES, PrivateKey, PublicKey, PublishedRecord, Publisher, Sequence};
use lethe_journeys::course::Api;
use lethe_journeys::server::{Home, Server, free_port};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::MissedTickBehavior;
use zeroize::Zeroizing;

use crate::server::beside_this;
use crate::taking::observation;
use crate::{Failure, per_s};

/// How long Kafka may take for one thing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the events may stand on the topic before they are shown: as long as brokers allow where nobody told them otherwise, and enough for
/// tens of millions.
const HIDDEN_MS_MAX: &str = "900000";

/// How often is looked whether lineage knows all records. What was measured is too long by less than that.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long lineage may stand still before the events are given up: longer than the server itself waits for its folds.
const STILL_MAX: Duration = Duration::from_secs(180);

const SYSTEM: &str = "shop";

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Ingest {
    pub(crate) events: u32,
    /// Events a second from when all of them stood on the topic, sealed, until lineage knew all their records: consumed, checked, opened,
    /// looked up, sealed, appended to `records` and `keys`, and folded into the stores.
    pub(crate) per_s: f64,
    /// Events a second that were consumed and decoded (JSON and base64) and nothing else.
    pub(crate) bare_per_s: f64,
    /// Speed as a share of the bare loop.
    pub(crate) of_bare: f64,
}

/// An event as it is on the wire.
#[derive(Deserialize)]
#[expect(dead_code, reason = "they are decoded, and nothing is done with them")]
struct Wire<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    source: &'a str,
    id: &'a str,
    shard: &'a str,
    sequence: &'a str,
    datacontenttype: &'a str,
    data_base64: &'a str,
}

/// Has a real server take published events in, over topics of its own.
///
/// The events are written in one transaction, which the server does not see before it is committed: then it is up, has nothing else to do, and
/// no publisher seals beside it.
pub(crate) async fn measure(folder: &Path, bootstrap: &str, events: u32) -> Result<Ingest, Failure> {
    let prefix = format!("bench-{}.", std::process::id());
    let topic = format!("{prefix}intake");
    let sender = PrivateKey::derive(&drawn()?);
    let home = configure(folder, bootstrap, &prefix, sender.public())?;
    let api = Api::new(&home.url);
    let mut server = home.start();
    if !server.listens().await {
        return Err(format!("the server does not start: {}", home.last_words()).into());
    }
    let publisher = Publisher::new(&intake_key(&api).await?, &sender, &drawn()?)?;
    let producer = fill(bootstrap, &topic, publisher, events)?;
    let bare_per_s = per_s(events, bare(bootstrap, &topic, events)?);

    let began = Instant::now();
    producer.commit_transaction(PATIENCE)?;
    until_known(&api, &mut server, events)
        .await
        .map_err(|error| format!("{error}: {}", home.last_words()))?;
    let rate = per_s(events, began.elapsed());
    if !server.stop().success() {
        return Err("the server did not stop in order".into());
    }
    Ok(Ingest {
        events,
        per_s: rate,
        bare_per_s,
        of_bare: rate / bare_per_s,
    })
}

fn drawn() -> Result<Zeroizing<[u8; KEY_BYTES]>, Failure> {
    let mut bits = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bits)?;
    Ok(bits)
}

/// A server with its log on this Kafka, and one system that this key publishes to.
fn configure(folder: &Path, bootstrap: &str, prefix: &str, sender: &PublicKey) -> Result<Home, Failure> {
    let (port, data, config) = (free_port(), folder.join("lethe"), folder.join("lethe.toml"));
    std::fs::create_dir_all(&data)?;
    let text = format!(
        r#"data_dir = "{}"
listen = "127.0.0.1:{port}"
kafka = {{ bootstrap = "{bootstrap}", topic_prefix = "{prefix}", replication_factor = 1 }}
[controller]
id = "example"
name = "Example GmbH"
[[systems]]
name = "{SYSTEM}"
kind = "published"
senders = [{}]
[[systems.datasets]]
name = "accounts"
unit = "an account"
categories = ["account_identifier", "email_address", "telephone_number"]
purpose = "customer_support"
basis = "6-1-f"
"#,
        data.display(),
        serde_json::to_string(sender)?,
    );
    std::fs::write(&config, text)?;
    Ok(Home {
        program: beside_this()?,
        config,
        output: folder.join("output"),
        url: format!("http://127.0.0.1:{port}"),
    })
}

/// What the server answers.
async fn told(api: &Api, path: &str) -> Result<Value, Failure> {
    let body = api.get(path).await.map_err(|_| "the server does not answer")?;
    Ok(serde_json::from_slice(&body)?)
}

/// The key that is sealed to.
async fn intake_key(api: &Api) -> Result<PublicKey, Failure> {
    let list = told(api, "/v1/intake-keys").await?;
    let key = list["keys"][0]["public_key"].as_str();
    Ok(key.ok_or("the server has no intake key")?.parse()?)
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Seals the events and writes them, in a transaction that is still open.
fn fill(
    bootstrap: &str,
    topic: &str,
    mut publisher: Publisher,
    events: u32,
) -> Result<BaseProducer, Failure> {
    let producer: BaseProducer = client(bootstrap)
        .set("linger.ms", "5")
        .set("transactional.id", format!("{topic}.publisher"))
        .set("transaction.timeout.ms", HIDDEN_MS_MAX)
        .create()?;
    producer.init_transactions(PATIENCE)?;
    producer.begin_transaction()?;
    for number in 0..events {
        let name = EventName {
            system: SYSTEM.parse()?,
            shard: "main".parse()?,
            sequence: Sequence(u64::from(number) + 1),
        };
        let key = name.key();
        let value = publisher.event(name, &record(number)?)?.write()?;
        let mut record = BaseRecord::to(topic).key(&key).payload(&value).partition(0);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            // What is in the queue goes out first.
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
    producer.flush(PATIENCE)?;
    Ok(producer)
}

fn record(number: u32) -> Result<PublishedRecord, Failure> {
    let observed = observation(number)?;
    Ok(PublishedRecord {
        dataset: observed.dataset,
        key: observed.key,
        handle: Some(observed.handle),
        identifiers: observed.identifiers,
        count: observed.count,
        gone: observed.gone,
    })
}

/// Consumes and decodes every event, committed or not, over a connection that is there already as the server's is. How long it took.
fn bare(bootstrap: &str, topic: &str, events: u32) -> Result<Duration, Failure> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_uncommitted")
        .create()?;
    consumer.fetch_watermarks(topic, 0, PATIENCE)?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning)?;
    let began = Instant::now();
    consumer.assign(&from)?;
    let mut decoded = 0;
    while decoded < events {
        let message = consumer.poll(PATIENCE).ok_or("Kafka gives no more events")??;
        // Lethe's own heartbeats are empty.
        let Some(value) = message.payload().filter(|value| !value.is_empty()) else {
            continue;
        };
        let event: Wire<'_> = serde_json::from_slice(value)?;
        std::hint::black_box((STANDARD.decode(event.data_base64)?, event));
        decoded += 1;
    }
    Ok(began.elapsed())
}

/// Waits until lineage knows the record of every event and has read all that the log holds of them.
async fn until_known(api: &Api, server: &mut Server, events: u32) -> Result<(), Failure> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut known, mut since) = (0, Instant::now());
    loop {
        looks.tick().await;
        if server.ended() {
            return Err("the server went away".into());
        }
        // A server that has much to do may not answer in time, or not with a number: it is asked again.
        let list = told(api, "/v1/systems").await.unwrap_or_default();
        let system = &list["systems"][0];
        if let Some(quarantined @ 1..) = system["quarantined"].as_u64() {
            return Err(format!("{quarantined} events are in quarantine").into());
        }
        let now = system["datasets"][0]["records"].as_u64().unwrap_or(known);
        if now == u64::from(events) && is_folded(&told(api, "/v1/partitions").await.unwrap_or_default()) {
            return Ok(());
        }
        if now != known {
            (known, since) = (now, Instant::now());
        } else if since.elapsed() > STILL_MAX {
            return Err(format!("lineage stands still at {known} of {events} records").into());
        }
    }
}

fn is_folded(list: &Value) -> bool {
    let partitions = list["partitions"].as_array();
    partitions.is_some_and(|all| all.iter().all(|partition| partition["behind"] == 0))
}
