//! Instructions: orders to a system, and the selectors that travel sealed inside them.

use std::fmt;

use lethe_terms::{CaseId, DatasetName, Identifier, InstructionId, RecordToken, SystemName, Timestamp, Verb};
use serde::{Deserialize, Serialize};

use crate::{Event, Sealed};

/// An instruction as it travels on the log.
pub type Order = Event<Instruction>;

/// Orders all instructions of all cases: the index of the plan in the ledger, then the step. A system refuses the
/// stale one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Index of the plan's leaf in the ledger.
    pub plan_index: u64,
    /// Number of the step in the plan.
    pub step: u32,
}

/// An order to one system. What it selects is sealed under the case's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Instruction {
    /// The same id twice has the effect of once.
    pub id: InstructionId,
    /// The case.
    pub case: CaseId,
    /// The system that is to act.
    pub system: SystemName,
    /// What to do.
    pub verb: Verb,
    /// Records and identifiers, sealed: a [`SelectorsWire`].
    pub selectors: Sealed,
    /// What only an instruction of a logged plan has: nothing acts without it.
    pub planned: Option<Planned>,
    /// Round of locating, from 1; 0 for an instruction of a plan.
    pub round: u32,
    /// The system's own ticket, where it is asked how far it has come.
    pub ticket: Option<String>,
    /// The instruction that the ticket was given for: a question has an id of its own, and a system knows its work by the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asks_about: Option<InstructionId>,
}

pub use planned::Planned;

mod planned {
    use super::{DatasetName, Deserialize, Generation, Serialize, Timestamp, Verb};

    /// The plan behind an instruction (design invariant I5: the plan is logged before the first instruction).
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    pub struct Planned {
        /// Digest of the plan, `sha256:<hex>`.
        pub digest: String,
        /// Signed tree head that covers the plan's leaf.
        pub head: String,
        /// Place among all instructions.
        pub generation: Generation,
        /// The dataset of the step.
        pub dataset: DatasetName,
        /// Verb of the step; differs from the instruction's where it observes.
        pub step_verb: Verb,
        /// For an observation of what was done: digest of the receipt that it checks, `sha256:<hex>`.
        pub receipt: Option<String>,
        /// What led to the instruction happened then: what is signed of it bears no earlier time, also where the clock was set back since.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub not_before: Option<Timestamp>,
    }
}

/// What an instruction selects, as opened by the host.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Selectors {
    /// Records of the step's dataset, with the handle by which the connector finds each.
    pub records: Vec<(RecordToken, String)>,
    /// Identifiers of the person, normalised.
    pub identifiers: Vec<Identifier>,
}

impl fmt::Debug for Selectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Selectors({} records, {} identifiers)",
            self.records.len(),
            self.identifiers.len()
        )
    }
}

/// [`Selectors`] inside the seal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectorsWire {
    records: Vec<(RecordToken, String)>,
    identifiers: Vec<Identifier>,
}

impl fmt::Debug for SelectorsWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelectorsWire(redacted)")
    }
}

impl From<Selectors> for SelectorsWire {
    fn from(selectors: Selectors) -> Self {
        Self {
            records: selectors.records,
            identifiers: selectors.identifiers,
        }
    }
}

impl From<SelectorsWire> for Selectors {
    fn from(wire: SelectorsWire) -> Self {
        Self {
            records: wire.records,
            identifiers: wire.identifiers,
        }
    }
}
