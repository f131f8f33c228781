//! An entry as the log sees it: bytes, a key and an id.

use std::fmt;

use lethe_terms::{EntryId, Timestamp};

use crate::Stream;

/// A position in one partition: only grows, may have gaps, is never used again. Positions start at 0.
pub type Position = u64;

/// Number of a writer in one partition: a newer one fences the older ones.
pub type Epoch = u64;

/// One partition of one stream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The stream.
    pub stream: Stream,
    /// The partition, from 0.
    pub partition: u16,
}

impl Place {
    /// The partition of this stream.
    pub const fn new(stream: Stream, partition: u16) -> Self {
        Self { stream, partition }
    }

    /// Every partition of a stream.
    pub fn all(stream: &Stream) -> impl Iterator<Item = Self> + '_ {
        (0..stream.partitions()).map(|partition| Self::new(stream.clone(), partition))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.partition)
    }
}

/// One entry to be appended.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Chosen by the writer; tells an entry from a repeat of it.
    pub id: EntryId,
    /// The key: a token, a shard, a case or step id; never a person's identifier.
    pub key: Vec<u8>,
    /// The value; `None` is a tombstone, which ends the key in a table.
    pub value: Option<Vec<u8>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, key {} B, ", self.id, self.key.len())?;
        match &self.value {
            Some(value) => write!(f, "value {} B)", value.len()),
            None => f.write_str("tombstone)"),
        }
    }
}

/// An entry that the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands in its partition.
    pub position: Position,
    /// When the log took it, by the log's own clock; nothing where it does not note that. It orders nothing: [`Stored::position`] does.
    pub taken_at: Option<Timestamp>,
    /// The entry.
    pub entry: Entry,
}
