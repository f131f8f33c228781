//! A program in any language as a connector.
//!
//! Each call of the contract is one signed message to the program and one signed answer. What the program is trusted with, and what is checked
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
pub mod webhook;
mod wire;
mod words;

pub use asyncapi::asyncapi;
pub use callback::CallbackKeys;
pub use config::Config;
pub use connector::{RemoteConnector, connect};
pub use error::Error;
