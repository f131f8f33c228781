//! Why lineage stops.

use lethe_journal::Position;

/// Why a fold, a query or a walk stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rows could not be read: nothing is known, which is not the same as nothing being there.
    #[error("rows are unavailable: {0}")]
    RowsUnavailable(String),
    /// A row does not decode: the store has to be wiped and folded again.
    #[error("a row cannot be read: expected {expected}")]
    RowUnreadable {
        /// What the row should have been.
        expected: &'static str,
    },
    /// An entry of the log does not decode. The fold stops before one of a newer version.
    #[error("entry at position {position} cannot be read: {source}")]
    EntryUnreadable {
        /// Where it stands in its partition.
        position: Position,
        /// Why.
        source: lethe_journal::Error,
    },
    /// An entry's key is not the key of what it holds.
    #[error("entry at position {position} has another key than its content")]
    KeyMismatch {
        /// Where it stands in its partition.
        position: Position,
    },
    /// A walk was given an answer to something else than it asked.
    #[error("answer does not fit what was asked: expected {expected} results, got {got}")]
    UnexpectedAnswer {
        /// How many results were asked for.
        expected: usize,
        /// How many came.
        got: usize,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::RowsUnavailable(_) => "lineage-rows-unavailable",
            Self::RowUnreadable { .. } => "lineage-row-unreadable",
            Self::EntryUnreadable { .. } => "lineage-entry-unreadable",
            Self::KeyMismatch { .. } => "lineage-key-mismatch",
            Self::UnexpectedAnswer { .. } => "lineage-unexpected-answer",
        }
    }

    /// Whether it says that an entry can be none, for whatever version of Lethe.
    pub(crate) const fn is_of_nobody(&self) -> bool {
        match self {
            Self::EntryUnreadable { source, .. } => source.is_of_nobody(),
            Self::KeyMismatch { .. } => true,
            _ => false,
        }
    }
}
