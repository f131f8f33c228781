//! Steps that only observe: where nothing of the person was found, a signed look says that nothing is there.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, missing_docs, dead_code)]

mod common;

use common::{Story, build, keys, policy, step, story};
use lethe_proof::*;
use lethe_terms::{InstructionId, Observed, Outcome, Verb};

/// An honest certificate whose third step found nothing to change, changed by an attacker.
fn after(change: impl FnOnce(&mut Story)) -> Report {
    let mut story = story();
    let mut look = step(2, "website", "sessions");
    look.verb = Verb::Observe;
    story.plan.steps.push(look.clone());
    let mut seen = story.observations[1].clone();
    seen.step = look.clone();
    seen.instruction = InstructionId::from_bytes([102; 16]);
    seen.nonce = hex::encode([22; 16]);
    story.observations.push(seen);
    let mut row = story.completion.rows[1].clone();
    row.step = look;
    row.reported = None;
    story.completion.rows.push(row);
    change(&mut story);
    verify(
        &build(story, &keys(1)).to_bytes().unwrap(),
        Some(&policy(&keys(1))),
    )
}

fn refuses(change: impl FnOnce(&mut Story)) {
    let report = after(change);
    assert_eq!(report.status, Status::Invalid, "{report:?}");
    assert_eq!(report.checks.last().unwrap().name, "completeness", "{report:?}");
}

fn only_look(story: &mut Story) {
    story.plan.steps.drain(..2);
    story.receipts.clear();
    story.observations.drain(..2);
    story.completion.rows.drain(..2);
}

#[test]
fn a_look_that_saw_nothing_needs_no_receipt() {
    let report = after(|_| {});
    assert_eq!(report.status, Status::Complete, "{report:?}");
    let row = report.systems.last().unwrap();
    assert_eq!((row.verb, row.outcome.as_str()), (Verb::Observe, "verified"));
    assert_eq!(row.reported, None);
}

#[test]
fn a_plan_that_only_looks_says_that_nothing_was_found() {
    let report = after(only_look);
    assert_eq!(report.status, Status::Complete, "{report:?}");
    let told = |remark: &String| remark.contains("found to hold anything");
    assert!(report.remarks.iter().any(told), "{report:?}");
}

#[test]
fn a_look_that_saw_data_verifies_nothing() {
    for observed in [Observed::Present, Observed::Restricted, Observed::CannotTell] {
        refuses(|story| story.observations[2].observed = observed);
    }
}

#[test]
fn a_look_that_was_not_taken_is_not_claimed() {
    refuses(|story| {
        story.observations.pop();
        story.completion.rows[2].independence = None;
    });
}

#[test]
fn a_look_from_before_the_plan_is_noticed() {
    refuses(|story| {
        only_look(story);
        story.order = vec!["observations", "plan", "receipts", "statement"];
        story.completion.plan.index = 4;
    });
}

#[test]
fn what_only_observes_has_no_receipt() {
    refuses(|story| {
        let mut receipt = story.receipts[1].clone();
        receipt.step = story.plan.steps[2].clone();
        receipt.generation.step = 2;
        receipt.outcome = Outcome::NotFound;
        receipt.nonce = hex::encode([12; 16]);
        story.receipts.push(receipt);
        story.completion.rows[2].reported = Some(Outcome::NotFound);
    });
}

#[test]
fn an_erasure_is_not_shown_by_a_look_without_its_receipt() {
    let report = after(|story| {
        story.receipts.pop();
        story.completion.rows[1].reported = None;
    });
    assert_eq!(report.status, Status::Malformed, "{report:?}");
}
