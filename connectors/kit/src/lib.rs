//! The connector contract, its host, and the conformance suite.
//!
//! A connector is object-safe and async: plain values in and out, no retries, no clock, no logging of identifiers.
//! The contract's numbered MUSTs stand in CONTRACT.md beside this crate, and the suite executes them number by number.

mod contract;
pub mod host;
pub mod memory;
pub mod suite;

pub use contract::{
    Ask, Connector, DatasetManifest, Error, FeedPage, Finding, Located, Manifest, Observation, Observed,
    Page, Performed, Receipt, RecordName, Rejected, Selected, Selector,
};
pub use host::{Call, Count, Host};
