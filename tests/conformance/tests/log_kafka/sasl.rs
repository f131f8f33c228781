//! A broker that lets nobody in without SASL.

use std::path::Path;

use lethe_conformance::event_log::{entry, read_from};
use lethe_journal::{Place, Stream};
use lethe_log::{Appended, EventLog};
use lethe_log_kafka::{KafkaLog, KafkaSettings};

use crate::broker::{OnKafka, bootstrap, open, settings};
use crate::faults::Cluster;

/// A token that nobody signed, of the account `lethe`, until the year 2286: a test's broker takes it.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJsZXRoZSIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo5OTk5OTk5OTk5fQ.";

fn over_sasl(bootstrap: &str, mechanism: &str, others: &[(&str, &str)]) -> KafkaSettings {
    let mut settings = settings(bootstrap);
    let all = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", mechanism),
    ];
    for (name, value) in all.iter().chain(others) {
        settings
            .properties
            .insert((*name).to_owned(), (*value).to_owned());
    }
    settings
}

/// Everything that has a client of its own: topics, questions, reading, appending alone, appending as the writer, and a group.
pub(crate) async fn works(settings: &KafkaSettings) {
    let log = OnKafka(open(settings).await);
    log.check().await.unwrap();
    let (commands, cases) = (Place::new(Stream::Commands, 0), Place::new(Stream::Cases, 0));
    let one = entry(1, "a", Some("1"));
    let alone = log.append(&commands, None, vec![one.clone()]).await;
    assert!(matches!(alone, Ok(Appended::At { .. })), "{alone:?}");
    let epoch = log.acquire(&cases).await.unwrap();
    let fenced = log.append(&cases, Some(epoch), vec![one]).await;
    assert!(matches!(fenced, Ok(Appended::At { .. })), "{fenced:?}");
    assert_eq!(read_from(&log, &commands, 0).await.len(), 1);
    assert_eq!(read_from(&log, &cases, 0).await.len(), 1);
    let member = log.0.join("owners", &Stream::Records).unwrap();
    let mut assigned = member.assigned();
    assigned.wait_for(|assigned| !assigned.is_empty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_of_the_log_logs_in_by_name_and_by_token() {
    if bootstrap().is_none() {
        return;
    }
    let cluster = Cluster::start(1);
    let address = std::fs::read_to_string(cluster.folder.path().join("broker-1/sasl-address")).unwrap();
    for (mechanism, password) in [("PLAIN", "plain-secret"), ("SCRAM-SHA-512", "scram-secret")] {
        let account = [("sasl.username", "lethe"), ("sasl.password", password)];
        works(&over_sasl(address.trim(), mechanism, &account)).await;
    }
    let file = cluster.folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let mut by_token = over_sasl(address.trim(), "OAUTHBEARER", &[]);
    by_token.oauthbearer_token_file = Some(file);
    works(&by_token).await;
    by_token.oauthbearer_token_file = Some(cluster.folder.path().join("nowhere"));
    refused(by_token, "nowhere").await;
    let account = [("sasl.username", "lethe"), ("sasl.password", "plain-secret")];
    let mut by_name = over_sasl(address.trim(), "PLAIN", &account);
    by_name.oauthbearer_token_file = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    refused(by_name, "not taken").await;
}

async fn refused(settings: KafkaSettings, why: &str) {
    let refused = KafkaLog::open(settings, &[Stream::Commands]).await.unwrap_err();
    assert_eq!(refused.code(), "log-kafka-settings");
    assert!(refused.to_string().contains(why), "{refused}");
}
