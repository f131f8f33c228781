//! PostgreSQL and SQLite behind a declarative mapping.
//!
//! A mapping names tables, how they hang together, which columns hold identifiers and what each verb does. It is compared with the live catalogue
//! before anything else happens. An instruction is one transaction with its receipt inside; looking again goes by other statements over connections of
//! their own. README.md beside this crate has the format.

mod catalog;
mod config;
mod connector;
mod db;
mod error;
mod feed;
mod key;
mod mail;
mod model;
mod observe;
mod own;
mod perform;
mod phone;
mod read;
mod resolve;
mod rules;
mod sought;
mod statement;
mod theirs;

pub use config::{ChildConfig, Config, EraseRow, Kind, RestrictConfig, UnitConfig, Url};
pub use connector::{SqlConnector, connect};
pub use error::{Error, Problem};
