//! What walks come upon while a case is under way, and what follows from it.

use lethe_journal::{CaseEvent, CloseReason, Command};
use lethe_planner::Suspicion;
use lethe_terms::{CaseState, FailureClass, IdentifierKind, Observed, Right};

use crate::parts::place;
use crate::world::{Whim, World, case, command, name};

fn opened() -> World {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Erasure, None);
    world
}

fn not_followed(kind: IdentifierKind) -> World {
    let mut world = opened();
    world.suspicious.push(Suspicion {
        place: place(&name("crm")),
        kind,
        found: 6,
    });
    world.run();
    world
}

#[test]
fn an_erasure_with_a_strong_identifier_that_was_not_followed_ends_with_exceptions() {
    let world = not_followed(IdentifierKind::Email);
    let plan = &world.conductor.case(case(1)).unwrap().plan().unwrap().plan;
    assert_eq!(plan.remarks[0].code.code(), "identifier_not_followed");
    assert_eq!(world.state(1), CaseState::CompletedWithExceptions);
    assert!(world.held.values().all(|state| *state == Observed::Absent));
}

#[test]
fn a_weak_identifier_of_several_people_is_left_alone_and_remarked() {
    let world = not_followed(IdentifierKind::CookieId);
    let plan = &world.conductor.case(case(1)).unwrap().plan().unwrap().plan;
    assert_eq!(plan.remarks[0].code.code(), "suspicious_fan_out");
    assert_eq!(world.state(1), CaseState::Completed);
}

/// A case whose first plan has erased in `crm` and not yet in `shop`. By then nobody sees several people behind the address any more, and along it
/// stands somebody else's record.
fn half_erased(wait: impl FnOnce(&mut World)) -> World {
    let mut world = opened();
    world.held.insert((2, name("shop")), Observed::Present);
    world.neighbour = Some(2);
    world.suspicious.push(Suspicion {
        place: place(&name("crm")),
        kind: IdentifierKind::Email,
        found: 6,
    });
    wait(&mut world);
    world.run();
    assert_eq!(world.held[&(1, name("crm"))], Observed::Absent);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
    world.suspicious.clear();
    world.crash();
    world
}

fn assert_only_the_persons_are_erased(world: &World, plans: u32) {
    assert_eq!(world.state(1), CaseState::CompletedWithExceptions);
    let plan = &world.conductor.case(case(1)).unwrap().plan().unwrap().plan;
    assert_eq!(plan.number, plans);
    assert_eq!(plan.remarks[0].code.code(), "identifier_not_followed");
    assert_eq!(world.held[&(1, name("shop"))], Observed::Absent);
    assert_eq!(world.held[&(2, name("shop"))], Observed::Present);
}

#[test]
fn what_several_people_stood_behind_is_not_followed_before_the_statement() {
    let mut world = half_erased(|world| {
        let shop = world.system("shop");
        shop.acting.push_back(Whim::Ticket);
        shop.silent = true;
    });
    for _ in 0..3 {
        world.speak("shop");
        world.run();
    }
    assert_only_the_persons_are_erased(&world, 1);
}

#[test]
fn what_several_people_stood_behind_is_not_followed_when_the_case_is_planned_again() {
    let mut world = half_erased(|world| {
        let failed = Whim::Fail(FailureClass::Final);
        world.system("shop").acting.push_back(failed);
    });
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    replan(&mut world);
    assert_only_the_persons_are_erased(&world, 2);
}

const BOUND: &str = "lineage-too-many-records";

fn assert_waits(world: &World) {
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    let known = world.conductor.case(case(1)).unwrap();
    let attention = known.attention();
    assert_eq!((attention.len(), &attention[0].system), (1, &None));
    assert_eq!(attention[0].code, BOUND);
}

fn replan(world: &mut World) {
    world.say(Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    assert!(world.refused.is_empty(), "{:?}", world.refused);
}

#[test]
fn a_walk_that_comes_to_a_bound_before_the_plan_is_shown_to_a_person_and_taken_again_on_demand() {
    let mut world = opened();
    world.bound = Some(BOUND);
    // It comes to rest, so no walk is asked for again and again.
    world.run();
    assert_waits(&world);
    world.crash();
    world.run();
    assert_waits(&world);
    replan(&mut world);
    assert_waits(&world);
    world.bound = None;
    world.say(Command::Replan {
        command: command(7),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn a_walk_that_comes_to_a_bound_before_the_first_instruction_keeps_the_plan_from_acting() {
    let mut world = opened();
    world.approving = false;
    world.run();
    world.bound = Some(BOUND);
    world.approving = true;
    world.run();
    assert_waits(&world);
    world.crash();
    world.run();
    assert_waits(&world);
    assert!(world.sent.is_empty(), "nothing went out");
    world.bound = None;
    replan(&mut world);
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn a_walk_that_comes_to_a_bound_before_the_statement_gives_no_certificate() {
    let mut world = opened();
    world.system("shop").silent = true;
    world.run();
    world.bound = Some(BOUND);
    world.speak("shop");
    world.run();
    world.speak("shop");
    world.run();
    assert_waits(&world);
    let asked = |(.., event): &(_, _, _, CaseEvent)| matches!(event, CaseEvent::StatementAsked { .. });
    assert!(!world.journal.iter().any(asked));
    world.say(Command::Close {
        command: command(9),
        case: case(1),
        reason: CloseReason::SystemFailed,
    });
    world.run();
    assert_eq!(world.state(1), CaseState::NotCompleted);
}

#[test]
fn a_case_whose_walk_came_to_a_bound_can_be_taken_back() {
    let mut world = opened();
    world.bound = Some(BOUND);
    world.run();
    world.say(Command::Withdraw {
        command: command(9),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::Withdrawn);
}
