//! Instructions and their ids.

use lethe_casework::{Case, PlanProgress};
use lethe_journal::{Generation, Instruction, Planned, Sealed, Step};
use lethe_terms::{CaseId, InstructionId, SystemName, Verb};
use sha2::{Digest, Sha256};

/// What an instruction of a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Search in one system, in a round of the plan to come.
    Locate(u32),
    /// Carry out a step.
    Act(u32),
    /// Ask how far a step is, for the n-th time in milliseconds of its due moment.
    Poll(u32, i64),
    /// Observe a step, for the n-th time.
    Observe(u32, u32),
}

/// The id of an errand: derived, so that sending it again after a crash is the same instruction.
pub(crate) fn instruction_id(case: CaseId, plan: u32, system: &SystemName, errand: Errand) -> InstructionId {
    let (kind, first, second) = match errand {
        Errand::Locate(round) => (0_u8, round, 0),
        Errand::Act(step) => (1, step, 0),
        Errand::Poll(step, at) => (2, step, at),
        Errand::Observe(step, attempt) => (3, step, i64::from(attempt)),
    };
    let mut hash = Sha256::new();
    hash.update(b"lethe instruction v1");
    hash.update(case.as_bytes());
    hash.update(plan.to_be_bytes());
    hash.update([kind]);
    hash.update(first.to_be_bytes());
    hash.update(second.to_be_bytes());
    hash.update(system.as_str().as_bytes());
    let digest = hash.finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    InstructionId::from_bytes(id)
}

/// Number of the plan that a case is making or carrying out.
pub(crate) fn plan_number(case: &Case) -> u32 {
    let made = u32::try_from(case.plans.len()).unwrap_or(u32::MAX);
    if case.plan_due {
        made.saturating_add(1)
    } else {
        made
    }
}

/// The order to search one system.
pub(crate) fn locate(case: &Case, system: &SystemName, round: u32, identifiers: &Sealed) -> Instruction {
    Instruction {
        id: instruction_id(case.id, plan_number(case), system, Errand::Locate(round)),
        case: case.id,
        system: system.clone(),
        verb: Verb::Locate,
        selectors: identifiers.clone(),
        planned: None,
        round,
        ticket: None,
        asks_about: None,
    }
}

/// The order that an errand of a step sends; `None` while the plan is not in the ledger (design invariant I5).
pub(crate) fn of_step(
    case: &Case,
    present: &PlanProgress,
    step: &Step,
    errand: Errand,
) -> Option<Instruction> {
    let (index, head) = present.logged.as_ref()?;
    let progress = present.steps.get(usize::try_from(step.step).ok()?)?;
    let (verb, ticket, receipt) = match errand {
        Errand::Locate(_) => return None,
        Errand::Act(_) => (step.verb, None, None),
        Errand::Poll(..) => (step.verb, Some(progress.ticket.as_ref()?.quote.clone()), None),
        Errand::Observe(..) if step.only_observes() => (Verb::Observe, None, None),
        Errand::Observe(..) => (
            Verb::Observe,
            None,
            Some(crate::statements::envelope_digest(
                &progress.report.as_ref()?.receipt,
            )?),
        ),
    };
    let led_here = progress.report.as_ref().map(|report| report.at);
    let led_here = led_here.into_iter().chain(progress.sent.map(|sent| sent.at));
    let not_before = match errand {
        Errand::Observe(..) => led_here.fold(present.plan.frozen_at, Ord::max),
        _ => present.plan.frozen_at,
    };
    Some(Instruction {
        id: instruction_id(case.id, present.plan.number, &step.system, errand),
        case: case.id,
        system: step.system.clone(),
        verb,
        selectors: step.selectors.clone(),
        planned: Some(Planned {
            digest: present.digest.clone(),
            head: head.clone(),
            generation: Generation {
                plan_index: *index,
                step: step.step,
            },
            dataset: step.dataset.clone(),
            step_verb: step.verb,
            receipt,
            not_before: Some(not_before),
        }),
        round: 0,
        asks_about: progress
            .sent
            .filter(|_| ticket.is_some())
            .map(|sent| sent.instruction),
        ticket,
    })
}
