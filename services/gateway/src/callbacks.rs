//! Callbacks: the program of a remote connector says that it is done with an instruction that it had taken. It has no API key; its signature is
//! what counts, and the backend checks it.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use lethe_terms::{InstructionId, SystemName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::within;
use crate::body::read;
use crate::context::Shared;
use crate::limits::ANSWER_TIME_MAX;
use crate::problem::Problem;

/// Where callbacks come in.
pub(crate) const PLACE: &str = "/v1/callbacks/";

/// A callback as it came: nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// The system.
    pub system: SystemName,
    /// The instruction.
    pub instruction: InstructionId,
    /// Header `webhook-id`.
    pub id: String,
    /// Header `webhook-timestamp`.
    pub timestamp: String,
    /// Header `webhook-signature`.
    pub signature: String,
    /// The body, which only its signature is about.
    pub body: Vec<u8>,
}

/// What came of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallbackView {
    /// Whether Lethe asks the program now. Where it does not, it does not know of the ticket yet: call back again a little later.
    pub asks: bool,
}

pub(crate) async fn called_back(
    State(shared): State<Shared>,
    Path((system, instruction)): Path<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Json<CallbackView>), Problem> {
    let system = system
        .parse()
        .map_err(|_| Problem::malformed("path", "a system name"))?;
    let instruction = instruction
        .parse()
        .map_err(|_| Problem::malformed("path", "an instruction id: ins- and 32 hexadecimal digits"))?;
    let (parts, body) = request.into_parts();
    let callback = Callback {
        system,
        instruction,
        id: only(&parts.headers, "webhook-id")?,
        timestamp: only(&parts.headers, "webhook-timestamp")?,
        signature: only(&parts.headers, "webhook-signature")?,
        body: read(body).await?,
    };
    let view = within(ANSWER_TIME_MAX, shared.backend.called_back(callback)).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

fn only(headers: &HeaderMap, name: &'static str) -> Result<String, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => Ok(value.to_owned()),
        _ => Err(Problem::malformed(
            format!("header {name}"),
            "it once, as Standard Webhooks has it",
        )),
    }
}
