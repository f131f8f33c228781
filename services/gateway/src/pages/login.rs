//! Logging in with an API key: the key is exchanged for a short session, which lives in memory only.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use maud::html;

use super::{page, problem};
use crate::context::Shared;
use crate::guard::{cookie_name, session};
use crate::limits::SESSION_TIME_MAX;
use crate::pages::forms::Form;
use crate::problem::Problem;

pub(crate) async fn ask(State(shared): State<Shared>) -> Response {
    if shared.keys.is_none() {
        return Redirect::to("/").into_response();
    }
    form(false).into_response()
}

fn form(wrong: bool) -> Html<String> {
    let content = html! {
        form.card.login method="post" action="/login" {
            h1 { "Log in" }
            @if wrong { p.finding role="alert" { "This key is not known to the server." } }
            label { "API key" input type="password" name="key" required autofocus autocomplete="off"; }
            button.main { "Log in" }
            p.note { "The session ends after " (SESSION_TIME_MAX.as_secs() / 60) " minutes, or when the server stops." }
        }
    };
    page("Log in", None, false, &content)
}

pub(crate) async fn enter(State(shared): State<Shared>, body: Body) -> Response {
    let form_sent = match Form::read(body).await {
        Ok(form) => form,
        Err(error) => return problem(&error),
    };
    let secret = form_sent.first("key").unwrap_or_default();
    let name = shared.keys.as_ref().and_then(|keys| keys.name_of(secret.trim()));
    let Some(name) = name else {
        return (StatusCode::UNAUTHORIZED, form(true)).into_response();
    };
    let Some(session) = shared.sessions.open(name, Instant::now()) else {
        return problem(&Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "gateway-no-entropy",
            "no random bytes from the operating system",
        ));
    };
    with_cookie(shared.tls, &session, SESSION_TIME_MAX.as_secs(), "/")
}

pub(crate) async fn leave(State(shared): State<Shared>, request: Request) -> Response {
    if let Some(secret) = session(shared.tls, request.headers()) {
        shared.sessions.end(secret);
    }
    with_cookie(shared.tls, "", 0, "/login")
}

fn with_cookie(tls: bool, secret: &str, seconds: u64, to: &str) -> Response {
    let secure = if tls { "; Secure" } else { "" };
    let name = cookie_name(tls);
    let cookie = format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut response = Redirect::to(to).into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}
