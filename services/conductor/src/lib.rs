//! All cases side by side: inputs in, effects out. Pure; `services/node` is the shell that carries the effects out.
//!
//! [`Conductor::handle`] takes one [`Input`] with the present moment and queues [`Effect`]s. Journal entries come before what they
//! announce, and the shell carries effects out in order: what matters is durable before it happens. After a crash the
//! shell replays the histories ([`Conductor::replay`]) and calls [`Conductor::recover`], which sends again, under the same
//! ids, whatever is unanswered.
//!
//! Where several conductors run, each carries the cases of some partitions of the histories and follows all others ([`Conductor::carrying`]).

mod advance;
mod answers;
mod claims;
mod conductor;
mod errands;
mod locating;
mod sharing;
mod statements;
mod walks;

pub use conductor::{
    Conductor, Config, Effect, IN_FLIGHT_PER_SYSTEM_MAX, Input, Moment, Refused, WalkOutcome, WalkPurpose,
};

/// Why the conductor cannot go on with a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The history of one case does not fit together; the others go on.
    #[error("history of {case} is damaged")]
    Damaged {
        /// The case.
        case: lethe_terms::CaseId,
        /// What does not fit.
        source: lethe_casework::Error,
    },
    /// An entry of the history of one case cannot be opened; the others go on.
    #[error("history of {case} has an entry that cannot be opened")]
    Unreadable {
        /// The case.
        case: lethe_terms::CaseId,
    },
    /// What the ledger is to sign for one case cannot be written; the others go on.
    #[error("the {what} statement of {case} cannot be written")]
    NoStatement {
        /// The case.
        case: lethe_terms::CaseId,
        /// Which statement.
        what: &'static str,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "conductor-history-damaged",
            Self::Unreadable { .. } => "conductor-history-unreadable",
            Self::NoStatement { .. } => "conductor-no-statement",
        }
    }

    /// The case that stands still.
    pub const fn case(&self) -> lethe_terms::CaseId {
        match self {
            Self::Damaged { case, .. } | Self::Unreadable { case } | Self::NoStatement { case, .. } => *case,
        }
    }
}
