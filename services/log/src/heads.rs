//! The heads file: up to where a stream was acknowledged.
//!
//! It is written after each commit and never synced, so it costs no fsync and lags behind after a power loss; but it is never ahead of
//! what is durable. A stream whose file ends before it has therefore lost its end (a flipped bit in redb's header is enough to
//! bring the commit before the last one back), and the log says so instead of going on with less.

use std::io;

use crate::files::{FileLayer, StorageBackend};
use crate::rules::State;

/// Bytes of one partition: head, epoch.
const PARTITION_BYTES: usize = 16;

/// The heads file of one stream.
#[derive(Debug)]
pub(crate) struct Heads {
    file: Box<dyn StorageBackend>,
}

impl Heads {
    /// The name of the heads file of a stream.
    pub(crate) fn name(stream: &str) -> String {
        format!("{stream}.heads")
    }

    /// Whether the states reach everything that the heads file of the stream has seen acknowledged. A missing or torn file has
    /// seen nothing.
    pub(crate) fn reached_by(files: &dyn FileLayer, stream: &str, states: &[State]) -> bool {
        let Ok(bytes) = crate::files::read_all(files, &Self::name(stream)) else {
            return true;
        };
        let Some(seen) = decode(&bytes, states.len()) else {
            return true;
        };
        seen.into_iter()
            .zip(states)
            .all(|((head, epoch), state)| head <= state.head && epoch <= state.epoch)
    }

    /// Opens the heads file for writing, made where it is missing.
    pub(crate) fn open(files: &dyn FileLayer, stream: &str) -> io::Result<Self> {
        let name = Self::name(stream);
        let file = match files.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => files.create(&name)?,
            other => other?,
        };
        Ok(Self { file })
    }

    /// Notes what is durable by now.
    pub(crate) fn note(&self, states: &[State]) {
        // Only a witness: where it cannot be written the log is as durable as before.
        if let Err(error) = self.file.write(0, &encode(states)) {
            tracing::warn!(%error, "the heads file of a stream cannot be written");
        }
    }
}

fn encode(states: &[State]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for state in states {
        bytes.extend_from_slice(&state.head.to_le_bytes());
        bytes.extend_from_slice(&state.epoch.to_le_bytes());
    }
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], partitions: usize) -> Option<Vec<(u64, u64)>> {
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    if body.len() != partitions * PARTITION_BYTES || u32::from_le_bytes(*sum) != crc32fast::hash(body) {
        return None;
    }
    body.chunks_exact(PARTITION_BYTES)
        .map(|row| {
            let (head, epoch) = row.split_first_chunk::<8>()?;
            Some((
                u64::from_le_bytes(*head),
                u64::from_le_bytes(epoch.try_into().ok()?),
            ))
        })
        .collect()
}
