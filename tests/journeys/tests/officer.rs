//! What a data protection officer asks of the office after the case: every proof that was issued, and whom it is about.
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

async fn office() -> Office {
    Office::open(MemoryConnector::new("chat").unwrap()).await
}

/// Restricts Ada, and lifts it again.
async fn restricted_and_lifted(office: &Office) -> Value {
    let open = format!("case open --right restriction --identifier email={ADA} --wait");
    let (_, planned) = office.json(&open).await;
    let (id, digest) = (
        planned["id"].as_str().unwrap(),
        planned["plan_digest"].as_str().unwrap(),
    );
    let (_, done) = office
        .json(&format!("case approve {id} --plan {digest} --wait"))
        .await;
    assert_eq!(done["state"], "completed", "{done:#}");
    let told_at = done["received_at"].as_str().unwrap();
    let (_, lifted) = office
        .json(&format!("case lift {id} --notified-at {told_at} --wait"))
        .await;
    assert_eq!(lifted["flags"], serde_json::json!([]), "{lifted:#}");
    lifted
}

fn verified(certificate: &Path, policy: &Path) -> (u8, Value) {
    let mut said = Vec::new();
    let code = lethe_verify::show(certificate, Some(policy), true, &mut said);
    (code, serde_json::from_slice(&said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_restriction_is_there_after_its_lift() {
    let mut office = office().await;
    let case = restricted_and_lifted(&office).await;
    let id = case["id"].as_str().unwrap();
    let issued = case["certificates"].as_array().unwrap();
    let verbs: Vec<_> = issued.iter().map(|one| &one["verb"]).collect();
    assert_eq!(verbs, ["restrict", "lift"], "{case:#}");
    assert_eq!(case["certificate"], issued[1]["certificate"], "the newest");

    office.close().await;
    office.start().await;
    let (newest, policy) = office.statement(id).await;
    assert_eq!(verified(&newest, &policy).1["systems"][0]["verb"], "lift");
    let restriction = office.folder.path().join("restriction");
    let name = issued[0]["certificate"].as_str().unwrap();
    let fetch = format!(
        "case certificate {id} --certificate {name} --out {}",
        restriction.display()
    );
    let (exit, _, err) = office.lethe(&fetch).await;
    assert_eq!(exit, Exit::Yes, "{err}");
    let (code, report) = verified(&restriction, &policy);
    assert_eq!(
        (code, &report["systems"][0]["verb"]),
        (0, &"restrict".into()),
        "{report:#}"
    );

    let page = office.page(&format!("/cases/{id}")).await;
    assert!(
        page.contains(&format!("/cases/{id}/certificates/{name}"))
            && page.contains("certificate of the restriction"),
        "{page}"
    );
    let (_, shown, _) = office.lethe(&format!("case show {id}")).await;
    assert!(shown.contains(name), "{shown}");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_handed_out_under_its_own_case_only() {
    let mut office = office().await;
    let restriction = restricted_and_lifted(&office).await;
    let (_, erasure) = office.erase().await;
    let (id, other) = (
        erasure["id"].as_str().unwrap(),
        restriction["certificate"].as_str().unwrap(),
    );
    let (exit, _, err) = office
        .lethe(&format!("case certificate {id} --certificate {other}"))
        .await;
    assert!(exit == Exit::No && err.contains("no such certificate"), "{err}");
    let (exit, _, err) = office
        .lethe(&format!("case certificate {id} --certificate ../{other}"))
        .await;
    assert!(exit == Exit::Usage, "{err}");
    office.close().await;
}
