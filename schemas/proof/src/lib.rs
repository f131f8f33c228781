//! Statements, receipts and certificates: how they are built and how they are verified, without I/O.
//!
//! DSSE envelopes over canonical JSON (RFC 8785), Ed25519, one key a role; the Merkle tree of RFC 6962; C2SP signed notes and
//! checkpoints. A [`Bundle`] is the certificate file; [`verify`] reads it with the policy that the verifier was given beforehand and trusts no key
//! inside it. A bundle holds nothing that is not checked: every flipped bit is noticed.

mod bundle;
mod canonical;
mod dsse;
mod form;
mod leaf;
pub mod merkle;
mod note;
mod policy;
mod report;
mod rows;
mod statements;
mod subject;
mod verify;

pub use bundle::{BUNDLE_BYTES_MAX, Bundle, Logged, Proof};
pub use canonical::{parse_canonical, to_canonical};
pub use dsse::{Envelope, Signature, key_id, pae};
pub use form::LIST_MAX;
pub use leaf::{LEAF_BYTES, Leaf, LeafKind};
pub use note::{Checkpoint, NoteKey, open_checkpoint, sign_checkpoint};
pub use policy::{POLICY_BYTES_MAX, Policy, SystemKeys};
pub use report::{About, Check, Report, Status, SystemRow, limit_text};
pub use statements::{
    Completion, Conclusion, Connector, Copy, ExceptionRow, Generation, Kind, ObservationStatement, Party,
    PlanReference, PlanRemark, PlanStatement, PlanStep, ReceiptStatement, RequestReference, Row, Software,
    Statement, Subject, bucket, digest_of,
};
pub use subject::{OPENING_BYTES_MAX, SUBJECT_SCHEME, SubjectOpening, check_commitment, commit};
pub use verify::{verify, verify_subject};

/// Why a document could not be built or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not of the expected form.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong, without the content.
        reason: String,
    },
    /// Signed by nobody who was expected to sign it, or not over these bytes.
    #[error("signature of {what} does not hold")]
    Signature {
        /// What was read.
        what: &'static str,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "proof-malformed",
            Self::Signature { .. } => "proof-signature",
        }
    }

    pub(crate) fn malformed(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            reason: reason.into(),
        }
    }
}

/// JSON Schemas of the documents that others read: file name and schema.
pub fn schemas() -> Vec<(&'static str, schemars::Schema)> {
    vec![
        ("bundle.json", schemars::schema_for!(Bundle)),
        ("policy.json", schemars::schema_for!(Policy)),
        ("report.json", schemars::schema_for!(Report)),
        ("subject-opening.json", schemars::schema_for!(SubjectOpening)),
    ]
}
