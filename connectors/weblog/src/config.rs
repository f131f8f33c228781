//! What the operator says about the logs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lethe_terms::{DatasetName, IdentifierKind, IssuedKind, LegalBasis, Purpose};
use serde::Deserialize;

use crate::check::runnable;
use crate::error::Error;

/// How long backups can keep what was erased, in days: books and their backups are kept for ten years at most (AO § 147), and the rest of
/// a year.
const BACKUP_DAYS_MAX: u32 = 4_018;

/// How long what was done is remembered: longer than Lethe asks again for an answer that it did not get.
const REMEMBER_DAYS: u32 = 30;
/// A digest is personal data for whoever holds the key beside it: nobody needs it for longer than a year.
const REMEMBER_DAYS_RANGE: std::ops::RangeInclusive<u32> = 1..=366;

/// Configuration of one system of web-server logs. README.md of this crate explains each field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The logs.
    pub logs: Vec<LogConfig>,
    /// Kind of the remote-user field; with its issuer where that is not the company itself, such as `user_id@forum`.
    #[serde(default = "user_id")]
    pub user_kind: IssuedKind,
    /// Parameters of requests and referrers that carry identifiers, by name in lower case.
    #[serde(default = "usual_parameters")]
    pub query_identifiers: BTreeMap<String, IssuedKind>,
    /// Paths that carry identifiers, such as `/api/v1/people/{user_id}`; `*` stands for any segment.
    #[serde(default)]
    pub path_identifiers: Vec<String>,
    /// What kind of addresses the server writes.
    #[serde(default)]
    pub ip: IpMode,
    /// Program and arguments that make the server reopen its logs; empty where there is none.
    #[serde(default)]
    pub reopen: Vec<String>,
    /// What an erasure does with a line.
    #[serde(default)]
    pub erase: EraseMode,
    /// Folder of the connector's own state: journal, sealed side files, key. Nobody else may read it.
    pub state_dir: PathBuf,
    /// Why the logs are kept.
    #[serde(default = "security")]
    pub purpose: Purpose,
    /// On what basis.
    #[serde(default = "legitimate_interest")]
    pub basis: LegalBasis,
    /// How long ids of instructions and digests of records and identifiers are remembered, in days.
    #[serde(default = "remember_days")]
    pub remember_days: u32,
    /// How long backups keep what was erased, in days, where somebody knows.
    #[serde(default)]
    pub backup_days: Option<u32>,
}

/// One log: the live file and what rotation made of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Name of the log: dataset and shard.
    pub name: DatasetName,
    /// The live file.
    pub path: PathBuf,
    /// Names of rotated files beside it, `*` for any text; empty for the usual ones (`access.log.1`, `access.log.2.gz`, `access.log-20261124.gz`).
    #[serde(default)]
    pub rotated: Vec<String>,
}

/// What kind of addresses the server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpMode {
    /// Whole ones.
    #[default]
    Whole,
    /// Abbreviated ones: those whose host part is zero (IPv4 /24, IPv6 /48). Others in the same log still count as whole.
    Abbreviated,
}

/// What an erasure does with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraseMode {
    /// Takes the whole line out.
    #[default]
    Line,
    /// Puts `-` in place of address, remote user and identifying values, and keeps the line.
    Fields,
}

const fn remember_days() -> u32 {
    REMEMBER_DAYS
}

fn user_id() -> IssuedKind {
    IdentifierKind::UserId.into()
}

fn security() -> Purpose {
    Purpose::Security
}

fn legitimate_interest() -> LegalBasis {
    LegalBasis::LegitimateInterest
}

fn usual_parameters() -> BTreeMap<String, IssuedKind> {
    let email = ["email", "e-mail", "mail"].map(|name| (name.to_owned(), IdentifierKind::Email.into()));
    let user = ["uid", "user_id", "userid"].map(|name| (name.to_owned(), user_id()));
    email.into_iter().chain(user).collect()
}

impl Config {
    /// Refuses what cannot work, naming what was expected.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |reason: String| Err(Error::Config { reason });
        if self.logs.is_empty() {
            return wrong("no log: expected at least one [[logs]] with name and path".to_owned());
        }
        let mut names = BTreeSet::new();
        let mut paths = BTreeSet::new();
        for log in &self.logs {
            if !names.insert(&log.name) {
                return wrong(format!(
                    "two logs are called {}: expected one name each",
                    log.name
                ));
            }
            if !paths.insert(&log.path) || !log.path.is_absolute() || log.path.file_name().is_none() {
                return wrong(format!(
                    "path of log {}: expected an absolute path of a file, one log each",
                    log.name
                ));
            }
        }
        if !self.state_dir.is_absolute() {
            return wrong("state_dir: expected an absolute path".to_owned());
        }
        if let Some(name) = self
            .query_identifiers
            .keys()
            .find(|name| name.to_lowercase() != **name)
        {
            return wrong(format!(
                "query_identifiers {name}: expected the name in lower case (any case matches)"
            ));
        }
        if let Some(program) = self.reopen.first().filter(|program| !runnable(program)) {
            return wrong(format!(
                "reopen: {program} is not there or cannot be executed: expected a program that makes the server reopen its logs, by its \
                 path or by a name that PATH finds"
            ));
        }
        if !REMEMBER_DAYS_RANGE.contains(&self.remember_days) {
            return wrong("remember_days: expected 1 to 366".to_owned());
        }
        if self.backup_days.is_some_and(|days| days > BACKUP_DAYS_MAX) {
            return wrong(format!("backup_days: expected 0 to {BACKUP_DAYS_MAX}"));
        }
        for template in &self.path_identifiers {
            PathTemplate::parse(template)?;
        }
        Ok(())
    }

    /// The path templates, read.
    pub(crate) fn templates(&self) -> Result<Vec<PathTemplate>, Error> {
        self.path_identifiers
            .iter()
            .map(|text| PathTemplate::parse(text))
            .collect()
    }
}

/// A path that carries an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathTemplate(pub(crate) Vec<PathPart>);

/// One segment of a [`PathTemplate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PathPart {
    /// Exactly this.
    Is(String),
    /// Any segment.
    Any,
    /// An identifier.
    Holds(IssuedKind),
}

impl PathTemplate {
    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Config {
            reason: format!("path_identifiers {text}: {what}"),
        };
        let path = text
            .strip_prefix('/')
            .ok_or_else(|| wrong("expected a path that starts with /"))?;
        let mut parts = Vec::new();
        for part in path.split('/') {
            parts.push(match part.strip_prefix('{').and_then(|p| p.strip_suffix('}')) {
                Some(kind) => PathPart::Holds(kind.parse().map_err(|e| wrong(&format!("{e}")))?),
                None if part == "*" => PathPart::Any,
                None => PathPart::Is(part.to_owned()),
            });
        }
        if parts.iter().any(|part| matches!(part, PathPart::Holds(_))) {
            Ok(Self(parts))
        } else {
            Err(wrong("expected an identifier kind in braces, such as {user_id}"))
        }
    }
}
