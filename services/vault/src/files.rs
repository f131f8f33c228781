//! Files of the vault: replaced whole, or overwritten in place, and durable when a call returns.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::Error;

/// Makes the folder, for its owner only.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| io("the vault's folder", source))
}

/// Opens the lock file and takes the lock; it is held as long as the file is open.
pub(crate) fn lock(dir: &Path) -> Result<File, Error> {
    let what = "the vault's lock";
    let file = options().open(dir.join("lock")).map_err(|source| io(what, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Error::InUse),
        Err(std::fs::TryLockError::Error(source)) => Err(io(what, source)),
    }
}

/// The content of a file; `None` where there is none.
pub(crate) fn read(path: &Path, what: &'static str) -> Result<Option<Vec<u8>>, Error> {
    match File::open(path) {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(|source| io(what, source))?;
            Ok(Some(bytes))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io(what, source)),
    }
}

/// Replaces a file whole: the old content or the new, never a mixture.
pub(crate) fn replace(dir: &Path, name: &str, bytes: &[u8], what: &'static str) -> Result<(), Error> {
    let fail = |source| io(what, source);
    let beside = dir.join(format!("{name}.new"));
    let mut file = options().truncate(true).open(&beside).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&beside, dir.join(name)).and_then(|()| sync_dir(dir)).map_err(fail)
}

/// Overwrites a file in place, so that the bytes before are gone from where they stood.
pub(crate) fn overwrite(dir: &Path, name: &str, bytes: &[u8], what: &'static str) -> Result<(), Error> {
    let fail = |source| io(what, source);
    let mut file = options().open(dir.join(name)).map_err(fail)?;
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_dir(dir)).map_err(fail)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn io(what: &'static str, source: std::io::Error) -> Error {
    Error::Io { what, source }
}
