//! States and verbs in words, for people: dashboard and command line say the same.

use lethe_terms::{
    Awaited, CaseId, CaseState, IdentifierKind, Observed, Outcome, Right, StepState, Timestamp, Verb,
};

pub use lethe_terms::norm;

pub use self::deadlines::{answered, at_most, awaits_answer, distance, due, is_overdue, overdue, span};
pub use self::silence::{HOST_SILENT, aged, waits_for_systems};

use crate::views::{
    BlockedBy, CaseFlag, CaseView, EarlierView, IssuedView, RemarkView, ScanState, StepView, SystemState,
};

mod deadlines;
mod silence;

/// How something stands, for colour and shape. The words always stand beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing happens yet, or any more.
    Quiet,
    /// It is being worked on.
    Busy,
    /// A person has to decide.
    Waiting,
    /// It is done, and seen to be.
    Good,
    /// It ended badly.
    Bad,
}

impl Tone {
    /// The name of the tone, as style sheets know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// The state of a case in words.
pub const fn case_state(state: CaseState) -> &'static str {
    match state {
        CaseState::Received => "received",
        CaseState::IdentityPending => "waits for proof of identity",
        CaseState::Accepted => "being planned",
        CaseState::Planned => "plan goes into the ledger",
        CaseState::AwaitingApproval => "waits for approval",
        CaseState::Acting => "systems are acting",
        CaseState::Observing => "being observed",
        CaseState::NeedsAttention => "needs attention",
        CaseState::Completed => "completed",
        CaseState::CompletedWithExceptions => "completed with exceptions",
        CaseState::NotCompleted => "closed as not completed",
        CaseState::Refused => "refused",
        CaseState::Withdrawn => "withdrawn",
    }
}

/// The state of a case in words. A case that nobody asked for has nobody who could have taken it back, and an answered restriction has an end of its own.
pub fn standing(case: &CaseView) -> &'static str {
    match case.state {
        CaseState::Withdrawn if case.resurrection.is_some() => "ended without erasing",
        state if state.is_completed() && case.right == Right::Restriction => restriction(case),
        state => case_state(state),
    }
}

/// The erasure for which the person gives this restriction up, in words before and after its id.
pub fn given_up(case: &CaseView) -> Option<(&'static str, CaseId, &'static str)> {
    let rest = if case.flags.contains(&CaseFlag::Restricted) {
        ", which is done; what it left is restricted still"
    } else {
        ", which is done"
    };
    match (case.given_up_for, &case.superseded_by) {
        (Some(erasure), _) => Some(("given up by the person for the erasure ", erasure, rest)),
        (None, Some(by)) if by.done => Some(("given up by the person for the erasure ", by.case, rest)),
        (None, Some(by)) => Some(("superseded by the erasure ", by.case, ", once that is done")),
        (None, None) => None,
    }
}

fn restriction(case: &CaseView) -> &'static str {
    let is_in_force = case.flags.contains(&CaseFlag::Restricted);
    let is_lifted = case.certificates.iter().any(|issued| issued.verb == Verb::Lift);
    let is_superseded = case.superseded_by.as_ref().is_some_and(|erasure| erasure.done);
    if case.given_up_for.is_some() || (is_superseded && !is_in_force && !is_lifted) {
        return "given up for an erasure";
    }
    match (case.state, is_in_force) {
        (CaseState::Completed, true) => "completed, in force",
        (_, true) => "completed with exceptions, in force",
        (state, false) if is_lifted => match state {
            CaseState::Completed => "lifted",
            _ => "lifted with exceptions",
        },
        (state, false) => case_state(state),
    }
}

/// What a case waits for, beside what needs attention; how far it is where it waits for no person.
pub fn waits_for(case: &CaseView) -> String {
    let acting = case.acting().count() as u64;
    match case.state {
        state if !state.waits_for_person() => match acting {
            0 => no_steps(case).to_owned(),
            _ => format!("{} in the plan", counted(acting, "step")),
        },
        CaseState::IdentityPending => "waits until the person has proven who they are".to_owned(),
        CaseState::AwaitingApproval if acting == 0 => {
            format!("waits for your approval: {}", no_steps(case))
        }
        CaseState::AwaitingApproval => format!(
            "waits for your approval of a plan with {}",
            counted(acting, "step")
        ),
        _ if case.plan_digest.is_none() => "waits for your decision: plan it again, or end it".to_owned(),
        _ => "waits for your decision: plan it again, or close it".to_owned(),
    }
}

/// Why a person has to look, in words: the page of the code in ops/errors says more.
pub fn attention(code: &str) -> &'static str {
    match code {
        "casework-overlooked" => "an observation sees the person where the search found nothing",
        "casework-contradicted" => "an observation contradicts what the system says it did",
        "casework-cannot-tell" => "it cannot be seen whether it was done",
        "casework-not-supported" | "kit-verb-not-supported" | "sql-verb-not-supported" => {
            "the system cannot do what is asked of it"
        }
        "casework-not-notified" => "the person has not been told yet",
        "conductor-dataset-gone" => "the system no longer has the dataset that the plan names",
        "conductor-history-damaged" | "conductor-history-unreadable" => {
            "the history of the case cannot be read"
        }
        "conductor-no-statement" => "the statement of the case cannot be written",
        "lineage-too-many-records" | "lineage-too-many-rounds" => {
            "the search came to a bound before it had reached everything"
        }
        "kit-timeout" | "remote-no-answer" | "node-host-silent" => "no answer came in time",
        "node-system-away" | "remote-unreachable" | "sql-unreachable" => "the system cannot be reached",
        "kit-connector-panicked" => "the connector broke down in the middle of its work",
        "remote-refused" => "the system's program refused",
        "sql-would-dangle" | "sql-loose-rows" => "rows outside of the plan hang on what is to be erased",
        "weblog-reopen" => "the web server could not be made to reopen its logs",
        _ => "the system did not do, or did not say, what was asked of it",
    }
}

/// What stands in place of steps where there are none.
pub const fn no_steps(case: &CaseView) -> &'static str {
    match (case.state, case.plan_digest.is_some()) {
        (CaseState::Withdrawn | CaseState::Refused, false) => "no plan was made",
        (_, false) => "no plan yet",
        (_, true) => "nothing was found",
    }
}

/// The tone of a case.
pub const fn case_tone(state: CaseState) -> Tone {
    match state {
        CaseState::Received
        | CaseState::Accepted
        | CaseState::Planned
        | CaseState::Acting
        | CaseState::Observing => Tone::Busy,
        CaseState::AwaitingApproval | CaseState::IdentityPending => Tone::Waiting,
        CaseState::NeedsAttention | CaseState::NotCompleted => Tone::Bad,
        CaseState::Completed | CaseState::CompletedWithExceptions => Tone::Good,
        CaseState::Refused | CaseState::Withdrawn => Tone::Quiet,
    }
}

/// The state of a step in words, with what it waits for and what the system says. In a case that ended, what was never begun never will be.
pub fn step_state(step: &StepView, case: CaseState) -> String {
    if case.is_ended() && matches!(step.state, StepState::Planned | StepState::Blocked) {
        return "not done".to_owned();
    }
    if step.verb == Verb::Observe {
        return look_state(step.state).to_owned();
    }
    let outcome = step.outcome.map_or("done", outcome);
    match step.state {
        StepState::Planned => "planned".to_owned(),
        StepState::Blocked => match step.blocked_by {
            Some(BlockedBy::Hold) => "held by a restriction".to_owned(),
            Some(BlockedBy::Dependency) => "waits for another step".to_owned(),
            None => "blocked".to_owned(),
        },
        StepState::Dispatched => "sent".to_owned(),
        StepState::Acknowledged => "taken on".to_owned(),
        StepState::InProgress => "system is at work".to_owned(),
        StepState::Reported => format!("says {outcome}, not yet seen"),
        StepState::Verified => format!("{outcome}, seen to be"),
        StepState::Failed => "failed".to_owned(),
        StepState::Overdue => "no answer in time".to_owned(),
    }
}

/// What earlier plans of the case did, where one has acted.
pub fn earlier(case: &CaseView) -> Option<String> {
    let last = case.earlier.last()?;
    let did: Vec<String> = case.earlier.iter().map(earlier_step).collect();
    let who = if case.earlier.iter().all(|step| step.plan == last.plan) {
        "An earlier plan has acted"
    } else {
        "Earlier plans have acted"
    };
    Some(format!("{who}: {}", did.join("; ")))
}

fn earlier_step(step: &EarlierView) -> String {
    let became = match (step.outcome, step.seen) {
        (Some(did), true) => format!("{}, seen to be", outcome(did)),
        (Some(did), false) => format!("says {}, not seen", outcome(did)),
        (None, _) => format!("{} sent, and no word of what became of it", verb(step.verb)),
    };
    format!("{} / {} {became}", step.system, step.dataset)
}

/// What an observation saw. Rows without the person may stay: of those it is the person that is absent.
pub fn observed(step: &StepView) -> Option<String> {
    let observed = step.observed?;
    Some(match (step.outcome, observed) {
        (Some(Outcome::Anonymised), Observed::Absent) => "nothing of the person".to_owned(),
        _ => observed.code().replace('_', " "),
    })
}

/// Datasets in which nothing was found: whether that was looked at.
pub fn looks(case: &CaseView) -> String {
    let looks = case.looks().count() as u64;
    let seen = case
        .looks()
        .filter(|step| step.state == StepState::Verified)
        .count() as u64;
    let datasets = counted(looks, "dataset");
    match (seen, case.state.is_ended()) {
        (0, false) => format!("Nothing was found in {datasets}: looked at once the rest is done"),
        (0, true) => format!("Nothing was found in {datasets}, and none was looked at again"),
        (seen, _) if seen == looks => format!("Nothing was found in {datasets}, and nothing was seen there"),
        (seen, _) => format!(
            "Nothing was found in {datasets}: {} of them seen to hold nothing",
            grouped(seen)
        ),
    }
}

/// The state of a step that looks whether nothing is there.
const fn look_state(state: StepState) -> &'static str {
    match state {
        StepState::Planned | StepState::Blocked => "looked at when the rest is done",
        StepState::Verified => "seen to hold nothing",
        StepState::Failed => "failed",
        StepState::Overdue => "no answer in time",
        StepState::Dispatched | StepState::Acknowledged | StepState::InProgress | StepState::Reported => {
            "being looked at"
        }
    }
}

/// What a step that a system works on waits for, and when the system is asked again.
pub fn in_progress(step: &StepView, now: Timestamp) -> Option<String> {
    let told = step.in_progress.as_ref()?;
    let what = match told.awaits {
        Some(Awaited::Rotation) => "waits until the log is rotated that a program still writes to",
        Some(Awaited::Writers) => "waits until programs let go of a file",
        None => "the system does its own work",
    };
    let again = if told.ask_at > now {
        format!(
            "asked again {} ({})",
            distance(told.ask_at, now),
            told.ask_at.minute()
        )
    } else {
        "asked again as soon as it answers".to_owned()
    };
    Some(format!("{what}; {again}"))
}

/// The tone of a step.
pub const fn step_tone(state: StepState) -> Tone {
    match state {
        StepState::Planned => Tone::Quiet,
        StepState::Blocked => Tone::Waiting,
        StepState::Dispatched | StepState::Acknowledged | StepState::InProgress | StepState::Reported => {
            Tone::Busy
        }
        StepState::Verified => Tone::Good,
        StepState::Failed | StepState::Overdue => Tone::Bad,
    }
}

/// An outcome in words.
pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Erased => "erased",
        Outcome::Anonymised => "anonymised",
        Outcome::CryptoShredded => "crypto-shredded",
        Outcome::Restricted => "restricted",
        Outcome::Lifted => "lifted",
        Outcome::Retained => "retained",
        Outcome::NotFound => "nothing held",
        Outcome::NotSupported => "not supported",
        Outcome::Notified => "notified",
    }
}

/// A right in words.
pub const fn right(right: Right) -> &'static str {
    match right {
        Right::Erasure => "Erasure",
        Right::Restriction => "Restriction",
    }
}

/// A verb in words.
pub const fn verb(verb: Verb) -> &'static str {
    verb.code()
}

/// What a certificate or statement is about, in words.
pub const fn issued(issued: &IssuedView) -> &'static str {
    match (issued.verb, issued.completed) {
        (Verb::Restrict, true) => "certificate of the restriction",
        (Verb::Restrict, false) => "statement that the restriction was not completed",
        (Verb::Lift, true) => "certificate of the lift",
        (Verb::Lift, false) => "statement that the lift was not completed",
        (_, true) => "certificate of the erasure",
        (_, false) => "statement that the erasure was not completed",
    }
}

/// A kind of identifier in words.
pub const fn identifier_kind(kind: IdentifierKind) -> &'static str {
    match kind {
        IdentifierKind::Email => "e-mail",
        IdentifierKind::Phone => "phone",
        IdentifierKind::UserId => "account id",
        IdentifierKind::ContactId => "contact id",
        IdentifierKind::CookieId => "cookie",
        IdentifierKind::DeviceId => "device",
        IdentifierKind::Ip => "IP address",
        IdentifierKind::IpAbbreviated => "abbreviated IP",
    }
}

/// A way to records in words: `e-mail, then account id`.
pub fn path(kinds: &[IdentifierKind]) -> String {
    kinds
        .iter()
        .map(|kind| identifier_kind(*kind))
        .collect::<Vec<_>>()
        .join(", then ")
}

/// The state of a system in words, with its tone.
pub const fn system_state(state: SystemState) -> (&'static str, Tone) {
    match state {
        SystemState::Up => ("up", Tone::Good),
        SystemState::Scanning => ("being scanned", Tone::Busy),
        SystemState::Paused => ("paused", Tone::Waiting),
        SystemState::Unreachable => ("does not answer", Tone::Bad),
        SystemState::Unknown => ("not known yet", Tone::Quiet),
    }
}

/// The state of a scan in words.
pub const fn scan_state(state: ScanState) -> &'static str {
    match state {
        ScanState::NotStarted => "not started",
        ScanState::Running => "running",
        ScanState::Finished => "finished",
        ScanState::Failed => "failed",
    }
}

/// A flag in words.
pub const fn flag(flag: CaseFlag) -> &'static str {
    match flag {
        CaseFlag::Extended => "time extended",
        CaseFlag::ClockPaused => "clock paused",
        CaseFlag::Restricted => "data restricted",
    }
}

/// A remark of the plan linter in words.
pub fn remark(remark: &RemarkView) -> String {
    let detail = remark.detail.join(", ");
    match remark.code.as_str() {
        "holding_without_step" => "holds data of the person, and nothing in the plan acts on it".to_owned(),
        "field_not_erasable" if detail.ends_with("is not supported") => {
            format!("will fail, and the case with it: {detail}")
        }
        "field_not_erasable" => format!("leaves in place: {detail}"),
        "copy_will_be_refilled" => format!("is a copy that {detail} will fill again"),
        "lead_time_breaks_deadline" => {
            format!("may answer too late: it had to be asked by {detail}")
        }
        "quarantine_may_hide" => {
            format!("has unreadable input that may hide data of the person: {detail} in quarantine")
        }
        "quarantine_not_searchable" => format!(
            "has unreadable input that may hide data of the person: {detail} in quarantine. It cannot be searched, so the case can only be completed \
             with exceptions: look what the input is, drop what hides nobody, and plan again"
        ),
        "suspicious_fan_out" => not_followed(remark),
        "identifier_not_followed" => format!(
            "{}, so the case can only be completed with exceptions: where it is the person's, open a case that names it, too",
            not_followed(remark)
        ),
        "reached_by_id_alone" => format!(
            "belongs to the person only by an id ({}), and names somebody ({}) whom nothing else of the person's does: look whether it is somebody \
             else, whom two systems count under the same id. If so, withdraw, name the issuers of ids in the configuration, and scan anew",
            remark.detail.first().map_or("", String::as_str),
            remark.detail.get(1).map_or("", String::as_str),
        ),
        "identifier_not_searchable" => format!(
            "names an identifier ({detail}) that leads to no record and that no system can be searched by, so nothing is looked for by it and the \
             case can only be completed with exceptions: where it was mistyped, withdraw, and open a case that names it right"
        ),
        _ => detail,
    }
}

/// What a remark is about: a dataset, a system, or the request.
pub fn remarked(remark: &RemarkView) -> String {
    let system = remark.system.as_deref().unwrap_or("the request");
    match &remark.dataset {
        Some(dataset) => format!("{system} / {dataset}"),
        None => system.to_owned(),
    }
}

fn not_followed(remark: &RemarkView) -> String {
    format!(
        "names an identifier ({}) behind which several people seem to stand ({}): what hangs on it is not in the plan",
        remark.detail.first().map_or("", String::as_str),
        remark.detail.get(1).map_or("", String::as_str),
    )
}

/// What a person can do with a case now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// Approve the plan.
    Approve,
    /// Take the request back, or end a case that nobody asked for.
    Withdraw,
    /// End the restriction.
    Lift,
    /// Make a new plan.
    Replan,
    /// Close it as not completed.
    Close,
}

/// What a person can do with a case now.
pub fn moves(case: &CaseView) -> Vec<Move> {
    let mut moves = Vec::new();
    match case.state {
        CaseState::AwaitingApproval if case.plan_digest.is_some() => moves.push(Move::Approve),
        // Without a plan there is nothing that a statement could be about, and nothing was done that could not be taken back.
        CaseState::NeedsAttention if case.plan_digest.is_none() => {
            moves.extend([Move::Replan, Move::Withdraw]);
        }
        CaseState::NeedsAttention => moves.extend([Move::Replan, Move::Close]),
        CaseState::Completed | CaseState::CompletedWithExceptions | CaseState::NotCompleted
            if case.right == Right::Restriction && case.flags.contains(&CaseFlag::Restricted) =>
        {
            moves.push(Move::Lift);
        }
        _ => {}
    }
    // Once systems act there is no taking back, whatever was planned since: nothing un-erases.
    let acts = matches!(
        case.state,
        CaseState::Acting | CaseState::Observing | CaseState::NeedsAttention
    );
    if !case.state.is_ended() && !acts && !case.has_acted() {
        moves.push(Move::Withdraw);
    }
    moves
}

/// What it is called to end a case before anything was done.
pub const fn withdraw(case: &CaseView) -> &'static str {
    if case.resurrection.is_some() {
        "End without erasing"
    } else {
        "Withdraw"
    }
}

/// A number with its noun: `1 record`, `2 records`, `2 entries`, `12,345 records`.
pub fn counted(number: u64, noun: &str) -> String {
    let number_grouped = grouped(number);
    match noun
        .strip_suffix('y')
        .filter(|stem| !stem.ends_with(['a', 'e', 'o']))
    {
        _ if number == 1 => format!("{number_grouped} {noun}"),
        Some(stem) => format!("{number_grouped} {stem}ies"),
        None => format!("{number_grouped} {noun}s"),
    }
}

/// How many rows or lines stand in records.
pub fn rows(number: u64) -> String {
    let noun = if number == 1 {
        "row or line"
    } else {
        "rows or lines"
    };
    format!("{} {noun}", grouped(number))
}

/// Records that only a shared identifier leads to.
pub fn behind_shared(records: u64) -> String {
    let (share, count) = if records == 1 {
        ("shares", "does not count")
    } else {
        ("share", "do not count")
    };
    format!(
        "{} {share} only a shared identifier, such as an office address, and {count} as this person's.",
        counted(records, "record")
    )
}

/// What a record is, for whoever reads a number of them.
pub const RECORD: &str = "A record is what its system's connector declares as one: a row with the rows that belong to it, or the lines of one log that name the same identifiers.";

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_read_well() {
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(1_234_567, "record"), "1,234,567 records");
        assert_eq!(counted(1, "entry"), "1 entry");
        assert_eq!(counted(2, "entry"), "2 entries");
        assert_eq!(counted(2, "day"), "2 days");
        let now = Timestamp::from_millis(1_795_000_000_000);
        assert_eq!(distance(now.plus_millis(12 * 86_400_000), now), "in 12 days");
        assert_eq!(distance(now.plus_millis(-7_200_000), now), "2 hours ago");
        assert_eq!(distance(now.plus_millis(-1), now), "just now");
        assert_eq!(norm("17-3-b"), "Art. 17(3)(b)");
    }

    #[test]
    fn an_answer_is_overdue_from_its_hour_until_it_is_given() {
        let due = Timestamp::from_millis(1_795_000_000_000);
        let late = due.plus_millis(1);
        assert!(is_overdue(CaseState::Acting, false, due, due));
        assert!(is_overdue(CaseState::NeedsAttention, false, due, late));
        assert!(!is_overdue(CaseState::Acting, false, due, due.plus_millis(-1)));
        assert!(!is_overdue(CaseState::Withdrawn, false, due, late));
        assert!(!is_overdue(CaseState::Acting, true, due, late), "a lift");
    }
}
