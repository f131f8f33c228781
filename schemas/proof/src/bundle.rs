//! The certificate file: the statement and everything that it rests on, with proofs against one checkpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::form::STEPS_MAX;
use crate::merkle::{Hash, PROOF_HASHES_MAX};
use crate::{Envelope, Error, parse_canonical, to_canonical};

/// Largest certificate file, in bytes.
pub const BUNDLE_BYTES_MAX: usize = 16 << 20;

/// `schema` of a bundle.
pub(crate) const SCHEMA: &str = "lethe-bundle/v1";

/// Where an envelope's leaf stands, and the path to the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Index of the leaf.
    pub index: u64,
    /// Inclusion path, leaf to root, standard base64.
    pub hashes: Vec<String>,
}

impl Proof {
    /// A proof from its hashes.
    pub fn new(index: u64, hashes: &[Hash]) -> Self {
        Self {
            index,
            hashes: hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
        }
    }

    pub(crate) fn path(&self) -> Result<Vec<Hash>, Error> {
        let wrong = || Error::malformed("proof", "expected at most 63 hashes of 32 bytes, base64");
        if self.hashes.len() > PROOF_HASHES_MAX {
            return Err(wrong());
        }
        self.hashes
            .iter()
            .map(|hash| {
                STANDARD
                    .decode(hash)
                    .ok()
                    .and_then(|hash| hash.try_into().ok())
                    .ok_or_else(wrong)
            })
            .collect()
    }
}

/// An envelope with its proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logged {
    /// The envelope.
    pub envelope: Envelope,
    /// Its proof.
    pub proof: Proof,
}

impl Logged {
    /// An envelope whose leaf stands at `index`, with the inclusion path.
    pub fn new(envelope: Envelope, index: u64, path: &[Hash]) -> Self {
        Self {
            envelope,
            proof: Proof::new(index, path),
        }
    }
}

/// The certificate file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// `lethe-bundle/v1`.
    pub schema: String,
    /// The completion statement.
    pub statement: Logged,
    /// The plan.
    pub plan: Logged,
    /// The receipts, in the order of the rows that quote them.
    pub receipts: Vec<Logged>,
    /// The observations, likewise.
    pub observations: Vec<Logged>,
    /// The signed tree head.
    pub checkpoint: String,
}

impl Bundle {
    /// A bundle of these parts.
    pub fn new(
        statement: Logged,
        plan: Logged,
        receipts: Vec<Logged>,
        observations: Vec<Logged>,
        checkpoint: String,
    ) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            statement,
            plan,
            receipts,
            observations,
            checkpoint,
        }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// Never for a bundle that was built here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        to_canonical("certificate file", self)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it is too large or not a bundle in its one form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(Error::malformed(
                "certificate file",
                format!("above {BUNDLE_BYTES_MAX} bytes"),
            ));
        }
        let this: Self = parse_canonical("certificate file", bytes)?;
        if this.schema != SCHEMA {
            return Err(Error::malformed(
                "certificate file",
                format!("expected schema {SCHEMA}"),
            ));
        }
        if this.receipts.len() > STEPS_MAX || this.observations.len() > STEPS_MAX {
            return Err(Error::malformed(
                "certificate file",
                format!("above {STEPS_MAX} receipts or observations"),
            ));
        }
        Ok(this)
    }
}
