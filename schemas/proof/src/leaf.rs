//! Leaves: constant-size digests, so that the tree holds nothing that somebody could want erased.

use std::fmt;

use crate::merkle::{Hash, leaf_hash};
use crate::{Envelope, Error};

/// What a leaf stands for, with its code in the leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeafKind {
    /// A frozen plan.
    Plan,
    /// A receipt of a connector host.
    Receipt,
    /// An observation.
    Observation,
    /// A certificate, or the statement that a case was not completed.
    Statement,
}

impl LeafKind {
    const fn code(self) -> &'static str {
        match self {
            Self::Plan => "01",
            Self::Receipt => "02",
            Self::Observation => "03",
            Self::Statement => "04",
        }
    }
}

/// Length of every leaf, in bytes.
pub const LEAF_BYTES: usize = 81;

/// One leaf: `lethe-leaf/v1 <kind> <sha256 of the envelope's signed bytes>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leaf(String);

impl Leaf {
    /// The leaf of an envelope.
    ///
    /// # Errors
    /// Where the envelope's payload is not base64.
    pub fn of(kind: LeafKind, envelope: &Envelope) -> Result<Self, Error> {
        let digest = envelope.digest()?;
        let hex = digest.strip_prefix("sha256:").unwrap_or(&digest);
        Ok(Self(format!("lethe-leaf/v1 {} {hex}", kind.code())))
    }

    /// Reads a leaf back.
    ///
    /// # Errors
    /// Where the bytes are no leaf.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || Error::malformed("leaf", "expected lethe-leaf/v1, a kind and a digest");
        let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
        let rest = text.strip_prefix("lethe-leaf/v1 ").ok_or_else(wrong)?;
        let (kind, digest) = rest.split_once(' ').ok_or_else(wrong)?;
        let known = ["01", "02", "03", "04"].contains(&kind);
        let hex = digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if known && hex {
            Ok(Self(text.to_owned()))
        } else {
            Err(wrong())
        }
    }

    /// The bytes that the tree hashes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The leaf's hash in the tree.
    pub fn hash(&self) -> Hash {
        leaf_hash(self.as_bytes())
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
