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
use serde_json::Value;

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

const ZOE: &str = "zoe@example.org";

/// A company whose log has one line of four hundred people, Ada among the first of them and Zoe among the last; the line as well.
async fn one_line_of_a_crowd(logs: &Path) -> (Office, String) {
    let mut addresses: Vec<String> = (0..398).map(|n| format!("p{n:03}@crowd.example")).collect();
    addresses.extend([ADA, ZOE].map(str::to_owned));
    let crowd = line(&addresses);
    std::fs::write(logs.join("access.log"), &crowd).unwrap();
    let chat = MemoryConnector::new("chat").unwrap();
    let mut office = Office::found(chat).and(&web(logs));
    office.start().await;
    for system in ["crm", "chat", "web"] {
        office.scan(system).await;
    }
    (office, crowd)
}

/// Opens a case and approves its plan.
async fn begin(office: &Office, right: &str, email: &str) -> String {
    let open = format!("case open --right {right} --identifier email={email} --wait");
    let (_, planned) = office.json(&open).await;
    approve(office, &planned).await;
    planned["id"].as_str().unwrap().to_owned()
}

async fn approve(office: &Office, planned: &Value) {
    let word = |name: &str| planned[name].as_str().unwrap();
    let (id, digest) = (word("id"), word("plan_digest"));
    let (exit, _, err) = office.lethe(&format!("case approve {id} --plan {digest}")).await;
    assert_eq!(exit, Exit::Yes, "{err}");
}

/// The case once it is as it should be; without that the test does not end.
async fn once(office: &Office, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        let (_, case) = office.json(&format!("case show {id}")).await;
        assert_ne!(case["state"], "needs_attention", "{case:#}");
        if is_so(&case) {
            return case;
        }
        looks.tick().await;
    }
}

async fn completed(office: &Office, id: &str) {
    once(office, id, |case| case["state"] == "completed").await;
}

async fn lift(office: &Office, id: &str) {
    let (exit, _, err) = office
        .lethe(&format!("case lift {id} --notified-at 2026-11-01T00:00:00Z"))
        .await;
    assert_eq!(exit, Exit::Yes, "{err}");
}

fn is_in_state(case: &Value, system: &str, state: &str) -> bool {
    let steps = case["steps"].as_array().unwrap();
    steps
        .iter()
        .any(|step| step["system"] == system && step["state"] == state)
}

fn is_lifted(case: &Value) -> bool {
    let statements = case["certificates"].as_array().unwrap();
    statements.iter().any(|one| one["verb"] == "lift")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_crowd_stays_for_one_of_them_whose_data_is_restricted() {
    let logs = tempfile::tempdir().unwrap();
    let (mut office, _) = one_line_of_a_crowd(logs.path()).await;
    let restriction = begin(&office, "restriction", ADA).await;
    completed(&office, &restriction).await;
    let erasure = begin(&office, "erasure", ZOE).await;
    once(&office, &erasure, |case| is_in_state(case, "web", "blocked")).await;
    lift(&office, &restriction).await;
    once(&office, &restriction, is_lifted).await;
    // The lift came later than the plan, so the same is planned once more, as approved.
    completed(&office, &erasure).await;
    assert_eq!(
        std::fs::read_to_string(logs.path().join("access.log")).unwrap(),
        ""
    );
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_crowd_is_put_back_once_the_last_of_their_restrictions_is_lifted() {
    let logs = tempfile::tempdir().unwrap();
    let (mut office, crowd) = one_line_of_a_crowd(logs.path()).await;
    let log = || std::fs::read_to_string(logs.path().join("access.log")).unwrap();
    let (of_ada, of_zoe) = (
        begin(&office, "restriction", ADA).await,
        begin(&office, "restriction", ZOE).await,
    );
    for restriction in [&of_ada, &of_zoe] {
        completed(&office, restriction).await;
    }
    assert_eq!(log(), "");
    lift(&office, &of_ada).await;
    once(&office, &of_ada, |case| is_in_state(case, "web", "blocked")).await;
    assert_eq!(log(), "");
    lift(&office, &of_zoe).await;
    for restriction in [&of_ada, &of_zoe] {
        once(&office, restriction, is_lifted).await;
    }
    assert!(log() == crowd);
    office.close().await;
}
