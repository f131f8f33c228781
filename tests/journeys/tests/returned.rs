//! What comes back of a person who was erased.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use lethe_journeys::office::{ADA, BOB, Office};
use lethe_kit::Connector as _;
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;
use lethe_terms::{Identifier, IdentifierKind};
use serde_json::Value;

/// More than one record of the person, on one page of the feed.
const RECORDS: usize = 12;

async fn follow_up(office: &Office) -> Value {
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        let (_, list) = office.json("case list --state awaiting_approval").await;
        if let Some(case) = list["cases"].as_array().unwrap().first() {
            return case.clone();
        }
        looks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_of_one_person_that_come_back_at_once_open_one_case_that_erases_all_of_them() {
    let mut office = Office::open(MemoryConnector::new("chat").unwrap()).await;
    let (_, done) = office.erase().await;
    assert_eq!(done["state"], "completed", "{done:#}");
    let dataset = office.crm.manifest().datasets[0].name.clone();
    for number in 0..RECORDS {
        let email = Identifier::new(IdentifierKind::Email, ADA);
        office.crm.put(&dataset, &format!("again {number}"), vec![email]);
    }
    office.scan("crm").await;
    let opened = follow_up(&office).await;
    let (_, done) = office.approve(&opened).await;
    assert_eq!(done["state"], "completed", "{done:#}");
    assert!(done["resurrection"].is_object(), "{done:#}");
    assert!(!office.crm.holds(ADA) && office.crm.holds(BOB));
    let (_, all) = office.json("case list").await;
    assert_eq!(all["cases"].as_array().unwrap().len(), 2, "{all:#}");
    office.close().await;
}

/// Longer than the test takes: what the feed would tell of an erased person, a search tells first.
const NO_FEED_MS: u32 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_who_is_found_by_a_search_for_somebody_else_is_followed_up() {
    let mut office = Office::with_feed_every(MemoryConnector::new("chat").unwrap(), NO_FEED_MS);
    office.start().await;
    let (_, done) = office.erase().await;
    assert_eq!(done["state"], "completed", "{done:#}");
    let zoe = "zoe@example.org";
    let both = [ADA, zoe].map(|address| Identifier::new(IdentifierKind::Email, address));
    let dataset = office.crm.manifest().datasets[0].name.clone();
    office.crm.put(&dataset, "both", both.to_vec());
    let open = format!("case open --right restriction --identifier email={zoe} --wait");
    let (_, planned) = office.json(&open).await;
    assert_eq!(planned["state"], "awaiting_approval", "{planned:#}");
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        let (_, all) = office.json("case list").await;
        let all = all["cases"].as_array().unwrap();
        if all.iter().any(|case| case["resurrection"].is_object()) {
            break;
        }
        looks.tick().await;
    }
    office.close().await;
}

/// More addresses than are kept of one record, and behind them all this one.
fn crowd_with(last: &str) -> Vec<Identifier> {
    let others = (0..300).map(|number| format!("a{number:03}@crowd.example"));
    others
        .chain([last.to_owned()])
        .map(|address| Identifier::new(IdentifierKind::Email, address))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_who_comes_back_in_a_crowd_is_caught() {
    let mut office = Office::open(MemoryConnector::new("chat").unwrap()).await;
    let (_, done) = office.erase().await;
    assert_eq!(done["state"], "completed", "{done:#}");
    let dataset = office.crm.manifest().datasets[0].name.clone();
    office.crm.put(&dataset, "crowd", crowd_with(ADA));
    office.scan("crm").await;
    let opened = follow_up(&office).await;
    assert!(opened["resurrection"].is_object(), "{opened:#}");
    let (_, done) = office.approve(&opened).await;
    assert_eq!(done["state"], "completed", "{done:#}");
    assert!(!office.crm.holds(ADA) && office.crm.holds(BOB));
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_whom_a_crowd_may_hide_it_cannot_be_told_that_nothing_is_there() {
    let mut office = Office::open(MemoryConnector::new("chat").unwrap()).await;
    let carol = "carol@example.org";
    let look = || office.lethe("lineage --identifier email=carol@example.org");
    assert_eq!(look().await.0, Exit::No);
    let dataset = office.crm.manifest().datasets[0].name.clone();
    office.crm.put(&dataset, "crowd", crowd_with(carol));
    office.scan("crm").await;
    let (exit, _, err) = look().await;
    assert_eq!(exit, Exit::Unknown, "{err}");
    assert!(err.contains("1 input in quarantine may hide"), "{err}");
    office.close().await;
}
