//! What only adds to an approved plan goes through; everything else waits for a person.

use lethe_casework::ADDITIONS_MAX;
use lethe_conductor::Input;
use lethe_journal::RemarkCode;
use lethe_planner::Suspicion;
use lethe_terms::{CaseState, IdentifierKind, Observed, Right, SystemName};

use crate::parts::{place, token};
use crate::world::{World, case, command, name};

fn times(world: &World, word: &str) -> usize {
    world
        .transcript
        .iter()
        .filter(|line| line.starts_with(word))
        .count()
}

/// A case whose plan was approved while what `change` does happened, and that is not approved again.
fn changed_while_it_waited(change: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(&["crm", "shop"], &[1], true);
    world.open(1, 1, Right::Erasure, None);
    world.approving = false;
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    world.behind.insert((1, name("shop")), Observed::Present);
    change(&mut world);
    world.approve_once();
    world.run();
    world
}

fn assert_waits_for_a_person(world: &World) {
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    assert_eq!(times(world, "addition_approved"), 0);
    assert_eq!(times(world, "erase"), 0, "nothing was erased");
}

#[test]
fn a_record_that_appears_where_the_approved_plan_acts_is_erased_without_another_approval() {
    let mut world = changed_while_it_waited(|_| {});
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(
        (times(&world, "approved"), times(&world, "addition_approved")),
        (1, 1)
    );
    let at = |word: &str| {
        world
            .transcript
            .iter()
            .rposition(|line| line.starts_with(word))
            .unwrap()
    };
    assert!(at("plan_logged") < at("addition_approved"));
    assert!(at("addition_approved") < at("erase"));
    assert_eq!(world.behind[&(1, name("shop"))], Observed::Absent);
    let ended = world.ending();
    world.crash();
    world.run();
    assert_eq!(world.ending(), ended, "the history says that it went through");
}

#[test]
fn a_new_dataset_waits_for_a_person() {
    let world = changed_while_it_waited(|world| world.change_systems(&["chat", "crm", "shop"], &[1]));
    assert_waits_for_a_person(&world);
}

#[test]
fn a_new_identifier_waits_for_a_person() {
    let world = changed_while_it_waited(|world| world.further.push(token(77)));
    assert_waits_for_a_person(&world);
}

#[test]
fn a_new_remark_waits_for_a_person() {
    let world = changed_while_it_waited(|world| {
        world.suspicious.push(Suspicion {
            place: place(&name("crm")),
            kind: IdentifierKind::Email,
            found: 6,
        });
    });
    assert_waits_for_a_person(&world);
}

#[test]
fn a_remark_that_only_counts_more_than_before_waits_for_nobody() {
    let mut world = World::new(&["crm", "shop"], &[1], true);
    let suspicion = |found| Suspicion {
        place: place(&name("crm")),
        kind: IdentifierKind::Email,
        found,
    };
    world.suspicious.push(suspicion(6));
    world.open(1, 1, Right::Erasure, None);
    world.approving = false;
    world.run();
    world.behind.insert((1, name("shop")), Observed::Present);
    world.suspicious = vec![suspicion(7)];
    world.approve_once();
    world.run();
    assert_eq!(world.state(1), CaseState::CompletedWithExceptions);
}

/// The company as it is from now on: so many inputs of this system are in quarantine.
fn quarantined(world: &mut World, system: &str, inputs: u64) {
    let known = world.inventory.systems.iter_mut();
    for known in known.filter(|known| known.name == name(system)) {
        known.quarantined = inputs;
    }
    let inventory = world.inventory.clone();
    world.inputs.push_back(Input::InventoryChanged(inventory));
}

fn remarked(world: &World) -> Vec<(RemarkCode, Option<SystemName>)> {
    let present = world.conductor.case(case(1)).unwrap().plan().unwrap();
    let remarks = present.plan.remarks.iter();
    remarks
        .map(|remark| (remark.code, remark.system.clone()))
        .collect()
}

#[test]
fn input_that_nobody_could_read_between_plan_and_approval_is_said_before_anything_is_done() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Erasure, None);
    world.approving = false;
    world.run();
    assert_eq!(remarked(&world), []);
    quarantined(&mut world, "crm", 1);
    world.run();
    world.approve_once();
    world.run();
    assert_eq!(world.state(1), CaseState::CompletedWithExceptions);
    let said = (RemarkCode::QuarantineNotSearchable, Some(name("crm")));
    assert_eq!(remarked(&world), [said]);
    assert_eq!(times(&world, "erase"), 2, "each system was told once");
}

#[test]
fn input_that_nobody_could_read_before_the_statement_is_said_once_a_system() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.system("shop").silent = true;
    world.open(1, 1, Right::Erasure, None);
    world.run();
    world.approving = false;
    for inputs in 1..20 {
        quarantined(&mut world, "crm", inputs);
        world.speak("shop");
        world.system("shop").silent = true;
        world.run();
    }
    assert_eq!(world.state(1), CaseState::CompletedWithExceptions);
    assert_eq!(times(&world, "addition_approved"), 1);
    let said = (RemarkCode::QuarantineNotSearchable, Some(name("crm")));
    assert_eq!(remarked(&world), [said]);
}

#[test]
fn input_of_a_system_that_can_be_searched_leaves_nothing_open() {
    let mut world = World::new(&["crm", "shop"], &[1], true);
    world.open(1, 1, Right::Erasure, None);
    world.approving = false;
    world.run();
    quarantined(&mut world, "crm", 1);
    world.approve_once();
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(times(&world, "new_holdings"), 0);
}

#[test]
fn a_plan_that_lost_a_record_waits_for_a_person() {
    let world = changed_while_it_waited(|world| {
        world.held.insert((1, name("shop")), Observed::Absent);
    });
    assert_waits_for_a_person(&world);
}

#[test]
fn a_plan_that_a_person_asked_for_waits_for_them() {
    let mut world = World::new(&["shop"], &[1], false);
    world.refuse_next("shop");
    world.open(1, 1, Right::Erasure, None);
    world.run();
    world.approving = false;
    world.say(lethe_journal::Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
}

#[test]
fn a_person_sees_what_keeps_coming_back() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.system("shop").silent = true;
    world.open(1, 1, Right::Erasure, None);
    world.run();
    world.approving = false;
    for _ in 0..100 {
        // The shop is the last to answer, and what the other had erased is there again.
        world.held.insert((1, name("crm")), Observed::Present);
        world.speak("shop");
        world.system("shop").silent = true;
        world.run();
    }
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    let through = usize::try_from(ADDITIONS_MAX).unwrap();
    assert_eq!(times(&world, "addition_approved"), through);
    world.speak("shop");
    world.approving = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    world.assert_once();
}
