//! The topics of the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topic of the log, or a stream of one that is embedded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopicView {
    /// Its name.
    pub topic: String,
    /// How its entries end: `table`, `queue` or `history`.
    pub kind: String,
    /// How long after it ended a value may still stand there, in words.
    pub gone_by: String,
    /// The same in seconds; `None` where no time ends it.
    pub gone_by_s: Option<u64>,
    /// What is not as declared about it.
    pub findings: Vec<String>,
}

/// All topics of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TopicList {
    /// The topics.
    pub topics: Vec<TopicView>,
    /// Whether somebody could look at them within the last minute.
    pub looked: bool,
    /// Why certificates promise no time at present; `None` where they do.
    pub pending: Option<String>,
}
