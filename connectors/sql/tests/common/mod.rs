//! Databases to test on: SQLite always, PostgreSQL where LETHE_TEST_POSTGRES names a superuser's URL.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used
)]

pub mod cut;

use std::sync::atomic::{AtomicU32, Ordering};

use lethe_kit::{Ask, Connector, Page, Performed, Receipt, Selected, Selector};
use lethe_sql::{Config, SqlConnector};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Verb};
use sqlx::postgres::PgPool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Executor, Row};

static NUMBER: AtomicU32 = AtomicU32::new(1);

pub enum Raw {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// A database of the test's own, with a connection that the connector knows nothing of.
pub struct Target {
    pub url: String,
    pub raw: Raw,
    admin: Option<(PgPool, String)>,
    _folder: Option<tempfile::TempDir>,
}

impl Target {
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("target.db").display());
        let options: SqliteConnectOptions = url.parse().unwrap();
        let pool = SqlitePool::connect_with(options.create_if_missing(true))
            .await
            .unwrap();
        pool.execute("pragma journal_mode = wal").await.unwrap();
        Self {
            url,
            raw: Raw::Sqlite(pool),
            admin: None,
            _folder: Some(folder),
        }
    }

    pub async fn postgres() -> Option<Self> {
        let Ok(url) = std::env::var("LETHE_TEST_POSTGRES") else {
            eprintln!("SKIPPED on PostgreSQL: LETHE_TEST_POSTGRES is not set");
            return None;
        };
        let admin = PgPool::connect(&url).await.unwrap();
        let name = format!(
            "lethe_sql_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        admin
            .execute(AssertSqlSafe(format!("create database {name}")))
            .await
            .unwrap();
        let (base, _) = url.rsplit_once('/').unwrap();
        let url = format!("{base}/{name}");
        let pool = PgPool::connect(&url).await.unwrap();
        Some(Self {
            url,
            raw: Raw::Postgres(pool),
            admin: Some((admin, name)),
            _folder: None,
        })
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.raw, Raw::Postgres(_))
    }

    pub async fn run(&self, sql: &str) {
        match &self.raw {
            Raw::Postgres(pool) => pool
                .execute(AssertSqlSafe(sql.to_owned()))
                .await
                .map(|_| ())
                .unwrap(),
            Raw::Sqlite(pool) => pool
                .execute(AssertSqlSafe(sql.to_owned()))
                .await
                .map(|_| ())
                .unwrap(),
        }
    }

    /// Values of the first column, as text.
    pub async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        match &self.raw {
            Raw::Postgres(pool) => {
                let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
                    .fetch_all(pool)
                    .await
                    .unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Raw::Sqlite(pool) => {
                let rows = sqlx::query(AssertSqlSafe(sql.to_owned()))
                    .fetch_all(pool)
                    .await
                    .unwrap();
                rows.iter().map(|row| row.get_unchecked(0)).collect()
            }
        }
    }

    pub async fn count(&self, sql: &str) -> u64 {
        self.texts(&format!("select cast(count(*) as text) from {sql}"))
            .await[0]
            .as_deref()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Every row of a table as text, sorted.
    pub async fn dump(&self, table: &str, columns: &[&str], condition: &str) -> Vec<String> {
        let columns: Vec<String> = columns
            .iter()
            .map(|c| format!("coalesce(cast({c} as text), '∅')"))
            .collect();
        let sql = format!(
            "select {} from {table} where {condition} order by 1",
            columns.join(" || '|' || ")
        );
        self.texts(&sql).await.into_iter().map(Option::unwrap).collect()
    }

    pub async fn end(self) {
        match &self.raw {
            Raw::Postgres(pool) => pool.close().await,
            Raw::Sqlite(pool) => pool.close().await,
        }
        if let Some((admin, name)) = &self.admin {
            admin
                .execute(AssertSqlSafe(format!("drop database {name} with (force)")))
                .await
                .unwrap();
        }
    }
}

/// Runs a test on every database there is.
#[macro_export]
macro_rules! on_both {
    ($(#[$meta:meta])* $name:ident, |$target:ident| $body:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                let $target = $crate::common::Target::sqlite().await;
                $body;
                $target.end().await;
            }
            $(#[$meta])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                let Some($target) = $crate::common::Target::postgres().await else { return };
                $body;
                $target.end().await;
            }
        }
    };
}

pub fn config(target: &Target, units: &str) -> Config {
    toml::from_str(&format!(
        "kind = \"sql\"\nurl = \"{}\"\nphone_country = \"49\"\n{units}",
        target.url
    ))
    .unwrap()
}

/// A wire to the target's server, which can be cut.
pub async fn wire(target: &Target) -> cut::Wire {
    let (_, tail) = target.url.split_once('@').unwrap();
    cut::Wire::to(tail.split_once('/').unwrap().0.to_owned()).await
}

pub async fn connect_through(wire: &cut::Wire, target: &Target, units: &str) -> SqlConnector {
    let mut config = config(target, units);
    config.url = Some(lethe_sql::Url(wire.url(&target.url)));
    lethe_sql::connect("shop".parse().unwrap(), config)
        .await
        .unwrap_or_else(|e| panic!("{e}"))
}

pub async fn connect(target: &Target, units: &str) -> SqlConnector {
    lethe_sql::connect("shop".parse().unwrap(), config(target, units))
        .await
        .unwrap_or_else(|e| panic!("{e}"))
}

/// The codes and places of everything that a mapping gets wrong.
pub async fn problems(target: &Target, units: &str) -> Vec<String> {
    match lethe_sql::connect("shop".parse().unwrap(), config(target, units)).await {
        Err(lethe_sql::Error::Mapping(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected a refused mapping, not {:?}", other.map(|_| ())),
    }
}

pub fn email(value: &str) -> Identifier {
    Identifier::new(IdentifierKind::Email, value)
}

pub fn by_identifiers(identifiers: &[Identifier]) -> Selector {
    Selector {
        records: Vec::new(),
        identifiers: identifiers.to_vec(),
    }
}

pub fn by_handle(handle: &str) -> Selector {
    Selector {
        records: vec![Selected {
            handle: handle.to_owned(),
        }],
        identifiers: Vec::new(),
    }
}

pub fn ask(id: u8, generation: (u64, u32), dataset: &str, verb: Verb, selector: &Selector) -> Ask {
    let id = InstructionId::from_bytes([id; 16]);
    Ask {
        id,
        generation,
        dataset: dataset.parse().unwrap(),
        verb,
        selector: selector.clone(),
    }
}

pub fn done(performed: Performed) -> Receipt {
    match performed {
        Performed::Done(receipt) => receipt,
        other => panic!("expected a receipt, not {other:?}"),
    }
}

/// Handles that locating finds, by dataset.
pub async fn located(connector: &SqlConnector, identifiers: &[Identifier]) -> Vec<(String, String)> {
    let found = connector
        .locate(&by_identifiers(identifiers), Page::default())
        .await
        .unwrap();
    found
        .observations
        .into_iter()
        .map(|o| (o.dataset.to_string(), o.handle))
        .collect()
}

/// The shop: accounts with children, orders that stay anonymised, tickets of their own.
pub async fn shop(target: &Target) {
    let schema = if target.is_postgres() {
        include_str!("../../../../tests/world/schema/postgres.sql")
    } else {
        include_str!("../../../../tests/world/schema/sqlite.sql")
    };
    target.run(schema).await;
    target.run(
        "insert into accounts (id, user_id, email, full_name, phone) values
            (1, 'usr_1', 'Ada@Example.org', 'Ada L', '+49 30 23125001'), (2, 'usr_2', 'bob@example.org', 'Bob', '030 23125002'),
            (3, 'usr_3', 'ada@example.com', 'Ada L', null);
        insert into registrations (id, account_id, ip, registered_at) values (11, 1, '203.0.113.7', '2026-01-01'), (12, 2, '203.0.113.7', '2026-01-01');
        insert into addresses (id, account_id, kind, street, postcode, city) values (21, 1, 'billing', 'S 1', '1', 'H'), (22, 1, 'delivery', 'S 1', '1', 'H'),
            (23, 2, 'billing', 'S 1', '1', 'H');
        insert into orders (id, number, account_id, buyer_name, buyer_email, product, quantity, unit_cents, line_total_cents, ordered_at) values
            (31, 'R-1', 1, 'Ada L', 'ada@example.org', 'P', 1, 5, 5, '2026-01-02'), (32, 'R-2', 2, 'Bob', 'bob@example.org', 'P', 1, 5, 5, '2026-01-02');
        insert into payments (id, order_id, payer_name, iban, amount_cents, paid_at) values (41, 31, 'Ada L', 'DE00', 5, '2026-01-03'),
            (42, 32, 'Bob', 'DE01', 5, '2026-01-03');
        insert into tickets (id, account_id, email, subject_line, body, opened_at) values (51, 1, 'ada@example.org', 's', 'b', '2026-01-04'),
            (52, null, 'ADA@example.org', 's', 'b', '2026-01-04'), (53, 2, 'bob@example.org', 's', 'b', '2026-01-04'), (54, null, 'guest@trial.example', 's', 'b', '2026-01-04');",
    ).await;
}

/// The mapping of the reference configuration.
pub fn shop_mapping() -> String {
    let reference: toml::Value = toml::from_str(include_str!("../../../../ops/config/lethe.toml")).unwrap();
    let systems = reference["systems"].as_array().unwrap();
    let mut shop = systems
        .iter()
        .find(|s| s["kind"].as_str() == Some("sql"))
        .unwrap()
        .as_table()
        .unwrap()
        .clone();
    shop.retain(|key, _| key == "units");
    toml::to_string(&shop).unwrap()
}
