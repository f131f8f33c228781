//! The HTTP API under `/v1/`.

use std::future::Future;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use lethe_terms::Identifier;
use url::form_urlencoded;

use crate::asks::{Approve, CaseQuery, Close, FindLineage, Lift, Nothing, OpenCase, QuarantineQuery};
use crate::backend::{BackendError, Document};
use crate::body::{
    Asked, CaseOf, CertificateOf, Commanded, PositionOf, SystemOf, check_identifiers, check_request, nearest,
};
use crate::callbacks;
use crate::context::{Context, Shared};
use crate::events;
use crate::limits::{ANSWER_TIME_MAX, CHECK_TIME_MAX, PAGE_CASES_MAX, WAIT_MAX};
use crate::problem::Problem;
use crate::views::{
    AcceptedView, CasePage, CaseView, ConformanceView, LineageView, PartitionList, PlanView, QuarantineList,
    QuarantinedInput, QuarantinedView, RetriedView, ScanView, SystemList, TopicList,
};

/// The routes of the API.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/v1/cases", get(cases).post(open_case))
        .route("/v1/cases/{id}", get(case))
        .route("/v1/cases/{id}/plan", get(plan))
        .route("/v1/cases/{id}/approve", post(approve))
        .route("/v1/cases/{id}/withdraw", post(withdraw))
        .route("/v1/cases/{id}/lift", post(lift))
        .route("/v1/cases/{id}/replan", post(replan))
        .route("/v1/cases/{id}/close", post(close))
        .route("/v1/cases/{id}/certificate", get(certificate))
        .route(
            "/v1/cases/{id}/certificates/{certificate}",
            get(earlier_certificate),
        )
        .route("/v1/cases/{id}/opening", get(opening))
        .route("/v1/lineage", post(lineage))
        .route("/v1/partitions", get(partitions))
        .route("/v1/topics", get(topics))
        .route("/v1/systems", get(systems))
        .route("/v1/systems/{name}/check", post(system_check))
        .route("/v1/systems/{name}/scan", get(scan).post(start_scan))
        .route("/v1/systems/{name}/conformance", post(connector_check))
        .route("/v1/quarantine", get(quarantine))
        .route("/v1/quarantine/{position}", get(quarantined))
        .route("/v1/quarantine/{position}/drop", post(drop_quarantined))
        .route("/v1/quarantine/{position}/retry", post(retry_quarantined))
        .route("/v1/events", post(events::publish))
        .route("/v1/intake-keys", get(events::intake_keys))
        .route("/v1/intake-keys/renew", post(events::renew_intake_key))
        .route(
            "/v1/callbacks/{system}/{instruction}",
            post(callbacks::called_back),
        )
        .route("/v1/policy", get(policy))
        .route("/v1/openapi.json", get(async || Json(crate::openapi::openapi())))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Waits for the backend within a time; an answer that does not come is unknown, not a failure.
pub(crate) async fn within<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, Problem> {
    let told = (
        "no answer in time",
        "the same request again: it changes nothing, or has the effect of once",
    );
    in_time(time, told, answer).await
}

/// As [`within`], of a command on a case: it may have happened, and its key makes a repeat harmless.
pub(crate) async fn commanded<T>(
    answer: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, Problem> {
    let told = (
        "no answer in time: whether it happened is unknown",
        "a look at the case, or the same request again with the same Idempotency-Key",
    );
    in_time(ANSWER_TIME_MAX, told, answer).await
}

/// The answer, or what is told and expected where none comes in time.
async fn in_time<T>(
    time: Duration,
    (title, expected): (&str, &'static str),
    answer: impl Future<Output = Result<T, BackendError>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer.map_err(Problem::from),
        Err(_) => {
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "gateway-no-answer", title).expected(expected))
        }
    }
}

pub(crate) async fn brief<T>(answer: impl Future<Output = Result<T, BackendError>>) -> Result<T, Problem> {
    within(ANSWER_TIME_MAX, answer).await
}

/// An answer about cases, and for how many seconds what happened may be missing in it (`Age`, RFC 9111 section 5.1).
struct Aged<T>(Duration, T);

impl<T: IntoResponse> IntoResponse for Aged<T> {
    fn into_response(self) -> Response {
        let Self(age, answer) = self;
        ([(header::AGE, age.as_secs().to_string())], answer).into_response()
    }
}

fn accepted(view: AcceptedView) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(&view)).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/cases/{}", view.case)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

pub(crate) fn document(document: Document, name: &str) -> Response {
    let mut response = Response::new(Body::from(document.bytes));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(document.media_type),
    );
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// Splits a query into pairs and refuses names that are not known.
fn pairs(query: Option<String>, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .into_owned()
        .collect();
    for (name, _) in &pairs {
        if !known.contains(&name.as_str()) {
            return Err(Problem::malformed("query", nearest(name, known)));
        }
    }
    Ok(pairs)
}

fn truth(place: &'static str, value: &str) -> Result<bool, Problem> {
    value
        .parse()
        .map_err(|_| Problem::malformed(place, "true or false"))
}

fn limit(value: &str) -> Result<u32, Problem> {
    value
        .parse()
        .ok()
        .filter(|limit| (1..=PAGE_CASES_MAX).contains(limit))
        .ok_or_else(|| Problem::malformed("query: limit", format!("1 to {PAGE_CASES_MAX}")))
}

async fn cases(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Aged<Json<CasePage>>, Problem> {
    let mut asked = CaseQuery::default();
    for (name, value) in pairs(query, &["state", "right", "overdue", "waiting", "page", "limit"])? {
        match name.as_str() {
            "state" => {
                let state = value.parse().map_err(|error: lethe_terms::UnknownWord| {
                    Problem::malformed("query: state", format!("one of {}", error.known))
                })?;
                asked.state = Some(state);
            }
            "right" => {
                let right = value.parse().map_err(|error: lethe_terms::UnknownWord| {
                    Problem::malformed("query: right", format!("one of {}", error.known))
                })?;
                asked.right = Some(right);
            }
            "overdue" => asked.overdue = truth("query: overdue", &value)?,
            "waiting" => asked.waiting = truth("query: waiting", &value)?,
            "limit" => asked.limit = Some(limit(&value)?),
            _ => asked.page = Some(value),
        }
    }
    let age = shared.backend.cases_age();
    let page = brief(shared.backend.cases(&asked)).await?;
    Ok(Aged(age, Json(page)))
}

async fn case(
    State(shared): State<Shared>,
    CaseOf(id): CaseOf,
    RawQuery(query): RawQuery,
) -> Result<Aged<Json<CaseView>>, Problem> {
    let (mut wait, mut after) = (None, None);
    for (name, value) in pairs(query, &["wait_ms", "after"])? {
        let number: u64 = value
            .parse()
            .map_err(|_| Problem::malformed(format!("query: {name}"), "a number, in digits"))?;
        if name == "wait_ms" {
            wait = Some(Duration::from_millis(number).min(WAIT_MAX));
        } else {
            after = Some(number);
        }
    }
    let Some(wait) = wait else {
        let age = shared.backend.cases_age();
        let case = brief(shared.backend.case(id)).await?;
        return Ok(Aged(age, Json(case)));
    };
    let Ok(_place) = shared.waiting_places.try_acquire() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "gateway-overloaded",
            "too many wait for cases",
        )
        .expected("another try a little later, or the case without wait_ms"));
    };
    let case = within(wait + ANSWER_TIME_MAX, shared.backend.wait_case(id, after, wait)).await?;
    // It was looked at last when it changed, or a moment ago.
    Ok(Aged(shared.backend.cases_age(), Json(case)))
}

async fn plan(State(shared): State<Shared>, CaseOf(id): CaseOf) -> Result<Aged<Json<PlanView>>, Problem> {
    let age = shared.backend.cases_age();
    let plan = brief(shared.backend.plan(id)).await?;
    Ok(Aged(age, Json(plan)))
}

/// Checks what an opening says beyond its form.
pub(crate) fn check_opening(ask: &OpenCase) -> Result<(), Problem> {
    check_request(ask)?;
    ask.checked_ground()
        .map_err(|expected| Problem::malformed("body: ground", expected))?;
    if ask.supersedes.is_some() && ask.right != lethe_terms::Right::Erasure {
        return Err(Problem::malformed(
            "body: supersedes",
            "nothing, unless the right is erasure",
        ));
    }
    Ok(())
}

async fn open_case(
    State(shared): State<Shared>,
    Commanded { ask, command }: Commanded<OpenCase>,
) -> Result<Response, Problem> {
    check_opening(&ask)?;
    commanded(shared.backend.open_case(command, ask))
        .await
        .map(accepted)
}

async fn approve(
    State(shared): State<Shared>,
    CaseOf(id): CaseOf,
    Commanded { ask, command }: Commanded<Approve>,
) -> Result<Response, Problem> {
    check_digest(&ask.plan_digest)?;
    commanded(shared.backend.approve(command, id, &ask.plan_digest))
        .await
        .map(accepted)
}

pub(crate) fn check_digest(digest: &str) -> Result<(), Problem> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(Problem::malformed(
        "body: plan_digest",
        "sha256: and 64 hexadecimal digits",
    ))
}

async fn withdraw(
    State(shared): State<Shared>,
    CaseOf(id): CaseOf,
    Commanded { command, .. }: Commanded<Nothing>,
) -> Result<Response, Problem> {
    commanded(shared.backend.withdraw(command, id))
        .await
        .map(accepted)
}

async fn lift(
    State(shared): State<Shared>,
    CaseOf(id): CaseOf,
    Commanded { ask, command }: Commanded<Lift>,
) -> Result<Response, Problem> {
    commanded(shared.backend.lift(command, id, ask.notified_at))
        .await
        .map(accepted)
}

async fn replan(
    State(shared): State<Shared>,
    CaseOf(id): CaseOf,
    Commanded { command, .. }: Commanded<Nothing>,
) -> Result<Response, Problem> {
    commanded(shared.backend.replan(command, id)).await.map(accepted)
}

async fn close(
    State(shared): State<Shared>,
    CaseOf(id): CaseOf,
    Commanded { ask, command }: Commanded<Close>,
) -> Result<Response, Problem> {
    commanded(shared.backend.close(command, id, ask.reason))
        .await
        .map(accepted)
}

async fn certificate(State(shared): State<Shared>, CaseOf(id): CaseOf) -> Result<Response, Problem> {
    let bytes = brief(shared.backend.certificate(id, None)).await?;
    Ok(document(bytes, &format!("{id}.certificate.json")))
}

async fn earlier_certificate(
    State(shared): State<Shared>,
    CertificateOf { case, certificate }: CertificateOf,
) -> Result<Response, Problem> {
    let bytes = brief(shared.backend.certificate(case, Some(&certificate))).await?;
    Ok(document(bytes, &format!("{case}.{certificate}.json")))
}

async fn opening(State(shared): State<Shared>, CaseOf(id): CaseOf) -> Result<Response, Problem> {
    let bytes = brief(shared.backend.opening(id)).await?;
    Ok(document(bytes, &format!("{id}.opening.json")))
}

async fn policy(State(shared): State<Shared>) -> Result<Response, Problem> {
    Ok(document(brief(shared.backend.policy()).await?, "lethe.policy"))
}

async fn lineage(
    State(shared): State<Shared>,
    Asked(ask): Asked<FindLineage>,
) -> Result<Json<LineageView>, Problem> {
    check_identifiers(&ask.identifiers)?;
    let identifiers = ask.identifiers.into_iter().map(Identifier::from).collect();
    brief(shared.backend.lineage(identifiers)).await.map(Json)
}

async fn partitions(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Json<PartitionList>, Problem> {
    let mut hash = false;
    for (_, value) in pairs(query, &["hash"])? {
        hash = value
            .parse()
            .map_err(|_| Problem::malformed("query: hash", "true or false"))?;
    }
    let time = if hash { CHECK_TIME_MAX } else { ANSWER_TIME_MAX };
    within(time, shared.backend.partitions(hash)).await.map(Json)
}

async fn topics(State(shared): State<Shared>) -> Result<Json<TopicList>, Problem> {
    brief(shared.backend.topics()).await.map(Json)
}

async fn systems(State(shared): State<Shared>) -> Result<Json<SystemList>, Problem> {
    brief(shared.backend.systems())
        .await
        .map(|systems| Json(SystemList { systems }))
}

async fn system_check(
    State(shared): State<Shared>,
    SystemOf(name): SystemOf,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Problem> {
    within(CHECK_TIME_MAX, shared.backend.system_check(&name))
        .await
        .map(|view| Json(view).into_response())
}

async fn start_scan(
    State(shared): State<Shared>,
    SystemOf(name): SystemOf,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Response, Problem> {
    let view = brief(shared.backend.start_scan(&name)).await?;
    Ok((StatusCode::ACCEPTED, Json(view)).into_response())
}

async fn scan(State(shared): State<Shared>, SystemOf(name): SystemOf) -> Result<Json<ScanView>, Problem> {
    brief(shared.backend.scan(&name)).await.map(Json)
}

async fn connector_check(
    State(shared): State<Shared>,
    SystemOf(name): SystemOf,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<ConformanceView>, Problem> {
    within(CHECK_TIME_MAX, shared.backend.connector_check(&name))
        .await
        .map(Json)
}

async fn quarantine(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Json<QuarantineList>, Problem> {
    let mut asked = QuarantineQuery::default();
    for (name, value) in pairs(query, &["system", "before", "limit"])? {
        match name.as_str() {
            "limit" => asked.limit = Some(limit(&value)?),
            "before" => {
                let wrong = || Problem::malformed("query: before", "a number of the quarantine, in digits");
                asked.before = Some(value.parse().map_err(|_| wrong())?);
            }
            _ => asked.system = Some(value),
        }
    }
    brief(shared.backend.quarantine(&asked)).await.map(Json)
}

async fn quarantined(
    State(shared): State<Shared>,
    PositionOf(position): PositionOf,
) -> Result<Json<QuarantinedInput>, Problem> {
    brief(shared.backend.quarantined(position)).await.map(Json)
}

async fn drop_quarantined(
    State(shared): State<Shared>,
    PositionOf(position): PositionOf,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<QuarantinedView>, Problem> {
    brief(shared.backend.drop_quarantined(position)).await.map(Json)
}

async fn retry_quarantined(
    State(shared): State<Shared>,
    PositionOf(position): PositionOf,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<RetriedView>, Problem> {
    brief(shared.backend.retry_quarantined(position)).await.map(Json)
}

pub(crate) fn well(view: crate::views::HealthView) -> Response {
    let status = if view.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(view)).into_response()
}

async fn healthz(State(shared): State<Shared>) -> Response {
    well(shared.backend.health().await)
}

async fn readyz(State(shared): State<Shared>) -> Response {
    well(shared.backend.ready().await)
}

/// The backend's metrics, then the server's own.
async fn metrics(State(shared): State<Shared>) -> Response {
    let Context { backend, meter, .. } = &*shared;
    let mut text = backend.metrics().await;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&meter.text());
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
