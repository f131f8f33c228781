//! Telephone numbers as people type them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::Connector;
use lethe_terms::{Identifier, IdentifierKind, Observed, Outcome, Verb};

const UNIT: &str = "[[units]]\nname = \"people\"\ntable = \"people\"\ncategories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"
    identifiers = {phone = \"phone\", number = \"phone\"}\nerase = \"row\"";

const ADAS: [&str; 9] = [
    "+4930901820",
    "+49 (0)30 901820",
    "0049 (30) 90 18-20",
    "030 901820 ext. 5",
    "030/90 18 20 #5",
    "30 901820",
    "tel:+49-30-901820;ext=5",
    "+49\u{a0}30\u{2011}901820",
    "phone: 030.90.18.20",
];
const OTHERS: [&str; 6] = [
    "+49 30 9018201",
    "+43 30 901820",
    "901820",
    "0301 901820",
    "unknown",
    "030 901820 and many words more, so that nobody can take it for a number",
];

on_both!(
    a_number_that_was_never_fed_is_found_however_it_is_typed,
    |target| {
        target
            .run("create table people (id integer primary key, phone text, number bigint)")
            .await;
        for (n, value) in ADAS.iter().chain(&OTHERS).enumerate() {
            target
                .run(&format!("insert into people (id, phone) values ({n}, '{value}')"))
                .await;
        }
        target
            .run("insert into people (id, number) values (100, 4930901820), (101, 49309018201)")
            .await;
        let connector = connect(&target, UNIT).await;
        let mut ada = by_identifiers(&[Identifier::new(IdentifierKind::Phone, "+4930901820")]);
        let mut found: Vec<String> = located(&connector, &ada.identifiers)
            .await
            .into_iter()
            .map(|(_, handle)| handle)
            .collect();
        let mut expected: Vec<String> = (0..ADAS.len())
            .chain([100])
            .map(|n| format!("[\"{n}\"]"))
            .collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected);

        ada.records = expected
            .iter()
            .flat_map(|handle| by_handle(handle).records)
            .collect();
        let erase = ask(1, (1, 0), "people", Verb::Erase, &ada);
        let dataset = "people".parse().unwrap();
        let seen = connector
            .observe(&dataset, &by_identifiers(&ada.identifiers))
            .await
            .unwrap();
        assert_eq!(
            (seen.observed, seen.records),
            (Observed::Present, expected.len() as u64)
        );
        let receipt = done(connector.perform(&erase).await.unwrap());
        assert_eq!(
            (receipt.outcome, receipt.records),
            (Outcome::Erased, expected.len() as u64)
        );
        let seen = connector.observe(&dataset, &ada).await.unwrap();
        assert_eq!(seen.observed, Observed::Absent);
        assert_eq!(target.count("people").await, OTHERS.len() as u64 + 1);
        connector.close().await;
    }
);
