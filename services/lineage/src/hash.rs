//! The state hash: equal for equal rows, in whatever order and in however many partitions they stand.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Error, Rows};

/// Rows of one page of the scan.
const SCAN_ROWS_MAX: usize = 1_000;

/// Sum of the SHA-256 digests of all live rows modulo 2^256. A sum, unlike exclusive or, also notices a row that is there twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct StateHash([u8; 32]);

impl StateHash {
    /// Adds one row.
    pub fn add_row(&mut self, key: &[u8], value: &[u8]) {
        let mut hash = Sha256::new();
        hash.update((key.len() as u64).to_be_bytes());
        hash.update(key);
        hash.update(value);
        self.add(&Self(hash.finalize().into()));
    }

    /// Adds all rows of another hash.
    pub fn add(&mut self, other: &Self) {
        let mut carry = 0_u16;
        for (sum, byte) in self.0.iter_mut().zip(other.0).rev() {
            let total = u16::from(*sum) + u16::from(byte) + carry;
            *sum = total.to_be_bytes()[1];
            carry = total >> 8;
        }
    }

    /// Of these bytes, as another process told them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of all live rows of these partitions.
pub fn state_hash<'a>(partitions: impl IntoIterator<Item = &'a dyn Rows>) -> Result<StateHash, Error> {
    let mut hash = StateHash::default();
    for rows in partitions {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = rows.scan(&[], after.as_deref(), SCAN_ROWS_MAX)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            page.iter().for_each(|(key, value)| hash.add_row(key, value));
        }
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_carries_over_bytes_and_wraps_at_its_end() {
        let mut sum = StateHash([0xff; 32]);
        let mut one = [0; 32];
        one[31] = 1;
        sum.add(&StateHash(one));
        assert_eq!(sum, StateHash::default());
        let mut low = [0; 32];
        low[31] = 0xff;
        let mut sum = StateHash(low);
        sum.add(&StateHash(one));
        assert_eq!(sum.0[30..], [1, 0]);
    }
}
