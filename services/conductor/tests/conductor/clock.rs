//! The clock is set back while a case is under way.

use lethe_terms::{CaseState, Right, Timestamp, Verb};

use crate::world::{World, case};

/// More than a verifier lets clocks differ.
const BACK_MS: i64 = -900_000;

fn set_back(world: &mut World) {
    world.now = world.now.plus_millis(BACK_MS);
}

fn issued_at(world: &World) -> Timestamp {
    world.statement(1)["issued_at"].as_str().unwrap().parse().unwrap()
}

/// What is signed in the case is not dated before what led to it, and nothing waits for the clock to catch up.
fn assert_in_order(world: &World) {
    assert_eq!(world.state(1), CaseState::Completed);
    let known = world.conductor.case(case(1)).unwrap();
    let frozen_at = known.plan().unwrap().plan.frozen_at;
    assert!(frozen_at >= known.opening.received_at);
    let not_before = |verb: Verb| {
        let planned = world
            .sent
            .iter()
            .rfind(|order| order.verb == verb)?
            .planned
            .as_ref()?;
        planned.not_before
    };
    let (acted, seen) = (
        not_before(Verb::Erase).unwrap(),
        not_before(Verb::Observe).unwrap(),
    );
    assert!(frozen_at <= acted && acted <= seen && seen <= issued_at(world));
    assert!(world.now < seen, "the clock has not caught up");
}

#[test]
fn a_clock_that_is_set_back_before_the_plan_dates_nothing_before_the_request() {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Erasure, None);
    set_back(&mut world);
    world.run();
    assert_in_order(&world);
}

#[test]
fn a_clock_that_is_set_back_after_the_plan_dates_no_receipt_before_it() {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Erasure, None);
    world.approving = false;
    world.run();
    set_back(&mut world);
    world.approving = true;
    world.run();
    assert_in_order(&world);
}

#[test]
fn a_clock_that_is_set_back_after_the_receipt_dates_no_observation_before_it() {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Erasure, None);
    world.system("shop").silent = true;
    world.run();
    world.speak("shop");
    world.system("shop").silent = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Observing);
    set_back(&mut world);
    world.crash();
    world.run();
    world.speak("shop");
    world.run();
    assert_in_order(&world);
}
