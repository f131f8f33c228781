//! Roles, wiring and the lethe program.

pub mod cli;

mod backend;
mod board;
mod callbacks;
mod carrying;
mod case_keys;
mod case_list;
mod cases;
mod cluster;
mod conductor_shell;
mod conformance;
mod connect;
mod connector_shell;
mod error;
mod evidence;
mod follow_ups;
mod following;
mod inventories;
mod issuers;
mod janitor;
mod lag;
mod ledger_shell;
mod lineage;
mod log;
mod looks;
mod metrics;
#[cfg(test)]
mod nothing_known;
mod offline;
mod patience;
mod poison;
mod processes;
mod publish;
mod published;
mod quarantine;
mod readiness;
mod receipts;
mod recent;
mod remote_topics;
mod roles;
mod rounds;
mod running;
mod scans;
mod server;
mod settings;
mod shell;
mod standby;
mod strays;
mod systems;
#[cfg(test)]
mod test_world;
mod views;
mod waits;
mod walker;

pub use connect::{Kinds, Unopened};
pub use error::Error;
pub use offline::{Diagnosis, doctor, replay};
pub use roles::{Role, Roles};
pub use server::{serve, told_to_stop};
pub use settings::Settings;
