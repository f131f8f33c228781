//! The order of work in a company, from its inventory.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeSet;

use lethe_journal::{DatasetRef, Inventory, InventoryDataset, InventorySystem};
use lethe_lineage::{layers, must_precede};

fn place(text: &str) -> DatasetRef {
    let (system, dataset) = text.split_once('/').unwrap();
    DatasetRef {
        system: system.parse().unwrap(),
        dataset: dataset.parse().unwrap(),
    }
}

/// Datasets `system/dataset` or `system/parent<child`, flows `source>copy`.
fn inventory(datasets: &[&str], flows: &[&str]) -> Inventory {
    let mut inventory = Inventory::default();
    for text in datasets {
        let (name, children) = text.split_once('<').map_or((*text, Vec::new()), |(name, child)| {
            (name, vec![child.parse().unwrap()])
        });
        let place = place(name);
        let dataset = InventoryDataset {
            name: place.dataset,
            verbs: Vec::new(),
            categories: Vec::new(),
            keeps: Vec::new(),
            after: children,
            unproven: false,
            settle_ms: 0,
            lead_ms: 0,
        };
        match inventory
            .systems
            .iter_mut()
            .find(|system| system.name == place.system)
        {
            Some(system) => system.datasets.push(dataset),
            None => inventory.systems.push(InventorySystem {
                name: place.system,
                locates: true,
                locates_by: Vec::new(),
                datasets: vec![dataset],
                quarantined: 0,
                backup_days: None,
                away: false,
            }),
        }
    }
    inventory.flows = flows
        .iter()
        .map(|flow| flow.split_once('>').map(|(a, b)| (place(a), place(b))).unwrap())
        .collect();
    inventory
}

fn check(datasets: &[&str], flows: &[&str], identities: &[&str], expected: &[&str]) {
    let identities: BTreeSet<DatasetRef> = identities.iter().map(|text| place(text)).collect();
    let inventory = inventory(datasets, flows);
    let found: Vec<String> = layers(&inventory, &identities)
        .iter()
        .map(|layer| {
            layer
                .iter()
                .map(|p| format!("{}/{}", p.system, p.dataset))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(found, expected);
    let flat: Vec<DatasetRef> = layers(&inventory, &identities).concat();
    let at = |place: &DatasetRef| flat.iter().position(|other| other == place).unwrap();
    for (first, second) in must_precede(&inventory, &identities) {
        assert!(at(&first) < at(&second), "{first:?} before {second:?}");
    }
}

#[test]
fn without_flows_everything_is_one_layer() {
    check(&["web/log", "shop/orders"], &[], &[], &["shop/orders web/log"]);
}

#[test]
fn a_source_comes_before_the_copies_that_it_would_refill() {
    check(
        &["lake/people", "shop/accounts", "crm/contacts"],
        &["shop/accounts>crm/contacts", "crm/contacts>lake/people"],
        &[],
        &["shop/accounts", "crm/contacts", "lake/people"],
    );
}

#[test]
fn children_come_before_parents() {
    check(
        &["shop/accounts<orders", "shop/orders<payments", "shop/payments"],
        &[],
        &[],
        &["shop/payments", "shop/orders", "shop/accounts"],
    );
}

#[test]
fn identity_sources_come_last_unless_they_refill() {
    check(
        &["login/accounts", "web/log", "crm/contacts"],
        &["login/accounts>crm/contacts"],
        &["login/accounts"],
        &["web/log", "login/accounts", "crm/contacts"],
    );
}

#[test]
fn two_identity_sources_with_copies_do_not_wait_for_each_others_copies() {
    check(
        &[
            "login/accounts",
            "shop/people",
            "web/log",
            "crm/contacts",
            "chat/people",
        ],
        &["login/accounts>chat/people", "shop/people>crm/contacts"],
        &["login/accounts", "shop/people"],
        &[
            "web/log",
            "login/accounts shop/people",
            "chat/people crm/contacts",
        ],
    );
}

#[test]
fn a_circle_has_no_order_of_its_own_and_stops_nothing() {
    check(
        &["a/x", "b/x", "c/x", "d/x"],
        &["a/x>b/x", "b/x>a/x", "b/x>c/x", "nowhere/x>d/x"],
        &[],
        &["a/x b/x d/x", "c/x"],
    );
}

#[test]
fn pairs_reach_along_others() {
    let inventory = inventory(&["a/x", "b/x", "c/x"], &["a/x>b/x", "b/x>c/x"]);
    let pairs = must_precede(&inventory, &BTreeSet::new());
    assert_eq!(
        pairs,
        [
            (place("a/x"), place("b/x")),
            (place("a/x"), place("c/x")),
            (place("b/x"), place("c/x"))
        ]
    );
}
