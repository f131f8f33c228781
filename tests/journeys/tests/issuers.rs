//! A shop and a forum that count their people each for itself: number 1 of one is not number 1 of the other.
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
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};

async fn database(folder: &Path, name: &str) -> SqliteConnection {
    let file = folder.join(format!("{name}.db"));
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn fill(folder: &Path) {
    let shop = "create table accounts (id integer primary key autoincrement, email text); insert into accounts values (1, 'ada@example.org');";
    let forum = "create table members (id integer primary key autoincrement, email text); insert into members values (1, 'zoe@example.org');
        create table posts (id integer primary key autoincrement, member integer); insert into posts values (9, 1);";
    sqlx::raw_sql(shop)
        .execute(&mut database(folder, "shop").await)
        .await
        .unwrap();
    sqlx::raw_sql(forum)
        .execute(&mut database(folder, "forum").await)
        .await
        .unwrap();
    let lines = [line("1", "/cart"), line("-", "/forum/1/posts")];
    std::fs::write(folder.join("access.log"), lines.concat()).unwrap();
}

fn line(user: &str, target: &str) -> String {
    format!(
        "203.0.113.9 - {user} [24/Nov/2026:11:40:00 +0000] \"GET {target} HTTP/1.1\" 200 5 \"-\" \"curl\"\n"
    )
}

/// The shop's ids are the company's own; the forum's are of this kind.
fn systems(folder: &Path, forum_id: &str) -> String {
    let unit = |table: &str, identifiers: &str| {
        format!(
            "[[systems.units]]\nname = \"{table}\"\ntable = \"{table}\"\nidentifiers = {{ {identifiers} }}\ncategories = [\"name\"]\n\
             purpose = \"service_provision\"\nbasis = \"6-1-b\"\nerase = \"row\"\n"
        )
    };
    let system = |name: &str| {
        let file = folder.join(format!("{name}.db"));
        format!(
            "\n[[systems]]\nname = \"{name}\"\nkind = \"sql\"\nurl = \"sqlite:{}\"\n",
            file.display()
        )
    };
    [
        system("shop"),
        unit("accounts", "id = \"user_id\", email = \"email\""),
        system("forum"),
        unit("members", &format!("id = \"{forum_id}\", email = \"email\"")),
        unit("posts", &format!("member = \"{forum_id}\"")),
        format!(
            "\n[[systems]]\nname = \"web\"\nkind = \"weblog\"\nstate_dir = \"{0}/state\"\nreopen = [\"true\"]\n\
             path_identifiers = [\"/forum/{{{forum_id}}}\"]\n[[systems.logs]]\nname = \"access\"\npath = \"{0}/access.log\"\n",
            folder.display()
        ),
    ]
    .concat()
}

async fn company(folder: &Path, forum_id: &str) -> Office {
    fill(folder).await;
    let chat = MemoryConnector::new("chat").unwrap();
    let mut office = Office::found(chat).and(&systems(folder, forum_id));
    office.start().await;
    for system in ["crm", "chat", "shop", "forum", "web"] {
        office.scan(system).await;
    }
    office
}

async fn rows(folder: &Path, name: &str, table: &'static str) -> i64 {
    let count = sqlx::query(table)
        .fetch_one(&mut database(folder, name).await)
        .await
        .unwrap();
    count.get(0)
}

/// Accounts of the shop, members and posts of the forum.
async fn left(folder: &Path) -> [i64; 3] {
    [
        rows(folder, "shop", "select count(*) from accounts").await,
        rows(folder, "forum", "select count(*) from members").await,
        rows(folder, "forum", "select count(*) from posts").await,
    ]
}

/// Where the person's records are, as the lineage tells.
async fn places(office: &Office, identifier: &str) -> Vec<String> {
    let (_, lineage) = office.json(&format!("lineage --identifier {identifier}")).await;
    let record = |record: &Value| {
        format!(
            "{}/{}",
            record["system"].as_str().unwrap(),
            record["dataset"].as_str().unwrap()
        )
    };
    let mut places: Vec<String> = lineage["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(record)
        .collect();
    places.sort();
    places
}

async fn approved(office: &Office, planned: &Value) -> Value {
    let (exit, case) = office.approve(planned).await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::Yes, &"completed".into()),
        "{case:#}"
    );
    case
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_erased_in_the_shop_leaves_the_forums_member_of_the_same_number_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = company(folder.path(), "user_id@forum").await;
    let log = || std::fs::read_to_string(folder.path().join("access.log")).unwrap();
    let ada = ["chat/contacts", "crm/contacts", "shop/accounts", "web/access"];
    assert_eq!(places(&office, &format!("email={ADA}")).await, ada);
    assert_eq!(places(&office, "user_id=1").await, ada);
    let zoe = ["forum/members", "forum/posts", "web/access"];
    assert_eq!(places(&office, "user_id@forum=1").await, zoe);
    let (exit, _, err) = office.lethe("lineage --identifier user_id@chat=1").await;
    assert!(
        exit == Exit::Usage && err.contains("no system has ids of the kind user_id@chat"),
        "{exit:?} {err}"
    );

    let (exit, case) = office.erase().await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::Yes, &"completed".into()),
        "{case:#}"
    );
    assert_eq!(case["remarks"], serde_json::json!([]), "{case:#}");
    assert_eq!(left(folder.path()).await, [0, 1, 1]);
    assert_eq!(log(), line("-", "/forum/1/posts"));

    let open = "case open --right erasure --identifier user_id@forum=1 --wait";
    let (_, planned) = office.json(open).await;
    approved(&office, &planned).await;
    assert_eq!((left(folder.path()).await, log()), ([0, 0, 0], String::new()));
    let (exit, _, err) = office
        .lethe("case open --right erasure --identifier email@forum=a@b.example")
        .await;
    assert!(exit == Exit::Usage && err.contains("KIND@ISSUER=VALUE"), "{err}");
    let (exit, _, err) = office
        .lethe("case open --right erasure --identifier user_id@forun=1")
        .await;
    assert!(
        exit == Exit::Usage && err.contains("expected user_id@forum, or user_id"),
        "{exit:?} {err}"
    );
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_strangers_account_is_erased_by_its_number_alone_the_plan_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = company(folder.path(), "user_id").await;
    let (id, _) = office.planned_erasure().await;
    let (_, case) = office.json(&format!("case show {id}")).await;
    let remarks = case["remarks"].as_array().unwrap();
    let remarked: Vec<String> = remarks
        .iter()
        .map(|one| {
            format!(
                "{} {}/{}",
                one["code"].as_str().unwrap(),
                one["system"].as_str().unwrap(),
                one["dataset"]
            )
        })
        .collect();
    let expected = ["members", "posts"].map(|dataset| format!("reached_by_id_alone forum/\"{dataset}\""));
    assert_eq!(remarked, expected, "{case:#}");
    let (_, shown, _) = office.lethe(&format!("case show {id}")).await;
    assert!(shown.contains("only by an id (user_id)"), "{shown}");
    let page = office.page(&format!("/cases/{id}")).await;
    assert!(page.contains("only by an id (user_id)"), "{page}");
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_is_named_later_counts_once_the_systems_are_scanned_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut office = company(folder.path(), "user_id").await;
    let ada = places(&office, &format!("email={ADA}")).await;
    assert!(ada.contains(&"forum/posts".to_owned()), "one issuer: {ada:?}");
    office.close().await;
    let config = office.folder.path().join("lethe.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let named = text.replace(
        &systems(folder.path(), "user_id"),
        &systems(folder.path(), "user_id@forum"),
    );
    std::fs::write(&config, named).unwrap();
    office.start().await;
    for system in ["forum", "web"] {
        office.scan(system).await;
    }
    let ada = ["chat/contacts", "crm/contacts", "shop/accounts", "web/access"];
    assert_eq!(places(&office, &format!("email={ADA}")).await, ada);
    let zoe = ["forum/members", "forum/posts", "web/access"];
    assert_eq!(places(&office, "user_id@forum=1").await, zoe);
    office.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identifier_that_no_system_can_be_searched_by_is_an_exception_and_its_kind_is_told() {
    let mut office = Office::open(MemoryConnector::new("chat").unwrap()).await;
    let open =
        format!("case open --right erasure --identifier email={ADA} --identifier cookie_id=crumbs-7 --wait");
    let (_, planned) = office.json(&open).await;
    let id = planned["id"].as_str().unwrap();
    let (exit, case) = office.approve(&planned).await;
    assert_eq!(
        (exit, &case["state"]),
        (Exit::Yes, &"completed_with_exceptions".into()),
        "{case:#}"
    );
    let (_, shown, _) = office.lethe(&format!("case show {id}")).await;
    let page = office.page(&format!("/cases/{id}")).await;
    let (certificate, policy) = office.statement(id).await;
    let mut verified = Vec::new();
    let code = lethe_verify::show(&certificate, Some(&policy), false, &mut verified);
    let verified = String::from_utf8(verified).unwrap();
    assert_eq!(code, 1, "{verified}");
    for told in [&shown, &page, &verified] {
        assert!(
            told.contains("names an identifier (cookie_id) that leads to no record and that no system can be searched by")
        , "{told}");
        assert!(!told.contains("crumbs-7"), "{told}");
    }
    office.close().await;
}
