//! Why the connector cannot do something, in words of files and lines; never with anything out of a line.

use std::io;
use std::path::Path;

use lethe_terms::IdentifierKind;

/// Why a web log could not be opened, read or rewritten.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("configuration of the web log: {reason}")]
    Config {
        /// What is wrong and what was expected.
        reason: String,
    },
    /// A log file could not be read or written; nothing was changed.
    #[error("log file {file}: {action} failed: {source}")]
    File {
        /// Name of the file.
        file: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The state folder could not be read or written.
    #[error("state folder of the web log, {file}: {action} failed: {source}")]
    State {
        /// Name of the file.
        file: String,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else works with the state folder.
    #[error("state folder of the web log is in use by another running program")]
    StateInUse,
    /// A file of the state folder does not open with its key, or the key is gone.
    #[error("state folder of the web log is damaged: {reason}")]
    StateDamaged {
        /// Which part.
        reason: String,
    },
    /// No log of this name is configured.
    #[error("unknown log {name}: expected one of {known}")]
    UnknownLog {
        /// The name.
        name: String,
        /// The configured names.
        known: String,
    },
    /// A cursor or page mark that this connector never gave.
    #[error("malformed mark: expected one that this connector gave")]
    Mark,
    /// An identifier that no line can be searched for: whether the person stands in the log is unknown.
    #[error(
        "an identifier of the kind {kind} cannot be searched for in a log: expected an e-mail address of at most 254 bytes, or another value of at most 256"
    )]
    Identifier {
        /// Its kind.
        kind: IdentifierKind,
    },
    /// The lines have left the log, but their place is not there any more.
    #[error("place of restricted lines is gone: the log file that held them was removed by rotation")]
    PlaceGone,
    /// The server could not be told to reopen its logs; the work goes on when asked again, and no line is lost.
    #[error("reopen command: {reason}")]
    Reopen {
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The work stopped on purpose (tests stop it at every stage).
    #[error("stopped")]
    Stopped,
    /// The work ended in a way that it must not.
    #[error("work on the web log ended unexpectedly")]
    Ended,
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "weblog-config",
            Self::File { .. } => "weblog-file",
            Self::State { .. } => "weblog-state",
            Self::StateInUse => "weblog-state-in-use",
            Self::StateDamaged { .. } => "weblog-state-damaged",
            Self::UnknownLog { .. } => "weblog-unknown-log",
            Self::Mark => "weblog-mark",
            Self::Identifier { .. } => "weblog-identifier",
            Self::PlaceGone => "weblog-place-gone",
            Self::Reopen { .. } => "weblog-reopen",
            Self::Stopped | Self::Ended => "weblog-stopped",
        }
    }

    pub(crate) fn file(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::File {
            file: name_of(path),
            action,
            source,
        }
    }

    pub(crate) fn state(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::State {
            file: name_of(path),
            action,
            source,
        }
    }
}

/// File names only: folders may be told apart by the configuration, and a name says enough.
fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

impl From<Error> for lethe_kit::Error {
    fn from(error: Error) -> Self {
        let (code, reason) = (error.code(), error.to_string());
        match error {
            // A stage that failed is journaled and goes on where it stood: asking again is safe.
            Error::File { ref source, .. } | Error::State { ref source, .. }
                if source.kind() != io::ErrorKind::PermissionDenied =>
            {
                Self::Transient { code, reason }
            }
            Error::Stopped | Error::Reopen { .. } => Self::Transient { code, reason },
            Error::Ended => Self::Unknown { code, reason },
            _ => Self::Permanent { code, reason },
        }
    }
}
