//! The names of a log's files: the live one, which may be reached by a link, and what rotation made of it, beside the file or beside the link.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::LogConfig;
use crate::error::Error;

/// Endings of archives that are not read: what stands in one is unknown, so that it must not be passed over.
const UNREAD: [&str; 7] = ["xz", "bz2", "zst", "lz4", "br", "zip", "Z"];
/// Longest suffix that is a rotation number; longer digits are a date.
const NUMBER_DIGITS_MAX: usize = 4;

/// Age of a file by its name, oldest smallest.
type Age = (u8, i64, String);
/// Ages of the live file, of numbered and of dated ones.
const LIVE: u8 = 2;
const NUMBERED: u8 = 1;
const DATED: u8 = 0;

/// A file that is one of the log's by its name.
pub(crate) struct Named {
    age: Age,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) meta: Metadata,
}

/// The live file's real place: logs are often reached through a link.
pub(crate) fn live_path(log: &LogConfig) -> PathBuf {
    fs::canonicalize(&log.path).unwrap_or_else(|_| {
        let folder = log.path.parent().and_then(|p| fs::canonicalize(p).ok());
        match (folder, log.path.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => log.path.clone(),
        }
    })
}

/// The folders in which a log's files lie: that of the live file, and that of the link by which it is reached.
pub(crate) fn folders(log: &LogConfig) -> BTreeSet<PathBuf> {
    let link = log.path.parent().and_then(|folder| fs::canonicalize(folder).ok());
    let own = live_path(log).parent().unwrap_or(Path::new("/")).to_owned();
    link.into_iter().chain([own]).collect()
}

/// What the live file is called, itself and as a link.
fn bases(log: &LogConfig) -> BTreeSet<String> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    name(&live_path(log)).into_iter().chain(name(&log.path)).collect()
}

/// Whether a name is that of one of the log's files.
pub(crate) fn is_of(name: &str, log: &LogConfig) -> bool {
    bases(log)
        .iter()
        .any(|base| age_of(name, base, &log.rotated).is_some())
}

/// The log's files, oldest first, and why one of them cannot be read.
pub(crate) fn named(log: &LogConfig) -> Result<(Vec<Named>, Option<Error>), Error> {
    let (live, bases) = (live_path(log), bases(log));
    let cannot =
        |path: &Path, why| Error::file(path, "reading", io::Error::new(io::ErrorKind::Unsupported, why));
    let (mut named, mut others, mut unread) = (Vec::new(), Vec::new(), None);
    for folder in folders(log) {
        let failed = |e| Error::file(&folder, "listing the folder", e);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(age) = bases.iter().find_map(|base| age_of(&name, base, &log.rotated)) else {
                if bases.iter().any(|base| is_unread(&name, base)) {
                    unread = Some(cannot(&entry.path(), "it is packed otherwise than with gzip"));
                }
                continue;
            };
            let path = entry.path();
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    let age = if path == live {
                        (LIVE, 0, String::new())
                    } else {
                        age
                    };
                    named.push(Named { age, path, meta });
                }
                Ok(_) => others.push(path),
                // Rotation may take a file away at any moment.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::file(&path, "looking at it", e)),
            }
        }
    }
    named.sort_by(|a, b| a.age.cmp(&b.age).then_with(|| a.path.cmp(&b.path)));
    for other in others {
        // A link to one of the files, such as that to the live one, says nothing new.
        let is_known = fs::canonicalize(&other).is_ok_and(|real| named.iter().any(|n| n.path == real));
        if !is_known {
            unread = Some(cannot(
                &other,
                "it is a link or no plain file: expected the file itself",
            ));
        }
    }
    Ok((named, unread))
}

/// Whether a name is that of a rotated file which is packed in a way that is not read.
fn is_unread(name: &str, base: &str) -> bool {
    name.strip_prefix(base)
        .and_then(|rest| rest.strip_prefix(['.', '-']))
        .and_then(|rest| rest.rsplit_once('.'))
        .is_some_and(|(_, ending)| UNREAD.contains(&ending))
}

/// Age of a file by its name, oldest smallest; `None` for a name that is none of the log's.
fn age_of(name: &str, base: &str, rotated: &[String]) -> Option<Age> {
    if name == base {
        return Some((LIVE, 0, String::new()));
    }
    let usual = || {
        let suffix = name
            .strip_prefix(base)?
            .strip_suffix(".gz")
            .or_else(|| name.strip_prefix(base))?;
        let rest = suffix.strip_prefix(['.', '-'])?;
        let plain = rest
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
        (plain && rest.starts_with(|c: char| c.is_ascii_digit())).then(|| rest.to_owned())
    };
    let suffix = if rotated.is_empty() {
        usual()?
    } else if rotated
        .iter()
        .any(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
        && !name.starts_with('.')
    {
        usual().unwrap_or_else(|| name.to_owned())
    } else {
        return None;
    };
    match suffix.parse::<i64>() {
        Ok(number) if suffix.len() <= NUMBER_DIGITS_MAX => Some((NUMBERED, -number, String::new())),
        _ => Some((DATED, 0, suffix)),
    }
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|n| fits(rest, &name[n..])),
        Some((byte, rest)) => name
            .split_first()
            .is_some_and(|(first, left)| first == byte && fits(rest, left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_come_oldest_first_and_strangers_not_at_all() {
        let mut names = vec![
            "access.log",
            "access.log.1",
            "access.log.10.gz",
            "access.log.2.gz",
            "access.log-20261101",
            "access.log-20261001.gz",
        ];
        names.sort_by_key(|n| age_of(n, "access.log", &[]).unwrap());
        assert_eq!(
            names,
            [
                "access.log-20261001.gz",
                "access.log-20261101",
                "access.log.10.gz",
                "access.log.2.gz",
                "access.log.1",
                "access.log"
            ]
        );
        for stranger in [
            "error.log",
            "access.log.bak",
            "access.log.1.swp",
            ".access.log.lethe",
            "access.logx",
            "access.log.",
        ] {
            assert!(age_of(stranger, "access.log", &[]).is_none(), "{stranger}");
        }
        assert!(age_of("access.old", "access.log", &["access.*".to_owned()]).is_some());
    }
}
