//! The contract of the kit, number by number.

use std::sync::Arc;

use async_trait::async_trait;
use lethe_kit::suite::{Fixture, MustResult, Planted, PlantedRecord, run};

use super::*;

struct Logs {
    bench: Bench,
    connector: Option<Arc<WeblogConnector>>,
    people: usize,
    known: std::collections::BTreeMap<String, usize>,
}

impl Logs {
    fn connector(&self) -> &Arc<WeblogConnector> {
        self.connector.as_ref().unwrap()
    }

    fn everything(&self) -> Vec<u8> {
        ["access.log.2.gz", "access.log.1", "access.log"]
            .iter()
            .flat_map(|name| self.bench.content(name))
            .collect()
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|w| w.eq_ignore_ascii_case(text.as_bytes()))
}

#[async_trait]
impl Fixture for Logs {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(self.connector()) as Arc<dyn Connector>
    }

    async fn plant(&mut self, name: &str) -> Option<Planted> {
        self.people += 1;
        let number = *self.known.entry(name.to_owned()).or_insert(self.people);
        let (email, user, ip) = (
            format!("{name}@lethe-check.example"),
            format!("user-{name}"),
            format!("198.51.{}.{}", number / 200, number % 200),
        );
        if !holds(&self.everything(), &user) {
            let mut log = self.bench.content("access.log");
            for (day, page) in [(20, "a"), (20, "b"), (21, "c")] {
                log.extend(
                    format!("{ip} - {user} [{day}/Nov/2026:11:40:00 +0000] \"GET /{page}?email={email} HTTP/1.1\" 200 5 \"-\" \"t\"\n").bytes(),
                );
                log.extend(history(number * 10 + 3, number * 10 + 7));
            }
            self.bench.write("access.log", &log);
        }
        let identifiers = vec![
            Identifier::new(IdentifierKind::Email, email),
            Identifier::new(IdentifierKind::UserId, user),
        ];
        let mut whole = identifiers.clone();
        whole.push(Identifier::new(IdentifierKind::Ip, ip));
        let record = PlantedRecord {
            dataset: "access".parse().unwrap(),
            identifiers: whole,
        };
        Some(Planted {
            name: name.to_owned(),
            identifiers,
            records: vec![record.clone(), record],
        })
    }

    async fn holds(&mut self, value: &str) -> bool {
        holds(&self.everything(), value) || holds(&self.connector().side_text(), value)
    }

    async fn in_ordinary_use(&mut self, value: &str) -> Option<bool> {
        Some(holds(&self.everything(), value))
    }

    async fn dump_others(&mut self, person: &Planted) -> String {
        let words: Vec<&str> = person.identifiers.iter().map(|i| i.value.as_str()).collect();
        String::from_utf8_lossy(&lines_without(&self.everything(), &words)).into_owned()
    }

    async fn dump_of(&mut self, person: &Planted) -> String {
        let mut text = String::new();
        for (n, line) in self.everything().split(|b| *b == b'\n').enumerate() {
            if holds(line, &person.name) {
                text += &format!("{n} {}\n", String::from_utf8_lossy(line));
            }
        }
        text
    }

    async fn restart(&mut self) {
        self.connector = None;
        self.connector = Some(Arc::new(self.bench.open()));
    }

    async fn crash_after_next_effect(&mut self) -> bool {
        self.connector().lose_next_answer();
        true
    }

    fn crowd(&self) -> usize {
        120
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_number_of_the_contract_is_kept() {
    let bench = Bench::new("");
    bench.pack("access.log.2.gz", &history(0, 50));
    bench.write("access.log.1", &history(50, 100));
    bench.write("access.log", &history(100, 150));
    let connector = Some(Arc::new(bench.open()));
    let mut logs = Logs {
        bench,
        connector,
        people: 0,
        known: Default::default(),
    };
    for verdict in run(&mut logs, 0x5eed).await {
        assert!(
            verdict.result == MustResult::Kept,
            "{}: {}: {}",
            verdict.number,
            verdict.must,
            verdict.detail
        );
    }
}
