//! What walks come upon while a case is under way, and what follows from it.

use lethe_planner::Suspicion;
use lethe_terms::{CaseState, IdentifierKind, Observed, Right};

use crate::parts::place;
use crate::world::{World, case, name};

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
