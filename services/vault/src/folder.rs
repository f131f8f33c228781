//! The folder of a vault: one owner, files that only the owner may read, whole or not at all.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::Error;

/// Rights of every file: a key that others may read is none.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The name of the file whose lock keeps other openers out.
const LOCK_FILE: &str = "lock";

/// The name of the file whose lock is held while something is changed in a folder that several have open.
const CHANGE_FILE: &str = "change";

/// Who may have a folder open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Openers {
    /// One program.
    One,
    /// Several processes of one installation on this machine.
    Several,
}

/// A locked folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Holds the lock for as long as the folder is open.
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A program that is just being started by this process has the file open for a moment, too, and would keep the lock.
        let _ = self.lock.unlock();
    }
}

impl Folder {
    /// Opens the folder, made where it is missing, and keeps everybody else out, or those who would have it alone.
    pub(crate) fn open(path: &Path, openers: Openers) -> Result<Self, Error> {
        let io = |source| Error::Io {
            what: "folder",
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(path)
            .map_err(io)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // The folder's own name has to last as well.
            File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(io)?;
        }
        let lock = options()
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(io)?;
        let locked = match openers {
            Openers::One => lock.try_lock(),
            Openers::Several => lock.try_lock_shared(),
        };
        match locked {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    /// Waits until nobody else changes the folder; they wait until the returned lock is dropped. Changes are short: a few files.
    pub(crate) fn change(&self) -> Result<File, Error> {
        let lock = || -> io::Result<File> {
            let file = options()
                .create(true)
                .truncate(false)
                .open(self.path.join(CHANGE_FILE))?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|source| Error::Io {
            what: CHANGE_FILE,
            source,
        })
    }

    /// The content of a file; `None` where it does not exist.
    pub(crate) fn read(&self, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        match std::fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { what: name, source }),
        }
    }

    /// Puts a file in place of the old one: after a crash either is there, whole.
    pub(crate) fn replace(&self, name: &'static str, content: &[u8]) -> Result<(), Error> {
        let fresh = self.path.join(format!("{name}.new"));
        let write = || -> io::Result<()> {
            let mut file = options().create(true).truncate(true).open(&fresh)?;
            file.write_all(content)?;
            file.sync_all()?;
            std::fs::rename(&fresh, self.path.join(name))?;
            self.sync_names()
        };
        write().map_err(|source| Error::Io { what: name, source })
    }

    /// Writes over a file where it stands, so that what it held before is gone from its blocks.
    pub(crate) fn overwrite(&self, name: &'static str, content: &[u8]) -> Result<(), Error> {
        let write = || -> io::Result<()> {
            let mut file = options()
                .create(true)
                .truncate(false)
                .open(self.path.join(name))?;
            file.write_all(content)?;
            file.sync_all()?;
            self.sync_names()
        };
        write().map_err(|source| Error::Io { what: name, source })
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(FILE_MODE);
    options
}
