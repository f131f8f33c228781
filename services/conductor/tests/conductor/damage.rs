//! Histories that do not fit together, and statements that cannot be written: the case stands still, visibly, and others go on.

use lethe_conductor::Input;
use lethe_journal::{CaseEvent, CloseReason, Command};
use lethe_terms::{CaseState, Right};

use crate::world::{World, case, command};

/// Two cases that wait for approval.
fn waiting() -> World {
    let mut world = World::new(&["crm", "shop"], &[1, 2], false);
    world.open(1, 1, Right::Erasure, None);
    world.open(2, 2, Right::Erasure, None);
    world.approving = false;
    world.run();
    world
}

fn codes(world: &World) -> Vec<&'static str> {
    world
        .conductor
        .damaged()
        .map(lethe_conductor::Error::code)
        .collect()
}

/// The first case stands still and says why; nothing goes out for it; the second one is carried out.
fn assert_only_the_second_goes_on(world: &mut World, code: &'static str) {
    assert_eq!(codes(world), [code]);
    assert_eq!(world.conductor.stopped(case(1)).unwrap().code(), code);
    let entries = |world: &World| world.journal.iter().filter(|(id, ..)| *id == case(1)).count();
    let before = entries(world);
    world.say(Command::Withdraw {
        command: command(7),
        case: case(1),
    });
    world.approving = true;
    world.take(Input::Tick);
    world.run();
    assert!(world.refused.contains(&(command(7), code)), "{:?}", world.refused);
    assert_eq!(
        entries(world),
        before,
        "nothing is added to a history that does not fit"
    );
    assert!(world.sent.iter().all(|order| order.case != case(1)));
    assert_eq!(world.state(2), CaseState::Completed);
}

#[test]
fn a_history_with_a_gap_is_refused_and_never_skipped() {
    for missing in 0..2 {
        let mut world = waiting();
        world
            .journal
            .retain(|(id, number, ..)| *id != case(1) || *number != missing);
        world.come_back();
        let error = world.conductor.stopped(case(1)).unwrap();
        assert_eq!(
            error.code(),
            "conductor-history-damaged",
            "without entry {missing}"
        );
        if let Some(known) = world.conductor.case(case(1)) {
            assert_eq!(known.next_number, missing, "folded up to the gap");
            assert_eq!(world.conductor.state(known), CaseState::NeedsAttention);
        }
        assert_only_the_second_goes_on(&mut world, "conductor-history-damaged");
    }
}

#[test]
fn an_event_that_does_not_fit_the_history_before_it_stops_the_case() {
    let mut world = waiting();
    let frozen = world
        .journal
        .iter()
        .position(|(id, _, _, event)| *id == case(1) && matches!(event, CaseEvent::PlanFrozen { .. }));
    world.journal[frozen.unwrap()].3 = CaseEvent::Dispatched {
        step: 5,
        instruction: lethe_terms::InstructionId::from_bytes([1; 16]),
        attempt: 1,
    };
    world.come_back();
    let said = world.conductor.stopped(case(1)).unwrap();
    assert_eq!(said.to_string(), format!("history of {} is damaged", case(1)));
    assert_only_the_second_goes_on(&mut world, "conductor-history-damaged");
}

#[test]
fn a_history_whose_last_entry_cannot_be_opened_is_not_continued_under_the_same_number() {
    let mut world = waiting();
    world.conductor.unreadable(case(1));
    assert_only_the_second_goes_on(&mut world, "conductor-history-unreadable");
}

/// The first case was closed before a plan of it stood in the ledger.
fn closed_without_a_plan() -> World {
    let mut world = waiting();
    // Closed before a plan stood in the ledger: no completion statement can be written about that.
    world
        .journal
        .retain(|(id, number, ..)| *id != case(1) || *number == 0);
    let at = world.now;
    let closed = CaseEvent::Closed {
        command: command(6),
        reason: CloseReason::SystemFailed,
    };
    world.journal.push((case(1), 1, at, closed));
    world
}

#[test]
fn a_stop_is_found_again_by_every_start_and_by_whoever_only_looks() {
    let mut world = closed_without_a_plan();
    for _ in 0..2 {
        world.come_back();
        world.run();
        assert_eq!(codes(&world), ["conductor-no-statement"]);
    }
    let mut looking = world.looking();
    for (id, number, at, event) in &world.journal {
        let _ = looking.follow(*id, *number, event, *at);
    }
    let known = looking.case(case(1)).unwrap();
    assert_eq!(looking.state(known), CaseState::NeedsAttention);
    assert_eq!(looking.stopped(case(1)).unwrap().code(), "conductor-no-statement");
    assert!(looking.stopped(case(2)).is_none());
}

#[test]
fn a_statement_that_cannot_be_written_is_an_error_and_no_standstill_in_silence() {
    let mut world = closed_without_a_plan();
    world.come_back();
    let known = world.conductor.case(case(1)).unwrap();
    assert_eq!(world.conductor.state(known), CaseState::NeedsAttention);
    assert_only_the_second_goes_on(&mut world, "conductor-no-statement");
}
