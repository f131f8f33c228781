//! How the command line ends.

use lethe_gateway::client::ClientError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Yes, or done.
    Yes,
    /// No, or refused.
    No,
    /// It could not be told: no server, no answer, no time left.
    Unknown,
    /// The command line was wrong.
    Usage,
}

impl Exit {
    /// The exit code of the program. 64 is EX_USAGE of sysexits.h.
    pub const fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Unknown => 2,
            Self::Usage => 64,
        }
    }
}

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer of the server, or a no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The command line says what does not fit.
    #[error("wrong usage: expected {expected}")]
    Usage {
        /// What would fit; never what was given, which may be personal.
        expected: String,
    },
    /// A file or stdin cannot be read.
    #[error("cannot read the {what}: {source}")]
    Read {
        /// What it is for, with the whole path of a file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file or stdout cannot be written.
    #[error("cannot write the {what}: {source}")]
    Write {
        /// What it is for, with the whole path of a file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub fn code(&self) -> &str {
        match self {
            Self::Client(error) => error.code(),
            Self::Usage { .. } => "cli-wrong-usage",
            Self::Read { .. } => "cli-unreadable-file",
            Self::Write { .. } => "cli-unwritable-file",
        }
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(ClientError::Setup { .. }) | Self::Usage { .. } => Exit::Usage,
            Self::Client(error) if error.is_malformed() => Exit::Usage,
            Self::Client(error) if error.is_no() => Exit::No,
            Self::Client(_) | Self::Read { .. } | Self::Write { .. } => Exit::Unknown,
        }
    }
}
