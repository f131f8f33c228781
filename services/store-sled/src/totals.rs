//! What a store holds, in numbers: kept inside sled in each batch and outside it in the manifest.

use std::collections::BTreeMap;

use lethe_journal::{Position, Stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Order-free digest of rows: the sum of their SHA-256 digests modulo 2^256. A sum, unlike exclusive or, also notices a row
/// that is there twice.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RowSum([u8; 32]);

impl RowSum {
    /// Adds a row.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut carry = 0_u16;
        for (sum, byte) in self.0.iter_mut().zip(row_digest(key, value)).rev() {
            let total = u16::from(*sum) + u16::from(byte) + carry;
            *sum = total.to_be_bytes()[1];
            carry = total >> 8;
        }
    }

    /// Takes a row away.
    pub(crate) fn subtract(&mut self, key: &[u8], value: &[u8]) {
        let mut borrow = 0_i16;
        for (sum, byte) in self.0.iter_mut().zip(row_digest(key, value)).rev() {
            let total = i16::from(*sum) - i16::from(byte) - borrow;
            borrow = i16::from(total < 0);
            *sum = total.to_be_bytes()[1];
        }
    }
}

fn row_digest(key: &[u8], value: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(value);
    hash.finalize().into()
}

impl Serialize for RowSum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for RowSum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// What a store holds.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Totals {
    /// Commits so far.
    pub(crate) sequence: u64,
    /// Rows.
    pub(crate) rows: u64,
    /// Their digest.
    pub(crate) sum: RowSum,
    /// Positions by stream.
    positions: BTreeMap<String, Position>,
}

impl Totals {
    /// Where a stream's fold stands.
    pub(crate) fn position(&self, stream: &Stream) -> Position {
        self.positions.get(&stream.to_string()).copied().unwrap_or(0)
    }

    /// Moves a stream's fold.
    pub(crate) fn set_position(&mut self, stream: &Stream, to: Position) {
        self.positions.insert(stream.to_string(), to);
    }

    /// Counts the change of one row.
    pub(crate) fn change(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        if let Some(old) = old {
            self.rows = self.rows.saturating_sub(1);
            self.sum.subtract(key, old);
        }
        if let Some(new) = new {
            self.rows += 1;
            self.sum.add(key, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_does_not_depend_on_order_and_takes_back_what_it_added() {
        let mut one = RowSum::default();
        one.add(b"a", b"1");
        one.add(b"b", b"2");
        let mut other = RowSum::default();
        other.add(b"b", b"2");
        other.add(b"c", b"3");
        other.add(b"a", b"1");
        other.subtract(b"c", b"3");
        assert!(one == other);
        other.add(b"a", b"1");
        other.add(b"a", b"1");
        assert!(one != other);
    }
}
