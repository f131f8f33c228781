//! What the verifier says.

use lethe_terms::{CaseId, DatasetName, Independence, Outcome, SystemName, Timestamp, Verb};
use schemars::JsonSchema;
use serde::Serialize;

use crate::statements::{Completion, Kind, Party};

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Everything planned was done and observed.
    Complete,
    /// Done but for stated exceptions, or for what a strong identifier that was not followed may lead to.
    CompleteWithExceptions,
    /// Cannot be told: no policy was given.
    Pending,
    /// Something does not hold.
    Invalid,
    /// Not a certificate, or unreadable.
    Malformed,
    /// A valid statement that the case was not completed.
    NotCompleted,
}

impl Status {
    /// The status as it stands in the report.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::CompleteWithExceptions => "complete_with_exceptions",
            Self::Pending => "pending",
            Self::Invalid => "invalid",
            Self::Malformed => "malformed",
            Self::NotCompleted => "not_completed",
        }
    }

    /// Exit code of the programs.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::CompleteWithExceptions => 1,
            Self::Pending => 2,
            Self::Invalid => 3,
            Self::Malformed => 4,
            Self::NotCompleted => 5,
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What the certificate is about, as its statement says: nothing of it names the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct About {
    /// Who answers for it.
    pub controller: Party,
    /// Erasure, restriction, or the end of one.
    pub kind: Kind,
    /// The ground, such as `17-1-b`; empty where none was stated.
    pub ground: String,
    /// The case.
    pub case: CaseId,
    /// Id of the certificate or statement.
    pub certificate: String,
    /// When the request arrived.
    pub received_at: Timestamp,
    /// When the certificate or statement was issued.
    pub issued_at: Timestamp,
}

impl About {
    pub(crate) fn of(completion: &Completion) -> Self {
        let request = &completion.request;
        Self {
            controller: completion.controller.clone(),
            kind: completion.kind,
            ground: request.ground.clone(),
            case: request.request_id,
            certificate: completion.certificate_id.clone(),
            received_at: request.received_at,
            issued_at: completion.issued_at,
        }
    }
}

/// What became of one dataset of one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SystemRow {
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
    /// What was to be done.
    pub verb: Verb,
    /// `verified`, `retained`, or the state in which the step ended.
    pub outcome: String,
    /// What the system said it did, such as `erased` or `crypto_shredded`.
    pub reported: Option<Outcome>,
    /// How independent the observation was; `same_path` is weak.
    pub independence: Option<Independence>,
    /// Code of what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The verifier's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// The verdict.
    pub status: Status,
    /// What it is about; only where everything that was checked holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// What was checked, in order; the first that does not hold ends it.
    pub checks: Vec<Check>,
    /// What became of each system.
    pub systems: Vec<SystemRow>,
    /// Copies that end later than the case, and when: streams of the log, backups.
    pub copies: Vec<crate::Copy>,
    /// What this verifier did not check.
    pub not_checked: Vec<String>,
    /// What the certificate itself cannot say.
    pub limits: Vec<String>,
    /// What deserves a look although it holds.
    pub remarks: Vec<String>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            status: Status::Pending,
            about: None,
            checks: Vec::new(),
            systems: Vec::new(),
            copies: Vec::new(),
            not_checked: NOT_CHECKED.iter().map(|text| (*text).to_owned()).collect(),
            limits: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// The report on a file that could not be read.
    pub fn unreadable(what: &str, reason: &str) -> Self {
        Self::new().ended(what, Status::Malformed, reason)
    }

    pub(crate) fn passed(&mut self, name: &str) {
        self.checks.push(Check {
            name: name.to_owned(),
            ok: true,
            detail: None,
        });
    }

    pub(crate) fn ended(mut self, name: &str, status: Status, detail: impl Into<String>) -> Self {
        self.checks.push(Check {
            name: name.to_owned(),
            ok: false,
            detail: Some(detail.into()),
        });
        self.status = status;
        // Nothing of a document that does not hold is repeated as if it did.
        self.systems.clear();
        self.copies.clear();
        self
    }
}

/// What every certificate leaves open here.
const NOT_CHECKED: [&str; 5] = [
    "whether others were shown the same log: no witness has cosigned the checkpoint",
    "the times: they are the controller's own, without a trusted time stamp",
    "whether a later statement corrects this one",
    "whether systems exist that the inventory does not name",
    SUBJECT_NOT_CHECKED,
];

/// What a check of the opening closes.
pub(crate) const SUBJECT_NOT_CHECKED: &str =
    "whether the identifier behind the subject commitment is the person's: that needs the opening";

/// What a limit code means.
pub fn limit_text(code: &str) -> Option<&'static str> {
    Some(match code {
        "L1" => "covers only the systems in the controller's inventory",
        "L2" => "absence was seen at the time of the observation, not for ever",
        "L3" => "what a connector says is as trustworthy as the holder of its key",
        "L4" => "destroyed keys are attested, not proven",
        "L5" => "backups hold copies until they expire",
        "L6" => "derived and aggregated data is not covered unless listed",
        "L7" => "recipients' own copies are not covered",
        _ => return None,
    })
}
