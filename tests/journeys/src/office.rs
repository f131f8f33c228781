//! A server inside the test with two systems in memory, one of them honest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lethe_kit::Connector;
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::{Exit, parse_from, run_to};
use lethe_node::{Error, Kinds, Roles, Unopened, serve};
use lethe_terms::{Identifier, IdentifierKind};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::server::free_port;

pub const ADA: &str = "ada@example.org";
pub const BOB: &str = "bob@example.org";

/// Systems with Ada and Bob in them.
fn filled(connector: MemoryConnector) -> MemoryConnector {
    let dataset = connector.manifest().datasets[0].name.clone();
    for (key, email) in [("1", ADA), ("2", BOB)] {
        connector.put(&dataset, key, vec![Identifier::new(IdentifierKind::Email, email)]);
    }
    connector
}

/// A running server with an honest system, `crm`, and another one, `chat`.
pub struct Office {
    pub url: String,
    pub folder: tempfile::TempDir,
    pub crm: MemoryConnector,
    pub chat: MemoryConnector,
    /// Whether `chat` cannot be reached by a server that starts.
    pub away: Arc<AtomicBool>,
    pub config: PathBuf,
    running: Option<Running>,
}

/// What stops the server, and how it ended.
type Running = (oneshot::Sender<()>, JoinHandle<Result<(), Error>>);

impl Office {
    /// A server that is started, and has read both systems.
    pub async fn open(chat: MemoryConnector) -> Self {
        let mut office = Self::found(chat);
        office.start().await;
        office.scan("crm").await;
        office.scan("chat").await;
        office
    }

    /// Everything but the start.
    pub fn found(chat: MemoryConnector) -> Self {
        Self::with_feed_every(chat, 100)
    }

    /// As [`Self::found`], with feeds that are read so often, in milliseconds.
    pub fn with_feed_every(chat: MemoryConnector, feed_every_ms: u32) -> Self {
        // Another test of this program may have set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        Self {
            url: format!("http://127.0.0.1:{port}"),
            config: configuration(folder.path(), port, feed_every_ms),
            folder,
            crm: filled(MemoryConnector::new("crm").unwrap()),
            chat: filled(chat),
            away: Arc::default(),
            running: None,
        }
    }

    /// With more systems, as the configuration names them.
    #[must_use]
    pub fn and(self, systems: &str) -> Self {
        let text = std::fs::read_to_string(&self.config).unwrap();
        std::fs::write(&self.config, text + systems).unwrap();
        self
    }

    fn kinds(&self) -> Kinds {
        let (one, other) = (self.crm.restarted(), self.chat.restarted());
        let away = Arc::clone(&self.away);
        Kinds::shipped()
            .with("honest", move |_, _| {
                let connector: Arc<dyn Connector> = Arc::new(one.restarted());
                async { Ok(connector) }
            })
            .with("other", move |_, _| {
                let connector: Arc<dyn Connector> = Arc::new(other.restarted());
                let reached = if away.load(Ordering::SeqCst) {
                    Err(Unopened::Away {
                        code: "sql-unreachable",
                        reason: "nobody answers".into(),
                    })
                } else {
                    Ok(connector)
                };
                async { reached }
            })
    }

    /// Starts the server and waits until it answers. In one program a read of the server before may hold the log's lock for a moment longer.
    pub async fn start(&mut self) {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        let (mut stop, mut server) = self.begin();
        while self.starts().await {
            if server.is_finished() {
                let error = server.await.unwrap().unwrap_err();
                assert_eq!(error.code(), "log-not-stored", "the server ended: {error}");
                (stop, server) = self.begin();
            }
            looks.tick().await;
        }
        self.running = Some((stop, server));
    }

    /// Whether nobody answers yet, or only that the server starts.
    async fn starts(&self) -> bool {
        let Ok(answer) = reqwest::get(format!("{}/readyz", self.url)).await else {
            return true;
        };
        let text = answer.text().await.unwrap_or_default();
        text.contains("\"what\":\"start\"")
    }

    fn begin(&self) -> Running {
        let (kinds, config) = (self.kinds(), self.config.clone());
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            let told_to_stop = async { drop(stopped.await) };
            serve(&config, Roles::all(), &kinds, told_to_stop).await
        });
        (stop, server)
    }

    /// Why a server does not start.
    pub async fn refusal(&self) -> Error {
        let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            let kinds = self.kinds();
            let ended = serve(&self.config, Roles::all(), &kinds, std::future::pending()).await;
            let error = ended.unwrap_err();
            if error.code() != "log-not-stored" {
                return error;
            }
            looks.tick().await;
        }
    }

    /// Reads a system to its end.
    pub async fn scan(&self, system: &str) {
        let (exit, _, err) = self.lethe(&format!("system scan {system}")).await;
        assert_eq!(exit, Exit::Yes, "{err}");
    }

    /// Runs the command line.
    pub async fn lethe(&self, words: &str) -> (Exit, String, String) {
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

    pub async fn json(&self, words: &str) -> (Exit, Value) {
        let (exit, out, err) = self.lethe(&format!("{words} --json")).await;
        let value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words}: {out}{err}"));
        (exit, value)
    }

    pub async fn page(&self, path: &str) -> String {
        let response = reqwest::Client::new()
            .get(format!("{}{path}", self.url))
            .header("accept", "text/html")
            .send();
        response.await.unwrap().text().await.unwrap()
    }

    /// Opens Ada's erasure and waits for its plan: the case and the digest to approve it by.
    pub async fn planned_erasure(&self) -> (String, String) {
        let open = format!("case open --right erasure --identifier email={ADA} --wait");
        let (_, planned) = self.json(&open).await;
        assert_eq!(planned["state"], "awaiting_approval", "{planned:#}");
        let word = |name: &str| planned[name].as_str().unwrap().to_owned();
        (word("id"), word("plan_digest"))
    }

    /// Approves the plan of a case as it was shown, and waits.
    pub async fn approve(&self, planned: &Value) -> (Exit, Value) {
        let word = |name: &str| planned[name].as_str().unwrap();
        let (id, digest) = (word("id"), word("plan_digest"));
        self.json(&format!("case approve {id} --plan {digest} --wait"))
            .await
    }

    /// Erases Ada, as far as it gets.
    pub async fn erase(&self) -> (Exit, Value) {
        let (id, digest) = self.planned_erasure().await;
        self.json(&format!("case approve {id} --plan {digest} --wait"))
            .await
    }

    /// The signed statement of a case, and the policy to verify it by.
    pub async fn statement(&self, id: &str) -> (PathBuf, PathBuf) {
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

    /// Stops the server.
    pub async fn close(&mut self) {
        let (stop, server) = self.running.take().unwrap();
        drop(stop);
        server.await.unwrap().unwrap();
    }
}

fn configuration(folder: &Path, port: u16, feed_every_ms: u32) -> PathBuf {
    let config = folder.join("lethe.toml");
    let text = format!(
        r#"
data_dir = "{}"
listen = "127.0.0.1:{port}"
feed_every_ms = {feed_every_ms}
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
