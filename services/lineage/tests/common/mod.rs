//! Records, entries and partitions as literals.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;

use lethe_journal::{
    Entry, Event, KeyWrapped, RecordObserved, Sealed, Stored, Stream, TABLE_PARTITIONS, Token, partition_of,
};
use lethe_lineage::{
    Change, Chunk, Folded, Next, PartAnswer, Reached, Rows, StateHash, Stretch, Walk, answer, fold,
    state_hash,
};
use lethe_terms::{EntryId, IdentifierKind, IdentifierToken, RecordToken, Timestamp};

pub(crate) type Partition = BTreeMap<Vec<u8>, Vec<u8>>;

fn spread(text: &str) -> [u8; 16] {
    // A stand-in for the vault's tokens: spread over all partitions, the same for the same text.
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut bytes = [0; 16];
    for half in 0..2_usize {
        for byte in text.bytes().chain([b'0' + u8::try_from(half).unwrap()]) {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        state ^= state >> 29;
        bytes[half * 8..half * 8 + 8].copy_from_slice(&state.to_be_bytes());
    }
    bytes
}

/// A record token that stands for this name.
pub(crate) fn record_token(name: &str) -> RecordToken {
    RecordToken::from_bytes(spread(name))
}

/// A token that stands for `kind=value`.
pub(crate) fn token(text: &str) -> Token {
    let (kind, _) = text.split_once('=').unwrap();
    Token {
        kind: kind.parse::<IdentifierKind>().unwrap(),
        token: IdentifierToken::from_bytes(spread(text)),
    }
}

/// A record `system/dataset/key` with identifiers `kind=value`, separated by blanks.
pub(crate) fn observed(name: &str, identifiers: &str) -> RecordObserved {
    let mut parts = name.splitn(3, '/');
    let mut tokens: Vec<Token> = identifiers.split_whitespace().map(token).collect();
    tokens.sort();
    RecordObserved {
        record: record_token(name),
        system: parts.next().unwrap().parse().unwrap(),
        dataset: parts.next().unwrap().parse().unwrap(),
        tokens,
        secret: Sealed::from_bytes(format!("sealed {name}").into_bytes()),
        digest: format!("digest of {identifiers}"),
        count: 1,
    }
}

fn event<T: lethe_journal::Kind>(data: T) -> Vec<u8> {
    let time = Timestamp::from_millis(1_800_000_000_000);
    Event {
        id: EntryId::from_bytes([1; 16]),
        source: "/lethe/intake",
        time,
        data,
    }
    .encode()
    .unwrap()
}

/// An entry of `records`; `None` ends the record.
pub(crate) fn record_entry(name: &str, identifiers: Option<&str>) -> Entry {
    Entry {
        id: EntryId::from_bytes([1; 16]),
        key: record_token(name).as_bytes().to_vec(),
        value: identifiers.map(|identifiers| event(observed(name, identifiers))),
    }
}

/// An entry of `keys` for a record; `None` ends the key.
pub(crate) fn key_entry(name: &str, wrapped: Option<&str>) -> Entry {
    Entry {
        id: EntryId::from_bytes([1; 16]),
        key: record_token(name).as_bytes().to_vec(),
        value: wrapped.map(|wrapped| {
            event(KeyWrapped {
                bucket: 7,
                wrapped: Sealed::from_bytes(wrapped.as_bytes().to_vec()),
            })
        }),
    }
}

/// The entries at positions from `first` on.
pub(crate) fn stored(first: u64, entries: &[Entry]) -> Vec<Stored> {
    (first..)
        .zip(entries)
        .map(|(position, entry)| Stored {
            position,
            taken_at: None,
            entry: entry.clone(),
        })
        .collect()
}

pub(crate) fn apply(rows: &mut Partition, chunks: &[Chunk]) {
    for change in chunks.iter().flat_map(|chunk| &chunk.changes) {
        match change {
            Change::Put(key, value) => rows.insert(key.clone(), value.clone()),
            Change::Remove(key) => rows.remove(key),
        };
    }
}

/// Folds entries that stand alone in a partition.
pub(crate) fn fold_entries(
    rows: &Partition,
    stream: &Stream,
    from: u64,
    entries: &[Stored],
    next: u64,
) -> Folded {
    let stretch = Stretch {
        entries,
        strays: &[],
        next,
    };
    fold(rows, stream, from, stretch).unwrap()
}

/// Folds entries of one partition in batches of these sizes, over and over.
pub(crate) fn folded(rows: &mut Partition, stream: &Stream, entries: &[Stored], batches: &[usize]) {
    let (mut rest, mut from, mut sizes) = (entries, 0, batches.iter().copied().cycle());
    while let Some(first) = rest.first() {
        let (batch, later) = rest.split_at(sizes.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        let next = batch.last().unwrap_or(first).position + 1;
        apply(rows, &fold_entries(rows, stream, from, batch, next).chunks);
        (rest, from) = (later, next);
    }
}

/// Sixteen partitions that hold these records.
pub(crate) fn world(records: &[(&str, &str)]) -> Vec<Partition> {
    let mut partitions = vec![Partition::new(); usize::from(TABLE_PARTITIONS)];
    for (name, identifiers) in records {
        let place = usize::from(partition_of(record_token(name).as_bytes(), TABLE_PARTITIONS));
        let entry = [record_entry(name, Some(identifiers))];
        folded(&mut partitions[place], &Stream::Records, &stored(0, &entry), &[1]);
    }
    partitions
}

/// Takes a walk through these partitions; `arrive` sees the answers of each round before the walk does.
pub(crate) fn walked(
    partitions: &[Partition],
    mut walk: Walk,
    arrive: impl Fn(&mut [PartAnswer]),
) -> Reached {
    for _ in 0..100 {
        match walk.next() {
            Next::Done(reached) => return reached,
            Next::Ask(ask) => {
                let parts = partitions
                    .iter()
                    .map(|rows| answer(rows as &dyn Rows, &ask).unwrap());
                let mut parts: Vec<_> = parts.collect();
                arrive(&mut parts);
                walk.answer(parts).unwrap();
            }
        }
    }
    panic!("a walk ends");
}

pub(crate) fn hash(partitions: &[Partition]) -> StateHash {
    state_hash(partitions.iter().map(|rows| rows as &dyn Rows)).unwrap()
}
