//! Whether the logs can be worked on: tries what the work needs, reads no line.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use lethe_kit::Finding;

use crate::beginning::{PACKED, is_gzip};
use crate::config::{Config, LogConfig};
use crate::connector::is_file;
use crate::names::{live_path, named};
use crate::writers::{Writers, writers};

/// Name of the file by which it is tried whether the folder can be written to.
const PROBE: &str = ".lethe-check";

/// What was looked at and found.
pub(crate) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings: Vec<Finding> = config
        .logs
        .iter()
        .flat_map(|log| log_findings(log, config))
        .collect();
    findings.push(reopen_finding(&config.reopen));
    let private = fs::metadata(&config.state_dir).is_ok_and(|m| m.permissions().mode() & 0o077 == 0);
    findings.push(finding(
        "state folder",
        private,
        "others can read it or it is not there, expected mode 0700",
    ));
    findings
}

fn finding(what: impl Into<String>, ok: bool, wrong: &str) -> Finding {
    Finding {
        what: what.into(),
        ok,
        detail: if ok { String::new() } else { wrong.to_owned() },
    }
}

fn log_findings(log: &LogConfig, config: &Config) -> Vec<Finding> {
    let path = live_path(log);
    let what = |part: &str| format!("log {}, {part}", log.name);
    let mut findings = vec![
        finding(
            what("live file"),
            is_file(&path),
            "not there or no plain file, expected a file that the server writes",
        ),
        finding(what("packing"), !is_packed(&path), PACKED),
        files_finding(what("files"), log),
        finding(
            what("reading"),
            File::open(&path).is_ok(),
            "cannot be opened for reading",
        ),
        finding(
            what("writing"),
            OpenOptions::new().append(true).open(&path).is_ok(),
            "cannot be opened for writing",
        ),
        finding(
            what("folder"),
            folder_works(&path),
            "no file can be made and renamed in the folder of the log",
        ),
    ];
    if let Ok(meta) = fs::metadata(&path) {
        let known = config.reopen.is_empty() || writers(meta.dev(), meta.ino()) != Writers::Unknown;
        findings.push(finding(
            what("writers"),
            known,
            "it cannot be seen who writes to it, expected the rights of the web server",
        ));
    }
    findings
}

/// Whether a file begins as an archive does: two bytes are nobody's.
fn is_packed(path: &Path) -> bool {
    let mut first = [0; 2];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut first))
        .is_ok()
        && is_gzip(&first)
}

/// Whether every file that has a name of the log's can be read.
fn files_finding(what: String, log: &LogConfig) -> Finding {
    match named(log) {
        Ok((_, None)) => finding(what, true, ""),
        Ok((_, Some(why))) | Err(why) => finding(what, false, &why.to_string()),
    }
}

fn folder_works(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let (first, second) = (folder.join(PROBE), folder.join(format!("{PROBE}-renamed")));
    let works = File::create(&first).is_ok() && fs::rename(&first, &second).is_ok();
    let _ = fs::remove_file(&first);
    works & fs::remove_file(&second).is_ok()
}

fn reopen_finding(reopen: &[String]) -> Finding {
    let Some(program) = reopen.first() else {
        return Finding {
            what: "reopen command".to_owned(),
            ok: true,
            detail: "none: an erasure of lines in a live file ends after the next rotation".to_owned(),
        };
    };
    finding(
        "reopen command",
        runnable(program),
        "not found or not executable, expected a program that makes the server reopen its logs",
    )
}

/// Whether a program is there and may be executed.
pub(crate) fn runnable(program: &str) -> bool {
    let executable = |path: &Path| {
        path.metadata()
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return executable(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder: PathBuf| folder.join(program))
        .any(|path| executable(&path))
}
