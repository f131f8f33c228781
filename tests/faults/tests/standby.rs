//! The ledger's writer is killed in the middle of a case, and the one that stands by goes on where it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, free_port, kafka, program};

/// How long a case may take although the ledger changes hands in it.
const CASE_TIME_MAX: Duration = Duration::from_secs(120);

/// Has a person restricted and the restriction lifted.
async fn restrict_and_lift(api: &Api, email: &str, key: &str) -> Course {
    let mut course = Course::new("restriction", email, key.to_owned());
    let whole = async {
        while !course.done {
            let _ = course.go_on(api).await;
        }
    };
    tokio::time::timeout(CASE_TIME_MAX, whole)
        .await
        .expect("the case ends");
    course
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stands_by_takes_over_and_every_certificate_is_in_one_log() {
    let Some(kafka) = kafka("standby") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), 41, PEOPLE, LINES).await;
    let port = free_port();
    let home = Home {
        program: program(),
        config: company.configure(port, &format!("feed_every_ms = 200\n{kafka}")),
        output: folder.path().join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    std::fs::create_dir(folder.path().join("lethe")).unwrap();
    let api = Api::new(&home.url);
    let mut others = vec![
        home.start_as("connectors", &["connectors", "lineage"]),
        home.start_as("core", &["conductor", "gateway"]),
    ];
    let mut first = home.start_as("ledger-1", &["ledger"]);
    for server in others.iter_mut().chain([&mut first]) {
        assert!(server.listens().await, "{}", home.last_words());
    }
    let mut second = home.start_as("ledger-2", &["ledger"]);
    assert!(
        second.listens().await,
        "a second ledger stands by: {}",
        home.last_words()
    );
    for system in ["shop", "website"] {
        api.scan(system).await.unwrap();
    }
    let email = company.world.colleague().email;
    let mut courses = vec![restrict_and_lift(&api, &email, "before").await];
    let during = {
        let (url, email) = (home.url.clone(), email.clone());
        tokio::spawn(async move { restrict_and_lift(&Api::new(&url), &email, "during").await })
    };
    let began = Instant::now();
    first.kill();
    courses.push(during.await.unwrap());
    println!("a case whose ledger was killed took {:?}", began.elapsed());
    courses.push(restrict_and_lift(&api, &email, "after").await);

    let policy = folder.path().join("policy");
    std::fs::write(&policy, api.get("/v1/policy").await.unwrap()).unwrap();
    for course in &courses {
        let id = course.id.as_deref().unwrap();
        let certificate = folder.path().join(id);
        let bytes = api.get(&format!("/v1/cases/{id}/certificate")).await.unwrap();
        std::fs::write(&certificate, bytes).unwrap();
        let mut page = Vec::new();
        let code = lethe_verify::show(&certificate, Some(&policy), false, &mut page);
        assert_eq!(code, 0, "{}", String::from_utf8_lossy(&page));
    }
    for server in others.into_iter().chain([second]) {
        assert!(server.stop().success(), "{}", home.last_words());
    }
}
