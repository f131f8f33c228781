//! `lethe-verify FILE [--policy F] [--json]`: verifies a certificate offline.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use lethe_verify::{USAGE, report_json, report_text, verify_files};

const HELP: &str = "\
Verifies a certificate of Lethe, offline, with the policy that you were given beforehand.

Usage: lethe-verify FILE [--policy FILE] [--json]

  FILE           the certificate
  --policy FILE  whose keys count; never trust one that came with the certificate
  --json         the report as JSON on standard output
  -h, --help     this text

Exit status: 0 complete, 1 complete with exceptions, 2 cannot be told (no policy),
3 invalid, 4 malformed or unreadable, 5 a valid statement that the case was not
completed, 64 wrong usage.
";

struct Arguments {
    file: PathBuf,
    policy: Option<PathBuf>,
    json: bool,
}

fn main() -> ExitCode {
    match arguments(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => {
            print(HELP);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("lethe-verify: {reason}\n\n{HELP}");
            ExitCode::from(USAGE)
        }
    }
}

fn arguments(given: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Arguments>, String> {
    let (mut file, mut policy, mut json) = (None, None, false);
    let mut given = given;
    while let Some(word) = given.next() {
        match word.to_str() {
            Some("-h" | "--help") => return Ok(None),
            Some("--json") => json = true,
            Some("--policy") => {
                policy = Some(PathBuf::from(given.next().ok_or("--policy: expected a file")?));
            }
            Some(flag) if flag.starts_with('-') && flag.len() > 1 => {
                return Err("unknown option: expected --policy, --json or --help".into());
            }
            _ if file.is_none() => file = Some(PathBuf::from(word)),
            _ => return Err("more than one file: expected one certificate".into()),
        }
    }
    let file = file.ok_or("expected the certificate's file")?;
    Ok(Some(Arguments { file, policy, json }))
}

fn run(arguments: &Arguments) -> ExitCode {
    let report = verify_files(&arguments.file, arguments.policy.as_deref());
    if arguments.json {
        print(&(report_json(&report) + "\n"));
    } else {
        print(&report_text(&report));
    }
    ExitCode::from(report.status.exit_code())
}

/// A reader that went away is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
