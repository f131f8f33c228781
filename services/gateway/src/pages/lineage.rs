//! Looking up a person: the identifiers go in the body, the answer shows kinds only.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use lethe_terms::{Identifier, IdentifierKind};
use maud::{Markup, html};

use super::{framed, page, problem};
use crate::body::check_identifiers;
use crate::context::{Caller, Shared};
use crate::limits::ANSWER_TIME_MAX;
use crate::pages::forms::Form;
use crate::picture::{Counted, lineage_picture};
use crate::problem::Problem;
use crate::views::LineageView;
use crate::words;

pub(crate) async fn ask(Extension(caller): Extension<Caller>) -> Html<String> {
    page("Look up a person", Some(&caller), false, &form())
}

pub(crate) async fn show(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Response {
    let asked = async {
        let form = Form::read(body).await?;
        let identifiers = form.identifiers()?;
        check_identifiers(&identifiers)?;
        let identifiers = identifiers.into_iter().map(Identifier::from).collect();
        crate::api::within(ANSWER_TIME_MAX, shared.backend.lineage(identifiers)).await
    };
    let view: Result<LineageView, Problem> = asked.await;
    match view {
        Ok(view) => page("A person's lineage", Some(&caller), false, &content(&view)).into_response(),
        Err(error) => problem(&error),
    }
}

/// Kind and value, three times: people rarely give more.
pub(crate) fn fields() -> Markup {
    html! {
        fieldset {
            legend { "What the person gave" }
            @for number in 0..3 {
                div.pair {
                    select name="kind" aria-label="Kind" {
                        @for kind in IdentifierKind::ALL {
                            option value=(kind) selected[number == 0 && *kind == IdentifierKind::Email] { (words::identifier_kind(*kind)) }
                        }
                    }
                    input name="value" aria-label="Value" required[number == 0] autocomplete="off" spellcheck="false";
                    input name="issuer" aria-label="Who gave the id" placeholder="issuer" title="Only of an id that the company did not give itself: the issuer that the system's configuration names" autocomplete="off" spellcheck="false";
                }
            }
        }
    }
}

fn form() -> Markup {
    html! {
        h1 { "Look up a person" }
        p.note { "Shows in which systems a person's records are, and why each belongs to them." }
        form.card method="post" action="/lineage" autocomplete="off" { (fields()) button.main { "Look up" } }
    }
}

fn content(view: &LineageView) -> Markup {
    let count: u64 = view.records.iter().map(|record| record.count).sum();
    html! {
        p.crumb { a href="/lineage" { "Look up another person" } }
        h1 { "A person's lineage" small { (words::counted(view.records.len() as u64, "record")) ", " (words::rows(count)) " in them" } }
        @if let Some(code) = &view.cut_off {
            section.alarm role="alert" { h2 { "This is not everything" } p { "The walk came to a bound before it had reached all (" code { (code) } "): what is missing is unknown, not absent." } }
        } @else if !view.complete {
            section.alarm role="alert" { h2 { "This is not everything" } p { "A part of lineage lags behind, or a system was not read to its end: what is missing is unknown, not absent." } }
        }
        @if view.candidates_behind_shared > 0 {
            p.note { (words::behind_shared(view.candidates_behind_shared)) }
        }
        @if view.quarantined > 0 {
            p.note { (words::counted(view.quarantined, "input")) " in quarantine may hide records of this person." }
        }
        @if view.records.is_empty() { p.empty { "No record of this person is known." } }
        @else {
            p.note { (words::RECORD) " Plans count records, too." }
            (framed(&lineage_picture(view, Counted::Rows)))
            section {
                h2 { "Records" small { "each listed once" } }
                table.list {
                    thead { tr { th { "System" } th { "Dataset" } th { "Rows or lines" } th { "Reached by" } th { "Link that could be cut" } } }
                    tbody { @for record in &view.records { tr {
                        td data-label="System" { (record.system) }
                        td data-label="Dataset" { (record.dataset) }
                        td.number data-label="Rows or lines" { (words::grouped(record.count)) }
                        td data-label="Reached by" { (words::path(&record.path)) }
                        td data-label="Link that could be cut" { @match &record.link { Some(link) => code { (link) }, None => "none alone" } }
                    } } }
                }
            }
        }
    }
}
