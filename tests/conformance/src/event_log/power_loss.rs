//! A file layer that can lose power: what was not synced is kept apart, and any part of it is lost.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lethe_log::files::{FileLayer, Lock, StorageBackend};

use super::Random;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A folder in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct PowerLossFiles {
    disk: Arc<(Mutex<Disk>, Condvar)>,
    lies_about_bytes: bool,
    lies_about_names: bool,
}

#[derive(Debug, Default)]
struct Disk {
    files: Vec<Bytes>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    /// Counts power losses: a file that was opened before one is dead.
    era: u64,
    is_locked: bool,
    operations_left: Option<u64>,
    syncs: u64,
    are_syncs_held: bool,
}

#[derive(Debug, Default)]
struct Bytes {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Is(String, usize),
    Gone(String),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }

    /// The sectors of the change that reached the disk.
    fn apply_some(&self, bytes: &mut Vec<u8>, random: &mut Random, percent: u64) {
        let Self::Write(offset, data) = self else {
            if random.chance(percent) {
                self.apply(bytes);
            }
            return;
        };
        let mut done = 0;
        while done < data.len() {
            let room = SECTOR_BYTES - (offset + done) % SECTOR_BYTES;
            let end = data.len().min(done + room);
            if random.chance(percent) {
                Self::Write(offset + done, data[done..end].to_vec()).apply(bytes);
            }
            done = end;
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Is(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Gone(name) => drop(names.remove(name)),
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("no power")
}

impl Disk {
    fn spend(&mut self, era: u64) -> io::Result<()> {
        self.alive(era)?;
        match &mut self.operations_left {
            Some(0) => Err(no_power()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn alive(&self, era: u64) -> io::Result<()> {
        if era == self.era && self.operations_left != Some(0) {
            Ok(())
        } else {
            Err(no_power())
        }
    }

    fn change_names(&mut self, changes: Vec<NameChange>) {
        for change in changes {
            change.apply(&mut self.names);
            self.unsynced_names.push(change);
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names
            .get(name)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl PowerLossFiles {
    /// A folder whose syncs of bytes do nothing: a log on it acknowledges before its bytes last.
    pub fn that_lie_about_bytes() -> Self {
        Self {
            lies_about_bytes: true,
            ..Self::default()
        }
    }

    /// A folder whose syncs of names do nothing.
    pub fn that_lie_about_names() -> Self {
        Self {
            lies_about_names: true,
            ..Self::default()
        }
    }

    /// An empty folder that is as honest as this one.
    pub fn fresh(&self) -> Self {
        Self {
            disk: Arc::default(),
            lies_about_bytes: self.lies_about_bytes,
            lies_about_names: self.lies_about_names,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Disk> {
        self.disk.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power after so many more operations: the last one may be half done, and nothing works any more.
    pub fn cut_after(&self, operations: u64) {
        self.locked().operations_left = Some(operations);
    }

    /// The power comes back: of what was not synced, any part is lost.
    pub fn power_loss(&self, seed: u64) {
        let mut random = Random::new(seed);
        // Now and then all of it, or nothing.
        let percent = [0, 20, 50, 80, 100][usize::try_from(random.below(5)).unwrap_or(0)];
        let mut disk = self.locked();
        disk.era += 1;
        disk.is_locked = false;
        disk.operations_left = None;
        for file in &mut disk.files {
            for change in std::mem::take(&mut file.unsynced) {
                change.apply_some(&mut file.durable, &mut random, percent);
            }
            file.now = file.durable.clone();
        }
        let mut names = std::mem::take(&mut disk.durable_names);
        for change in std::mem::take(&mut disk.unsynced_names) {
            if random.chance(percent) {
                change.apply(&mut names);
            }
        }
        disk.names = names.clone();
        disk.durable_names = names;
    }

    /// How often bytes were synced.
    pub fn syncs(&self) -> u64 {
        self.locked().syncs
    }

    /// Lets syncs of bytes wait until [`PowerLossFiles::release_syncs`].
    pub fn hold_syncs(&self) {
        self.locked().are_syncs_held = true;
    }

    /// Lets waiting syncs go on.
    pub fn release_syncs(&self) {
        self.locked().are_syncs_held = false;
        self.disk.1.notify_all();
    }

    /// Whether the bytes stand in any file of the folder, with or without a name still open.
    pub fn hold(&self, marker: &[u8]) -> bool {
        let disk = self.locked();
        disk.names.values().any(|file| {
            disk.files[*file]
                .now
                .windows(marker.len())
                .any(|window| window == marker)
        })
    }

    fn handle(&self, file: usize, era: u64) -> Box<dyn StorageBackend> {
        Box::new(OpenFile {
            folder: self.clone(),
            file,
            era,
        })
    }
}

impl FileLayer for PowerLossFiles {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.locked().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut disk = self.locked();
        let era = disk.era;
        disk.spend(era)?;
        disk.files.push(Bytes::default());
        let file = disk.files.len() - 1;
        disk.change_names(vec![NameChange::Is(name.to_owned(), file)]);
        Ok(self.handle(file, era))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let disk = self.locked();
        Ok(self.handle(disk.find(name)?, disk.era))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.locked();
        let era = disk.era;
        disk.spend(era)?;
        let file = disk.find(from)?;
        disk.change_names(vec![
            NameChange::Is(to.to_owned(), file),
            NameChange::Gone(from.to_owned()),
        ]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.locked();
        let era = disk.era;
        disk.spend(era)?;
        disk.find(name)?;
        disk.change_names(vec![NameChange::Gone(name.to_owned())]);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.locked();
        let era = disk.era;
        disk.spend(era)?;
        if !self.lies_about_names {
            disk.durable_names = disk.names.clone();
            disk.unsynced_names.clear();
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Lock> {
        let mut disk = self.locked();
        if disk.is_locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        disk.is_locked = true;
        Ok(Box::new(Held {
            folder: self.clone(),
            era: disk.era,
        }))
    }
}

struct Held {
    folder: PowerLossFiles,
    era: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut disk = self.folder.locked();
        if disk.era == self.era {
            disk.is_locked = false;
        }
    }
}

#[derive(Debug)]
struct OpenFile {
    folder: PowerLossFiles,
    file: usize,
    era: u64,
}

impl OpenFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut disk = self.folder.locked();
        let spent = disk.spend(self.era);
        if disk.era == self.era {
            // The change that meets the cut may still reach the disk in part.
            let file = &mut disk.files[self.file];
            change.apply(&mut file.now);
            file.unsynced.push(change);
        }
        spent
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is addressed by usize")
}

impl StorageBackend for OpenFile {
    fn len(&self) -> io::Result<u64> {
        let disk = self.folder.locked();
        disk.alive(self.era)?;
        Ok(disk.files[self.file].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.folder.locked();
        disk.alive(self.era)?;
        let offset = index(offset);
        let bytes = disk.files[self.file]
            .now
            .get(offset..offset + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(index(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.folder.locked();
        while disk.are_syncs_held {
            disk = self
                .folder
                .disk
                .1
                .wait(disk)
                .unwrap_or_else(PoisonError::into_inner);
        }
        disk.spend(self.era)?;
        disk.syncs += 1;
        if !self.folder.lies_about_bytes {
            let file = &mut disk.files[self.file];
            for change in std::mem::take(&mut file.unsynced) {
                change.apply(&mut file.durable);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(index(offset), data.to_vec()))
    }
}
