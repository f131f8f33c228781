//! The copy that is to take a file's place: what it carries over from the original, that it leaves room on the disk, and that none stays behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::config::LogConfig;
use crate::error::Error;
use crate::files::{self, Found};
use crate::log::Log;
use crate::names;
use crate::rewrite::{Changes, remove};
use crate::writers::{Writers, writers};

/// Names of extended attributes that a replacement must carry on: access list and security label.
const ATTRIBUTES: [&str; 2] = ["system.posix_acl_access", "security.selinux"];
/// Ending of the name under which an old file waits where the file system cannot exchange names.
const SPARE: &str = "-old";
/// Room on the disk that a copy leaves to the server, for what it writes meanwhile.
const ROOM_BYTES_MIN: u64 = 16 << 20;
/// Longest value of such an attribute.
const ATTRIBUTE_BYTES_MAX: usize = 1 << 16;

impl Log {
    /// Takes away copies that a crash left in a folder before they were journaled. One that somebody writes to is none.
    pub(crate) fn drop_strays(&self, folder: &Path) -> Result<(), Error> {
        let failed = |e| Error::file(folder, "removing what a crash left", e);
        let own = self
            .state
            .rewrite
            .as_ref()
            .map(|r| (r.aside.clone(), spare_of(&r.aside)));
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_own = own
                .as_ref()
                .is_some_and(|(aside, spare)| path == *aside || path == *spare);
            if is_own || !is_copy(&path, &self.config) {
                continue;
            }
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() && writers(meta.dev(), meta.ino()) != Writers::Some => {
                    remove(&path).map_err(failed)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a path is that of a copy of one of the log's files.
fn is_copy(path: &Path, log: &LogConfig) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parts = name
        .strip_prefix('.')
        .and_then(|name| name.rsplit_once(".lethe-"));
    parts.is_some_and(|(name, number)| {
        let number = number.strip_suffix(SPARE).unwrap_or(number);
        number.parse::<u64>().is_ok() && names::is_of(name, log)
    })
}

/// A copy that fills the disk would keep the server from writing its log.
pub(crate) fn has_room(folder: &Path, file: &Found, changes: &Changes) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let comes = changes
        .edits
        .iter()
        .fold(0, |sum: u64, (edit, _)| sum.saturating_add(edit.new));
    let needed = file.size.saturating_add(comes).saturating_add(ROOM_BYTES_MIN);
    if disk.f_bavail.saturating_mul(disk.f_frsize) < needed {
        let why =
            "the disk has too little room for a copy: expected the file's size and 16 MiB for the server";
        return Err(io::Error::new(io::ErrorKind::StorageFull, why));
    }
    Ok(())
}

pub(crate) fn write_copy(file: &Found, to: &Path, changes: &Changes, idle: bool) -> io::Result<()> {
    let original = File::open(&file.path)?;
    let meta = original.metadata()?;
    if meta.ino() != file.ino {
        return Err(io::Error::other("it was rotated meanwhile"));
    }
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    if file.gz {
        let header = flate2::read::GzDecoder::new(&original).header().cloned();
        let mut builder = GzBuilder::new();
        if let Some(header) = header {
            builder = builder.mtime(header.mtime());
            if let Some(name) = header.filename() {
                builder = builder.filename(name);
            }
        }
        let mut packed = builder.write(&copy, Compression::default());
        copy_changed(file, changes, &mut packed)?;
        packed.finish()?;
    } else {
        copy_changed(file, changes, &mut copy)?;
    }
    let own = copy.metadata()?;
    if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
        fchown(&copy, Some(meta.uid()), Some(meta.gid()))?;
    }
    copy.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    copy_attributes(&original, &copy);
    if idle {
        // Retention goes by a rotated file's age.
        copy.set_times(
            fs::FileTimes::new()
                .set_accessed(meta.accessed()?)
                .set_modified(meta.modified()?),
        )?;
    }
    copy.sync_all()
}

/// Access list and label, where there are any: without the right to set them the file's mode still holds.
fn copy_attributes(from: &File, to: &File) {
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    for name in ATTRIBUTES {
        if let Ok(len) = rustix::fs::fgetxattr(from, name, &mut value) {
            let _ = rustix::fs::fsetxattr(to, name, &value[..len], rustix::fs::XattrFlags::empty());
        }
    }
}

fn copy_changed(file: &Found, changes: &Changes, out: &mut impl Write) -> io::Result<()> {
    let mut reader = files::content(&file.path, file.gz, 0)?;
    let mut at = 0;
    let mut pass = |len: u64, out: &mut dyn Write| {
        if io::copy(&mut (&mut reader).take(len), out)? == len {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof))
        }
    };
    for (edit, new) in &changes.edits {
        pass(edit.at - at, out)?;
        pass(edit.old, &mut io::sink())?;
        out.write_all(new)?;
        at = edit.at + edit.old;
    }
    pass(changes.upto - at, out)
}

/// Name under which an old file waits where the file system cannot exchange names.
pub(crate) fn spare_of(aside: &Path) -> PathBuf {
    let mut name = aside.as_os_str().to_owned();
    name.push(SPARE);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, EraseMode};
    use crate::identify::Rules;
    use crate::side::{Edit, Side};
    use crate::state::StateDir;

    #[test]
    fn a_copy_that_fails_or_has_no_room_leaves_nothing_beside_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        fs::write(&path, "a line\n").unwrap();
        let text = format!(
            r#"{{"logs":[{{"name":"access","path":{path:?}}}],"state_dir":{:?}}}"#,
            folder.path().join("state")
        );
        let config: Config = serde_json::from_str(&text).unwrap();
        let mut log = Log::open(
            config.logs[0].clone(),
            Arc::new(Rules::new(&config).unwrap()),
            Arc::new(StateDir::open(&config.state_dir).unwrap()),
            Vec::new(),
            EraseMode::Line,
            30,
        )
        .unwrap();
        let file = log.files().unwrap().remove(0);
        let edit = |new| (Edit { at: 0, old: 0, new }, Vec::new());
        for (changes, kind) in [
            // The file is shorter than it was.
            (
                Changes {
                    upto: 100,
                    ..Changes::default()
                },
                io::ErrorKind::UnexpectedEof,
            ),
            (
                Changes {
                    edits: vec![edit(1 << 60)],
                    ..Changes::default()
                },
                io::ErrorKind::StorageFull,
            ),
        ] {
            match log.prepare(&file, "1", changes, Side::default(), true) {
                Err(Error::File { source, .. }) => assert_eq!(source.kind(), kind),
                _ => panic!("expected {kind}"),
            }
            let mut names = fs::read_dir(folder.path())
                .unwrap()
                .map(|e| e.unwrap().file_name());
            assert!(
                names.all(|name| name == "access.log" || name == "state"),
                "{kind}"
            );
        }
    }
}
