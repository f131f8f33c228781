//! What the API takes: bodies of requests. Identifiers of people come in bodies only, never in addresses.

use std::fmt;
use std::time::Duration;

use lethe_journal::CloseReason;
use lethe_terms::{
    CaseId, CaseState, ErasureGround, Identifier, IdentifierKind, IssuerName, RestrictionGround, Right,
    Strength, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most identifiers in one request: people have a handful; each costs a round of the walk.
pub const IDENTIFIERS_MAX: usize = 64;

/// Longest value of an identifier, in bytes: an e-mail address has at most 254, a device id is shorter.
pub const IDENTIFIER_BYTES_MAX: usize = 1024;

/// Longest time ago that a request can have been received: a claim is barred three years after the end of its year (BGB §§ 195, 199),
/// so an older date is a slip, and the deadline of Art. 12(3) would be reckoned from it.
pub const RECEIVED_AGO_MAX: Duration = Duration::from_secs(1_461 * 86_400);

/// Opens a case.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a JSON object with `right`, `identifiers` and, where wanted, `ground`, `supersedes` and `received_at`"
)]
pub struct OpenCase {
    /// The right.
    pub right: Right,
    /// The identifiers that the person gave, at least one of a kind that is not shared: `ip` and `ip_abbreviated` alone lead nowhere.
    pub identifiers: Vec<IdentifierAsk>,
    /// The ground: one of Art. 17(1) for an erasure, of Art. 18(1) for a restriction. Without one: `17-1-a` or `18-1-a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ground: Option<String>,
    /// The person's own earlier restriction, which they give up for this erasure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<CaseId>,
    /// When the request arrived, where that was earlier than now: the time to answer runs from then. At most 1461 days ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_at: Option<Timestamp>,
}

impl fmt::Debug for OpenCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OpenCase({}, {} identifiers)",
            self.right,
            self.identifiers.len()
        )
    }
}

/// The ground of a case, which belongs to its right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Why erasure is due.
    Erasure(ErasureGround),
    /// Why restriction is due.
    Restriction(RestrictionGround),
}

impl Ground {
    /// The ground that a right has when none is named.
    pub const fn default_of(right: Right) -> Self {
        match right {
            Right::Erasure => Self::Erasure(ErasureGround::NotNecessary),
            Right::Restriction => Self::Restriction(RestrictionGround::AccuracyContested),
        }
    }

    /// Reads the ground of a right.
    ///
    /// # Errors
    /// The known grounds of the right, where the word is none of them.
    pub fn of(right: Right, word: &str) -> Result<Self, String> {
        let unknown = |known: &[&str]| format!("a ground of {right}: one of {}", known.join(", "));
        match right {
            Right::Erasure => word
                .parse()
                .map(Self::Erasure)
                .map_err(|_| unknown(ErasureGround::CODES)),
            Right::Restriction => word
                .parse()
                .map(Self::Restriction)
                .map_err(|_| unknown(RestrictionGround::CODES)),
        }
    }

    /// The word on the wire.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Erasure(ground) => ground.code(),
            Self::Restriction(ground) => ground.code(),
        }
    }
}

impl OpenCase {
    /// The ground that is named, or the right's default.
    ///
    /// # Errors
    /// The known grounds, where the named one is none of the right's.
    pub fn checked_ground(&self) -> Result<Ground, String> {
        self.ground.as_deref().map_or_else(
            || Ok(Ground::default_of(self.right)),
            |word| Ground::of(self.right, word),
        )
    }

    /// Checks that the identifiers can lead to a person: a walk never passes a shared one.
    ///
    /// # Errors
    /// The kinds that can, where all identifiers are shared.
    pub fn check_reach(&self) -> Result<(), String> {
        let leads = |kind: IdentifierKind| kind.strength() != Strength::Shared;
        if self.identifiers.iter().any(|identifier| leads(identifier.kind)) {
            return Ok(());
        }
        let codes = |wanted: bool| -> Vec<&str> {
            let kinds = IdentifierKind::ALL.iter().filter(|kind| leads(**kind) == wanted);
            kinds.map(|kind| kind.code()).collect()
        };
        Err(format!(
            "at least one identifier of the kinds {}; several people share one of the kinds {}, so it leads to nobody's records",
            codes(true).join(", "),
            codes(false).join(", "),
        ))
    }

    /// Checks that the request was not received longer ago than anybody could still claim it.
    ///
    /// # Errors
    /// How long ago it can be.
    pub fn check_received(&self, now: Timestamp) -> Result<(), String> {
        let ago_max = i64::try_from(RECEIVED_AGO_MAX.as_millis()).unwrap_or(i64::MAX);
        let oldest = now.millis().saturating_sub(ago_max);
        if self.received_at.is_none_or(|at| at.millis() >= oldest) {
            return Ok(());
        }
        let days = RECEIVED_AGO_MAX.as_secs() / 86_400;
        Err(format!(
            "a moment at most {days} days ago: what was asked for earlier is barred"
        ))
    }
}

/// One identifier as it is asked for. `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a JSON object with `kind`, `value` and, of an id that the company does not give itself, `issuer`"
)]
pub struct IdentifierAsk {
    /// Its kind.
    pub kind: IdentifierKind,
    /// Its value, as the person wrote it.
    pub value: String,
    /// Of an id: who gave it, as the configuration of the systems names them, where that is not the company itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<IssuerName>,
}

impl fmt::Debug for IdentifierAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(redacted)", self.kind)
    }
}

impl From<IdentifierAsk> for Identifier {
    fn from(ask: IdentifierAsk) -> Self {
        Self {
            issuer: ask.issuer,
            ..Self::new(ask.kind, ask.value)
        }
    }
}

/// Asks for the lineage of the person behind identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object with `identifiers`")]
pub struct FindLineage {
    /// The identifiers.
    pub identifiers: Vec<IdentifierAsk>,
}

/// Approves a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object with `plan_digest`")]
pub struct Approve {
    /// Digest of the plan that was read, `sha256:<hex>`.
    pub plan_digest: String,
}

/// Ends a restriction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object with `notified_at`")]
pub struct Lift {
    /// When the person was told that the restriction ends (GDPR Art. 18(3)).
    pub notified_at: Timestamp,
}

/// Closes a case as not completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a JSON object with `reason`")]
pub struct Close {
    /// Why.
    pub reason: CloseReason,
}

/// A body without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an empty JSON object")]
pub struct Nothing {}

/// Which cases are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseQuery {
    /// Only cases in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<CaseState>,
    /// Only cases of this right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<Right>,
    /// Only cases whose answer is overdue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// Only cases that wait for a person.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// The page, as the page before named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Most cases on a page, 1 to 500; 100 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Why a case is closed, in words, with the code on the wire.
pub const CLOSE_REASONS: [(CloseReason, &str, &str); 3] = [
    (
        CloseReason::SystemFailed,
        "system_failed",
        "a system did not do what it was told",
    ),
    (
        CloseReason::SystemUnreachable,
        "system_unreachable",
        "a system could not be reached",
    ),
    (
        CloseReason::Contradicted,
        "contradicted",
        "a system says one thing and shows another",
    ),
];

/// Which inputs of the quarantine are asked for.
#[derive(Debug, Clone, Default)]
pub struct QuarantineQuery {
    /// Only those of this system.
    pub system: Option<String>,
    /// Only older ones than this one.
    pub before: Option<u64>,
    /// Most inputs.
    pub limit: Option<u32>,
}
