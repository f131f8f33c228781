//! What an erasure takes of the restriction that it supersedes, and what it leaves.

use lethe_conductor::Input;
use lethe_journal::{Command, Token};
use lethe_terms::{CaseState, FailureClass, IdentifierKind, Observed, Right, Verb};

use crate::parts::token;
use crate::world::{Whim, World, case, command, name};

fn restricted() -> World {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    world
}

/// The erasure of the first person, while lineage leads to no record of the shop.
fn erase_without_shop(world: &mut World) {
    let there = world.held.remove(&(1, name("shop"))).unwrap();
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    world.held.insert((1, name("shop")), there);
}

fn is_restricted(world: &World) -> bool {
    let restriction = world.conductor.case(case(1)).unwrap();
    world.conductor.is_restricted(restriction)
}

fn lift(world: &mut World) {
    let notified_at = world.now.plus_millis(-1);
    world.say(Command::Lift {
        command: command(9),
        case: case(1),
        notified_at,
    });
    world.run();
}

#[test]
fn what_the_erasure_did_not_cover_stays_restricted_and_protected_until_it_is_lifted() {
    let mut world = restricted();
    erase_without_shop(&mut world);
    for _ in 0..2 {
        assert!(is_restricted(&world), "the shop still restricts its record");
        world.crash();
    }
    world.open(3, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(3), CaseState::Acting, "the restriction holds it up");
    assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);

    lift(&mut world);
    assert_eq!(world.refused, []);
    assert_eq!(world.state(1), CaseState::Completed);
    let lifts = world.sent.iter().filter(|order| order.verb == Verb::Lift);
    let lifted: Vec<_> = lifts.map(|order| order.system.as_str()).collect();
    assert_eq!(lifted, ["shop"], "what was erased is not lifted");
    assert!(!is_restricted(&world));
    assert_eq!(world.state(3), CaseState::Completed);
    assert!(world.held.values().all(|there| *there == Observed::Absent));
}

#[test]
fn a_restriction_that_failed_goes_on_for_what_the_erasure_did_not_cover() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    let fails = Whim::Fail(FailureClass::Final);
    world.system("crm").acting.push_back(fails);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    erase_without_shop(&mut world);
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world.crash();
    let restriction = world.conductor.case(case(1)).unwrap();
    assert_eq!(restriction.given_up_for, None);
    world.say(Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert!(is_restricted(&world));
    lift(&mut world);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
}

#[test]
fn a_second_erasure_takes_what_the_first_one_left_of_the_restriction() {
    let mut world = restricted();
    erase_without_shop(&mut world);
    world.open(3, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(3), CaseState::Completed);
    assert!(!is_restricted(&world));
    world.crash();
    assert!(!is_restricted(&world));
}

#[test]
fn what_was_not_there_to_be_restricted_no_erasure_has_to_cover() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.system("shop").acting.push_back(Whim::Lose);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    assert!(!is_restricted(&world));
}

#[test]
fn an_identifier_that_people_may_share_does_not_give_up_a_restriction() {
    for kind in [
        IdentifierKind::CookieId,
        IdentifierKind::DeviceId,
        IdentifierKind::Ip,
    ] {
        let shared = Token { kind, ..token(7) };
        let mut world = World::new(&["shop"], &[1, 2], false);
        world.open(1, 1, Right::Restriction, None);
        share(&mut world, shared);
        world.run();
        world.open(2, 2, Right::Erasure, Some(case(1)));
        share(&mut world, shared);
        world.run();
        assert_eq!(
            world.refused,
            [(command(2), "conductor-supersedes-other")],
            "{kind}"
        );
        assert!(is_restricted(&world));
    }
}

fn share(world: &mut World, shared: Token) {
    if let Some(Input::Command { tokens, .. }) = world.inputs.back_mut() {
        tokens.push(shared);
    }
}
