//! What a data protection officer asks of the office after the case: every proof that was issued, and whom it is about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::Path;

use lethe_journeys::office::{ADA, BOB, Office};
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;
use serde_json::Value;

async fn office() -> Office {
    Office::open(MemoryConnector::new("chat").unwrap()).await
}

/// Restricts Ada, and lifts it again.
async fn restricted_and_lifted(office: &Office) -> Value {
    let (_, done) = approved(office, "restriction").await;
    assert_eq!(done["state"], "completed", "{done:#}");
    let id = done["id"].as_str().unwrap();
    let told_at = done["received_at"].as_str().unwrap();
    let (_, lifted) = office
        .json(&format!("case lift {id} --notified-at {told_at} --wait"))
        .await;
    assert_eq!(lifted["flags"], serde_json::json!([]), "{lifted:#}");
    lifted
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_under_a_restriction_says_whose_lift_it_waits_for() {
    let office = office().await;
    let restriction = approved(&office, "restriction").await;
    let erasure = approved(&office, "erasure").await;
    assert_eq!(
        (erasure.0, &erasure.1["state"]),
        (Exit::Unknown, &"acting".into())
    );
    let (id, steps) = (&restriction.1["id"], erasure.1["steps"].as_array().unwrap());
    assert!(steps.iter().any(|step| step["held_by"] == *id), "{erasure:#?}");
}

/// A case about Ada, approved and waited for.
async fn approved(office: &Office, right: &str) -> (Exit, Value) {
    let open = format!("case open --right {right} --identifier email={ADA} --wait");
    let (_, planned) = office.json(&open).await;
    office.approve(&planned).await
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

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_certificate_is_about_shows_with_its_opening_and_with_nothing_less() {
    let mut office = office().await;
    let (_, erasure) = office.erase().await;
    let id = erasure["id"].as_str().unwrap();
    office.close().await;
    office.start().await;
    let (certificate, policy) = office.statement(id).await;
    let opening = office.folder.path().join("opening");
    let fetch = format!("case opening {id} --out {}", opening.display());
    let (exit, _, err) = office.lethe(&fetch).await;
    assert_eq!(exit, Exit::Yes, "{err}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&opening).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "others may read the opening");

    let about = |identifier: &str| {
        let ask = lethe_verify::Ask {
            file: certificate.clone(),
            policy: Some(policy.clone()),
            subject: Some(lethe_verify::Subject {
                identifier: identifier.to_owned(),
                opening: opening.clone(),
            }),
            json: false,
        };
        let (mut out, mut talk) = (Vec::new(), Vec::new());
        let code = lethe_verify::answer(&ask, &mut out, &mut talk);
        (code, String::from_utf8([out, talk].concat()).unwrap())
    };
    let (code, said) = about("email=Ada@Example.ORG");
    assert!(code == 0 && said.contains("subject"), "{said}");
    let (code, said) = about(&format!("email={BOB}"));
    assert!(code == 3 && said.contains("somebody else"), "{said}");

    let text = std::fs::read_to_string(&opening).unwrap();
    let random: Value = serde_json::from_str(&text).unwrap();
    let random = random["random"].as_str().unwrap();
    let kept = std::fs::read_dir(office.folder.path().join("lethe/evidence")).unwrap();
    for file in kept {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(random), "the opening is kept in the clear");
    }
    let page = office.page(&format!("/cases/{id}")).await;
    assert!(page.contains(&format!("/cases/{id}/opening")), "{page}");
    assert_eq!(office.page(&format!("/cases/{id}/opening")).await, text);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_evidence_that_is_not_what_it_was_and_keys_that_are_others() {
    let mut office = office().await;
    office.erase().await;
    office.close().await;
    let root = office.folder.path().to_owned();
    let evidence = async || {
        let found = lethe_node::doctor(&root.join("lethe.toml")).await;
        let row = found.into_iter().find(|row| row.what == "evidence").unwrap();
        (row.ok, row.code)
    };
    assert_eq!(evidence().await, (Some(true), None));
    let folder = root.join("lethe/evidence");
    let of = |folder: &Path, name: &str| {
        let mut files = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        files.find(|file| file.to_str().unwrap().contains(name)).unwrap()
    };
    for kind in ["@certificate-", "@sha256-"] {
        let file = of(&folder, kind);
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        std::fs::write(&file, &flipped).unwrap();
        assert_eq!(
            evidence().await,
            (Some(false), Some("node-damaged-evidence")),
            "{kind}"
        );
        std::fs::write(&file, &whole).unwrap();
    }
    let keys = root.join("lethe/ledger/keys");
    std::fs::copy(of(&keys, "observes.chat"), of(&keys, "observes.crm")).unwrap();
    assert_eq!(evidence().await.0, Some(false));
}
