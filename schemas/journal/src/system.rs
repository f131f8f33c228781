//! What processes tell one another: what a system is like and how it stands, and who folds which partition of lineage.

use std::collections::BTreeMap;

use lethe_terms::{DatasetName, SystemName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{FailureCode, InventorySystem, Position};

/// One system, whole: the newest entry replaces the older ones. Keyed by its name in `systems`. Nothing personal stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemTold {
    /// What is known of it when a plan is made.
    pub inventory: InventorySystem,
    /// Kind of its connector.
    pub kind: String,
    /// What a record of each dataset is, in words.
    pub units: BTreeMap<DatasetName, String>,
    /// When the last look began that read every shard to its end; nothing before.
    pub caught_up_at: Option<Timestamp>,
    /// Code of why the last read of its feed, or opening it, failed.
    pub failure: Option<FailureCode>,
    /// Units of the feed that were read.
    pub done: u64,
    /// Units of the feed as far as they are known.
    pub total: u64,
    /// Records that were new or changed since its host started.
    pub appended: u64,
    /// The newest wish for a scan ([`ScanAsked`]) for which it was, or is being, read from its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_asked: Option<Timestamp>,
    /// Whether it is being read from its beginning, or is to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scanning: bool,
    /// The look of `caught_up_at` began after every wish for a look ([`LookAsked`]) was heard that stands before this position of `systems`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_before: Option<Position>,
}

/// Somebody wants every feed looked at that is hosted elsewhere, and to hear when a look that began later than this has read it to its end. Keyed
/// by `look:` in `systems`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookAsked {}

/// Somebody asks for a system to be read from its beginning: its host does it. Keyed by `scan:` and its name in `systems`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanAsked {
    /// The system.
    pub system: SystemName,
}

/// An owner of a partition of lineage that has caught up: whoever asks about the partition asks here. Keyed by its number in `owners`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionOwned {
    /// The partition.
    pub partition: u16,
    /// Name of the process.
    pub instance: String,
    /// Where it is asked, as the start of a URL.
    pub address: String,
    /// Authentication code of all that, by a key that only processes of the installation have, 32 hexadecimal digits: without the right one nobody
    /// asks there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}
