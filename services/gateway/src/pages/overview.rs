//! The first page: what waits for a person, all cases, all systems.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lethe_terms::{Right, Timestamp};
use maud::{Markup, html};

use super::{aged, badge, deadline, lineage, moment, now, overdue, page, problem};
use crate::asks::CaseQuery;
use crate::context::{Caller, Shared};
use crate::limits::{ANSWER_TIME_MAX, PAGE_CASES};
use crate::views::{CaseFlag, CasePage, CaseView, HealthView, SystemView};
use crate::words;

/// Findings on a card; the page of the case has them all.
const ATTENTION_SHOWN: usize = 2;

pub(crate) async fn show(State(shared): State<Shared>, Extension(caller): Extension<Caller>) -> Response {
    let query = CaseQuery {
        limit: Some(PAGE_CASES),
        ..CaseQuery::default()
    };
    let late = CaseQuery {
        overdue: true,
        ..query.clone()
    };
    let waiting = CaseQuery {
        waiting: true,
        ..query.clone()
    };
    let asked = async {
        let late = crate::api::within(ANSWER_TIME_MAX, shared.backend.cases(&late)).await?;
        let waiting = crate::api::within(ANSWER_TIME_MAX, shared.backend.cases(&waiting)).await?;
        let cases = crate::api::within(ANSWER_TIME_MAX, shared.backend.cases(&query)).await?;
        let systems = crate::api::within(ANSWER_TIME_MAX, shared.backend.systems()).await?;
        let seen = Seen {
            late,
            waiting,
            cases,
            systems,
        };
        Ok((seen, shared.backend.ready().await))
    };
    match asked.await {
        Ok((seen, health)) => {
            let content = html! { (aged(shared.backend.cases_age())) (content(&seen, &health)) };
            page("Cases and systems", Some(&caller), true, &content).into_response()
        }
        Err(error) => problem(&error),
    }
}

/// What the page shows.
struct Seen {
    /// The overdue cases, however old: the newest of all cases need not hold them.
    late: CasePage,
    /// The cases that wait for a person, however old.
    waiting: CasePage,
    /// The newest of all cases.
    cases: CasePage,
    systems: Vec<SystemView>,
}

fn content(seen: &Seen, health: &HealthView) -> Markup {
    let now = now();
    let Seen {
        late,
        waiting,
        cases,
        systems,
    } = seen;
    let in_time: Vec<&CaseView> = waiting
        .cases
        .iter()
        .filter(|case| words::overdue(case, now).is_none())
        .collect();
    html! {
        h1.unseen { "Cases and systems" }
        div data-live="health" {
            @for part in health.parts.iter().filter(|part| !part.ok) {
                p.finding { strong { (part.what) } " " (part.detail) }
            }
        }
        div data-live="figures" { (figures(seen, now)) }
        div data-live="overdue" {
            @if !late.cases.is_empty() {
                section aria-labelledby="overdue" {
                    h2 id="overdue" { "Overdue" small { "the time to answer is over (Art. 12(3))" } }
                    div.tiles { @for case in &late.cases { (tile(case, now)) } }
                    @if late.next.is_some() { p.note { "More with " code { "lethe case list --overdue" } "." } }
                }
            }
        }
        div data-live="waiting" {
            @if !in_time.is_empty() {
                section aria-labelledby="waiting" {
                    h2 id="waiting" { "Waiting for you" }
                    div.tiles { @for case in in_time { (tile(case, now)) } }
                    @if waiting.next.is_some() { p.note { "More with " code { "lethe case list --waiting" } "." } }
                }
            }
        }
        section aria-labelledby="cases" {
            h2 id="cases" { "Cases" }
            div data-live="cases" { (table(cases, now)) }
            (opening(cases))
        }
        section aria-labelledby="systems" {
            h2 id="systems" { "Systems" }
            div.tiles data-live="systems" {
                @if systems.is_empty() { p.empty { "No system is configured yet." } }
                @for system in systems { (system_tile(system, now)) }
            }
        }
    }
}

fn figures(seen: &Seen, now: Timestamp) -> Markup {
    let Seen {
        late,
        waiting,
        cases,
        systems,
    } = seen;
    let open = cases.cases.iter().filter(|case| !case.state.is_ended()).count();
    let next = cases
        .cases
        .iter()
        .filter(|case| words::awaits_answer(case) && case.due > now)
        .map(|case| case.due)
        .min();
    let up = systems
        .iter()
        .filter(|system| matches!(words::system_state(system.state).1, words::Tone::Good))
        .count();
    html! {
        dl.figures {
            div { dt { "Open cases" } dd { (open) small { " of " (words::grouped(cases.total)) } } }
            div { dt { "Waiting for you" } dd { (waiting.cases.len()) @if waiting.next.is_some() { " and more" } } }
            @if !late.cases.is_empty() {
                div.bad { dt { "Answers overdue" } dd { (late.cases.len()) @if late.next.is_some() { " and more" } } }
            }
            div { dt { "Next answer due" } dd { @match next { Some(due) => (moment(due, now)), None => "none" } } }
            div { dt { "Systems up" } dd { (up) small { " of " (systems.len()) } } }
        }
    }
}

fn tile(case: &CaseView, now: Timestamp) -> Markup {
    html! {
        a class={ "tile " (words::case_tone(case.state).name()) } href={ "/cases/" (case.id) } {
            strong { (words::right(case.right)) }
            (badge(words::case_tone(case.state), words::standing(case)))
            code { (case.id) }
            span.whose {
                @if let Some(ground) = &case.ground { (words::norm(ground)) ", " }
                "received " (case.received_at.day()) ", " (moment(case.received_at, now))
                @if let Some(back) = &case.resurrection { "; nobody asked for it: data came back in " (back.system) }
            }
            span.why { (words::waits_for(case)) }
            @for attention in case.attention.iter().take(ATTENTION_SHOWN) { span.why { (super::attention(attention)) } }
            @if case.attention.len() > ATTENTION_SHOWN {
                span.why { "and " (words::counted((case.attention.len() - ATTENTION_SHOWN) as u64, "more finding")) }
            }
            (deadline(case, now))
            span.due { @if words::awaits_answer(case) && words::overdue(case, now).is_none() { "due " } (due(case, now)) }
        }
    }
}

fn table(cases: &CasePage, now: Timestamp) -> Markup {
    if cases.cases.is_empty() {
        return html! { p.empty { "No case yet. Open one below, or with " code { "lethe case open" } "." } };
    }
    html! {
        table.list {
            thead { tr { th { "Case" } th { "Right" } th { "State" } th { "Seen to be done" } th { "Received" } th { "Due" } } }
            tbody {
                @for case in &cases.cases {
                    @let verified = case.acting().filter(|step| step.state == lethe_terms::StepState::Verified).count();
                    tr {
                        td data-label="Case" { a href={ "/cases/" (case.id) } { code { (case.id) } } }
                        td data-label="Right" { (words::right(case.right)) }
                        td data-label="State" { (badge(words::case_tone(case.state), words::standing(case))) }
                        td data-label="Seen to be done" {
                            @if case.acting().next().is_none() { (words::no_steps(case)) } @else { (verified) " of " (words::counted(case.acting().count() as u64, "step")) }
                        }
                        td data-label="Received" { (moment(case.received_at, now)) }
                        td data-label="Due" { (due(case, now)) }
                    }
                }
            }
        }
        @if cases.next.is_some() {
            p.note { "The newest " (cases.cases.len()) " of " (words::grouped(cases.total)) " cases; " code { "lethe case list" } " shows all." }
        }
    }
}

fn due(case: &CaseView, now: Timestamp) -> Markup {
    html! {
        @if words::overdue(case, now).is_some() { (overdue(case, now)) }
        @else if words::awaits_answer(case) { (moment(case.due, now)) }
        @else { (words::due(case, now)) }
    }
}

/// The form that opens a case. Its key makes pressing the button twice the same as once.
fn opening(cases: &CasePage) -> Markup {
    let mut key = [0; 16];
    let key = getrandom::fill(&mut key)
        .map(|()| hex::encode(key))
        .unwrap_or_default();
    html! {
        details id="open" {
            summary { "Open a case" }
            form.card method="post" action="/cases" autocomplete="off" {
                input type="hidden" name="key" value=(key);
                label { "Right"
                    select name="right" {
                        @for right in lethe_terms::Right::ALL { option value=(right) { (words::right(*right)) } }
                    }
                }
                label { "Ground" small { "empty: 17-1-a for an erasure, 18-1-a for a restriction" }
                    input name="ground" placeholder="17-1-b" list="grounds";
                }
                datalist id="grounds" {
                    @for ground in lethe_terms::ErasureGround::CODES { option value=(ground) {} }
                    @for ground in lethe_terms::RestrictionGround::CODES { option value=(ground) {} }
                }
                (lineage::fields())
                label { "Received at, in UTC" small { "empty: now; the time to answer runs from then" }
                    input type="datetime-local" name="received_at";
                }
                label { "Supersedes" small { "an erasure for which the person gives up their own earlier restriction: its case; empty otherwise" }
                    input name="supersedes" placeholder="case-0123456789abcdef" pattern="case-[0-9a-f]{16}" list="restrictions" spellcheck="false";
                }
                datalist id="restrictions" {
                    @for case in cases.cases.iter().filter(|case| case.right == Right::Restriction && case.flags.contains(&CaseFlag::Restricted)) {
                        option value=(case.id) {}
                    }
                }
                button.main { "Open the case" }
            }
        }
    }
}

fn system_tile(system: &SystemView, now: Timestamp) -> Markup {
    let (state, tone) = words::system_state(system.state);
    html! {
        article class={ "tile system " (tone.name()) } {
            strong { (system.name) }
            (badge(tone, state))
            span.why { (system.kind) " · "
                @match system.last_feed_at { Some(at) => { "read " (moment(at, now)) }, None => "never read" }
                @if let Some(lag) = system.lag_ms { @if lag >= 1000 { " · " (words::span(lag)) " behind" } }
            }
            ul.datasets {
                @for dataset in &system.datasets {
                    li { span { (dataset.name) small { (dataset.unit) } }
                        span.count { @match dataset.records { Some(records) => (words::grouped(records)), None => "–" } } }
                }
            }
            @if system.quarantined > 0 {
                p.finding { (words::counted(system.quarantined, "input")) " in quarantine: could not be read" }
            }
            @for finding in system.findings.iter().filter(|finding| !finding.ok) {
                p.finding { strong { (finding.what) } " " (finding.detail) }
            }
        }
    }
}
