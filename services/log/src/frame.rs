//! The bytes of an entry and of a partition's state, each under a checksum.
//!
//! redb verifies the checksums of its pages only after a crash, so a flipped bit in a value would come back as a value. And a
//! flipped bit in a page of its tree can hide entries: each entry therefore names the entry before it, and a reader
//! that meets a gap in that chain refuses to go on.

use lethe_journal::{Entry, Position};
use lethe_terms::EntryId;

use crate::rules::State;

/// Bytes before the key: checksum, the entry before, id, kind, length of the key.
const HEADER_BYTES: usize = 4 + 8 + 16 + 1 + 4;

/// Bytes of a partition's state.
const STATE_BYTES: usize = 4 + 4 * 8;

const TOMBSTONE: u8 = 0;
const VALUE: u8 = 1;

/// An entry as it lies in the file, without a copy of key and value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// One more than the position of the entry before it in the partition; 0 where there is none.
    pub(crate) previous: Position,
    /// Id of the entry.
    id: [u8; 16],
    /// Key of the entry.
    pub(crate) key: &'a [u8],
    /// Value of the entry; `None` is a tombstone.
    pub(crate) value: Option<&'a [u8]>,
}

fn checksum(partition: u16, position: Position, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&partition.to_be_bytes());
    hasher.update(&position.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}

impl<'a> Frame<'a> {
    /// The frame of an entry.
    pub(crate) fn new(previous: Position, entry: &'a Entry) -> Self {
        Self {
            previous,
            id: *entry.id.as_bytes(),
            key: &entry.key,
            value: entry.value.as_deref(),
        }
    }

    /// Writes the frame into `bytes`, whose capacity is used again.
    pub(crate) fn encode(&self, partition: u16, position: Position, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.previous.to_le_bytes());
        bytes.extend_from_slice(&self.id);
        bytes.push(if self.value.is_some() { VALUE } else { TOMBSTONE });
        // A batch is below 64 MiB, so a key's length always fits.
        bytes.extend_from_slice(&u32::try_from(self.key.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(self.key);
        bytes.extend_from_slice(self.value.unwrap_or_default());
        let sum = checksum(partition, position, &bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads a frame; `None` where it does not hold what was written.
    pub(crate) fn decode(partition: u16, position: Position, bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let (sum, body) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*sum) != checksum(partition, position, body) {
            return None;
        }
        let (previous, body) = body.split_first_chunk::<8>()?;
        let (id, body) = body.split_first_chunk::<16>()?;
        let ([kind], body) = body.split_first_chunk::<1>()?;
        let (key_bytes, body) = body.split_first_chunk::<4>()?;
        let (key, value) = body.split_at_checked(usize::try_from(u32::from_le_bytes(*key_bytes)).ok()?)?;
        let value = match (*kind, value) {
            (VALUE, value) => Some(value),
            (TOMBSTONE, []) => None,
            _ => return None,
        };
        Some(Self {
            previous: u64::from_le_bytes(*previous),
            id: *id,
            key,
            value,
        })
    }

    /// The entry, copied.
    pub(crate) fn to_entry(self) -> Entry {
        Entry {
            id: EntryId::from_bytes(self.id),
            key: self.key.to_vec(),
            value: self.value.map(<[u8]>::to_vec),
        }
    }
}

/// The bytes of a partition's state.
pub(crate) fn encode_state(partition: u16, state: &State) -> [u8; STATE_BYTES] {
    let mut bytes = [0; STATE_BYTES];
    let words = [state.head, state.last, state.epoch, state.removed_below];
    for (slot, word) in bytes[4..].chunks_exact_mut(8).zip(words) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    let sum = checksum(partition, 0, &bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a partition's state; `None` where it does not hold what was written.
pub(crate) fn decode_state(partition: u16, bytes: &[u8]) -> Option<State> {
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    if bytes.len() != STATE_BYTES || u32::from_le_bytes(*sum) != checksum(partition, 0, body) {
        return None;
    }
    let mut words = body
        .chunks_exact(8)
        .filter_map(|word| word.try_into().ok())
        .map(u64::from_le_bytes);
    let (head, last) = (words.next()?, words.next()?);
    let (epoch, removed_below) = (words.next()?, words.next()?);
    (last <= head && removed_below <= head).then_some(State {
        head,
        last,
        epoch,
        removed_below,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: Option<&[u8]>) -> Entry {
        Entry {
            id: EntryId::from_bytes([7; 16]),
            key: b"key".to_vec(),
            value: value.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn a_frame_reads_back_and_no_flipped_bit_does() {
        for value in [Some(b"value".as_slice()), Some(b""), None] {
            let entry = entry(value);
            let mut bytes = Vec::new();
            Frame::new(4, &entry).encode(3, 9, &mut bytes);
            let read = Frame::decode(3, 9, &bytes).unwrap();
            assert_eq!((read.previous, read.to_entry()), (4, entry));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Frame::decode(3, 9, &flipped).is_none(), "bit {bit}");
            }
            assert!(
                Frame::decode(3, 10, &bytes).is_none(),
                "an entry that stands at another position"
            );
            assert!(
                Frame::decode(2, 9, &bytes).is_none(),
                "an entry that stands in another partition"
            );
        }
    }

    #[test]
    fn a_state_reads_back_and_no_flipped_bit_does() {
        let state = State {
            head: 9,
            last: 8,
            epoch: 3,
            removed_below: 2,
        };
        let bytes = encode_state(5, &state);
        assert_eq!(decode_state(5, &bytes), Some(state));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_state(5, &flipped), None, "bit {bit}");
        }
    }
}
