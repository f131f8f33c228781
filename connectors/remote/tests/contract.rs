//! The contract, number by number, kept by the example in Python and broken by wrong programs.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use common::meddler::{Meddler, Meddling};
use common::{Program, config, database, python};
use lethe_kit::Connector;
use lethe_kit::suite::{Fixture, MustResult, Planted, PlantedRecord, Verdict, run, run_some};
use lethe_remote::RemoteConnector;
use lethe_terms::{Identifier, IdentifierKind};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Executor, Row};

/// The example with its file, and somebody who looks into the file.
struct Contacts {
    python: String,
    more: &'static [&'static str],
    folder: tempfile::TempDir,
    program: Program,
    meddler: Meddler,
    connector: Arc<RemoteConnector>,
    file: SqlitePool,
    people: BTreeMap<String, usize>,
}

impl Contacts {
    async fn open(more: &'static [&'static str]) -> Option<Self> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let program = Program::start(&python, folder.path(), more);
        let meddler = Meddler::before(program.port).await;
        let config = config(folder.path(), meddler.port);
        let connector = lethe_remote::connect("crm".parse().unwrap(), config).await;
        let options = SqliteConnectOptions::new().filename(database(folder.path()));
        Some(Self {
            file: SqlitePool::connect_with(options).await.unwrap(),
            connector: Arc::new(connector.unwrap()),
            python,
            more,
            folder,
            program,
            meddler,
            people: BTreeMap::new(),
        })
    }

    async fn texts(&self, query: String) -> Vec<String> {
        let rows = self.file.fetch_all(AssertSqlSafe(query)).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect()
    }

    /// Rows without their marks, where those are not asked for.
    async fn dump(&self, condition: &str, mark: &str) -> String {
        let fields = format!("id || ' ' || name || ' ' || email || ' ' || phone || ' ' || note || {mark}");
        let query = format!("select {fields} from contacts where {condition} order by rowid");
        self.texts(query).await.join("\n")
    }

    fn number(&self, person: &Planted) -> usize {
        self.people[&person.name]
    }

    async fn close(self) {
        self.file.close().await;
    }
}

#[async_trait]
impl Fixture for Contacts {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector) as Arc<dyn Connector>
    }

    async fn plant(&mut self, name: &str) -> Option<Planted> {
        let next = self.people.len() + 1;
        let number = *self.people.entry(name.to_owned()).or_insert(next);
        let (email, phone) = (format!("{name}@lethe-check.example"), format!("+49{number:09}"));
        let mut sql = format!("begin immediate; delete from contacts where id like 'c-{number}-%';");
        for contact in ["one", "two"] {
            sql += &format!(
                "insert into contacts (rowid, id, name, email, phone, note) values \
                 ({number} * 2 + ('{contact}' = 'two'), 'c-{number}-{contact}', 'N', '{email}', '{phone}', 'met at a fair');"
            );
        }
        let mut connection = self.file.acquire().await.unwrap();
        connection.execute(AssertSqlSafe(sql + "commit")).await.unwrap();
        let identifiers = vec![
            Identifier::new(IdentifierKind::Email, email),
            Identifier::new(IdentifierKind::Phone, phone),
        ];
        let record = PlantedRecord {
            dataset: "contacts".parse().unwrap(),
            identifiers: identifiers.clone(),
        };
        Some(Planted {
            name: name.to_owned(),
            identifiers,
            records: vec![record.clone(), record],
        })
    }

    async fn holds(&mut self, value: &str) -> bool {
        let everything = [
            ("contacts", "name || email || phone || note"),
            ("lethe_changes", "contact"),
            ("lethe_generations", "contact"),
            ("lethe_receipts", "instruction || receipt"),
            ("lethe_waiting", "instruction || asked"),
        ];
        let mut found = 0;
        for (table, columns) in everything {
            let query = format!("select {columns} from {table} where instr({columns}, '{value}') > 0");
            found += self.texts(query).await.len();
        }
        found > 0
    }

    async fn in_ordinary_use(&mut self, value: &str) -> Option<bool> {
        let query = format!("select id from contacts_in_use where email = '{value}' or phone = '{value}'");
        Some(!self.texts(query).await.is_empty())
    }

    async fn dump_others(&mut self, person: &Planted) -> String {
        let others = format!("id not like 'c-{}-%'", self.number(person));
        self.dump(&others, "coalesce(restricted, '')").await
    }

    async fn dump_of(&mut self, person: &Planted) -> String {
        let own = format!("id like 'c-{}-%'", self.number(person));
        self.dump(&own, "''").await
    }

    async fn restart(&mut self) {
        self.program.kill();
        self.program = Program::start(&self.python, self.folder.path(), self.more);
        self.meddler.leads_to(self.program.port);
        let config = config(self.folder.path(), self.meddler.port);
        // A wrong program is not taken into service again; the suite goes on with what it has.
        if let Ok(connector) = lethe_remote::connect("crm".parse().unwrap(), config).await {
            self.connector = Arc::new(connector);
        }
    }

    async fn crash_after_next_effect(&mut self) -> bool {
        // With tickets the effect comes after the answer.
        let at_once = self.more.is_empty();
        if at_once {
            self.meddler.set(Meddling::LosesNextPerform);
        }
        at_once
    }

    fn crowd(&self) -> usize {
        200
    }
}

fn with(result: MustResult, verdicts: &[Verdict]) -> Vec<String> {
    let found = verdicts.iter().filter(|verdict| verdict.result == result);
    found
        .map(|v| format!("{}: {}: {}", v.number, v.must, v.detail))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_keeps_every_number() {
    let Some(mut contacts) = Contacts::open(&[]).await else {
        return;
    };
    let verdicts = run(&mut contacts, 7).await;
    assert_eq!(with(MustResult::Broken, &verdicts), Vec::<String>::new());
    assert_eq!(with(MustResult::NotTried, &verdicts), Vec::<String>::new());
    contacts.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_keeps_every_number_with_tickets() {
    let Some(mut contacts) = Contacts::open(&["--later"]).await else {
        return;
    };
    let verdicts = run(&mut contacts, 7).await;
    assert_eq!(with(MustResult::Broken, &verdicts), Vec::<String>::new());
    let not_tried = with(MustResult::NotTried, &verdicts);
    assert!(
        not_tried.len() == 1 && not_tried[0].starts_with("K4: "),
        "{not_tried:?}"
    );
    contacts.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_wrong_program_breaks_the_number_that_forbids_it() {
    let wrong = [
        (Meddling::ActsTwice, 2, "K2"),
        (Meddling::NeverStale, 5, "K5"),
        (Meddling::OtherInstruction, 2, "K2"),
        (Meddling::BadSignature, 7, "locate failed with remote-signature"),
        (Meddling::WrongId, 7, "locate failed with remote-signature"),
        (Meddling::Stale, 7, "locate failed with remote-signature"),
        (
            Meddling::OtherRevision,
            7,
            "locate failed with remote-manifest-changed",
        ),
        (Meddling::OtherSystem, 23, "check failed with remote-answer"),
    ];
    for (meddling, number, expected) in wrong {
        let Some(mut contacts) = Contacts::open(&[]).await else {
            return;
        };
        contacts.meddler.set(meddling);
        let verdicts = run_some(&mut contacts, 7, &BTreeSet::from([number])).await;
        let broken = with(MustResult::Broken, &verdicts);
        assert!(
            broken.len() == 1 && broken[0].contains(expected),
            "{meddling:?}: {broken:?} {verdicts:?}"
        );
        contacts.close().await;
    }
}
