//! What is not heard of, in words.

use std::time::Duration;

use lethe_terms::StepState;

use crate::limits::CASES_AGE_MAX;

use crate::views::{CaseView, SystemState, SystemView};

/// The code of a system whose host nobody hears.
pub const HOST_SILENT: &str = "node-host-silent";

/// That cases are told as they were a while ago, where it is longer than it takes to read what happens to them.
pub fn aged(age: Duration) -> Option<String> {
    let ago = || super::span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    (age > CASES_AGE_MAX).then(|| {
        format!(
            "shown as they were {} ago: what happened since could not be read",
            ago()
        )
    })
}

/// The systems that a case waits for and that do not answer, one a line: those of its open steps, and all of them while it is not planned.
/// Nothing where it goes on by a person only, or not at all.
pub fn waits_for_systems(case: &CaseView, systems: &[SystemView]) -> Vec<String> {
    if case.rests() {
        return Vec::new();
    }
    let is_needed = |system: &&SystemView| {
        let mut steps = case.steps.iter();
        case.steps.is_empty()
            || steps.any(|step| step.system == system.name && step.state != StepState::Verified)
    };
    let silent = systems
        .iter()
        .filter(|system| system.state == SystemState::Unreachable)
        .filter(is_needed);
    silent.map(silence).collect()
}

fn silence(system: &SystemView) -> String {
    let (name, code) = (&system.name, system.findings.iter().find(|finding| !finding.ok));
    let code = code.map_or("", |finding| finding.detail.as_str());
    let since = system.last_feed_at.map_or_else(
        || "it was never read to its end".to_owned(),
        |at| format!("last read to its end at {}", at.minute()),
    );
    if code == HOST_SILENT {
        format!("waits for {name}: nothing is heard of the process that hosts it, {since} ({code})")
    } else {
        format!("waits for {name}: it does not answer, {since} ({code})")
    }
}
