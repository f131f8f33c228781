//! The fold: entries of `records` and `keys` become changes of rows.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, Event, KeyWrapped, Position, RecordObserved, Stored, Stream};
use lethe_terms::{RecordToken, SystemName};

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

/// A stretch of one partition, as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Stretch<'a> {
    /// The entries.
    pub entries: &'a [Stored],
    /// What stands between them and is none, by position: the key that it bears.
    pub strays: &'a [(Position, &'a [u8])],
    /// Where to read on.
    pub next: Position,
}

/// What a stretch becomes.
#[derive(Debug, Default)]
pub struct Folded {
    /// The changes.
    pub chunks: Vec<Chunk>,
    /// Entries that can be none, and why.
    pub unreadable: Vec<(Position, Error)>,
    /// What took the place of a record or of its data key, be it such an entry or a stray.
    pub displaced: BTreeMap<Position, Displaced>,
}

/// What something took the place of that can be no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Displaced {
    /// A record of this system.
    Of(SystemName),
    /// Nothing that was known, under what may be the name of a record: the log may have been compacted before this fold began.
    Unknown,
}

/// Folds a stretch of one partition of `records` or `keys` that was read at `from`. Later entries see what earlier ones changed. Repeats change
/// nothing. An entry with an empty key is a fence or a heartbeat and holds nothing. Entries of other streams change nothing here.
///
/// What stands under a key and can be no entry ends what stood there before: a log that is compacted keeps only the last of a key, so a fold that
/// begins later finds nothing else.
///
/// Errors: an entry of a newer version stops the fold of its stream; nothing of the stretch is to be committed then.
pub fn fold(rows: &dyn Rows, stream: &Stream, from: Position, stretch: Stretch<'_>) -> Result<Folded, Error> {
    let mut folding = Folding {
        rows,
        done: Folded::default(),
        from,
        at: from,
        changes: BTreeMap::new(),
        before: BTreeMap::new(),
        counts: BTreeMap::new(),
    };
    let mut strays = stretch.strays.iter().copied().peekable();
    for stored in stretch.entries {
        while let Some((position, key)) = strays.next_if(|(position, _)| *position < stored.position) {
            folding.end(stream, position, key)?;
        }
        folding.entry(stream, stored)?;
    }
    for (position, key) in strays {
        folding.end(stream, position, key)?;
    }
    folding.at = folding.at.max(stretch.next);
    folding.close();
    Ok(folding.done)
}

struct Folding<'a> {
    rows: &'a dyn Rows,
    done: Folded,
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

    fn entry(&mut self, stream: &Stream, stored: &Stored) -> Result<(), Error> {
        let (position, key) = (stored.position, stored.entry.key.as_slice());
        let read = match stream {
            _ if key.is_empty() => Ok(()),
            Stream::Records => {
                record_of(stored).and_then(|(record, new)| self.record(record, new.as_ref()).map(drop))
            }
            Stream::Keys => key_of(stored).and_then(|new| self.key(key, new)),
            _ => Ok(()),
        };
        match read {
            Err(error) if error.is_of_nobody() => {
                self.done.unreadable.push((position, error));
                self.end(stream, position, key)
            }
            read => {
                self.at = position + 1;
                read
            }
        }
    }

    /// Ends what stood under a key.
    fn end(&mut self, stream: &Stream, position: Position, key: &[u8]) -> Result<(), Error> {
        let record = <[u8; 16]>::try_from(key).ok().map(RecordToken::from_bytes);
        let was = match (stream, record) {
            (Stream::Records, Some(record)) => self.record(record, None)?,
            (Stream::Keys, _) if is_key_id(key) => {
                self.key(key, None)?;
                match record {
                    Some(record) => self.known(record)?,
                    None => None,
                }
            }
            _ => None,
        };
        if record.is_some() {
            let displaced = was.map_or(Displaced::Unknown, |was| Displaced::Of(was.system));
            self.done.displaced.insert(position, displaced);
        }
        self.at = position + 1;
        Ok(())
    }

    /// A record as it is known.
    fn known(&self, record: RecordToken) -> Result<Option<RecordObserved>, Error> {
        let row = self.get(&record_key(record))?;
        row.map(|row| decode_record(record, &row)).transpose()
    }

    /// Puts a record in the place of what was known of it, or nothing; what that was, where it changes.
    fn record(
        &mut self,
        record: RecordToken,
        new: Option<&RecordObserved>,
    ) -> Result<Option<RecordObserved>, Error> {
        let key = record_key(record);
        let old = self.get(&key)?;
        let value = new.map(encode_record);
        if old == value {
            return Ok(None);
        }
        let old = old.map(|row| decode_record(record, &row)).transpose()?;
        let holds = |record: Option<&RecordObserved>| -> BTreeSet<_> {
            record
                .into_iter()
                .flat_map(|record| record.tokens.iter().map(|token| token.token))
                .collect()
        };
        let (held, holds) = (holds(old.as_ref()), holds(new));
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
        self.count(new, 1);
        Ok(old)
    }

    /// Puts a wrapped key in the place of the one that was there, or nothing.
    fn key(&mut self, id: &[u8], value: Option<Vec<u8>>) -> Result<(), Error> {
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
        self.done.chunks.push(Chunk {
            from: self.from,
            to: self.at,
            changes: changes.collect(),
            counts: std::mem::take(&mut self.counts),
        });
        self.from = self.at;
        self.before.append(&mut self.changes);
    }
}

/// The record of an entry, and what the entry says of it: nothing where it ends.
fn record_of(stored: &Stored) -> Result<(RecordToken, Option<RecordObserved>), Error> {
    let position = stored.position;
    let key = stored.entry.key.as_slice();
    let record = RecordToken::from_bytes(key.try_into().map_err(|_| Error::KeyMismatch { position })?);
    let value = stored.entry.value.as_ref();
    let new = value
        .map(|value| read::<RecordObserved>(value, position))
        .transpose()?;
    if new.as_ref().is_some_and(|new| new.record != record) {
        return Err(Error::KeyMismatch { position });
    }
    Ok((record, new))
}

/// Whether it names a data key: a case's or a record's.
const fn is_key_id(key: &[u8]) -> bool {
    matches!(key.len(), 8 | 16)
}

/// The row of a wrapped key: nothing where it ends.
fn key_of(stored: &Stored) -> Result<Option<Vec<u8>>, Error> {
    let position = stored.position;
    if !is_key_id(&stored.entry.key) {
        return Err(Error::KeyMismatch { position });
    }
    let value = stored.entry.value.as_ref();
    value
        .map(|value| Ok(encode_key(&read::<KeyWrapped>(value, position)?)))
        .transpose()
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
