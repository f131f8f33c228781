//! The configuration that README shows works as it stands there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::path::Path;

use lethe_journeys::office::{ADA, Office};
use lethe_kit::memory::MemoryConnector;
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_configuration_of_the_readme_finds_a_person() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, rest) = readme.split_once("The smallest one").unwrap();
    let (before, rest) = rest.split_once("```toml\n").unwrap();
    let (config, _) = rest.split_once("```").unwrap();
    let table = before.split('"').nth(1).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true);
    let mut shop = SqliteConnection::connect_with(&options).await.unwrap();
    let filled = format!("{table}; insert into people values (7, '{ADA}')");
    sqlx::raw_sql(sqlx::AssertSqlSafe(filled))
        .execute(&mut shop)
        .await
        .unwrap();
    let systems = &config[config.find("[[systems]]").unwrap()..];
    let systems = systems.replace("sqlite:shop.db", &format!("sqlite:{}", file.display()));
    let mut office = Office::found(MemoryConnector::new("chat").unwrap()).and(&systems);
    office.start().await;
    office.scan("shop").await;
    let (_, lineage) = office.json("lineage --identifier user_id=7").await;
    let records = lineage["records"].as_array().unwrap();
    let found = records.iter().filter(|record| record["system"] == "shop");
    assert_eq!(found.count(), 1, "{lineage:#}");
    office.close().await;
}
