//! Reading what a client sent: bounded in size and time, and with errors that name the place and never the value.

use std::str::FromStr;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use lethe_terms::{CaseId, CommandId, SystemName};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::asks::{IDENTIFIER_BYTES_MAX, IDENTIFIERS_MAX, IdentifierAsk, OpenCase};
use crate::context::{Caller, Shared, now};
use crate::limits::{BODY_BYTES_MAX, BODY_TIME_MAX, KEY_BYTES_MAX};
use crate::problem::Problem;

/// Names that may stand in a place: ours, never a client's.
const NAMES: [&str; 10] = [
    "right",
    "identifiers",
    "kind",
    "value",
    "ground",
    "supersedes",
    "received_at",
    "plan_digest",
    "notified_at",
    "reason",
];

/// Longest id of a certificate in a path: ours have 32 characters.
const CERTIFICATE_ID_BYTES_MAX: usize = 64;

/// A body that only asks.
pub(crate) struct Asked<T>(pub(crate) T);

/// A body that commands, with the id that makes repeating it harmless.
pub(crate) struct Commanded<T> {
    /// What is commanded.
    pub(crate) ask: T,
    /// The command.
    pub(crate) command: CommandId,
}

/// The case that the path names.
pub(crate) struct CaseOf(pub(crate) CaseId);

/// The case that the path names, and one of its certificates.
pub(crate) struct CertificateOf {
    /// The case.
    pub(crate) case: CaseId,
    /// Id of the certificate: in characters that are safe in a file name.
    pub(crate) certificate: String,
}

/// The system that the path names.
pub(crate) struct SystemOf(pub(crate) String);

/// The number in the quarantine that the path names.
pub(crate) struct PositionOf(pub(crate) u64);

/// What the path names; the problem says what was expected there.
async fn in_path<T: FromStr>(parts: &mut Parts, shared: &Shared, expected: &str) -> Result<T, Problem> {
    let named = Path::<String>::from_request_parts(parts, shared).await.ok();
    named
        .and_then(|Path(text)| text.parse().ok())
        .ok_or_else(|| Problem::malformed("path", expected))
}

impl FromRequestParts<Shared> for PositionOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        in_path(parts, shared, "a number of the quarantine, in digits")
            .await
            .map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        json_only(&parts.headers, &bytes)?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Commanded<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let key = idempotency_key(&parts.headers)?;
        let bytes = read(body).await?;
        json_only(&parts.headers, &bytes)?;
        let ask = parse(&bytes)?;
        let caller = parts.extensions.get::<Caller>().map_or("", Caller::name);
        let command = command_id(shared, caller, parts.uri.path(), key.as_deref(), &bytes)?;
        Ok(Self { ask, command })
    }
}

impl FromRequestParts<Shared> for CaseOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        in_path(parts, shared, "a case id: case- and 16 hexadecimal digits")
            .await
            .map(Self)
    }
}

impl FromRequestParts<Shared> for CertificateOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let named = Path::<(String, String)>::from_request_parts(parts, shared)
            .await
            .ok();
        let is_id = |text: &str| {
            let mut bytes = text.bytes();
            (1..=CERTIFICATE_ID_BYTES_MAX).contains(&text.len())
                && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        named
            .filter(|Path((_, certificate))| is_id(certificate))
            .and_then(|Path((case, certificate))| {
                let case = case.parse().ok()?;
                Some(Self { case, certificate })
            })
            .ok_or_else(|| {
                let expected = "a case id and the id of one of its certificates, as the case lists them";
                Problem::malformed("path", expected)
            })
    }
}

impl FromRequestParts<Shared> for SystemOf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Problem> {
        let expected = "a system name: at most 63 of a-z, 0-9, '-', '_' and '.', a letter first";
        let name: SystemName = in_path(parts, shared, expected).await?;
        Ok(Self(name.as_str().to_owned()))
    }
}

/// Reads a body within its limits of size and time.
pub(crate) async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    read_up_to(body, BODY_BYTES_MAX).await.map(|bytes| bytes.to_vec())
}

/// Reads a body of at most so many bytes.
pub(crate) async fn read_up_to(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "gateway-too-large",
            "the body is too large",
        )
        .expected(format!("at most {bytes_max} bytes"))
    };
    match tokio::time::timeout(BODY_TIME_MAX, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // A body that ends early cannot be told apart from one over the limit here, and its sender is gone anyway.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "gateway-too-slow",
            "the body did not arrive in time",
        )
        .expected(format!("the whole body within {} s", BODY_TIME_MAX.as_secs()))),
    }
}

/// A browser can send other types across sites without asking; JSON it cannot.
fn json_only(headers: &HeaderMap, bytes: &[u8]) -> Result<(), Problem> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        });
    if json || bytes.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "gateway-not-json",
        "the body is not declared as JSON",
    )
    .at("header content-type")
    .expected("application/json"))
}

/// Reads JSON. No body counts as an empty object.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes: &[u8] = match bytes.trim_ascii_start() {
        _ if bytes.is_empty() => b"{}",
        // The parser takes a list for an object's values in their order; here it is refused as `null` is.
        [b'[', ..] => b"null",
        _ => bytes,
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let names: Vec<String> = error.path().iter().map(segment).collect();
        explain(error.inner(), &names.concat())
    })?;
    reader.end().map_err(|error| explain(&error, ""))?;
    Ok(value)
}

fn segment(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("[{index}]"),
        Segment::Map { key } if NAMES.contains(&key.as_str()) => format!(".{key}"),
        _ => String::new(),
    }
}

/// Says what was expected, without the value: of the parser's text only what follows its last `expected`, which is ours.
fn explain(error: &serde_json::Error, path: &str) -> Problem {
    let path = path.trim_start_matches('.');
    let mut place = format!("body, line {}, column {}", error.line(), error.column());
    if !path.is_empty() {
        place = format!("{place}: {path}");
    }
    if !error.is_data() {
        return Problem::malformed(place, "well-formed JSON");
    }
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(before, _)| before);
    let expected = text
        .rfind("expected ")
        .and_then(|at| text.get(at + "expected ".len()..));
    if text.starts_with("unknown field") {
        let known: Vec<&str> = expected
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        let written = text.split('`').nth(1).unwrap_or_default();
        return Problem::malformed(place, nearest(written, &known));
    }
    if text.starts_with("missing field") || text.starts_with("duplicate field") {
        let field = text.split('`').nth(1).unwrap_or_default();
        return Problem::malformed(place, format!("exactly one field `{field}`"));
    }
    Problem::malformed(place, expected.unwrap_or("another value"))
}

/// Names the known word that is nearest to what was written.
pub(crate) fn nearest(written: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "no field at all".to_owned();
    }
    let near = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(written, word), *word))
        .min()
        .filter(|(distance, word)| *distance <= word.len().max(3) / 2 + 1);
    let known = known.join("`, `");
    match near {
        Some((_, word)) => format!("a known name; the nearest is `{word}`, known are `{known}`"),
        None => format!("a known name: `{known}`"),
    }
}

/// Checks whom an opening is about and when it was asked for.
pub(crate) fn check_request(ask: &OpenCase) -> Result<(), Problem> {
    check_identifiers(&ask.identifiers)?;
    ask.check_reach()
        .map_err(|expected| Problem::malformed("body: identifiers", expected))?;
    ask.check_received(now())
        .map_err(|expected| Problem::malformed("body: received_at", expected))
}

/// Checks the identifiers of a request against their limits.
pub(crate) fn check_identifiers(identifiers: &[IdentifierAsk]) -> Result<(), Problem> {
    if identifiers.is_empty() || identifiers.len() > IDENTIFIERS_MAX {
        return Err(Problem::malformed(
            "body: identifiers",
            format!("1 to {IDENTIFIERS_MAX} identifiers"),
        ));
    }
    for (index, identifier) in identifiers.iter().enumerate() {
        let value = identifier.value.trim();
        if value.is_empty() || value.len() > IDENTIFIER_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(Problem::malformed(
                format!("body: identifiers[{index}].value"),
                format!("1 to {IDENTIFIER_BYTES_MAX} bytes without control characters"),
            ));
        }
        if identifier.issuer.is_some() && !identifier.kind.is_issued() {
            return Err(Problem::malformed(
                format!("body: identifiers[{index}].issuer"),
                format!(
                    "no issuer, which an identifier of the kind {} has not",
                    identifier.kind
                ),
            ));
        }
    }
    Ok(())
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| {
        !text.is_empty() && text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        Problem::malformed(
            "header idempotency-key",
            format!("1 to {KEY_BYTES_MAX} visible ASCII characters without blanks, such as a UUID"),
        )
    })
}

/// The id of a command: from the key that the client chose, so that repeating it repeats the id, or at random.
pub(crate) fn command_id(
    shared: &Shared,
    caller: &str,
    path: &str,
    key: Option<&str>,
    body: &[u8],
) -> Result<CommandId, Problem> {
    let Some(key) = key else {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "gateway-no-entropy",
                "no random bytes from the operating system",
            )
        })?;
        return Ok(CommandId::from_bytes(id));
    };
    Ok(shared.backend.command_id(&[caller, path, key], body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asks::{Approve, FindLineage, Lift, Nothing};

    fn check<T: DeserializeOwned>(body: &str, expected: &str) {
        let problem = parse::<T>(body.as_bytes())
            .err()
            .map(|problem| problem.sentence())
            .unwrap_or_default();
        assert!(problem.contains(expected), "{body}: {problem}");
        assert!(
            !problem.contains("ada"),
            "an error repeats what was sent: {problem}"
        );
    }

    #[test]
    fn an_error_names_the_place_and_what_was_expected_and_never_what_was_sent() {
        check::<OpenCase>(r#"{"right":"ada"}"#, "`erasure` or `restriction`");
        check::<OpenCase>(
            r#"{"right":"erasure","identifiers":[{"kind":"ada"}]}"#,
            "identifiers[0].kind",
        );
        check::<OpenCase>(r#"{"rihgt":"ada"}"#, "the nearest is `right`");
        check::<OpenCase>(r#"{"ada@example.org":1}"#, "a known name");
        check::<OpenCase>(r#"{"right":"erasure"}"#, "exactly one field `identifiers`");
        check::<OpenCase>(
            r#"{"right":"erasure","right":"erasure"}"#,
            "exactly one field `right`",
        );
        check::<OpenCase>(
            r#"{"right":"erasure","identifiers":"ada, expected ada"}"#,
            "a sequence",
        );
        check::<OpenCase>(
            r#"{"right":"erasure","identifiers":[],"supersedes":"ada"}"#,
            "case- and 16 hexadecimal digits",
        );
        check::<OpenCase>(r#"{"right":"#, "well-formed JSON");
        check::<Approve>(r#"{"plan_digest":"sha256:00"} ada"#, "well-formed JSON");
    }

    #[test]
    fn what_is_no_object_is_told_in_plain_words_what_an_object_holds() {
        for body in ["[]", "null", "\"ada\"", "7", "true", " [\"ada\"]"] {
            check::<OpenCase>(
                body,
                "expected a JSON object with `right`, `identifiers` and, where wanted, `ground`",
            );
            check::<FindLineage>(body, "a JSON object with `identifiers`");
            check::<Approve>(body, "a JSON object with `plan_digest`");
            check::<Lift>(body, "a JSON object with `notified_at`");
            check::<Nothing>(body, "an empty JSON object");
        }
        // A list is not an object, however well its values would fit.
        check::<OpenCase>(
            r#"["erasure",[{"kind":"email","value":"ada@example.org"}]]"#,
            "a JSON object",
        );
        check::<OpenCase>(
            r#"{"right":"erasure","identifiers":[null]}"#,
            "identifiers[0]; expected a JSON object with `kind`, `value` and",
        );
    }
}
