//! Web-server logs of nginx and Apache as a system of personal data.
//!
//! Follows the logs through rotation and compression, finds people in addresses, user names, requests and referrers, erases and restricts their lines
//! while the server writes, and looks again. README.md of this crate has the configuration, what is guaranteed, and the limits.

mod beginning;
mod check;
mod config;
mod connector;
mod copy;
mod drain;
mod error;
mod feed;
mod files;
mod history;
mod identify;
mod line;
mod log;
mod long;
mod matcher;
mod names;
mod observe;
mod perform;
mod record;
mod rewrite;
mod running;
mod search;
mod side;
mod sieve;
mod state;
mod writers;

#[cfg(test)]
mod tests;

pub use config::{Config, EraseMode, IpMode, LogConfig};
pub use connector::{WeblogConnector, open};
pub use error::Error;
