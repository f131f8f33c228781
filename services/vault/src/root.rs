//! The root key's two slots: files of one fixed length, overwritten in place, the newest valid one wins.
//!
//! A slot is: magic (8 bytes) ‖ generation (8, big-endian) ‖ key (32) ‖ the first 16 bytes of SHA-256 over all before. A torn
//! write leaves the other slot.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::folder::Folder;
use crate::seal::KEY_BYTES;
use crate::{DataKey, Entropy, Error};

const SLOTS: [&str; 2] = ["root-a", "root-b"];
const MAGIC: &[u8; 8] = b"lethe-r1";
const CHECK_BYTES: usize = 16;
const SLOT_BYTES: usize = 8 + 8 + KEY_BYTES + CHECK_BYTES;

/// The root key and its generation.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) key: DataKey,
    pub(crate) generation: u64,
}

impl Root {
    /// The newest valid slot.
    pub(crate) fn read(folder: &Folder, entropy: &Arc<dyn Entropy>) -> Result<Option<Self>, Error> {
        let mut newest: Option<Self> = None;
        for slot in SLOTS {
            let Some(bytes) = folder.read(slot)? else { continue };
            let Some((generation, key)) = parse(&bytes) else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|newest| newest.generation < generation)
            {
                newest = Some(Self {
                    key: DataKey::from_bytes(key, entropy),
                    generation,
                });
            }
        }
        Ok(newest)
    }

    /// Writes the key into the slot of its generation; the other slot keeps what it has.
    pub(crate) fn write(&self, folder: &Folder) -> Result<(), Error> {
        let slot = if self.generation % 2 == 1 {
            SLOTS[0]
        } else {
            SLOTS[1]
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(SLOT_BYTES));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(self.key.bytes());
        let check = check(&bytes);
        bytes.extend_from_slice(&check);
        folder.overwrite(slot, &bytes)
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, Zeroizing<[u8; KEY_BYTES]>)> {
    let (content, found) = bytes.split_last_chunk::<CHECK_BYTES>()?;
    if bytes.len() != SLOT_BYTES || check(content) != *found {
        return None;
    }
    let (generation, key) = content.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*generation),
        Zeroizing::new(key.try_into().ok()?),
    ))
}

fn check(content: &[u8]) -> [u8; CHECK_BYTES] {
    let full: [u8; 32] = Sha256::digest(content).into();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&full[..CHECK_BYTES]);
    check
}
