//! The offline verifier: reads a certificate file and a policy, prints what holds, and says it in its exit code. No network, no clock.
//!
//! `lethe-verify` is this and nothing else; `lethe verify` calls the same [`show`].

mod page;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use lethe_proof::{BUNDLE_BYTES_MAX, POLICY_BYTES_MAX, Report, Status, verify};

/// Exit code of wrong usage (sysexits' EX_USAGE).
pub const USAGE: u8 = 64;

/// Exit code where what was found could not be written: whoever waits for it was told nothing.
pub const UNWRITTEN: u8 = 2;

const HELP: &str = "\
Verify a certificate of Lethe: what was erased or restricted, and who says so.

Usage: lethe-verify FILE [--policy F] [--json]

  FILE         the certificate file
  --policy F   whose keys count: given to you by the controller beforehand, and
               by another way than the certificate; without it nothing is known
  --json       print the report as JSON
  -h, --help   print this
  --version    print the version

Exit codes:
  0   complete: everything planned was done and observed
  1   complete but for stated exceptions
  2   cannot be told: no policy was given, or the report could not be written
  3   invalid: something does not hold
  4   malformed or unreadable file or policy
  5   a valid statement that the case was not completed
  64  wrong usage

It reads the two files, which must be regular ones, and nothing else; it needs
no network.

Example: lethe-verify certificate.json --policy policy.json
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Help,
    Version,
    Verify {
        file: PathBuf,
        policy: Option<PathBuf>,
        json: bool,
    },
}

/// Runs the verifier with the arguments after the program's name and returns the exit code. The report goes to `out`, talk to `talk`.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let (code, said) = match parse(arguments) {
        Ok(Asked::Help) => (0, out.write_all(HELP.as_bytes())),
        Ok(Asked::Version) => (0, writeln!(out, "lethe-verify {}", env!("CARGO_PKG_VERSION"))),
        Ok(Asked::Verify { file, policy, json }) => {
            return report(&file, policy.as_deref(), json, out, talk);
        }
        Err(wrong) => (
            USAGE,
            writeln!(
                talk,
                "lethe-verify: {wrong}\n\nUsage: lethe-verify FILE [--policy F] [--json]    (-h explains)"
            ),
        ),
    };
    ended(code, said.and_then(|()| out.flush()), talk)
}

/// Verifies a file, prints the report to `out`, and returns the exit code. What keeps the report from being written goes to stderr.
pub fn show(file: &Path, policy: Option<&Path>, json: bool, out: &mut dyn Write) -> u8 {
    report(file, policy, json, out, &mut std::io::stderr())
}

fn report(file: &Path, policy: Option<&Path>, json: bool, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let report = judge(file, policy);
    let text = if json { as_json(&report) } else { page::of(&report) };
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ended(report.status.exit_code(), said, talk)
}

/// The exit code, which only stands where what it says was written.
fn ended(code: u8, said: io::Result<()>, talk: &mut dyn Write) -> u8 {
    match said {
        Ok(()) => code,
        // A reader who closed the pipe has read enough and has the exit code still.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => code,
        Err(error) => {
            let _ = writeln!(talk, "cannot write the report: {error}");
            UNWRITTEN
        }
    }
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let (mut file, mut policy, mut json, mut only_files) = (None, None, false, false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--") if !only_files => only_files = true,
            Some("-h" | "--help") if !only_files => return Ok(Asked::Help),
            Some("--version") if !only_files => return Ok(Asked::Version),
            Some("--json") if !only_files => json = true,
            Some("--policy") if !only_files => {
                let value = arguments.next().ok_or("--policy needs a file")?;
                set(&mut policy, value, "--policy is given twice")?;
            }
            Some(text) if !only_files && text.starts_with("--policy=") => {
                set(
                    &mut policy,
                    OsString::from(&text["--policy=".len()..]),
                    "--policy is given twice",
                )?;
            }
            Some(text) if !only_files && text.starts_with('-') => {
                return Err(format!(
                    "unknown option {text}: expected --policy, --json, --version or --help"
                ));
            }
            _ => set(&mut file, argument, "expected one certificate file")?,
        }
    }
    let file = file.ok_or("expected a certificate file")?;
    Ok(Asked::Verify { file, policy, json })
}

fn set(place: &mut Option<PathBuf>, value: OsString, twice: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("a file name is empty".into());
    }
    if place.replace(value.into()).is_some() {
        Err(twice.into())
    } else {
        Ok(())
    }
}

/// Reads both files and verifies.
fn judge(file: &Path, policy: Option<&Path>) -> Report {
    let file = match read(file, BUNDLE_BYTES_MAX) {
        Ok(file) => file,
        Err(reason) => return Report::unreadable("certificate file", &reason),
    };
    let policy = match policy.map(|policy| read(policy, POLICY_BYTES_MAX)).transpose() {
        Ok(policy) => policy,
        Err(reason) => return Report::unreadable("policy", &reason),
    };
    verify(&file, policy.as_deref())
}

/// Reads a regular file up to a limit: one byte more is enough to see that it is too large. Anything else may never end or never begin.
fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(format!(
            "{} is no regular file: expected one, not a folder, pipe or device",
            path.display()
        ));
    }
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() > bytes_max {
        return Err(format!("{} has more than {bytes_max} bytes", path.display()));
    }
    Ok(bytes)
}

fn as_json(report: &Report) -> String {
    match serde_json::to_string_pretty(report) {
        Ok(text) => text + "\n",
        Err(_) => format!("{{\"status\":\"{}\"}}\n", report.status.code()),
    }
}

/// Whether a status says that everything planned was done, exceptions aside.
const fn is_complete(status: Status) -> bool {
    matches!(status, Status::Complete | Status::CompleteWithExceptions)
}
