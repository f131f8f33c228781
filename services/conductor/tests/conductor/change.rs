//! What changes while a case is under way: the person takes the request back, or the company gains and loses systems.

use lethe_conductor::Input;
use lethe_journal::{CaseEvent, CloseReason, Command};
use lethe_terms::{CaseState, FailureClass, Observed, Right, Verb};

use crate::world::{Whim, World, case, command, name};

fn withdraw(world: &mut World) {
    world.say(Command::Withdraw {
        command: command(9),
        case: case(1),
    });
    world.run();
}

/// Nothing more happens in a case that was withdrawn, and nothing of the person's was touched.
fn assert_withdrawn(mut world: World) {
    withdraw(&mut world);
    assert!(world.refused.is_empty(), "{:?}", world.refused);
    let entries = world.journal.len();
    world.approving = true;
    for system in ["crm", "shop"] {
        world.speak(system);
    }
    world.run();
    world.crash();
    world.run();
    assert_eq!(world.state(1), CaseState::Withdrawn);
    assert_eq!(world.journal.len(), entries, "late answers change nothing");
    assert!(world.sent.iter().all(|order| order.verb == Verb::Locate));
    assert!(world.held.values().all(|state| *state != Observed::Absent));
}

fn assert_too_late(mut world: World) {
    let before = world.state(1);
    withdraw(&mut world);
    assert_eq!(world.refused, [(command(9), "casework-wrong-state")], "{before}");
    assert_ne!(world.state(1), CaseState::Withdrawn);
}

fn opened(locates: bool) -> World {
    let mut world = World::new(&["crm", "shop"], &[1], locates);
    world.open(1, 1, Right::Erasure, None);
    world
}

#[test]
fn a_request_can_be_taken_back_while_the_systems_are_searched() {
    let mut world = opened(true);
    world.system("shop").silent = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Accepted);
    assert_withdrawn(world);
}

#[test]
fn a_request_can_be_taken_back_when_a_system_could_not_be_searched() {
    let mut world = opened(true);
    let failed = Whim::Fail(FailureClass::Final);
    world.system("shop").locating.push_back(failed);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    assert_withdrawn(world);
}

#[test]
fn a_request_can_be_taken_back_before_its_plan_is_in_the_ledger() {
    let mut world = opened(false);
    world.approving = false;
    world.run();
    // The journal ends with the plan; the ledger's answer comes after the withdrawal.
    world.journal.truncate(2);
    world.crash();
    assert_eq!(world.state(1), CaseState::Planned);
    assert_withdrawn(world);
}

#[test]
fn a_request_can_be_taken_back_while_its_plan_waits_for_approval() {
    let mut world = opened(false);
    world.approving = false;
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    assert_withdrawn(world);
}

#[test]
fn a_request_can_be_taken_back_while_a_restriction_holds_up_its_approved_plan() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.open(2, 1, Right::Restriction, None);
    world.run();
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(1), CaseState::Acting);
    withdraw(&mut world);
    assert_eq!(world.state(1), CaseState::Withdrawn);
    assert!(world.held.values().all(|state| *state == Observed::Restricted));
}

#[test]
fn a_request_cannot_be_taken_back_once_an_instruction_went_out() {
    let mut acting = opened(false);
    acting.system("shop").silent = true;
    acting.run();
    assert_eq!(acting.state(1), CaseState::Acting);
    assert_too_late(acting);

    let mut attention = opened(false);
    attention.system("shop").acting.push_back(Whim::Lie);
    attention.run();
    assert_eq!(attention.state(1), CaseState::NeedsAttention);
    assert_too_late(attention);

    let mut done = opened(false);
    done.run();
    assert_eq!(done.state(1), CaseState::Completed);
    assert_too_late(done);
}

#[test]
fn a_request_cannot_be_taken_back_when_an_earlier_plan_had_acted() {
    let mut world = opened(false);
    world.refuse_next("shop");
    world.run();
    world.approving = false;
    world.say(Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    assert_too_late(world);
}

#[test]
fn a_system_that_is_added_after_the_plan_is_planned_before_anything_is_erased() {
    let mut world = opened(false);
    world.approving = false;
    world.run();
    world.change_systems(&["chat", "crm", "shop"], &[1]);
    world.approving = true;
    world.run();
    let first = |word: &str| {
        world
            .transcript
            .iter()
            .position(|line| line.starts_with(word))
            .unwrap()
    };
    assert!(
        first("new_holdings") < first("erase"),
        "the walk is taken again before the first instruction"
    );
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.held[&(1, name("chat"))], Observed::Absent);
    assert_eq!(world.statement(1)["rows"].as_array().unwrap().len(), 3);
}

#[test]
fn a_dataset_that_is_gone_before_its_instruction_is_shown_to_a_person() {
    let mut world = opened(false);
    world.approving = false;
    world.run();
    world.change_systems(&["crm"], &[]);
    world.take(Input::Tick);
    world.approving = true;
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    let known = world.conductor.case(case(1)).unwrap();
    assert_eq!(known.attention()[0].code, "conductor-dataset-gone");
    assert_eq!(known.attention()[0].system, Some(name("shop")));
    assert!(world.sent.iter().all(|order| order.system == name("crm")));
    world.crash();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    let asked = |(.., event): &&(_, _, _, CaseEvent)| matches!(event, CaseEvent::StatementAsked { .. });
    assert!(!world.journal.iter().any(|entry| asked(&entry)));
    // Closed as it is, the statement names what was not done.
    world.say(Command::Close {
        command: command(9),
        case: case(1),
        reason: CloseReason::SystemUnreachable,
    });
    world.run();
    assert_eq!(world.state(1), CaseState::NotCompleted);
    let statement = world.statement(1);
    let rows = statement["rows"].as_array().unwrap();
    let shop = rows.iter().find(|row| row["step"]["system"] == "shop").unwrap();
    assert_eq!(shop["reason"], "conductor-dataset-gone");
}

#[test]
fn a_new_plan_cannot_be_approved_while_a_dataset_that_holds_data_is_gone() {
    let mut world = opened(false);
    world.approving = false;
    world.run();
    world.change_systems(&["crm"], &[]);
    world.say(Command::Replan {
        command: command(8),
        case: case(1),
    });
    world.run();
    let present = world.conductor.case(case(1)).unwrap().plan().unwrap();
    assert_eq!(present.plan.steps.len(), 1, "nobody could do the other step");
    let plan_digest = present.digest.clone();
    world.say(Command::Approve {
        command: command(9),
        case: case(1),
        plan_digest,
    });
    world.run();
    assert_eq!(world.refused, [(command(9), "casework-fatal-remark")]);
    assert!(world.sent.is_empty());
}
