//! `ops/bench ingest --kafka` measures the way of events that a program publishes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::process::{Command, Stdio};
use std::time::Duration;

use lethe_journeys::server::program;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;

const EVENTS: u32 = 300;

/// How long Kafka may take to say where a topic ends.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_events_that_are_measured_come_over_the_intake_topic_and_lineage_knows_them_all() {
    let Ok(bootstrap) = std::env::var("LETHE_TEST_KAFKA") else {
        println!("SKIPPED: measuring over Kafka: LETHE_TEST_KAFKA is not set");
        return;
    };
    let bench = Command::new(env!("CARGO_BIN_EXE_lethe-bench"))
        .env("LETHE_TEST_PROGRAM", program())
        .args(["--kafka", &bootstrap, "--events", &EVENTS.to_string(), "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let topic = |name: &str| format!("bench-{}.{name}", bench.id());
    let (intake, records) = (topic("intake"), topic("records"));
    let out = bench.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let number = |name: &str| {
        told[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name}: {told:#}"))
    };
    assert_eq!(told["events"], EVENTS);
    assert!(number("per_s") > 0.0, "{told:#}");
    let ratio = number("per_s") / number("bare_per_s");
    assert!((number("of_bare") - ratio).abs() < 1e-9, "{told:#}");

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .unwrap();
    let end = |topic: &str, partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap().1;
    assert!(
        end(&intake, 0) >= i64::from(EVENTS),
        "published to the intake topic"
    );
    let appended: i64 = (0..16).map(|partition| end(&records, partition)).sum();
    assert!(appended >= i64::from(EVENTS), "{appended} entries of records");
}
