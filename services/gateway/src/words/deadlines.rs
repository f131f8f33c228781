//! When an answer is due, and other moments, in words.

use std::time::Duration;

use lethe_terms::{CaseState, Timestamp};

use super::counted;
use crate::views::CaseView;

/// Whether the answer to a request is overdue (GDPR Art. 12(3)): due, and neither given nor taken back. A later lift has no such end.
pub const fn is_overdue(state: CaseState, is_answered: bool, due: Timestamp, now: Timestamp) -> bool {
    !state.is_ended() && !is_answered && due.millis() <= now.millis()
}

/// That the answer of a case is overdue, and by how long, where it is.
pub fn overdue(case: &CaseView, now: Timestamp) -> Option<String> {
    is_overdue(case.state, !case.certificates.is_empty(), case.due, now).then(|| {
        let by = now.since(case.due).unsigned_abs();
        format!("overdue by {}", span(by))
    })
}

/// Whether an answer is still to be given: a case that has ended, or that is lifted after its certificate, counts down to nothing.
pub const fn awaits_answer(case: &CaseView) -> bool {
    !case.state.is_ended() && case.certificates.is_empty()
}

/// When a case was answered, with the day and whether that was in time; that it has ended, where it ended without an answer of ours.
pub fn answered(case: &CaseView, now: Timestamp) -> Option<String> {
    let Some(first) = case.certificates.first() else {
        return case
            .state
            .is_ended()
            .then(|| "no answer is due any more".to_owned());
    };
    let at = first.issued_at;
    let what = if first.completed {
        "answered"
    } else {
        "closed as not completed"
    };
    let late = at.since(case.due);
    let in_time = if late > 0 {
        format!("{} late", span(late.unsigned_abs()))
    } else {
        "in time".to_owned()
    };
    Some(format!("{what} {}, {}, {in_time}", distance(at, now), at.day()))
}

/// When the answer of a case is due, or that there is none to be given any more.
pub fn due(case: &CaseView, now: Timestamp) -> String {
    if case.state.is_ended() {
        "ended".to_owned()
    } else if !case.certificates.is_empty() {
        "answered".to_owned()
    } else {
        overdue(case, now).unwrap_or_else(|| distance(case.due, now))
    }
}

/// How far a moment is from now: `in 12 days`, `3 hours ago`.
pub fn distance(moment: Timestamp, now: Timestamp) -> String {
    let ms = moment.since(now);
    if ms.unsigned_abs() < 60_000 {
        return if ms < 0 {
            "just now"
        } else {
            "in less than a minute"
        }
        .to_owned();
    }
    let text = span(ms.unsigned_abs());
    if ms < 0 {
        format!("{text} ago")
    } else {
        format!("in {text}")
    }
}

/// A length of time in its largest whole unit: `3 hours`, `12 days`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    counted(number, unit)
}

/// A bound on a length of time in at most two units, rounded up: `90 minutes`, `9 days 5 hours`.
pub fn at_most(time: Duration) -> String {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let hours = seconds.div_ceil(3_600);
    match seconds {
        0..120 => counted(seconds, "second"),
        120..7_200 => counted(seconds.div_ceil(60), "minute"),
        _ if hours < 48 => counted(hours, "hour"),
        _ if hours.is_multiple_of(24) => counted(hours / 24, "day"),
        _ => format!("{} {}", counted(hours / 24, "day"), counted(hours % 24, "hour")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_never_shorter_than_what_it_bounds() {
        for (millis, expected) in [
            (1, "1 second"),
            (119_000, "119 seconds"),
            (119_001, "2 minutes"),
            (7_100_000, "119 minutes"),
            (7_200_000, "2 hours"),
            (170_000_000, "2 days"),
            (792_060_000, "9 days 5 hours"),
            (7 * 86_400_000, "7 days"),
        ] {
            assert_eq!(at_most(Duration::from_millis(millis)), expected);
        }
    }
}
