//! What goes wrong, in this crate's words and in the contract's.

use lethe_kit::Error as Failure;

use crate::webhook::Unsigned;

/// Why a program could not be taken into service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting is missing or wrong.
    #[error("{what}: expected {expected}")]
    Config {
        /// The setting.
        what: &'static str,
        /// What would have been right.
        expected: String,
    },
    /// What the program declares of itself cannot be taken.
    #[error("the program's manifest: {0}")]
    Manifest(String),
    /// The program could not be asked.
    #[error("{0}")]
    Call(Failure),
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "remote-config",
            Self::Manifest(_) => "remote-manifest",
            Self::Call(failure) => failure.code(),
        }
    }
}

/// What a call does where it was lost on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It changes nothing, so without an answer nothing happened.
    Reads,
    /// It acts: without an answer nobody knows.
    Acts,
    /// It asks about work that was accepted before: asking again does no harm, and what became of the work nobody knows meanwhile.
    Asks,
}

/// Why there is no answer that could be taken for the program's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// No connection, so nothing was sent.
    NotSent,
    /// The request could not be put on the log, so nothing was sent.
    NotOnLog,
    /// The other side's certificate is not trusted, so nothing was sent.
    Untrusted,
    /// Sent, and no answer, or not all of it.
    NoAnswer,
    /// An answer that is not the program's, or a status instead of one.
    Unsigned {
        /// HTTP status.
        status: u16,
        /// What is wrong with its signature.
        why: Unsigned,
    },
    /// An answer that is larger than any may be.
    TooLarge,
}

impl Lost {
    /// In the contract's words. Before anything was sent nothing happened; after that, whatever does not prove to come from the
    /// program says nothing about what the program did.
    pub(crate) fn failure(&self, effect: Effect) -> Failure {
        let (code, reason) = self.words();
        match self {
            Self::NotSent | Self::NotOnLog => Failure::Transient { code, reason },
            Self::Untrusted if effect != Effect::Asks => Failure::Permanent { code, reason },
            _ if effect == Effect::Acts => Failure::Unknown { code, reason },
            Self::NoAnswer => Failure::Transient { code, reason },
            Self::Unsigned { status, .. } if may_pass(*status) => Failure::Transient { code, reason },
            Self::Untrusted | Self::Unsigned { .. } | Self::TooLarge => for_ever(effect, code, reason),
        }
    }

    fn words(&self) -> (&'static str, String) {
        match self {
            Self::NotSent => (
                "remote-unreachable",
                "no connection to the program: expected it to listen at the configured URL".to_owned(),
            ),
            Self::NotOnLog => (
                "remote-unreachable",
                "the request could not be written to its topic".to_owned(),
            ),
            Self::Untrusted => (
                "remote-untrusted",
                "the certificate at the URL is not trusted: expected one of an authority that this machine, or ca_file, trusts"
                    .to_owned(),
            ),
            Self::NoAnswer => (
                "remote-no-answer",
                "the connection ended, or the time passed, before the whole answer was there".to_owned(),
            ),
            Self::Unsigned { status, why } => (
                "remote-signature",
                format!("the answer (HTTP {status}) does not prove to come from the program: {why}"),
            ),
            Self::TooLarge => (
                "remote-too-large",
                format!("the answer has more than {} MiB", crate::wire::ANSWER_BYTES_MAX >> 20),
            ),
        }
    }
}

/// Statuses by which a proxy or a server that is starting says that it may work later.
const fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502..=504)
}

/// What will not be otherwise until somebody changes something. Of work that may have been done it must not be said that it was not.
const fn for_ever(effect: Effect, code: &'static str, reason: String) -> Failure {
    match effect {
        Effect::Acts | Effect::Asks => Failure::Unknown { code, reason },
        Effect::Reads => Failure::Permanent { code, reason },
    }
}

/// An answer of the program that cannot be true or was not expected. It says nothing of what happened.
pub(crate) fn wrong_answer(effect: Effect, reason: impl Into<String>) -> Failure {
    for_ever(effect, "remote-answer", reason.into())
}

/// An answer of a program whose manifest is another one than when the server started.
pub(crate) fn manifest_changed(effect: Effect) -> Failure {
    let reason =
        "the program's manifest has another revision than when the server started: restart the server";
    for_ever(effect, "remote-manifest-changed", reason.to_owned())
}
