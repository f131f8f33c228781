//! The trait that every connector implements, and the values that pass through it.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use lethe_terms::{
    Awaited, DataCategory, DatasetName, Identifier, Independence, InstructionId, IssuedKind, LegalBasis,
    Purpose, ShardName, SystemName, Verb,
};

/// Why a call failed. No message holds personal data: it may end in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It did not happen and may work later (connection refused before anything was sent, rate limit, lock).
    #[error("did not happen, may work later: {reason}")]
    Transient {
        /// Stable code, with a page in ops/errors.
        code: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// It did not happen and will not work until somebody changes something.
    #[error("did not happen: {reason}")]
    Permanent {
        /// Stable code, with a page in ops/errors.
        code: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Whether it happened is unknown (the connection was cut after sending).
    #[error("unknown whether it happened: {reason}")]
    Unknown {
        /// Stable code, with a page in ops/errors.
        code: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Transient { code, .. } | Self::Permanent { code, .. } | Self::Unknown { code, .. } => code,
        }
    }
}

/// What a connector declares of itself, without I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The system, as the configuration names it.
    pub system: SystemName,
    /// Kind of connector, such as `sql`.
    pub kind: &'static str,
    /// Version of the connector.
    pub version: &'static str,
    /// The datasets: what its records are.
    pub datasets: Vec<DatasetManifest>,
    /// Source shards that can be read for observations.
    pub shards: Vec<ShardName>,
    /// Kinds of identifiers by which it can be searched, ids with who gives those that it holds. Ids of others are never shown to it.
    pub locates_by: Vec<IssuedKind>,
    /// Whether the same instruction id twice is detected by the system itself and answered with the same receipt.
    pub detects_repeats: bool,
    /// How independent its observations are of its work.
    pub independence: Independence,
    /// Most calls at the same time.
    pub concurrency_max: usize,
    /// Least time between two calls, in milliseconds; 0 where the system sets no rate.
    pub pace_ms: u64,
    /// Time after which a call counts as unanswered, in milliseconds.
    pub timeout_ms: u64,
    /// How long backups of the system keep what was erased, in days; `None` where nobody knows.
    pub backup_days: Option<u32>,
}

impl Manifest {
    /// Whether an identifier may mean somebody in this system: an id does so only by the issuer whose ids the system holds. Where the manifest says
    /// nothing of a kind, its ids count as the company's own.
    pub fn knows(&self, identifier: &Identifier) -> bool {
        let mut same_kind = self.locates_by.iter().filter(|one| one.kind() == identifier.kind);
        match identifier.issuer {
            Some(_) => same_kind.any(|one| one.covers(identifier)),
            None => {
                let mut same_kind = same_kind.peekable();
                same_kind.peek().is_none() || same_kind.any(|one| one.covers(identifier))
            }
        }
    }
}

/// One dataset: one kind of record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetManifest {
    /// Its name.
    pub name: DatasetName,
    /// What a record of it is, in words, such as `an account with its orders`.
    pub unit: String,
    /// What can be done with it.
    pub verbs: Vec<Verb>,
    /// Categories of personal data in it.
    pub categories: Vec<DataCategory>,
    /// Why the data is processed.
    pub purpose: Purpose,
    /// On what basis.
    pub basis: LegalBasis,
    /// Fields that an erasure leaves in place, such as `orders.total`.
    pub keeps: Vec<String>,
    /// Datasets of the same system that must be done before it.
    pub after: Vec<DatasetName>,
    /// Whether two strong identifiers in one record of it are one person's: so in a row that the company keeps of a person, not in a line that
    /// anybody can have written.
    pub proves_identity: bool,
    /// How long the system needs before an observation can tell, in milliseconds.
    pub settle_ms: u64,
    /// How long the system may take to act, in milliseconds.
    pub lead_ms: u64,
}

/// A record as its system shows it now, whole: every identifier that it holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Observation {
    /// The dataset.
    pub dataset: DatasetName,
    /// Stable key of the record within the dataset; may be personal.
    pub key: String,
    /// Stable key of the unit of which the record is a part, where the system acts on several records as one: a restriction of one holds for all.
    pub unit: Option<String>,
    /// How the connector finds the record again; may be personal, is sealed by intake. Often the key.
    pub handle: String,
    /// Every identifier, as the system holds it. Empty means that the record is not there any more.
    pub identifiers: Vec<Identifier>,
    /// How many rows or lines it stands for.
    pub count: u64,
    /// Whether the record is gone.
    pub gone: bool,
}

impl Observation {
    /// What names its record.
    pub fn name(&self) -> RecordName {
        RecordName {
            dataset: self.dataset.clone(),
            unit: self.unit.clone(),
            key: self.key.clone(),
        }
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gone = if self.gone { ", gone" } else { "" };
        write!(
            f,
            "Observation({}, {} identifiers{gone})",
            self.dataset,
            self.identifiers.len()
        )
    }
}

/// Input that the connector could not read: it is kept, sealed, with its position, and never stops the stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where it stands in its source, without personal data, such as `access.log byte 1024`.
    pub position: String,
    /// Stable code, with a page in ops/errors.
    pub code: &'static str,
    /// What was expected, without personal data.
    pub expected: String,
    /// The input itself; sealed by intake.
    pub input: Vec<u8>,
    /// The observations of the same page that it is a part of: it is kept no longer than any of their records. Empty where it is no record's.
    pub of: Vec<RecordName>,
}

/// What names a record in its system.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordName {
    /// Its dataset.
    pub dataset: DatasetName,
    /// Key of the unit of which it is a part, where it is one; may be personal.
    pub unit: Option<String>,
    /// Its key; may be personal.
    pub key: String,
}

impl fmt::Debug for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordName({})", self.dataset)
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Rejected({}, {}, {} B)",
            self.position,
            self.code,
            self.input.len()
        )
    }
}

/// A stretch of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FeedPage {
    /// Records that appeared, changed or left.
    pub observations: Vec<Observation>,
    /// Input that could not be read.
    pub rejected: Vec<Rejected>,
    /// Where to read on: the connector's own mark, without personal data, at most 1 KiB.
    pub cursor: String,
    /// Whether there is more right now.
    pub more: bool,
    /// Units (rows, bytes) read so far and in total, for a progress bar, where they are known.
    pub progress: Option<(u64, u64)>,
}

/// A page of a longer answer: the connector's own mark.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Page(pub Option<String>);

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Page(next)"
        } else {
            "Page(first)"
        })
    }
}

/// Whom a call is about: records by handle and the person's identifiers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// Records by handle.
    pub records: Vec<Selected>,
    /// Identifiers of the person, normalised.
    pub identifiers: Vec<Identifier>,
}

/// One selected record.
#[derive(Clone, PartialEq, Eq)]
pub struct Selected {
    /// Its handle.
    pub handle: String,
}

impl fmt::Debug for Selected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selected(redacted)")
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Selector({} records, {} identifiers)",
            self.records.len(),
            self.identifiers.len()
        )
    }
}

/// What locating found: observations like any other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// Records of the person, whole.
    pub observations: Vec<Observation>,
    /// Where to read on; `None` at the end.
    pub next: Option<String>,
}

/// An instruction as a connector gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The same id twice has the effect of once and gets the same receipt.
    pub id: InstructionId,
    /// Index of the plan in the ledger, then step: a lower one than was seen for a record is refused.
    pub generation: (u64, u32),
    /// The dataset.
    pub dataset: DatasetName,
    /// Erase, restrict or lift.
    pub verb: Verb,
    /// Whom it is about.
    pub selector: Selector,
}

/// What a system says it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The outcome.
    pub outcome: lethe_terms::Outcome,
    /// How many records it touched, cumulative over repeats of the same id.
    pub records: u64,
    /// Details such as rows by table: names and numbers, never values.
    pub details: BTreeMap<String, u64>,
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Performed {
    /// Done, as far as the system says.
    Done(Receipt),
    /// Taken; ask again.
    Accepted {
        /// What to quote when asking again, without personal data.
        ticket: String,
        /// When, in milliseconds.
        ask_after_ms: u64,
        /// What it waits for, where that is not its own work.
        awaits: Option<Awaited>,
    },
    /// Refused, with a stable code that has a page in ops/errors; nothing was done.
    Refused {
        /// The code.
        code: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
}

/// What an observation saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The result.
    pub observed: lethe_terms::Observed,
    /// How many records were still seen (present or restricted).
    pub records: u64,
    /// How independent this very observation was.
    pub independence: Independence,
    /// Keys of the selected records that are not there any more, so that the feed can say so.
    pub gone: Vec<(DatasetName, String)>,
}

/// One result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `table accounts`.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is wrong and what was expected, without personal data.
    pub detail: String,
}

/// A system of personal data, as Lethe sees it.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What it declares of itself. No I/O.
    fn manifest(&self) -> &Manifest;

    /// Whether the system can be reached and allows what the manifest says. Imitates real work, touches no personal data.
    async fn check(&self) -> Result<Vec<Finding>, Error>;

    /// Reads a shard from a cursor on (`None`: from the beginning), at most about `limit` units. Reading the same cursor twice gives the same
    /// or newer state, never less.
    async fn feed(&self, shard: &ShardName, cursor: Option<&str>, limit: usize) -> Result<FeedPage, Error>;

    /// Finds the person's records by identifiers. Observations name every identifier of each record.
    async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, Error>;

    /// Erases, restricts or lifts. Nothing held is a receipt with [`lethe_terms::Outcome::NotFound`].
    async fn perform(&self, ask: &Ask) -> Result<Performed, Error>;

    /// Asks how far an accepted instruction is: `ask` is the very one that was accepted, its id included.
    async fn poll(&self, ask: &Ask, ticket: &str) -> Result<Performed, Error>;

    /// Looks, by another path than [`Connector::perform`], at what is there now of the selected records and identifiers in a dataset.
    async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Error>;

    /// A person's data as JSON values, in pages.
    async fn export(&self, selector: &Selector, page: Page) -> Result<(Vec<serde_json::Value>, Page), Error>;
}
