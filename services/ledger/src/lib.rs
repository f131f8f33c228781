//! The RFC 6962 tree on disk, its signed head, the signing keys by role, and the evidence store with expiry. Synchronous.
//!
//! The `leaves` stream is the truth and the tree a fold of it, which [`Ledger::rebuild`] makes anew. Two things here are no folds: the keys, and the
//! last signed head, which has a folder of its own so that a restored backup of the tree cannot bring back an older head. A ledger refuses to
//! sign whatever is shorter than, or different from, what it signed before.

mod evidence;
mod files;
mod keys;
mod ledger;
mod tree;

use std::path::PathBuf;

pub use evidence::{EvidenceStore, NAME_BYTES_MAX};
pub use keys::{KeyFile, Keys};
pub use ledger::Ledger;

/// Whether the `leaves` stream holds anything yet. After the first leaf a folder without keys or without a signed head is one that was lost:
/// what would be signed with new ones, no policy that was handed out would accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It is empty.
    First,
    /// It holds leaves.
    Again,
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused. Whether the last append reached the disk is unknown: open the ledger again and ask for the leaf.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An append failed before: what is on disk is known only after opening again.
    #[error("an earlier append failed and the ledger has to be opened again")]
    Unknown,
    /// Another program has the ledger open.
    #[error("ledger {} is open in another program", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A stored leaf cannot be read.
    #[error("leaf {index} on disk cannot be read")]
    Corrupt {
        /// Its index.
        index: u64,
    },
    /// The tree, or the stream of leaves, has fewer than were signed: nothing is signed until all are there again.
    #[error("{have} leaves are there and {signed} were signed")]
    HeadBehind {
        /// Leaves that are there.
        have: u64,
        /// Leaves under the last signed head.
        signed: u64,
    },
    /// The tree, or the stream of leaves, is not the one that was signed.
    #[error("the first {signed} leaves are not those that were signed")]
    HeadDiffers {
        /// Leaves under the last signed head.
        signed: u64,
    },
    /// There is a tree and no signed head, or one that this key did not sign.
    #[error("the last signed head is missing, damaged or of another key")]
    HeadUnreadable,
    /// The tree does not hold this leaf.
    #[error("the leaf is not in the tree")]
    UnknownLeaf,
    /// A key is missing where there were keys before, or is not a key.
    #[error("signing key {role} is missing or damaged")]
    KeyUnreadable {
        /// Its role.
        role: String,
    },
    /// Others than the owner can read a key.
    #[error("signing key {role} can be read by others than its owner")]
    KeyExposed {
        /// Its role.
        role: String,
    },
    /// A name that the evidence store does not take.
    #[error(
        "malformed evidence name: expected at most {NAME_BYTES_MAX} of a-z, 0-9, '-', '_', ':' and '.', a letter or digit first"
    )]
    Name,
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "ledger-io",
            Self::Unknown => "ledger-unknown",
            Self::InUse { .. } => "ledger-in-use",
            Self::Corrupt { .. } => "ledger-corrupt",
            Self::HeadBehind { .. } => "ledger-head-behind",
            Self::HeadDiffers { .. } => "ledger-head-differs",
            Self::HeadUnreadable => "ledger-head-unreadable",
            Self::UnknownLeaf => "ledger-unknown-leaf",
            Self::KeyUnreadable { .. } => "ledger-key-unreadable",
            Self::KeyExposed { .. } => "ledger-key-exposed",
            Self::Name => "ledger-evidence-name",
        }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
