//! A topic that somebody changed behind Lethe's back may keep what was erased: whoever watches is told, and no certificate says meanwhile when
//! it is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::time::Duration;

use lethe_journeys::course::Api;
use lethe_journeys::office::Office;
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a server may take until it notices: it looks every minute.
const PATIENCE: Duration = Duration::from_secs(150);

/// The address of the broker, and a word that the topics of this test begin with; nothing, and said so, where no broker is there.
fn kafka() -> Option<(String, String)> {
    let bootstrap = std::env::var("LETHE_TEST_KAFKA").ok();
    let Some(bootstrap) = bootstrap.filter(|address| !address.is_empty()) else {
        println!("SKIPPED: Kafka: LETHE_TEST_KAFKA is not set");
        return None;
    };
    Some((bootstrap, format!("changed-{}.", rand::random::<u32>())))
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).create().unwrap()
}

/// Has a topic kept for ever, as anybody may who administers the cluster; back once the broker tells everybody so.
async fn never_compact(bootstrap: &str, topic: &str) {
    let admin = admin(bootstrap);
    let (of, options) = (ResourceSpecifier::Topic(topic), AdminOptions::new());
    let change = AlterConfig::new(of)
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1");
    for outcome in admin.alter_configs(&[change], &options).await.unwrap() {
        outcome.unwrap();
    }
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let is_told = async || {
        let described = admin.describe_configs(&[of], &options).await.unwrap().remove(0);
        described.unwrap().get("cleanup.policy").unwrap().value.as_deref() == Some("delete")
    };
    while !is_told().await {
        looks.tick().await;
    }
}

/// What is in the way once something is.
async fn not_ready(api: &Api) -> String {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        let (status, words) = api.any("/readyz").await.unwrap();
        if status == 503 {
            return words;
        }
        looks.tick().await;
    }
}

/// How many findings of a kind are counted.
async fn counted(api: &Api, kind: &str) -> u32 {
    let (_, metrics) = api.any("/metrics").await.unwrap();
    let of_kind = format!("lethe_log_findings{{kind=\"{kind}\"}} ");
    let mut counts = metrics.lines().filter_map(|line| line.strip_prefix(&of_kind));
    counts.next().expect(&metrics).parse().unwrap()
}

/// Erases Ada; what `lethe verify` says of the certificate, for people.
async fn verified(office: &Office) -> String {
    let (_, case) = office.erase().await;
    assert_eq!(case["state"], "completed", "{case:#}");
    let (certificate, policy) = office.statement(case["id"].as_str().unwrap()).await;
    let mut said = Vec::new();
    let code = lethe_verify::show(&certificate, Some(&policy), false, &mut said);
    let said = String::from_utf8(said).unwrap();
    assert_eq!(code, 0, "{said}");
    said
}

async fn office(bootstrap: &str, prefix: &str) -> Office {
    let kafka = format!(
        "[kafka]\nbootstrap = \"{bootstrap}\"\nreplication_factor = 1\ntopic_prefix = \"{prefix}\"\n"
    );
    let mut office = Office::found(MemoryConnector::new("chat").unwrap()).and(&kafka);
    office.start().await;
    for system in ["crm", "chat"] {
        office.scan(system).await;
    }
    office
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_says_when_a_value_is_gone_from_a_topic_that_keeps_it() {
    let Some((bootstrap, prefix)) = kafka() else {
        return;
    };
    let mut office = office(&bootstrap, &prefix).await;
    let api = Api::new(&office.url);
    let (status, well) = api.any("/readyz").await.unwrap();
    assert!(status == 200 && well.contains("topics"), "{well}");
    never_compact(&bootstrap, &format!("{prefix}records")).await;
    let in_the_way = tokio::time::timeout(PATIENCE, not_ready(&api)).await.unwrap();
    let topic = format!("topic {prefix}records has cleanup.policy = delete, not compact");
    assert!(in_the_way.contains(&topic), "{in_the_way}");
    assert!(counted(&api, "setting").await > 0);
    let said = verified(&office).await;
    let pending = "lethe log and stores: pending: a setting of the log is not as declared";
    assert!(said.contains(pending), "{said}");
    office.close().await;
    let found = lethe_node::doctor(&office.config).await;
    let row = |what| found.iter().find(|row| row.what == what).unwrap();
    let log = row("log");
    assert_eq!(
        (log.ok, log.code),
        (Some(false), Some("log-not-as-declared")),
        "{log:?}"
    );
    assert!(row("durability").detail.contains("at least 1 of 1"), "{found:?}");
    assert_eq!(lethe_node::Diagnosis::exit_of(&found), Exit::No);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_somebody_added_are_told_and_cases_go_on() {
    let Some((bootstrap, prefix)) = kafka() else {
        return;
    };
    let mut office = office(&bootstrap, &prefix).await;
    let api = Api::new(&office.url);
    let topic = format!("{prefix}cases");
    let (more, options) = ([NewPartitions::new(&topic, 8)], AdminOptions::new());
    for outcome in admin(&bootstrap)
        .create_partitions(&more, &options)
        .await
        .unwrap()
    {
        outcome.unwrap();
    }
    let in_the_way = tokio::time::timeout(PATIENCE, not_ready(&api)).await.unwrap();
    let added = format!("topic {topic} has 8 partitions, not 4");
    assert!(in_the_way.contains(&added), "{in_the_way}");
    assert_eq!(counted(&api, "partitions").await, 1);
    assert_eq!(counted(&api, "not_looked").await, 0);
    let said = verified(&office).await;
    let pending = "pending: a part of the log has another number of partitions than declared";
    assert!(said.contains(pending), "{said}");
    office.close().await;
    let found = lethe_node::doctor(&office.config).await;
    let log = found.iter().find(|row| row.what == "log").unwrap();
    assert_eq!(log.code, Some("log-kafka-wrong-partitions"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_says_when_a_value_is_gone_from_topics_as_declared() {
    let Some((bootstrap, prefix)) = kafka() else {
        return;
    };
    let mut office = office(&bootstrap, &prefix).await;
    let said = verified(&office).await;
    for (place, expected) in [
        ("lethe log and stores: ", " after a record ended"),
        ("lethe log, queues: ", " after this statement"),
        (
            "lethe log, histories of cases: ",
            "sealed under the key of its case",
        ),
    ] {
        let promised = said.lines().find(|line| line.contains(place));
        assert!(promised.is_some_and(|line| line.contains(expected)), "{said}");
    }
    office.close().await;
}
