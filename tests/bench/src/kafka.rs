//! Taking in from and to a real Kafka: the whole path beside a bare loop that consumes and decodes the same events.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe_journal::Stream;
use lethe_kit::{FeedPage, Observation};
use lethe_log_kafka::{KafkaLog, KafkaSettings};
use lethe_terms::{ShardName, SystemName};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;

use crate::taking::{PAGE_OBSERVATIONS, Wire, intake_on, observation, wire};
use crate::{Failure, per_s};

/// How long Kafka may take for one thing.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Ingest {
    pub(crate) events: u32,
    /// Events a second that were consumed, decoded, sealed, stored by Kafka, and their cursor moved.
    pub(crate) per_s: f64,
    /// Events a second that were consumed and decoded and nothing else.
    pub(crate) bare_per_s: f64,
    /// Speed as a share of the bare loop.
    pub(crate) of_bare: f64,
}

/// Takes made-up events in, over topics of its own.
pub(crate) async fn measure(folder: &Path, bootstrap: &str, events: u32) -> Result<Ingest, Failure> {
    let prefix = format!("bench-{}.", std::process::id());
    let topic = format!("{prefix}raw");
    make(bootstrap, &topic).await?;
    fill(bootstrap, &topic, events)?;

    let began = Instant::now();
    let mut count = 0;
    each(bootstrap, &topic, events, |wire| {
        std::hint::black_box(wire);
        count += 1;
        Ok(())
    })?;
    let bare_per_s = per_s(count, began.elapsed());

    let settings: KafkaSettings = toml::from_str(&format!(
        "bootstrap = \"{bootstrap}\"\nreplication_factor = 1\ntopic_prefix = \"{prefix}\"\n"
    ))?;
    let log = Arc::new(KafkaLog::open(settings, &Stream::FIXED).await?);
    let intake = intake_on(folder, log)?;
    intake.recover().await?;
    let (system, shard): (SystemName, ShardName) = ("shop".parse()?, "accounts".parse()?);
    let (pages, mut full) = tokio::sync::mpsc::channel::<Vec<Observation>>(2);
    let source = (bootstrap.to_owned(), topic);
    let began = Instant::now();
    let reading = std::thread::spawn(move || {
        read_pages(&source.0, &source.1, events, &pages).map_err(|e| e.to_string())
    });
    let mut taken = 0_u32;
    while let Some(observations) = full.recv().await {
        taken += u32::try_from(observations.len())?;
        let page = FeedPage {
            observations,
            cursor: taken.to_string(),
            ..FeedPage::default()
        };
        let published = intake.publish(&system, intake.mark(&system), &page).await?;
        intake.advance(&system, &shard, &page.cursor).await?;
        if published.appended != page.observations.len() {
            return Err(format!("not every event was taken in: {published:?}").into());
        }
    }
    let took = began.elapsed();
    reading.join().map_err(|_| "reading stopped")??;
    if taken != events {
        return Err(format!("{taken} of {events} events were taken in").into());
    }
    let rate = per_s(events, took);
    Ok(Ingest {
        events,
        per_s: rate,
        bare_per_s,
        of_bare: rate / bare_per_s,
    })
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

async fn make(bootstrap: &str, topic: &str) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create()?;
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin
        .create_topics([&topic], &AdminOptions::new().operation_timeout(Some(PATIENCE)))
        .await?;
    for result in made {
        result.map_err(|(name, code)| format!("topic {name}: {code}"))?;
    }
    Ok(())
}

fn fill(bootstrap: &str, topic: &str, events: u32) -> Result<(), Failure> {
    let producer: BaseProducer = client(bootstrap).set("linger.ms", "5").create()?;
    for number in 0..events {
        let value = serde_json::to_vec(&wire(&observation(number)?))?;
        let mut record = BaseRecord::<(), _>::to(topic).payload(&value).partition(0);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                // The queue is full: what is in it goes out first.
                Err((_, back)) => {
                    producer.poll(Duration::from_millis(10));
                    record = back;
                }
            }
        }
    }
    Ok(producer.flush(PATIENCE)?)
}

/// Consumes and decodes every event.
fn each(
    bootstrap: &str,
    topic: &str,
    events: u32,
    mut visit: impl FnMut(Wire) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let consumer: BaseConsumer = client(bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    for _ in 0..events {
        let message = consumer.poll(PATIENCE).ok_or("Kafka gives no more events")??;
        let value = message.payload().ok_or("an event without a value")?;
        visit(serde_json::from_slice(value)?)?;
    }
    Ok(())
}

fn read_pages(
    bootstrap: &str,
    topic: &str,
    events: u32,
    pages: &tokio::sync::mpsc::Sender<Vec<Observation>>,
) -> Result<(), Failure> {
    let mut page = Vec::new();
    each(bootstrap, topic, events, |wire| {
        page.push(wire.into());
        if page.len() == PAGE_OBSERVATIONS as usize {
            pages.blocking_send(std::mem::take(&mut page))?;
        }
        Ok(())
    })?;
    if !page.is_empty() {
        pages.blocking_send(page)?;
    }
    Ok(())
}
