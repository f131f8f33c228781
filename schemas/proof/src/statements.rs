//! What is signed: the plan, receipts, observations, and the completion statement. Wire types; times are RFC 3339 strings, digests
//! `sha256:<hex>`, and each carries 128 random bits, so that no leaf can be guessed from known facts.

use lethe_terms::{
    CaseId, DatasetName, Independence, InstructionId, Observed, Outcome, Right, StepState, SystemName,
    Timestamp, Verb,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::form::{
    LIST_MAX, STEPS_MAX, is_code, is_commitment, is_digest, is_nonce, is_optional_text, is_text,
};
use crate::{Error, SUBJECT_SCHEME, limit_text};

/// A statement that travels in an envelope.
pub trait Statement: Serialize + serde::de::DeserializeOwned {
    /// Media type of its payload.
    const PAYLOAD_TYPE: &'static str;
    /// What it is, for messages.
    const WHAT: &'static str;
    /// Its `schema`.
    const SCHEMA: &'static str;

    /// The field that does not have its form, if any.
    fn misformed(&self) -> Option<&'static str>;

    /// Checks the forms that the types do not express: schema, nonces, digests, codes.
    ///
    /// # Errors
    /// Names the field, never its content.
    fn check_form(&self) -> Result<(), Error> {
        self.misformed().map_or(Ok(()), |field| {
            Err(Error::malformed(
                Self::WHAT,
                format!("field {field} has another form"),
            ))
        })
    }
}

/// The first field whose check does not hold.
fn first_wrong(checks: &[(&'static str, bool)]) -> Option<&'static str> {
    checks.iter().find(|(_, holds)| !holds).map(|(field, _)| *field)
}

/// Digest of bytes, `sha256:<hex>`.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A count in its bucket: exact counts can tell people apart.
pub fn bucket(count: u64) -> String {
    match count {
        0 | 1 => count.to_string(),
        2..=9 => "2-9".into(),
        10..=99 => "10-99".into(),
        100..=999 => "100-999".into(),
        _ => "1000+".into(),
    }
}

/// Every text that [`bucket`] gives.
const BUCKETS: [&str; 6] = ["0", "1", "2-9", "10-99", "100-999", "1000+"];

/// One step as it is stated in public.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanStep {
    /// Number of the step.
    pub step: u32,
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
    /// What is done.
    pub verb: Verb,
}

/// Data that stays, with norm and end date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceptionRow {
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
    /// The norm, such as `17-3-b`.
    pub norm: String,
    /// Until when it is kept.
    pub until: Timestamp,
}

/// A strong identifier of the person behind which several people seem to stand: what hangs on it was left out.
const IDENTIFIER_NOT_FOLLOWED: &str = "identifier_not_followed";

/// An identifier of the request led to no record, and no system can be searched by its kind.
const IDENTIFIER_NOT_SEARCHABLE: &str = "identifier_not_searchable";

/// Input of a system that cannot be searched stands in quarantine.
const QUARANTINE_NOT_SEARCHABLE: &str = "quarantine_not_searchable";

/// Remarks with which data of the person may stay that no row is about.
const LEAVE_OPEN: [&str; 3] = [
    IDENTIFIER_NOT_FOLLOWED,
    IDENTIFIER_NOT_SEARCHABLE,
    QUARANTINE_NOT_SEARCHABLE,
];

/// What was remarked on the plan before it was approved: names and numbers, never values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanRemark {
    /// Code of the remark, such as `field_not_erasable`.
    pub code: String,
    /// The system; nothing where it is about all of them.
    pub system: Option<SystemName>,
    /// The dataset, where it is about one.
    pub dataset: Option<DatasetName>,
    /// Names of fields, systems or kinds of identifiers, or numbers.
    pub detail: Vec<String>,
}

impl PlanRemark {
    /// The remark in words.
    pub(crate) fn words(&self) -> String {
        let dataset = self.dataset.as_ref().map(|dataset| format!(" {dataset}"));
        let system = self.system.as_ref().map_or("the request", SystemName::as_str);
        let place = format!("{system}{}", dataset.unwrap_or_default());
        let detail = self.detail.join(", ");
        match self.code.as_str() {
            "field_not_erasable" if detail.ends_with("is not supported") => {
                format!("{place}: could not do what was planned: {detail}")
            }
            "field_not_erasable" => format!("{place}: leaves in place: {detail}"),
            "copy_will_be_refilled" => format!("{place}: is a copy that {detail} may fill again"),
            "quarantine_may_hide" => {
                format!(
                    "{place}: had unreadable input that may hide data of the person: {detail} in quarantine"
                )
            }
            QUARANTINE_NOT_SEARCHABLE => format!(
                "{place}: had unreadable input that may hide data of the person: {detail} in quarantine, and it cannot be searched"
            ),
            "suspicious_fan_out" | IDENTIFIER_NOT_FOLLOWED => format!(
                "{place}: names an identifier behind which several people seem to stand ({detail}): what hangs on it is not covered"
            ),
            "reached_by_id_alone" => format!(
                "{place}: belongs to the person by an id alone, and names somebody by what nothing else of the person's does ({detail})"
            ),
            IDENTIFIER_NOT_SEARCHABLE => format!(
                "{place}: names an identifier ({detail}) that leads to no record and that no system can be searched by: nothing was looked for by it"
            ),
            code => format!("{place}: {code} {detail}"),
        }
    }

    /// Whether data of the person may stay that no row is about.
    pub fn leaves_open(&self) -> bool {
        LEAVE_OPEN.contains(&self.code.as_str())
    }

    fn is_formed(&self) -> bool {
        is_code(&self.code) && self.detail.len() <= LIST_MAX && self.detail.iter().all(|text| is_text(text))
    }
}

/// The frozen plan, logged before the first instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanStatement {
    /// `lethe-plan/v1`.
    pub schema: String,
    /// The case.
    pub request_id: CaseId,
    /// 128 random bits, hexadecimal.
    pub nonce: String,
    /// The right.
    pub right: Right,
    /// Id of the controller.
    pub controller: String,
    /// Digest of the whole plan, which stays with the controller.
    pub plan_digest: String,
    /// Digest of the inventory that it was made from.
    pub inventory_digest: String,
    /// When it was frozen.
    pub frozen_at: Timestamp,
    /// Every step.
    pub steps: Vec<PlanStep>,
    /// What stays.
    pub exceptions: Vec<ExceptionRow>,
    /// What was remarked on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<PlanRemark>,
}

impl Statement for PlanStatement {
    const PAYLOAD_TYPE: &'static str = "application/vnd.lethe.plan+json;v=1";
    const WHAT: &'static str = "plan";
    const SCHEMA: &'static str = "lethe-plan/v1";

    fn misformed(&self) -> Option<&'static str> {
        first_wrong(&[
            ("schema", self.schema == Self::SCHEMA),
            ("nonce", is_nonce(&self.nonce)),
            ("controller", is_text(&self.controller)),
            ("plan_digest", is_digest(&self.plan_digest)),
            ("inventory_digest", is_digest(&self.inventory_digest)),
            ("steps", self.steps.len() <= STEPS_MAX),
            (
                "remarks",
                self.remarks.len() <= STEPS_MAX && self.remarks.iter().all(PlanRemark::is_formed),
            ),
            (
                "exceptions",
                self.exceptions.len() <= STEPS_MAX && self.exceptions.iter().all(|row| is_text(&row.norm)),
            ),
        ])
    }
}

/// Place of an instruction among all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Index of the plan's leaf.
    pub plan_index: u64,
    /// Number of the step.
    pub step: u32,
}

/// The connector that acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connector {
    /// Its kind.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What a connector host says was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptStatement {
    /// `lethe-receipt/v1`.
    pub schema: String,
    /// The case.
    pub request_id: CaseId,
    /// Digest of the plan.
    pub plan_digest: String,
    /// The step.
    pub step: PlanStep,
    /// The instruction.
    pub instruction: InstructionId,
    /// Its place among all instructions.
    pub generation: Generation,
    /// What was done.
    pub outcome: Outcome,
    /// How many records, in a bucket.
    pub records: String,
    /// The connector.
    pub connector: Connector,
    /// When the call began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// 128 random bits, hexadecimal.
    pub nonce: String,
}

impl Statement for ReceiptStatement {
    const PAYLOAD_TYPE: &'static str = "application/vnd.lethe.receipt+json;v=1";
    const WHAT: &'static str = "receipt";
    const SCHEMA: &'static str = "lethe-receipt/v1";

    fn misformed(&self) -> Option<&'static str> {
        first_wrong(&[
            ("schema", self.schema == Self::SCHEMA),
            ("nonce", is_nonce(&self.nonce)),
            ("plan_digest", is_digest(&self.plan_digest)),
            ("records", BUCKETS.contains(&self.records.as_str())),
            (
                "connector",
                is_text(&self.connector.name) && is_text(&self.connector.version),
            ),
        ])
    }
}

/// What was seen afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationStatement {
    /// `lethe-observation/v1`.
    pub schema: String,
    /// The case.
    pub request_id: CaseId,
    /// Digest of the plan.
    pub plan_digest: String,
    /// The step.
    pub step: PlanStep,
    /// The instruction.
    pub instruction: InstructionId,
    /// What was seen.
    pub observed: Observed,
    /// How independent the look was of the work.
    pub independence: Independence,
    /// When.
    pub at: Timestamp,
    /// Digest of the receipt that it checks; none for a step that only observes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// 128 random bits, hexadecimal.
    pub nonce: String,
}

impl Statement for ObservationStatement {
    const PAYLOAD_TYPE: &'static str = "application/vnd.lethe.observation+json;v=1";
    const WHAT: &'static str = "observation";
    const SCHEMA: &'static str = "lethe-observation/v1";

    fn misformed(&self) -> Option<&'static str> {
        first_wrong(&[
            ("schema", self.schema == Self::SCHEMA),
            ("nonce", is_nonce(&self.nonce)),
            ("plan_digest", is_digest(&self.plan_digest)),
            (
                "receipt",
                match &self.receipt {
                    Some(receipt) => is_digest(receipt),
                    None => self.step.verb == Verb::Observe,
                },
            ),
        ])
    }
}

/// What the certificate is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An erasure (GDPR Art. 17).
    Erasure,
    /// A restriction (Art. 18).
    Restriction,
    /// The end of a restriction (Art. 18(3)).
    RestrictionLifted,
}

impl Kind {
    /// The verb of every step of such a plan that changes something.
    pub const fn verb(self) -> Verb {
        match self {
            Self::Erasure => Verb::Erase,
            Self::Restriction => Verb::Restrict,
            Self::RestrictionLifted => Verb::Lift,
        }
    }

    /// The right that it answers to.
    pub const fn right(self) -> Right {
        match self {
            Self::Erasure => Right::Erasure,
            Self::Restriction | Self::RestrictionLifted => Right::Restriction,
        }
    }
}

/// How a case ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// Everything planned was done and observed, or is a stated exception.
    Completed,
    /// A person closed it without that.
    NotCompleted,
}

/// Id and legal name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Short id.
    pub id: String,
    /// Legal name.
    pub name: String,
}

/// The software that orchestrated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestReference {
    /// The case.
    pub request_id: CaseId,
    /// When it arrived.
    pub received_at: Timestamp,
    /// When the answer was due.
    pub due_at: Timestamp,
    /// The ground, such as `17-1-b`; empty where none was stated.
    pub ground: String,
}

/// Whom it is about, without saying so: see [`crate::commit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// How the commitment was made.
    pub scheme: String,
    /// The commitment, hexadecimal.
    pub commitment: String,
}

/// The plan that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanReference {
    /// Its digest.
    pub digest: String,
    /// Index of its leaf.
    pub index: u64,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The step.
    pub step: PlanStep,
    /// Its state.
    pub state: StepState,
    /// What the system reported.
    pub reported: Option<Outcome>,
    /// How independent the observation was.
    pub independence: Option<Independence>,
    /// Digest of the receipt.
    pub receipt: Option<String>,
    /// Digest of the observation.
    pub observation: Option<String>,
    /// Code of what went wrong, for a step that fell short.
    pub reason: Option<String>,
}

/// A copy that ends later than the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The stream or backup.
    pub place: String,
    /// When it is gone, in words; `pending: ` and why, where nobody can say when the statement is made.
    pub gone_by: String,
}

/// The certificate, or the statement that a case was not completed. Whether it is complete is recomputed from the rows by every
/// verifier and stands nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// `lethe-completion/v1`.
    pub schema: String,
    /// 128 random bits, hexadecimal: the id of the certificate.
    pub certificate_id: String,
    /// What it is about.
    pub kind: Kind,
    /// How the case ended.
    pub conclusion: Conclusion,
    /// The controller.
    pub controller: Party,
    /// The software.
    pub software: Software,
    /// The request.
    pub request: RequestReference,
    /// The person.
    pub subject: Subject,
    /// The plan.
    pub plan: PlanReference,
    /// Earlier plans of the case of which instructions went out, oldest first: what those did is not in the rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<PlanReference>,
    /// Every step of the plan.
    pub rows: Vec<Row>,
    /// What stays.
    pub exceptions: Vec<ExceptionRow>,
    /// Copies that end later.
    pub copies: Vec<Copy>,
    /// What the certificate cannot say, as codes `L1` to `L7`.
    pub limits: Vec<String>,
    /// Why the case was closed without completion.
    pub reasons: Vec<String>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// 128 random bits, hexadecimal.
    pub nonce: String,
}

impl Statement for Completion {
    const PAYLOAD_TYPE: &'static str = "application/vnd.lethe.completion+json;v=1";
    const WHAT: &'static str = "statement";
    const SCHEMA: &'static str = "lethe-completion/v1";

    fn misformed(&self) -> Option<&'static str> {
        let optional_digest = |digest: &Option<String>| digest.as_deref().is_none_or(is_digest);
        let row = |row: &Row| {
            optional_digest(&row.receipt)
                && optional_digest(&row.observation)
                && row.reason.as_deref().is_none_or(is_code)
        };
        let limits: std::collections::BTreeSet<_> = self.limits.iter().collect();
        first_wrong(&[
            ("schema", self.schema == Self::SCHEMA),
            ("certificate_id", is_nonce(&self.certificate_id)),
            ("nonce", is_nonce(&self.nonce)),
            (
                "controller",
                is_text(&self.controller.id) && is_optional_text(&self.controller.name),
            ),
            (
                "software",
                is_text(&self.software.name) && is_text(&self.software.version),
            ),
            (
                "request",
                self.request.ground.is_empty() || is_code(&self.request.ground),
            ),
            (
                "subject",
                self.subject.scheme == SUBJECT_SCHEME && is_commitment(&self.subject.commitment),
            ),
            ("plan", is_digest(&self.plan.digest)),
            (
                "earlier",
                self.earlier.len() <= LIST_MAX && self.earlier.iter().all(|plan| is_digest(&plan.digest)),
            ),
            ("rows", self.rows.len() <= STEPS_MAX && self.rows.iter().all(row)),
            (
                "exceptions",
                self.exceptions.len() <= STEPS_MAX && self.exceptions.iter().all(|row| is_text(&row.norm)),
            ),
            (
                "copies",
                self.copies.len() <= LIST_MAX
                    && self
                        .copies
                        .iter()
                        .all(|copy| is_text(&copy.place) && is_text(&copy.gone_by)),
            ),
            (
                "limits",
                limits.len() == self.limits.len()
                    && self.limits.iter().all(|code| limit_text(code).is_some()),
            ),
            (
                "reasons",
                self.reasons.len() <= LIST_MAX && self.reasons.iter().all(|code| is_code(code)),
            ),
        ])
    }
}
