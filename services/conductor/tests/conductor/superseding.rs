//! What an erasure takes of the restriction that it supersedes, and what it leaves.

use lethe_conductor::Input;
use lethe_journal::{CloseReason, Command, Token};
use lethe_terms::{CaseState, IdentifierKind, Observed, Right, Verb};

use crate::parts::{place, token};
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
    is_in_force(world, 1)
}

fn is_in_force(world: &World, number: u8) -> bool {
    let restriction = world.conductor.case(case(number)).unwrap();
    world.conductor.is_restricted(restriction)
}

fn lift(world: &mut World) {
    lift_of(world, 1);
}

fn lift_of(world: &mut World, number: u8) {
    world.lift(number, 30 + number, -1);
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
    world.refuse_next("crm");
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

/// Two restrictions of the same records are in force.
fn restricted_twice() -> World {
    let mut world = restricted();
    world.open(2, 1, Right::Restriction, None);
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    world
}

#[test]
fn two_erasures_that_both_give_up_a_restriction_do_not_wait_for_each_other() {
    let mut world = restricted_twice();
    world.open(3, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(
        world.state(3),
        CaseState::Acting,
        "the other restriction holds it"
    );
    assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);
    world.open(4, 1, Right::Erasure, Some(case(2)));
    world.run();
    for _ in 0..2 {
        assert_eq!(
            [3, 4].map(|number| world.state(number)),
            [CaseState::Completed; 2]
        );
        assert!(!is_in_force(&world, 1) && !is_in_force(&world, 2));
        world.crash();
        world.run();
    }
    assert_eq!(world.held[&(1, name("shop"))], Observed::Absent);
}

#[test]
fn nothing_is_released_that_another_restriction_claims_though_an_erasure_is_to_give_that_up() {
    let mut world = restricted_twice();
    world.refuse_next("shop");
    world.open(3, 1, Right::Erasure, Some(case(1)));
    world.run();
    lift_of(&mut world, 2);
    for _ in 0..2 {
        assert_eq!(
            world.state(3),
            CaseState::NeedsAttention,
            "the shop has refused it"
        );
        assert_eq!(world.state(2), CaseState::Acting, "its lift waits");
        assert!(is_restricted(&world));
        assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);
        assert_eq!(world.held[&(1, name("crm"))], Observed::Absent);
        world.crash();
        world.run();
    }
    lift(&mut world);
    assert_eq!(
        [1, 2].map(|number| world.state(number)),
        [CaseState::Completed; 2]
    );
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
}

/// Opens a case about the first person, while lineage leads to no record of that system.
fn open_without(world: &mut World, system: &str, number: u8, right: Right, supersedes: Option<u8>) {
    let there = world.held.remove(&(1, name(system)));
    world.open(number, 1, right, supersedes.map(case));
    world.run();
    world.held.extend(there.map(|there| ((1, name(system)), there)));
}

#[test]
fn an_erasure_on_which_another_one_relied_is_not_taken_back() {
    let mut world = World::new(&["shop", "web"], &[1], false);
    world.inventory.flows = vec![(place(&name("web")), place(&name("shop")))];
    world
        .inputs
        .push_back(Input::InventoryChanged(world.inventory.clone()));
    open_without(&mut world, "web", 1, Right::Restriction, None);
    open_without(&mut world, "web", 2, Right::Restriction, None);
    open_without(&mut world, "shop", 5, Right::Restriction, None);
    open_without(&mut world, "web", 3, Right::Erasure, Some(1));
    assert_eq!(world.state(3), CaseState::Acting);
    world.open(4, 1, Right::Erasure, Some(case(2)));
    world.run();
    assert_eq!(
        world.state(4),
        CaseState::Acting,
        "what is restricted in web comes first"
    );
    assert_eq!(
        world.held[&(1, name("shop"))],
        Observed::Absent,
        "erased for the other case"
    );
    world.say(Command::Withdraw {
        command: command(40),
        case: case(4),
    });
    world.run();
    assert_eq!(world.refused, [(command(40), "casework-wrong-state")]);
    lift_of(&mut world, 5);
    assert_eq!(
        [3, 4].map(|number| world.state(number)),
        [CaseState::Completed; 2]
    );
}

#[test]
fn an_erasure_is_taken_back_where_an_earlier_one_was_refused() {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.run();
    world.refuse_next("shop");
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    world.say(Command::Close {
        command: command(40),
        case: case(2),
        reason: CloseReason::SystemFailed,
    });
    world.run();
    world.open(3, 1, Right::Restriction, None);
    world.run();
    world.open(4, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(
        world.state(4),
        CaseState::Acting,
        "the other restriction holds it"
    );
    world.say(Command::Withdraw {
        command: command(41),
        case: case(4),
    });
    world.run();
    assert_eq!(world.refused, []);
    assert_eq!(world.state(4), CaseState::Withdrawn);
    assert!(is_restricted(&world));
}
