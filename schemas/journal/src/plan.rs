//! The plan: an immutable value with no choices left, and the inventory that it was made from.

use lethe_terms::{
    CaseId, DataCategory, DatasetName, IdentifierKind, IssuedKind, RecordToken, Right, SystemName, Timestamp,
    UnitToken, Verb,
};
use serde::{Deserialize, Serialize};

use crate::{Position, Sealed};

/// One record that the plan acts on, and why it belongs to the person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldingRef {
    /// The record.
    pub record: RecordToken,
    /// Kinds of the identifiers along the path from the request to the record, nearest last.
    pub via: Vec<IdentifierKind>,
}

impl HoldingRef {
    /// What the system acts on for it.
    pub fn unit(&self) -> UnitToken {
        self.record.unit()
    }
}

/// One step: one verb on one dataset of one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Number of the step in the plan, from 0.
    pub step: u32,
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
    /// What is done; [`Verb::Observe`] where nothing of the person was found, and it is looked whether that is so.
    pub verb: Verb,
    /// The records.
    pub records: Vec<HoldingRef>,
    /// Their handles and the person's identifiers, sealed under the case's key.
    pub selectors: Sealed,
    /// Steps that must be verified before.
    pub after: Vec<u32>,
    /// Categories of data in the dataset.
    pub categories: Vec<DataCategory>,
    /// How long the system needs before an observation can tell, in milliseconds.
    pub settle_ms: u64,
    /// How long the system may take to act, in milliseconds.
    pub lead_ms: u64,
    /// What earlier steps of the case left restricted here.
    #[serde(default, skip_serializing_if = "Held::is_nothing")]
    pub held: Held,
}

/// What earlier steps of a case left restricted in a dataset: where that is something, a system that finds less has lost some.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Nothing.
    #[default]
    Nothing,
    /// An instruction went out of which no outcome is known, or a lift said that it released it.
    Perhaps,
    /// The system said that it restricted something, and nothing has released it since.
    Something {
        /// Records that it counted.
        records: u64,
    },
}

impl Held {
    /// What is held after a lift that released so many records.
    pub const fn after_lifting(self, lifted: u64) -> Self {
        match self {
            Self::Something { records } if lifted < records => self,
            _ => Self::Perhaps,
        }
    }

    const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl Step {
    /// Where it acts.
    pub fn place(&self) -> DatasetRef {
        DatasetRef {
            system: self.system.clone(),
            dataset: self.dataset.clone(),
        }
    }

    /// Whether it changes nothing, but looks whether nothing is there.
    pub fn only_observes(&self) -> bool {
        self.verb == Verb::Observe
    }
}

/// Data that the plan leaves in place, with the norm and the end date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedException {
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
    /// The norm, such as `17-3-b`.
    pub norm: String,
    /// Until when the data is kept.
    pub until: Timestamp,
}

/// What the plan linter remarks.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RemarkCode {
    /// A system holds data of the person and the plan has no step for it.
    HoldingWithoutStep,
    /// The connector cannot do the verb, or leaves a field in place.
    FieldNotErasable,
    /// A copy is erased although its source, which refills it, is not.
    CopyWillBeRefilled,
    /// A system's lead time breaks the deadline.
    LeadTimeBreaksDeadline,
    /// Quarantined input of a system may hide data of the person.
    QuarantineMayHide,
    /// The same of a system that cannot be searched: nothing else finds what its input hides.
    QuarantineNotSearchable,
    /// Several people seem to stand behind an identifier, so the walk did not go on from there: records of the person may hang on it.
    SuspiciousFanOut,
    /// The same of a strong identifier, on which a person's records hang as a rule.
    IdentifierNotFollowed,
    /// Only an id joins records with the person's others, although they name somebody by an e-mail address or a telephone number: perhaps another
    /// person whom another system counts under the same number.
    ReachedByIdAlone,
    /// An identifier of the request led to no record, and no system can be searched by its kind: nothing was looked for by it.
    IdentifierNotSearchable,
}

impl RemarkCode {
    /// Whether approving in spite of it would leave data behind.
    pub const fn is_fatal(self) -> bool {
        matches!(self, Self::HoldingWithoutStep)
    }

    /// Whether records of the person may stay that no step covers: what is completed in spite of it is completed with exceptions.
    pub const fn leaves_open(self) -> bool {
        matches!(
            self,
            Self::QuarantineNotSearchable | Self::IdentifierNotFollowed | Self::IdentifierNotSearchable
        )
    }

    /// Whether an identifier was not followed, since several people seem to stand behind it.
    pub const fn is_of_several_people(self) -> bool {
        matches!(self, Self::SuspiciousFanOut | Self::IdentifierNotFollowed)
    }

    /// The code as it stands on the wire.
    pub const fn code(self) -> &'static str {
        match self {
            Self::HoldingWithoutStep => "holding_without_step",
            Self::FieldNotErasable => "field_not_erasable",
            Self::CopyWillBeRefilled => "copy_will_be_refilled",
            Self::LeadTimeBreaksDeadline => "lead_time_breaks_deadline",
            Self::QuarantineMayHide => "quarantine_may_hide",
            Self::QuarantineNotSearchable => "quarantine_not_searchable",
            Self::SuspiciousFanOut => "suspicious_fan_out",
            Self::IdentifierNotFollowed => "identifier_not_followed",
            Self::ReachedByIdAlone => "reached_by_id_alone",
            Self::IdentifierNotSearchable => "identifier_not_searchable",
        }
    }
}

/// One remark of the plan linter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remark {
    /// What is remarked.
    pub code: RemarkCode,
    /// The system that it is about; nothing where it is about all of them.
    pub system: Option<SystemName>,
    /// The dataset that it is about, where it is about one.
    pub dataset: Option<DatasetName>,
    /// Names of fields, systems or kinds of identifiers, without personal data.
    pub detail: Vec<String>,
}

/// What will be done, whole. Immutable; approval names its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The case.
    pub case: CaseId,
    /// The right.
    pub right: Right,
    /// Number of the plan within the case, from 1.
    pub number: u32,
    /// 128 random bits in hexadecimal, so that the digest cannot be guessed.
    pub nonce: String,
    /// When it was frozen.
    pub frozen_at: Timestamp,
    /// Digest of the inventory that it was made from, `sha256:<hex>`.
    pub inventory: String,
    /// Log positions up to which lineage had read, by partition of `records`.
    pub read_up_to: Vec<Position>,
    /// The steps, in an order that fits their dependencies.
    pub steps: Vec<Step>,
    /// What stays, and why.
    pub exceptions: Vec<PlannedException>,
    /// What the linter remarked.
    pub remarks: Vec<Remark>,
}

impl Plan {
    /// The steps that change something.
    pub fn acting(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.only_observes())
    }
}

/// What is known of a company's systems when a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The systems.
    pub systems: Vec<InventorySystem>,
    /// Flows between datasets: the first is copied to the second and refills it.
    pub flows: Vec<(DatasetRef, DatasetRef)>,
}

impl Inventory {
    /// All datasets, with where they are.
    pub fn datasets(&self) -> impl Iterator<Item = (DatasetRef, &InventoryDataset)> {
        self.systems.iter().flat_map(|system| {
            system.datasets.iter().map(|dataset| {
                let place = DatasetRef {
                    system: system.name.clone(),
                    dataset: dataset.name.clone(),
                };
                (place, dataset)
            })
        })
    }

    /// A dataset, where it is there.
    pub fn dataset(&self, place: &DatasetRef) -> Option<&InventoryDataset> {
        let mut systems = self.systems.iter();
        let system = systems.find(|system| system.name == place.system)?;
        let mut datasets = system.datasets.iter();
        datasets.find(|dataset| dataset.name == place.dataset)
    }

    /// Whether some system can be searched by identifiers of this kind and issuer.
    pub fn is_searchable_by(&self, kind: &IssuedKind) -> bool {
        self.systems.iter().any(|system| system.locates_by.contains(kind))
    }
}

/// One system of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InventorySystem {
    /// Its name.
    pub name: SystemName,
    /// Whether it can be searched for a person.
    pub locates: bool,
    /// Kinds of identifiers by which it can be searched, ids with who gives those that it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locates_by: Vec<IssuedKind>,
    /// Its datasets.
    pub datasets: Vec<InventoryDataset>,
    /// Input of this system that stands in quarantine.
    pub quarantined: u64,
    /// How long backups of the system keep what was erased, in days; nothing where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_days: Option<u32>,
    /// Whether the system could not be reached since the server started: what it holds is unknown, and its datasets are not named here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

/// One dataset of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InventoryDataset {
    /// Its name.
    pub name: DatasetName,
    /// What can be done with it.
    pub verbs: Vec<Verb>,
    /// Categories of data in it.
    pub categories: Vec<DataCategory>,
    /// Fields that an erasure leaves in place.
    pub keeps: Vec<String>,
    /// Datasets of the same system that must be done before it (children before parents).
    pub after: Vec<DatasetName>,
    /// Whether its records are no proof that two strong identifiers are one person's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
    /// How long the system needs before an observation can tell, in milliseconds.
    pub settle_ms: u64,
    /// How long the system may take to act, in milliseconds.
    pub lead_ms: u64,
}

/// One dataset of one system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetRef {
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
}
