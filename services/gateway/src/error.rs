//! Why the server did not start or stopped.

use std::net::SocketAddr;

/// Why the server did not start or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address that others reach, without TLS.
    #[error(
        "refused to listen on {listen} without TLS: personal data would cross the network in the clear; \
         set a certificate and a key file, or listen on loopback"
    )]
    WithoutTls {
        /// The address.
        listen: SocketAddr,
    },
    /// An address that others reach, without API keys.
    #[error(
        "refused to listen on {listen} without API keys: anybody who reaches it could have people's data erased; \
         set a key file, or listen on loopback"
    )]
    WithoutKeys {
        /// The address.
        listen: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The file of API keys does not hold what it should.
    #[error("malformed key file, line {line}: expected {expected}")]
    KeyFile {
        /// Number of the line, from 1; 0 for the file as a whole.
        line: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read the {what}")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate or key of TLS are not usable.
    #[error("unusable TLS files: {reason}")]
    Tls {
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The server stopped although nobody asked it to.
    #[error("the server stopped")]
    Stopped {
        /// Why.
        source: std::io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system")]
    Entropy,
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::WithoutTls { .. } => "gateway-needs-tls",
            Self::WithoutKeys { .. } => "gateway-needs-keys",
            Self::Listen { .. } => "gateway-cannot-listen",
            Self::KeyFile { .. } => "gateway-malformed-key-file",
            Self::File { .. } => "gateway-unreadable-file",
            Self::Tls { .. } => "gateway-unusable-tls",
            Self::Stopped { .. } => "gateway-stopped",
            Self::Entropy => "gateway-no-entropy",
        }
    }
}
