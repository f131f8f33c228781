//! The words of Lethe: typed ids, identifier kinds, categories, purposes, legal bases, verbs and outcomes.
//!
//! Pure: no I/O, no clock, no randomness. Every closed list carries its wire code and, where the Data Privacy
//! Vocabulary (W3C DPV 2.3) has the term, its DPV code. A name here has one meaning everywhere.

mod ids;
mod law;
mod people;
mod time;
mod vocabulary;
mod work;

pub use ids::{
    CaseId, CommandId, DatasetName, EntryId, IdentifierToken, InstructionId, IssuerName, NameError,
    RecordToken, ShardName, SuppressionToken, SystemName, UnitToken,
};
pub use law::{ErasureGround, LegalBasis, RestrictionGround, Right, norm};
pub use people::{Identifier, IdentifierKind, IssuedKind, Strength};
pub use time::Timestamp;
pub use vocabulary::{DataCategory, DpvCode, Purpose, UnknownWord};
pub use work::{Awaited, CaseState, FailureClass, Independence, Observed, Outcome, StepState, Verb};
