//! The repository's own rules, as tests.
//!
//! Each rule is a function from text to violations, so that it can be shown to fail on a planted one; `tests/repository.rs` runs them all on the
//! repository as it stands.

pub mod repository;
pub mod rules;
pub mod source;

use std::fmt;

/// A broken rule, with its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// File, from the repository's root.
    pub file: String,
    /// Line, from 1; 0 where the whole file is meant.
    pub line: usize,
    /// Name of the rule.
    pub rule: &'static str,
    /// What is wrong and what to do.
    pub what: String,
}

impl Violation {
    /// A violation at a line.
    pub fn new(file: &str, line: usize, rule: &'static str, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            rule,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// All violations, one a line.
pub fn listed(violations: &[Violation]) -> String {
    violations.iter().map(|v| format!("\n  {v}")).collect()
}
