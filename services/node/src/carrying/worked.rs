//! How far the commands and answers of each partition are worked off, in a folder that all conductors share.
//!
//! Each writer of a partition has a file of its own, named after its epoch, and the file of the newest epoch counts. So what a process writes
//! that was stopped for a while, and has been fenced off since, counts for nothing: neither an older position, at which the queue may be
//! dropped by now, nor a newer one, which the new writer has not come to.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use lethe_journal::{Epoch, Position};

/// How often a file is looked for again that a new writer has just taken over: that happens once in a while.
const LOOKS_MAX: u32 = 5;

/// How far the commands and answers of a partition are worked off: what stands before does not have to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Worked {
    pub(crate) commands: Position,
    pub(crate) answers: Position,
}

/// How far a partition is as far as was written down; from the beginning of the queues where nothing was, or nothing that can be read.
pub(super) fn read(folder: &Path, partition: u16) -> io::Result<Worked> {
    for _ in 0..LOOKS_MAX {
        let Some(epoch) = newest(folder, partition)? else {
            break;
        };
        match fs::read_to_string(file(folder, partition, epoch)) {
            Ok(text) => return Ok(parse(&text)),
            Err(error) if error.kind() == ErrorKind::InvalidData => break,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Worked::default())
}

/// Begins as the writer with this epoch: goes on in the file of the one before, and removes those of earlier ones. To be called before anything
/// is appended under the epoch: what an earlier writer wrote by now it had judged by all that was appended. A file is moved and not copied, so
/// that nothing is dropped of the queues in between that the new writer has still to read.
pub(super) fn begin(folder: &Path, partition: u16, epoch: Epoch) -> io::Result<Worked> {
    let own = file(folder, partition, epoch);
    for _ in 0..LOOKS_MAX {
        let mut before = epochs(folder, partition)?;
        before.retain(|earlier| *earlier < epoch);
        before.sort_unstable();
        let Some(last) = before.pop() else { break };
        where_there(fs::rename(file(folder, partition, last), &own))?;
        for earlier in before {
            where_there(fs::remove_file(file(folder, partition, earlier)))?;
        }
    }
    if !own.try_exists()? {
        write(folder, partition, epoch, Worked::default())?;
    }
    read(folder, partition)
}

/// What was done to a file that may be gone: another writer may begin at the same time.
fn where_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Writes down how far the writer with this epoch is.
pub(super) fn write(folder: &Path, partition: u16, epoch: Epoch, now: Worked) -> io::Result<()> {
    let file = file(folder, partition, epoch);
    let new = folder.join(format!("{partition}.{epoch}.new"));
    fs::write(&new, format!("{} {}\n", now.commands, now.answers))?;
    fs::rename(&new, &file)
}

/// The epoch of the newest writer that has begun.
fn newest(folder: &Path, partition: u16) -> io::Result<Option<Epoch>> {
    Ok(epochs(folder, partition)?.into_iter().max())
}

/// The same of every partition.
pub(super) fn newest_of_all(folder: &Path) -> io::Result<BTreeMap<u16, Epoch>> {
    let mut newest = BTreeMap::new();
    for (partition, epoch) in begun(folder)? {
        let known = newest.entry(partition).or_insert(epoch);
        *known = epoch.max(*known);
    }
    Ok(newest)
}

fn epochs(folder: &Path, partition: u16) -> io::Result<Vec<Epoch>> {
    let of_it = begun(folder)?
        .into_iter()
        .filter(|(number, _)| *number == partition);
    Ok(of_it.map(|(_, epoch)| epoch).collect())
}

/// Each writer that has begun and has a file, by partition and epoch.
fn begun(folder: &Path) -> io::Result<Vec<(u16, Epoch)>> {
    let mut begun = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let of = name.to_str().and_then(|name| name.split_once('.'));
        if let Some((Ok(partition), Ok(epoch))) = of.map(|(number, epoch)| (number.parse(), epoch.parse())) {
            begun.push((partition, epoch));
        }
    }
    Ok(begun)
}

fn file(folder: &Path, partition: u16, epoch: Epoch) -> PathBuf {
    folder.join(format!("{partition}.{epoch}"))
}

fn parse(text: &str) -> Worked {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(commands)), Some(Ok(answers))) => Worked { commands, answers },
        _ => Worked::default(),
    }
}
