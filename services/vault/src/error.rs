//! What can go wrong in the vault.

use lethe_terms::IdentifierKind;

/// Why the vault refused or failed. No message holds a value, a token or a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Refused: a value is not an identifier of its kind.
    #[error("not an identifier of kind {kind}: expected {expected}")]
    NotNormalised {
        /// The kind it was said to be.
        kind: IdentifierKind,
        /// What would have been right.
        expected: &'static str,
    },
    /// Refused: no such region.
    #[error("unknown region for telephone numbers: expected a two-letter code of ISO 3166-1 such as DE")]
    UnknownRegion,
    /// Did not happen: the operating system gave no randomness.
    #[error("no randomness from the operating system")]
    NoEntropy,
    /// A sealed value does not open: another key, another place, or changed bytes.
    #[error("a sealed value does not open: expected {expected}")]
    CannotOpen {
        /// What would have been right.
        expected: &'static str,
    },
    /// What was sealed is not of the expected shape, or what is to be sealed cannot be written as JSON.
    #[error("sealed content is not of the expected shape")]
    UnexpectedContent,
    /// A data key names a bucket that this vault does not hold.
    #[error("unknown key bucket {bucket}: expected a data key that this vault wrapped")]
    UnknownBucket {
        /// The bucket.
        bucket: u32,
    },
    /// Refused: every intake key has to be kept until what was sealed to it is read, and so many are enough.
    #[error("too many intake keys: expected at most {} at a time", crate::INTAKE_KEYS_MAX)]
    TooManyIntakeKeys,
    /// Refused: somebody else has the folder open.
    #[error("the vault's folder is in use by another process or vault")]
    InUse,
    /// Refused: there is no vault in the folder and none may be made.
    #[error("no vault in the folder: expected the one that belongs to the log")]
    NoVault,
    /// Refused: keys are there, but no valid root key to open them.
    #[error("the root key is missing while wrapped keys exist: expected a valid root-a or root-b")]
    RootMissing,
    /// Refused: the root key is there, but a file of keys is not.
    #[error("the vault's file {file} is missing")]
    FileMissing {
        /// Its name in the vault's folder.
        file: &'static str,
    },
    /// Refused: a file of keys cannot be read or was not wrapped under this root key.
    #[error("the vault's file {file} is damaged: expected {expected}")]
    FileDamaged {
        /// Its name in the vault's folder.
        file: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file of the vault could not be read or written; no key of it was given out.
    #[error("the vault's {what} could not be read or written")]
    Io {
        /// What it is.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What would have been right, where the error is about that; what is wrong otherwise.
    pub fn expected(&self) -> String {
        match self {
            Self::NotNormalised { expected, .. }
            | Self::CannotOpen { expected }
            | Self::FileDamaged { expected, .. } => (*expected).to_owned(),
            other => other.to_string(),
        }
    }

    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotNormalised { .. } => "vault-not-normalised",
            Self::UnknownRegion => "vault-unknown-region",
            Self::NoEntropy => "vault-no-entropy",
            Self::CannotOpen { .. } => "vault-cannot-open",
            Self::UnexpectedContent => "vault-unexpected-content",
            Self::UnknownBucket { .. } => "vault-unknown-bucket",
            Self::TooManyIntakeKeys => "vault-too-many-intake-keys",
            Self::InUse => "vault-in-use",
            Self::NoVault => "vault-no-vault",
            Self::RootMissing => "vault-root-missing",
            Self::FileMissing { .. } => "vault-file-missing",
            Self::FileDamaged { .. } => "vault-file-damaged",
            Self::Io { .. } => "vault-io",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_says_what_is_right_and_not_what_is_wrong() {
        let error = Error::NotNormalised {
            kind: IdentifierKind::Email,
            expected: "an address such as a@b.example",
        };
        assert_eq!(error.expected(), "an address such as a@b.example");
    }
}
