//! The verifier: from a file and a policy to a report. No network, no clock, no trust in anything inside the file.

use lethe_terms::{Identifier, Outcome, StepState, Verb};

use crate::bundle::Bundle;
use crate::merkle::verify_inclusion;
use crate::note::{Checkpoint, open_checkpoint};
use crate::policy::{Keys, Policy};
use crate::report::{About, Report, SUBJECT_NOT_CHECKED, Status, SystemRow};
use crate::rows::{self, Evidence, Opened};
use crate::statements::{Completion, Conclusion, PlanRemark, PlanStatement, Row, Statement};
use crate::{Error, Leaf, LeafKind, Logged, SubjectOpening};

/// Verifies a certificate file. Without a policy only its form is checked, and nothing that it claims is repeated.
pub fn verify(file: &[u8], policy: Option<&[u8]>) -> Report {
    verified(file, policy, None)
}

/// As [`verify`], and checks that the certificate is about the person with one of these identifiers, each in the spelling that Lethe commits to.
/// One about somebody else is invalid for whoever asks.
pub fn verify_subject(
    file: &[u8],
    policy: Option<&[u8]>,
    opening: &SubjectOpening,
    identifiers: &[Identifier],
) -> Report {
    verified(file, policy, Some((opening, identifiers)))
}

type Named<'a> = (&'a SubjectOpening, &'a [Identifier]);

fn verified(file: &[u8], policy: Option<&[u8]>, named: Option<Named<'_>>) -> Report {
    let mut report = Report::new();
    let bundle = match Bundle::from_bytes(file) {
        Ok(bundle) => bundle,
        Err(error) => return report.ended("form of the file", Status::Malformed, error.to_string()),
    };
    report.passed("form of the file");
    let Some(policy) = policy else {
        return report.ended(
            "policy",
            Status::Pending,
            "no policy was given: whose keys count is not known",
        );
    };
    let keys = match Policy::from_bytes(policy).and_then(|policy| policy.keys()) {
        Ok(keys) => keys,
        Err(error) => return report.ended("policy", Status::Malformed, error.to_string()),
    };
    report.passed("policy");
    match checked(&bundle, &keys, &mut report) {
        Ok((completion, remarks)) => {
            if let Some((opening, identifiers)) = named {
                if !is_about(&completion, opening, identifiers) {
                    return report.ended(SUBJECT_CHECK, Status::Invalid, SUBJECT_OBJECTION);
                }
                report.passed(SUBJECT_CHECK);
                report.not_checked.retain(|text| text != SUBJECT_NOT_CHECKED);
            }
            concluded(report, &completion, &remarks)
        }
        Err((name, Failure::Error(error @ Error::Malformed { .. }))) => {
            report.ended(name, Status::Malformed, error.to_string())
        }
        Err((name, Failure::Error(error))) => report.ended(name, Status::Invalid, error.to_string()),
        Err((name, Failure::Objection(objection))) => report.ended(name, Status::Invalid, objection),
    }
}

const SUBJECT_CHECK: &str = "subject";

const SUBJECT_OBJECTION: &str = "the opening and the identifier are not those behind the certificate: it is about somebody else, the \
    opening is that of another case, or the identifier is spelled otherwise";

fn is_about(completion: &Completion, opening: &SubjectOpening, identifiers: &[Identifier]) -> bool {
    let subject = &completion.subject;
    subject.scheme == opening.scheme
        && completion.controller.id == opening.controller
        && identifiers
            .iter()
            .any(|identifier| opening.opens(&subject.commitment, identifier))
}

enum Failure {
    Error(Error),
    Objection(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

type Checked<T> = Result<T, (&'static str, Failure)>;

fn at<T>(name: &'static str, result: Result<T, Error>) -> Checked<T> {
    result.map_err(|error| (name, Failure::Error(error)))
}

fn holds(name: &'static str, result: Result<(), String>) -> Checked<()> {
    result.map_err(|objection| (name, Failure::Objection(objection)))
}

fn checked(bundle: &Bundle, keys: &Keys, report: &mut Report) -> Checked<(Completion, Vec<PlanRemark>)> {
    let head = at("checkpoint", open_checkpoint(&bundle.checkpoint, &keys.log))?;
    report.passed("checkpoint");
    let completion = at(
        "signature of the statement",
        open::<Completion>(&bundle.statement, &keys.statement),
    )?;
    report.passed("signature of the statement");
    let plan = at(
        "signature of the plan",
        open::<PlanStatement>(&bundle.plan, &keys.plan),
    )?;
    report.passed("signature of the plan");
    let evidence = at(
        "receipts and observations",
        Evidence::open(&bundle.receipts, &bundle.observations, keys),
    )?;
    report.passed("receipts and observations");
    holds("inclusion in the log", included(bundle, &head))?;
    report.passed("inclusion in the log");
    holds("plan", same_case(&completion, &plan, keys))?;
    report.passed("plan");
    holds("completeness", rows::check(&completion, &plan, &evidence))?;
    report.passed("completeness");
    holds("conclusion", rows::check_conclusion(&completion.statement))?;
    report.passed("conclusion");
    Ok((completion.statement, plan.statement.remarks))
}

fn open<T: Statement>(logged: &Logged, key: &ed25519_dalek::VerifyingKey) -> Result<Opened<T>, Error> {
    Ok(Opened {
        statement: logged.envelope.open_statement(key)?,
        digest: logged.envelope.digest()?,
        index: logged.proof.index,
    })
}

fn included(bundle: &Bundle, head: &Checkpoint) -> Result<(), String> {
    let one = |kind, logged: &Logged, what: &str| -> Result<(), String> {
        let leaf = Leaf::of(kind, &logged.envelope).map_err(|error| error.to_string())?;
        let path = logged.proof.path().map_err(|error| error.to_string())?;
        if verify_inclusion(&leaf.hash(), logged.proof.index, head.size, &path, &head.root) {
            Ok(())
        } else {
            Err(format!("the {what} is not in the log under this checkpoint"))
        }
    };
    one(LeafKind::Statement, &bundle.statement, "statement")?;
    one(LeafKind::Plan, &bundle.plan, "plan")?;
    for receipt in &bundle.receipts {
        one(LeafKind::Receipt, receipt, "receipt")?;
    }
    for observation in &bundle.observations {
        one(LeafKind::Observation, observation, "observation")?;
    }
    Ok(())
}

fn same_case(
    completion: &Opened<Completion>,
    plan: &Opened<PlanStatement>,
    keys: &Keys,
) -> Result<(), String> {
    let (said, planned) = (&completion.statement, &plan.statement);
    if said.controller.id != keys.controller || planned.controller != keys.controller {
        return Err("it is about another controller than the policy".into());
    }
    if said.request.request_id != planned.request_id || said.plan.digest != planned.plan_digest {
        return Err("the statement is about another plan".into());
    }
    if said.plan.index != plan.index || plan.index >= completion.index {
        return Err(
            "the plan does not stand in the log where the statement says, before the statement".into(),
        );
    }
    let plans = said.earlier.iter().chain([&said.plan]);
    if !plans.map(|plan| plan.index).is_sorted_by(|a, b| a < b) {
        return Err("the earlier plans do not stand in the log before the plan, in their order".into());
    }
    if said.exceptions != planned.exceptions {
        return Err("the exceptions are not those of the plan".into());
    }
    let verb = said.kind.verb();
    let mut acting = planned.steps.iter().filter(|step| step.verb != Verb::Observe);
    if acting.any(|step| step.verb != verb) {
        return Err("the plan does something else than the statement is about".into());
    }
    if said.kind.right() != planned.right {
        return Err("the plan answers to another right than the statement".into());
    }
    let request = &said.request;
    if request.due_at < request.received_at {
        return Err("the answer was due before the request arrived".into());
    }
    rows::in_time(&[request.received_at, planned.frozen_at, said.issued_at])
}

/// The outcome of a row, in words that no reader takes for more than was seen: what a system only says it did is `reported`.
fn outcome_of(row: &Row) -> String {
    let told = matches!(
        row.reported,
        Some(Outcome::Retained | Outcome::NotFound | Outcome::NotSupported | Outcome::Notified)
    );
    match row.reported {
        Some(reported) if told && row.state == StepState::Reported => reported.code().to_owned(),
        _ => row.state.code().to_owned(),
    }
}

fn remarks_on(completion: &Completion, of_plan: &[PlanRemark]) -> Vec<String> {
    let mut remarks: Vec<String> = of_plan.iter().map(PlanRemark::words).collect();
    for row in &completion.rows {
        let place = format!("{} {}", row.step.system, row.step.dataset);
        if rows::is_weak(row) {
            remarks.push(format!(
                "{place}: the observation went the way of the work and is hardly independent"
            ));
        }
        if row.reported == Some(Outcome::CryptoShredded) {
            remarks.push(format!(
                "{place}: the key was destroyed; the ciphertext may still be there"
            ));
        }
    }
    for plan in &completion.earlier {
        remarks.push(format!(
            "instructions of an earlier plan of the case (leaf {}) went out before: what they did has receipts of its own in the log, \
             and where a row says not_found they may be why",
            plan.index
        ));
    }
    if completion.rows.iter().all(|row| row.step.verb == Verb::Observe) {
        remarks
            .push("the plan changes nothing: no system of the inventory was found to hold anything".into());
    }
    if completion.issued_at > completion.request.due_at {
        remarks.push("it was issued after the answer was due (GDPR Art. 12(3))".into());
    }
    remarks
}

fn concluded(mut report: Report, completion: &Completion, of_plan: &[PlanRemark]) -> Report {
    report.systems = completion
        .rows
        .iter()
        .map(|row| SystemRow {
            system: row.step.system.clone(),
            dataset: row.step.dataset.clone(),
            verb: row.step.verb,
            outcome: outcome_of(row),
            reported: row.reported,
            independence: row.independence,
            reason: row.reason.clone(),
        })
        .collect();
    report.about = Some(About::of(completion));
    report.copies.clone_from(&completion.copies);
    report.limits.clone_from(&completion.limits);
    report.remarks = remarks_on(completion, of_plan);
    report.status = match completion.conclusion {
        Conclusion::NotCompleted => Status::NotCompleted,
        Conclusion::Completed
            if rows::has_exceptions(completion) || of_plan.iter().any(PlanRemark::leaves_open) =>
        {
            Status::CompleteWithExceptions
        }
        Conclusion::Completed => Status::Complete,
    };
    report
}
