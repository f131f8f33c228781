//! The feed at size: bounded pages, bounded memory, nobody left out, late transactions caught.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::*;
use lethe_kit::Connector;
use lethe_sql::SqlConnector;

const PEOPLE: usize = 50_000;
/// Memory that reading may add, in KiB: a page is some thousand rows, whatever the table holds.
const GROWTH_KIB_MAX: u64 = 60 * 1024;

const UNIT: &str = "[[units]]\nname = \"people\"\ntable = \"people\"\ncategories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"
    identifiers = {email = \"email\"}\nerase = \"row\"\nupdated_at = \"updated_at\"
    [[units.children]]\ntable = \"visits\"\nlink = {person = \"id\"}\nidentifiers = {ip = \"ip\"}\nerase = \"row\"\nupdated_at = \"updated_at\"";

async fn people(target: &Target, count: usize) {
    let (series, now) = if target.is_postgres() {
        (format!("generate_series(1, {count}) as n"), "clock_timestamp()")
    } else {
        (
            format!(
                "(with recursive s(n) as (select 1 union all select n + 1 from s where n < {count}) select n from s)"
            ),
            "strftime('%Y-%m-%d %H:%M:%f', 'now')",
        )
    };
    let time = if target.is_postgres() {
        "timestamptz"
    } else {
        "text"
    };
    target.run(&format!(
        "create table people (id integer primary key, email text not null, updated_at {time} not null);
        create table visits (id integer primary key, person integer not null references people (id), ip text, updated_at {time} not null);
        create index visits_person on visits (person); create index visits_updated on visits (updated_at); create index people_updated on people (updated_at);
        insert into people select n, 'p' || n || '@x.example', '2026-01-01 00:00:00' from {series};
        insert into visits select n, n, '10.0.0.1', {now} from {series};",
    )).await;
}

fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Reads on to the end; returns the keys and the last cursor, and the largest page.
async fn read(
    connector: &SqlConnector,
    cursor: Option<String>,
    limit: usize,
) -> (BTreeSet<String>, String, usize) {
    let shard = "people".parse().unwrap();
    let (mut cursor, mut keys, mut largest) = (cursor, BTreeSet::new(), 0);
    loop {
        let page = connector.feed(&shard, cursor.as_deref(), limit).await.unwrap();
        largest = largest.max(page.observations.len());
        keys.extend(page.observations.into_iter().map(|o| o.key));
        if let Some((done, total)) = page.progress {
            assert!(done <= total);
        }
        if !page.more {
            return (keys, page.cursor, largest);
        }
        cursor = Some(page.cursor);
    }
}

on_both!(fifty_thousand_rows_pass_in_bounded_pages_and_memory, |target| {
    people(&target, PEOPLE).await;
    let connector = connect(&target, UNIT).await;
    let before = memory_kib();
    let (keys, cursor, largest) = read(&connector, None, 500).await;
    let grown = memory_kib().saturating_sub(before);
    assert_eq!(keys.len(), PEOPLE);
    assert!(largest <= 500 + 300, "{largest}");
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    // Everything was written within the time in which transactions may be late: it is read once more, in pages as well.
    let (again, _, largest) = read(&connector, Some(cursor), 500).await;
    assert!(
        largest <= 500 + 300 && (again.is_empty() || again.len() == PEOPLE),
        "{largest} {}",
        again.len()
    );
    connector.close().await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_becomes_visible_late_is_not_missed() {
    let Some(target) = Target::postgres().await else {
        return;
    };
    people(&target, 10).await;
    let connector = connect(&target, UNIT).await;
    let Raw::Postgres(pool) = &target.raw else { return };
    let mut late = pool.begin().await.unwrap();
    sqlx::query("insert into people values (1000, 'late@x.example', clock_timestamp())")
        .execute(&mut *late)
        .await
        .unwrap();
    target
        .run("insert into people values (1001, 'early@x.example', clock_timestamp())")
        .await;
    let (keys, cursor, _) = read(&connector, None, 100).await;
    assert!(keys.contains("[\"1001\"]") && !keys.contains("[\"1000\"]"));
    let (_, cursor, _) = read(&connector, Some(cursor), 100).await;
    late.commit().await.unwrap();
    let (keys, _, _) = read(&connector, Some(cursor), 100).await;
    assert!(keys.contains("[\"1000\"]"), "{keys:?}");
    connector.close().await;
    target.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_rewritten_during_the_scan_is_scanned_anew() {
    let Some(target) = Target::postgres().await else {
        return;
    };
    people(&target, 3_000).await;
    let connector = connect(&target, UNIT).await;
    let shard = "people".parse().unwrap();
    let first = connector.feed(&shard, None, 1).await.unwrap();
    assert!(first.more);
    target.run("delete from visits").await;
    target
        .run("delete from people where id > 100 and id < 2900")
        .await;
    target.run("vacuum full people").await;
    let (keys, _, _) = read(&connector, Some(first.cursor), 100).await;
    assert_eq!(keys.len(), 201);
    connector.close().await;
    target.end().await;
}

on_both!(
    a_cursor_of_somebody_else_is_refused_and_one_of_another_mapping_begins_anew,
    |target| {
        people(&target, 10).await;
        let connector = connect(&target, UNIT).await;
        let shard = "people".parse().unwrap();
        let strange = connector.feed(&shard, Some("ada@x.example"), 10).await;
        assert!(matches!(
            strange,
            Err(lethe_kit::Error::Permanent {
                code: "sql-cursor",
                ..
            })
        ));
        let (_, cursor, _) = read(&connector, None, 100).await;
        let other = connect(
            &target,
            &UNIT.replace(
                "identifiers = {ip = \"ip\"}\nerase = \"row\"\nupdated_at = \"updated_at\"",
                "erase = \"row\"",
            ),
        )
        .await;
        let (keys, _, _) = read(&other, Some(cursor), 100).await;
        assert_eq!(keys.len(), 10);
        connector.close().await;
        other.close().await;
    }
);
