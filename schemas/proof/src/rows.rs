//! Row by row: whether the receipts and observations bear the statement out, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::VerifyingKey;
use lethe_terms::{Independence, Observed, Outcome, StepState, SystemName, Timestamp, Verb};

use crate::policy::{KeyPair, Keys};
use crate::statements::{
    Completion, Conclusion, ObservationStatement, PlanStatement, ReceiptStatement, Row, Statement,
};
use crate::{Error, Logged, key_id};

/// How far apart clocks of one installation may be, in milliseconds.
const SKEW_MS: i64 = 300_000;

/// What does not hold, in words.
pub(crate) type Objection = String;

/// An opened envelope with the index of its leaf.
pub(crate) struct Opened<T> {
    pub(crate) statement: T,
    pub(crate) digest: String,
    pub(crate) index: u64,
}

/// The statements behind the rows, in the order of the file and by digest.
pub(crate) struct Evidence {
    receipts: Signed<ReceiptStatement>,
    observations: Signed<ObservationStatement>,
}

struct Signed<T> {
    order: Vec<String>,
    by_digest: BTreeMap<String, Opened<T>>,
}

impl Evidence {
    /// Opens every receipt and observation with the keys of the system that it names.
    pub(crate) fn open(receipts: &[Logged], observations: &[Logged], keys: &Keys) -> Result<Self, Error> {
        Ok(Self {
            receipts: Signed::open(
                receipts,
                keys,
                |pair| &pair.0,
                |said: &ReceiptStatement| &said.step.system,
            )?,
            observations: Signed::open(
                observations,
                keys,
                |pair| &pair.1,
                |seen: &ObservationStatement| &seen.step.system,
            )?,
        })
    }
}

impl<T: Statement> Signed<T> {
    fn open(
        all: &[Logged],
        keys: &Keys,
        role: fn(&KeyPair) -> &VerifyingKey,
        system: fn(&T) -> &SystemName,
    ) -> Result<Self, Error> {
        let by_id: BTreeMap<String, &VerifyingKey> = keys
            .systems
            .values()
            .map(|pair| (key_id(role(pair)), role(pair)))
            .collect();
        let mut this = Self {
            order: Vec::new(),
            by_digest: BTreeMap::new(),
        };
        for logged in all {
            let nobody = || Error::Signature { what: T::WHAT };
            // Nothing inside is read before the signature holds: so the key is found by its id, and then has to be that of the system named inside.
            let named = logged
                .envelope
                .signatures
                .first()
                .map(|signature| signature.keyid.as_str())
                .unwrap_or_default();
            let key = by_id.get(named).copied().ok_or_else(nobody)?;
            let statement: T = logged.envelope.open_statement(key)?;
            let expected = keys.systems.get(system(&statement)).map(role);
            if expected != Some(key) {
                return Err(nobody());
            }
            let digest = logged.envelope.digest()?;
            this.order.push(digest.clone());
            let opened = Opened {
                statement,
                digest: digest.clone(),
                index: logged.proof.index,
            };
            if this.by_digest.insert(digest, opened).is_some() {
                return Err(Error::malformed(T::WHAT, "stands twice"));
            }
        }
        Ok(this)
    }
}

/// Checks that the rows are exactly the plan's steps, and each row against its receipt and observation.
pub(crate) fn check(
    completion: &Opened<Completion>,
    plan: &Opened<PlanStatement>,
    evidence: &Evidence,
) -> Result<(), Objection> {
    let steps = &plan.statement.steps;
    let planned: BTreeSet<_> = steps.iter().collect();
    let stated: BTreeSet<_> = completion.statement.rows.iter().map(|row| &row.step).collect();
    let numbers: BTreeSet<_> = steps.iter().map(|step| step.step).collect();
    let places: BTreeSet<_> = steps
        .iter()
        .map(|step| (&step.system, &step.dataset, step.verb))
        .collect();
    if numbers.len() != steps.len()
        || places.len() != steps.len()
        || stated.len() != completion.statement.rows.len()
    {
        return Err("a step stands twice".into());
    }
    if planned != stated {
        return Err("the rows are not exactly the steps of the logged plan".into());
    }
    for row in &completion.statement.rows {
        check_row(row, completion, plan, evidence)
            .map_err(|objection| format!("{} {}: {objection}", row.step.system, row.step.dataset))?;
    }
    let rows = &completion.statement.rows;
    let receipts = rows.iter().filter_map(|row| row.receipt.as_ref());
    let observations = rows.iter().filter_map(|row| row.observation.as_ref());
    if !receipts.eq(&evidence.receipts.order) || !observations.eq(&evidence.observations.order) {
        return Err("the receipts and observations are not exactly those of the rows, in their order".into());
    }
    Ok(())
}

fn check_row(
    row: &Row,
    completion: &Opened<Completion>,
    plan: &Opened<PlanStatement>,
    evidence: &Evidence,
) -> Result<(), Objection> {
    let receipt = match &row.receipt {
        Some(digest) => {
            let receipt = evidence
                .receipts
                .by_digest
                .get(digest)
                .ok_or("its receipt is missing")?;
            check_receipt(row, receipt, completion, plan)?;
            Some(receipt)
        }
        None => None,
    };
    let reported = receipt.map(|receipt| receipt.statement.outcome);
    if row.reported != reported {
        return Err("it reports another outcome than its receipt".into());
    }
    if reported.is_some_and(|outcome| !belongs(row.step.verb, outcome)) {
        return Err("its receipt reports what its verb cannot bring about".into());
    }
    let only_observes = row.step.verb == Verb::Observe;
    if only_observes && receipt.is_some() {
        return Err("a receipt of what only observes".into());
    }
    let observation = match (&row.observation, receipt) {
        (Some(_), None) if !only_observes => return Err("an observation without a receipt".into()),
        (Some(digest), receipt) => {
            let observation = evidence
                .observations
                .by_digest
                .get(digest)
                .ok_or("its observation is missing")?;
            check_observation(row, observation, receipt, completion, plan)?;
            Some(&observation.statement)
        }
        (None, _) => None,
    };
    if row.independence != observation.map(|seen| seen.independence) {
        return Err("it states another independence than its observation".into());
    }
    let verified = observation.is_some_and(|seen| shows(row.step.verb, reported, seen.observed));
    if (row.state == StepState::Verified) != verified {
        return Err("its state is not what its observation shows".into());
    }
    if row.state == StepState::Reported && receipt.is_none() {
        return Err("it claims a report without a receipt".into());
    }
    Ok(())
}

fn check_receipt(
    row: &Row,
    receipt: &Opened<ReceiptStatement>,
    completion: &Opened<Completion>,
    plan: &Opened<PlanStatement>,
) -> Result<(), Objection> {
    let said = &receipt.statement;
    if said.step != row.step
        || said.request_id != completion.statement.request.request_id
        || said.plan_digest != plan.statement.plan_digest
        || said.generation.plan_index != plan.index
        || said.generation.step != row.step.step
    {
        return Err("its receipt is about something else".into());
    }
    in_order(
        "plan, receipt and statement",
        &[plan.index, receipt.index, completion.index],
    )?;
    in_time(&[
        plan.statement.frozen_at,
        said.started_at,
        said.finished_at,
        completion.statement.issued_at,
    ])
}

fn check_observation(
    row: &Row,
    observation: &Opened<ObservationStatement>,
    receipt: Option<&Opened<ReceiptStatement>>,
    completion: &Opened<Completion>,
    plan: &Opened<PlanStatement>,
) -> Result<(), Objection> {
    let seen = &observation.statement;
    if seen.step != row.step
        || seen.request_id != completion.statement.request.request_id
        || seen.plan_digest != plan.statement.plan_digest
        || seen.receipt.as_ref() != receipt.map(|receipt| &receipt.digest)
    {
        return Err("its observation is about something else".into());
    }
    in_order(
        "what it checks, observation and statement",
        &[
            receipt.map_or(plan.index, |receipt| receipt.index),
            observation.index,
            completion.index,
        ],
    )?;
    in_time(&[
        receipt.map_or(plan.statement.frozen_at, |receipt| receipt.statement.finished_at),
        seen.at,
        completion.statement.issued_at,
    ])
}

fn in_order(what: &str, indices: &[u64]) -> Result<(), Objection> {
    if indices.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(())
    } else {
        Err(format!("{what} are not in this order in the log"))
    }
}

pub(crate) fn in_time(times: &[Timestamp]) -> Result<(), Objection> {
    if times.windows(2).all(|pair| pair[1].since(pair[0]) >= -SKEW_MS) {
        Ok(())
    } else {
        Err("its times run backwards".into())
    }
}

/// Whether an outcome can come of a verb.
fn belongs(verb: Verb, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Retained | Outcome::NotFound | Outcome::NotSupported => true,
        Outcome::Erased | Outcome::Anonymised | Outcome::CryptoShredded => verb == Verb::Erase,
        Outcome::Restricted => verb == Verb::Restrict,
        Outcome::Lifted => verb == Verb::Lift,
        Outcome::Notified => verb == Verb::Notify,
    }
}

/// Whether an observation shows what a verb wants. What was to be restricted or released and is gone afterwards was lost, unless it was not there before.
fn shows(verb: Verb, reported: Option<Outcome>, observed: Observed) -> bool {
    let was_not_there = reported == Some(Outcome::NotFound) && observed == Observed::Absent;
    match verb {
        Verb::Erase | Verb::Observe => observed == Observed::Absent,
        Verb::Restrict => observed == Observed::Restricted || was_not_there,
        Verb::Lift => observed == Observed::Present || was_not_there,
        _ => false,
    }
}

/// Whether every row is done, recomputed.
pub(crate) fn is_done(completion: &Completion) -> bool {
    completion
        .rows
        .iter()
        .all(|row| row.state == StepState::Verified || is_retained(row))
}

/// Whether something stays.
pub(crate) fn has_exceptions(completion: &Completion) -> bool {
    !completion.exceptions.is_empty() || completion.rows.iter().any(is_retained)
}

fn is_retained(row: &Row) -> bool {
    row.reported == Some(Outcome::Retained) && row.state == StepState::Reported
}

/// What the conclusion claims against what the rows show.
pub(crate) fn check_conclusion(completion: &Completion) -> Result<(), Objection> {
    let unexplained =
        |row: &Row| matches!(row.state, StepState::Failed | StepState::Overdue) && row.reason.is_none();
    match completion.conclusion {
        Conclusion::Completed if !is_done(completion) => {
            Err("it claims completion, and a row is not done".into())
        }
        Conclusion::Completed
            if !completion.reasons.is_empty() || completion.rows.iter().any(|row| row.reason.is_some()) =>
        {
            Err("it claims completion, and gives reasons against".into())
        }
        Conclusion::Completed => exceptions_hold(completion),
        Conclusion::NotCompleted if completion.reasons.is_empty() => Err("it gives no reason".into()),
        Conclusion::NotCompleted if completion.rows.iter().any(unexplained) => {
            Err("a system fell short and it does not say why".into())
        }
        Conclusion::NotCompleted => Ok(()),
    }
}

/// What stays needs a norm and an end that lies ahead (GDPR Art. 17(3)).
fn exceptions_hold(completion: &Completion) -> Result<(), Objection> {
    let covered = |row: &Row| {
        completion
            .exceptions
            .iter()
            .any(|exception| exception.system == row.step.system && exception.dataset == row.step.dataset)
    };
    if !completion.rows.iter().filter(|row| is_retained(row)).all(covered) {
        return Err("something is retained without a norm and an end date".into());
    }
    if completion
        .exceptions
        .iter()
        .any(|exception| exception.until <= completion.issued_at)
    {
        return Err("an exception had ended before the statement was issued".into());
    }
    Ok(())
}

/// Whether an observation was hardly independent.
pub(crate) fn is_weak(row: &Row) -> bool {
    row.independence == Some(Independence::SamePath)
}
