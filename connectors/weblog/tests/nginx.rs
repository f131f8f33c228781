//! A real nginx serves traffic while a person is erased from its log. Skipped, visibly, where there is no nginx.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lethe_kit::{Ask, Connector, Performed, Selector};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Observed, Verb};

const NGINX: &str = "/usr/sbin/nginx";
const CLIENTS: usize = 6;

struct Nginx {
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
}

impl Nginx {
    fn start() -> Option<Self> {
        if !Path::new(NGINX).exists() {
            eprintln!("SKIPPED: no {NGINX}; install the package nginx to run this test");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let at = folder.path().display().to_string();
        // Started as root, the workers must be able to reopen a log below a private folder.
        let owner = if fs::metadata(folder.path()).is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
        {
            "user root;"
        } else {
            ""
        };
        let config = format!(
            r#"{owner} daemon off; worker_processes 3; pid {at}/pid; error_log {at}/error.log warn; events {{ worker_connections 256; }}
http {{ client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
log_format site '$remote_addr - $http_x_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
server {{ listen 127.0.0.1:{port} reuseport; access_log {at}/access.log site; location / {{ return 200 "ok\n"; }} }} }}"#
        );
        fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let child = Command::new(NGINX)
            .args(arguments(folder.path()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { folder, child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() || !nginx.path("pid").exists() {
            std::thread::yield_now();
        }
        Some(nginx)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn signal(&self, signal: &str) {
        let told = Command::new(NGINX)
            .args(arguments(self.folder.path()))
            .args(["-s", signal])
            .stderr(Stdio::null())
            .status();
        assert!(told.unwrap().success());
    }

    fn connector(&self) -> lethe_weblog::WeblogConnector {
        let mut reopen = vec![NGINX.to_owned()];
        reopen.extend(arguments(self.folder.path()));
        reopen.extend(["-s".to_owned(), "reopen".to_owned()]);
        let text = serde_json::json!({
            "logs": [{ "name": "access", "path": self.path("access.log") }], "state_dir": self.path("state"), "reopen": reopen,
        });
        lethe_weblog::open("web".parse().unwrap(), serde_json::from_value(text).unwrap()).unwrap()
    }

    fn quit(mut self) -> tempfile::TempDir {
        self.signal("quit");
        self.child.wait().unwrap();
        self.folder
    }
}

fn arguments(folder: &Path) -> Vec<String> {
    let at = folder.display();
    [
        "-p",
        &format!("{at}"),
        "-c",
        &format!("{at}/nginx.conf"),
        "-e",
        &format!("{at}/error.log"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Sends requests, each with a number, one in four by Ada until she has left.
fn client(
    port: u16,
    number: usize,
    ends: &AtomicBool,
    left: &AtomicBool,
    sent: &AtomicUsize,
) -> Vec<(usize, bool)> {
    let mut answered = Vec::new();
    let mut n = number * 1_000_000;
    while !ends.load(Ordering::SeqCst) {
        n += 1;
        // A busy site's pace, not an attack's.
        std::thread::sleep(std::time::Duration::from_millis(1));
        let ada = n.is_multiple_of(4) && !left.load(Ordering::SeqCst);
        let (user, target) = match (ada, n % 8) {
            (true, 0) => ("-", format!("/login?email=ada%40example.org&n={n}")),
            (true, _) => ("usr_ada0001", format!("/app?n={n}")),
            (false, _) => ("usr_bob0002", format!("/app?q=ada&n={n}")),
        };
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-User: {user}\r\nUser-Agent: t \"q\" \\\r\n\r\n"
        );
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
            continue;
        };
        let mut answer = Vec::new();
        if stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_end(&mut answer).is_ok()
            && answer.starts_with(b"HTTP/1.1 200")
        {
            answered.push((n, ada));
            sent.fetch_add(1, Ordering::SeqCst);
        }
    }
    answered
}

fn number(line: &str) -> usize {
    let (before, _) = line.split_once(" HTTP/1.1\"").unwrap();
    before.rsplit_once("n=").unwrap().1.parse().unwrap()
}

async fn until_done(connector: &lethe_weblog::WeblogConnector, id: u8, verb: Verb, selector: &Selector) {
    let ask = Ask {
        id: InstructionId::from_bytes([id; 16]),
        generation: (u64::from(id), 0),
        dataset: "access".parse().unwrap(),
        verb,
        selector: selector.clone(),
    };
    for _ in 0..100 {
        match connector.perform(&ask).await.unwrap() {
            Performed::Done(_) => return,
            Performed::Accepted { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    panic!("never done");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_others_stands_in_the_log_exactly_once_after_restricting_and_erasing_under_traffic()
 {
    let Some(nginx) = Nginx::start() else { return };
    let (ends, left, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|n| {
            let (ends, left, sent, port) = (ends.clone(), left.clone(), sent.clone(), nginx.port);
            std::thread::spawn(move || client(port, n, &ends, &left, &sent))
        })
        .collect();
    let more = |n: usize| {
        let goal = sent.load(Ordering::SeqCst) + n;
        while sent.load(Ordering::SeqCst) < goal {
            std::thread::yield_now();
        }
    };
    let ada = Selector {
        records: Vec::new(),
        identifiers: vec![
            Identifier::new(IdentifierKind::UserId, "usr_ada0001"),
            Identifier::new(IdentifierKind::Email, "ada@example.org"),
        ],
    };
    let connector = nginx.connector();
    more(300);
    until_done(&connector, 1, Verb::Restrict, &ada).await;
    more(100);
    until_done(&connector, 2, Verb::Lift, &ada).await;
    more(100);
    until_done(&connector, 3, Verb::Erase, &ada).await;
    left.store(true, Ordering::SeqCst);
    more(100);
    until_done(&connector, 4, Verb::Erase, &ada).await;
    more(100);
    assert_eq!(
        connector
            .observe(&"access".parse().unwrap(), &ada)
            .await
            .unwrap()
            .observed,
        Observed::Absent
    );
    ends.store(true, Ordering::SeqCst);
    let answered: Vec<(usize, bool)> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    let folder = nginx.quit();
    stands_exactly_once(folder.path(), &answered);
}

/// Every answered request of the others has one line, hers have none, and nothing of the rewriting is left over.
fn stands_exactly_once(folder: &Path, answered: &[(usize, bool)]) {
    let log = fs::read_to_string(folder.join("access.log")).unwrap();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for line in log.lines() {
        assert!(
            line.contains("usr_bob0002") && line.ends_with(r#""-" "t \x22q\x22 \x5C""#),
            "{line}"
        );
        *counts.entry(number(line)).or_default() += 1;
    }
    for (n, _) in answered.iter().filter(|(_, ada)| !ada) {
        assert_eq!(counts.get(n), Some(&1), "request {n}");
    }
    assert!(
        answered.iter().filter(|(_, ada)| *ada).count() > 50,
        "she was there"
    );
    assert!(counts.values().all(|times| *times == 1));
    let left_over: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|n| n.to_string_lossy().contains("lethe"))
        .collect();
    assert!(left_over.is_empty(), "{left_over:?}");
}
