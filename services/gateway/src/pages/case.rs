//! One case: what it waits for, what is done, the plan and the person's lineage as pictures.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lethe_terms::{CaseState, StepState, Timestamp};
use maud::{Markup, html};

use super::{aged, attention, badge, deadline, framed, moment, now, overdue, page, problem};
use crate::api::within;
use crate::asks::CLOSE_REASONS;
use crate::body::CaseOf;
use crate::context::{Caller, Shared};
use crate::limits::ANSWER_TIME_MAX;
use crate::picture::{Counted, lineage_of_plan, lineage_picture, plan_picture};
use crate::problem::Problem;
use crate::views::{CaseView, PlanView, RemarkView, StepView};
use crate::words::{self, Move};

pub(crate) async fn show(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    id: Result<CaseOf, Problem>,
) -> Response {
    let CaseOf(id) = match id {
        Ok(id) => id,
        Err(error) => return problem(&error),
    };
    let case = match within(ANSWER_TIME_MAX, shared.backend.case(id)).await {
        Ok(case) => case,
        Err(error) => return problem(&error),
    };
    let plan = match within(ANSWER_TIME_MAX, shared.backend.plan(id)).await {
        Ok(plan) => Some(plan),
        Err(error) if error.status == 404 => None,
        Err(error) => return problem(&error),
    };
    let title = format!("{} {id}", words::right(case.right));
    let content = html! { (aged(shared.backend.cases_age())) (content(&case, plan.as_ref())) };
    page(&title, Some(&caller), true, &content).into_response()
}

fn content(case: &CaseView, plan: Option<&PlanView>) -> Markup {
    let now = now();
    html! {
        div data-live="head" { (head(case, now)) }
        div data-live="steps" {
            (steps(case, now))
            @if let Some(earlier) = words::earlier(case) { p.note { (earlier) "." } }
        }
        div data-live="moves" { (moves(case, plan)) }
        @if let Some(plan) = plan {
            section aria-labelledby="plan" data-live="plan" {
                h2 id="plan" { "The plan" small { "number " (plan.number) ", frozen " (plan.frozen_at.minute()) } }
                @if plan.acting().next().is_none() && plan.exceptions.is_empty() {
                    p.empty { "It changes nothing in any system: nothing was found that the person's identifiers name." }
                } @else { (framed(&plan_picture(case, plan))) }
                // While it waits for approval they stand beside the button.
                @if case.state != CaseState::AwaitingApproval { (remarks(&plan.remarks)) }
            }
            @if plan.acting().next().is_some() {
                section aria-labelledby="lineage" data-live="lineage" {
                    h2 id="lineage" { "Why these records" }
                    p.note { "How what the person gave led to each record when the plan was made. " (words::RECORD)
                        @if let Some(gap) = case.gap { " " (gap_words(gap)) } }
                    (framed(&lineage_picture(&lineage_of_plan(plan), Counted::Records)))
                    (ways(plan))
                }
            }
        }
    }
}

fn gap_words(gap: u64) -> String {
    if gap == 0 {
        "Asking the systems found nothing that lineage did not know.".to_owned()
    } else {
        format!(
            "Asking the systems found {} that lineage did not know.",
            words::counted(gap, "record")
        )
    }
}

fn head(case: &CaseView, now: Timestamp) -> Markup {
    html! {
        div.casehead {
            p.crumb { a href="/" { "Cases" } " / " code { (case.id) } }
            h1 { (words::right(case.right)) " " (badge(words::case_tone(case.state), words::standing(case))) (overdue(case, now)) }
            p.facts {
                @if let Some(ground) = &case.ground { span { "Ground: " (words::norm(ground)) } }
                @if let Some(other) = &case.supersedes { span { "Supersedes " a href={ "/cases/" (other) } { (other) } } }
                @if let Some((what, erasure, rest)) = words::given_up(case) { span { (what) a href={ "/cases/" (erasure) } { (erasure) } (rest) } }
                @if let Some(back) = &case.resurrection {
                    span { "Nobody asked for this case: data came back in " (back.system) " that " a href={ "/cases/" (back.of) } { (back.of) } " had erased" }
                }
                @for flag in &case.flags { span.flag { (words::flag(*flag)) } }
            }
            (deadline(case, now))
            p.due {
                span { "received " (moment(case.received_at, now)) ", " (case.received_at.day()) }
                @match words::answered(case, now) {
                    Some(answered) => { span { (answered) } span { "was due " (case.due.day()) } }
                    None => { span { "answer due " (moment(case.due, now)) ", " (case.due.day()) } }
                }
            }
        }
        @if case.state.is_ended() && !case.attention.is_empty() {
            // It was decided: there is nothing to be alarmed of any more.
            section aria-labelledby="short" {
                h2 id="short" { "What fell short" }
                (all_attention(case))
            }
        } @else if !case.attention.is_empty() {
            section.alarm role="alert" {
                h2 { "A person has to look at this" }
                (all_attention(case))
            }
        }
    }
}

fn all_attention(case: &CaseView) -> Markup {
    html! { ul { @for one in &case.attention { li { (attention(one)) } } } }
}

fn moves(case: &CaseView, plan: Option<&PlanView>) -> Markup {
    let moves = words::moves(case);
    if moves.is_empty() && case.certificate.is_none() {
        return html! {};
    }
    html! {
        section.moves aria-label="What can be done" {
            @if let Some(certificate) = &case.certificate {
                div.card.done {
                    h2 { @if case.state == CaseState::NotCompleted { "Signed statement" } @else { "Certificate" } }
                    p { @if let Some(newest) = case.certificates.last() { (words::issued(newest)) ", " } code { (certificate) } }
                    p { a.button href={ "/cases/" (case.id) "/certificate" } { "Download" } " "
                        a.button.plain href="/policy" { "Policy for verifiers" } }
                    p.note { "Anybody can check it offline: " code { "lethe verify FILE --policy POLICY" } }
                    p.note { "It names nobody. Whom it is about shows with the "
                        a href={ "/cases/" (case.id) "/opening" } { "opening" }
                        ", for the person and for whoever may check: " code { "--subject KIND=VALUE --opening OPENING" } }
                    (earlier(case))
                }
            }
            @for item in &moves { (one_move(case, plan, *item)) }
        }
    }
}

/// The certificates and statements before the newest, each to be fetched.
fn earlier(case: &CaseView) -> Markup {
    let before = case.certificates.len().saturating_sub(1);
    html! {
        @if before > 0 {
            h3 { "Earlier ones of this case" }
            ul.earlier {
                @for issued in case.certificates[..before].iter().rev() {
                    li { a href={ "/cases/" (case.id) "/certificates/" (issued.certificate) } { (words::issued(issued)) }
                        " " small { (issued.issued_at.minute()) } " " code { (issued.certificate) } }
                }
            }
        }
    }
}

fn approval(case: &CaseView, plan: Option<&PlanView>) -> Markup {
    let digest = case.plan_digest.clone().unwrap_or_default();
    let fatal = case.remarks.iter().any(|remark| remark.fatal);
    html! {
        h2 { "Approve this plan" }
        @match case.acting().count() {
            0 => p { "Nothing was found: look whether the identifiers are spelled as the person spells them. Approving has every system looked at once more, and changes nothing." },
            steps => p { "Approving sends " (words::counted(steps as u64, "step")) " to the systems. "
                @if case.right == lethe_terms::Right::Erasure { "What is erased cannot be brought back." }
                @else { "A restriction can be lifted again." } },
        }
        @if fatal { p.finding { "A remark says that data would be left behind." } }
        (remarks(&case.remarks))
        @if let Some(plan) = plan { @if plan.ledger_index.is_none() { p.note { "The plan is not in the ledger yet." } } }
        p.digest { code { (digest) } }
        input type="hidden" name="plan_digest" value=(digest);
        button.main { "Approve" }
    }
}

/// The end of a case before anything was done: nobody takes back what nobody asked for.
fn ending(case: &CaseView) -> Markup {
    html! {
        h2 { (words::withdraw(case)) }
        @if case.resurrection.is_some() {
            p { "Nobody asked for this case, so nobody can take it back. Where the data is rightly there again, such as after a new order, end it as it stands: nothing has been erased." }
            button { "End the case" }
        } @else {
            p { "The person takes the request back. Nothing has been erased." }
            button { "Withdraw the case" }
        }
    }
}

fn one_move(case: &CaseView, plan: Option<&PlanView>, item: Move) -> Markup {
    let form = |name: &str, class: &str, inner: Markup| {
        html! {
            form class={ "card " (class) } method="post" action={ "/cases/" (case.id) "/" (name) } {
                input type="hidden" name="revision" value=(case.revision);
                (inner)
            }
        }
    };
    match item {
        Move::Approve => form("approve", "first", approval(case, plan)),
        Move::Withdraw => form("withdraw", "", ending(case)),
        Move::Lift => form(
            "lift",
            "",
            html! {
                h2 { "Lift the restriction" }
                p { "The person must be told before (Art. 18(3))." }
                label { "Told at, in UTC" input type="datetime-local" name="notified_at" required; }
                button { "Lift" }
            },
        ),
        Move::Replan => form(
            "replan",
            "first",
            html! {
                h2 { "Plan again" }
                p { "Looks at the systems as they are now and makes a new plan for approval." }
                button.main { "Make a new plan" }
            },
        ),
        Move::Close => form(
            "close",
            "",
            html! {
                h2 { "Close as not completed" }
                p { "Ends the case with a signed statement of what was not done." }
                label { "Reason" select name="reason" required {
                    @for (_, code, text) in CLOSE_REASONS { option value=(code) { (text) } }
                } }
                button.grave { "Close the case" }
            },
        ),
    }
}

/// What a case says whose plan changes nothing.
const NOTHING_FOUND: &str = "No system was found to hold anything of the person.";

fn steps(case: &CaseView, now: Timestamp) -> Markup {
    if case.steps.is_empty() {
        let text = match (case.state, case.plan_digest.is_some()) {
            (_, true) => NOTHING_FOUND,
            (state, false) if state.is_ended() => "No plan was made.",
            (CaseState::NeedsAttention, false) => {
                "There is no plan: a system could not be asked what it holds."
            }
            _ => "The plan is being made: systems are asked what they hold.",
        };
        return html! { p.empty { (text) } };
    }
    let acting = case.acting().count();
    let verified = case
        .acting()
        .filter(|step| step.state == StepState::Verified)
        .count();
    html! {
        section aria-labelledby="steps" {
            h2 id="steps" { "Steps" @if acting > 0 { small { (verified) " of " (acting) " seen to be done" } } }
            @if acting == 0 { p.empty { (NOTHING_FOUND) } }
            @else {
                table.list {
                    thead { tr { th { "System" } th { "Dataset" } th { "Verb" } th { "Records" } th { "State" } th { "Observation" } } }
                    tbody { @for step in case.acting() { (step_row(step, case.state, now)) } }
                }
            }
            (looks(case))
        }
    }
}

/// The steps that look whether nothing is there; open where one of them saw something.
fn looks(case: &CaseView) -> Markup {
    let looks: Vec<_> = case.looks().collect();
    let failed = looks.iter().any(|step| step.state == StepState::Failed);
    html! {
        @if !looks.is_empty() {
            details id="looks" open[failed] {
                summary { (words::looks(case)) }
                table.list {
                    thead { tr { th { "System" } th { "Dataset" } th { "State" } th { "Observation" } } }
                    tbody { @for step in looks {
                        tr {
                            td data-label="System" { (step.system) }
                            td data-label="Dataset" { (step.dataset) }
                            (state_and_observation(step, case.state, None))
                        }
                    } }
                }
            }
        }
    }
}

fn step_row(step: &StepView, state: CaseState, now: Timestamp) -> Markup {
    html! {
        tr {
            td data-label="System" { (step.system) }
            td data-label="Dataset" { (step.dataset) }
            td data-label="Verb" { (words::verb(step.verb)) }
            td.number data-label="Records" { (words::grouped(step.records)) }
            (state_and_observation(step, state, words::in_progress(step, now).as_deref()))
        }
    }
}

fn state_and_observation(step: &StepView, state: CaseState, waits: Option<&str>) -> Markup {
    html! {
        td data-label="State" {
            (badge(words::step_tone(step.state), &words::step_state(step, state)))
            @if let Some(holder) = step.held_by { " of " a href={ "/cases/" (holder) } { (holder) } }
            @if let Some(code) = &step.code { " " code { (code) } }
            @if let Some(waits) = waits { small.waits { (waits) } }
        }
        td data-label="Observation" {
            @match (words::observed(step), step.independence) {
                (Some(observed), Some(how)) => { (observed) small { " by " (how.code().replace('_', " ")) } }
                (Some(observed), None) => (observed),
                _ if state.is_ended() => "none",
                _ => "not yet",
            }
        }
    }
}

fn remarks(remarks: &[RemarkView]) -> Markup {
    html! {
        @if !remarks.is_empty() {
            ul.remarks {
                @for remark in remarks {
                    li class=(if remark.fatal { "fatal" } else { "" }) {
                        strong { (words::remarked(remark)) }
                        " " (words::remark(remark)) " " code { (remark.code) }
                    }
                }
            }
        }
    }
}

/// The same as the picture, as a list.
fn ways(plan: &PlanView) -> Markup {
    html! {
        details id="ways" {
            summary { "As a list" }
            table.list {
                thead { tr { th { "System" } th { "Dataset" } th { "Reached by" } th { "Records" } } }
                tbody {
                    @for step in &plan.steps { @for way in &step.reached {
                        tr {
                            td data-label="System" { (step.system) }
                            td data-label="Dataset" { (step.dataset) }
                            td data-label="Reached by" { (words::path(&way.path)) }
                            td.number data-label="Records" { (words::grouped(way.records)) }
                        }
                    } }
                }
            }
        }
    }
}
