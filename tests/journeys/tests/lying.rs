//! Systems that lie: what the data protection officer, the dashboard and the verifier of a statement are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lethe_journeys::server::free_port;
use lethe_kit::Connector;
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::{Exit, parse_from, run_to};
use lethe_node::{Error, Kinds, serve};
use lethe_terms::{Identifier, IdentifierKind, Independence};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const ADA: &str = "ada@example.org";
const BOB: &str = "bob@example.org";

/// Systems with Ada and Bob in them.
fn filled(connector: MemoryConnector) -> MemoryConnector {
    let dataset = connector.manifest().datasets[0].name.clone();
    for (key, email) in [("1", ADA), ("2", BOB)] {
        connector.put(&dataset, key, vec![Identifier::new(IdentifierKind::Email, email)]);
    }
    connector
}

/// A running server with an honest system, `crm`, and another one, `chat`.
struct Office {
    url: String,
    folder: tempfile::TempDir,
    crm: MemoryConnector,
    chat: MemoryConnector,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), Error>>,
}

impl Office {
    async fn open(chat: MemoryConnector) -> Self {
        // Another test of this program may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = configuration(folder.path(), port);
        let (crm, chat) = (filled(MemoryConnector::new("crm").unwrap()), filled(chat));
        let (one, other) = (crm.restarted(), chat.restarted());
        let kinds = Kinds::shipped()
            .with("honest", move |_, _| {
                let connector: Arc<dyn Connector> = Arc::new(one.restarted());
                async { Ok(connector) }
            })
            .with("other", move |_, _| {
                let connector: Arc<dyn Connector> = Arc::new(other.restarted());
                async { Ok(connector) }
            });
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            let told_to_stop = async { drop(stopped.await) };
            serve(&config, &kinds, told_to_stop).await
        });
        let office = Self {
            url: format!("http://127.0.0.1:{port}"),
            folder,
            crm,
            chat,
            stop,
            server,
        };
        office.ready().await;
        office
    }

    async fn ready(&self) {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        while reqwest::get(format!("{}/readyz", self.url)).await.is_err() {
            assert!(!self.server.is_finished(), "the server ended");
            looks.tick().await;
        }
        for system in ["crm", "chat"] {
            let (exit, _, err) = self.lethe(&format!("system scan {system}")).await;
            assert_eq!(exit, Exit::Yes, "{err}");
        }
    }

    /// Runs the command line.
    async fn lethe(&self, words: &str) -> (Exit, String, String) {
        let mut line = vec!["lethe"];
        line.extend(words.split(' '));
        line.extend(["--server", &self.url]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run_to(parse_from(line).unwrap(), &mut out, &mut err, false).await;
        (
            exit,
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        )
    }

    async fn json(&self, words: &str) -> (Exit, Value) {
        let (exit, out, err) = self.lethe(&format!("{words} --json")).await;
        let value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words}: {out}{err}"));
        (exit, value)
    }

    async fn page(&self, path: &str) -> String {
        let response = reqwest::Client::new()
            .get(format!("{}{path}", self.url))
            .header("accept", "text/html")
            .send();
        response.await.unwrap().text().await.unwrap()
    }

    /// Erases Ada, as far as it gets.
    async fn erase(&self) -> (Exit, Value) {
        let open = format!("case open --right erasure --identifier email={ADA} --wait");
        let (_, planned) = self.json(&open).await;
        assert_eq!(planned["state"], "awaiting_approval", "{planned:#}");
        let (id, digest) = (
            planned["id"].as_str().unwrap(),
            planned["plan_digest"].as_str().unwrap(),
        );
        self.json(&format!("case approve {id} --plan {digest} --wait"))
            .await
    }

    /// The signed statement of a case, and the policy to verify it by.
    async fn statement(&self, id: &str) -> (PathBuf, PathBuf) {
        let (statement, policy) = (
            self.folder.path().join("statement"),
            self.folder.path().join("policy"),
        );
        let (exit, _, err) = self
            .lethe(&format!("case certificate {id} --out {}", statement.display()))
            .await;
        assert_eq!(exit, Exit::Yes, "{err}");
        let (exit, _, err) = self.lethe(&format!("policy --out {}", policy.display())).await;
        assert_eq!(exit, Exit::Yes, "{err}");
        (statement, policy)
    }

    async fn close(self) {
        drop(self.stop);
        self.server.await.unwrap().unwrap();
    }
}

fn configuration(folder: &Path, port: u16) -> PathBuf {
    let config = folder.join("lethe.toml");
    let text = format!(
        r#"
data_dir = "{}"
listen = "127.0.0.1:{port}"
feed_every_ms = 100
[controller]
id = "example"
name = "Example GmbH"
[[systems]]
name = "crm"
kind = "honest"
[[systems]]
name = "chat"
kind = "other"
"#,
        folder.join("lethe").display()
    );
    std::fs::write(&config, text).unwrap();
    config
}

/// Verifies a statement: exit code, and what is said as JSON.
fn verified((statement, policy): &(PathBuf, PathBuf)) -> (u8, Value, String) {
    let (mut json, mut text) = (Vec::new(), Vec::new());
    let code = lethe_verify::show(statement, Some(policy), true, &mut json);
    lethe_verify::show(statement, Some(policy), false, &mut text);
    (
        code,
        serde_json::from_slice(&json).unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

fn row<'a>(of: &'a Value, system: &str) -> &'a Value {
    let rows = of.as_array().unwrap();
    rows.iter().find(|row| row["system"] == system).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_says_erased_and_did_not_needs_attention_and_is_named_everywhere() {
    let office = Office::open(MemoryConnector::new("chat").unwrap().says_erased_but_does_not()).await;
    let (exit, case) = office.erase().await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::No, &"needs_attention".into()),
        "{case:#}"
    );
    assert!(!office.crm.holds(ADA) && office.chat.holds(ADA));
    assert!(office.crm.holds(BOB) && office.chat.holds(BOB));
    assert_eq!(
        row(&case["attention"], "chat")["code"],
        "casework-contradicted",
        "{case:#}"
    );
    assert_eq!(row(&case["steps"], "chat")["observed"], "present");

    let id = case["id"].as_str().unwrap();
    let (exit, _, err) = office.lethe(&format!("case certificate {id}")).await;
    assert_eq!(exit, Exit::No, "there is a certificate: {err}");
    let (_, out, err) = office.lethe(&format!("case show {id}")).await;
    assert!(
        out.lines()
            .any(|line| line.contains("chat") && line.contains("casework-contradicted")),
        "{out}{err}"
    );
    let page = office.page(&format!("/cases/{id}")).await;
    assert!(
        page.contains("needs attention") && page.contains("chat") && page.contains("present"),
        "{page}"
    );
    let overview = office.page("/").await;
    assert!(overview.contains("needs attention"), "{overview}");

    let (_, closed) = office
        .json(&format!("case close {id} --reason contradicted --wait"))
        .await;
    assert_eq!(closed["state"], "not_completed", "{closed:#}");
    let (code, report, text) = verified(&office.statement(id).await);
    assert_eq!(code, 5, "{report:#}");
    assert_eq!(report["status"], "not_completed");
    assert!(
        text.lines()
            .any(|line| line.contains("chat") && line.contains("casework-contradicted")),
        "{text}"
    );
    assert_eq!(row(&report["systems"], "crm")["reported"], "erased");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_the_weak_independence_of_an_observation_that_lies() {
    let liar = MemoryConnector::new("chat")
        .unwrap()
        .observe_lies_too()
        .with_independence(Independence::SamePath);
    let office = Office::open(liar).await;
    let (exit, case) = office.erase().await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::Yes, &"completed".into()),
        "{case:#}"
    );
    assert!(office.chat.holds(ADA), "the liar tells the truth");

    let id = case["id"].as_str().unwrap();
    let (code, report, text) = verified(&office.statement(id).await);
    assert_eq!(code, 0, "{report:#}");
    assert_eq!(row(&report["systems"], "chat")["independence"], "same_path");
    assert_eq!(
        row(&report["systems"], "crm")["independence"],
        "separate_connection"
    );
    let remarks = report["remarks"].to_string();
    assert!(
        remarks.contains("chat"),
        "the weak observation is not named: {remarks}"
    );
    assert!(
        text.lines()
            .any(|line| line.contains("chat") && line.contains("same path")),
        "{text}"
    );
    let page = office.page(&format!("/cases/{id}")).await;
    assert!(page.contains("by same path"), "{page}");
    office.close().await;
}
