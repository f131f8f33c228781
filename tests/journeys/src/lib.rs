//! A small company with Lethe in it: its systems, its operator, the real program, and an auditor who looks for himself afterwards.
//!
//! What the tests of whole cases share. A helper that cannot go on has failed the test that called it, so it panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "helpers of tests fail by a panic"
)]

pub mod company;
pub mod course;
pub mod office;
pub mod server;
