//! The log on a real Kafka: the suite of the port, and what only Kafka promises. `ops/kafka start DIR` gives the broker that
//! LETHE_TEST_KAFKA names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by a panic"
)]

mod broker;
mod compaction;
mod faults;
mod foreign;
mod sasl;
mod tls;
mod writers;

mod suite {
    use crate::broker::KafkaLogs;

    lethe_conformance::event_log_suite!(compacts_by_itself KafkaLogs::found());
}
