//! The report as a page for people.

use std::fmt::{Display, Write as _};

use lethe_proof::{About, Kind, Party, Report, Status, SystemRow, limit_text};
use lethe_terms::{Verb, norm};

use crate::is_complete;

/// The report in plain words, without control characters of whoever wrote the file.
pub(crate) fn of(report: &Report) -> String {
    let mut page = String::new();
    let _ = writeln!(page, "{}", verdict(report));
    if let Some(about) = &report.about {
        let _ = writeln!(page, "{}", head(about));
    }
    for check in report.checks.iter().filter(|check| !check.ok) {
        let _ = writeln!(
            page,
            "  {}: {}",
            check.name,
            check.detail.as_deref().unwrap_or("does not hold")
        );
    }
    let passed: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| check.ok)
        .map(|check| check.name.as_str())
        .collect();
    if !passed.is_empty() {
        let _ = writeln!(page, "Checked: {}.", passed.join(", "));
    }
    if !report.systems.is_empty() {
        page.push_str("\nSystems\n");
        report.systems.iter().for_each(|row| page.push_str(&system(row)));
    }
    list(
        &mut page,
        copies_title(report),
        report
            .copies
            .iter()
            .map(|copy| format!("{}: {}", copy.place, copy.gone_by)),
    );
    list(
        &mut page,
        "Worth a look",
        report.remarks.iter().map(String::as_str),
    );
    if is_complete(report.status) || report.status == Status::NotCompleted {
        list(
            &mut page,
            "Not checked",
            report.not_checked.iter().map(String::as_str),
        );
        list(
            &mut page,
            "What it cannot say",
            report.limits.iter().map(|code| limit_text(code).unwrap_or(code)),
        );
    }
    page.chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// Whose certificate it is, of what, and when: `Acme GmbH (acme): erasure, Art. 17(1)(b), case-...; received ..., issued ...`.
fn head(about: &About) -> String {
    let Party { id, name } = &about.controller;
    let who = if name.is_empty() {
        id.clone()
    } else {
        format!("{name} ({id})")
    };
    let ground = match about.ground.as_str() {
        "" => String::new(),
        ground => format!(", {}", norm(ground)),
    };
    format!(
        "{who}: {}{ground}, {}; received {}, issued {}",
        kind(about.kind),
        about.case,
        about.received_at.day(),
        about.issued_at.minute(),
    )
}

/// What copies are listed under: a restriction ends none.
fn copies_title(report: &Report) -> &'static str {
    match report.about.as_ref().map(|about| about.kind) {
        Some(Kind::Restriction | Kind::RestrictionLifted) => {
            "Copies outside of the systems, and how long they are kept"
        }
        _ => "Copies that end later, and when",
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Erasure => "erasure",
        Kind::Restriction => "restriction",
        Kind::RestrictionLifted => "lift of a restriction",
    }
}

fn verdict(report: &Report) -> &'static str {
    let changed = |row: &SystemRow| row.verb != Verb::Observe;
    match report.status {
        Status::Complete if !report.systems.iter().any(changed) => {
            "COMPLETE: nothing was found that had to be changed, and a look at every dataset saw nothing."
        }
        Status::Complete => "COMPLETE: everything that was planned was done and observed.",
        Status::CompleteWithExceptions => {
            "COMPLETE WITH EXCEPTIONS: done and observed, but for what the law lets stay."
        }
        Status::Pending => "CANNOT BE TOLD: without a policy nobody knows whose keys count (--policy F).",
        Status::Invalid => "INVALID: do not rely on this file.",
        Status::Malformed => "MALFORMED OR UNREADABLE: this cannot be verified.",
        Status::NotCompleted => {
            "NOT COMPLETED: a valid statement that the case was closed without completion."
        }
    }
}

fn system(row: &SystemRow) -> String {
    let place = format!("{} {}", row.system, row.dataset);
    let mut line = format!("  {place:<32} {:<8} {}", row.verb, row.outcome);
    if let Some(reported) = row.reported.filter(|reported| reported.code() != row.outcome) {
        let _ = write!(line, ", reported {reported}");
    }
    match row.independence {
        Some(independence) => {
            let _ = write!(line, ", observed by {}", independence.code().replace('_', " "));
        }
        None => line.push_str(", not observed"),
    }
    if let Some(reason) = &row.reason {
        let _ = write!(line, " ({reason})");
    }
    line.push('\n');
    line
}

fn list(page: &mut String, title: &str, lines: impl Iterator<Item: Display>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        let _ = writeln!(page, "\n{title}");
        lines.for_each(|line| {
            let _ = writeln!(page, "  - {line}");
        });
    }
}
