//! The offline verifier: reads a certificate file and a policy, prints what holds, and says it in its exit code. No network, no clock.
//!
//! `lethe-verify` is this and nothing else; `lethe verify` calls the same [`show`].

mod page;
mod subject;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use lethe_proof::{BUNDLE_BYTES_MAX, POLICY_BYTES_MAX, Report, Status, verify, verify_subject};

pub use self::subject::Subject;
use self::subject::Unknown;

/// Exit code of wrong usage (sysexits' EX_USAGE).
pub const USAGE: u8 = 64;

/// Exit code where what was found could not be written: whoever waits for it was told nothing.
pub const UNWRITTEN: u8 = 2;

const HELP: &str = "\
Verify a certificate of Lethe: what was erased or restricted, and who says so.

Usage: lethe-verify FILE [--policy F] [--subject ID --opening F] [--json]

  FILE          the certificate file
  --policy F    whose keys count: given to you by the controller beforehand, and
                by another way than the certificate; without it nothing is known
  --subject ID  whom it has to be about: KIND=VALUE, @FILE, or - for stdin
  --opening F   what opens the certificate's commitment to that person
  --json        print the report as JSON
  -h, --help    print this; --version prints the version

Exit codes:
  0   complete: everything planned was done and observed
  1   complete but for stated exceptions, or for what a strong identifier that
      was not followed may lead to
  2   cannot be told: no policy was given, or the report could not be written
  3   invalid: something does not hold, or it is about somebody else
  4   malformed or unreadable file, policy or opening
  5   a valid statement that the case was not completed
  64  wrong usage

It reads these files, which must be regular ones, and needs no network.

Example: lethe-verify certificate.json --policy policy.json
";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Help,
    Version,
    Verify(Ask),
}

/// What is to be verified, and how the report is to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The certificate file.
    pub file: PathBuf,
    /// The policy file.
    pub policy: Option<PathBuf>,
    /// Whom it has to be about.
    pub subject: Option<Subject>,
    /// Whether the report is JSON.
    pub json: bool,
}

/// Runs the verifier with the arguments after the program's name and returns the exit code. The report goes to `out`, talk to `talk`.
pub fn run(arguments: impl IntoIterator<Item = OsString>, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let (code, said) = match parse(arguments) {
        Ok(Asked::Help) => (0, out.write_all(HELP.as_bytes())),
        Ok(Asked::Version) => (0, writeln!(out, "lethe-verify {}", env!("CARGO_PKG_VERSION"))),
        Ok(Asked::Verify(ask)) => return answer(&ask, out, talk),
        Err(wrong) => (
            USAGE,
            writeln!(
                talk,
                "lethe-verify: {wrong}\n\nUsage: lethe-verify FILE [--policy F] [--subject ID --opening F] [--json]    (-h explains)"
            ),
        ),
    };
    ended(code, said.and_then(|()| out.flush()), talk)
}

/// Verifies a file, prints the report to `out`, and returns the exit code. What keeps the report from being written goes to stderr.
pub fn show(file: &Path, policy: Option<&Path>, json: bool, out: &mut dyn Write) -> u8 {
    let ask = Ask {
        file: file.to_owned(),
        policy: policy.map(Path::to_owned),
        subject: None,
        json,
    };
    answer(&ask, out, &mut io::stderr())
}

/// As [`show`], with everything that can be asked; talk goes to `talk`.
pub fn answer(ask: &Ask, out: &mut dyn Write, talk: &mut dyn Write) -> u8 {
    let report = match judge(ask) {
        Ok(report) => report,
        Err(wrong) => return ended(USAGE, writeln!(talk, "wrong usage: {wrong}"), talk),
    };
    let text = if ask.json {
        as_json(&report)
    } else {
        page::of(&report)
    };
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
    let (mut identifier, mut opening) = (None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().filter(|_| !only_files).unwrap_or_default();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(OsString::from(value))),
            _ => (text, None),
        };
        match name {
            "--" if value.is_none() => only_files = true,
            "-h" | "--help" => return Ok(Asked::Help),
            "--version" => return Ok(Asked::Version),
            "--json" => json = true,
            "--policy" | "--subject" | "--opening" => {
                let place = match name {
                    "--policy" => &mut policy,
                    "--subject" => &mut identifier,
                    _ => &mut opening,
                };
                let value = value
                    .or_else(|| arguments.next())
                    .ok_or_else(|| format!("{name} needs a value"))?;
                set(place, value, &format!("{name} is given twice"))?;
            }
            _ if text.starts_with('-') => {
                return Err(format!(
                    "unknown option {name}: expected --policy, --subject, --opening, --json, --version or --help"
                ));
            }
            _ => set(&mut file, argument, "expected one certificate file")?,
        }
    }
    Ok(Asked::Verify(Ask {
        file: file.ok_or("expected a certificate file")?,
        policy,
        subject: subject_of(identifier, opening)?,
        json,
    }))
}

/// Neither opens the commitment alone.
fn subject_of(identifier: Option<PathBuf>, opening: Option<PathBuf>) -> Result<Option<Subject>, String> {
    match (identifier, opening) {
        (None, None) => Ok(None),
        (Some(identifier), Some(opening)) => Ok(Some(Subject {
            identifier: identifier
                .into_os_string()
                .into_string()
                .map_err(|_| "--subject is not UTF-8")?,
            opening,
        })),
        _ => Err("--subject and --opening belong together".into()),
    }
}

fn set(place: &mut Option<PathBuf>, value: OsString, twice: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("a value is empty".into());
    }
    if place.replace(value.into()).is_some() {
        Err(twice.into())
    } else {
        Ok(())
    }
}

/// Reads the files and verifies; why nothing was verified, where the usage is wrong.
fn judge(ask: &Ask) -> Result<Report, String> {
    let file = match read(&ask.file, BUNDLE_BYTES_MAX) {
        Ok(file) => file,
        Err(reason) => return Ok(Report::unreadable("certificate file", &reason)),
    };
    let policy = ask.policy.as_deref().map(|policy| read(policy, POLICY_BYTES_MAX));
    let policy = match policy.transpose() {
        Ok(policy) => policy,
        Err(reason) => return Ok(Report::unreadable("policy", &reason)),
    };
    let Some(subject) = &ask.subject else {
        return Ok(verify(&file, policy.as_deref()));
    };
    match subject::read(subject, &mut io::stdin().lock()) {
        Ok((opening, identifiers)) => Ok(verify_subject(&file, policy.as_deref(), &opening, &identifiers)),
        Err(Unknown::Unreadable(reason)) => Ok(Report::unreadable("opening", &reason)),
        Err(Unknown::Usage(wrong)) => Err(wrong),
    }
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
