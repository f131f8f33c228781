//! The Store port for derived state, and the memory store.
//!
//! One store holds one partition of derived state. Wiping and rebuilding is always legal: the log is the truth.
//! Ordered bytes, no domain types, no secondary meaning of absence.

mod memory;

use std::sync::Arc;

use lethe_journal::{Position, Stream};

pub use memory::MemoryStore;

/// Most rows of one commit: measured on sled, batches of 10,000 rows cost 25 times the memory and a third of the speed.
pub const COMMIT_ROWS_MAX: usize = 1_000;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The commit does not start where the store stands; nothing was stored.
    #[error("commit starts at {from}, the store stands at {at}")]
    NotAtPosition {
        /// Where the commit starts.
        from: Position,
        /// Where the store stands.
        at: Position,
    },
    /// A commit of too many rows; nothing was stored.
    #[error("commit of {rows} rows: expected at most {COMMIT_ROWS_MAX}")]
    TooManyRows {
        /// Rows of the commit.
        rows: usize,
    },
    /// It did not happen.
    #[error("not stored: {0}")]
    NotStored(String),
    /// What is stored cannot be trusted: wipe and rebuild from the log.
    #[error("store is damaged: {0}")]
    Damaged(String),
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAtPosition { .. } => "store-not-at-position",
            Self::TooManyRows { .. } => "store-too-many-rows",
            Self::NotStored(_) => "store-not-stored",
            Self::Damaged(_) => "store-damaged",
        }
    }
}

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Changes of rows, applied all or none. The last change of a key wins.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Removes a row.
    pub fn remove(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[(Vec<u8>, Option<Vec<u8>>)] {
        &self.changes
    }

    /// Whether a store that stands at `at` may apply this batch as a commit from `from` to `to`: the rules that every
    /// implementation shares.
    ///
    /// Errors: [`Error::TooManyRows`], [`Error::NotAtPosition`], and [`Error::NotStored`] where the commit would go backwards.
    pub fn check(&self, from: Position, to: Position, at: Position) -> Result<(), Error> {
        if self.len() > COMMIT_ROWS_MAX {
            return Err(Error::TooManyRows { rows: self.len() });
        }
        if from != at {
            return Err(Error::NotAtPosition { from, at });
        }
        if to < from {
            return Err(Error::NotStored(format!(
                "a commit cannot go back from {from} to {to}"
            )));
        }
        Ok(())
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} changes)", self.changes.len())
    }
}

/// Derived state of one partition. Every implementation passes the suite in tests/conformance.
pub trait Store: Send + Sync {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Rows whose key starts with `prefix` and is greater than `after` (where given), in order, at most `limit`.
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Error>;

    /// Applies a batch together with the position that it brings a stream's fold to, atomically and durably. The commit must start where the
    /// store stands for that stream; it may end where it started.
    ///
    /// After an error the store stands where it stood, or cannot be trusted and says so ([`Error::Damaged`]) until it is wiped.
    fn commit(&self, stream: &Stream, from: Position, to: Position, batch: &Batch) -> Result<(), Error>;

    /// Where the fold of a stream stands; 0 at first.
    fn position(&self, stream: &Stream) -> Result<Position, Error>;

    /// Removes all rows and positions.
    fn wipe(&self) -> Result<(), Error>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        (**self).get(key)
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        (**self).scan(prefix, after, limit)
    }

    fn commit(&self, stream: &Stream, from: Position, to: Position, batch: &Batch) -> Result<(), Error> {
        (**self).commit(stream, from, to, batch)
    }

    fn position(&self, stream: &Stream) -> Result<Position, Error> {
        (**self).position(stream)
    }

    fn wipe(&self) -> Result<(), Error> {
        (**self).wipe()
    }
}
