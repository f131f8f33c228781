//! Programs publish what their systems hold, over HTTP and on an intake topic: it is found, it rests nowhere in the clear, nobody speaks for
//! another's system, and nothing that anybody writes stops the stream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod company;

use std::path::Path;
use std::process::Command;

use lethe_exchange::{PrivateKey, PublishedEvent, Publisher, Sequence};
use lethe_journeys::server::free_port;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::company::{Company, PATIENCE, clear, drawn, gone, holding, json_of, name, nowhere, record};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_over_http_is_found_and_each_event_has_its_answer() {
    let company = Company::found("");
    let server = company.start().await;
    let email = "canary-http@example.org";
    let first = clear(name("crm", "http", 10), record("1", email));
    assert_eq!(
        company
            .publish(&company.crm_key, std::slice::from_ref(&first))
            .await,
        ["accepted"]
    );
    company.records(email, 1).await;

    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut event = clear(name("crm", "http", 99), record("x", email));
        change(&mut event);
        event
    };
    let batch = [
        first.clone(),
        clear(name("crm", "http", 12), record("2", email)),
        clear(name("crm", "http", 12), record("2", email)),
        clear(name("crm", "http", 11), record("1", email)),
        clear(name("chat", "main", 1), record("1", email)),
        clear(name("shop", "main", 1), record("1", email)),
        clear(name("crm", "main", 1), record("1", email)),
        wrong(&|event| event["data"]["dataset"] = json!("orders")),
        wrong(&|event| event["data"]["identifiers"][0]["value"] = json!("no address")),
        wrong(&|event| event["type"] = json!("org.lethe.record.published.v9")),
        json!(17),
    ];
    let results = [
        "repeated",
        "accepted",
        "repeated",
        "event-late",
        "event-not-yours",
        "event-unknown-system",
        "event-unknown-shard",
        "event-unknown-dataset",
        "vault-not-normalised",
        "event-newer-version",
        "event-malformed",
    ];
    assert_eq!(company.publish(&company.crm_key, &batch).await, results);
    company.records(email, 2).await;
    assert_eq!(
        company
            .publish(&company.chat_key, std::slice::from_ref(&first))
            .await,
        ["event-not-yours"]
    );

    let left = clear(name("crm", "http", 13), gone("1"));
    assert_eq!(company.publish(&company.crm_key, &[left]).await, ["accepted"]);
    company.records(email, 1).await;
    assert!(server.stop().success());
    let _server = company.start().await;
    assert_eq!(
        company.publish(&company.crm_key, &[first]).await,
        ["repeated"],
        "after a restart, too"
    );
    company.records(email, 1).await;
    nowhere(email, company.folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_that_a_published_system_takes_no_instruction() {
    let company = Company::found("");
    let _server = company.start().await;
    let event = clear(name("crm", "http", 1), record("1", "canary-plan@example.org"));
    assert_eq!(company.publish(&company.crm_key, &[event]).await, ["accepted"]);
    company.records("canary-plan@example.org", 1).await;
    let case = |words: &[&str]| -> Value {
        let out = company.lethe(&[words, &["--wait", "--json"]].concat());
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let person = "email=canary-plan@example.org";
    let planned = case(&["case", "open", "--right", "erasure", "--identifier", person]);
    let remark = &planned["remarks"][0];
    assert_eq!(
        (&remark["system"], &remark["detail"][0]),
        (&json!("crm"), &json!("erase is not supported")),
        "{planned:#}"
    );
    let (id, digest) = (
        planned["id"].as_str().unwrap(),
        planned["plan_digest"].as_str().unwrap(),
    );
    let ended = case(&["case", "approve", id, "--plan", digest]);
    assert_eq!(
        (&ended["state"], &ended["attention"][0]["code"]),
        (&json!("needs_attention"), &json!("kit-verb-not-supported")),
        "{ended:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_events_need_their_senders_key_and_outlive_a_change_of_the_intake_key() {
    let company = Company::found("");
    let _server = company.start().await;
    let email = "canary-sealed@example.org";
    let old = company.intake_key().await;
    let mut publisher = Publisher::new(&old, &company.crm_sender, &drawn()).unwrap();
    let mut sealed = |sequence, key: &str| {
        json_of(
            &publisher
                .event(name("crm", "sealed", sequence), &record(key, email))
                .unwrap(),
        )
    };
    let before = sealed(1, "1");
    let renewed = company
        .http(&company.office_key, "/v1/intake-keys/renew", Some(&json!({})))
        .await;
    assert_eq!(renewed["keys"].as_array().unwrap().len(), 2, "{renewed:#}");
    let new = company.intake_key().await;
    assert_ne!(new, old);
    let mut anew = Publisher::new(&new, &company.crm_sender, &drawn()).unwrap();
    let after = json_of(&anew.event(name("crm", "sealed", 3), &record("3", email)).unwrap());
    let batch = [before, sealed(2, "2"), after];
    assert_eq!(company.publish(&company.crm_key, &batch).await, ["accepted"; 3]);
    company.records(email, 3).await;

    let mut thief = Publisher::new(&new, &company.chat_sender, &drawn()).unwrap();
    let forged = json_of(
        &thief
            .event(name("crm", "sealed", 4), &record("4", email))
            .unwrap(),
    );
    let mut moved = sealed(5, "5");
    moved["sequence"] = json!(Sequence(6));
    moved["id"] = json!(format!("sealed/{}", Sequence(6)));
    let nobodys = PrivateKey::derive(&drawn());
    let mut lost = Publisher::new(nobodys.public(), &company.crm_sender, &drawn()).unwrap();
    let lost = json_of(&lost.event(name("crm", "sealed", 7), &record("7", email)).unwrap());
    let codes = [
        "exchange-unknown-sender",
        "exchange-cannot-open",
        "exchange-unknown-key",
    ];
    assert_eq!(
        company.publish(&company.crm_key, &[forged, moved, lost]).await,
        codes
    );
    company.records(email, 3).await;
}

/// The broker that the tests find, as the setting of a server.
fn kafka(prefix: &str) -> Option<(String, String)> {
    let Ok(bootstrap) = std::env::var("LETHE_TEST_KAFKA") else {
        println!("SKIPPED: publishing to an intake topic: LETHE_TEST_KAFKA is not set");
        return None;
    };
    let setting = format!(
        "kafka = {{ bootstrap = \"{bootstrap}\", topic_prefix = \"{prefix}\", replication_factor = 1 }}"
    );
    Some((bootstrap, setting))
}

fn prefix(of: &str) -> String {
    format!("{of}-{}-{}.", std::process::id(), free_port())
}

/// A program that is not Lethe, with a Kafka client of its own.
struct Stranger {
    producer: FutureProducer,
    topic: String,
}

impl Stranger {
    fn new(bootstrap: &str, prefix: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap);
        Self {
            producer: config.create().unwrap(),
            topic: format!("{prefix}intake"),
        }
    }

    async fn write(&self, key: &str, value: &[u8]) -> i64 {
        let record = FutureRecord::to(&self.topic).key(key).payload(value);
        self.producer.send(record, PATIENCE).await.unwrap().offset
    }

    async fn publish(&self, event: &PublishedEvent) -> i64 {
        self.write(&event.name.key(), &event.write().unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_on_the_topic_is_found_or_in_quarantine_and_never_stops_the_stream() {
    let prefix = prefix("publish");
    let Some((bootstrap, setting)) = kafka(&prefix) else {
        return;
    };
    let company = Company::found(&setting);
    let server = company.start().await;
    let stranger = Stranger::new(&bootstrap, &prefix);
    let email = "canary-topic@example.org";
    let intake = company.intake_key().await;
    let mut crm = Publisher::new(&intake, &company.crm_sender, &drawn()).unwrap();
    let mut chat = Publisher::new(&intake, &company.chat_sender, &drawn()).unwrap();
    let mut of_crm = |sequence, key: &str| {
        crm.event(name("crm", "topic", sequence), &record(key, email))
            .unwrap()
    };

    let first = of_crm(10, "1");
    stranger.publish(&first).await;
    company.records(email, 1).await;
    let large = vec![b'['; 900_000];
    let in_the_clear = clear(name("crm", "topic", 11), record("8", "clear@example.org")).to_string();
    let forged = chat.event(name("crm", "topic", 12), &record("9", email)).unwrap();
    let garbage = [
        (stranger.write("", b"\xff no event").await, "event-malformed"),
        (stranger.write("k", &large).await, "event-oversize"),
        (
            stranger.write("crm/topic", in_the_clear.as_bytes()).await,
            "event-not-sealed",
        ),
        (stranger.publish(&forged).await, "exchange-unknown-sender"),
    ];
    // Repeated, later, earlier than what was taken, and gone.
    stranger.publish(&first).await;
    stranger.publish(&of_crm(20, "2")).await;
    let late = stranger.publish(&of_crm(15, "1")).await;
    let theirs = chat.event(name("chat", "main", 1), &record("1", email)).unwrap();
    stranger.publish(&theirs).await;
    company.records(email, 3).await;

    let kept = company.quarantine(5).await;
    company.counts_for_whoever_it_may_be_of(&kept).await;
    expect_kept(&kept, garbage.into_iter().chain([(late, "event-late")]));

    assert!(server.stop().success());
    let _server = company.start().await;
    stranger.publish(&first).await;
    stranger.publish(&of_crm(21, "3")).await;
    company.records(email, 4).await;
    assert_eq!(company.quarantine(5).await.len(), 5, "nothing is put away twice");
    nowhere(email, company.folder.path());
    match std::env::var("LETHE_TEST_KAFKA_DATA") {
        Ok(data) => {
            let data = Path::new(&data);
            nowhere(email, data);
            let strayed = holding("clear@example.org", data);
            assert!(
                !strayed.is_empty(),
                "what others write in the clear would be seen"
            );
        }
        Err(_) => println!("SKIPPED: a look into Kafka's files: LETHE_TEST_KAFKA_DATA is not set"),
    }
}

/// Each of these, and nothing else, is in quarantine, by position on the topic and code.
fn expect_kept(kept: &[Value], expected: impl Iterator<Item = (i64, &'static str)>) {
    let told = |input: &Value, name: &str| input[name].as_str().unwrap().to_owned();
    let mut left: Vec<(String, String)> = kept
        .iter()
        .map(|input| (told(input, "place"), told(input, "code")))
        .collect();
    for (position, code) in expected {
        let begins = format!("intake {position}: ");
        let found = left
            .iter()
            .position(|(place, told)| place.starts_with(&begins) && told == code);
        let found = found.unwrap_or_else(|| panic!("{code} at {position} is not among {left:?}"));
        left.remove(found);
    }
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_take_events_over_http_and_from_the_topic() {
    let prefix = prefix("several");
    let Some((bootstrap, setting)) = kafka(&prefix) else {
        return;
    };
    let company = Company::found(&setting);
    let _servers = company.start_several().await;
    let email = "canary-several@example.org";
    let event = clear(name("crm", "http", 1), record("1", email));
    assert_eq!(company.publish(&company.crm_key, &[event]).await, ["accepted"]);
    let mut crm = Publisher::new(&company.intake_key().await, &company.crm_sender, &drawn()).unwrap();
    let sealed = crm.event(name("crm", "topic", 1), &record("2", email)).unwrap();
    Stranger::new(&bootstrap, &prefix).publish(&sealed).await;
    company.records(email, 2).await;
}

/// Settings with which neither system knows the dataset that it publishes, and the chat none of its senders.
fn misled(settings: &str) -> String {
    let chat = settings.find("name = \"chat\"").unwrap();
    let sender = settings[chat..].find("senders = [").unwrap() + chat;
    let ends = settings[sender..].find('\n').unwrap() + sender;
    let wrong = format!("{}senders = []{}", &settings[..sender], &settings[ends..]);
    wrong.replace("name = \"contacts\"", "name = \"people\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_settings_kept_out_is_taken_again_once_they_are_mended_and_replaces_nothing_newer() {
    let prefix = prefix("mended");
    let Some((bootstrap, setting)) = kafka(&prefix) else {
        return;
    };
    let company = Company::found(&setting);
    let settings = std::fs::read_to_string(&company.home.config).unwrap();
    std::fs::write(&company.home.config, misled(&settings)).unwrap();
    let servers = company.start_several().await;
    let stranger = Stranger::new(&bootstrap, &prefix);
    let intake = company.intake_key().await;
    let mut crm = Publisher::new(&intake, &company.crm_sender, &drawn()).unwrap();
    let mut chat = Publisher::new(&intake, &company.chat_sender, &drawn()).unwrap();
    let emails = ["first", "old", "chat", "new"].map(|who| format!("canary-{who}@example.org"));
    let [first, old, of_chat, new] = emails.each_ref().map(String::as_str);
    let events = [
        crm.event(name("crm", "topic", 1), &record("1", first)),
        crm.event(name("crm", "topic", 2), &record("2", old)),
        chat.event(name("chat", "main", 1), &record("1", of_chat)),
    ];
    for event in events {
        stranger.publish(&event.unwrap()).await;
    }
    let kept = company.quarantine(3).await;
    let of = |code: &str| -> Vec<&Value> { kept.iter().filter(|input| input["code"] == code).collect() };
    let (undeclared, unknown) = (of("event-unknown-dataset"), of("exchange-unknown-sender"));
    assert_eq!((undeclared.len(), unknown.len()), (2, 1), "{kept:#?}");
    assert_eq!(
        company.shown(undeclared[0])["data"]["identifiers"][0]["value"],
        first
    );
    assert!(
        company.shown(unknown[0])["data"].is_null(),
        "nobody here can open it"
    );
    for server in servers {
        assert!(server.stop().success(), "{}", company.home.last_words());
    }

    std::fs::write(&company.home.config, settings).unwrap();
    let _servers = company.start_several().await;
    stranger
        .publish(&crm.event(name("crm", "topic", 3), &record("2", new)).unwrap())
        .await;
    company.records(new, 1).await;
    assert_eq!(
        company.shown(unknown[0])["data"]["identifiers"][0]["value"],
        of_chat
    );
    let mut numbers: Vec<String> = kept.iter().map(|input| input["position"].to_string()).collect();
    numbers.reverse();
    let words: Vec<&str> = ["log", "quarantine", "retry", "--json"]
        .into_iter()
        .chain(numbers.iter().map(String::as_str))
        .collect();
    let out = company.lethe(&words);
    let retried: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1), "one of them stays: {retried:#}");
    company.records(first, 1).await;
    company.records(of_chat, 1).await;
    company.records(new, 1).await;
    let left = company.quarantine(1).await;
    assert_eq!(left.len(), 1, "{left:#?}");
    assert_eq!(left[0]["code"], "intake-changed-since");
    company.lethe(&["log", "quarantine", "drop", &left[0]["position"].to_string()]);
    company.records(old, 0).await;
    for email in &emails {
        nowhere(email, company.folder.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_publishes_a_person_both_ways_and_agrees_with_the_vectors() {
    let Ok(python) = std::env::var("LETHE_TEST_PYTHON") else {
        println!("SKIPPED: the publisher in Python: LETHE_TEST_PYTHON is not set");
        return;
    };
    let prefix = prefix("python");
    let Some((bootstrap, setting)) = kafka(&prefix) else {
        return;
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/examples");
    let run = |script: &str, words: &[&str]| {
        let out = Command::new(&python)
            .arg(examples.join(script))
            .args(words)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    };
    run("test_vectors.py", &[]);

    let company = Company::found(&setting);
    let _server = company.start().await;
    let file = |name: &str| company.folder.path().join(name).display().to_string();
    let email = "canary-python@example.org";
    let (key, sender, topic) = (file("crm.key"), file("crm.sender"), format!("{prefix}intake"));
    let words = [
        ["--server", &company.home.url],
        ["--key-file", &key],
        ["--sender-file", &sender],
        ["--system", "crm"],
        ["--dataset", "contacts"],
        ["--email", email],
        ["--key", "17"],
        ["--topic-key", "18"],
        ["--shard", "http"],
        ["--topic-shard", "topic"],
        ["--kafka", &bootstrap],
        ["--topic", &topic],
    ];
    let answer = run("publish.py", words.as_flattened());
    assert_eq!(answer.trim(), r#"{"results": [{"result": "accepted"}]}"#);
    company.records(email, 2).await;
}
