//! The rules, each from text to violations.

pub mod arrows;
pub mod codes;
pub mod compose;
pub mod marks;
pub mod members;
pub mod purity;
pub mod size;
pub mod words;
