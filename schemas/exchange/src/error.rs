//! Why something could not be sealed, opened or read.

use crate::keys::KeyId;

/// Why something could not be sealed or opened. Nothing of it says what was inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no key of X25519 that can be used.
    #[error("no usable key: expected {}", self.expected())]
    Key,
    /// The bytes are no sealed message.
    #[error("no sealed message: expected {expected}")]
    Malformed {
        /// What was expected.
        expected: &'static str,
    },
    /// Sealed to a key that is not at hand.
    #[error("sealed to key {key}, which is not known or was destroyed: expected {}", self.expected())]
    UnknownKey {
        /// The key.
        key: KeyId,
    },
    /// Sealed by a sender that is not known, or by nobody.
    #[error("sealed by a sender that is not known: expected {}", self.expected())]
    UnknownSender,
    /// Another key, another context, or changed bytes.
    #[error("a sealed message does not open: expected {}", self.expected())]
    CannotOpen,
    /// The session has sealed as many messages as it may.
    #[error("the session is used up: expected {}", self.expected())]
    UsedUp,
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Key => "exchange-key",
            Self::Malformed { .. } => "exchange-malformed",
            Self::UnknownKey { .. } => "exchange-unknown-key",
            Self::UnknownSender => "exchange-unknown-sender",
            Self::CannotOpen => "exchange-cannot-open",
            Self::UsedUp => "exchange-used-up",
        }
    }
    /// What was expected, for whoever is told the code beside it.
    pub const fn expected(&self) -> &'static str {
        match self {
            Self::Key => "32 bytes of X25519 in base64",
            Self::Malformed { expected } => expected,
            Self::UnknownKey { .. } => "a key that is published now",
            Self::UnknownSender => "a session in mode auth with a key that was declared",
            Self::CannotOpen => "unchanged bytes under the context they were sealed for",
            Self::UsedUp => "a new one",
        }
    }
}
