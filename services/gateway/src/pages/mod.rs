//! The dashboard: pages made on the server, readable without scripts; a small one of ours keeps them current.

mod case;
mod forms;
mod lineage;
mod login;
mod overview;

use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use lethe_terms::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::context::{Caller, Shared, now};
use crate::picture::{Mark, Picture, draw};
use crate::problem::Problem;
use crate::views::{AttentionView, CaseView};
use crate::words::{self, Move, Tone};

/// The routes of the dashboard.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(overview::show))
        .route("/cases", post(forms::open_case))
        .route("/cases/{id}", get(case::show))
        .route("/cases/{id}/approve", button(Move::Approve))
        .route("/cases/{id}/withdraw", button(Move::Withdraw))
        .route("/cases/{id}/lift", button(Move::Lift))
        .route("/cases/{id}/replan", button(Move::Replan))
        .route("/cases/{id}/close", button(Move::Close))
        .route("/cases/{id}/certificate", get(forms::certificate))
        .route(
            "/cases/{id}/certificates/{certificate}",
            get(forms::earlier_certificate),
        )
        .route("/cases/{id}/opening", get(forms::opening))
        .route("/policy", get(forms::policy))
        .route("/lineage", get(lineage::ask).post(lineage::show))
        .route("/login", get(login::ask).post(login::enter))
        .route("/logout", post(login::leave))
        .route(
            "/assets/lethe.css",
            get(async || asset("text/css; charset=utf-8", STYLE)),
        )
        .route(
            "/assets/live.js",
            get(async || asset("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route("/assets/lethe.svg", get(async || asset("image/svg+xml", ICON)))
}

fn button(item: Move) -> MethodRouter<Shared> {
    post(move |state, caller, uri, id, body| forms::press(item, (state, caller, uri, id), body))
}

const STYLE: &str = concat!(
    include_str!("../assets/theme.css"),
    include_str!("../assets/picture.css"),
    include_str!("../assets/lethe.css")
);
const SCRIPT: &str = include_str!("../assets/live.js");
const ICON: &str = include_str!("../assets/lethe.svg");

fn asset(media_type: &'static str, text: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, media_type),
            (header::CACHE_CONTROL, "max-age=300"),
        ],
        text,
    )
        .into_response()
}

/// A page with its frame. `live` says whether it changes by itself.
fn page(title: &str, caller: Option<&Caller>, live: bool, content: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Lethe" }
                link rel="stylesheet" href="/assets/lethe.css";
                link rel="icon" type="image/svg+xml" href="/assets/lethe.svg";
                @if live {
                    noscript { meta http-equiv="refresh" content="10"; }
                    script src="/assets/live.js" defer {}
                }
            }
            body {
                a.skip href="#content" { "To the content" }
                header.top {
                    a.brand href="/" { (PreEscaped(ICON)) span { "Lethe" } }
                    @if let Some(caller) = caller {
                        nav aria-label="Pages" {
                            a href="/" { "Cases and systems" }
                            a href="/lineage" { "Look up a person" }
                        }
                        @if let Caller::Known(name) = caller {
                            form.leave method="post" action="/logout" { span { (name) } button.plain { "Log out" } }
                        }
                    }
                }
                main id="content" { (content) }
                footer {
                    "Shown from the log, in UTC. Personal identifiers are shown by kind, never by value."
                }
            }
        }
    };
    Html(page.into_string())
}

/// That what is shown of cases is old, where it is.
fn aged(age: Duration) -> Markup {
    html! {
        div data-live="age" {
            @if let Some(words) = words::aged(age) { p.finding { strong { "cases" } " " (words) } }
        }
    }
}

/// A problem as a page.
pub(crate) fn problem(problem: &Problem) -> Response {
    let content = html! {
        section.card.problem {
            h1 { "That did not work" }
            p { (problem.title) "." }
            dl {
                @if let Some(place) = &problem.place { dt { "Where" } dd { (place) } }
                @if let Some(expected) = &problem.expected { dt { "Expected" } dd { (expected) } }
                dt { "Code" } dd { code { (problem.code) } }
            }
            p { a href="/" { "Back to cases and systems" } }
        }
    };
    (
        problem.status_code(),
        page("That did not work", None, false, &content),
    )
        .into_response()
}

/// A state: mark, then words.
fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.name()) } { (Mark::of(tone).draw(0.0, 0.0)) (text) } }
}

/// What a person has to look at, in words, with the code by which ops/errors explains it.
fn attention(attention: &AttentionView) -> Markup {
    html! {
        strong { (attention.system) @if let Some(dataset) = &attention.dataset { " / " (dataset) } } ": "
        (words::attention(&attention.code)) " " code { (attention.code) }
    }
}

/// A moment, with the whole of it on demand.
fn moment(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at.minute()) { (words::distance(at, now)) } }
}

/// That the answer is overdue, where it is: in words, since a colour alone says nothing to many.
fn overdue(case: &CaseView, now: Timestamp) -> Markup {
    html! { @if let Some(by) = words::overdue(case, now) { (badge(Tone::Bad, &by)) } }
}

/// A picture that scrolls sideways where it is wider than the page; reachable by keyboard. A shadow at an edge says that there is more behind it,
/// and narrow pages say it in words.
fn framed(picture: &Picture) -> Markup {
    let label = format!("{}, scrolls sideways", picture.title);
    html! {
        div.frame tabindex="0" role="group" aria-label=(label) { (draw(picture, false)) }
        p.note.sideways { span aria-hidden="true" { "\u{2190} \u{2192} " } "The picture goes on sideways: swipe or scroll it, or focus it and use the arrow keys." }
    }
}

/// The time to answer as a bar: how much of it is gone. None where no answer is to be given any more.
fn deadline(case: &CaseView, now: Timestamp) -> Markup {
    if !words::awaits_answer(case) {
        return html! {};
    }
    let whole = case.due.since(case.received_at).max(1);
    let gone = now.since(case.received_at).clamp(0, whole);
    let width = gone as f64 / whole as f64 * 1000.0;
    let class = if now >= case.due {
        "bad"
    } else if width > 750.0 {
        "waiting"
    } else {
        "good"
    };
    html! {
        svg class={ "deadline " (class) } viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="1000" height="10" {}
            rect.gone width=(format!("{width:.0}")) height="10" {}
        }
    }
}
