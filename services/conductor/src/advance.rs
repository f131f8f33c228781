//! How a case goes on: from its state to the next events and effects.

use std::collections::BTreeSet;

use lethe_casework::{Case, Failure, PlanProgress, Sent, Statement, StepProgress};
use lethe_journal::{Answer, CaseEvent, FailureCode, Instruction, Person, Plan, Step};
use lethe_planner::{Basis, Request, digest, plan, plan_lift};
use lethe_terms::{CaseId, CaseState, FailureClass, InstructionId, Observed, SystemName, Timestamp, Verb};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::answers::{answered_instruction, event_of};
use crate::conductor::{Conductor, Effect, Moment, WalkPurpose};
use crate::errands::{self, Errand};
use crate::statements;

/// Rounds of searching: each finds records through identifiers that the one before brought up; a person with a longer chain is looked at.
const LOCATE_ROUNDS_MAX: u32 = 8;

/// First wait before something that did not happen is tried again, in milliseconds; doubled each time.
const RETRY_BASE_MS: i64 = 500;

/// Longest such wait, in milliseconds.
const RETRY_MAX_MS: i64 = 300_000;

/// The dataset of a step left the inventory before its instruction went out: nobody would answer it.
const DATASET_GONE: &str = "conductor-dataset-gone";

/// What the next thing to do for a step is.
enum Move {
    Nothing,
    Wait(Timestamp),
    Blocked,
    PlanAgain,
    /// An observation sees so many records where the search found none.
    SearchAgain(u64),
    Do(Errand),
}

impl Conductor {
    /// Goes on with a case until it waits for somebody or something.
    pub(crate) fn advance(&mut self, id: CaseId, moment: Moment) {
        // What stands still must not act either: nothing of it could be journaled.
        if self.stands_still(id) || !self.carries(id) {
            return;
        }
        let Some(case) = self.cases.get(&id) else { return };
        if case.is_taken_back() || matches!(case.statement, Statement::Asked | Statement::Issued { .. }) {
            return;
        }
        if case.closed.is_some() {
            self.ask_statement(id, moment);
        } else if case.cut_off.is_some() {
            // A person has to look at it first.
        } else if case.plan_due {
            self.advance_planning(id, moment);
        } else {
            self.advance_plan(id, moment);
        }
    }

    fn advance_planning(&mut self, id: CaseId, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        if case.lift.is_some() {
            self.freeze_lift(id, moment);
            return;
        }
        let locating = &case.locating;
        if !locating.is_answered() || !case.attention().is_empty() {
            return;
        }
        let rounds = locating.round.saturating_sub(locating.before);
        let again = self.is_unasked(case) || (locating.found_new() && rounds < LOCATE_ROUNDS_MAX);
        self.walk(
            id,
            if again {
                WalkPurpose::Locate
            } else {
                WalkPurpose::Plan
            },
        );
    }

    fn advance_plan(&mut self, id: CaseId, moment: Moment) {
        let Some(present) = self.cases.get(&id).and_then(Case::plan) else {
            return;
        };
        if present.logged.is_none() {
            return;
        }
        if present.approved.is_none() {
            self.approve_lift(id, moment);
            self.approve_addition(id, moment);
            return;
        }
        if self.looks_before_acting(id) {
            self.walk(id, WalkPurpose::Dispatch);
            return;
        }
        let steps = present.steps.len();
        self.blocked.remove(&id);
        for step in 0..steps {
            self.advance_step(id, step, moment);
            if self.cases.get(&id).is_none_or(|case| case.plan_due) {
                self.advance(id, moment);
                return;
            }
        }
        let Some(case) = self.cases.get(&id) else { return };
        if case.plan().is_some_and(PlanProgress::is_verified) {
            if case.verb() == Verb::Lift {
                self.ask_statement(id, moment);
            } else {
                self.walk(id, WalkPurpose::Confirm);
            }
        }
    }

    /// The command to lift is the approval: a lift has no choices beyond it.
    fn approve_lift(&mut self, id: CaseId, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        let (Some(present), Some((command, _))) = (case.plan(), case.lift) else {
            return;
        };
        let event = CaseEvent::Approved {
            command,
            digest: present.digest.clone(),
        };
        self.record(id, event, moment.now);
        self.advance(id, moment);
    }

    /// What only adds to an approved plan goes through: one request in every few seconds would otherwise keep an erasure waiting for ever.
    fn approve_addition(&mut self, id: CaseId, moment: Moment) {
        let waits = |case: &&Case| case.lift.is_none() && case.state() == CaseState::AwaitingApproval;
        let Some(case) = self.cases.get(&id).filter(waits) else {
            return;
        };
        if let Some(present) = case.plan().filter(|_| case.only_adds()) {
            let digest = present.digest.clone();
            self.record(id, CaseEvent::AdditionApproved { digest }, moment.now);
            self.wake_blocked(moment);
            self.advance(id, moment);
        }
    }

    fn advance_step(&mut self, id: CaseId, step: usize, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        let Some((planned, progress)) = step_of(case, step) else {
            return;
        };
        let system = planned.system.clone();
        match self.next_move(case, step, planned, progress, moment.now) {
            Move::Nothing => {}
            Move::Wait(at) => self.wake_at(id, at),
            Move::Blocked => {
                self.blocked.insert(id);
            }
            Move::PlanAgain => {
                let overtaken = CaseEvent::Overtaken { step: planned.step };
                self.record(id, overtaken, moment.now);
            }
            Move::SearchAgain(records) => self.record(id, CaseEvent::NewHoldings { records }, moment.now),
            Move::Do(errand) => {
                if self.is_full(&system) {
                    self.waiting.entry(system).or_default().insert(id);
                } else {
                    self.run_errand(id, step, errand, moment);
                }
            }
        }
    }

    fn next_move(
        &self,
        case: &Case,
        step: usize,
        planned: &Step,
        progress: &StepProgress,
        now: Timestamp,
    ) -> Move {
        if progress.is_verified(planned) {
            return Move::Nothing;
        }
        let overtaken = || {
            let present = case.plan();
            present.is_some_and(|present| self.is_overtaken(present, planned))
                || self.is_lift_of_erased(case, planned)
        };
        let refused = |failure: &Failure| !failure.observing && failure.class == FailureClass::Final;
        if progress.report.is_none() && progress.failure.as_ref().is_some_and(refused) && overtaken() {
            return Move::PlanAgain;
        }
        if progress.attention(planned).is_some() {
            return search_again(case, planned, progress);
        }
        if progress.is_observable(planned) {
            return if case.is_ready(step) {
                next_observation(planned, progress, now)
            } else {
                Move::Nothing
            };
        }
        if let (Some(ticket), None) = (&progress.ticket, &progress.failure) {
            let errand = Errand::Poll(planned.step, ticket.ask_at.millis());
            let number = case.plan().map_or(0, |present| present.plan.number);
            let asked =
                self.polling
                    .contains(&errands::instruction_id(case.id, number, &planned.system, errand));
            return if asked {
                Move::Nothing
            } else {
                due_at(ticket.ask_at, now, errand)
            };
        }
        match (&progress.sent, &progress.failure) {
            (Some(sent), Some(failure)) => due_at(retry_at(sent, failure), now, Errand::Act(planned.step)),
            (Some(sent), None) if !self.is_kept_back(sent.instruction) => Move::Nothing,
            _ if self.held_by(case, step).is_some() => Move::Blocked,
            _ if overtaken() => Move::PlanAgain,
            _ if case.is_ready(step) => Move::Do(Errand::Act(planned.step)),
            _ => Move::Nothing,
        }
    }

    fn run_errand(&mut self, id: CaseId, step: usize, errand: Errand, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        let (Some(present), Some((planned, progress))) = (case.plan(), step_of(case, step)) else {
            return;
        };
        let Some(instruction) = errands::of_step(case, present, planned, errand) else {
            return;
        };
        let number = planned.step;
        if self.is_away(&planned.system) {
            return;
        }
        let observing = planned.only_observes();
        let begins = observing || matches!(errand, Errand::Act(_));
        if begins && self.inventory.dataset(&planned.place()).is_none() {
            let event = CaseEvent::StepFailed {
                step: number,
                observing,
                class: FailureClass::Final,
                code: FailureCode(DATASET_GONE.into()),
            };
            self.record(id, event, moment.now);
            return;
        }
        let event = match errand {
            Errand::Act(_) => Some(CaseEvent::Dispatched {
                step: number,
                instruction: instruction.id,
                attempt: progress.sent.map_or(1, |sent| sent.attempt + 1),
            }),
            Errand::Observe(_, attempt) => Some(CaseEvent::ObservationAsked {
                step: number,
                instruction: instruction.id,
                attempt,
            }),
            Errand::Poll(..) => {
                self.polling.insert(instruction.id);
                None
            }
            Errand::Locate(_) => None,
        };
        let acts = matches!(errand, Errand::Act(_));
        let claims = planned.verb == Verb::Restrict && acts;
        let reached = acts
            .then(|| planned.clone())
            .zip(present.logged.as_ref().map(|(index, _)| *index));
        if let Some(event) = event {
            self.record(id, event, moment.now);
        }
        if let Some((step, index)) = reached {
            self.reach(index, &step);
        }
        if claims {
            self.refresh_claims(id);
        }
        self.send(instruction);
    }

    pub(crate) fn send(&mut self, instruction: Instruction) {
        self.in_flight
            .entry(instruction.system.clone())
            .or_default()
            .insert(instruction.id);
        self.queue(Effect::Send(instruction));
    }

    pub(crate) fn freeze(&mut self, id: CaseId, basis: &Basis, person: Person, moment: Moment) {
        let Some(case) = self.cases.get(&id).filter(|case| case.plan_due) else {
            return;
        };
        let request = self.request(case, moment);
        let plan = plan(&request, basis, &person, &self.inventory, case.acted());
        self.frozen(id, plan, person, moment);
    }

    fn freeze_lift(&mut self, id: CaseId, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        let Some(person) = case.plan().map(|present| present.person.clone()) else {
            return;
        };
        let request = self.request(case, moment);
        let plan = plan_lift(&request, case, &self.given_up(case), &self.inventory);
        self.frozen(id, plan, person, moment);
    }

    fn request(&self, case: &Case, moment: Moment) -> Request {
        Request {
            case: case.id,
            right: case.opening.right,
            verb: case.verb(),
            number: errands::plan_number(case),
            nonce: drawn(moment, case.id, b"plan"),
            now: moment.now.max(case.changed_at),
            due: case.due,
            held: self.held(case),
        }
    }

    fn frozen(&mut self, id: CaseId, plan: Plan, person: Person, moment: Moment) {
        let digest = digest(&plan);
        let nonce = drawn(moment, id, b"plan statement");
        let Some(statement) = statements::of_plan(&self.config, &plan, &digest, nonce) else {
            self.stop(Error::NoStatement {
                case: id,
                what: "plan",
            });
            return;
        };
        self.record(
            id,
            CaseEvent::PlanFrozen {
                plan,
                digest,
                statement,
                person,
            },
            moment.now,
        );
    }

    pub(crate) fn ask_statement(&mut self, id: CaseId, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        let certificate = drawn(moment, id, b"certificate");
        let nonce = drawn(moment, id, b"completion");
        let statement = statements::of_completion(
            &self.config,
            &self.inventory,
            case,
            certificate,
            nonce,
            moment.now.max(case.changed_at),
        );
        self.looked.remove(&id);
        match statement {
            Some(statement) => self.record(id, CaseEvent::StatementAsked { statement }, moment.now),
            None => self.stop(Error::NoStatement {
                case: id,
                what: "completion",
            }),
        }
    }

    /// Takes an answer. One that does not fit what is out is a repeat or stale, and changes nothing.
    pub(crate) fn answer(&mut self, answer: &Answer, moment: Moment) {
        let id = answer.case();
        let freed = answered_instruction(answer).and_then(|instruction| self.landed(instruction));
        let case = self.cases.get(&id).filter(|case| !case.is_taken_back());
        let event = case.and_then(|case| event_of(case, answer));
        if let Some(event) = event {
            let claims = matches!(
                event,
                CaseEvent::PlanLogged { .. }
                    | CaseEvent::Observed { .. }
                    | CaseEvent::StepFailed { .. }
                    | CaseEvent::StatementIssued { .. }
            );
            self.record(id, event, moment.now);
            if claims {
                self.refresh_claims(id);
                self.end_superseded(id, moment.now);
                self.wake_blocked(moment);
            }
        }
        self.advance(id, moment);
        if let Some(system) = freed {
            self.wake_waiting(&system, moment);
        }
    }

    pub(crate) fn landed(&mut self, instruction: InstructionId) -> Option<SystemName> {
        self.polling.remove(&instruction);
        self.sharing.kept_back.remove(&instruction);
        self.in_flight
            .iter_mut()
            .find_map(|(system, out)| out.remove(&instruction).then(|| system.clone()))
    }

    fn is_full(&self, system: &SystemName) -> bool {
        self.in_flight
            .get(system)
            .is_some_and(|out| out.len() >= self.room())
    }

    /// Lets the cases that wait for this system go on while it has room; those that wait for another are left alone.
    pub(crate) fn wake_waiting(&mut self, system: &SystemName, moment: Moment) {
        while !self.is_full(system) {
            let Some(next) = self.waiting.get_mut(system).and_then(BTreeSet::pop_first) else {
                return;
            };
            self.advance(next, moment);
        }
    }

    pub(crate) fn wake_blocked(&mut self, moment: Moment) {
        for id in std::mem::take(&mut self.blocked) {
            self.wake_at(id, moment.now);
        }
    }

    /// Sends again, under the same ids, what was out when the conductor stopped.
    pub(crate) fn resend(&mut self, id: CaseId) {
        let Some(case) = self.cases.get(&id).filter(|case| !case.state().is_ended()) else {
            return;
        };
        if case.plan_due && !case.locating.is_answered() {
            self.walk(id, WalkPurpose::Locate);
            return;
        }
        let Some(present) = case.plan().filter(|present| present.approved.is_some()) else {
            return;
        };
        let mut again = Vec::new();
        for (step, progress) in present.each() {
            let errand = match (progress.is_observable(step), &progress.observing, &progress.sent) {
                (true, Some(asked), _) if progress.sighting.is_none() && progress.failure.is_none() => {
                    Errand::Observe(step.step, asked.attempt)
                }
                (false, _, Some(_)) if progress.failure.is_none() && progress.ticket.is_none() => {
                    Errand::Act(step.step)
                }
                _ => continue,
            };
            again.extend(errands::of_step(case, present, step, errand));
        }
        for instruction in again {
            self.send(instruction);
        }
    }
}

fn step_of(case: &Case, step: usize) -> Option<(&Step, &StepProgress)> {
    let present = case.plan()?;
    Some((present.plan.steps.get(step)?, present.steps.get(step)?))
}

fn due_at(at: Timestamp, now: Timestamp, errand: Errand) -> Move {
    if at <= now {
        Move::Do(errand)
    } else {
        Move::Wait(at)
    }
}

fn retry_at(sent: &Sent, failure: &Failure) -> Timestamp {
    let doublings = sent.attempt.saturating_sub(1).min(20);
    failure
        .at
        .plus_millis((RETRY_BASE_MS << doublings).min(RETRY_MAX_MS))
}

/// What an observation sees where the search found nothing may have appeared in between: it is searched for again. What is overlooked once more, a
/// person has to look at.
fn search_again(case: &Case, planned: &Step, progress: &StepProgress) -> Move {
    let seen = progress.sighting.as_ref().filter(|_| planned.only_observes());
    let Some(seen) = seen.filter(|seen| seen.observed != Observed::CannotTell) else {
        return Move::Nothing;
    };
    let before = case.plans.split_last().map_or(&[][..], |(_, before)| before);
    let mut looks = before
        .iter()
        .flat_map(PlanProgress::each)
        .filter(|(step, _)| step.only_observes() && step.place() == planned.place());
    if looks.any(|(step, progress)| progress.attention(step).is_some()) {
        Move::Nothing
    } else {
        Move::SearchAgain(seen.records)
    }
}

/// An observation is asked after the receipt and the settling time (design invariant I6), and again where it could not tell.
fn next_observation(planned: &Step, progress: &StepProgress, now: Timestamp) -> Move {
    let Some(asked) = &progress.observing else {
        let settle = i64::try_from(planned.settle_ms).unwrap_or(i64::MAX);
        let from = progress
            .report
            .as_ref()
            .map(|report| report.at.plus_millis(settle));
        return due_at(from.unwrap_or(now), now, Errand::Observe(planned.step, 1));
    };
    let next = Errand::Observe(planned.step, asked.attempt + 1);
    match (&progress.failure, &progress.sighting) {
        (Some(failure), _) => due_at(retry_at(asked, failure), now, next),
        (None, Some(seen)) if seen.observed == Observed::CannotTell => {
            let doublings = asked.attempt.saturating_sub(1).min(20);
            due_at(
                asked
                    .at
                    .plus_millis((RETRY_BASE_MS << doublings).min(RETRY_MAX_MS)),
                now,
                next,
            )
        }
        _ => Move::Nothing,
    }
}

/// 128 random bits for one use, from the 256 of the moment.
fn drawn(moment: Moment, case: CaseId, label: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(moment.nonce);
    hash.update(case.as_bytes());
    hash.update(label);
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}
