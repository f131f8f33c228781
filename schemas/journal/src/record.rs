//! What stands in the tables: records, keys, cursors, suppression.

use std::fmt;

use lethe_terms::{
    CaseId, DatasetName, Identifier, IdentifierKind, IdentifierToken, RecordToken, ShardName, SystemName,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Position, Sealed};

/// An identifier of a record, as a token in front of the entry.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Kind of the identifier behind the token: decides how far a walk follows it.
    pub kind: IdentifierKind,
    /// The token.
    pub token: IdentifierToken,
}

/// A record as it was last observed, whole. Keyed by [`RecordToken`] in `records`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordObserved {
    /// The record.
    pub record: RecordToken,
    /// The system that holds it.
    pub system: SystemName,
    /// The dataset within the system.
    pub dataset: DatasetName,
    /// Every identifier that the record holds, sorted.
    pub tokens: Vec<Token>,
    /// A [`RecordSecret`] under the record's own data key.
    pub secret: Sealed,
    /// Keyed digest of the observed state: equal digests mean nothing new. Hexadecimal.
    pub digest: String,
    /// How many lines or rows the record stood for when this entry was written; not part of the digest.
    pub count: u64,
}

/// What an entry keeps sealed: how the system finds the record, and its identifiers in the clear.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSecret {
    /// The handle by which the connector finds the record; opaque to everybody else.
    pub handle: String,
    /// The identifiers, normalised.
    pub identifiers: Vec<Identifier>,
}

impl fmt::Debug for RecordSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordSecret({} identifiers)", self.identifiers.len())
    }
}

/// A data key, wrapped. Keyed by record token or case id in `keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyWrapped {
    /// The bucket whose key wraps it.
    pub bucket: u32,
    /// The data key under the bucket's key.
    pub wrapped: Sealed,
}

/// How far a source shard was read. Keyed by shard in `cursors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CursorAdvanced {
    /// The system.
    pub system: SystemName,
    /// The shard.
    pub shard: ShardName,
    /// The connector's own mark, without personal data.
    pub cursor: String,
}

/// Reminder that a person was erased, so that what comes back is caught. Keyed by suppression token in `erased`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasedMark {
    /// The case that erased.
    pub case: CaseId,
    /// When the mark ends: after the longest backup.
    pub until: Timestamp,
}

/// An operator has looked at a quarantined input and it hides nobody: it counts no more, and stays until its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputDropped {
    /// The system it came from, where one is known.
    pub system: Option<SystemName>,
    /// Where the input stands in the `quarantine` stream.
    pub position: Position,
}

/// Input that could not be read: kept sealed, with its position, never dropped by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quarantined {
    /// The system it came from, where one is known.
    pub system: Option<SystemName>,
    /// Where in its source it stood, in the connector's words, without personal data.
    pub position: String,
    /// Code of the error; see ops/errors.
    pub code: String,
    /// What was expected, without personal data.
    pub expected: String,
    /// The input itself, under a data key of its own; where it is a part of records, in that under the first one's key, too.
    pub input: Sealed,
    /// That key, wrapped.
    pub key: KeyWrapped,
    /// The records that it is a part of ([`InputOrigin`]), under the same key; nothing where it is no record's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Sealed>,
    /// What intake needs to take the input in again, under the same key, and in it what its record held, under the record's key; nothing where only
    /// the source has the whole of it. Of a published event, which is no record's part, what decides whether it may still be taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Sealed>,
    /// Where on the log it stood, where it came from no source: it stood among Lethe's own entries and can be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stood: Option<Stood>,
}

/// A place of the log at which something stood that can be no entry of Lethe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stood {
    /// The stream, by its name.
    pub stream: String,
    /// The partition.
    pub partition: u16,
    /// The position.
    pub position: Position,
    /// Whether it bears the name of a record of which nothing was known: what it took the place of may have been anybody's.
    #[serde(default, skip_serializing_if = "is_not")]
    pub hides: bool,
}

/// What stands under no name of a record is the rule, and says nothing of it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_not(hides: &bool) -> bool {
    !*hides
}

impl fmt::Display for Stood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} at {}", self.stream, self.partition, self.position)
    }
}

/// Everything that can be no entry is put away of a place of the log, up to a position. It is said again behind what was decided since, so that
/// this may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceCleared {
    /// The stream, by its name.
    pub stream: String,
    /// The partition.
    pub partition: u16,
    /// The position.
    pub before: Position,
}

/// What a quarantined input is a part of. With the first of its records that is gone it counts no more, and opens no more once the key of the first
/// one named is ended (GDPR Art. 17).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputOrigin {
    /// Its records: one, or those of a crowd.
    pub records: Vec<RecordToken>,
}

/// A record that a quarantined input was a part of is gone, and the input with it: it counts no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputEnded {
    /// The system it came from.
    pub system: SystemName,
    /// Where the input stands in the `quarantine` stream.
    pub position: Position,
}

/// An operator asks for a quarantined input to be taken in again: something was mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputRetryAsked {
    /// The system it came from, where one is known.
    pub system: Option<SystemName>,
    /// Where the input stands in the `quarantine` stream.
    pub position: Position,
}

/// What became of that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputRetried {
    /// The system it came from, where one is known.
    pub system: Option<SystemName>,
    /// Where the input stands in the `quarantine` stream.
    pub position: Position,
    /// Why it stays; nothing where it was taken in and counts no more.
    pub stays: Option<InputStays>,
}

/// Why a quarantined input stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputStays {
    /// Code of the error; see ops/errors.
    pub code: String,
    /// What was expected, without personal data.
    pub expected: String,
}
