//! Which records were told while events stood in quarantine, and by which event each was told last: what is kept of an event must not
//! replace what a later one said of the same record, nor bring back what a later one said is gone.
//!
//! Kept beside the position of the intake stream, and only while events are in quarantine: a row is a token, and outlives the record.

use std::sync::Arc;

use lethe_journal::{Position, Stream};
use lethe_store::{Batch, COMMIT_ROWS_MAX, Store};
use lethe_terms::{RecordToken, ShardName};

use crate::Error;

/// Before the tokens of records.
const TOLD: &[u8] = b"told/";

/// Row of the position from which on everything that was told is known.
const SINCE: &[u8] = b"since";

/// An event that tells a record: where it stood, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Teller {
    pub(super) shard: ShardName,
    pub(super) sequence: u64,
    pub(super) position: Position,
}

impl Teller {
    /// Whether this one is newer: by its number where both are of one shard, for a shard may stand on the stream in another order; else by place.
    fn is_behind(&self, other: &Self) -> bool {
        let by_number = |teller: &Self| (teller.sequence, teller.position);
        if self.shard == other.shard {
            by_number(self) > by_number(other)
        } else {
            self.position > other.position
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (position, sequence) = (self.position.to_be_bytes(), self.sequence.to_be_bytes());
        [&position, &sequence, self.shard.as_str().as_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (position, rest) = bytes.split_first_chunk()?;
        let (sequence, shard) = rest.split_first_chunk()?;
        Some(Self {
            shard: std::str::from_utf8(shard).ok()?.parse().ok()?,
            sequence: u64::from_be_bytes(*sequence),
            position: Position::from_be_bytes(*position),
        })
    }
}

/// What was told of a record behind an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing.
    Nothing,
    /// Something.
    Something,
    /// Nobody remembers so far back.
    Unknown,
}

/// The records.
pub(super) struct Told {
    store: Arc<dyn Store>,
}

impl Told {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Notes by which events records are told, of everything that stands from a position on.
    pub(super) fn note(&self, first: Position, told: &[(RecordToken, Teller)]) -> Result<(), Error> {
        if self.since()?.is_none() {
            let mut batch = Batch::default();
            batch.put(SINCE.to_vec(), first.to_be_bytes().to_vec());
            self.commit(&batch)?;
        }
        for rows in told.chunks(COMMIT_ROWS_MAX) {
            let mut batch = Batch::default();
            for (record, teller) in rows {
                batch.put(row(*record), teller.encode());
            }
            self.commit(&batch)?;
        }
        Ok(())
    }

    /// What was told of a record behind an event.
    pub(super) fn behind(&self, event: &Teller, record: RecordToken) -> Result<Since, Error> {
        if self.since()?.is_none_or(|since| since > event.position) {
            return Ok(Since::Unknown);
        }
        let Some(bytes) = self.store.get(&row(record))? else {
            return Ok(Since::Nothing);
        };
        let newest = Teller::decode(&bytes).ok_or_else(damaged)?;
        Ok(if newest.is_behind(event) {
            Since::Something
        } else {
            Since::Nothing
        })
    }

    /// Whether anything is kept.
    pub(super) fn is_kept(&self) -> Result<bool, Error> {
        Ok(self.since()?.is_some() || !self.store.scan(TOLD, None, 1)?.is_empty())
    }

    /// Lets go of what is kept, as much of it as one commit holds. What is left says of nothing more than it knew.
    pub(super) fn let_go(&self) -> Result<(), Error> {
        let mut batch = Batch::default();
        batch.remove(SINCE.to_vec());
        for (key, _) in self.store.scan(TOLD, None, COMMIT_ROWS_MAX - 1)? {
            batch.remove(key);
        }
        self.commit(&batch)
    }

    fn since(&self) -> Result<Option<Position>, Error> {
        let Some(bytes) = self.store.get(SINCE)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into().map_err(|_| damaged())?;
        Ok(Some(Position::from_be_bytes(bytes)))
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let at = self.store.position(&Stream::Intake)?;
        Ok(self.store.commit(&Stream::Intake, at, at, batch)?)
    }
}

fn damaged() -> Error {
    lethe_store::Error::Damaged("what was told of records".to_owned()).into()
}

fn row(record: RecordToken) -> Vec<u8> {
    [TOLD, record.as_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use lethe_store::MemoryStore;

    use super::*;

    fn record(byte: u8) -> RecordToken {
        RecordToken::from_bytes([byte; 16])
    }

    fn teller(shard: &str, sequence: u64, position: Position) -> Teller {
        Teller {
            shard: shard.parse().unwrap(),
            sequence,
            position,
        }
    }

    #[test]
    fn what_was_told_behind_an_event_is_known_from_the_first_note_on_until_it_is_let_go() {
        let told = Told::new(Arc::new(MemoryStore::new()));
        let behind = |position, byte| {
            let event = teller("a", position, position);
            told.behind(&event, record(byte)).unwrap()
        };
        assert_eq!(behind(7, 1), Since::Unknown);
        let first = [(record(1), teller("a", 6, 6)), (record(2), teller("a", 9, 9))];
        told.note(5, &first).unwrap();
        told.note(10, &[(record(3), teller("b", 1, 10))]).unwrap();
        for (position, byte, expected) in [
            (4, 1, Since::Unknown),
            (5, 1, Since::Something),
            (6, 1, Since::Nothing),
            (7, 1, Since::Nothing),
            (7, 2, Since::Something),
            (7, 3, Since::Something),
            (11, 3, Since::Nothing),
            (7, 4, Since::Nothing),
        ] {
            assert_eq!(behind(position, byte), expected, "{position} of {byte}");
        }
        told.let_go().unwrap();
        assert!(!told.is_kept().unwrap());
        assert_eq!(behind(7, 4), Since::Unknown);
    }

    #[test]
    fn of_one_shard_the_number_decides_and_the_place_of_one_number() {
        for (newest, event, is_behind) in [
            (("a", 5, 1), ("a", 4, 2), true),
            (("a", 4, 2), ("a", 5, 1), false),
            (("a", 4, 2), ("a", 4, 1), true),
            (("b", 4, 2), ("a", 5, 1), true),
            (("b", 5, 1), ("a", 4, 2), false),
        ] {
            let told = Told::new(Arc::new(MemoryStore::new()));
            let of = |(shard, sequence, position)| teller(shard, sequence, position);
            told.note(0, &[(record(1), of(newest))]).unwrap();
            let since = told.behind(&of(event), record(1)).unwrap();
            assert_eq!(since == Since::Something, is_behind, "{newest:?} {event:?}");
        }
    }

    #[test]
    fn much_is_let_go_step_by_step_and_never_taken_for_all_there_is() {
        let told = Told::new(Arc::new(MemoryStore::new()));
        let many: Vec<_> = (0..2_500_u64)
            .map(|number| {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&number.to_be_bytes());
                (RecordToken::from_bytes(bytes), teller("a", number, number))
            })
            .collect();
        told.note(0, &many).unwrap();
        let mut steps = 0;
        while told.is_kept().unwrap() {
            told.let_go().unwrap();
            let since = told.behind(&teller("a", 0, 0), record(9)).unwrap();
            assert_eq!(since, Since::Unknown);
            steps += 1;
        }
        assert_eq!(steps, 3);
    }
}
