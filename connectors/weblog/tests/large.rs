//! A log of 100,000 lines in bounded memory. The only test of its file: the figure is that of the whole process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::time::Instant;

use lethe_kit::{Ask, Connector, Page, Performed, Selector};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Observed, Verb};

const LINES: usize = 100_000;
const MEMORY_KIB_MAX: u64 = 300 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_lines_are_read_found_and_erased_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut log = std::io::BufWriter::new(fs::File::create(&path).unwrap());
    for n in 0..LINES {
        let user = if n % 1000 == 0 {
            "usr_ada0001".to_owned()
        } else {
            format!("usr_{:07}", n % 2000)
        };
        let (day, ip) = (1 + n / (LINES / 20), format!("10.0.{}.{}", n % 250, n % 199));
        writeln!(log, "{ip} - {user} [{day:02}/Nov/2026:11:40:00 +0000] \"GET /app/items?page={n}&email=p{n}%40example.org HTTP/1.1\" 200 5120 \"https://h.example/\" \"Mozilla/5.0 (X11; Linux x86_64)\"").unwrap();
    }
    log.flush().unwrap();
    drop(log);
    let text = serde_json::json!({ "logs": [{ "name": "access", "path": path }], "state_dir": folder.path().join("state") });
    let connector =
        lethe_weblog::open("web".parse().unwrap(), serde_json::from_value(text).unwrap()).unwrap();
    let began = Instant::now();
    let (mut cursor, mut records, mut more) = (None, 0, true);
    while more {
        let page = connector
            .feed(&"access".parse().unwrap(), cursor.as_deref(), 1000)
            .await
            .unwrap();
        records += page.observations.len();
        more = page.more;
        cursor = Some(page.cursor);
    }
    let read = began.elapsed();
    assert_eq!(records, LINES, "each line is a record of its own here");
    let ada = Selector {
        records: Vec::new(),
        identifiers: vec![Identifier::new(IdentifierKind::UserId, "usr_ada0001")],
    };
    assert_eq!(
        connector
            .locate(&ada, Page(None))
            .await
            .unwrap()
            .observations
            .len(),
        LINES / 1000
    );
    let ask = Ask {
        id: InstructionId::from_bytes([1; 16]),
        generation: (1, 0),
        dataset: "access".parse().unwrap(),
        verb: Verb::Erase,
        selector: ada.clone(),
    };
    assert!(
        matches!(connector.perform(&ask).await.unwrap(), Performed::Done(r) if r.records == (LINES / 1000) as u64)
    );
    assert_eq!(
        connector.observe(&ask.dataset, &ada).await.unwrap().observed,
        Observed::Absent
    );
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    eprintln!(
        "{LINES} lines read in {read:?}, all in {:?}, peak {peak} KiB",
        began.elapsed()
    );
    assert!(peak < MEMORY_KIB_MAX, "{peak} KiB");
}
