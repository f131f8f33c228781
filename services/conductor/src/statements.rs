//! What the ledger is asked to sign: the public plan, and the completion statement.

use lethe_casework::{Case, PlanProgress, Statement, StepProgress};
use lethe_journal::{CloseReason, EnvelopeBytes, Inventory, Plan, PlannedException, Remark, Step};
use lethe_proof::{
    Completion, Conclusion, Copy, Envelope, ExceptionRow, Kind, LIST_MAX, Party, PlanReference, PlanRemark,
    PlanStatement, PlanStep, RequestReference, Row, SUBJECT_SCHEME, Software, Subject, to_canonical,
};
use lethe_terms::{Outcome, Right, StepState, Timestamp, Verb};

use crate::Config;

/// What no certificate of this version can say; the verifier has the words.
const LIMITS: [&str; 7] = ["L1", "L2", "L3", "L4", "L5", "L6", "L7"];

/// Digest of what an envelope signs, `sha256:<hex>`; nothing for what is no envelope.
pub(crate) fn envelope_digest(envelope: &EnvelopeBytes) -> Option<String> {
    Envelope::from_text(&envelope.0)
        .and_then(|envelope| envelope.digest())
        .ok()
}

fn plan_step(step: &Step) -> PlanStep {
    PlanStep {
        step: step.step,
        system: step.system.clone(),
        dataset: step.dataset.clone(),
        verb: step.verb,
    }
}

fn exception_row(exception: &PlannedException) -> ExceptionRow {
    ExceptionRow {
        system: exception.system.clone(),
        dataset: exception.dataset.clone(),
        norm: exception.norm.clone(),
        until: exception.until,
    }
}

/// Nothing where the statement has no canonical form: the caller stops the case with an error.
fn canonical<T: serde::Serialize>(statement: &T) -> Option<String> {
    to_canonical("statement", statement)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

/// The public statement of a plan, as canonical JSON.
pub(crate) fn of_plan(config: &Config, plan: &Plan, digest: &str, nonce: [u8; 16]) -> Option<String> {
    canonical(&PlanStatement {
        schema: "lethe-plan/v1".into(),
        request_id: plan.case,
        nonce: hex::encode(nonce),
        right: plan.right,
        controller: config.controller_id.clone(),
        plan_digest: digest.to_owned(),
        inventory_digest: plan.inventory.clone(),
        frozen_at: plan.frozen_at,
        steps: plan.steps.iter().map(plan_step).collect(),
        exceptions: plan.exceptions.iter().map(exception_row).collect(),
        remarks: plan.remarks.iter().map(plan_remark).collect(),
    })
}

fn plan_remark(remark: &Remark) -> PlanRemark {
    PlanRemark {
        code: remark.code.code().to_owned(),
        system: remark.system.clone(),
        dataset: remark.dataset.clone(),
        detail: remark.detail.clone(),
    }
}

/// The completion statement of a case about its present plan, as canonical JSON. It claims completion only where no person closed the case
/// without it, and a verifier recomputes that from the rows.
pub(crate) fn of_completion(
    config: &Config,
    inventory: &Inventory,
    case: &Case,
    certificate: [u8; 16],
    nonce: [u8; 16],
    now: Timestamp,
) -> Option<String> {
    let present = case.plan()?;
    let opening = &case.opening;
    let ground = opening
        .erasure_ground
        .map(|ground| ground.code())
        .or_else(|| opening.restriction_ground.map(|ground| ground.code()));
    canonical(&Completion {
        schema: "lethe-completion/v1".into(),
        certificate_id: hex::encode(certificate),
        kind: kind_of(case),
        conclusion: if case.closed.is_some() {
            Conclusion::NotCompleted
        } else {
            Conclusion::Completed
        },
        controller: Party {
            id: config.controller_id.clone(),
            name: config.controller_name.clone(),
        },
        software: Software {
            name: "lethe".into(),
            version: config.version.clone(),
        },
        request: RequestReference {
            request_id: case.id,
            received_at: opening.received_at,
            due_at: case.due,
            ground: ground.unwrap_or_default().to_owned(),
        },
        subject: Subject {
            scheme: SUBJECT_SCHEME.into(),
            commitment: opening.commitment.clone(),
        },
        plan: PlanReference {
            digest: present.digest.clone(),
            index: present.logged.as_ref()?.0,
        },
        earlier: earlier(case),
        rows: rows(present),
        exceptions: present.plan.exceptions.iter().map(exception_row).collect(),
        copies: copies(config, inventory),
        limits: LIMITS.iter().map(|limit| (*limit).to_owned()).collect(),
        reasons: case
            .closed
            .map(|reason| reason_code(reason).to_owned())
            .into_iter()
            .collect(),
        issued_at: now,
        nonce: hex::encode(nonce),
    })
}

/// Whether the statement of a closed case can never be written: there is no logged plan that it could be about.
pub(crate) fn is_never_to_come(case: &Case) -> bool {
    let is_plan_logged = case.plan().is_some_and(|present| present.logged.is_some());
    case.closed.is_some() && case.statement == Statement::None && !is_plan_logged
}

fn copies(config: &Config, inventory: &Inventory) -> Vec<Copy> {
    let own = config.copies.iter().map(|(place, gone_by)| Copy {
        place: place.clone(),
        gone_by: gone_by.clone(),
    });
    let backups = inventory.systems.iter().map(|system| Copy {
        place: format!("backups of {}", system.name),
        gone_by: system
            .backup_days
            .map_or_else(|| "unknown, nobody told".into(), |days| format!("{days} days")),
    });
    let unread = inventory.systems.iter().filter(|system| system.quarantined > 0);
    let unread = unread.map(|system| Copy {
        place: format!(
            "quarantine: {} of {} that could not be read, sealed",
            inputs(system.quarantined),
            system.name
        ),
        gone_by: "when somebody has looked at each".into(),
    });
    own.chain(backups).chain(unread).collect()
}

fn inputs(count: u64) -> String {
    format!("{count} {}", if count == 1 { "input" } else { "inputs" })
}

fn kind_of(case: &Case) -> Kind {
    let verb = case
        .plan()
        .and_then(PlanProgress::verb)
        .unwrap_or_else(|| case.verb());
    match (case.opening.right, verb) {
        (Right::Erasure, _) => Kind::Erasure,
        (Right::Restriction, Verb::Lift) => Kind::RestrictionLifted,
        (Right::Restriction, _) => Kind::Restriction,
    }
}

/// The plans before the present one of which an instruction went out, the newest of them where there are more than a statement may name.
fn earlier(case: &Case) -> Vec<PlanReference> {
    let before = case.plans.len().saturating_sub(1);
    let mut earlier: Vec<_> = case.plans[..before]
        .iter()
        .filter(|made| made.steps.iter().any(|step| step.sent.is_some()))
        .filter_map(|made| {
            Some(PlanReference {
                digest: made.digest.clone(),
                index: made.logged.as_ref()?.0,
            })
        })
        .collect();
    earlier.drain(..earlier.len().saturating_sub(LIST_MAX));
    earlier
}

fn rows(present: &PlanProgress) -> Vec<Row> {
    present
        .plan
        .steps
        .iter()
        .zip(&present.steps)
        .map(|(step, progress)| row(step, progress))
        .collect()
}

fn row(step: &Step, progress: &StepProgress) -> Row {
    let state = match progress.state(step, false) {
        // Kept under an exception: there is nothing to see absent.
        StepState::Failed
            if progress
                .report
                .as_ref()
                .is_some_and(|report| report.outcome == Outcome::Retained) =>
        {
            StepState::Reported
        }
        state => state,
    };
    Row {
        step: plan_step(step),
        state,
        reported: progress.report.as_ref().map(|report| report.outcome),
        independence: progress.sighting.as_ref().map(|seen| seen.independence),
        receipt: progress
            .report
            .as_ref()
            .and_then(|report| envelope_digest(&report.receipt)),
        observation: progress
            .sighting
            .as_ref()
            .and_then(|seen| envelope_digest(&seen.observation)),
        reason: progress.attention(step).map(|attention| attention.code),
    }
}

const fn reason_code(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::SystemFailed => "system_failed",
        CloseReason::SystemUnreachable => "system_unreachable",
        CloseReason::Contradicted => "contradicted",
    }
}
