//! A process of several, as it tells the others that it lives and how far its readers are.

use std::collections::BTreeSet;

use lethe_terms::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Position;

/// One process, whole: the newest entry replaces the older ones. Keyed by `process:` and its name in `systems`. Nothing personal stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessTold {
    /// The name by which the others know it.
    pub instance: String,
    /// What it does, in the words of `--role`; who reads an unknown one passes it over.
    pub roles: BTreeSet<String>,
    /// Roles, in the same words, that another process has and this one takes when that ends. They are none of `roles`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub standing_by: BTreeSet<String>,
    /// When it started.
    pub since: Timestamp,
    /// Whether it stops now.
    pub is_stopping: bool,
    /// How far its readers are.
    pub lags: Vec<LagTold>,
}

/// How far one reader of a partition is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LagTold {
    /// Which part of the process reads.
    pub reader: String,
    /// The stream, by its name.
    pub stream: String,
    /// The partition.
    pub partition: u16,
    /// Positions between the reader and the head.
    pub entries: Position,
    /// Age of the oldest entry that it has not read, in milliseconds; 0 where what is left is nobody's to read; nothing where it has read all, or nobody knows the age.
    pub oldest_ms: Option<u64>,
}
