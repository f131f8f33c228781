//! The server through real HTTP on a loopback port, with a made-up backend.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod callbacks;
mod document;
mod pages;
mod publishing;
mod refusals;
mod wording;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lethe_gateway::asks::{CaseQuery, Close, FindLineage, IdentifierAsk, Lift, OpenCase};
use lethe_gateway::client::{Client, ClientError};
use lethe_gateway::fake::Fake;
use lethe_gateway::limits::BODY_BYTES_MAX;
use lethe_gateway::views::{FindingView, HealthView, ScanState};
use lethe_gateway::{Options, TlsFiles, listen_until_served, new_key, openapi, serve, words};
use lethe_journal::CloseReason;
use lethe_terms::{CaseId, CaseState, IdentifierKind, Right, Timestamp, Verb};

struct Server {
    address: SocketAddr,
    backend: Arc<Fake>,
    secret: Option<String>,
    _folder: tempfile::TempDir,
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

async fn started(with_key: bool) -> Server {
    started_with(with_key, Options::default()).await
}

async fn started_with(with_key: bool, mut options: Options) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let mut secret = None;
    if with_key {
        let key = new_key("office").unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, key.line).unwrap();
        options.keys = Some(path);
        secret = Some(key.secret);
    }
    let backend = Arc::new(Fake::with_samples(now()));
    let running = serve(
        "127.0.0.1:0".parse().unwrap(),
        backend.clone(),
        options,
        std::future::pending(),
    )
    .await
    .unwrap();
    Server {
        address: running.address(),
        backend,
        secret,
        _folder: folder,
    }
}

impl Server {
    fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address), self.secret.clone(), None).unwrap()
    }

    /// Sends bytes and reads all that comes until the server closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> String {
        self.raw(
            format!(
                "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                self.address,
                body.len()
            )
            .as_bytes(),
        )
    }

    fn json(&self, method: &str, path: &str, body: &str) -> String {
        self.send(method, path, "content-type: application/json\r\n", body)
    }

    fn form(&self, path: &str, body: &str) -> String {
        let headers = format!(
            "content-type: application/x-www-form-urlencoded\r\norigin: http://{}\r\n",
            self.address
        );
        self.send("POST", path, &headers, body)
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

fn ask(right: Right, value: &str) -> OpenCase {
    OpenCase {
        right,
        identifiers: vec![IdentifierAsk {
            issuer: None,
            kind: IdentifierKind::Email,
            value: value.to_owned(),
        }],
        ground: None,
        supersedes: None,
        received_at: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_backend_is_alive_says_what_it_waits_for_and_refuses_everything_else_for_now() {
    let waits = || HealthView {
        ok: false,
        parts: vec![FindingView {
            what: "start".into(),
            ok: false,
            detail: "waits: nobody answers".into(),
        }],
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let listening = listen_until_served(
        listen,
        Box::new(waits),
        Options::default(),
        std::future::pending(),
    );
    let listening = listening.await.unwrap();
    let server = Server {
        address: listening.address(),
        backend: Arc::new(Fake::with_samples(now())),
        secret: None,
        _folder: tempfile::tempdir().unwrap(),
    };
    let get = |path: &str| server.send("GET", path, "", "");
    assert_eq!(status(&get("/healthz")), "200");
    let ready = get("/readyz");
    assert!(
        status(&ready) == "503" && ready.contains("waits: nobody answers"),
        "{ready}"
    );
    for path in ["/v1/cases", "/metrics", "/nowhere"] {
        let refused = get(path);
        assert_eq!(status(&refused), "503", "{refused}");
        assert!(
            refused.contains("application/problem+json")
                && refused.contains("urn:lethe:problem:gateway-starting")
                && refused.contains("content-security-policy"),
            "{refused}"
        );
    }
    let page = server.send("GET", "/", "accept: text/html\r\n", "");
    assert!(status(&page) == "503" && page.contains("<h1>"), "{page}");
    // A client that asks meanwhile has its answer once there is one.
    let client =
        lethe_gateway::client::Client::new(&format!("http://{}", server.address), None, None).unwrap();
    let mut asks = std::pin::pin!(client.partitions(false));
    let soon = tokio::time::timeout(Duration::from_secs(1), &mut asks).await;
    assert!(soon.is_err(), "{soon:?}");
    let running = listening.answer(server.backend.clone());
    assert_eq!(asks.await.unwrap().partitions.len(), 4);
    assert_eq!(running.address(), server.address);
    for path in ["/healthz", "/readyz", "/v1/cases", "/metrics"] {
        assert_eq!(status(&get(path)), "200", "{path}");
    }
    assert_eq!(status(&get("/nowhere")), "404");
}

const LATER: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_case_goes_its_whole_way_through_the_api() {
    let server = started(true).await;
    let client = server.client();
    let opened = client
        .open_case(&ask(Right::Restriction, "ada@example.org"))
        .await
        .unwrap();
    let case = client.wait_case(opened.case, None, LATER).await.unwrap();
    assert_eq!(case.state, CaseState::AwaitingApproval);
    let plan = client.plan(opened.case).await.unwrap();
    assert_eq!(Some(&plan.digest), case.plan_digest.as_ref());

    client.approve(opened.case, plan.digest).await.unwrap();
    let case = client
        .wait_case(opened.case, Some(case.revision), LATER)
        .await
        .unwrap();
    assert_eq!(case.state, CaseState::Completed);
    assert!(
        String::from_utf8(client.certificate(opened.case, None).await.unwrap())
            .unwrap()
            .contains("cert-")
    );
    let lift = Lift {
        notified_at: Timestamp::from_millis(1),
    };
    client.lift(opened.case, lift.clone()).await.unwrap();
    every_certificate_is_there(&client, opened.case).await;
    let again = client.lift(opened.case, lift).await.unwrap_err();
    assert!(again.is_no(), "{again}");
    assert_eq!(again.code(), "fake-not-restricted");

    let stuck = client
        .open_case(&ask(Right::Erasure, "stuck@example.org"))
        .await
        .unwrap();
    let digest = client.plan(stuck.case).await.unwrap().digest;
    client.approve(stuck.case, digest.clone()).await.unwrap();
    let case = client.case(stuck.case).await.unwrap();
    assert_eq!(case.state, CaseState::NeedsAttention);
    assert_eq!(case.attention[0].system, "helpdesk");
    client.replan(stuck.case).await.unwrap();
    client.approve(stuck.case, digest).await.unwrap();
    client
        .close(
            stuck.case,
            Close {
                reason: CloseReason::Contradicted,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        client.case(stuck.case).await.unwrap().state,
        CaseState::NotCompleted
    );
    let third = client
        .open_case(&ask(Right::Erasure, "eve@example.org"))
        .await
        .unwrap();
    client.withdraw(third.case).await.unwrap();
    assert_eq!(client.case(third.case).await.unwrap().state, CaseState::Withdrawn);
}

async fn every_certificate_is_there(client: &Client, case: CaseId) {
    let issued = client.case(case).await.unwrap().certificates;
    for one in &issued {
        let bytes = client.certificate(case, Some(&one.certificate)).await.unwrap();
        assert!(String::from_utf8(bytes).unwrap().contains(&one.certificate));
    }
    let verbs: Vec<_> = issued.iter().map(|one| one.verb).collect();
    assert_eq!(verbs, [Verb::Restrict, Verb::Lift]);
    let foreign = client.certificate(case, Some("cert-case-5a180708c0ffee08")).await;
    assert_eq!(foreign.unwrap_err().code(), "gateway-not-found");
    let no_id = client.certificate(case, Some("../../etc/passwd")).await;
    assert_eq!(no_id.unwrap_err().code(), "gateway-malformed");
}

#[tokio::test(flavor = "multi_thread")]
async fn systems_lineage_and_the_rest_answer() {
    let server = started(true).await;
    let client = server.client();
    assert_eq!(client.systems().await.unwrap().systems.len(), 4);
    assert!(client.system_check("shop").await.unwrap().ok);
    assert!(!client.system_check("helpdesk").await.unwrap().ok);
    assert_eq!(client.start_scan("shop").await.unwrap().state, ScanState::Running);
    while client.scan("shop").await.unwrap().state == ScanState::Running {}
    assert!(!client.connector_check("helpdesk").await.unwrap().ok);
    let identifiers = ask(Right::Erasure, "ada@example.org").identifiers;
    assert!(
        !client
            .lineage(&FindLineage { identifiers })
            .await
            .unwrap()
            .records
            .is_empty()
    );
    assert!(!client.policy().await.unwrap().is_empty());
    let missing = client.system_check("nothing").await.unwrap_err();
    assert_eq!(missing.code(), "gateway-not-found");

    let key = server.secret.clone().unwrap();
    let metrics = server.send("GET", "/metrics", &format!("authorization: Bearer {key}\r\n"), "");
    assert!(
        metrics.contains("lethe_cases 1") && metrics.contains("lethe_gateway_requests_total"),
        "{metrics}"
    );
    assert!(metrics.contains("route=\"/v1/systems/{name}/check\"") && !metrics.contains("helpdesk"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(status(&server.send("GET", path, "", "")), "200", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_operation_is_there_and_needs_the_key() {
    let server = started(true).await;
    let document = openapi();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            operations += 1;
            let path = path
                .replace("{id}", "case-5a180708c0ffee08")
                .replace("{certificate}", "cert-case-5a180708c0ffee08")
                .replace("{name}", "shop");
            let method = method.to_uppercase();
            let answer = server.json(&method, &path, "");
            if path.starts_with("/healthz") || path.starts_with("/readyz") {
                assert_eq!(status(&answer), "200");
                continue;
            }
            if path.starts_with("/v1/callbacks/") {
                assert_eq!(methods["post"]["security"], serde_json::json!([]));
                assert!(answer.contains("gateway-malformed"), "{answer}");
                continue;
            }
            assert_eq!(status(&answer), "401", "{method} {path}");
            assert!(answer.contains("gateway-wrong-key"), "{answer}");
            let key = format!(
                "content-type: application/json\r\nauthorization: Bearer {}\r\n",
                server.secret.as_deref().unwrap()
            );
            let answer = server.send(&method, &path, &key, "");
            assert!(
                !matches!(status(&answer), "404" | "405" | "401"),
                "{method} {path}: {answer}"
            );
        }
    }
    assert!(operations >= 20, "{operations}");
    let text = document.to_string();
    for name in text
        .split("#/components/schemas/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        assert!(
            document["components"]["schemas"].get(name).is_some(),
            "{name} is named and not there"
        );
    }
}
