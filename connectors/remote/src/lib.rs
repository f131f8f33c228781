//! A program in any language as a connector.
//!
//! Each call of the contract is one message to the program and one answer: signed, over HTTP, or sealed, over topics of Kafka. What the program is trusted with, and what is checked
//! of what it says, stands in README.md beside this crate; the messages are in [`message`], their AsyncAPI document in [`asyncapi`].

mod answers;
mod asyncapi;
mod callback;
mod config;
mod connector;
mod error;
mod manifest;
pub mod message;
mod pages;
mod sealed;
pub mod webhook;
mod wire;
mod words;

pub use asyncapi::asyncapi;
pub use callback::CallbackKeys;
pub use config::{Config, Over};
pub use connector::{RemoteConnector, connect, connect_over};
pub use error::Error;
pub use sealed::{Carrier, NotCarried, REQUEST_BYTES_MAX};
