//! The mapping: which tables hold personal data, how they hang together, and what each verb does to them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use lethe_terms::{DataCategory, DatasetName, IssuedKind, LegalBasis, Purpose};
use serde::Deserialize;

use crate::error::Error;

/// Calls at the same time, where the mapping names no number: leaves the company's own sessions most of the connections.
const CONCURRENCY_MAX: usize = 4;
/// A call that takes longer counts as unanswered.
const TIMEOUT_MS: u64 = 30_000;
/// How long a transaction may stay open before its changes become visible, at most: changes are read again for so long.
const LATE_MS: u64 = 60_000;
/// How long ids of instructions and digests of record keys are remembered in the target: longer than an instruction can be on its way.
const REMEMBER_DAYS: u32 = 30;

/// Calls at the same time that a mapping may name: PostgreSQL takes 100 connections unless told otherwise, and the company needs some.
const CONCURRENCY_RANGE: RangeInclusive<u64> = 1..=90;
/// Longest time between two calls: with more than an hour a plan of some hundred steps would not end within the month to answer.
const PACE_MS_RANGE: RangeInclusive<u64> = 0..=3_600_000;
/// Time of one call: what takes more than an hour holds locks that the company waits for.
const TIMEOUT_MS_RANGE: RangeInclusive<u64> = 1..=3_600_000;
/// A day covers every time zone and every transaction that a database should have open; each round reads so much again.
const LATE_MS_RANGE: RangeInclusive<u64> = 0..=86_400_000;
/// Without a day an instruction that comes again would not be known; beyond a year nothing comes again, and digests of erased keys stay.
const REMEMBER_DAYS_RANGE: RangeInclusive<u64> = 1..=366;
/// Books and their backups are kept for ten years at most (AO § 147), and the rest of a year.
const BACKUP_DAYS_RANGE: RangeInclusive<u64> = 0..=4_018;

/// A connection string; may hold a password, so `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(pub String);

/// How the URLs of the databases begin that this connector knows.
const SCHEMES: [&str; 3] = ["postgres://", "postgresql://", "sqlite:"];

impl Url {
    /// Refuses the URL of a database that is not known, without repeating it.
    pub(crate) fn checked(self, what: &str) -> Result<Self, Error> {
        if SCHEMES.iter().any(|scheme| self.0.starts_with(scheme)) {
            return Ok(self);
        }
        Err(Error::Config {
            what: what.to_owned(),
            expected: "a URL that begins with postgres:// or sqlite:, other databases are not known"
                .to_owned(),
        })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(redacted)")
    }
}

/// The one kind of connector that this mapping is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// This one.
    Sql,
}

/// A database with its mapping. README.md beside this crate has a complete example.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sql`; may be left out where the kind is known already.
    pub kind: Option<Kind>,
    /// `postgres://…` or `sqlite:…`. Either this or `url_file`.
    pub url: Option<Url>,
    /// A file that holds the URL, so that no secret stands in the configuration.
    pub url_file: Option<PathBuf>,
    /// Another URL by which observations are made, best with another credential that may only read.
    pub observe_url: Option<Url>,
    /// A file that holds `observe_url`.
    pub observe_url_file: Option<PathBuf>,
    /// Schema of the tables, where it is not the connection's own (PostgreSQL).
    pub schema: Option<String>,
    /// Whether Lethe may keep its own tables `lethe_*` in the database; without them a repeated instruction is not detected.
    #[serde(default = "yes")]
    pub own_tables: bool,
    /// How long ids of instructions and digests of record keys are remembered, in days.
    #[serde(default = "remember_days")]
    pub remember_days: u32,
    /// How long a transaction of the company may stay open at most, in milliseconds: changes are read again for so long.
    #[serde(default = "late_ms")]
    pub late_ms: u64,
    /// Country calling code of telephone numbers that are stored without one, such as `49`.
    pub phone_country: Option<String>,
    /// How long backups keep what was erased, in days.
    pub backup_days: Option<u32>,
    /// Most calls at the same time.
    #[serde(default = "concurrency_max")]
    pub concurrency_max: usize,
    /// Least time between two calls, in milliseconds.
    #[serde(default)]
    pub pace_ms: u64,
    /// Time after which a call counts as unanswered, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// The units: what records are.
    pub units: Vec<UnitConfig>,
}

const fn yes() -> bool {
    true
}
const fn remember_days() -> u32 {
    REMEMBER_DAYS
}
const fn late_ms() -> u64 {
    LATE_MS
}
const fn concurrency_max() -> usize {
    CONCURRENCY_MAX
}
const fn timeout_ms() -> u64 {
    TIMEOUT_MS
}

impl Config {
    /// Refuses numbers without sense, naming what was expected.
    pub(crate) fn check_limits(&self) -> Result<(), Error> {
        let concurrency = u64::try_from(self.concurrency_max).unwrap_or(u64::MAX);
        let backup = self.backup_days.map_or(0, u64::from);
        for (what, value, range) in [
            ("concurrency_max", concurrency, CONCURRENCY_RANGE),
            ("pace_ms", self.pace_ms, PACE_MS_RANGE),
            ("timeout_ms", self.timeout_ms, TIMEOUT_MS_RANGE),
            ("late_ms", self.late_ms, LATE_MS_RANGE),
            (
                "remember_days",
                u64::from(self.remember_days),
                REMEMBER_DAYS_RANGE,
            ),
            ("backup_days", backup, BACKUP_DAYS_RANGE),
        ] {
            if !range.contains(&value) {
                return Err(Error::Config {
                    what: what.to_owned(),
                    expected: format!("{} to {}, not {value}", range.start(), range.end()),
                });
            }
        }
        Ok(())
    }
}

/// One unit: a root row with its children is one record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitConfig {
    /// Name of the dataset.
    pub name: DatasetName,
    /// What a record is, in words.
    pub unit: Option<String>,
    /// The root table.
    pub table: String,
    /// Its schema, where it differs.
    pub schema: Option<String>,
    /// Columns that name a row; the primary key where left out.
    #[serde(default)]
    pub key: Vec<String>,
    /// Columns that hold identifiers, with their kind; of an id with its issuer where that is not the company itself, such as `user_id@forum`.
    #[serde(default)]
    pub identifiers: BTreeMap<String, IssuedKind>,
    /// Categories of personal data.
    pub categories: Vec<DataCategory>,
    /// Why the data is processed.
    pub purpose: Purpose,
    /// On what basis.
    pub basis: LegalBasis,
    /// `row`: erasing removes the row. Either this or `columns`.
    pub erase: Option<EraseRow>,
    /// What erasing does to each column of a row that stays: `null`, `replace:TEXT`, `random` or `keep`.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// How a row is marked as restricted.
    pub restrict: Option<RestrictConfig>,
    /// Units that must be done before this one.
    #[serde(default)]
    pub after: Vec<DatasetName>,
    /// Column that tells when a row last changed.
    pub updated_at: Option<String>,
    /// How long an observation must wait, in milliseconds, such as the lag of a read replica.
    #[serde(default)]
    pub settle_ms: u64,
    /// How long the database may take to act, in milliseconds.
    #[serde(default)]
    pub lead_ms: u64,
    /// Tables that belong to the root row.
    #[serde(default)]
    pub children: Vec<ChildConfig>,
}

/// A table that hangs on the root or on another child.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildConfig {
    /// The table.
    pub table: String,
    /// Its schema, where it differs.
    pub schema: Option<String>,
    /// The table that it hangs on; the root where left out.
    pub parent: Option<String>,
    /// Own column = the parent's column.
    pub link: BTreeMap<String, String>,
    /// Columns that hold identifiers, with their kind; of an id with its issuer where that is not the company itself, such as `user_id@forum`.
    #[serde(default)]
    pub identifiers: BTreeMap<String, IssuedKind>,
    /// Whether the rows belong to another unit: they lend their identifiers and are never changed.
    #[serde(default)]
    pub lookup: bool,
    /// `row`: erasing removes the rows. Either this or `columns`.
    pub erase: Option<EraseRow>,
    /// What erasing does to each column of rows that stay.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Column that tells when a row last changed.
    pub updated_at: Option<String>,
}

/// The word for removing a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseRow {
    /// The row is removed.
    Row,
}

/// Where a restriction is marked: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestrictConfig {
    /// A column of the root table: a time, a boolean, a number or a text.
    pub column: Option<String>,
    /// A table of the owner's with the root's key columns: a row in it marks a record.
    pub shadow: Option<String>,
}
