//! A plan as people see it.

use lethe_terms::{CaseId, DataCategory, IdentifierKind, Outcome, Right, Timestamp, Verb};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RemarkView;

/// A plan: what will be done, before anybody approves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// The case.
    pub case: CaseId,
    /// The right.
    pub right: Right,
    /// Number of the plan within the case, from 1.
    pub number: u32,
    /// Its digest, `sha256:<hex>`: what approval names.
    pub digest: String,
    /// When it was frozen.
    pub frozen_at: Timestamp,
    /// Index of its leaf in the ledger, once sequenced.
    pub ledger_index: Option<u64>,
    /// The steps, in an order that fits their dependencies.
    pub steps: Vec<PlanStepView>,
    /// What stays, and why.
    pub exceptions: Vec<ExceptionView>,
    /// What the linter remarked.
    pub remarks: Vec<RemarkView>,
}

impl PlanView {
    /// Steps that change something.
    pub fn acting(&self) -> impl Iterator<Item = &PlanStepView> {
        self.steps.iter().filter(|step| step.verb != Verb::Observe)
    }

    /// Steps that look whether nothing is there, where nothing was found.
    pub fn looks(&self) -> impl Iterator<Item = &PlanStepView> {
        self.steps.iter().filter(|step| step.verb == Verb::Observe)
    }
}

/// A step as planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanStepView {
    /// Number of the step, from 0.
    pub step: u32,
    /// The system.
    pub system: String,
    /// The dataset.
    pub dataset: String,
    /// What is asked.
    pub verb: Verb,
    /// How many records.
    pub records: u64,
    /// Steps that must be verified before.
    pub after: Vec<u32>,
    /// Categories of data in the dataset.
    pub categories: Vec<DataCategory>,
    /// How the records were reached, with how many by each way.
    pub reached: Vec<PathView>,
    /// How long the system may take to act, in milliseconds.
    pub lead_ms: u64,
    /// How long the system needs before an observation can tell, in milliseconds.
    pub settle_ms: u64,
}

/// A step of an earlier plan that was sent to its system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarlierView {
    /// Number of the plan within the case, from 1.
    pub plan: u32,
    /// The system.
    pub system: String,
    /// The dataset.
    pub dataset: String,
    /// What was asked.
    pub verb: Verb,
    /// What the system says it did; `None` where it said nothing.
    pub outcome: Option<Outcome>,
    /// Whether an observation saw it done.
    pub seen: bool,
}

/// A way from what the person gave to records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathView {
    /// Kinds of the identifiers along the way, nearest to the record last.
    pub path: Vec<IdentifierKind>,
    /// How many records were reached this way.
    pub records: u64,
}

/// Data that a plan leaves in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExceptionView {
    /// The system.
    pub system: String,
    /// The dataset.
    pub dataset: String,
    /// The norm, such as `17-3-b`.
    pub norm: String,
    /// Until when the data is kept.
    pub until: Timestamp,
}
