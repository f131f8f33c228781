//! The fold: entries of `records` and `keys` become changes of rows.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, Event, KeyWrapped, Position, RecordObserved, Stored, Stream};
use lethe_terms::RecordToken;

use crate::row::{decode_record, encode_key, encode_record, index_key, record_key, wrapped_key_key};
use crate::{Change, Error, RowPair, Rows};

/// Most changes of one chunk: the Store port takes no more in one commit.
pub const CHUNK_CHANGES_MAX: usize = 1_000;

/// Changes that belong together, with the positions between which they bring the fold forward. A chunk is committed whole; chunks of
/// one batch follow each other without a gap. A chunk that ends where it starts is a part of one very large entry, which is folded
/// again from its start after a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where the fold has to stand.
    pub from: Position,
    /// Where it stands afterwards.
    pub to: Position,
    /// Changes, one a key, in the order of keys.
    pub changes: Vec<Change>,
    /// How many records more, or fewer, each dataset has.
    pub counts: BTreeMap<DatasetRef, i64>,
}

/// Folds a stretch of one partition of `records` or `keys`: `entries` as they were read at `from`, `next` where the log says to read on.
/// Later entries see what earlier ones changed. Repeats change nothing. An entry with an empty key is a fence or a heartbeat
/// and holds nothing. Entries of other streams change nothing here.
///
/// Errors: an entry that cannot be read stops the fold of its stream; nothing of the stretch is to be committed then.
pub fn fold(
    rows: &dyn Rows,
    stream: &Stream,
    from: Position,
    entries: &[Stored],
    next: Position,
) -> Result<Vec<Chunk>, Error> {
    let mut folding = Folding {
        rows,
        done: Vec::new(),
        from,
        at: from,
        changes: BTreeMap::new(),
        before: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    for stored in entries {
        match stream {
            Stream::Records => folding.record_entry(stored)?,
            Stream::Keys => folding.key_entry(stored)?,
            _ => {}
        }
        folding.at = stored.position + 1;
    }
    folding.at = folding.at.max(next);
    folding.close();
    Ok(folding.done)
}

struct Folding<'a> {
    rows: &'a dyn Rows,
    done: Vec<Chunk>,
    /// Where the open chunk starts.
    from: Position,
    /// Up to where entries are folded.
    at: Position,
    /// Changes of the open chunk.
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Changes of the chunks that are closed.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Records more or fewer in the open chunk.
    counts: BTreeMap<DatasetRef, i64>,
}

impl Folding<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.changes.get(key).or_else(|| self.before.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.rows.get(key),
        }
    }

    fn record_entry(&mut self, stored: &Stored) -> Result<(), Error> {
        if stored.entry.key.is_empty() {
            return Ok(());
        }
        let position = stored.position;
        let record = RecordToken::from_bytes(
            stored
                .entry
                .key
                .as_slice()
                .try_into()
                .map_err(|_| Error::KeyMismatch { position })?,
        );
        let new = match &stored.entry.value {
            Some(value) => Some(read::<RecordObserved>(value, position)?),
            None => None,
        };
        if new.as_ref().is_some_and(|new| new.record != record) {
            return Err(Error::KeyMismatch { position });
        }
        let key = record_key(record);
        let old = self.get(&key)?;
        let value = new.as_ref().map(encode_record);
        if old == value {
            return Ok(());
        }
        let old = old.map(|row| decode_record(record, &row)).transpose()?;
        let holds = |record: Option<&RecordObserved>| -> BTreeSet<_> {
            record
                .into_iter()
                .flat_map(|record| record.tokens.iter().map(|token| token.token))
                .collect()
        };
        let (held, holds) = (holds(old.as_ref()), holds(new.as_ref()));
        let removed = held
            .difference(&holds)
            .map(|token| (index_key(*token, record), None));
        let added = holds
            .difference(&held)
            .map(|token| (index_key(*token, record), Some(Vec::new())));
        // The record last: until its row is written the entry is not folded, and folding it again finds the same differences.
        self.change(removed.chain(added).chain([(key, value)]).collect());
        // With the record's row, which stands in the chunk that is open now.
        self.count(old.as_ref(), -1);
        self.count(new.as_ref(), 1);
        Ok(())
    }

    fn key_entry(&mut self, stored: &Stored) -> Result<(), Error> {
        let (id, position) = (&stored.entry.key, stored.position);
        match id.len() {
            0 => return Ok(()),
            8 | 16 => {}
            _ => return Err(Error::KeyMismatch { position }),
        }
        let value = match &stored.entry.value {
            Some(value) => Some(encode_key(&read::<KeyWrapped>(value, position)?)),
            None => None,
        };
        let key = wrapped_key_key(id);
        if self.get(&key)? != value {
            self.change(vec![(key, value)]);
        }
        Ok(())
    }

    fn count(&mut self, record: Option<&RecordObserved>, by: i64) {
        if let Some(record) = record {
            let place = DatasetRef {
                system: record.system.clone(),
                dataset: record.dataset.clone(),
            };
            *self.counts.entry(place).or_default() += by;
        }
    }

    /// Takes the changes of one entry, all into one chunk where they fit into one.
    fn change(&mut self, changes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
        if self.changes.len() + changes.len() > CHUNK_CHANGES_MAX {
            self.close();
        }
        for (key, value) in changes {
            if self.changes.len() == CHUNK_CHANGES_MAX {
                self.close();
            }
            self.changes.insert(key, value);
        }
    }

    fn close(&mut self) {
        if self.changes.is_empty() && self.from == self.at {
            return;
        }
        let changes = self.changes.iter().map(|(key, value)| match value {
            Some(value) => Change::Put(key.clone(), value.clone()),
            None => Change::Remove(key.clone()),
        });
        self.done.push(Chunk {
            from: self.from,
            to: self.at,
            changes: changes.collect(),
            counts: std::mem::take(&mut self.counts),
        });
        self.from = self.at;
        self.before.append(&mut self.changes);
    }
}

fn read<T: lethe_journal::Kind>(value: &[u8], position: Position) -> Result<T, Error> {
    Event::<T>::decode(value)
        .map(|event| event.data)
        .map_err(|source| Error::EntryUnreadable { position, source })
}

/// Rows in memory serve tests and small tools.
impl Rows for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RowPair>, Error> {
        let start = match after {
            Some(after) if after >= prefix => std::ops::Bound::Excluded(after),
            _ => std::ops::Bound::Included(prefix),
        };
        let found = self.range::<[u8], _>((start, std::ops::Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
