//! What a server that starts anew makes of what it finds: systems that are away, commands that come again, a ledger that is gone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::Path;
use std::sync::atomic::Ordering;

use lethe_journeys::office::{ADA, BOB, Office};
use lethe_kit::Connector as _;
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;
use lethe_terms::{Identifier, IdentifierKind};
use serde_json::{Value, json};

fn chat() -> MemoryConnector {
    MemoryConnector::new("chat").unwrap()
}

/// Waits until the case looks like that.
async fn case_until(office: &Office, id: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        let (_, case) = office.json(&format!("case show {id}")).await;
        if fits(&case) {
            return case;
        }
        looks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_that_is_away_stops_no_other_and_is_never_taken_for_empty() {
    let mut office = Office::found(chat());
    office.away.store(true, Ordering::SeqCst);
    office.start().await;
    office.scan("crm").await;
    let (exit, out, _) = office.lethe("system scan chat").await;
    assert_eq!(exit, Exit::No);
    assert!(out.contains("failed (sql-unreachable)"), "{out}");
    let (exit, out, _) = office.lethe("system check chat").await;
    assert_eq!(exit, Exit::No);
    assert!(out.contains("nobody answers"), "{out}");
    let (exit, _, err) = office.lethe(&format!("lineage --identifier email={ADA}")).await;
    assert_eq!(exit, Exit::Unknown, "{err}");

    let open = format!("case open --right erasure --identifier email={ADA}");
    let (_, opened) = office.json(&open).await;
    let id = opened["id"].as_str().unwrap();
    case_until(&office, id, |case| case["state"] == "accepted").await;
    let (exit, _, _) = office.lethe(&format!("case plan {id}")).await;
    assert_ne!(exit, Exit::Yes, "a plan was made without a system");

    office.away.store(false, Ordering::SeqCst);
    let planned = case_until(&office, id, |case| case["state"] == "awaiting_approval").await;
    let digest = planned["plan_digest"].as_str().unwrap();
    let (_, done) = office
        .json(&format!("case approve {id} --plan {digest} --wait"))
        .await;
    assert_eq!(done["state"], "completed", "{done:#}");
    assert!(!office.crm.holds(ADA) && !office.chat.holds(ADA));
    assert!(office.crm.holds(BOB) && office.chat.holds(BOB));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_a_system_that_is_away_when_the_server_starts_again() {
    let mut office = Office::open(chat()).await;
    let (id, digest) = office.planned_erasure().await;
    office.close().await;
    office.away.store(true, Ordering::SeqCst);
    office.start().await;
    office.lethe(&format!("case approve {id} --plan {digest}")).await;
    let verified = |case: &Value, system: &str| {
        let steps = case["steps"].as_array().unwrap();
        steps
            .iter()
            .any(|step| step["system"] == system && step["state"] == "verified")
    };
    let acting = case_until(&office, &id, |case| verified(case, "crm")).await;
    assert_eq!(acting["state"], "acting", "{acting:#}");
    assert!(office.chat.holds(ADA));
    office.away.store(false, Ordering::SeqCst);
    case_until(&office, &id, |case| case["state"] == "completed").await;
    assert!(!office.chat.holds(ADA));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_again_with_another_body_is_refused_after_a_restart_too() {
    let mut office = Office::open(chat()).await;
    let open = async |office: &Office, email: &str| {
        let body = json!({"right": "erasure", "identifiers": [{"kind": "email", "value": email}]});
        let asked = reqwest::Client::new()
            .post(format!("{}/v1/cases", office.url))
            .header("idempotency-key", "monday-1")
            .json(&body)
            .send();
        let answer = asked.await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let (status, first) = open(&office, ADA).await;
    assert_eq!(status, 202);
    office.close().await;
    office.start().await;
    let (status, refused) = open(&office, BOB).await;
    assert_eq!(
        (status, &refused["code"]),
        (422, &"casework-key-reused".into()),
        "{refused:#}"
    );
    let (status, again) = open(&office, ADA).await;
    assert_eq!((status, again), (202, first));
    let (_, cases) = office.json("case list").await;
    assert_eq!(cases["cases"].as_array().unwrap().len(), 1);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_gone_is_not_begun_anew() {
    let mut office = Office::open(chat()).await;
    let (_, case) = office.erase().await;
    assert_eq!(case["state"], "completed");
    office.close().await;
    std::fs::remove_dir_all(office.folder.path().join("lethe/ledger")).unwrap();
    let error = office.refusal().await;
    assert_eq!(error.code(), "ledger-key-unreadable", "{error}");
}

/// Puts the files of one stream of the log from one folder in the place of those in another.
fn put_stream(stream: &str, from: &Path, to: &Path) {
    let files_of = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        let named = files.filter(|file| file.file_name().to_str().unwrap().starts_with(stream));
        named.map(|file| file.path()).collect::<Vec<_>>()
    };
    std::fs::create_dir_all(to).unwrap();
    for file in files_of(to) {
        std::fs::remove_file(file).unwrap();
    }
    for file in files_of(from) {
        std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_signed_leaves_is_not_gone_on_with() {
    let mut office = Office::open(chat()).await;
    let (id, digest) = office.planned_erasure().await;
    office.close().await;
    let root = office.folder.path().to_owned();
    let (log, older, newer) = (root.join("lethe/log"), root.join("older"), root.join("newer"));
    put_stream("leaves.", &log, &older);
    office.start().await;
    let (_, done) = office
        .json(&format!("case approve {id} --plan {digest} --wait"))
        .await;
    assert_eq!(done["state"], "completed", "{done:#}");
    office.close().await;
    let ledger = async || {
        let found = lethe_node::doctor(&root.join("lethe.toml")).await;
        let row = found.into_iter().find(|row| row.what == "ledger").unwrap();
        (row.ok, row.code)
    };
    assert_eq!(ledger().await, (Some(true), None));

    put_stream("leaves.", &log, &newer);
    put_stream("leaves.", &older, &log);
    assert_eq!(ledger().await, (Some(false), Some("ledger-head-behind")));
    for _ in 0..2 {
        let error = office.refusal().await;
        assert_eq!(error.code(), "ledger-head-behind", "{error}");
    }
    put_stream("leaves.", &newer, &log);
    assert_eq!(ledger().await, (Some(true), None));
    office.start().await;
    let (_, other) = office
        .json(&format!(
            "case open --right erasure --identifier email={BOB} --wait"
        ))
        .await;
    assert_eq!(other["state"], "awaiting_approval", "{other:#}");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_was_lost_is_gathered_again_from_the_history() {
    let office = &mut Office::open(chat()).await;
    let (id, digest) = office.planned_erasure().await;
    office.close().await;
    for file in std::fs::read_dir(office.folder.path().join("lethe/evidence")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    office.start().await;
    let (_, done) = office
        .json(&format!("case approve {id} --plan {digest} --wait"))
        .await;
    assert_eq!(done["state"], "completed", "{done:#}");
    let (statement, policy) = office.statement(&id).await;
    let mut said = Vec::new();
    let code = lethe_verify::show(&statement, Some(&policy), false, &mut said);
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&said));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_somebody_elses_between_plan_and_approval_is_not_touched() {
    let mut office = Office::open(chat()).await;
    let (id, digest) = office.planned_erasure().await;
    // The row that was Ada's is Carla's from now on.
    let dataset = office.chat.manifest().datasets[0].name.clone();
    let carla = Identifier::new(IdentifierKind::Email, "carla@example.org");
    office.chat.put(&dataset, "1", vec![carla]);
    office.scan("chat").await;
    office.lethe(&format!("case approve {id} --plan {digest}")).await;
    let again = case_until(&office, &id, |case| {
        case["state"] == "awaiting_approval" && case["plan_digest"] != digest.as_str()
    })
    .await;
    let steps = again["steps"].as_array().unwrap();
    let looks = |step: &serde_json::Value| step["system"] != "chat" || step["verb"] == "observe";
    assert!(steps.iter().all(looks), "{again:#}");
    assert!(office.chat.holds("carla@example.org"));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_after_the_last_look_at_a_feed_is_found_before_the_certificate() {
    let mut office = Office::with_feed_every(chat(), 3_600_000);
    office.start().await;
    office.scan("crm").await;
    office.scan("chat").await;
    let (id, digest) = office.planned_erasure().await;
    let dataset = office.crm.manifest().datasets[0].name.clone();
    let ada = Identifier::new(IdentifierKind::Email, ADA);
    office.crm.put(&dataset, "3", vec![ada]);
    office.lethe(&format!("case approve {id} --plan {digest}")).await;
    // It only adds to what was approved, so nobody is asked again.
    let done = case_until(&office, &id, |case| case["state"] == "completed").await;
    assert_ne!(
        done["plan_digest"],
        digest.as_str(),
        "it was planned again: {done:#}"
    );
    assert!(!office.crm.holds(ADA));
    office.close().await;
}
