//! Erasure, and what a person has to look at.

use lethe_casework::{OBSERVE_ATTEMPTS_MAX, STEP_ATTEMPTS_MAX};
use lethe_conductor::{IN_FLIGHT_PER_SYSTEM_MAX, Input};
use lethe_journal::{CaseEvent, CloseReason, Command};
use lethe_terms::{Awaited, CaseState, FailureClass, Observed, Right, Verb};

use crate::world::{Whim, World, case, command, name};

fn erasure(systems: &[&str]) -> World {
    let mut world = World::new(systems, &[1], false);
    world.open(1, 1, Right::Erasure, None);
    world
}

#[test]
fn an_erasure_goes_out_after_its_plan_is_logged_and_approved() {
    let mut world = World::new(&["shop"], &[1], true);
    world.open(1, 1, Right::Erasure, None);
    world.run();
    let expected = [
        "opened",
        "locate_asked",
        "locate shop",
        "located",
        "plan_frozen",
        "plan_logged",
        "approved",
        "dispatched",
        "erase shop",
        "reported",
        "observation_asked",
        "observe shop",
        "observed",
        "statement_asked",
        "statement_issued",
    ];
    assert_eq!(world.transcript, expected);
    assert_eq!(world.state(1), CaseState::Completed);
    assert!(world.marked.contains(&case(1)));
    let statement = world.statement(1);
    assert_eq!(
        (&statement["kind"], &statement["conclusion"]),
        (&"erasure".into(), &"completed".into())
    );
}

#[test]
fn of_two_commands_that_open_a_case_the_key_of_the_first_is_the_cases() {
    let mut world = World::new(&["shop"], &[1], true);
    world.open(1, 1, Right::Erasure, None);
    world.open(1, 1, Right::Erasure, None);
    let Some(Input::Command {
        command: Command::Open { key: first, .. },
        ..
    }) = world.inputs.front().cloned()
    else {
        panic!("a case was asked for");
    };
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.kept.get(&case(1)), Some(&first));
    // What another gateway had under way for long.
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.kept.get(&case(1)), Some(&first));
}

#[test]
fn a_statement_says_of_own_copies_what_was_known_last_before_it() {
    let mut world = erasure(&["shop"]);
    let own = |gone_by: &str| vec![("log".to_owned(), gone_by.to_owned())];
    world.conductor.know_copies(own("60 s after a record ended"));
    world.approving = false;
    world.run();
    world
        .conductor
        .know_copies(own("pending: a replica of the log is away"));
    world.approving = true;
    world.run();
    assert_eq!(
        world.statement(1)["copies"][0],
        serde_json::json!({ "place": "log", "gone_by": "pending: a replica of the log is away" })
    );
}

#[test]
fn a_system_that_shows_what_it_says_it_erased_is_named_in_the_statement() {
    let mut world = erasure(&["crm", "shop"]);
    world.system("shop").acting.push_back(Whim::Lie);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world.say(Command::Close {
        command: command(9),
        case: case(1),
        reason: CloseReason::Contradicted,
    });
    world.run();
    assert_eq!(world.state(1), CaseState::NotCompleted);
    let statement = world.statement(1);
    assert_eq!(statement["conclusion"], "not_completed");
    assert_eq!(statement["reasons"], serde_json::json!(["contradicted"]));
    let rows = statement["rows"].as_array().unwrap();
    let short: Vec<_> = rows.iter().filter(|row| row["state"] == "failed").collect();
    assert_eq!(short.len(), 1);
    assert_eq!(short[0]["step"]["system"], "shop");
    assert_eq!(short[0]["reason"], "casework-contradicted");
    assert!(world.marked.is_empty());
}

#[test]
fn an_observation_that_cannot_tell_is_asked_again_ever_later_and_then_shown_to_a_person() {
    let mut world = erasure(&["shop"]);
    let attempts = usize::try_from(OBSERVE_ATTEMPTS_MAX).unwrap();
    world
        .system("shop")
        .observing
        .extend(vec![Whim::CannotTell; attempts]);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    let asked: Vec<i64> = world
        .journal
        .iter()
        .filter(|(.., event)| matches!(event, CaseEvent::ObservationAsked { .. }))
        .map(|(_, _, at, _)| at.millis())
        .collect();
    let waits: Vec<i64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [500, 1_000, 2_000, 4_000]);
    let code = &world.conductor.case(case(1)).unwrap().attention()[0].code;
    assert_eq!(code, "casework-cannot-tell");
}

#[test]
fn an_observation_that_can_tell_later_completes_the_case() {
    let mut world = erasure(&["shop"]);
    world
        .system("shop")
        .observing
        .extend([Whim::CannotTell, Whim::Fail(FailureClass::Retryable)]);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn what_did_not_happen_is_tried_again_under_the_same_id() {
    let mut world = erasure(&["shop"]);
    world.system("shop").acting.extend([
        Whim::Fail(FailureClass::Retryable),
        Whim::Fail(FailureClass::Unknown),
    ]);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    let acting: Vec<_> = world
        .sent
        .iter()
        .filter(|order| order.verb == Verb::Erase)
        .map(|order| order.id)
        .collect();
    assert_eq!(acting, [acting[0]; 3]);
}

#[test]
fn what_does_not_happen_again_and_again_is_shown_to_a_person() {
    let mut world = erasure(&["shop"]);
    let attempts = usize::try_from(STEP_ATTEMPTS_MAX).unwrap();
    world
        .system("shop")
        .acting
        .extend(vec![Whim::Fail(FailureClass::Retryable); attempts]);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    assert_eq!(world.sent.len(), attempts);
}

#[test]
fn a_final_failure_waits_for_a_new_plan_and_the_new_plan_for_approval() {
    let mut world = erasure(&["shop"]);
    world.refuse_next("shop");
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    world.approving = false;
    world.say(Command::Replan {
        command: command(9),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    assert_eq!(world.conductor.case(case(1)).unwrap().plans.len(), 2);
    world.approving = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
}

#[test]
fn a_ticket_whose_question_fails_is_asked_again_later_and_the_work_is_not_repeated() {
    let mut world = erasure(&["shop"]);
    let failed = usize::try_from(STEP_ATTEMPTS_MAX).unwrap() + 1;
    let questions = std::iter::repeat_n(Whim::Fail(FailureClass::Retryable), failed);
    world.system("shop").acting.push_back(Whim::Ticket);
    world.system("shop").acting.extend(questions);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    let erasing = world.sent.iter().filter(|order| order.verb == Verb::Erase);
    let asked: Vec<_> = erasing.clone().map(|order| order.ticket.as_deref()).collect();
    assert_eq!(asked[0], None);
    let acting = erasing.clone().next().unwrap().id;
    assert!(
        erasing.skip(1).all(|order| order.asks_about == Some(acting)),
        "a question names the instruction that it asks about"
    );
    assert_eq!(
        asked[1..],
        vec![Some("t-1"); failed + 1],
        "only the ticket is asked about"
    );
    let times = world
        .journal
        .iter()
        .filter(|(_, _, _, event)| matches!(event, CaseEvent::StepFailed { .. }));
    let times: Vec<_> = times.map(|(_, _, at, _)| at.millis()).collect();
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.windows(2).all(|pair| pair[0] < pair[1]),
        "pauses grow: {pauses:?}"
    );
    let waited = world.journal.iter().any(|(_, _, _, event)| {
        matches!(event, CaseEvent::InProgress { awaits, .. } if *awaits == Some(Awaited::Rotation))
    });
    assert!(waited, "what the system waits for is not journaled");
}

#[test]
fn a_plan_is_approved_by_its_own_digest_only_and_once() {
    let mut world = erasure(&["shop"]);
    world.approving = false;
    world.run();
    let wrong = Command::Approve {
        command: command(8),
        case: case(1),
        plan_digest: format!("sha256:{}", "0".repeat(64)),
    };
    world.say(wrong);
    world.run();
    assert_eq!(world.refused, [(command(8), "casework-other-plan")]);
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    assert!(world.sent.is_empty());
    let digest = world
        .conductor
        .case(case(1))
        .unwrap()
        .plan()
        .unwrap()
        .digest
        .clone();
    let right = Command::Approve {
        command: command(9),
        case: case(1),
        plan_digest: digest,
    };
    world.say(right.clone());
    world.run();
    let before = world.transcript.clone();
    world.say(right);
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.transcript, before, "the same commands again change nothing");
    assert_eq!(world.refused.len(), 1);
}

#[test]
fn what_comes_in_before_the_statement_is_planned_and_needs_approval() {
    let mut world = erasure(&["crm", "shop"]);
    world.held.insert((1, name("crm")), Observed::Absent);
    // The record appears while the observation of the shop cannot tell yet.
    world.system("shop").observing.push_back(Whim::CannotTell);
    world.approving = false;
    world.run();
    world.held.insert((1, name("crm")), Observed::Present);
    let digest = world
        .conductor
        .case(case(1))
        .unwrap()
        .plan()
        .unwrap()
        .digest
        .clone();
    world.say(Command::Approve {
        command: command(9),
        case: case(1),
        plan_digest: digest,
    });
    world.run();
    assert_eq!(world.state(1), CaseState::AwaitingApproval);
    assert!(world.transcript.contains(&"new_holdings".into()));
    assert!(!world.transcript.contains(&"statement_asked".into()));
    world.approving = true;
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(world.statement(1)["rows"].as_array().unwrap().len(), 2);
}

#[test]
fn one_slow_system_has_a_bounded_number_out_and_holds_up_no_other() {
    let persons: Vec<u8> = (1..=200).collect();
    let mut world = World::new(&["archive", "shop"], &persons, false);
    world.system("archive").silent = true;
    world.system("shop").silent = true;
    for person in &persons {
        world.open(*person, *person, Right::Erasure, None);
    }
    world.run();
    assert_eq!(world.system("shop").unanswered.len(), IN_FLIGHT_PER_SYSTEM_MAX);
    world.speak("shop");
    world.run();
    assert_eq!(world.system("archive").unanswered.len(), IN_FLIGHT_PER_SYSTEM_MAX);
    let erased = persons
        .iter()
        .filter(|person| world.held[&(**person, name("shop"))] == Observed::Absent)
        .count();
    assert_eq!(erased, 200, "the shop is done although the archive says nothing");
    world.system("archive").silent = false;
    world.crash();
    world.take(Input::Tick);
    world.run();
    assert!(
        persons
            .iter()
            .all(|person| world.state(*person) == CaseState::Completed)
    );
    world.assert_once();
}

#[test]
fn a_system_that_could_not_be_searched_is_searched_again_under_a_new_id() {
    let mut world = World::new(&["crm", "shop"], &[1], true);
    world
        .system("shop")
        .locating
        .push_back(Whim::Fail(FailureClass::Final));
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    assert!(
        !world.transcript.contains(&"plan_frozen".into()),
        "what the shop holds is unknown"
    );
    world.say(Command::Replan {
        command: command(9),
        case: case(1),
    });
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    let searched = world
        .sent
        .iter()
        .filter(|order| order.verb == Verb::Locate && order.system == name("shop"));
    let mut ids: Vec<_> = searched.map(|order| order.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_new_plan_keeps_a_record_that_nothing_leads_to_any_more() {
    let mut world = erasure(&["crm", "shop"]);
    // The crm holds the only link to a second record in the shop, and is erased before the shop fails.
    world.behind.insert((1, name("shop")), Observed::Present);
    world.refuse_next("shop");
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    assert_eq!(world.held[&(1, name("crm"))], Observed::Absent);
    // A second time: what the second plan had kept, the third one keeps.
    for number in [8, 9] {
        if number == 8 {
            world.refuse_next("shop");
        }
        world.say(Command::Replan {
            command: command(number),
            case: case(1),
        });
        world.run();
        let present = world.conductor.case(case(1)).unwrap().plan().unwrap();
        let shop = present.plan.steps.iter().find(|step| step.system == name("shop"));
        assert_eq!(shop.unwrap().records.len(), 2, "after replan {number}");
    }
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(
        world.behind[&(1, name("shop"))],
        Observed::Absent,
        "erased, not left behind"
    );
}
