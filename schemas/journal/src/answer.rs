//! Answers: what connector hosts and the ledger say to the conductor. Nothing personal stands in one.

use std::fmt;

use lethe_terms::{
    Awaited, CaseId, CommandId, FailureClass, Independence, InstructionId, Observed, Outcome, SystemName,
};
use serde::{Deserialize, Serialize};

use crate::{Event, FailureCode};

/// An answer as it travels on the log.
pub type AnswerEvent = Event<Answer>;

/// A DSSE envelope as JSON text, exactly as it was signed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct EnvelopeBytes(pub String);

impl fmt::Debug for EnvelopeBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({} B)", self.0.len())
    }
}

/// What a leaf of the ledger stands for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LeafKind {
    /// A frozen plan.
    Plan,
    /// A receipt of a connector host.
    Receipt,
    /// An observation.
    Observation,
    /// A certificate, or the statement that a case was not completed.
    Statement,
}

/// What locating in one system found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Records that the system has of the person.
    pub records: u64,
    /// Those of them that lineage did not know: the lineage gap.
    pub unknown_before: u64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// A system was searched; what was found went through intake.
    Located {
        /// The case.
        case: CaseId,
        /// The instruction that is answered.
        instruction: InstructionId,
        /// The system.
        system: SystemName,
        /// What was found.
        found: Found,
    },
    /// A system took the instruction and works on it.
    InProgress {
        /// The case.
        case: CaseId,
        /// The instruction that is answered.
        instruction: InstructionId,
        /// What to quote when asking again.
        ticket: String,
        /// When to ask again, in milliseconds.
        ask_after_ms: u64,
        /// What it waits for, where that is not its own work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        awaits: Option<Awaited>,
    },
    /// A system says that it is done.
    Reported {
        /// The case.
        case: CaseId,
        /// The instruction that is answered.
        instruction: InstructionId,
        /// What it says it did.
        outcome: Outcome,
        /// How many records it says it touched.
        records: u64,
        /// The signed receipt.
        receipt: EnvelopeBytes,
    },
    /// An observation was taken.
    Observed {
        /// The case.
        case: CaseId,
        /// The instruction that is answered.
        instruction: InstructionId,
        /// What was seen.
        observed: Observed,
        /// How many records were still seen.
        records: u64,
        /// How independent it was.
        independence: Independence,
        /// The signed observation.
        observation: EnvelopeBytes,
    },
    /// An instruction ended badly.
    Failed {
        /// The case.
        case: CaseId,
        /// The instruction that is answered.
        instruction: InstructionId,
        /// What the failure allows.
        class: FailureClass,
        /// Code of the error; see ops/errors.
        code: FailureCode,
    },
    /// The ledger holds the plan.
    PlanSequenced {
        /// The case.
        case: CaseId,
        /// Digest of the plan, `sha256:<hex>`.
        digest: String,
        /// Index of its leaf.
        index: u64,
        /// Signed tree head that covers it.
        head: String,
    },
    /// The ledger signed and sequenced the case's statement.
    StatementIssued {
        /// The case.
        case: CaseId,
        /// Id of the certificate or statement.
        certificate: String,
        /// Index of its leaf.
        index: u64,
    },
    /// The conductor refused a command; nothing was done. What was accepted stands in the case's history.
    Refused {
        /// The case.
        case: CaseId,
        /// The command.
        command: CommandId,
        /// What kind of refusal it is.
        kind: RefusedAs,
        /// Stable code, with a page in ops/errors.
        code: FailureCode,
        /// What is in the way and what would fit.
        message: String,
    },
}

/// What kind of refusal it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RefusedAs {
    /// There is no such case.
    NoSuchCase,
    /// The command itself is wrong.
    Invalid,
    /// It does not fit the state of the case.
    Conflict,
}

impl Answer {
    /// The case that is answered.
    pub const fn case(&self) -> CaseId {
        match self {
            Self::Located { case, .. }
            | Self::InProgress { case, .. }
            | Self::Reported { case, .. }
            | Self::Observed { case, .. }
            | Self::Failed { case, .. }
            | Self::PlanSequenced { case, .. }
            | Self::StatementIssued { case, .. }
            | Self::Refused { case, .. } => *case,
        }
    }
}
