//! What holds of every walk: more identifiers find no less, and no order changes what is found.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Partition, record_token, token, walked, world};
use lethe_journal::{DatasetRef, Token};
use lethe_lineage::{Limits, Reached, ReachedIdentifier, Walk};
use proptest::prelude::*;
use proptest::sample::Index;

/// An identifier: its kind and a number.
type Name = (usize, u8);

const KINDS: [&str; 5] = ["email", "user_id", "phone", "cookie_id", "ip"];

/// Where records are: what stands in the log proves nobody's identity.
const PLACES: [&str; 3] = ["shop/accounts", "crm/contacts", "web/log"];

/// A record: its place and what it holds.
type Row = (usize, Vec<Name>);

/// Few people with few identifiers, so that their records hang together in all ways.
fn company() -> impl Strategy<Value = Vec<Row>> {
    let name = (0..KINDS.len(), 0..4_u8);
    let record = (0..PLACES.len(), proptest::collection::vec(name, 1..4));
    proptest::collection::vec(record, 1..14)
}

/// Which identifiers of which records a request names.
fn given() -> impl Strategy<Value = Vec<(Index, Index)>> {
    proptest::collection::vec(any::<(Index, Index)>(), 1..4)
}

fn names(company: &[Row], given: &[(Index, Index)]) -> Vec<Name> {
    let name = |(record, name): &(Index, Index)| *name.get(&record.get(company).1);
    given.iter().map(name).collect()
}

/// The company with these words behind every key and value: with other words other tokens stand in another order.
struct Told {
    partitions: Vec<Partition>,
    records: Vec<String>,
    salt: &'static str,
}

impl Told {
    fn new(company: &[Row], salt: &'static str) -> Self {
        let mut told = Self {
            partitions: Vec::new(),
            records: Vec::new(),
            salt,
        };
        let mut rows = Vec::new();
        for (number, (place, names)) in company.iter().enumerate() {
            told.records.push(format!("{}/{number}{salt}", PLACES[*place]));
            let held: BTreeSet<String> = names.iter().map(|name| told.identifier(*name)).collect();
            rows.push(held.into_iter().collect::<Vec<_>>().join(" "));
        }
        let records = told.records.iter().map(String::as_str);
        let records: Vec<_> = records.zip(rows.iter().map(String::as_str)).collect();
        told.partitions = world(&records);
        told
    }

    fn identifier(&self, (kind, number): Name) -> String {
        format!("{}={number}{}", KINDS[kind], self.salt)
    }

    fn walk(&self, given: &[Name]) -> Walk {
        let limits = Limits {
            rounds_max: 50,
            strong_same_kind_max: 1,
            ..Limits::default()
        };
        let log = DatasetRef {
            system: "web".parse().unwrap(),
            dataset: "log".parse().unwrap(),
        };
        let tokens: Vec<Token> = given.iter().map(|name| token(&self.identifier(*name))).collect();
        Walk::new(tokens, limits).unproven_in([log])
    }

    fn reached(&self, given: &[Name]) -> Reached {
        walked(&self.partitions, self.walk(given), |_| {})
    }

    /// Numbers of the records that were found.
    fn found(&self, given: &[Name]) -> BTreeSet<usize> {
        let reached = self.reached(given);
        assert_eq!(reached.bound, None);
        let numbers = self.records.iter().enumerate();
        let numbers: BTreeMap<_, _> = numbers
            .map(|(number, name)| (record_token(name), number))
            .collect();
        reached
            .records
            .iter()
            .map(|record| numbers[&record.record])
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn what_some_identifiers_find_is_found_with_more_of_them(
        company in company(), some in given(), others in given(),
    ) {
        let (told, some, others) = (Told::new(&company, ""), names(&company, &some), names(&company, &others));
        let found = told.found(&[some.clone(), others.clone()].concat());
        prop_assert!(found.is_superset(&told.found(&some)));
        prop_assert!(found.is_superset(&told.found(&others)));
    }

    #[test]
    fn what_is_found_depends_on_no_order(company in company(), given in given(), by in 0..16_usize) {
        let (told, given) = (Told::new(&company, ""), names(&company, &given));
        let reached = told.reached(&given);
        let mut turned = given.clone();
        turned.reverse();
        // Owners may read in another order and number their records otherwise.
        let moved = walked(&told.partitions, told.walk(&turned), |parts| parts.rotate_left(by));
        prop_assert_eq!(&moved, &reached);
        let found = told.found(&given);
        prop_assert_eq!(Told::new(&company, "-other").found(&given), found.clone());
        prop_assert_eq!(Told::new(&company, "-third").found(&given), found);
    }

    /// Each record once, with a way from the request along identifiers that both ends of a step hold and that were followed.
    #[test]
    fn every_way_that_is_told_was_gone(company in company(), given in given()) {
        let reached = Told::new(&company, "").reached(&names(&company, &given));
        let holds: BTreeMap<_, BTreeSet<_>> = reached
            .records
            .iter()
            .map(|record| (record.record, record.tokens.iter().copied().collect()))
            .collect();
        prop_assert_eq!(holds.len(), reached.records.len());
        for record in &reached.records {
            let tokens: Vec<_> = record
                .path
                .iter()
                .map(|hop| Token { kind: hop.kind, token: hop.token })
                .collect();
            prop_assert_eq!(record.path.last().unwrap().record, record.record);
            prop_assert!(reached.identifiers.iter().any(|known| known.given && known.token == tokens[0]));
            for (hop, token) in record.path.iter().zip(&tokens) {
                prop_assert!(holds[&hop.record].contains(token));
            }
            for (hop, next) in record.path.iter().zip(tokens.iter().skip(1)) {
                prop_assert!(holds[&hop.record].contains(next) && reached.is_followed(*next));
            }
            if tokens.len() > 1 {
                prop_assert!(reached.is_followed(tokens[0]), "what leads nowhere is on no way");
            }
        }
    }

    #[test]
    fn what_a_link_carries_alone_goes_with_it(company in company(), given in given()) {
        let (told, given) = (Told::new(&company, ""), names(&company, &given));
        let reached = told.reached(&given);
        for record in &reached.records {
            let Some(cut) = record.cut else { continue };
            let without = walked(&told.partitions, told.walk(&given).without([cut]), |_| {});
            // Without the link fewer people may seem to stand behind an identifier.
            let as_before = |known: &ReachedIdentifier| reached.identifiers.contains(known);
            if without.identifiers.iter().all(as_before) {
                prop_assert!(without.records.iter().all(|left| left.record != record.record));
            }
        }
    }
}
