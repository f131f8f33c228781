//! What an answer is news of: the event that it becomes, or nothing where it is a repeat or stale.

use lethe_casework::{Case, Statement};
use lethe_journal::{Answer, CaseEvent, FailureCode, Found};
use lethe_terms::{FailureClass, InstructionId, SystemName};

use crate::errands::{self, Errand};

/// The instruction that an answer is to, where it is to one.
pub(crate) const fn answered_instruction(answer: &Answer) -> Option<InstructionId> {
    match answer {
        Answer::Located { instruction, .. }
        | Answer::InProgress { instruction, .. }
        | Answer::Reported { instruction, .. }
        | Answer::Observed { instruction, .. }
        | Answer::Failed { instruction, .. } => Some(*instruction),
        Answer::PlanSequenced { .. } | Answer::StatementIssued { .. } | Answer::Refused { .. } => None,
    }
}

/// Where an instruction belongs in the present plan.
enum Belongs {
    Act(u32),
    Observation(u32),
}

fn belongs(case: &Case, instruction: InstructionId) -> Option<Belongs> {
    let present = case.plan().filter(|_| !case.plan_due)?;
    present
        .plan
        .steps
        .iter()
        .zip(&present.steps)
        .find_map(|(step, progress)| {
            let polled = progress.ticket.as_ref().map(|ticket| {
                errands::instruction_id(
                    case.id,
                    present.plan.number,
                    &step.system,
                    Errand::Poll(step.step, ticket.ask_at.millis()),
                )
            });
            let acting = progress.sent.is_some_and(|sent| sent.instruction == instruction)
                || polled == Some(instruction);
            let observing = progress
                .observing
                .is_some_and(|sent| sent.instruction == instruction);
            if acting && progress.report.is_none() {
                Some(Belongs::Act(step.step))
            } else if observing && progress.sighting.is_none() && progress.failure.is_none() {
                Some(Belongs::Observation(step.step))
            } else {
                None
            }
        })
}

/// The step that an instruction to act, or a question how far it has come, belongs to.
fn acting(case: &Case, instruction: InstructionId) -> Option<u32> {
    match belongs(case, instruction)? {
        Belongs::Act(step) => Some(step),
        Belongs::Observation(_) => None,
    }
}

/// The step that an observation belongs to.
fn observing(case: &Case, instruction: InstructionId) -> Option<u32> {
    match belongs(case, instruction)? {
        Belongs::Observation(step) => Some(step),
        Belongs::Act(_) => None,
    }
}

/// The event that an answer is, where it is news.
pub(crate) fn event_of(case: &Case, answer: &Answer) -> Option<CaseEvent> {
    match answer {
        Answer::Located {
            instruction,
            system,
            found,
            ..
        } => located(case, *instruction, system, *found),
        Answer::InProgress {
            instruction,
            ticket,
            ask_after_ms,
            awaits,
            ..
        } => Some(CaseEvent::InProgress {
            step: acting(case, *instruction)?,
            ticket: ticket.clone(),
            ask_after_ms: *ask_after_ms,
            awaits: *awaits,
        }),
        Answer::Reported {
            instruction,
            outcome,
            records,
            receipt,
            ..
        } => Some(CaseEvent::Reported {
            step: acting(case, *instruction)?,
            outcome: *outcome,
            records: *records,
            receipt: receipt.clone(),
        }),
        Answer::Observed {
            instruction,
            observed,
            records,
            independence,
            observation,
            ..
        } => Some(CaseEvent::Observed {
            step: observing(case, *instruction)?,
            observed: *observed,
            records: *records,
            independence: *independence,
            observation: observation.clone(),
        }),
        Answer::Failed {
            instruction,
            class,
            code,
            ..
        } => failed(case, *instruction, *class, code),
        Answer::PlanSequenced {
            digest, index, head, ..
        } => logged(case, digest, *index, head),
        Answer::StatementIssued {
            certificate, index, ..
        } => (case.statement == Statement::Asked).then(|| CaseEvent::StatementIssued {
            certificate: certificate.clone(),
            index: *index,
        }),
        // It is the conductor's own, said to whoever waits for the command.
        Answer::Refused { .. } => None,
    }
}

fn located(case: &Case, instruction: InstructionId, system: &SystemName, found: Found) -> Option<CaseEvent> {
    let (asked, answered) = case.locating.asked.get(system)?;
    (*asked == instruction && answered.is_none() && case.plan_due).then(|| CaseEvent::Located {
        instruction,
        system: system.clone(),
        found,
    })
}

fn logged(case: &Case, digest: &str, index: u64, head: &str) -> Option<CaseEvent> {
    let present = case.plan()?;
    (present.digest == digest && present.logged.is_none()).then(|| CaseEvent::PlanLogged {
        digest: digest.to_owned(),
        index,
        head: head.to_owned(),
    })
}

fn failed(
    case: &Case,
    instruction: InstructionId,
    class: FailureClass,
    code: &FailureCode,
) -> Option<CaseEvent> {
    let located = case
        .locating
        .asked
        .iter()
        .find(|(_, (asked, answer))| *asked == instruction && answer.is_none());
    if let Some((system, _)) = located {
        return Some(CaseEvent::LocateFailed {
            instruction,
            system: system.clone(),
            code: code.clone(),
        });
    }
    let (step, observing) = match belongs(case, instruction)? {
        Belongs::Act(step) => (step, false),
        Belongs::Observation(step) => (step, true),
    };
    Some(CaseEvent::StepFailed {
        step,
        observing,
        class,
        code: code.clone(),
    })
}
