//! What a walk reached, and why.

use lethe_journal::{DatasetRef, Token};
use lethe_terms::{IdentifierKind, IdentifierToken, RecordToken};

/// One step of a path: this identifier led to this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Kind of the identifier.
    pub kind: IdentifierKind,
    /// The identifier.
    pub token: IdentifierToken,
    /// The record that it led to.
    pub record: RecordToken,
}

impl Hop {
    /// The link that the hop went along.
    pub const fn link(&self) -> Link {
        Link {
            token: self.token,
            record: self.record,
        }
    }
}

/// That a record holds an identifier. A link that was cut by hand is followed in neither direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The identifier.
    pub token: IdentifierToken,
    /// The record.
    pub record: RecordToken,
}

/// One record that a walk reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedRecord {
    /// The record.
    pub record: RecordToken,
    /// Where it is.
    pub dataset: DatasetRef,
    /// Every identifier that it holds.
    pub tokens: Vec<Token>,
    /// How many lines or rows it stands for.
    pub count: u64,
    /// A shortest path from the request to the record.
    pub path: Vec<Hop>,
    /// The nearest link that the record hangs on alone: cutting it takes the record out of the walk. `None` where no single link does.
    pub cut: Option<Link>,
}

impl ReachedRecord {
    /// Kinds of the identifiers along the path, nearest last.
    pub fn via(&self) -> Vec<IdentifierKind> {
        self.path.iter().map(|hop| hop.kind).collect()
    }
}

/// What a walk made of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It was followed.
    Followed,
    /// Not followed: more records hold it than one person plausibly has, or than a plan can hold. For a person to look at.
    TooManyRecords {
        /// How many, at least.
        records: u64,
    },
    /// Not followed: its records hold too many other identifiers of one kind, so several people seem to stand behind it. Where the request
    /// named it, its records are reached all the same, and lead no further by it. For a person to look at.
    SeveralPeople {
        /// The kind.
        kind: IdentifierKind,
        /// How many of that kind.
        found: u64,
    },
    /// Not followed: an earlier walk of the case saw several people behind it. Where the request named it, its records are reached all the same.
    JudgedBefore,
    /// Not followed: several people stand behind it by its nature.
    Shared,
    /// Not followed: the walk came to a bound before.
    NotAsked,
}

impl Standing {
    /// Whether a person has to look at it.
    pub const fn is_suspicious(self) -> bool {
        matches!(self, Self::TooManyRecords { .. } | Self::SeveralPeople { .. })
    }

    /// Whether it is no one person's, by this walk or an earlier one: where the request named it, it leads to its records and nowhere from there.
    pub const fn is_of_several(self) -> bool {
        matches!(self, Self::SeveralPeople { .. } | Self::JudgedBefore)
    }
}

/// One identifier that a walk came across.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedIdentifier {
    /// The identifier.
    pub token: Token,
    /// Whether the request named it.
    pub given: bool,
    /// The record that it was first found in; `None` where the request named it.
    pub found_in: Option<RecordToken>,
    /// What the walk made of it.
    pub standing: Standing,
}

/// Records behind a shared identifier: not the person's, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The shared identifier.
    pub token: Token,
    /// How many records hold it that the walk did not reach.
    pub records: u64,
    /// Whether counting stopped, so that there may be more.
    pub at_least: bool,
}

/// A bound that ended a walk before it had reached everything: what is missing is unknown, never absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// As many rounds as a walk may take.
    Rounds,
    /// As many records as a walk may reach.
    Records,
}

impl Bound {
    /// Stable code, with a page in ops/errors.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Rounds => "lineage-too-many-rounds",
            Self::Records => "lineage-too-many-records",
        }
    }
}

/// Records that an id alone joins with the person's others, although they name somebody by what is one person's everywhere: so look two people whom
/// two systems count under the same number. For a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByIdAlone {
    /// Where such records are.
    pub place: DatasetRef,
    /// Kind of the id.
    pub id: IdentifierKind,
    /// Kind of what they name and nothing else of the person's does.
    pub names: IdentifierKind,
}

/// What a walk reached. The same rows and the same request give the same value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reached {
    /// The records, by token.
    pub records: Vec<ReachedRecord>,
    /// The identifiers, by kind and token.
    pub identifiers: Vec<ReachedIdentifier>,
    /// Counts behind shared identifiers.
    pub candidates: Vec<Candidate>,
    /// Records that an id alone joins with the others.
    pub by_id_alone: Vec<ByIdAlone>,
    /// The bound that ended the walk, if one did.
    pub bound: Option<Bound>,
}

impl Reached {
    /// Identifiers that were not followed and that a person has to look at.
    pub fn suspicious(&self) -> impl Iterator<Item = &ReachedIdentifier> {
        self.identifiers
            .iter()
            .filter(|identifier| identifier.standing.is_suspicious())
    }

    /// Whether an identifier was followed.
    pub fn is_followed(&self, token: Token) -> bool {
        self.identifiers
            .binary_search_by_key(&token, |identifier| identifier.token)
            .is_ok_and(|at| self.identifiers[at].standing == Standing::Followed)
    }
}
