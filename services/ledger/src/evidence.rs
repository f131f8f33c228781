//! The evidence store: the payloads behind the leaves, each with the moment at which it has to be gone. The ledger stays verifiable without them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lethe_terms::Timestamp;

use crate::{Error, files};

/// Longest name of a piece of evidence, in bytes: with its expiry it is still a file name everywhere.
pub const NAME_BYTES_MAX: usize = 150;

/// Files with their expiry in their names, so that a sweep needs to open none. Several processes of one installation may have a store open.
#[derive(Debug)]
pub struct EvidenceStore {
    folder: PathBuf,
    expiry: Mutex<BTreeMap<String, Timestamp>>,
}

fn file_name(name: &str, expires_at: Timestamp) -> String {
    format!("{}@{name}", expires_at.millis())
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b':' | b'.'))
}

impl EvidenceStore {
    /// Opens or makes a store. What a crash left unfinished is removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        files::make_folder(folder)?;
        let expiry = listed(folder)?;
        files::sync_folder(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            expiry: Mutex::new(expiry),
        })
    }

    fn expiry(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        // The map changes only after the files did, so it is right even where a holder of the lock panicked.
        self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores evidence, durably, until `expires_at`; in the place of what had the name before.
    ///
    /// # Errors
    /// [`Error::Name`], and those of the file system.
    pub fn put(&self, name: &str, bytes: &[u8], expires_at: Timestamp) -> Result<(), Error> {
        if !is_name(name) {
            return Err(Error::Name);
        }
        let mut expiry = self.expiry();
        files::write(&self.folder, &file_name(name, expires_at), bytes)?;
        if let Some(before) = expiry.insert(name.to_owned(), expires_at)
            && before != expires_at
        {
            files::remove(&self.folder.join(file_name(name, before)))?;
            files::sync_folder(&self.folder)?;
        }
        Ok(())
    }

    /// The evidence of a name, where it is there and has not expired.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn get(&self, name: &str, now: Timestamp) -> Result<Option<Vec<u8>>, Error> {
        let expiry = self.expiry();
        match expiry.get(name) {
            Some(expires_at) if *expires_at > now => {
                files::read(&self.folder.join(file_name(name, *expires_at)))
            }
            _ => Ok(None),
        }
    }

    /// As [`EvidenceStore::get`], also where another process has put it there since: what is not known is looked for in the whole folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn find(&self, name: &str, now: Timestamp) -> Result<Option<Vec<u8>>, Error> {
        if let Some(known) = self.get(name, now)? {
            return Ok(Some(known));
        }
        let listed = listed(&self.folder)?;
        *self.expiry() = listed;
        self.get(name, now)
    }

    /// Every name with its expiry.
    pub fn list(&self) -> Vec<(String, Timestamp)> {
        self.expiry()
            .iter()
            .map(|(name, expires_at)| (name.clone(), *expires_at))
            .collect()
    }

    /// Removes what has expired, durably, and says how much it was.
    ///
    /// # Errors
    /// Those of the file system: what could not be removed stays listed, and the next sweep tries again.
    pub fn sweep(&self, now: Timestamp) -> Result<usize, Error> {
        let mut expiry = self.expiry();
        *expiry = listed(&self.folder)?;
        let due: Vec<_> = expiry
            .iter()
            .filter(|(_, end)| **end <= now)
            .map(|(name, end)| (name.clone(), *end))
            .collect();
        for (name, expires_at) in &due {
            files::remove(&self.folder.join(file_name(name, *expires_at)))?;
            expiry.remove(name);
        }
        if !due.is_empty() {
            files::sync_folder(&self.folder)?;
        }
        Ok(due.len())
    }
}

/// How old a file that is being written is when whoever wrote it must have ended, in seconds: a write takes milliseconds.
const UNFINISHED_SECONDS_MAX: u64 = 60;

/// What stands in the folder. What a crash left unfinished is removed; what another process is writing is not.
fn listed(folder: &Path) -> Result<BTreeMap<String, Timestamp>, Error> {
    let mut expiry = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if file.starts_with(files::UNFINISHED) {
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let age = written.ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age.as_secs() > UNFINISHED_SECONDS_MAX) {
                files::remove(&entry.path())?;
            }
            continue;
        }
        let Some((millis, name)) = file.split_once('@').filter(|(_, name)| is_name(name)) else {
            continue;
        };
        let Ok(millis) = millis.parse() else { continue };
        found(folder, &mut expiry, name, Timestamp::from_millis(millis))?;
    }
    Ok(expiry)
}

/// A crash between writing and removing leaves two of a name: the one that ends later stays, and whoever was not told that it was stored stores again.
fn found(
    folder: &Path,
    expiry: &mut BTreeMap<String, Timestamp>,
    name: &str,
    expires_at: Timestamp,
) -> Result<(), Error> {
    let other = expiry.get(name).copied();
    if let Some(other) = other {
        files::remove(&folder.join(file_name(name, other.min(expires_at))))?;
    }
    expiry.insert(
        name.to_owned(),
        other.map_or(expires_at, |other| other.max(expires_at)),
    );
    Ok(())
}
