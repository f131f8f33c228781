//! A line of a log that names thousands of people: anybody can send one, and it hides nobody.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::Path;

use lethe_journeys::office::{ADA, Office};
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;

fn web(folder: &Path) -> String {
    format!(
        r#"
[[systems]]
name = "web"
kind = "weblog"
state_dir = "{0}/state"
reopen = ["true"]
[[systems.logs]]
name = "access"
path = "{0}/access.log"
"#,
        folder.display()
    )
}

fn line(addresses: &[String]) -> String {
    format!(
        "203.0.113.9 - - [24/Nov/2026:11:40:00 +0000] \"GET /share?to={} HTTP/1.1\" 200 5 \"-\" \"curl\"\n",
        addresses.join(",")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_with_two_thousand_addresses_is_erased_for_the_one_of_them_who_asks() {
    // Ada sorts before all the others, or behind them.
    for name in ["p", "0"] {
        let logs = tempfile::tempdir().unwrap();
        let log = logs.path().join("access.log");
        let mut addresses: Vec<String> = (0..1_999)
            .map(|n| format!("{name}{n:04}@crowd.example"))
            .collect();
        let others = line(&addresses);
        addresses.insert(1_000, ADA.to_owned());
        std::fs::write(&log, [others.as_str(), &line(&addresses)].concat()).unwrap();
        let chat = MemoryConnector::new("chat").unwrap();
        let mut office = Office::found(chat).and(&web(logs.path()));
        office.start().await;
        for system in ["crm", "chat", "web"] {
            office.scan(system).await;
        }
        let (exit, case) = office.erase().await;
        assert_eq!(
            (exit, &case["state"]),
            (Exit::Yes, &"completed".into()),
            "{case:#}"
        );
        assert!(std::fs::read_to_string(&log).unwrap() == others);
        assert_eq!(case["remarks"], serde_json::json!([]), "{case:#}");
        let (certificate, policy) = office.statement(case["id"].as_str().unwrap()).await;
        let mut said = Vec::new();
        let code = lethe_verify::show(&certificate, Some(&policy), true, &mut said);
        let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
        assert_eq!((code, &said["status"]), (0, &"complete".into()), "{said:#}");
        let systems = said["systems"].as_array().unwrap();
        assert!(systems.iter().any(|system| system["system"] == "web"), "{said:#}");
        office.close().await;
    }
}
