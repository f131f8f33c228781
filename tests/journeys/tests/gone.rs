//! Erasure reaches Lethe itself: after a case and a compaction no file of its log and stores holds the person's tokens, or what was
//! sealed of their records.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lethe_journal::{KeyWrapped, Place, RecordObserved, Stored, Stream};
use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, SEVERAL, Server, free_port, program};
use lethe_log::{EmbeddedLog, EventLog, OpenOptions, PAGE_ENTRIES_MAX};
use lethe_log_kafka::{KafkaLog, KafkaSettings};
use lethe_terms::{Identifier, IdentifierKind, IdentifierToken};
use lethe_vault::{FileVault, FirstStart, KeyVault, Normaliser, Openers, OsEntropy};
use lethe_world::people::Person;

/// Later than this test runs.
const NEVER: &str = "compact_after_s = 100000";

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long compaction may take to come.
const PATIENCE: Duration = Duration::from_secs(240);

/// Something that must be nowhere, with every spelling of it.
struct Trace {
    what: String,
    spellings: Vec<Vec<u8>>,
}

impl Trace {
    fn new(what: String, bytes: &[u8]) -> Self {
        let spellings = vec![
            bytes.to_vec(),
            hex::encode(bytes).into_bytes(),
            STANDARD.encode(bytes).into_bytes(),
        ];
        Self { what, spellings }
    }
}

/// The tokens of what names one person and nobody else.
fn tokens(lethe: &Path, person: &Person) -> Vec<IdentifierToken> {
    let vault = FileVault::open(
        &lethe.join("vault"),
        Openers::One,
        FirstStart::Refused,
        Arc::new(OsEntropy),
    )
    .unwrap();
    let (keys, normaliser) = (vault.tokens(), Normaliser::new("DE").unwrap());
    [
        Identifier::new(IdentifierKind::Email, person.email.as_str()),
        Identifier::new(IdentifierKind::UserId, person.user_id.as_str()),
    ]
    .iter()
    .map(|identifier| keys.identifier(&normaliser.normalise(identifier).unwrap()))
    .collect()
}

async fn all(log: &dyn EventLog, stream: &Stream) -> Vec<Stored> {
    let mut entries = Vec::new();
    for partition in 0..stream.partitions() {
        let (at, mut from) = (Place::new(stream.clone(), partition), 0);
        loop {
            let page = log.read(&at, from, PAGE_ENTRIES_MAX).await.unwrap();
            from = page.next;
            entries.extend(page.entries);
            if from >= page.head {
                break;
            }
        }
    }
    entries
}

fn data<T: serde::de::DeserializeOwned>(entry: &Stored) -> Option<T> {
    let value: serde_json::Value = serde_json::from_slice(entry.entry.value.as_ref()?).unwrap();
    Some(serde_json::from_value(value["data"].clone()).unwrap())
}

/// The tokens of the person, of each record that bears one, what is sealed in it, and the record's wrapped key.
async fn traces(lethe: &Path, log: &dyn EventLog, person: &Person) -> Vec<Trace> {
    let tokens = tokens(lethe, person);
    let mut traces: Vec<Trace> = tokens
        .iter()
        .map(|token| Trace::new("a token of an identifier".into(), token.as_bytes()))
        .collect();
    let mut records = BTreeMap::new();
    for entry in all(log, &Stream::Records).await {
        let Some(record) = data::<RecordObserved>(&entry) else {
            continue;
        };
        if record.tokens.iter().any(|token| tokens.contains(&token.token)) {
            traces.push(Trace::new(
                format!("what was sealed of {}", record.dataset),
                record.secret.as_bytes(),
            ));
            records.insert(record.record.as_bytes().to_vec(), record.dataset.to_string());
        }
    }
    for (record, dataset) in &records {
        traces.push(Trace::new(format!("the token of a record of {dataset}"), record));
    }
    for entry in all(log, &Stream::Keys).await {
        if let (Some(dataset), Some(key)) = (records.get(&entry.entry.key), data::<KeyWrapped>(&entry)) {
            traces.push(Trace::new(
                format!("the key of a record of {dataset}"),
                key.wrapped.as_bytes(),
            ));
        }
    }
    assert!(records.len() >= 4, "the person has {} records", records.len());
    traces
}

/// Whether it is an index of Kafka's: positions and times, and megabytes of nothing.
fn is_index(file: &Path) -> bool {
    let ending = file.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("index" | "timeindex"))
}

/// What of these is in which file. A file that goes while it is looked for holds nothing.
fn found(traces: &[Trace], below: &Path) -> Vec<(String, PathBuf)> {
    let files = walkdir::WalkDir::new(below).into_iter().filter_map(Result::ok);
    let mut found = Vec::new();
    for file in files.filter(|file| file.file_type().is_file() && !is_index(file.path())) {
        let Ok(bytes) = std::fs::read(file.path()) else {
            continue;
        };
        for trace in traces {
            if trace
                .spellings
                .iter()
                .any(|spelling| memchr::memmem::find(&bytes, spelling).is_some())
            {
                found.push((trace.what.clone(), file.path().to_owned()));
            }
        }
    }
    found
}

/// Waits until nothing is found any more; what is still there when patience ends is for the caller to show.
async fn wait_until_gone(traces: &[Trace], below: &[&Path]) {
    let gone = async {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while below.iter().any(|folder| !found(traces, folder).is_empty()) {
            looks.tick().await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, gone).await;
}

async fn erase(api: &Api, person: &Person) {
    let mut course = Course::new("erasure", &person.email, "gone".to_owned());
    // An answer that takes too long is asked for again, under the same key.
    while course.go_on(api).await.is_err() {
        tokio::task::yield_now().await;
    }
}

fn replayed(home: &Home, into: &Path) -> String {
    let replayed = home.run(&["replay", "--into", into.to_str().unwrap()]);
    assert!(
        replayed.status.success(),
        "{}",
        String::from_utf8_lossy(&replayed.stderr)
    );
    String::from_utf8(replayed.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_case_and_a_compaction_no_file_holds_a_trace_of_the_person() {
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), 11, PEOPLE, LINES).await;
    let (port, lethe) = (free_port(), folder.path().join("lethe"));
    std::fs::create_dir(&lethe).unwrap();
    let home = Home {
        program: program(),
        config: company.configure(port, NEVER),
        output: folder.path().join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    let (api, person) = (Api::new(&home.url), company.world.subject());

    let mut server = home.start();
    assert!(server.listens().await, "{}", home.last_words());
    for system in ["shop", "website"] {
        api.scan(system).await.unwrap();
    }
    assert!(server.stop().success());
    let log = EmbeddedLog::open(&lethe.join("log"), &Stream::FIXED, OpenOptions::default()).unwrap();
    let traces = traces(&lethe, &log, &person).await;
    drop(log);
    assert!(!found(&traces, &lethe).is_empty(), "nothing is looked for");

    let mut server = home.start();
    assert!(server.listens().await, "{}", home.last_words());
    erase(&api, &person).await;
    assert!(server.stop().success());
    let left = found(&traces, &lethe);
    assert!(!left.is_empty(), "there is nothing to compact");
    let full = replayed(&home, &folder.path().join("full"));

    company.configure(port, "compact_after_s = 0");
    let mut server = home.start();
    assert!(server.listens().await, "{}", home.last_words());
    wait_until_gone(&traces, &[&lethe]).await;
    assert!(server.stop().success());
    assert_eq!(found(&traces, &lethe), [], "after compaction");
    let compacted = replayed(&home, &folder.path().join("compacted"));
    assert_eq!(
        full, compacted,
        "the compacted log folds to another state than the full one"
    );
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().map(Result::unwrap) {
        let copied = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir(copied).unwrap();
        } else {
            std::fs::copy(entry.path(), copied).unwrap();
        }
    }
}

async fn start_several(home: &Home) -> Vec<Server> {
    let mut servers: Vec<_> = SEVERAL
        .iter()
        .map(|(name, roles)| home.start_as(name, roles))
        .collect();
    for server in &mut servers {
        assert!(server.listens().await, "{}", home.last_words());
    }
    servers
}

fn stop_several(servers: Vec<Server>) {
    for server in servers {
        assert!(server.stop().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_no_segment_and_no_store_of_any_process_holds_a_trace_once_the_topics_are_compacted() {
    let variable = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let (Some(bootstrap), Some(data)) = (variable("LETHE_TEST_KAFKA"), variable("LETHE_TEST_KAFKA_DATA"))
    else {
        println!("SKIPPED: Kafka: LETHE_TEST_KAFKA and LETHE_TEST_KAFKA_DATA are not set");
        return;
    };
    let prefix = format!("gone-{}.", rand::random::<u32>());
    // Short enough to wait for; what a company sets is in hours and days.
    let table = format!(
        "{{ bootstrap = \"{bootstrap}\", replication_factor = 1, topic_prefix = \"{prefix}\", retention = \
         {{ compaction_lag_max_ms = 1000, tombstone_ms = 1000, segment_ms = 1000, heartbeat_ms = 500, file_ms = 100 }} }}"
    );
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), 12, PEOPLE, LINES).await;
    let (port, lethe) = (free_port(), folder.path().join("lethe"));
    std::fs::create_dir(&lethe).unwrap();
    let home = Home {
        program: program(),
        config: company.configure(port, &format!("compact_after_s = 2\nkafka = {table}")),
        output: folder.path().join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    let (api, person) = (Api::new(&home.url), company.world.subject());

    let servers = start_several(&home).await;
    for system in ["shop", "website"] {
        api.scan(system).await.unwrap();
    }
    stop_several(servers);
    let settings: toml::Table = toml::from_str(&format!("kafka = {table}")).unwrap();
    let settings: KafkaSettings = settings["kafka"].clone().try_into().unwrap();
    let log = KafkaLog::open(settings, &Stream::FIXED).await.unwrap();
    let traces = traces(&lethe, &log, &person).await;
    drop(log);
    let (lethe, data) = (lethe.as_path(), Path::new(&data));
    assert!(!found(&traces, lethe).is_empty() && !found(&traces, data).is_empty());
    let (processes, asleep) = (lethe.join("processes"), folder.path().join("asleep"));
    copy(&processes.join("connectors").join("lineage"), &asleep);

    let mut servers = start_several(&home).await;
    erase(&api, &person).await;
    wait_until_gone(&traces, &[lethe, data]).await;
    assert_eq!(found(&traces, data), [], "in Kafka's files");
    assert_eq!(found(&traces, lethe), [], "in Lethe's files");

    // A store that slept through all of it comes back, and does not bring the person back.
    let awake = api.state_hash().await.unwrap();
    std::fs::create_dir(processes.join("sleeper")).unwrap();
    std::fs::rename(&asleep, processes.join("sleeper").join("lineage")).unwrap();
    assert!(!found(&traces, lethe).is_empty(), "what slept holds nothing");
    servers.push(home.start_as("sleeper", &["lineage"]));
    assert!(
        servers.last_mut().unwrap().listens().await,
        "{}",
        home.last_words()
    );
    wait_until_gone(&traces, &[lethe]).await;
    assert_eq!(found(&traces, lethe), [], "in a store that slept");
    assert_eq!(api.state_hash().await.unwrap(), awake);
    stop_several(servers);
}
