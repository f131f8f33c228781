//! The manifest: which generation of each stream's file is the current one. It alone decides; a file that it does not name is a
//! remnant of a crash.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use lethe_journal::Stream;

use crate::Error;
use crate::files::{self, FileLayer};

const NAME: &str = "manifest";
const NEXT_NAME: &str = "manifest.new";
const FIRST_LINE: &str = "lethe-log 1";

/// The ending of every stream file.
const STREAM_FILE_SUFFIX: &str = ".redb";

/// The current generation of each stream.
#[derive(Debug)]
pub(crate) struct Manifest {
    files: Arc<dyn FileLayer>,
    generations: BTreeMap<Stream, u64>,
}

/// Why the manifest was not replaced.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The old one still holds.
    Unchanged(io::Error),
    /// Which one holds after a power loss is unknown.
    Unknown(io::Error),
}

/// The name of a stream's file.
pub(crate) fn file_name(stream: &Stream, generation: u64) -> String {
    format!("{stream}.{generation}{STREAM_FILE_SUFFIX}")
}

impl Manifest {
    /// Reads the manifest; in an empty folder it makes an empty one.
    pub(crate) fn load(files: Arc<dyn FileLayer>) -> Result<Self, Error> {
        let bytes = match files::read_all(&*files, NAME) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::first(files),
            Err(error) => return Err(Error::NotStored(format!("{NAME} cannot be read: {error}"))),
        };
        let generations = decode(&bytes).ok_or_else(|| damaged(&format!("{NAME} is damaged")))?;
        Ok(Self { files, generations })
    }

    fn first(files: Arc<dyn FileLayer>) -> Result<Self, Error> {
        let names = files
            .list()
            .map_err(|error| Error::NotStored(format!("the log's folder cannot be read: {error}")))?;
        // The first manifest lasts before the first stream file is made.
        if names.iter().any(|name| name.ends_with(STREAM_FILE_SUFFIX)) {
            return Err(damaged(&format!(
                "{NAME} is missing although there are files of streams"
            )));
        }
        let manifest = Self {
            files,
            generations: BTreeMap::new(),
        };
        match manifest.store(&manifest.generations) {
            Ok(()) => Ok(manifest),
            Err(Failure::Unchanged(error) | Failure::Unknown(error)) => {
                Err(Error::NotStored(format!("{NAME} cannot be written: {error}")))
            }
        }
    }

    /// The current generations.
    pub(crate) const fn generations(&self) -> &BTreeMap<Stream, u64> {
        &self.generations
    }

    /// Makes a generation the current one, durably.
    pub(crate) fn switch(&mut self, stream: &Stream, generation: u64) -> Result<(), Failure> {
        let mut next = self.generations.clone();
        next.insert(stream.clone(), generation);
        self.store(&next)?;
        self.generations = next;
        Ok(())
    }

    fn store(&self, generations: &BTreeMap<Stream, u64>) -> Result<(), Failure> {
        let write = || -> io::Result<()> {
            let file = self.files.create(NEXT_NAME)?;
            file.write(0, &encode(generations))?;
            file.sync_data()
        };
        write().map_err(Failure::Unchanged)?;
        self.files.rename(NEXT_NAME, NAME).map_err(Failure::Unknown)?;
        self.files.sync_names().map_err(Failure::Unknown)
    }

    /// Removes what a crash left behind. Only after every current file was opened: a damaged manifest must not cost a file.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        let current: Vec<String> = self
            .generations
            .iter()
            .map(|(stream, generation)| file_name(stream, *generation))
            .collect();
        let mut removed = false;
        for name in self.files.list()? {
            let is_remnant =
                name == NEXT_NAME || (name.ends_with(STREAM_FILE_SUFFIX) && !current.contains(&name));
            if is_remnant {
                self.files.remove(&name)?;
                removed = true;
            }
        }
        if removed { self.files.sync_names() } else { Ok(()) }
    }
}

/// The error of files that are not what was written, with what to do.
pub(crate) fn damaged(what: &str) -> Error {
    Error::Corrupt(format!(
        "{what}; keep a copy of the log's folder and restore it from a backup"
    ))
}

fn encode(generations: &BTreeMap<Stream, u64>) -> Vec<u8> {
    let mut text = format!("{FIRST_LINE}\n");
    for (stream, generation) in generations {
        text.push_str(&format!("{stream} {generation}\n"));
    }
    let sum = crc32fast::hash(text.as_bytes());
    text.push_str(&format!("crc32 {sum:08x}\n"));
    text.into_bytes()
}

fn decode(bytes: &[u8]) -> Option<BTreeMap<Stream, u64>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (body, sum) = text.rsplit_once('\n')?;
    let expected = format!("crc32 {:08x}", crc32fast::hash(format!("{body}\n").as_bytes()));
    if sum != expected {
        return None;
    }
    let mut lines = body.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    lines
        .map(|line| {
            let (stream, generation) = line.split_once(' ')?;
            Some((stream.parse().ok()?, generation.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_no_flipped_bit_does() {
        let generations = BTreeMap::from([
            (Stream::Records, 3),
            (Stream::Instructions("shop".parse().unwrap()), 1),
        ]);
        let bytes = encode(&generations);
        assert_eq!(decode(&bytes), Some(generations));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
    }
}
