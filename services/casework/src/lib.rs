//! One case as an event-sourced aggregate, and the clocks of the law. Pure.
//!
//! A [`Case`] is the fold of its events and nothing else: [`Case::apply`] is the only way in which its state changes, and
//! [`Case::state`] is derived, never stored. [`decide`] turns an operator's command into events or refuses it.

mod addition;
mod case;
mod clock;
mod decide;
mod restriction;
mod statement;
mod step;

pub use addition::ADDITIONS_MAX;
pub use case::{Case, Locating, PlanProgress, WalkStart};
pub use clock::{Land, due};
pub use decide::{Refusal, decide};
pub use restriction::Flags;
pub use statement::{Issued, Statement};
pub use step::{
    Attention, Failure, OBSERVE_ATTEMPTS_MAX, Report, STEP_ATTEMPTS_MAX, Sent, Sighting, StepProgress,
    Ticket, fits,
};

/// Why an event cannot follow the history that stands. A fold that meets one stops: the history is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first event of a case does not open it, or a later one does.
    #[error("history does not begin with its opening")]
    NotOpened,
    /// The entries of a case are not numbered without gaps.
    #[error("history has a gap: expected entry {expected}, found {found}")]
    Gap {
        /// Number that was expected.
        expected: u64,
        /// Number that was found.
        found: u64,
    },
    /// The event does not fit the state.
    #[error("event {event} does not fit the history before it")]
    Impossible {
        /// Name of the event.
        event: &'static str,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotOpened => "casework-not-opened",
            Self::Gap { .. } => "casework-gap",
            Self::Impossible { .. } => "casework-impossible",
        }
    }
}
