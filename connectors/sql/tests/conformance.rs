//! The contract, number by number, on the shop's schema.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use common::*;
use lethe_kit::Connector;
use lethe_kit::suite::{Fixture, MustResult, Planted, PlantedRecord, run};
use lethe_sql::SqlConnector;
use lethe_terms::{Identifier, IdentifierKind};

struct Shop {
    target: Target,
    /// Only PostgreSQL has one.
    wire: Option<cut::Wire>,
    connector: Arc<SqlConnector>,
    people: BTreeMap<String, u64>,
}

const TABLES: [(&str, &str, &str); 7] = [
    (
        "accounts",
        "id, user_id, email, full_name, phone, created_at",
        ", updated_at, processing_restricted_at",
    ),
    (
        "registrations",
        "id, account_id, ip, registered_at",
        ", updated_at",
    ),
    ("addresses", "id, account_id, kind, street", ", updated_at"),
    (
        "orders",
        "id, number, account_id, buyer_name, buyer_email, line_total_cents",
        ", updated_at",
    ),
    (
        "payments",
        "id, order_id, payer_name, iban, amount_cents",
        ", updated_at",
    ),
    (
        "tickets",
        "id, account_id, email, body",
        ", updated_at, processing_restricted_at",
    ),
    ("orders_restricted", "id", ""),
];

impl Shop {
    async fn new(target: Target) -> Self {
        shop(&target).await;
        let wire = if target.is_postgres() {
            Some(wire(&target).await)
        } else {
            None
        };
        let connector = Arc::new(Self::open(&target, wire.as_ref()).await);
        Self {
            target,
            wire,
            connector,
            people: BTreeMap::new(),
        }
    }

    async fn open(target: &Target, wire: Option<&cut::Wire>) -> SqlConnector {
        match wire {
            Some(wire) => connect_through(wire, target, &shop_mapping()).await,
            None => connect(target, &shop_mapping()).await,
        }
    }

    async fn dump(&self, condition: &str, with_marks: bool) -> String {
        let mut text = String::new();
        for (table, columns, marks) in TABLES {
            let all = if with_marks {
                format!("{columns}{marks}")
            } else {
                columns.to_owned()
            };
            if table == "orders_restricted" && !with_marks {
                continue;
            }
            let columns: Vec<&str> = all.split(", ").collect();
            text.extend(
                self.target
                    .dump(table, &columns, condition)
                    .await
                    .into_iter()
                    .map(|line| line + "\n"),
            );
        }
        text
    }
}

#[async_trait]
impl Fixture for Shop {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector) as Arc<dyn Connector>
    }

    async fn plant(&mut self, name: &str) -> Option<Planted> {
        let next = 1000 + self.people.len() as u64;
        let id = *self.people.entry(name.to_owned()).or_insert(next);
        let (mail, person, phone) = (
            format!("{name}@lethe-check.example"),
            format!("usr-{name}"),
            format!("+49{id:08}"),
        );
        let mut sql = "begin;".to_owned();
        for table in [
            "orders_restricted",
            "payments",
            "tickets",
            "orders",
            "addresses",
            "registrations",
            "accounts",
        ] {
            sql += &format!("delete from {table} where id = {id};");
        }
        sql += &format!(
            "insert into accounts (id, user_id, email, full_name, phone, created_at) values ({id}, '{person}', '{mail}', 'N', '{phone}', '2026-01-01');
            insert into registrations (id, account_id, ip, registered_at) values ({id}, {id}, '2001:db8::{id}', '2026-01-01');
            insert into addresses (id, account_id, kind, street, postcode, city) values ({id}, {id}, 'billing', 'S', '1', 'H');
            insert into orders (id, number, account_id, buyer_name, buyer_email, product, quantity, unit_cents, line_total_cents, ordered_at)
                values ({id}, 'R-{id}', {id}, 'N', '{mail}', 'P', 1, 5, 5, '2026-01-02');
            insert into payments (id, order_id, payer_name, iban, amount_cents, paid_at) values ({id}, {id}, 'N', 'DE00', 5, '2026-01-03');
            insert into tickets (id, account_id, email, subject_line, body, opened_at) values ({id}, {id}, '{mail}', 's', 'b', '2026-01-04');
            commit;"
        );
        self.target.run(&sql).await;
        let email = || Identifier::new(IdentifierKind::Email, mail.clone());
        let user = || Identifier::new(IdentifierKind::UserId, person.clone());
        let record = |dataset: &str, more: Vec<Identifier>| PlantedRecord {
            dataset: dataset.parse().unwrap(),
            identifiers: [vec![email(), user()], more].concat(),
        };
        let own = vec![
            Identifier::new(IdentifierKind::Phone, phone),
            Identifier::new(IdentifierKind::Ip, format!("2001:db8::{id}")),
        ];
        let records = vec![
            record("accounts", own),
            record("orders", vec![]),
            record("tickets", vec![]),
        ];
        Some(Planted {
            name: name.to_owned(),
            identifiers: vec![email(), user()],
            records,
        })
    }

    async fn holds(&mut self, value: &str) -> bool {
        let mut found = 0;
        for (table, columns, _) in TABLES {
            for column in columns.split(", ") {
                found += self
                    .target
                    .count(&format!("{table} where cast({column} as text) = '{value}'"))
                    .await;
            }
        }
        found > 0
    }

    async fn in_ordinary_use(&mut self, value: &str) -> Option<bool> {
        let used = "accounts a left join registrations r on r.account_id = a.id where a.processing_restricted_at is null";
        Some(
            self.target
                .count(&format!("{used} and (a.phone = '{value}' or r.ip = '{value}')"))
                .await
                > 0,
        )
    }

    async fn dump_others(&mut self, person: &Planted) -> String {
        self.dump(&format!("id <> {}", self.people[&person.name]), true)
            .await
    }

    async fn dump_of(&mut self, person: &Planted) -> String {
        self.dump(&format!("id = {}", self.people[&person.name]), false)
            .await
    }

    async fn restart(&mut self) {
        self.connector.close().await;
        self.connector = Arc::new(Self::open(&self.target, self.wire.as_ref()).await);
    }

    async fn crash_after_next_effect(&mut self) -> bool {
        self.wire
            .as_ref()
            .inspect(|wire| wire.cut_after_next_commit())
            .is_some()
    }

    fn crowd(&self) -> usize {
        400
    }
}

async fn conforms(target: Target) {
    let is_postgres = target.is_postgres();
    let mut shop = Shop::new(target).await;
    for verdict in run(&mut shop, 7).await {
        // Only a network can be cut.
        let expected = if verdict.number == "K4" && !is_postgres {
            MustResult::NotTried
        } else {
            MustResult::Kept
        };
        assert_eq!(
            verdict.result, expected,
            "{} {}: {}",
            verdict.number, verdict.must, verdict.detail
        );
    }
    shop.connector.close().await;
    shop.target.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    conforms(Target::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    if let Some(target) = Target::postgres().await {
        conforms(target).await;
    }
}
