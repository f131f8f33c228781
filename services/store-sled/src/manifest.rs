//! The manifest: a small file outside sled that says which generation counts and what it holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::totals::Totals;

/// One slot is one block of the file system, so that a torn write spoils no more than the slot that it was for.
const SLOT_BYTES: usize = 4_096;

/// Digest and length in front of a slot's content.
const SLOT_HEAD_BYTES: usize = 32 + 4;

/// What the manifest says.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// Number of this writing: the slot with the higher one counts.
    serial: u64,
    /// Folder of rows that counts.
    pub(crate) generation: u64,
    /// What it holds.
    pub(crate) totals: Totals,
}

/// The file, with what was last written to it.
pub(crate) struct ManifestFile {
    file: File,
    serial: u64,
}

impl ManifestFile {
    /// Opens or makes the file, and reads the newest slot that is whole.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Manifest>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if file.metadata()?.len() < 2 * SLOT_BYTES as u64 {
            file.set_len(2 * SLOT_BYTES as u64)?;
            file.sync_all()?;
        }
        let newest = [0, 1]
            .into_iter()
            .filter_map(|slot| read_slot(&file, slot))
            .max_by_key(|found| found.serial);
        let serial = newest.as_ref().map_or(0, |found| found.serial);
        Ok((Self { file, serial }, newest))
    }

    /// Writes durably; the slot that was written before stays whole.
    pub(crate) fn write(&mut self, generation: u64, totals: &Totals) -> io::Result<()> {
        let serial = self.serial + 1;
        let content = serde_json::to_vec(&Manifest {
            serial,
            generation,
            totals: totals.clone(),
        })?;
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        if content.len() > SLOT_BYTES - SLOT_HEAD_BYTES {
            return Err(io::Error::other("positions of too many streams for the manifest"));
        }
        let mut slot = Vec::with_capacity(SLOT_BYTES);
        slot.extend_from_slice(&Sha256::digest(&content));
        slot.extend_from_slice(&length.to_be_bytes());
        slot.extend_from_slice(&content);
        slot.resize(SLOT_BYTES, 0);
        self.file.write_all_at(&slot, serial % 2 * SLOT_BYTES as u64)?;
        self.file.sync_data()?;
        self.serial = serial;
        Ok(())
    }
}

fn read_slot(file: &File, slot: u64) -> Option<Manifest> {
    let mut bytes = [0; SLOT_BYTES];
    file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64).ok()?;
    let (digest, rest) = bytes.split_first_chunk::<32>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let content = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    serde_json::from_slice(content).ok()
}
