//! Systems that lie: what the data protection officer, the dashboard and the verifier of a statement are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::PathBuf;

use lethe_journeys::office::{ADA, BOB, Office};
use lethe_kit::Connector as _;
use lethe_kit::memory::{Fault, MemoryConnector};
use lethe_node::cli::Exit;
use lethe_terms::{Identifier, IdentifierKind, Independence};
use serde_json::Value;

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
    let mut office = Office::open(MemoryConnector::new("chat").unwrap().says_erased_but_does_not()).await;
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
    let mut office = Office::open(liar).await;
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

const CAROL: &str = "carol@example.org";

/// Plans Carol's erasure, approves it, and waits.
async fn erase_carol(office: &Office) -> (Exit, Value) {
    let open = format!("case open --right erasure --identifier email={CAROL} --wait");
    let (_, planned) = office.json(&open).await;
    office.approve(&planned).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_whose_search_overlooks_what_is_there_needs_attention() {
    let short_sighted = MemoryConnector::new("chat")
        .unwrap()
        .with(Fault::FindsByFirstOnly)
        .with(Fault::NeverFollows);
    let mut office = Office::open(short_sighted).await;
    let email = || Identifier::new(IdentifierKind::Email, CAROL);
    let account = Identifier::new(IdentifierKind::UserId, "c-1");
    let of = |connector: &MemoryConnector| connector.manifest().datasets[0].name.clone();
    office.crm.put(&of(&office.crm), "3", vec![email()]);
    // It searches by the first identifier of a record, and here the address stands second.
    office.chat.put(&of(&office.chat), "3", vec![account, email()]);
    let (exit, case) = erase_carol(&office).await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::No, &"needs_attention".into()),
        "{case:#}"
    );
    assert_eq!(
        row(&case["attention"], "chat")["code"],
        "casework-overlooked",
        "{case:#}"
    );
    assert!(!office.crm.holds(CAROL) && office.chat.holds(CAROL));
    let id = case["id"].as_str().unwrap();
    let page = office.page(&format!("/cases/{id}")).await;
    assert!(page.contains("casework-overlooked"), "{page}");
    let (_, text, _) = office.lethe(&format!("case show {id}")).await;
    let told = |line: &str| line.contains("chat") && line.contains("casework-overlooked");
    assert!(text.lines().any(told), "{text}");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_says_of_every_system_that_it_was_looked_at() {
    let mut office = Office::open(MemoryConnector::new("chat").unwrap()).await;
    let dataset = office.crm.manifest().datasets[0].name.clone();
    let carol = Identifier::new(IdentifierKind::Email, CAROL);
    office.crm.put(&dataset, "3", vec![carol]);
    let (exit, case) = erase_carol(&office).await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::Yes, &"completed".into()),
        "{case:#}"
    );
    let (code, report, text) = verified(&office.statement(case["id"].as_str().unwrap()).await);
    assert_eq!(code, 0, "{report:#}");
    let look = row(&report["systems"], "chat");
    assert_eq!(
        (&look["verb"], &look["outcome"]),
        (&"observe".into(), &"verified".into())
    );
    assert!(look["reported"].is_null(), "{look}");
    let told = |line: &str| line.contains("chat") && line.contains("observe");
    assert!(text.lines().any(told), "{text}");
    office.close().await;
}
