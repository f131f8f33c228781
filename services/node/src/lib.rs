//! Roles, wiring and the lethe program.

pub mod cli;
