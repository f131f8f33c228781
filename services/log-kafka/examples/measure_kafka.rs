//! What an append and a read cost: `LETHE_TEST_KAFKA=host:port cargo run --release -p lethe-log-kafka --example measure_kafka`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends where something fails"
)]

use std::time::{Duration, Instant};

use lethe_journal::{Entry, Place, Stream};
use lethe_log::EventLog;
use lethe_log_kafka::{KafkaLog, KafkaSettings};
use lethe_terms::EntryId;

const ROUNDS: usize = 200;
const VALUE_BYTES: usize = 300;

fn entries(count: usize) -> Vec<Entry> {
    (0..count)
        .map(|number| Entry {
            id: EntryId::from_bytes([7; 16]),
            key: number.to_be_bytes().to_vec(),
            value: Some(vec![b'x'; VALUE_BYTES]),
        })
        .collect()
}

fn told(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    println!("{what:<44} p50 {:8.2} ms   p99 {:8.2} ms", at(50), at(99));
}

#[tokio::main]
async fn main() {
    let mut settings =
        KafkaSettings::new(std::env::var("LETHE_TEST_KAFKA").expect("LETHE_TEST_KAFKA names a broker"));
    settings.replication_factor = 1;
    settings.topic_prefix = format!("measure{}.", std::process::id());
    let began = Instant::now();
    let log = KafkaLog::open(settings, &[Stream::Records, Stream::Cases, Stream::Commands])
        .await
        .unwrap();
    println!(
        "opened, topics made: {:.0} ms",
        began.elapsed().as_secs_f64() * 1_000.0
    );

    let at = Place::new(Stream::Commands, 0);
    for (what, count) in [
        ("append 1 entry", 1),
        ("append 10 entries", 10),
        ("append 1,000 entries", 1_000),
    ] {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            let batch = entries(count);
            let began = Instant::now();
            log.append(&at, None, batch).await.unwrap();
            took.push(began.elapsed());
        }
        told(what, took);
    }
    let cases = Place::new(Stream::Cases, 0);
    let began = Instant::now();
    let epoch = log.acquire(&cases).await.unwrap();
    println!("acquire: {:.0} ms", began.elapsed().as_secs_f64() * 1_000.0);
    let (mut appended, mut read, mut next) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        log.append(&cases, Some(epoch), entries(1)).await.unwrap();
        appended.push(began.elapsed());
        let began = Instant::now();
        next = log.read(&cases, next, 100).await.unwrap().next;
        read.push(began.elapsed());
    }
    told("append 1 entry as the writer", appended);
    told("read it, at the end", read);

    let (began, mut from, mut count) = (Instant::now(), 0, 0);
    loop {
        let page = log.read(&at, from, usize::MAX).await.unwrap();
        count += page.entries.len();
        from = page.next;
        if from >= page.head {
            break;
        }
    }
    println!(
        "read {count} entries in full pages: {:.0} entries/s",
        count as f64 / began.elapsed().as_secs_f64()
    );

    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        log.head(&at).await.unwrap();
        took.push(began.elapsed());
    }
    told("head", took);
}
