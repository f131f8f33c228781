//! The EventLog port, the memory log and the embedded durable log.
//!
//! The port knows bytes, keys and ids, never what a payload means; of time only when a broker took an entry, where one did. What is normal is a value (a stale
//! epoch); an error says whether the entries are stored.
//!
//! Behind the port stand [`MemoryLog`], for tests and simulation, and [`EmbeddedLog`], which keeps one file a stream in a folder of
//! one machine. What is deliberately not here: Kafka (a crate of its own), clocks, retries, and any look into a value.

mod compaction;
mod embedded;
pub mod files;
mod frame;
mod generation;
mod heads;
mod manifest;
mod memory;
mod pages;
mod rewrite;
pub mod rules;
mod writer;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::{Entry, Epoch, Place, Position, Stored, Stream};

pub use compaction::Compaction;
pub use embedded::{EmbeddedLog, OpenOptions};
pub use memory::MemoryLog;
pub use pages::Pages;

/// Most entries of one append: a batch is moved whole, so it has to fit in memory several times.
pub const APPEND_ENTRIES_MAX: usize = 4_096;

/// Most bytes of keys and values in one append, for the same reason.
pub const APPEND_BYTES_MAX: usize = 64 << 20;

/// Most entries of one page.
pub const PAGE_ENTRIES_MAX: usize = 4_096;

/// Most bytes of values in one page; a page holds at least one entry all the same.
pub const PAGE_BYTES_MAX: usize = 8 << 20;

/// Why an operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// It did not happen: nothing of it is stored, or read.
    #[error("not stored: {0}")]
    NotStored(String),
    /// Whether it is stored is unknown: acquire a new epoch, append a fence entry, read up to it, then look.
    #[error("unknown whether stored: {0}")]
    Unknown(String),
    /// What is stored cannot be read: the log refuses to go on.
    #[error("log is corrupt: {0}")]
    Corrupt(String),
    /// What keeps the entries is not set up or not there as declared: what is stored may go early, or stay.
    #[error("the log is not as declared: {0}")]
    NotAsDeclared(String),
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotStored(_) => "log-not-stored",
            Self::Unknown(_) => "log-unknown-whether-stored",
            Self::Corrupt(_) => "log-corrupt",
            Self::NotAsDeclared(_) => "log-not-as-declared",
        }
    }
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// Durable, all of it, in order.
    At {
        /// Position of the first entry.
        first: Position,
        /// Position after the last entry.
        next: Position,
    },
    /// A newer writer owns the partition; nothing was stored.
    StaleEpoch {
        /// Epoch of the newer writer.
        current: Epoch,
    },
}

/// What stands in a partition and was not appended to this log: where others run the log, whoever may write there can do so. It is no entry,
/// whatever it says, and nothing may follow from it but that somebody is told, and in a table that nothing is known of its key any more.
#[derive(Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it stands.
    pub position: Position,
    /// The key that it bears: who compacts a table takes it for the newest of that key.
    pub key: Vec<u8>,
    /// The bytes.
    pub value: Vec<u8>,
}

impl Stray {
    /// Stable code of what is told of one, with a page in ops/errors.
    pub const CODE: &str = "log-stray";
}

impl fmt::Debug for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stray(at {}, {} B)", self.position, self.value.len())
    }
}

/// A stretch of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, by position.
    pub entries: Vec<Stored>,
    /// What stands between them and is none, by position. A log that nobody else can write to has no strays.
    pub strays: Vec<Stray>,
    /// Where to read on.
    pub next: Position,
    /// The position that the next append will get at the least, when the page was read.
    pub head: Position,
    /// Whether entries or tombstones at or after `from` were removed that a reader standing there has not seen: a fold has to
    /// start from nothing, a queue's reader has to stop and say so. A table read from 0 is a fresh fold and never behind.
    pub fell_behind: bool,
}

/// How long a value can outlive its tombstone in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneBy {
    /// Until the next compaction, which somebody has to start.
    NextCompaction,
    /// At the latest so long after the tombstone.
    Within(Duration),
    /// Never removed by itself; it is gone when its key is.
    KeyDestroyed,
}

/// The log: streams of three kinds in partitions. Every implementation passes the suite in tests/conformance.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Becomes the writer of a partition: every earlier epoch is stale from now on, durably.
    async fn acquire(&self, at: &Place) -> Result<Epoch, Error>;

    /// Appends all entries or none, in order. `writer` is an epoch that was acquired, or `None` for a partition that
    /// needs no single writer. Returns when the entries are durable.
    ///
    /// Errors: [`Error::NotStored`] also where the batch is empty, too long, or the place does not exist.
    async fn append(&self, at: &Place, writer: Option<Epoch>, entries: Vec<Entry>)
    -> Result<Appended, Error>;

    /// Reads entries from `from` on, at most `limit` of them and at most [`PAGE_BYTES_MAX`]; strays count as entries do. In a compacted table older entries of
    /// a key may be missing, the newest never.
    ///
    /// Errors: [`Error::Corrupt`] also where `from` is past the head: the log is shorter than a reader has seen.
    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error>;

    /// The position that the next append will get at the least.
    async fn head(&self, at: &Place) -> Result<Position, Error>;

    /// Returns when the head is past `position` or after `patience`, whichever comes first.
    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error>;

    /// How long a value can outlive its tombstone in this stream.
    fn gone_by(&self, stream: &Stream) -> GoneBy;

    /// Looks whether everything that is stored can be read.
    ///
    /// Errors: [`Error::NotAsDeclared`] where what others run for the log, such as topics, is not as the log needs it.
    async fn check(&self) -> Result<(), Error>;
}
