//! One suite per port, stamped on every implementation and on deliberately wrong ones.

pub mod event_log;
pub mod store;
