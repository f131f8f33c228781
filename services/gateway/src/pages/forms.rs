//! What the dashboard's buttons do: the same commands as the API's, with the same checks.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Redirect, Response};
use lethe_terms::{CaseId, CommandId, Timestamp};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::problem;
use crate::api::{check_digest, check_opening, commanded, document, within};
use crate::asks::{CLOSE_REASONS, IdentifierAsk, OpenCase};
use crate::body::{CaseOf, CertificateOf, command_id, read};
use crate::context::{Caller, Shared};
use crate::limits::ANSWER_TIME_MAX;
use crate::problem::Problem;
use crate::views::AcceptedView;
use crate::words::Move;

/// How long a button waits for its effect to show, so that the next page shows it: most take a few milliseconds.
const SHOW_WAIT: Duration = Duration::from_millis(300);

/// What a field of a moment takes.
const A_MOMENT: &str = "a date and a time of day, in UTC";

/// What a form sent.
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
    digest: String,
}

impl Form {
    pub(crate) async fn read(body: Body) -> Result<Self, Problem> {
        let bytes = read(body).await?;
        Ok(Self {
            pairs: form_urlencoded::parse(&bytes).into_owned().collect(),
            digest: hex::encode(Sha256::digest(&bytes)),
        })
    }

    /// The first value of a field, where it is not empty.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.trim())
            .filter(|value| !value.is_empty())
    }

    fn wanted(&self, name: &'static str, expected: &str) -> Result<&str, Problem> {
        self.first(name)
            .ok_or_else(|| Problem::malformed(format!("form: {name}"), expected))
    }

    /// The pairs of kind and value that are filled in.
    pub(crate) fn identifiers(&self) -> Result<Vec<IdentifierAsk>, Problem> {
        let values = |name: &'static str| {
            self.pairs
                .iter()
                .filter(move |(known, _)| known == name)
                .map(|(_, value)| value)
        };
        let mut identifiers = Vec::new();
        let issuers = values("issuer")
            .map(|issuer| issuer.trim())
            .chain(std::iter::repeat(""));
        for ((kind, value), issuer) in values("kind").zip(values("value")).zip(issuers) {
            if value.trim().is_empty() {
                continue;
            }
            let kind = kind.parse().map_err(|error: lethe_terms::UnknownWord| {
                Problem::malformed("form: kind", format!("one of {}", error.known))
            })?;
            let issuer = Some(issuer).filter(|issuer| !issuer.is_empty());
            let issuer = issuer.map(str::parse).transpose();
            identifiers.push(IdentifierAsk {
                kind,
                value: value.trim().to_owned(),
                issuer: issuer.map_err(|error: lethe_terms::NameError| {
                    Problem::malformed("form: issuer", error.expected)
                })?,
            });
        }
        Ok(identifiers)
    }

    /// A moment in UTC, where one is filled in.
    fn moment(&self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let read = |text| told_at(text).ok_or_else(|| Problem::malformed(format!("form: {name}"), A_MOMENT));
        self.first(name).map(read).transpose()
    }

    fn supersedes(&self) -> Result<Option<CaseId>, Problem> {
        let expected = "a case id: case- and 16 hexadecimal digits, or nothing";
        let read = |text: &str| {
            text.parse()
                .map_err(|_| Problem::malformed("form: supersedes", expected))
        };
        self.first("supersedes").map(read).transpose()
    }

    /// The id of the command: the same page and the same entries give the same one, so that pressing twice is once.
    fn command(&self, shared: &Shared, caller: &Caller, path: &str) -> Result<CommandId, Problem> {
        let page = self
            .first("key")
            .or_else(|| self.first("revision"))
            .unwrap_or_default();
        let key = format!("page-{page}-{}", self.digest);
        command_id(shared, caller.name(), path, Some(&key), self.digest.as_bytes())
    }
}

fn shown(result: Result<CaseId, Problem>) -> Response {
    match result {
        Ok(id) => Redirect::to(&format!("/cases/{id}")).into_response(),
        Err(error) => problem(&error),
    }
}

/// Waits a little until the case shows what the button did; the page is right without it, only older.
async fn settle(shared: &Shared, form: &Form, id: CaseId) {
    let revision = form.first("revision").and_then(|text| text.parse().ok());
    let _ = tokio::time::timeout(SHOW_WAIT, shared.backend.wait_case(id, revision, SHOW_WAIT)).await;
}

pub(crate) type Parts = (State<Shared>, Extension<Caller>, Uri, Result<CaseOf, Problem>);

/// Reads the form and the command of a button of a case.
async fn pressed(parts: Parts, body: Body) -> Result<(Shared, Form, CommandId, CaseId), Problem> {
    let (State(shared), Extension(caller), uri, id) = parts;
    let CaseOf(id) = id?;
    let form = Form::read(body).await?;
    let command = form.command(&shared, &caller, uri.path())?;
    Ok((shared, form, command, id))
}

pub(crate) async fn open_case(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Response {
    let done = async {
        let form = Form::read(body).await?;
        let right = form.wanted("right", "erasure or restriction")?.parse().map_err(
            |error: lethe_terms::UnknownWord| {
                Problem::malformed("form: right", format!("one of {}", error.known))
            },
        )?;
        let ask = OpenCase {
            right,
            identifiers: form.identifiers()?,
            ground: form.first("ground").map(str::to_owned),
            supersedes: form.supersedes()?,
            received_at: form.moment("received_at")?,
        };
        check_opening(&ask)?;
        let command = form.command(&shared, &caller, uri.path())?;
        let accepted = commanded(shared.backend.open_case(command, ask)).await?;
        settle(&shared, &form, accepted.case).await;
        Ok(accepted.case)
    };
    shown(done.await)
}

/// A button of a case: reads its form, does what it says, and shows the case, with the effect where that comes at once.
pub(crate) async fn press(button: Move, parts: Parts, body: Body) -> Response {
    let done = async {
        let (shared, form, command, id) = pressed(parts, body).await?;
        carry_out(button, &shared, &form, command, id).await?;
        settle(&shared, &form, id).await;
        Ok(id)
    };
    shown(done.await)
}

async fn carry_out(
    button: Move,
    shared: &Shared,
    form: &Form,
    command: CommandId,
    id: CaseId,
) -> Result<AcceptedView, Problem> {
    let backend = &shared.backend;
    match button {
        Move::Approve => {
            let digest = form.wanted("plan_digest", "the digest of the plan")?;
            check_digest(digest)?;
            commanded(backend.approve(command, id, digest)).await
        }
        Move::Withdraw => commanded(backend.withdraw(command, id)).await,
        Move::Lift => {
            let notified_at = form
                .moment("notified_at")?
                .ok_or_else(|| Problem::malformed("form: notified_at", A_MOMENT))?;
            commanded(backend.lift(command, id, notified_at)).await
        }
        Move::Replan => commanded(backend.replan(command, id)).await,
        Move::Close => {
            let known = CLOSE_REASONS.map(|(_, code, _)| code).join(", ");
            let word = form.wanted("reason", &known)?;
            let (reason, _, _) = CLOSE_REASONS
                .into_iter()
                .find(|(_, code, _)| *code == word)
                .ok_or_else(|| Problem::malformed("form: reason", format!("one of {known}")))?;
            commanded(backend.close(command, id, reason)).await
        }
    }
}

/// Browsers send a moment without seconds and zone; the form says that it is UTC.
fn told_at(text: &str) -> Option<Timestamp> {
    [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")]
        .iter()
        .find_map(|text| text.parse().ok())
}

pub(crate) async fn certificate(State(shared): State<Shared>, id: Result<CaseOf, Problem>) -> Response {
    let done = async {
        let CaseOf(id) = id?;
        let bytes = within(ANSWER_TIME_MAX, shared.backend.certificate(id, None)).await?;
        Ok(document(bytes, &format!("{id}.certificate.json")))
    };
    done.await.unwrap_or_else(|error: Problem| problem(&error))
}

pub(crate) async fn earlier_certificate(
    State(shared): State<Shared>,
    named: Result<CertificateOf, Problem>,
) -> Response {
    let done = async {
        let CertificateOf { case, certificate } = named?;
        let asked = shared.backend.certificate(case, Some(&certificate));
        let bytes = within(ANSWER_TIME_MAX, asked).await?;
        Ok(document(bytes, &format!("{case}.{certificate}.json")))
    };
    done.await.unwrap_or_else(|error: Problem| problem(&error))
}

pub(crate) async fn opening(State(shared): State<Shared>, id: Result<CaseOf, Problem>) -> Response {
    let done = async {
        let CaseOf(id) = id?;
        let bytes = within(ANSWER_TIME_MAX, shared.backend.opening(id)).await?;
        Ok(document(bytes, &format!("{id}.opening.json")))
    };
    done.await.unwrap_or_else(|error: Problem| problem(&error))
}

pub(crate) async fn policy(State(shared): State<Shared>) -> Response {
    match within(ANSWER_TIME_MAX, shared.backend.policy()).await {
        Ok(bytes) => document(bytes, "lethe.policy"),
        Err(error) => problem(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_a_form_is_read_with_and_without_zone() {
        for text in ["2026-11-24T12:00", "2026-11-24T12:00:00", "2026-11-24T12:00:00Z"] {
            assert_eq!(told_at(text).unwrap().to_string(), "2026-11-24T12:00:00.000Z");
        }
        assert_eq!(told_at("yesterday"), None);
    }
}
