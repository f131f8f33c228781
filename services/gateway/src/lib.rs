//! The HTTP API, the dashboard, and the client that the command line uses.
//!
//! The gateway knows HTTP, pages and pictures; it knows nothing of log, lineage or cases' rules: all that stands behind
//! [`Backend`], which the node implements. What it shows is in [`views`], what it takes in [`asks`]; both are the same for
//! API, dashboard and command line, and make the OpenAPI document.
//!
//! ```text
//!   request -> places, headers (guard) -> host, site, key (guard) -> api | pages -> Backend
//! ```

mod accept;
mod api;
pub mod asks;
pub mod backend;
mod body;
mod callbacks;
pub mod client;
mod context;
mod error;
pub mod events;
#[cfg(feature = "fake")]
pub mod fake;
mod guard;
mod keys;
pub mod limits;
mod meter;
mod openapi;
mod pages;
mod picture;
mod problem;
mod serve;
pub mod views;
pub mod words;

pub use accept::Bounded;
pub use backend::{Backend, BackendError, Document};
pub use callbacks::{Callback, CallbackView};
pub use error::Error;
pub use keys::{Keys, NewKey, new_key};
pub use openapi::openapi;
pub use picture::{lineage_dot, lineage_svg};
pub use problem::Problem;
pub use serve::{Listening, Options, Running, TlsFiles, listen_until_served, serve};
