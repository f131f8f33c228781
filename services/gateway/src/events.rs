//! Publishing: what programs say of the records of their own system, and the keys that they seal to.

use std::fmt;
use std::io::Read as _;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::MultiGzDecoder;
use lethe_exchange::{KeyId, PublicKey};
use lethe_terms::Timestamp;
use schemars::JsonSchema;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _, Serialize};
use serde_json::value::RawValue;

use crate::api::brief;
use crate::asks::Nothing;
use crate::body::{Asked, read_up_to};
use crate::context::{Caller, Shared};
use crate::limits::{EVENTS_BYTES_MAX, EVENTS_MAX};
use crate::problem::Problem;

/// One after the other, each on a line.
const NDJSON: &str = "application/x-ndjson";

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum EventResult {
    /// It is durably on the log and will be taken in.
    Accepted,
    /// It was accepted before; nothing was done.
    Repeated,
    /// It was not taken, and will not be.
    Refused {
        /// Stable code, with a page in ops/errors.
        code: String,
        /// Where, such as `data.identifiers[0].kind`.
        place: String,
        /// What was expected.
        expected: String,
    },
}

/// What became of the events of a batch, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventResults {
    /// One result for each event.
    pub results: Vec<EventResult>,
}

/// A key that publishers seal to: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305 (RFC 9180).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntakeKeyView {
    /// The beginning of the SHA-256 of the key.
    pub id: KeyId,
    /// The key.
    pub public_key: PublicKey,
    /// When it was made.
    pub made_at: Timestamp,
    /// Until when to seal to it; fetch the keys again before.
    pub seal_until: Timestamp,
}

/// The keys that publishers may seal to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntakeKeyList {
    /// HPKE's `info` of every session.
    pub info: String,
    /// The keys, the newest first: that is the one to use.
    pub keys: Vec<IntakeKeyView>,
}

pub(crate) async fn publish(
    State(shared): State<Shared>,
    caller: Option<Extension<Caller>>,
    request: Request,
) -> Result<Json<EventResults>, Problem> {
    let Ok(_place) = shared.publishing_places.try_acquire() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "gateway-overloaded",
            "too many publish at the same time; nothing was done",
        )
        .expected("the same batch again a little later"));
    };
    let (parts, body) = request.into_parts();
    let is_lines = is_lines(&parts.headers)?;
    let bytes = unpacked(&parts.headers, body).await?;
    let events = if is_lines { lines(&bytes)? } else { listed(&bytes)? };
    if events.is_empty() {
        return Err(wrong_number());
    }
    let caller = caller.and_then(|Extension(caller)| caller.known().map(str::to_owned));
    let results = brief(shared.backend.publish(caller.as_deref(), events)).await?;
    Ok(Json(EventResults { results }))
}

pub(crate) async fn intake_keys(State(shared): State<Shared>) -> Result<Json<IntakeKeyList>, Problem> {
    brief(shared.backend.intake_keys()).await.map(Json)
}

pub(crate) async fn renew_intake_key(
    State(shared): State<Shared>,
    Asked(Nothing {}): Asked<Nothing>,
) -> Result<Json<IntakeKeyList>, Problem> {
    brief(shared.backend.renew_intake_key()).await.map(Json)
}

/// Whether the body is lines; otherwise it is a list of JSON. A browser can send neither across sites without asking.
fn is_lines(headers: &HeaderMap) -> Result<bool, Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let kind = kind
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    match kind.as_str() {
        NDJSON => Ok(true),
        "application/json" | "application/cloudevents-batch+json" => Ok(false),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "gateway-not-json",
            "the body is not declared as events",
        )
        .at("header content-type")
        .expected(format!(
            "application/json, application/cloudevents-batch+json or {NDJSON}"
        ))),
    }
}

/// The body, unpacked where it came packed; both within the limit.
async fn unpacked(headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let coding = headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or_default());
    let packed = read_up_to(body, EVENTS_BYTES_MAX).await?;
    match coding {
        None | Some("identity") => Ok(packed),
        Some("gzip") => unzipped(&packed),
        Some(_) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "gateway-not-json",
            "the body is packed in a way that is not known",
        )
        .at("header content-encoding")
        .expected("gzip, or none")),
    }
}

fn unzipped(packed: &[u8]) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(EVENTS_BYTES_MAX).unwrap_or(u64::MAX);
    // Read one byte beyond: a small body that unpacks into gigabytes ends here.
    let read = MultiGzDecoder::new(packed)
        .take(limit + 1)
        .read_to_end(&mut bytes);
    read.map_err(|_| Problem::malformed("body", "gzip (RFC 1952)"))?;
    if bytes.len() > EVENTS_BYTES_MAX {
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "gateway-too-large",
            "the body is too large once it is unpacked",
        )
        .expected(format!("at most {EVENTS_BYTES_MAX} bytes")));
    }
    Ok(bytes.into())
}

fn wrong_number() -> Problem {
    Problem::malformed("body", format!("1 to {EVENTS_MAX} events"))
}

/// Counted before anything is copied.
fn lines(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
    let lines: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .take(EVENTS_MAX + 1)
        .collect();
    if lines.len() > EVENTS_MAX {
        return Err(wrong_number());
    }
    Ok(lines.into_iter().map(<[u8]>::to_vec).collect())
}

fn listed(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
    let mut are_too_many = false;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let list = List {
        are_too_many: &mut are_too_many,
    };
    let read = reader
        .deserialize_seq(list)
        .and_then(|events| reader.end().map(|()| events));
    let events = read.map_err(|error| {
        if are_too_many {
            return wrong_number();
        }
        let place = format!("body, line {}, column {}", error.line(), error.column());
        Problem::malformed(place, "a list of events in well-formed JSON")
    })?;
    Ok(events
        .into_iter()
        .map(|event| event.get().as_bytes().to_vec())
        .collect())
}

/// Reads a list of events, and no further than one beyond the most: millions of small elements take more memory than the body.
struct List<'n> {
    are_too_many: &'n mut bool,
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut events = Vec::new();
        while let Some(event) = elements.next_element()? {
            if events.len() == EVENTS_MAX {
                *self.are_too_many = true;
                return Err(A::Error::custom("too many events"));
            }
            events.push(event);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is expected in place of this body.
    fn expected(read: Result<Vec<Vec<u8>>, Problem>) -> String {
        format!("{:?}", read.unwrap_err())
    }

    #[test]
    fn reading_ends_one_event_beyond_the_most() {
        let many = "0,".repeat(EVENTS_MAX);
        let most = format!("[{}]", many.trim_end_matches(','));
        assert_eq!(listed(most.as_bytes()).unwrap().len(), EVENTS_MAX);
        // Nothing behind the event that is one too many is looked at, not even whether it is JSON.
        let said = expected(listed(format!("[{many}0,?").as_bytes()));
        assert!(said.contains("1 to 1000 events"), "{said}");
        let said = expected(listed(format!("{most}?").as_bytes()));
        assert!(said.contains("well-formed JSON"), "{said}");
        let said = expected(listed(b"{}"));
        assert!(said.contains("well-formed JSON"), "{said}");
    }

    #[test]
    fn lines_are_counted_before_they_are_copied() {
        let most = "0\n \n".repeat(EVENTS_MAX);
        assert_eq!(lines(most.as_bytes()).unwrap().len(), EVENTS_MAX);
        let said = expected(lines(format!("{most}0").as_bytes()));
        assert!(said.contains("1 to 1000 events"), "{said}");
    }
}
