//! From observations to sealed entries on the log: cursors, known-is-free, suppression, quarantine.
//!
//! A page is moved as one batch, or as several where it is large: data keys first, then quarantine, then records, then the keys of what is gone; and
//! the cursor last. A crash in between repeats the page: records come out the same, and of an input that was put away twice the later one counts. What is
//! equal to the known state costs a look-up and no append.

mod again;
mod events;
mod inputs;
mod intake;
mod outgoing;
mod page;
mod sequences;
mod suppression;
mod tables;

pub use again::{Again, Refused, can_be_taken_again, changed_since};
pub use events::{Before, EventNote, KeptEvent, OpenedEvent, Proof, is_event, open_event};
pub use inputs::{Inputs, Poison, open_input, records_of, unless_of_nobody};
pub use intake::{Counters, Intake, Known, KnownRecord, Located, Published, Shell};
pub use page::{IDENTIFIERS_MAX, INPUT_BYTES_MAX, UNREADABLE_MAX};
pub use sequences::{RANGES_MAX, Taken, Turn};
pub use suppression::Finding;

/// Why intake did not take something. Nothing of it holds personal data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log.
    #[error("the log failed")]
    Log(#[source] lethe_log::Error),
    /// A writer of another kind owns the stream; nothing was stored.
    #[error("another writer owns {stream}")]
    Fenced {
        /// The stream.
        stream: String,
    },
    /// The vault.
    #[error("the vault failed")]
    Vault(#[source] lethe_vault::Error),
    /// What is known cannot be looked up.
    #[error("what is known cannot be looked up")]
    Known(#[source] lethe_store::Error),
    /// An entry cannot be written or read.
    #[error("an entry cannot be written or read")]
    Journal(#[source] lethe_journal::Error),
    /// A record of the system was ended after the page was read: read it again.
    #[error("the page was read before a record of the system was ended")]
    Stale,
    /// A record that was found has a key or a handle that names nothing by its size; nothing of the page was taken.
    #[error("a record that was found has a key or a handle of more than 64 KiB")]
    Oversize,
    /// The fold of records did not follow in time; the page was not taken.
    #[error("the fold of records lags behind")]
    Lagging,
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Log(error) => error.code(),
            Self::Fenced { .. } => "intake-fenced",
            Self::Vault(error) => error.code(),
            Self::Known(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Stale => "intake-stale",
            Self::Oversize => "intake-oversize",
            Self::Lagging => "intake-lagging",
        }
    }
}
