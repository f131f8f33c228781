//! How far one step of a plan has come.

use lethe_journal::{CaseEvent, EnvelopeBytes, FailureCode, Held, Step};
use lethe_terms::{
    Awaited, DatasetName, FailureClass, Independence, InstructionId, Observed, Outcome, StepState,
    SystemName, Timestamp, Verb,
};

/// What keeps a case from going on by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attention {
    /// The system that fell short; `None` where it is nothing of any system.
    pub system: Option<SystemName>,
    /// The dataset, where it is about one.
    pub dataset: Option<DatasetName>,
    /// Code of what is wrong; see ops/errors.
    pub code: String,
}

/// A step says that it is done and an observation contradicts it.
const CONTRADICTED: &str = "casework-contradicted";
/// A search found nothing of the person where an observation sees them.
const OVERLOOKED: &str = "casework-overlooked";
/// An observation could not tell, again and again.
const CANNOT_TELL: &str = "casework-cannot-tell";
/// The system cannot do what the plan asks.
const NOT_SUPPORTED: &str = "casework-not-supported";

/// An instruction that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The instruction.
    pub instruction: InstructionId,
    /// How often, from 1.
    pub attempt: u32,
    /// When it was journaled.
    pub at: Timestamp,
}

/// What a system said it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// Records that it says it touched.
    pub records: u64,
    /// The signed receipt.
    pub receipt: EnvelopeBytes,
    /// When it was journaled.
    pub at: Timestamp,
}

/// What an observation saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The result.
    pub observed: Observed,
    /// Records that were still seen.
    pub records: u64,
    /// How independent it was.
    pub independence: Independence,
    /// The signed observation.
    pub observation: EnvelopeBytes,
}

/// What a system that has taken an instruction said about when it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// What to quote when asking again.
    pub quote: String,
    /// When to ask again.
    pub ask_at: Timestamp,
    /// What it waits for, where that is not its own work.
    pub awaits: Option<Awaited>,
    /// How often in a row the question failed.
    pub failed: u32,
}

impl Ticket {
    /// The question failed, and nothing is known of the work: it is asked again, later each time.
    fn ask_later(&mut self, failed_at: Timestamp) {
        let doublings = self.failed.min(ASK_AGAIN_DOUBLINGS_MAX);
        let wait = (ASK_AGAIN_BASE_MS << doublings).min(ASK_AGAIN_MAX_MS);
        self.ask_at = failed_at.plus_millis(wait);
        self.failed = self.failed.saturating_add(1);
    }
}

/// A failure of a step or of its observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whether the observation failed.
    pub observing: bool,
    /// What it allows.
    pub class: FailureClass,
    /// Code of the error.
    pub code: FailureCode,
    /// When it was journaled.
    pub at: Timestamp,
}

/// How far one step has come: a fold of the events that name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepProgress {
    /// The instruction that is or was out.
    pub sent: Option<Sent>,
    /// What a system that works on it gave to ask again with.
    pub ticket: Option<Ticket>,
    /// What the system said.
    pub report: Option<Report>,
    /// The observation that is or was out.
    pub observing: Option<Sent>,
    /// What was seen last.
    pub sighting: Option<Sighting>,
    /// The last failure that nothing has overtaken.
    pub failure: Option<Failure>,
    /// Whether an attempt was taken on or ended unknown, and no report has come since: that a later attempt did not happen says nothing
    /// about it.
    pub may_have_acted: bool,
}

/// Tries of an instruction that did not happen: enough for a restart of the system, few enough to reach a person soon.
pub const STEP_ATTEMPTS_MAX: u32 = 5;

/// Tries of an observation that could not tell.
pub const OBSERVE_ATTEMPTS_MAX: u32 = 5;

/// First wait before a question how far the work is, which failed, is asked again, in milliseconds; doubled each time. The system has just
/// not answered.
const ASK_AGAIN_BASE_MS: i64 = 1_000;

/// Longest such wait, in milliseconds: the work may be done meanwhile, and a deadline runs.
const ASK_AGAIN_MAX_MS: i64 = 300_000;

/// Doublings after which the longest wait is reached anyway; more would overflow.
const ASK_AGAIN_DOUBLINGS_MAX: u32 = 20;

impl StepProgress {
    /// Folds an event of the step; one that is of no step changes nothing.
    // tidy: long because it is one arm per event of a step, and what each changes of the step is read side by side
    pub(crate) fn fold(&mut self, event: &CaseEvent, at: Timestamp) {
        match event {
            CaseEvent::Dispatched {
                instruction, attempt, ..
            } => {
                self.sent = Some(Sent {
                    instruction: *instruction,
                    attempt: *attempt,
                    at,
                });
                self.failure = None;
                self.ticket = None;
            }
            CaseEvent::InProgress {
                ticket,
                ask_after_ms,
                awaits,
                ..
            } => {
                let wait = i64::try_from(*ask_after_ms).unwrap_or(i64::MAX);
                self.ticket = Some(Ticket {
                    quote: ticket.clone(),
                    ask_at: at.plus_millis(wait),
                    awaits: *awaits,
                    failed: 0,
                });
                self.may_have_acted = true;
            }
            CaseEvent::Reported {
                outcome,
                records,
                receipt,
                ..
            } => {
                self.report = Some(Report {
                    outcome: *outcome,
                    records: *records,
                    receipt: receipt.clone(),
                    at,
                });
                self.ticket = None;
                self.failure = None;
                self.may_have_acted = false;
            }
            CaseEvent::ObservationAsked {
                instruction, attempt, ..
            } => {
                self.observing = Some(Sent {
                    instruction: *instruction,
                    attempt: *attempt,
                    at,
                });
                self.sighting = None;
                self.failure = None;
            }
            CaseEvent::Observed {
                observed,
                records,
                independence,
                observation,
                ..
            } => {
                self.sighting = Some(Sighting {
                    observed: *observed,
                    records: *records,
                    independence: *independence,
                    observation: observation.clone(),
                });
                self.failure = None;
            }
            CaseEvent::StepFailed {
                observing,
                class,
                code,
                ..
            } => {
                self.fail(Failure {
                    observing: *observing,
                    class: *class,
                    code: code.clone(),
                    at,
                });
            }
            _ => {}
        }
    }

    /// Folds a failure. A question how far the work is that did not happen leaves the ticket as it is: the work goes on, and acting again
    /// would double it.
    pub(crate) fn fail(&mut self, failure: Failure) {
        let acting = !failure.observing;
        self.may_have_acted |= acting && failure.class == FailureClass::Unknown;
        match &mut self.ticket {
            Some(ticket) if acting && failure.class == FailureClass::Retryable => {
                ticket.ask_later(failure.at);
            }
            _ => self.failure = Some(failure),
        }
    }

    /// Whether an observation saw what the verb wants.
    pub fn is_verified(&self, step: &Step) -> bool {
        match (&self.report, &self.sighting) {
            (Some(report), Some(seen)) => is_borne_out(step, report, seen.observed),
            (None, Some(seen)) => step.only_observes() && seen.observed == Observed::Absent,
            _ => false,
        }
    }

    /// Whether there is nothing more to do than to observe.
    pub fn is_observable(&self, step: &Step) -> bool {
        step.only_observes() || self.report.is_some()
    }

    /// Whether the instruction may have had an effect that no report tells of: in its last attempt or in an earlier one.
    pub fn is_unknown(&self) -> bool {
        let did_not_happen = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.class != FailureClass::Unknown);
        self.sent.is_some() && self.report.is_none() && (self.may_have_acted || !did_not_happen)
    }

    /// Whether the system refused for good to act, and never may have.
    pub fn is_refused(&self) -> bool {
        let is_final = |failure: &Failure| !failure.observing && failure.class == FailureClass::Final;
        self.failure.as_ref().is_some_and(is_final) && self.report.is_none() && !self.may_have_acted
    }

    /// State of the step. Whether it is blocked depends on other steps and cases: the caller knows.
    pub fn state(&self, step: &Step, blocked: bool) -> StepState {
        if self.is_verified(step) {
            StepState::Verified
        } else if self.attention(step).is_some() {
            StepState::Failed
        } else if self.report.is_some() {
            StepState::Reported
        } else if self.ticket.is_some() {
            StepState::InProgress
        } else if self.sent.is_some() || self.observing.is_some() {
            StepState::Dispatched
        } else if blocked {
            StepState::Blocked
        } else {
            StepState::Planned
        }
    }

    /// What a person has to look at, where the step cannot go on by itself.
    pub fn attention(&self, step: &Step) -> Option<Attention> {
        let code = self.attention_code(step)?;
        Some(Attention {
            system: Some(step.system.clone()),
            dataset: Some(step.dataset.clone()),
            code,
        })
    }

    fn attention_code(&self, step: &Step) -> Option<String> {
        if let Some(failure) = &self.failure
            && self.is_exhausted(step.verb, failure)
        {
            return Some(failure.code.0.clone());
        }
        let reported = self.report.as_ref().map(|report| report.outcome);
        if reported == Some(Outcome::NotSupported) {
            return Some(NOT_SUPPORTED.into());
        }
        let seen = self.sighting.as_ref()?;
        match seen.observed {
            Observed::CannotTell => self
                .observing
                .is_some_and(|sent| sent.attempt >= OBSERVE_ATTEMPTS_MAX)
                .then(|| CANNOT_TELL.into()),
            _ if self.is_verified(step) => None,
            _ if step.only_observes() => Some(OVERLOOKED.into()),
            _ => Some(CONTRADICTED.into()),
        }
    }

    fn is_exhausted(&self, verb: Verb, failure: &Failure) -> bool {
        if failure.observing {
            let attempts = self.observing.map_or(0, |sent| sent.attempt);
            return failure.class == FailureClass::Final || attempts >= OBSERVE_ATTEMPTS_MAX;
        }
        match failure.class {
            FailureClass::Final => true,
            FailureClass::Retryable => self.sent.is_some_and(|sent| sent.attempt >= STEP_ATTEMPTS_MAX),
            // What could double is never repeated blindly: a person looks.
            FailureClass::Unknown => {
                verb.repeat_could_double() || self.sent.is_some_and(|sent| sent.attempt >= STEP_ATTEMPTS_MAX)
            }
        }
    }
}

/// Whether report and observation show what the step wants. The case knows more than a verifier of its certificate: where the system held
/// something for it, finding less is no success.
fn is_borne_out(step: &Step, report: &Report, observed: Observed) -> bool {
    let not_found = report.outcome == Outcome::NotFound;
    let lost = match (step.verb, step.held) {
        (Verb::Lift, Held::Something { records }) => not_found || report.records < records,
        (Verb::Lift, Held::Perhaps) | (Verb::Restrict, Held::Perhaps | Held::Something { .. }) => {
            not_found && observed == Observed::Absent
        }
        _ => false,
    };
    !lost && fits(step.verb, report.outcome, observed)
}

/// Whether an observation shows what a verb wants, as a verifier of the certificate judges it. What was to be restricted or released
/// and is gone afterwards was lost, unless it was not there before.
pub fn fits(verb: Verb, reported: Outcome, observed: Observed) -> bool {
    let was_not_there = reported == Outcome::NotFound && observed == Observed::Absent;
    match verb {
        Verb::Erase => observed == Observed::Absent,
        Verb::Restrict => observed == Observed::Restricted || was_not_there,
        Verb::Lift => observed == Observed::Present || was_not_there,
        Verb::Locate | Verb::Export | Verb::Rectify | Verb::Observe | Verb::Notify => false,
    }
}
