//! What a client is told when something is not done: problem details after RFC 9457, with a stable code.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backend::BackendError;

/// Media type of problem details (RFC 9457, 6.1).
pub(crate) const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Code of a server that starts and takes nothing yet.
pub(crate) const STARTING: &str = "gateway-starting";

/// A problem. Holds no personal data and nothing that the client sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:lethe:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened, in words.
    pub title: Box<str>,
    /// The HTTP status.
    pub status: u16,
    /// Stable code, with a page in ops/errors.
    pub code: String,
    /// Where, such as `body, line 1, column 9: identifiers[0].kind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<str>>,
    /// What was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Box<str>>,
}

impl Problem {
    /// A problem with a code and a title.
    pub fn new(status: StatusCode, code: impl Into<String>, title: impl Into<Box<str>>) -> Self {
        let code = code.into();
        Self {
            kind: format!("urn:lethe:problem:{code}"),
            title: title.into(),
            status: status.as_u16(),
            code,
            place: None,
            expected: None,
        }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: impl Into<Box<str>>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<Box<str>>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Something malformed at a place.
    pub(crate) fn malformed(place: impl Into<Box<str>>, expected: impl Into<Box<str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "gateway-malformed", "malformed request")
            .at(place)
            .expected(expected)
    }

    /// The HTTP status.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Title, place and expectation on one line.
    pub fn sentence(&self) -> String {
        let mut text = self.title.to_string();
        if let Some(place) = &self.place {
            text.push_str(", at ");
            text.push_str(place);
        }
        if let Some(expected) = &self.expected {
            text.push_str("; expected ");
            text.push_str(expected);
        }
        text
    }
}

impl From<BackendError> for Problem {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::NotFound { what } => Self::new(
                StatusCode::NOT_FOUND,
                "gateway-not-found",
                format!("no such {what}"),
            ),
            BackendError::Conflict { code, message } => Self::new(StatusCode::CONFLICT, code, message),
            BackendError::Invalid {
                code,
                message,
                expected,
            } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message).expected(expected),
            BackendError::Unavailable { code, message } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
            }
            // 504: the one status that says "sent on, and no answer came".
            BackendError::Unknown { code, message } => Self::new(StatusCode::GATEWAY_TIMEOUT, code, message),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status_code();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"lethe\""),
            );
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
