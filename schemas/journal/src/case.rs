//! The history of a case: sealed entries, numbered without gaps, and the events inside them.

use lethe_terms::{
    Awaited, CaseId, CommandId, ErasureGround, FailureClass, Independence, InstructionId, Observed, Outcome,
    RestrictionGround, Right, SystemName, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{EnvelopeBytes, Found, LeafKind, Plan, Sealed, Token};

/// One entry of a case's history. Keyed by case id in `cases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseEntry {
    /// The case.
    pub case: CaseId,
    /// Number of the entry within the case, from 0; a gap is refused.
    pub number: u64,
    /// Whether the ledger has to sequence something of it, and what.
    pub leaf: Option<LeafKind>,
    /// A [`CaseEvent`] under the case's key.
    pub event: Sealed,
}

/// Code of an error, with a page in ops/errors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct FailureCode(pub String);

/// Where a case comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CaseOrigin {
    /// The person asked.
    Requested,
    /// Data of an erased person came back.
    Resurrection {
        /// The case that had erased it.
        of: CaseId,
        /// The system where it came back.
        system: SystemName,
    },
}

/// What a case is opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The right.
    pub right: Right,
    /// Why erasure is due, for an erasure.
    pub erasure_ground: Option<ErasureGround>,
    /// Why restriction is due, for a restriction.
    pub restriction_ground: Option<RestrictionGround>,
    /// When the request arrived: the clock of GDPR Art. 12(3) starts here.
    pub received_at: Timestamp,
    /// Where it comes from.
    pub origin: CaseOrigin,
    /// The person's own earlier restriction, which they give up for this erasure (GDPR Art. 18(2)).
    pub supersedes: Option<CaseId>,
    /// The identifiers that the person gave, as [`crate::SelectorsWire`] under the case's key.
    pub given: Sealed,
    /// Commitment to the person for the certificate, hexadecimal; its opening is kept apart.
    pub commitment: String,
}

/// Why a case was closed without being completed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// A system did not do what it was told.
    SystemFailed,
    /// A system could not be reached.
    SystemUnreachable,
    /// A system says one thing and shows another.
    Contradicted,
}

/// The person's notice before a restriction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftRequest {
    /// When the person was told (GDPR Art. 18(3)).
    pub notified_at: Timestamp,
}

/// The identifiers of a person that a walk reached, as tokens and as sealed selectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The identifiers as tokens.
    pub tokens: Vec<Token>,
    /// The same as [`crate::SelectorsWire`] under the case's key.
    pub identifiers: Sealed,
    /// Identifiers behind which several people seemed to stand, so that no walk of the case goes along them: once records are erased fewer people
    /// seem to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_followed: Vec<Token>,
}

/// What happened in a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CaseEvent {
    /// The case was opened and taken on.
    Opened {
        /// The command.
        command: CommandId,
        /// What was asked.
        opening: Opening,
        /// The given identifiers as tokens.
        tokens: Vec<Token>,
        /// When the answer is due (GDPR Art. 12(3), Regulation 1182/71).
        due: Timestamp,
    },
    /// A system is being searched for the person.
    LocateAsked {
        /// The instruction.
        instruction: InstructionId,
        /// The system.
        system: SystemName,
        /// Round, from 1.
        round: u32,
    },
    /// A system was searched.
    Located {
        /// The instruction.
        instruction: InstructionId,
        /// The system.
        system: SystemName,
        /// What was found.
        found: Found,
    },
    /// A system could not be searched: what it holds is unknown.
    LocateFailed {
        /// The instruction.
        instruction: InstructionId,
        /// The system.
        system: SystemName,
        /// Code of the error.
        code: FailureCode,
    },
    /// The plan is frozen.
    PlanFrozen {
        /// The plan.
        plan: Plan,
        /// Its digest, `sha256:<hex>`.
        digest: String,
        /// The public statement of it, as canonical JSON, for the ledger to sign.
        statement: String,
        /// Who the plan is about: kept for the case's own later looks.
        person: Person,
    },
    /// The plan stands in the ledger.
    PlanLogged {
        /// Digest of the plan.
        digest: String,
        /// Index of its leaf.
        index: u64,
        /// Signed tree head that covers it.
        head: String,
    },
    /// An operator approved the plan.
    Approved {
        /// The command.
        command: CommandId,
        /// Digest of the plan.
        digest: String,
    },
    /// The plan went through without an operator: it only adds to the plan before it, which was approved, records that the same identifiers reach
    /// in the same datasets.
    AdditionApproved {
        /// Digest of the plan.
        digest: String,
    },
    /// The instruction of a step goes out.
    Dispatched {
        /// The step.
        step: u32,
        /// The instruction.
        instruction: InstructionId,
        /// How often the step was tried, from 1.
        attempt: u32,
    },
    /// The system works on a step.
    InProgress {
        /// The step.
        step: u32,
        /// What to quote when asking again.
        ticket: String,
        /// When to ask again, in milliseconds.
        ask_after_ms: u64,
        /// What it waits for, where that is not its own work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        awaits: Option<Awaited>,
    },
    /// The system says that a step is done.
    Reported {
        /// The step.
        step: u32,
        /// What it says it did.
        outcome: Outcome,
        /// How many records it says it touched.
        records: u64,
        /// The signed receipt.
        receipt: EnvelopeBytes,
    },
    /// An observation of a step is asked for.
    ObservationAsked {
        /// The step.
        step: u32,
        /// The instruction.
        instruction: InstructionId,
        /// How often it was asked, from 1.
        attempt: u32,
    },
    /// A step was observed.
    Observed {
        /// The step.
        step: u32,
        /// What was seen.
        observed: Observed,
        /// How many records were still seen.
        records: u64,
        /// How independent it was.
        independence: Independence,
        /// The signed observation.
        observation: EnvelopeBytes,
    },
    /// A step, or its observation, ended badly.
    StepFailed {
        /// The step.
        step: u32,
        /// Whether it was the observation.
        observing: bool,
        /// What the failure allows.
        class: FailureClass,
        /// Code of the error.
        code: FailureCode,
    },
    /// A walk before the first instruction or before the statement found other holdings than those of the plan, or what is known by then leaves
    /// something open that the plan does not say.
    NewHoldings {
        /// How many; none where it is only to be said.
        records: u64,
    },
    /// A walk came to a bound before it had reached everything: nothing can be decided on it, and taking it again would come to the same.
    WalkCutOff {
        /// Code of the bound.
        code: FailureCode,
    },
    /// A later plan of another case reached records of a step first: the system would refuse this plan's instruction as stale.
    Overtaken {
        /// The step.
        step: u32,
    },
    /// An operator asked for a new plan.
    ReplanAsked {
        /// The command.
        command: CommandId,
    },
    /// An operator ends the restriction.
    LiftAsked {
        /// The command.
        command: CommandId,
        /// The person's notice.
        lift: LiftRequest,
    },
    /// The person took the request back.
    Withdrawn {
        /// The command.
        command: CommandId,
    },
    /// The person gave the restriction up for an erasure of theirs, which has ended with a certificate (GDPR Art. 18(2)).
    GivenUp {
        /// The case of the erasure.
        erasure: CaseId,
    },
    /// An operator closed the case without completion.
    Closed {
        /// The command.
        command: CommandId,
        /// Why.
        reason: CloseReason,
    },
    /// The statement of the case goes to the ledger to be signed.
    StatementAsked {
        /// The statement, as canonical JSON.
        statement: String,
    },
    /// The ledger signed and sequenced the statement.
    StatementIssued {
        /// Id of the certificate or statement.
        certificate: String,
        /// Index of its leaf.
        index: u64,
    },
}

impl CaseEvent {
    /// What the ledger has to sequence of this event.
    pub const fn leaf(&self) -> Option<LeafKind> {
        match self {
            Self::PlanFrozen { .. } => Some(LeafKind::Plan),
            Self::Reported { .. } => Some(LeafKind::Receipt),
            Self::Observed { .. } => Some(LeafKind::Observation),
            Self::StatementAsked { .. } => Some(LeafKind::Statement),
            _ => None,
        }
    }
}
