//! What is read a second time, and what could not be read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::Path;
use std::time::Duration;

use lethe_journeys::office::{ADA, Office};
use lethe_kit::memory::MemoryConnector;
use lethe_node::cli::Exit;
use serde_json::Value;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

fn web(folder: &Path) -> String {
    format!(
        r#"
[[systems]]
name = "web"
kind = "weblog"
state_dir = "{0}/state"
reopen = ["true"]
path_identifiers = ["/u/{{user_id}}"]
[[systems.logs]]
name = "access"
path = "{0}/access.log"
"#,
        folder.display()
    )
}

/// How many inputs stand in quarantine once it is that many.
async fn quarantined(office: &Office, expected: u64) -> Value {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let looking = async {
        loop {
            let (_, list) = office.json("log quarantine list").await;
            if list["total"] == expected {
                return list;
            }
            looks.tick().await;
        }
    };
    let looked = tokio::time::timeout(Duration::from_secs(20), looking).await;
    looked.unwrap_or_else(|_| panic!("not {expected} inputs stand in quarantine"))
}

async fn carried_out(office: &Office, right: &str) -> String {
    let open = format!("case open --right {right} --identifier email={ADA} --wait");
    let (_, planned) = office.json(&open).await;
    let (exit, done) = office.approve(&planned).await;
    assert_eq!(exit, Exit::Yes, "{done:#}");
    planned["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_fits_no_format_stands_in_quarantine_once_and_leaves_with_its_person() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let (adas, nobodys) = (format!("{ADA} was here, and no server wrote it\n"), "nonsense\n");
    std::fs::write(&log, [adas.as_str(), nobodys].concat()).unwrap();
    let chat = MemoryConnector::new("chat").unwrap();
    let mut office = Office::found(chat).and(&web(folder.path()));
    office.start().await;
    office.scan("web").await;
    let list = quarantined(&office, 2).await;
    let number = |place: &str| {
        let inputs = list["inputs"].as_array().unwrap();
        let fits = |input: &&Value| input["place"].as_str().unwrap().ends_with(place);
        inputs.iter().find(fits).unwrap()["position"].clone()
    };
    let (first, other) = (number("byte 0"), number(&format!("byte {}", adas.len())));
    let (exit, shown, _) = office.lethe(&format!("log quarantine show {first}")).await;
    assert!(exit == Exit::Yes && shown.contains(ADA), "{shown}");

    let restriction = carried_out(&office, "restriction").await;
    let (_, shown) = office.json(&format!("case show {restriction}")).await;
    let notified = shown["received_at"].as_str().unwrap();
    let (exit, _, err) = office
        .lethe(&format!(
            "case lift {restriction} --notified-at {notified} --wait"
        ))
        .await;
    assert_eq!(exit, Exit::Yes, "{err}");
    office.scan("web").await;
    quarantined(&office, 2).await;

    carried_out(&office, "erasure").await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), nobodys);
    quarantined(&office, 1).await;
    let (exit, shown, _) = office.lethe(&format!("log quarantine show {first}")).await;
    assert!(exit == Exit::No && !shown.contains(ADA), "{shown}");
    let (exit, shown, _) = office.lethe(&format!("log quarantine show {other}")).await;
    assert!(exit == Exit::Yes && shown.contains("nonsense"), "{shown}");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_of_every_input_that_was_listed_before_that_it_may_hide_something() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    std::fs::write(&log, "").unwrap();
    let chat = MemoryConnector::new("chat").unwrap();
    let mut office = Office::found(chat).and(&web(folder.path()));
    office.start().await;
    let mut lines = String::new();
    for inputs in 1..=5 {
        lines.push_str(&format!("nonsense {inputs}\n"));
        std::fs::write(&log, &lines).unwrap();
        office.scan("web").await;
        quarantined(&office, inputs).await;
        let open = format!("case open --right restriction --identifier email={ADA} --wait");
        let (_, planned) = office.json(&open).await;
        let remarks = planned["remarks"].as_array().unwrap();
        let detail = Value::from(inputs.to_string());
        let counts = |remark: &Value| remark["detail"][0] == detail;
        assert!(remarks.iter().any(counts), "{inputs}: {remarks:#?}");
    }
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_sees_what_no_feed_tells_and_changes_nothing_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let mut shop = SqliteConnection::connect_with(&options).await.unwrap();
    let people = "create table people (id integer primary key autoincrement, email text);
        insert into people (email) values ('ada@example.org'), ('zoe@example.org');";
    sqlx::raw_sql(people).execute(&mut shop).await.unwrap();
    let system = format!(
        r#"
[[systems]]
name = "shop"
kind = "sql"
url = "sqlite:{}"
[[systems.units]]
name = "people"
table = "people"
identifiers = {{ email = "email" }}
categories = ["name"]
purpose = "service_provision"
basis = "6-1-b"
erase = "row"
"#,
        file.display()
    );
    let mut office = Office::found(MemoryConnector::new("chat").unwrap()).and(&system);
    office.start().await;
    office.scan("shop").await;
    let records = async || {
        let (_, scanned) = office.json("system scan shop").await;
        scanned["scans"][0]["records"].as_u64().unwrap()
    };
    let before = records().await;
    assert_eq!(before, 2);
    assert_eq!(records().await, before, "nothing is new");
    sqlx::raw_sql("update people set email = 'eve@example.org' where email = 'zoe@example.org'")
        .execute(&mut shop)
        .await
        .unwrap();
    assert_eq!(records().await, before + 1, "the change has no time");
    let (exit, _) = office.json("lineage --identifier email=eve@example.org").await;
    assert_eq!(exit, Exit::Yes);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_leaves_with_whoever_is_in_it_however_many_that_are_and_wherever_they_are_named() {
    let crowd: Vec<String> = (0..300).map(|n| format!("p{n:04}@crowd.example")).collect();
    let lines = [
        format!("no server wrote of {ADA} and {}\n", crowd.join(",")),
        "BROKEN GET /u/ada12345 HTTP\n".to_owned(),
    ];
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    std::fs::write(&log, lines.concat()).unwrap();
    let chat = MemoryConnector::new("chat").unwrap();
    let mut office = Office::found(chat).and(&web(folder.path()));
    office.start().await;
    office.scan("web").await;
    quarantined(&office, 2).await;
    let open =
        format!("case open --right erasure --identifier email={ADA} --identifier user_id=ada12345 --wait");
    let (_, planned) = office.json(&open).await;
    let (_, done) = office.approve(&planned).await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "", "{done:#}");
    quarantined(&office, 0).await;
    office.close().await;
}
