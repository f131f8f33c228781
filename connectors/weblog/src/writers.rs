//! Whether any running program holds a file open for writing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Programs that write web logs: one of them that may not be looked into counts as a writer.
const SERVERS: [&str; 8] = [
    "nginx",
    "apache2",
    "httpd",
    "rotatelogs",
    "cronolog",
    "lighttpd",
    "openresty",
    "angie",
];

/// Who writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writers {
    /// Nobody.
    None,
    /// Somebody.
    Some,
    /// It cannot be told: a web server is running that may not be looked into.
    Unknown,
}

/// Looks through every running program for one that writes to this file. Readers, such as `tail -f`, do not matter.
pub(crate) fn writers(dev: u64, ino: u64) -> Writers {
    let Ok(programs) = fs::read_dir("/proc") else {
        return Writers::Unknown;
    };
    let mut answer = Writers::None;
    for program in programs.flatten() {
        if !program
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|b| b.is_ascii_digit())
        {
            continue;
        }
        match fs::read_dir(program.path().join("fd")) {
            Ok(fds) => {
                for fd in fds.flatten() {
                    let same = fs::metadata(fd.path()).is_ok_and(|m| (m.dev(), m.ino()) == (dev, ino));
                    if same && writes(&program.path(), &fd.file_name().to_string_lossy()) {
                        return Writers::Some;
                    }
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && is_server(&program.path()) => {
                answer = Writers::Unknown;
            }
            // It ended meanwhile, or is no server and not ours to look into.
            Err(_) => {}
        }
    }
    answer
}

/// Whether a descriptor was opened for writing: the last octal digit of its flags is the access mode.
fn writes(program: &Path, fd: &str) -> bool {
    let Ok(info) = fs::read_to_string(program.join("fdinfo").join(fd)) else {
        // Closed meanwhile, or hidden: rather wait once more than lose a line.
        return program.join("fd").join(fd).symlink_metadata().is_ok();
    };
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|f| u32::from_str_radix(f.trim(), 8).ok())
        .is_none_or(|flags| flags & 3 != 0)
}

fn is_server(program: &Path) -> bool {
    let Ok(name) = fs::read_to_string(program.join("comm")) else {
        return false;
    };
    SERVERS.contains(&name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_seen_and_a_reader_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let file = fs::File::create(&path).unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!(writers(meta.dev(), meta.ino()), Writers::Some);
        drop(file);
        let _reader = fs::File::open(&path).unwrap();
        assert_eq!(writers(meta.dev(), meta.ino()), Writers::None);
    }
}
