//! What goes wrong, in this crate's words and in the contract's.

use std::fmt;

use lethe_kit::Error as Failure;

use crate::db::FileReplaced;

/// One thing that is wrong with a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, with a page in ops/errors.
    pub code: &'static str,
    /// Where, such as `unit account: accounts.email`.
    pub place: String,
    /// What is wrong and what was expected.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.place, self.expected, self.code)
    }
}

/// Why a database could not be taken into service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration itself is wrong.
    #[error("{what}: expected {expected}")]
    Config {
        /// The setting.
        what: String,
        /// What would have been right.
        expected: String,
    },
    /// The mapping does not fit the database; everything that is wrong with it at once.
    #[error("the mapping does not fit the database: {}", list(.0))]
    Mapping(Vec<Problem>),
    /// The database cannot be reached or refuses.
    #[error("{0}")]
    Database(Failure),
}

impl Error {
    /// Stable code, with a page in ops/errors. Of several problems the first one's.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "sql-config",
            Self::Mapping(problems) => problems.first().map_or("sql-config", |p| p.code),
            Self::Database(failure) => failure.code(),
        }
    }
}

fn list(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// How far a call had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing can have happened: no COMMIT was sent.
    Before,
    /// COMMIT was sent.
    Commit,
}

fn transient(code: &'static str, reason: impl Into<String>) -> Failure {
    Failure::Transient {
        code,
        reason: reason.into(),
    }
}

fn permanent(code: &'static str, reason: impl Into<String>) -> Failure {
    Failure::Permanent {
        code,
        reason: reason.into(),
    }
}

fn commit_unanswered() -> Failure {
    let reason = "the connection was lost while the transaction was being committed".to_owned();
    Failure::Unknown {
        code: "sql-commit-unanswered",
        reason,
    }
}

/// A failure of the database in the contract's words. The database's own text is never passed on: it may quote values.
pub(crate) fn failure(error: &sqlx::Error, stage: Stage) -> Failure {
    if stage == Stage::Commit && !matches!(error, sqlx::Error::Database(_)) {
        return commit_unanswered();
    }
    match error {
        // A server that was told to stop while it committed may have committed.
        sqlx::Error::Database(database)
            if stage == Stage::Commit
                && database
                    .code()
                    .is_some_and(|c| c.starts_with("57") || c.starts_with("08")) =>
        {
            commit_unanswered()
        }
        sqlx::Error::Database(database) => {
            let place = match (database.table(), database.constraint()) {
                (Some(table), Some(constraint)) => format!("table {table}, constraint {constraint}"),
                (Some(table), None) => format!("table {table}"),
                (None, Some(constraint)) => format!("constraint {constraint}"),
                (None, None) => "the database".to_owned(),
            };
            database_failure(database.code().as_deref().unwrap_or(""), &place)
        }
        sqlx::Error::PoolTimedOut
        | sqlx::Error::Io(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => transient(
            "sql-unreachable",
            "the database cannot be reached: expected a running server at the configured URL",
        ),
        sqlx::Error::PoolClosed => transient("sql-unreachable", "the connector is shutting down"),
        sqlx::Error::Tls(_) => permanent(
            "sql-unreachable",
            "no TLS connection: expected a certificate that this machine trusts",
        ),
        sqlx::Error::Configuration(source) if source.is::<FileReplaced>() => transient(
            "sql-file-replaced",
            "the file at the path is not the one that was opened: expected a restart, which compares the mapping with the new one",
        ),
        sqlx::Error::Configuration(_) => permanent(
            "sql-config",
            "the URL is malformed: expected postgres://… or sqlite:…",
        ),
        sqlx::Error::Protocol(_) => transient(
            "sql-unreachable",
            "the connection broke in the middle of an answer",
        ),
        _ => permanent(
            "sql-answer",
            "the database answered in a form that was not expected",
        ),
    }
}

/// SQLSTATE of PostgreSQL (five characters) or extended result code of SQLite (a number).
fn database_failure(code: &str, place: &str) -> Failure {
    if let Some(primary) = code.parse::<u32>().ok().filter(|_| code.len() != 5) {
        return sqlite_failure(primary, place);
    }
    match code {
        "40001" | "40P01" | "55P03" | "55006" => transient(
            "sql-busy",
            "rows are locked by other work, or two transactions crossed",
        ),
        "57014" => transient("sql-busy", "the statement took longer than it may"),
        "42501" => permanent(
            "sql-not-allowed",
            format!("{place}: the credential lacks a right that the mapping needs"),
        ),
        "42P01" | "42703" | "42704" | "42883" => permanent(
            "sql-schema-changed",
            "a table, column or type of the mapping is not there any more",
        ),
        "23503" => permanent(
            "sql-would-dangle",
            format!("{place}: rows elsewhere still point to rows that are to be erased"),
        ),
        c if c.starts_with("23") => permanent(
            "sql-rule-violated",
            format!("{place}: a rule of the database forbids the change"),
        ),
        c if c.starts_with("22") => permanent(
            "sql-rule-violated",
            format!("{place}: a column cannot take the value"),
        ),
        c if c.starts_with("28") => permanent("sql-not-allowed", "the database refused the credential"),
        "3D000" => permanent("sql-config", "the database of the URL does not exist"),
        c if c.starts_with("08") || c.starts_with("53") || c.starts_with("57") || c == "25P03" => transient(
            "sql-unreachable",
            "the database is starting, stopping or out of resources",
        ),
        c => permanent("sql-answer", format!("{place}: refused with SQLSTATE {c}")),
    }
}

fn sqlite_failure(code: u32, place: &str) -> Failure {
    match (code & 0xff, code) {
        (5 | 6, _) => transient("sql-busy", "the file is locked by other work"),
        (10 | 13, _) => transient(
            "sql-unreachable",
            "the file cannot be read or written, or the disk is full",
        ),
        (14, _) => transient(
            "sql-unreachable",
            "the file cannot be opened: expected an SQLite database at the configured path",
        ),
        (3 | 8 | 23, _) => permanent("sql-not-allowed", "the file may not be written"),
        (_, 787) => permanent(
            "sql-would-dangle",
            format!("{place}: rows elsewhere still point to rows that are to be erased"),
        ),
        (19 | 20, _) => permanent(
            "sql-rule-violated",
            format!("{place}: a rule of the database forbids the change"),
        ),
        (11 | 26, _) => permanent("sql-answer", "the file is damaged or no SQLite database"),
        (1, _) => permanent(
            "sql-schema-changed",
            "a table or column of the mapping is not there any more",
        ),
        _ => permanent("sql-answer", format!("{place}: refused with SQLite code {code}")),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(failure(&error, Stage::Before))
    }
}
