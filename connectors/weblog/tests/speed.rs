//! How long each call of one erasure takes on a log of 100,000 lines. Prints figures and asserts none: `cargo test -p lethe-weblog --test speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use lethe_kit::{Ask, Connector, Page, Performed, Selected, Selector};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Observed, Verb};
use lethe_weblog::WeblogConnector;

const LINES: usize = 100_000;
/// One line in so many is the person's.
const EVERY: usize = 1_000;

fn log() -> String {
    let mut log = String::new();
    for n in 0..LINES {
        let user = if n % EVERY == 0 {
            "usr_ada0001".to_owned()
        } else {
            format!("usr_{:07}", n % 2000)
        };
        let (day, ip) = (1 + n / (LINES / 20), format!("10.0.{}.{}", n % 250, n % 199));
        writeln!(log, "{ip} - {user} [{day:02}/Nov/2026:11:40:00 +0000] \"GET /app/items?page={n}&email=p{n}%40example.org HTTP/1.1\" 200 5120 \"https://h.example/\" \"Mozilla/5.0 (X11; Linux x86_64)\"").unwrap();
    }
    log
}

async fn follow(connector: &WeblogConnector, cursor: &mut Option<String>) {
    loop {
        let page = connector
            .feed(&"access".parse().unwrap(), cursor.as_deref(), 1_000)
            .await
            .unwrap();
        *cursor = Some(page.cursor);
        if !page.more {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures and asserts none"]
async fn each_call_of_one_erasure_on_a_hundred_thousand_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    fs::write(&path, log()).unwrap();
    let text = serde_json::json!({ "logs": [{ "name": "access", "path": path }], "state_dir": folder.path().join("state") });
    let connector =
        lethe_weblog::open("web".parse().unwrap(), serde_json::from_value(text).unwrap()).unwrap();
    let mut cursor = None;
    let mut selector = Selector {
        records: Vec::new(),
        identifiers: vec![
            Identifier::new(IdentifierKind::UserId, "usr_ada0001"),
            Identifier::new(IdentifierKind::Email, "ada@example.org"),
            Identifier::new(IdentifierKind::Phone, "+4917012345678"),
        ],
    };
    let began = Instant::now();
    follow(&connector, &mut cursor).await;
    let mut figures = format!("{LINES} lines: first reading {:?}", began.elapsed());
    let began = Instant::now();
    let found = connector
        .locate(&selector, Page(None))
        .await
        .unwrap()
        .observations;
    write!(figures, ", locate {:?}", began.elapsed()).unwrap();
    selector.records = found.into_iter().map(|o| Selected { handle: o.handle }).collect();
    let ask = Ask {
        id: InstructionId::from_bytes([1; 16]),
        generation: (1, 0),
        dataset: "access".parse().unwrap(),
        verb: Verb::Erase,
        selector,
    };
    let began = Instant::now();
    let performed = connector.perform(&ask).await.unwrap();
    write!(figures, ", erase {:?}", began.elapsed()).unwrap();
    assert!(matches!(performed, Performed::Done(r) if r.records == (LINES / EVERY) as u64));
    let began = Instant::now();
    follow(&connector, &mut cursor).await;
    write!(figures, ", next page {:?}", began.elapsed()).unwrap();
    let began = Instant::now();
    let seen = connector.observe(&ask.dataset, &ask.selector).await.unwrap();
    write!(figures, ", observe {:?}", began.elapsed()).unwrap();
    assert_eq!(seen.observed, Observed::Absent);
    eprintln!("{figures}");
}
