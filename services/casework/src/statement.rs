//! What was signed about a case: how far the statement of the present plan has come, and everything that was issued before.

use lethe_terms::{Timestamp, Verb};

/// How far the signed statement of the present plan has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Statement {
    /// Not asked for.
    #[default]
    None,
    /// At the ledger.
    Asked,
    /// Signed and sequenced.
    Issued {
        /// Id of the certificate or statement.
        certificate: String,
        /// Index of its leaf.
        index: u64,
        /// When it was journaled.
        at: Timestamp,
    },
}

/// One certificate or statement of a case. A later one, such as that of a lift, does not take its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its id.
    pub certificate: String,
    /// What its plan carried out.
    pub verb: Verb,
    /// Whether it states completion: otherwise a person closed the case without.
    pub completed: bool,
    /// Digest of its plan, `sha256:<hex>`.
    pub plan_digest: String,
    /// When it was journaled.
    pub at: Timestamp,
}
