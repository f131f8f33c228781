//! The offline verifier: a small program without network code, also behind `lethe verify`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use lethe_proof::{Report, Status, limit_text, verify};

/// Largest file that is read, in bytes: no certificate or policy is larger.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Exit code for wrong usage.
pub const USAGE: u8 = 64;

/// Verifies a certificate file with a policy file. A file that cannot be read is as malformed as one that says nothing.
pub fn verify_files(file: &Path, policy: Option<&Path>) -> Report {
    let (bytes, unreadable) = match read(file) {
        Ok(bytes) => (bytes, None),
        Err(reason) => (Vec::new(), Some(format!("the certificate {reason}"))),
    };
    let policy = match policy.map(read).transpose() {
        Ok(policy) => policy,
        Err(reason) => return malformed(format!("the policy {reason}")),
    };
    match unreadable {
        Some(reason) => malformed(reason),
        None => verify(&bytes, policy.as_deref()),
    }
}

fn malformed(reason: String) -> Report {
    let mut report = verify(&[], None);
    report.status = Status::Malformed;
    if let Some(check) = report.checks.last_mut() {
        check.detail = Some(reason);
    }
    report
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| format!("cannot be read: {}", error.kind()))?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {}", error.kind()))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!("is above {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// The report for people.
pub fn report_text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", status_text(report.status));
    for check in &report.checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        let detail = check.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        let _ = writeln!(text, "  {mark}  {}{detail}", check.name);
    }
    if !report.systems.is_empty() {
        let _ = writeln!(text, "\nSystems");
    }
    for row in &report.systems {
        let how = row.independence.map_or_else(String::new, |how| format!(" ({})", how.code().replace('_', " ")));
        let why = row.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        let _ = writeln!(text, "  {} {}: {} {}{how}{why}", row.system, row.dataset, row.verb, row.outcome);
    }
    section(&mut text, "Remarks", report.remarks.iter().cloned());
    let limits = report.limits.iter().map(|code| match limit_text(code) {
        Some(meaning) => format!("{code}: {meaning}"),
        None => code.clone(),
    });
    section(&mut text, "What the certificate cannot say", limits);
    section(&mut text, "What was not checked here", report.not_checked.iter().cloned());
    text
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<_> = lines.collect();
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{title}");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    }
}

const fn status_text(status: Status) -> &'static str {
    match status {
        Status::Complete => "COMPLETE: everything planned was done and observed.",
        Status::CompleteWithExceptions => "COMPLETE WITH EXCEPTIONS: everything planned was done and observed, but for what is stated.",
        Status::Pending => "CANNOT BE TOLD: without a policy nothing says whose keys count.",
        Status::Invalid => "INVALID: something does not hold.",
        Status::Malformed => "MALFORMED: this is not a certificate, or it cannot be read.",
        Status::NotCompleted => "NOT COMPLETED: a valid statement that the case was closed without completion.",
    }
}

/// The report as JSON.
pub fn report_json(report: &Report) -> String {
    // A report holds only strings, numbers and lists of them.
    serde_json::to_string_pretty(report).unwrap_or_default()
}
