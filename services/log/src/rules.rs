//! The rules that every log shares, here and in crates of their own.

use std::collections::{BTreeMap, HashMap};

use lethe_journal::{Entry, Epoch, Place, Position, Stored, Stream, StreamKind};

use crate::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Error, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};

/// What a partition remembers beside its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The position of the next entry.
    pub(crate) head: Position,
    /// One more than the position of the newest entry that is still held; 0 where none is.
    pub(crate) last: Position,
    /// The newest epoch; 0 where nobody ever became the writer.
    pub(crate) epoch: Epoch,
    /// Tombstones, or in a queue entries, below this position were removed.
    pub(crate) removed_below: Position,
}

impl State {
    /// What an entry at `position` changes.
    pub(crate) const fn advance(&mut self, position: Position) {
        self.head = position + 1;
        self.last = position + 1;
    }
}

/// What the epoch of a writer means for its append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may write.
    Current,
    /// A newer writer took over.
    Stale,
    /// Nobody was ever given this epoch.
    Unheard,
}

/// Weighs a writer's epoch against the newest one.
pub fn standing(writer: Option<Epoch>, current: Epoch) -> Standing {
    match writer {
        None => Standing::Current,
        Some(epoch) if epoch == current => Standing::Current,
        Some(epoch) if epoch < current => Standing::Stale,
        Some(_) => Standing::Unheard,
    }
}

/// Whether a reader at `from` missed something that was removed.
pub(crate) const fn fell_behind(kind: StreamKind, from: Position, removed_below: Position) -> bool {
    match kind {
        // A fold that starts from nothing has nothing that a removed tombstone would have ended.
        StreamKind::Table => from > 0 && from < removed_below,
        StreamKind::Queue | StreamKind::History => from < removed_below,
    }
}

/// Refuses a place that does not exist.
pub fn check_place(at: &Place) -> Result<(), Error> {
    if at.partition < at.stream.partitions() {
        return Ok(());
    }
    Err(Error::NotStored(format!(
        "{at} does not exist: the stream has {} partitions",
        at.stream.partitions()
    )))
}

/// Refuses a batch that is empty or too large.
pub fn check_batch(at: &Place, entries: &[Entry]) -> Result<(), Error> {
    if entries.is_empty() {
        return Err(Error::NotStored(format!("an append to {at} holds no entry")));
    }
    if entries.len() > APPEND_ENTRIES_MAX {
        return Err(Error::NotStored(format!(
            "an append to {at} holds {} entries, at most {APPEND_ENTRIES_MAX} are allowed",
            entries.len()
        )));
    }
    let bytes: usize = entries.iter().map(entry_bytes).sum();
    if bytes > APPEND_BYTES_MAX {
        return Err(Error::NotStored(format!(
            "an append to {at} holds {bytes} bytes, at most {APPEND_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

/// Bytes of key and value.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    entry.key.len() + entry.value.as_ref().map_or(0, Vec::len)
}

/// Refuses a read past the head.
pub fn check_from(at: &Place, from: Position, head: Position) -> Result<(), Error> {
    if from <= head {
        return Ok(());
    }
    Err(Error::Corrupt(format!(
        "{at} ends at {head}, but a reader has seen it up to {from}: the log lost its end, or the reader's state belongs to another log"
    )))
}

/// The error of an epoch that nobody was given.
pub fn unheard(at: &Place, current: Epoch) -> Error {
    Error::NotStored(format!(
        "the writer's epoch in {at} was never given: the newest is {current}"
    ))
}

/// How much more a page may hold.
#[derive(Debug)]
pub struct PageBudget {
    entries_left: usize,
    entries: usize,
    value_bytes: usize,
}

impl PageBudget {
    /// The budget of an empty page of at most `limit` entries.
    pub fn new(limit: usize) -> Self {
        Self {
            entries_left: limit.min(PAGE_ENTRIES_MAX),
            entries: 0,
            value_bytes: 0,
        }
    }

    /// Whether nothing may be added any more.
    pub const fn is_full(&self) -> bool {
        self.entries_left == 0
    }

    /// Whether a value of so many bytes still fits; the first always does.
    pub const fn fits(&self, value_bytes: usize) -> bool {
        self.entries == 0 || self.value_bytes + value_bytes <= PAGE_BYTES_MAX
    }

    /// Takes an entry with a value of so many bytes.
    pub const fn take(&mut self, value_bytes: usize) {
        self.entries_left = self.entries_left.saturating_sub(1);
        self.entries += 1;
        self.value_bytes += value_bytes;
    }
}

/// Fills a page and says when it is full.
#[derive(Debug)]
pub(crate) struct PageRoom {
    budget: PageBudget,
    /// The entries so far.
    pub(crate) entries: Vec<Stored>,
}

impl PageRoom {
    /// An empty page of at most `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            budget: PageBudget::new(limit),
            entries: Vec::new(),
        }
    }

    /// Whether nothing may be added any more.
    pub(crate) const fn is_full(&self) -> bool {
        self.budget.is_full()
    }

    /// Whether a value of so many bytes still fits; the first always does.
    pub(crate) const fn fits(&self, value_bytes: usize) -> bool {
        self.budget.fits(value_bytes)
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, stored: Stored) {
        self.budget.take(stored.entry.value.as_ref().map_or(0, Vec::len));
        self.entries.push(stored);
    }
}

/// What a rewriting keeps of a partition.
#[derive(Debug, Clone)]
pub(crate) enum Rule {
    /// The newest entry of each key; its tombstone until every reader has passed it.
    Newest {
        /// The position that the slowest reader of each partition has read up to.
        seen: BTreeMap<u16, Position>,
    },
    /// What stands at or after a position.
    From {
        /// The first position of each partition that stays.
        before: BTreeMap<u16, Position>,
    },
}

impl Rule {
    /// Refuses a rule that does not suit the stream.
    pub(crate) fn check(&self, stream: &Stream) -> Result<(), Error> {
        match (self, stream.kind()) {
            (Self::Newest { .. }, StreamKind::Table) | (Self::From { .. }, StreamKind::Queue) => Ok(()),
            (Self::Newest { .. }, kind) => Err(Error::NotStored(format!(
                "{stream} is a {}: only tables are compacted",
                kind_name(kind)
            ))),
            (Self::From { .. }, kind) => Err(Error::NotStored(format!(
                "{stream} is a {}: only queues expire",
                kind_name(kind)
            ))),
        }
    }
}

const fn kind_name(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Table => "table",
        StreamKind::History => "history",
        StreamKind::Queue => "queue",
    }
}

/// Decides entry by entry what a rewriting keeps of one partition. Holds every key of a table's partition once: about 80 bytes
/// a key, for one partition at a time.
#[derive(Debug)]
pub(crate) struct Sieve {
    newest: Option<HashMap<Vec<u8>, Position>>,
    seen: Position,
    before: Position,
}

impl Sieve {
    /// The sieve of a partition whose head is `head`.
    pub(crate) fn new(rule: &Rule, partition: u16, head: Position) -> Self {
        match rule {
            Rule::Newest { seen } => Self {
                newest: Some(HashMap::new()),
                seen: seen.get(&partition).copied().unwrap_or(0),
                before: 0,
            },
            Rule::From { before } => Self {
                newest: None,
                seen: 0,
                before: before.get(&partition).copied().unwrap_or(0).min(head),
            },
        }
    }

    /// Whether [`Sieve::look`] must be shown every entry before the first is judged.
    pub(crate) const fn must_look(&self) -> bool {
        self.newest.is_some()
    }

    /// Shows the sieve an entry, in the order of positions.
    pub(crate) fn look(&mut self, position: Position, key: Vec<u8>) {
        if let Some(newest) = &mut self.newest {
            newest.insert(key, position);
        }
    }

    /// Judges an entry.
    pub(crate) fn judge(&self, position: Position, key: &[u8], is_tombstone: bool) -> Verdict {
        let Some(newest) = &self.newest else {
            return if position < self.before {
                Verdict::Expired
            } else {
                Verdict::Kept
            };
        };
        if newest.get(key) != Some(&position) {
            return Verdict::Replaced;
        }
        if is_tombstone && position < self.seen {
            return Verdict::Ended;
        }
        Verdict::Kept
    }
}

/// What becomes of an entry in a rewriting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays.
    Kept,
    /// A newer entry of its key replaces it.
    Replaced,
    /// It is a tombstone that every reader has passed.
    Ended,
    /// It stands before the start of its queue.
    Expired,
}

impl Verdict {
    /// Counts the entry and remembers in the partition what a late reader would miss.
    pub(crate) fn account(self, position: Position, state: &mut State, report: &mut crate::Compaction) {
        if self == Self::Kept {
            report.kept_entries += 1;
            return;
        }
        report.removed_entries += 1;
        if self == Self::Ended {
            report.removed_tombstones += 1;
        }
        if matches!(self, Self::Ended | Self::Expired) {
            state.removed_below = state.removed_below.max(position + 1);
        }
    }
}
