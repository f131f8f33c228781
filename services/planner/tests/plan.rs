//! The order of steps, and what the linter remarks.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lethe_casework::{PlanProgress, StepProgress};
use lethe_journal::{
    DatasetRef, Inventory, InventoryDataset, InventorySystem, Person, Plan, RemarkCode, Sealed,
};
use lethe_planner::{Basis, Holding, Request, digest, lint};
use lethe_terms::{CaseId, RecordToken, Right, Timestamp, Verb};

fn place(text: &str) -> DatasetRef {
    let (system, dataset) = text.split_once('.').unwrap();
    DatasetRef {
        system: system.parse().unwrap(),
        dataset: dataset.parse().unwrap(),
    }
}

/// An inventory of `system.dataset` places.
fn inventory(places: &[&str], flows: &[(&str, &str)]) -> Inventory {
    let mut inventory = Inventory {
        systems: Vec::new(),
        flows: flows.iter().map(|(from, to)| (place(from), place(to))).collect(),
    };
    for text in places {
        let DatasetRef { system, dataset } = place(text);
        let dataset = InventoryDataset {
            name: dataset,
            verbs: vec![Verb::Erase],
            categories: Vec::new(),
            keeps: Vec::new(),
            after: Vec::new(),
            unproven: false,
            settle_ms: 0,
            lead_ms: 0,
        };
        match inventory.systems.iter_mut().find(|known| known.name == system) {
            Some(known) => known.datasets.push(dataset),
            None => inventory.systems.push(InventorySystem {
                name: system,
                locates: false,
                locates_by: Vec::new(),
                datasets: vec![dataset],
                quarantined: 0,
                backup_days: None,
                away: false,
            }),
        }
    }
    inventory
}

fn dataset<'a>(inventory: &'a mut Inventory, text: &str) -> &'a mut InventoryDataset {
    let DatasetRef { system, dataset } = place(text);
    let system = inventory
        .systems
        .iter_mut()
        .find(|known| known.name == system)
        .unwrap();
    system
        .datasets
        .iter_mut()
        .find(|known| known.name == dataset)
        .unwrap()
}

fn holding(text: &str, record: u8) -> Holding {
    let DatasetRef { system, dataset } = place(text);
    Holding {
        record: RecordToken::from_bytes([record; 16]),
        system,
        dataset,
        via: Vec::new(),
    }
}

fn basis(places: &[&str]) -> Basis {
    Basis {
        suspicious: Vec::new(),
        doubtful: BTreeSet::new(),
        fruitless: BTreeSet::new(),
        holdings: places
            .iter()
            .zip(1..)
            .map(|(text, record)| holding(text, record))
            .collect(),
        selectors: places
            .iter()
            .map(|text| (place(text), Sealed::from_bytes(vec![1])))
            .collect(),
        identity_sources: BTreeSet::new(),
        read_up_to: Vec::new(),
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const DUE: Timestamp = Timestamp::from_millis(2_000_000);

fn request(number: u32) -> Request {
    Request {
        case: CaseId::from_bytes([1; 8]),
        right: Right::Erasure,
        verb: Verb::Erase,
        number,
        nonce: [7; 16],
        now: NOW,
        due: DUE,
        held: std::collections::BTreeMap::new(),
    }
}

fn person() -> Person {
    Person {
        tokens: Vec::new(),
        identifiers: Sealed::from_bytes(vec![2]),
        not_followed: Vec::new(),
    }
}

fn plan(request: &Request, basis: &Basis, inventory: &Inventory, earlier: Option<&PlanProgress>) -> Plan {
    lethe_planner::plan(request, basis, &person(), inventory, earlier)
}

/// The plan as it is before anything came of it.
fn begun(plan: Plan) -> PlanProgress {
    PlanProgress {
        steps: vec![StepProgress::default(); plan.steps.len()],
        digest: digest(&plan),
        plan,
        statement: String::new(),
        person: person(),
        logged: None,
        approved: None,
        additions: 0,
    }
}

/// Each step with those that it waits for.
fn steps(plan: &Plan) -> Vec<String> {
    let line = |step: &lethe_journal::Step| {
        format!(
            "{} {}.{} after {:?}",
            step.step, step.system, step.dataset, step.after
        )
    };
    plan.steps.iter().map(line).collect()
}

fn remarks(plan: &Plan, holdings: &[Holding], inventory: &Inventory) -> Vec<String> {
    lint(plan, holdings, inventory, DUE)
        .iter()
        .map(|remark| {
            let dataset = remark.dataset.as_ref().map_or("-", |dataset| dataset.as_str());
            format!(
                "{} {} {dataset} {:?}",
                remark.code.code(),
                remark.system.as_ref().map_or("-", |system| system.as_str()),
                remark.detail
            )
        })
        .collect()
}

#[test]
fn a_source_comes_before_the_copy_that_it_would_refill() {
    let places = ["archive.rows", "crm.people", "shop.people"];
    let inventory = inventory(
        &places,
        &[("shop.people", "crm.people"), ("crm.people", "archive.rows")],
    );
    let made = plan(&request(1), &basis(&places), &inventory, None);
    assert_eq!(
        steps(&made),
        [
            "0 shop.people after []",
            "1 crm.people after [0]",
            "2 archive.rows after [0, 1]"
        ]
    );
}

#[test]
fn a_source_waits_across_a_dataset_that_holds_nothing() {
    let places = ["archive.rows", "crm.people", "shop.people"];
    let inventory = inventory(
        &places,
        &[("shop.people", "crm.people"), ("crm.people", "archive.rows")],
    );
    let made = plan(
        &request(1),
        &basis(&["archive.rows", "shop.people"]),
        &inventory,
        None,
    );
    assert_eq!(
        steps(&made),
        ["0 shop.people after []", "1 archive.rows after [0]"]
    );
}

#[test]
fn children_come_before_their_parent() {
    let places = ["shop.customers", "shop.orders"];
    let mut inventory = inventory(&places, &[]);
    dataset(&mut inventory, "shop.customers").after = vec!["orders".parse().unwrap()];
    let made = plan(&request(1), &basis(&places), &inventory, None);
    assert_eq!(
        steps(&made),
        ["0 shop.orders after []", "1 shop.customers after [0]"]
    );
}

#[test]
fn where_the_walk_found_its_way_on_comes_last_and_stays_last_in_a_later_plan() {
    let places = ["copy.x", "login.x", "web.x"];
    let inventory = inventory(&places, &[("login.x", "copy.x")]);
    let mut from = basis(&places);
    from.identity_sources.insert(place("login.x"));
    let expected = ["0 web.x after []", "1 login.x after [0]", "2 copy.x after [0, 1]"];
    let first = plan(&request(1), &from, &inventory, None);
    assert_eq!(steps(&first), expected);
    // The next walk starts at what the login had given away.
    let second = plan(&request(2), &basis(&places), &inventory, Some(&begun(first)));
    assert_eq!(steps(&second), expected);
}

#[test]
fn datasets_that_feed_each_other_wait_for_their_source_and_not_for_each_other() {
    let places = ["a.x", "b.x", "source.x"];
    let inventory = inventory(&places, &[("a.x", "b.x"), ("b.x", "a.x"), ("source.x", "b.x")]);
    let made = plan(&request(1), &basis(&places), &inventory, None);
    assert_eq!(
        steps(&made),
        ["0 source.x after []", "1 a.x after [0]", "2 b.x after [0]"]
    );
}

#[test]
fn a_plan_is_the_same_in_whatever_order_its_basis_is() {
    let places = ["a.x", "b.x"];
    let inventory = inventory(&places, &[]);
    let forward = plan(&request(1), &basis(&places), &inventory, None);
    let mut turned = basis(&places);
    turned.holdings.reverse();
    assert_eq!(
        digest(&plan(&request(1), &turned, &inventory, None)),
        digest(&forward)
    );
}

#[test]
fn a_new_plan_names_no_place_twice_and_keeps_what_is_not_reached_any_more() {
    let places = ["a.x", "b.x"];
    let inventory = inventory(&places, &[]);
    let mut first = basis(&places);
    first.holdings.push(holding("a.x", 9));
    let first = plan(&request(1), &first, &inventory, None);
    // One of the two records of a, and all of b, are gone.
    let second = plan(&request(2), &basis(&["a.x"]), &inventory, Some(&begun(first)));
    assert_eq!(steps(&second), ["0 a.x after []", "1 b.x after []"]);
    let kept: Vec<u8> = second.steps[0]
        .records
        .iter()
        .map(|holding| holding.record.as_bytes()[0])
        .collect();
    assert_eq!(kept, [1, 9], "the record that nothing leads to any more, too");
}

#[test]
fn where_nothing_was_found_it_is_looked_last_whether_that_is_so() {
    let places = ["b.empty", "b.held", "a.empty", "a.blind"];
    let mut inventory = inventory(&places, &[("b.empty", "b.held")]);
    for text in &places[..3] {
        dataset(&mut inventory, text).verbs.push(Verb::Observe);
    }
    let made = plan(&request(1), &basis(&["b.held"]), &inventory, None);
    assert_eq!(
        steps(&made),
        ["0 b.held after []", "1 a.empty after [0]", "2 b.empty after [0]"],
        "each that can be observed"
    );
    for look in &made.steps[1..] {
        assert_eq!((look.verb, look.records.len()), (Verb::Observe, 0));
        assert_eq!(look.selectors, person().identifiers);
    }
    assert_eq!(made.acting().count(), 1);
    // Once something is found there, it is acted on, and nothing is named twice.
    let both = basis(&["b.held", "b.empty"]);
    let second = plan(&request(2), &both, &inventory, Some(&begun(made)));
    assert_eq!(
        steps(&second),
        [
            "0 b.empty after []",
            "1 b.held after [0]",
            "2 a.empty after [0, 1]"
        ]
    );
}

#[test]
fn the_linter_remarks_a_holding_without_a_step() {
    let inventory = inventory(&["shop.people"], &[]);
    let held = [holding("shop.people", 1), holding("cellar.tapes", 2)];
    let mut from = basis(&["shop.people"]);
    from.holdings = held.to_vec();
    let made = plan(&request(1), &from, &inventory, None);
    assert_eq!(
        remarks(&made, &held, &inventory),
        ["holding_without_step cellar tapes []"]
    );
    assert!(made.remarks.iter().all(|remark| remark.code.is_fatal()));
}

#[test]
fn the_linter_remarks_what_an_erasure_leaves_in_place() {
    let mut inventory = inventory(&["crm.people", "shop.people"], &[]);
    dataset(&mut inventory, "shop.people").keeps = vec!["invoice_number".into()];
    dataset(&mut inventory, "crm.people").verbs = vec![Verb::Restrict];
    let from = basis(&["crm.people", "shop.people"]);
    let made = plan(&request(1), &from, &inventory, None);
    assert_eq!(
        remarks(&made, &from.holdings, &inventory),
        [
            "field_not_erasable crm people [\"erase is not supported\"]",
            "field_not_erasable shop people [\"invoice_number\"]"
        ]
    );
    assert!(!made.remarks.iter().any(|remark| remark.code.is_fatal()));
}

#[test]
fn the_linter_remarks_a_copy_whose_source_is_left_alone() {
    let inventory = inventory(&["crm.people", "shop.people"], &[("shop.people", "crm.people")]);
    let both = basis(&["crm.people", "shop.people"]);
    let mut made = plan(&request(1), &both, &inventory, None);
    made.steps.retain(|step| step.system.as_str() == "crm");
    assert_eq!(
        remarks(&made, &both.holdings, &inventory),
        [
            "holding_without_step shop people []",
            "copy_will_be_refilled crm people [\"shop.people\"]"
        ]
    );
}

#[test]
fn the_linter_remarks_a_lead_time_beyond_the_deadline() {
    let mut inventory = inventory(&["shop.people"], &[]);
    let from = basis(&["shop.people"]);
    let lead = &mut dataset(&mut inventory, "shop.people").lead_ms;
    *lead = 1_000_000;
    let made = plan(&request(1), &from, &inventory, None);
    assert_eq!(
        remarks(&made, &from.holdings, &inventory),
        [""; 0],
        "just in time"
    );
    dataset(&mut inventory, "shop.people").settle_ms = 1;
    let made = plan(&request(1), &from, &inventory, None);
    let [late] = made.remarks.as_slice() else {
        unreachable!()
    };
    assert_eq!(late.code, RemarkCode::LeadTimeBreaksDeadline);
    assert_eq!(late.detail, ["1970-01-01T00:16:39.999Z"]);
}

#[test]
fn the_linter_remarks_input_that_stands_in_quarantine() {
    let mut inventory = inventory(&["shop.people"], &[]);
    inventory.systems[0].quarantined = 3;
    let from = basis(&["shop.people"]);
    // What a search may find in spite of it, and what nothing finds.
    for (locates, code, leaves_open) in [
        (true, "quarantine_may_hide", false),
        (false, "quarantine_not_searchable", true),
    ] {
        inventory.systems[0].locates = locates;
        let made = plan(&request(1), &from, &inventory, None);
        assert_eq!(
            remarks(&made, &from.holdings, &inventory),
            [format!("{code} shop - [\"3\"]")]
        );
        assert_eq!(made.remarks[0].code.leaves_open(), leaves_open);
    }
}

#[test]
fn an_identifier_that_nothing_is_looked_for_by_is_remarked() {
    let mut inventory = inventory(&["shop.people"], &[]);
    inventory.systems[0].locates_by = vec!["email".parse().unwrap(), "user_id@shop".parse().unwrap()];
    let given = |kinds: &[&str], earlier: Option<&PlanProgress>| {
        let mut basis = basis(&[]);
        basis.fruitless = kinds.iter().map(|kind| kind.parse().unwrap()).collect();
        plan(&request(1), &basis, &inventory, earlier)
    };
    let remarks = |plan: &Plan| -> Vec<String> {
        let line = |remark: &lethe_journal::Remark| format!("{} {:?}", remark.code.code(), remark.detail);
        plan.remarks.iter().map(line).collect()
    };
    let searched = given(&["email", "user_id@shop"], None);
    assert_eq!(remarks(&searched), Vec::<String>::new());
    let not_searched = given(&["cookie_id", "email", "user_id", "user_id@shopp"], None);
    let expected = ["user_id", "user_id@shopp", "cookie_id"]
        .map(|kind| format!("identifier_not_searchable [\"{kind}\"]"));
    assert_eq!(remarks(&not_searched), expected);

    // What a plan has erased leads nowhere afterwards; what led nowhere then still does.
    let again = given(&["cookie_id"], Some(&begun(searched)));
    assert_eq!(remarks(&again), Vec::<String>::new());
    let again = given(&["cookie_id"], Some(&begun(not_searched)));
    assert_eq!(remarks(&again), expected[2..]);
}
