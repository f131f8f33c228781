//! What stands before every route: places, who calls, from which site, and the headers of every answer.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use crate::callbacks;
use crate::context::{Caller, Context, Shared};
use crate::pages;
use crate::problem::Problem;

/// Name of the session's cookie. `__Host-` makes browsers hold it to this host, with TLS only.
pub(crate) const fn cookie_name(tls: bool) -> &'static str {
    if tls { "__Host-lethe" } else { "lethe" }
}

/// Headers of every answer: no content of others, no framing, no sniffing, no addresses passed on, nothing kept.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // To other sites nothing; to our own the browser then names its origin with a form instead of `null`.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cache-control", "no-store"),
];

/// Counts, bounds and dresses every request.
pub(crate) async fn outer(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let mut response = match shared.places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "gateway-overloaded",
            "too many requests at the same time; nothing was done",
        )
        .expected("another try a little later")
        .into_response(),
    };
    dress(response.headers_mut(), shared.tls);
    shared
        .meter
        .count(&route, response.status().as_u16(), began.elapsed());
    response
}

/// Adds what every answer has.
pub(crate) fn dress(headers: &mut HeaderMap, tls: bool) {
    for (name, value) in HEADERS {
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    }
    if tls {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
}

/// Lets pass who may call, from where they may.
pub(crate) async fn inner(State(shared): State<Shared>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_api = path.starts_with("/v1/") || path == "/metrics";
    let is_public = matches!(path, "/healthz" | "/readyz" | "/login")
        || path.starts_with("/assets/")
        || path.starts_with(callbacks::PLACE);
    if let Err(problem) = same_site(&shared, &request, is_api) {
        return refused(problem, is_api);
    }
    match caller(&shared, request.headers(), is_api) {
        Some(caller) if !is_public && !may(&shared, &caller, path) => {
            let problem = Problem::new(
                StatusCode::FORBIDDEN,
                "gateway-publisher-only",
                "the key is a publisher's, and may only publish events",
            )
            .at("header authorization")
            .expected("a key that stands in the api_keys of no system");
            return refused(problem, is_api);
        }
        Some(caller) => {
            request.extensions_mut().insert(caller);
        }
        None if is_public => {}
        None if !is_api && request.method() == Method::GET => return Redirect::to("/login").into_response(),
        None => {
            let problem = Problem::new(
                StatusCode::UNAUTHORIZED,
                "gateway-wrong-key",
                "no API key, or one that is not known",
            )
            .at("header authorization")
            .expected("Bearer and a key whose digest stands in the server's key file");
            return refused(problem, is_api);
        }
    }
    next.run(request).await
}

/// Addresses that a publisher needs.
const PUBLISHING: [&str; 2] = ["/v1/events", "/v1/intake-keys"];

/// Whether the key may do what stands at this address.
fn may(shared: &Context, caller: &Caller, path: &str) -> bool {
    let is_publisher = caller
        .known()
        .is_some_and(|name| shared.publishers.contains(name));
    !is_publisher || PUBLISHING.contains(&path)
}

fn refused(problem: Problem, is_api: bool) -> Response {
    if is_api {
        problem.into_response()
    } else {
        pages::problem(&problem)
    }
}

/// Who calls, where that is enough.
fn caller(shared: &Context, headers: &HeaderMap, is_api: bool) -> Option<Caller> {
    let Some(keys) = &shared.keys else {
        return Some(Caller::Open);
    };
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            let (scheme, secret) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
        });
    if let Some(secret) = bearer {
        return keys.name_of(secret).map(|name| Caller::Known(name.to_owned()));
    }
    if is_api {
        return None;
    }
    let secret = session(shared.tls, headers)?;
    shared.sessions.name_of(secret, Instant::now()).map(Caller::Known)
}

/// The secret of the session that the browser names.
pub(crate) fn session(tls: bool, headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie_name(tls))
        .map(|(_, secret)| secret)
}

/// Refuses what another site's page sends, and names of this machine that are not its own.
fn same_site(shared: &Context, request: &Request, is_api: bool) -> Result<(), Problem> {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").unwrap_or_default();
    // Without keys the only guard is that the caller is on this machine: a page whose name was made to point here is not.
    if shared.keys.is_none() && !is_own_name(host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "gateway-wrong-host",
            "refused: the server is open on loopback only",
        )
        .at("header host")
        .expected("localhost or a loopback address"));
    }
    if request.method().is_safe() {
        return Ok(());
    }
    let is_own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    let same = match (text("origin"), text("sec-fetch-site")) {
        // Only the browser itself can write this header; a form of our own may still name no origin (Fetch, "append a request Origin header").
        (None | Some("null"), Some(site)) => matches!(site, "same-origin" | "none"),
        (Some(origin), Some(site)) => is_own(origin) && matches!(site, "same-origin" | "none"),
        (Some(origin), None) => is_own(origin),
        // A program, not a browser: it may use the API, and forms are for browsers.
        (None, None) => is_api,
    };
    if same {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "gateway-other-site",
        "refused: the request comes from another site",
    )
    .at("header origin")
    .expected("a form of this server's own pages"))
}

fn is_own_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .is_some_and(|name| {
                name.parse::<Ipv6Addr>()
                    .is_ok_and(|address| address.is_loopback())
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in [
            "localhost",
            "localhost:7380",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:7380",
            "[::1]",
        ] {
            assert!(is_own_name(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "10.0.0.1",
            "::1",
        ] {
            assert!(!is_own_name(other), "{other}");
        }
    }
}
