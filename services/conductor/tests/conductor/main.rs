//! The conductor in a small company in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod additions;
mod change;
mod clock;
mod crash;
mod damage;
mod erasure;
mod observing;
mod parts;
mod restriction;
mod sharing;
mod superseding;
mod walking;
mod walks;
mod world;
