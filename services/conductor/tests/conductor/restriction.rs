//! Restriction, its lift, and what it holds up.

use lethe_casework::STEP_ATTEMPTS_MAX;
use lethe_journal::{CaseEvent, CloseReason, Command, Held};
use lethe_terms::{CaseState, FailureClass, Observed, Right, Verb};

use crate::world::{Whim, World, case, command, name};

fn restricted() -> World {
    let mut world = World::new(&["shop"], &[1, 2], false);
    world.open(1, 1, Right::Restriction, None);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);
    world
}

fn lift(world: &mut World, in_ms: i64) {
    lift_of(world, 1, 9, in_ms);
}

fn lift_of(world: &mut World, restriction: u8, number: u8, in_ms: i64) {
    world.lift(restriction, number, in_ms);
    world.run();
}

#[test]
fn a_restriction_is_lifted_after_the_person_was_told_and_not_before() {
    let mut world = restricted();
    lift(&mut world, 1);
    assert_eq!(world.refused, [(command(9), "casework-not-notified")]);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);
    lift(&mut world, -1);
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
    assert_eq!(world.statement(1)["kind"], "restriction_lifted");
    world.crash();
    let ended = world.conductor.case(case(1)).unwrap();
    assert!(!world.conductor.is_restricted(ended));
    let about: Vec<_> = ended.issued.iter().map(|one| (one.verb, one.completed)).collect();
    assert_eq!(about, [(Verb::Restrict, true), (Verb::Lift, true)]);
    assert_eq!(ended.issued[0].plan_digest, ended.plans[0].digest);
}

#[test]
fn a_restriction_holds_up_the_erasure_of_another_case_until_it_is_lifted() {
    let mut world = restricted();
    world.open(2, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(2), CaseState::Acting);
    assert!(world.sent.iter().all(|order| order.verb != Verb::Erase));
    lift(&mut world, -1);
    assert_eq!(world.state(2), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Absent);
}

#[test]
fn the_person_who_gives_the_restriction_up_is_erased_without_a_lift() {
    let mut world = restricted();
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    assert!(
        !world
            .conductor
            .is_restricted(world.conductor.case(case(1)).unwrap())
    );
}

#[test]
fn nobody_gives_up_the_restriction_of_another_person() {
    let mut world = restricted();
    world.open(2, 2, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.refused, [(command(2), "conductor-supersedes-other")]);
    assert!(world.conductor.case(case(2)).is_none());
}

#[test]
fn a_lift_of_which_nothing_is_known_is_not_repeated_and_can_be_planned_again() {
    let mut world = restricted();
    world
        .system("shop")
        .acting
        .push_back(Whim::Fail(FailureClass::Unknown));
    lift(&mut world, -1);
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    assert_eq!(
        world.sent.iter().filter(|order| order.verb == Verb::Lift).count(),
        1
    );
    assert!(
        world
            .conductor
            .is_restricted(world.conductor.case(case(1)).unwrap())
    );
    world.say(Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
    assert_eq!(world.statement(1)["rows"].as_array().unwrap().len(), 1);
    let earlier = world.statement(1)["earlier"].as_array().unwrap().len();
    assert_eq!(
        earlier, 2,
        "the restriction and the lift of which nothing is known"
    );
}

#[test]
fn what_is_gone_after_a_restriction_was_lost_and_a_person_looks() {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.system("shop").silent = true;
    world.run();
    assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);
    world.held.insert((1, name("shop")), Observed::Absent);
    world.speak("shop");
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
}

#[test]
fn two_restrictions_of_one_person_that_are_both_lifted_do_not_wait_for_each_other() {
    let mut world = restricted();
    world.open(2, 1, Right::Restriction, None);
    world.run();
    lift(&mut world, -1);
    assert_eq!(
        world.held[&(1, name("shop"))],
        Observed::Restricted,
        "the other restriction is in force"
    );
    lift_of(&mut world, 2, 10, -1);
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.state(2), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
}

#[test]
fn what_was_lost_while_it_was_restricted_is_no_lift() {
    let mut world = restricted();
    world.held.insert((1, name("shop")), Observed::Absent);
    lift(&mut world, -1);
    is_closed_as_contradicted(&mut world);
}

#[test]
fn what_was_lost_in_part_while_it_was_restricted_is_no_lift() {
    let mut world = restricted();
    world.system("shop").acting.push_back(Whim::CountNone);
    lift(&mut world, -1);
    is_closed_as_contradicted(&mut world);
}

fn is_closed_as_contradicted(world: &mut World) {
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world.say(Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    assert_eq!(
        world.state(1),
        CaseState::NeedsAttention,
        "planning again does not bring it back"
    );
    close(world, 7);
    assert_eq!(world.state(1), CaseState::NotCompleted);
    assert_eq!(world.statement(1)["rows"][0]["reason"], "casework-contradicted");
}

fn approve(world: &mut World, number: u8) {
    let present = world.conductor.case(case(number)).unwrap().plan().unwrap();
    let plan_digest = present.digest.clone();
    world.say(Command::Approve {
        command: command(20 + number),
        case: case(number),
        plan_digest,
    });
    world.run();
}

fn close(world: &mut World, number: u8) {
    world.say(Command::Close {
        command: command(number),
        case: case(1),
        reason: CloseReason::SystemFailed,
    });
    world.run();
}

/// A restriction that `shop` did and `crm` could not.
fn restricted_in_one_of_two() -> World {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.refuse_next("crm");
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world
}

#[test]
fn a_restriction_that_one_system_could_not_do_is_lifted_in_the_others() {
    let mut world = restricted_in_one_of_two();
    close(&mut world, 8);
    assert_eq!(world.state(1), CaseState::NotCompleted);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Restricted);
    lift(&mut world, -1);
    assert!(world.refused.is_empty(), "{:?}", world.refused);
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Present);
    assert_eq!(world.statement(1)["kind"], "restriction_lifted");
    let lifts = world.sent.iter().filter(|order| order.verb == Verb::Lift);
    let lifted: Vec<_> = lifts.map(|order| order.system.as_str()).collect();
    assert_eq!(lifted, ["shop"], "what was refused is not lifted");
    world.crash();
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn a_restriction_that_was_given_up_for_an_erasure_cannot_be_lifted() {
    let mut world = restricted();
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    lift(&mut world, -1);
    assert_eq!(world.refused, [(command(9), "casework-not-restricted")]);
    assert_eq!(world.state(1), CaseState::Completed);
}

/// What is asked for a case that has ended goes nowhere, and a restart finds it as it was.
fn is_over(world: &mut World, state: CaseState) {
    assert_eq!(world.state(1), state);
    let ended = world.conductor.case(case(1)).unwrap();
    assert_eq!(ended.given_up_for, Some(case(2)));
    assert_eq!(ended.attention(), [], "there is nothing to look at any more");
    let entries = world.journal.len();
    world.crash();
    world.run();
    assert_eq!(world.state(1), state);
    assert_eq!(world.journal.len(), entries, "a restart ends it once more");
}

#[test]
fn a_restriction_that_failed_ends_with_the_erasure_that_it_is_given_up_for() {
    let mut world = restricted_in_one_of_two();
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    is_over(&mut world, CaseState::Withdrawn);
}

#[test]
fn a_restriction_that_was_still_acting_ends_with_the_erasure_that_it_is_given_up_for() {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.system("shop").silent = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Acting);
    world.system("shop").silent = false;
    let late = std::mem::take(&mut world.system("shop").unanswered);
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    world.system("shop").unanswered = late;
    world.speak("shop");
    world.run();
    is_over(&mut world, CaseState::Withdrawn);
}

#[test]
fn a_restriction_whose_lift_is_overtaken_by_its_erasure_stays_certified() {
    let mut world = restricted();
    world
        .system("shop")
        .acting
        .push_back(Whim::Fail(FailureClass::Unknown));
    lift(&mut world, -1);
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
    is_over(&mut world, CaseState::Completed);
}

#[test]
fn an_erasure_that_ends_without_its_restriction_on_the_log_ends_it_after_the_restart() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.refuse_next("crm");
    world.run();
    world.open(2, 1, Right::Erasure, Some(case(1)));
    world.run();
    world
        .journal
        .retain(|(_, _, _, event)| !matches!(event, CaseEvent::GivenUp { .. }));
    world.crash();
    assert_eq!(world.state(1), CaseState::Withdrawn);
}

#[test]
fn an_erasure_whose_plan_a_restriction_overtook_is_planned_again() {
    let mut world = World::new(&["shop"], &[1], false);
    world.approving = false;
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    world.open(2, 1, Right::Restriction, None);
    world.run();
    approve(&mut world, 2);
    assert_eq!(world.state(2), CaseState::Completed);
    world.approving = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Acting, "the restriction holds it up");
    lift_of(&mut world, 2, 9, 0);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Absent);
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.conductor.case(case(1)).unwrap().plans.len(), 2);
    world.crash();
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn the_second_of_two_erasures_of_one_person_is_planned_again_and_finds_nothing() {
    let mut world = World::new(&["shop"], &[1], false);
    world.approving = false;
    world.open(1, 1, Right::Erasure, None);
    world.open(2, 1, Right::Erasure, None);
    world.run();
    approve(&mut world, 2);
    assert_eq!(world.state(2), CaseState::Completed);
    world.approving = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn a_lift_does_not_wait_for_a_restriction_that_is_given_up_for_an_erasure() {
    let mut world = restricted();
    world.open(2, 1, Right::Restriction, None);
    world.run();
    world.open(3, 1, Right::Erasure, Some(case(1)));
    world.run();
    assert_eq!(
        world.state(3),
        CaseState::Acting,
        "the other restriction is in force"
    );
    lift_of(&mut world, 2, 9, -1);
    assert_eq!(world.state(2), CaseState::Completed);
    assert_eq!(world.state(3), CaseState::Completed);
    assert_eq!(world.held[&(1, name("shop"))], Observed::Absent);
}

#[test]
fn a_lift_that_was_taken_on_is_not_given_again_where_the_question_how_far_it_is_fails() {
    let mut world = restricted();
    world
        .system("shop")
        .acting
        .extend([Whim::Ticket, Whim::Fail(FailureClass::Retryable)]);
    lift(&mut world, -1);
    assert_eq!(world.state(1), CaseState::Completed);
    let lifts = world.sent.iter().filter(|order| order.verb == Verb::Lift);
    let told = lifts.filter(|order| order.ticket.is_none()).count();
    assert_eq!(told, 1, "the lift is given once");
}

#[test]
fn a_restriction_that_may_have_happened_stays_possible_where_later_attempts_did_not_happen() {
    let first_ones = [
        (Whim::Fail(FailureClass::Unknown), FailureClass::Retryable),
        (Whim::Ticket, FailureClass::Final),
    ];
    for (first, then) in first_ones {
        let mut world = World::new(&["shop"], &[1], false);
        world.open(1, 1, Right::Restriction, None);
        let attempts = usize::try_from(STEP_ATTEMPTS_MAX).unwrap();
        world.system("shop").acting.push_back(first);
        let later = std::iter::repeat_n(Whim::Fail(then), attempts);
        world.system("shop").acting.extend(later);
        world.run();
        assert_eq!(world.state(1), CaseState::NeedsAttention, "{first:?}");
        world.crash();
        let held = world.conductor.case(case(1)).unwrap().held();
        assert_eq!(
            held.values().collect::<Vec<_>>(),
            [&Held::Perhaps],
            "{first:?}: it may be restricted"
        );
    }
}

#[test]
fn an_erasure_that_nobody_has_approved_gives_no_restriction_up() {
    let mut world = restricted();
    world.open(2, 1, Right::Restriction, None);
    world.run();
    world.approving = false;
    world.open(3, 1, Right::Erasure, Some(case(2)));
    world.run();
    assert_eq!(world.state(3), CaseState::AwaitingApproval);
    lift_of(&mut world, 1, 9, -1);
    assert_eq!(
        world.held[&(1, name("shop"))],
        Observed::Restricted,
        "it may yet be withdrawn"
    );
    approve(&mut world, 3);
    assert_eq!(world.state(1), CaseState::Completed, "its lift waits no more");
    assert_eq!(
        (world.state(3), world.held[&(1, name("shop"))]),
        (CaseState::Completed, Observed::Absent),
        "the same plan needs no other approval"
    );
}

/// A restriction that the only system refused.
fn refused() -> World {
    let mut world = World::new(&["shop"], &[1], false);
    world.open(1, 1, Right::Restriction, None);
    world.refuse_next("shop");
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world
}

fn is_erased_for_another_case(world: &mut World) {
    world.open(2, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(2), CaseState::Completed);
}

#[test]
fn what_a_system_refused_to_restrict_is_not_restricted() {
    let mut world = refused();
    close(&mut world, 7);
    assert_eq!(world.state(1), CaseState::NotCompleted);
    assert!(
        !world
            .conductor
            .is_restricted(world.conductor.case(case(1)).unwrap())
    );
    is_erased_for_another_case(&mut world);
}

#[test]
fn what_a_system_refused_to_restrict_holds_nobody_back_while_a_person_looks() {
    is_erased_for_another_case(&mut refused());
}
