//! A server with two published systems, and who publishes to them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_exchange::{
    EventData, EventName, KEY_BYTES, PrivateKey, PublicKey, PublishedEvent, PublishedRecord, Sequence,
};
use lethe_journeys::server::{Home, SEVERAL, Server, free_port, program};
use lethe_terms::{Identifier, IdentifierKind};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long what was published may take to be found.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const DATASET: &str = r#"
[[systems.datasets]]
name = "contacts"
unit = "a contact"
categories = ["email_address", "name"]
purpose = "customer_support"
basis = "6-1-f"
"#;

/// A server with two systems, each of which has a publisher of its own.
pub(crate) struct Company {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) home: Home,
    /// The secrets of API keys.
    pub(crate) crm_key: String,
    pub(crate) chat_key: String,
    pub(crate) office_key: String,
    /// The keys that publishers seal with.
    pub(crate) crm_sender: PrivateKey,
    pub(crate) chat_sender: PrivateKey,
}

pub(crate) fn drawn() -> Zeroizing<[u8; KEY_BYTES]> {
    Zeroizing::new(rand::random())
}

impl Company {
    pub(crate) fn found(first: &str) -> Self {
        // Another test of this program may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let keys = ["crm", "chat", "office"].map(lethe_node_key);
        let lines: Vec<&str> = keys.iter().map(|(_, line)| line.as_str()).collect();
        std::fs::write(at("keys"), lines.join("\n")).unwrap();
        std::fs::write(at("office.key"), &keys[2].0).unwrap();
        std::fs::write(at("crm.key"), &keys[0].0).unwrap();
        let [crm_sender, chat_sender] = [(); 2].map(|()| PrivateKey::derive(&drawn()));
        std::fs::write(at("crm.sender"), STANDARD.encode(crm_sender.to_bytes())).unwrap();
        let port = free_port();
        let public = |key: &PrivateKey| STANDARD.encode(key.public().to_bytes());
        let text = format!(
            r#"{first}
data_dir = "{}"
listen = "127.0.0.1:{port}"
api_keys_file = "{}"
feed_every_ms = 100
[controller]
id = "example"
name = "Example GmbH"
[[systems]]
name = "crm"
kind = "published"
shards = ["http", "topic", "sealed"]
api_keys = ["crm"]
senders = ["{}"]
{DATASET}
[[systems]]
name = "chat"
kind = "published"
api_keys = ["chat"]
senders = ["{}"]
{DATASET}
"#,
            at("lethe").display(),
            at("keys").display(),
            public(&crm_sender),
            public(&chat_sender),
        );
        std::fs::create_dir(at("lethe")).unwrap();
        std::fs::write(at("lethe.toml"), text).unwrap();
        let home = Home {
            program: program(),
            config: at("lethe.toml"),
            output: at("output"),
            url: format!("http://127.0.0.1:{port}"),
        };
        let [(crm_key, _), (chat_key, _), (office_key, _)] = keys;
        Self {
            folder,
            home,
            crm_key,
            chat_key,
            office_key,
            crm_sender,
            chat_sender,
        }
    }

    pub(crate) async fn start(&self) -> Server {
        let mut server = self.home.start();
        assert!(server.listens().await, "{}", self.home.last_words());
        server
    }

    /// As several processes.
    pub(crate) async fn start_several(&self) -> Vec<Server> {
        let start = |(instance, roles): &(&str, &[&str])| self.home.start_as(instance, roles);
        let mut servers: Vec<_> = SEVERAL.iter().map(start).collect();
        for server in &mut servers {
            assert!(server.listens().await, "{}", self.home.last_words());
        }
        servers
    }

    /// The event of an input in quarantine, as it is shown.
    pub(crate) fn shown(&self, input: &Value) -> Value {
        let number = input["position"].to_string();
        let out = self.lethe(&["log", "quarantine", "show", &number, "--json"]);
        let shown: Value = serde_json::from_slice(&out.stdout).unwrap();
        let event = STANDARD.decode(shown["input"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&event).unwrap()
    }

    pub(crate) async fn http(&self, key: &str, path: &str, body: Option<&Value>) -> Value {
        let client = reqwest::Client::new();
        let url = format!("{}{path}", self.home.url);
        let request = match body {
            Some(body) => client.post(url).json(body),
            None => client.get(url),
        };
        let answer = request.bearer_auth(key).send().await.unwrap();
        let text = answer.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"))
    }

    /// Publishes over HTTP; the result of each event, `refused` with its code.
    pub(crate) async fn publish(&self, key: &str, events: &[Value]) -> Vec<String> {
        let answer = self.http(key, "/v1/events", Some(&json!(events))).await;
        let results = answer["results"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer:#}"));
        let told = |result: &Value| match result["code"].as_str() {
            Some(code) => code.to_owned(),
            None => result["result"].as_str().unwrap().to_owned(),
        };
        results.iter().map(told).collect()
    }

    /// The newest key that publishers seal to.
    pub(crate) async fn intake_key(&self) -> PublicKey {
        let list = self.http(&self.crm_key, "/v1/intake-keys", None).await;
        list["keys"][0]["public_key"].as_str().unwrap().parse().unwrap()
    }

    /// The lineage of an address, as `lethe lineage` shows it.
    fn lineage(&self, email: &str) -> (i32, Value) {
        let out = self.lethe(&["lineage", "--identifier", &format!("email={email}"), "--json"]);
        (
            out.status.code().unwrap(),
            serde_json::from_slice(&out.stdout).unwrap_or_default(),
        )
    }

    pub(crate) fn lethe(&self, words: &[&str]) -> std::process::Output {
        let key = self.folder.path().join("office.key");
        let server = ["--server", &self.home.url, "--key-file", key.to_str().unwrap()];
        Command::new(&self.home.program)
            .args(words)
            .args(server)
            .output()
            .unwrap()
    }

    /// Waits until the lineage of an address has so many records.
    pub(crate) async fn records(&self, email: &str, count: usize) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                looks.tick().await;
                let (exit, lineage) = self.lineage(email);
                let records = lineage["records"].as_array().map_or(0, Vec::len);
                if records == count && exit == i32::from(count == 0) {
                    return;
                }
            }
        });
        let found = seen.await;
        assert!(
            found.is_ok(),
            "{:#}\n{}",
            self.lineage(email).1,
            self.home.last_words()
        );
    }

    /// What names no system counts for each that is published.
    pub(crate) async fn counts_for_whoever_it_may_be_of(&self, kept: &[Value]) {
        assert!(kept.iter().any(|input| input["system"].is_null()), "{kept:?}");
        let list = self.http(&self.office_key, "/v1/systems", None).await;
        for system in list["systems"].as_array().unwrap() {
            let may_be = |input: &&Value| input["system"].is_null() || input["system"] == system["name"];
            assert_eq!(
                system["quarantined"],
                kept.iter().filter(may_be).count(),
                "{system:#}"
            );
        }
    }

    /// Waits until so many inputs are in quarantine, and gives them oldest first.
    pub(crate) async fn quarantine(&self, count: usize) -> Vec<Value> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let seen = tokio::time::timeout(PATIENCE, async {
            loop {
                looks.tick().await;
                let mut list = self.http(&self.office_key, "/v1/quarantine", None).await;
                let mut inputs = list["inputs"]
                    .as_array_mut()
                    .map(std::mem::take)
                    .unwrap_or_default();
                if inputs.len() >= count {
                    inputs.reverse();
                    return inputs;
                }
            }
        });
        seen.await
            .unwrap_or_else(|_| panic!("not in quarantine: {}", self.home.last_words()))
    }
}

/// An API key and its line of the key file.
fn lethe_node_key(name: &str) -> (String, String) {
    let key = lethe_gateway::new_key(name).unwrap();
    (key.secret, key.line)
}

pub(crate) fn name(system: &str, shard: &str, sequence: u64) -> EventName {
    EventName {
        system: system.parse().unwrap(),
        shard: shard.parse().unwrap(),
        sequence: Sequence(sequence),
    }
}

pub(crate) fn record(key: &str, email: &str) -> PublishedRecord {
    PublishedRecord {
        dataset: "contacts".parse().unwrap(),
        key: key.to_owned(),
        handle: None,
        identifiers: vec![Identifier::new(IdentifierKind::Email, email)],
        count: 1,
        gone: false,
    }
}

pub(crate) fn gone(key: &str) -> PublishedRecord {
    PublishedRecord {
        identifiers: Vec::new(),
        gone: true,
        ..record(key, "")
    }
}

pub(crate) fn json_of(event: &PublishedEvent) -> Value {
    serde_json::from_slice(&event.write().unwrap()).unwrap()
}

pub(crate) fn clear(name: EventName, record: PublishedRecord) -> Value {
    let data = EventData::Clear(record);
    json_of(&PublishedEvent { name, data })
}

/// Files below a folder that hold a value as it is, in hexadecimal or in base64.
pub(crate) fn holding(value: &str, folder: &Path) -> Vec<PathBuf> {
    let spellings = [value.to_owned(), hex::encode(value), STANDARD.encode(value)];
    walkdir::WalkDir::new(folder)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        // What a broker removes meanwhile holds nothing.
        .filter(|entry| {
            let bytes = std::fs::read(entry.path())
                .unwrap_or_default()
                .to_ascii_lowercase();
            spellings.iter().any(|spelling| {
                memchr::memmem::find(&bytes, spelling.to_ascii_lowercase().as_bytes()).is_some()
            })
        })
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// Nothing below a folder holds the value.
pub(crate) fn nowhere(value: &str, folder: &Path) {
    let found = holding(value, folder);
    assert!(found.is_empty(), "in the clear: {found:?}");
}
