//! What the API shows: plain values, the same for the HTTP API, the dashboard and the command line.
//!
//! No view holds a value that names a person: identifiers appear by kind only.

use lethe_terms::{
    Awaited, CaseId, CaseState, CommandId, DataCategory, FailureClass, IdentifierKind, Independence,
    Observed, Outcome, Right, StepState, Strength, Timestamp, Verb,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod plan;
mod topics;

pub use plan::{EarlierView, ExceptionView, PathView, PlanStepView, PlanView};
pub use topics::{TopicList, TopicView};

/// A case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaseView {
    /// Its id.
    pub id: CaseId,
    /// The right that it answers to.
    pub right: Right,
    /// Its state, derived from its events.
    pub state: CaseState,
    /// When the answer is due (GDPR Art. 12(3)).
    pub due: Timestamp,
    /// Digest of the newest plan, `sha256:<hex>`, once one is frozen.
    pub plan_digest: Option<String>,
    /// The steps of the newest plan.
    pub steps: Vec<StepView>,
    /// What went out to systems by the plans before it, the oldest first.
    #[serde(default)]
    pub earlier: Vec<EarlierView>,
    /// Id of the newest certificate or statement, once issued.
    pub certificate: Option<String>,
    /// Every certificate and statement of the case, the oldest first: the one of a restriction stays when it is lifted.
    #[serde(default)]
    pub certificates: Vec<IssuedView>,
    /// When the request arrived.
    pub received_at: Timestamp,
    /// The ground, such as `17-1-b`.
    pub ground: Option<String>,
    /// The person's own earlier restriction that this case supersedes.
    pub supersedes: Option<CaseId>,
    /// The erasure for which the person gave this restriction up before it had ended.
    #[serde(default)]
    pub given_up_for: Option<CaseId>,
    /// The erasure that was opened to supersede this restriction, where there is one.
    #[serde(default)]
    pub superseded_by: Option<SupersededView>,
    /// What came back, where that opened the case and no person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resurrection: Option<ResurrectionView>,
    /// What holds beside the state.
    pub flags: Vec<CaseFlag>,
    /// What a person has to look at.
    pub attention: Vec<AttentionView>,
    /// Remarks of the plan linter on the newest plan.
    pub remarks: Vec<RemarkView>,
    /// The lineage gap: records that asking the systems found and lineage did not know. `None` before planning ended.
    pub gap: Option<u64>,
    /// How many events the case has had: it only grows, so a waiting client can say what it knows already.
    pub revision: u64,
}

impl CaseView {
    /// Id of the certificate or statement that is asked for by its id, or of the newest; none that another case was given.
    pub fn issued(&self, asked: Option<&str>) -> Option<String> {
        let mut newest_first = self.certificates.iter().rev();
        newest_first
            .find(|issued| asked.is_none_or(|asked| asked == issued.certificate))
            .map(|issued| issued.certificate.clone())
    }

    /// Steps that change something; none where nothing of the person was found.
    pub fn acting(&self) -> impl Iterator<Item = &StepView> {
        self.steps.iter().filter(|step| step.verb != Verb::Observe)
    }

    /// Whether an instruction to change something went out, by whatever plan: from then on the request cannot be taken back.
    pub fn has_acted(&self) -> bool {
        let is_open = |step: &StepView| matches!(step.state, StepState::Planned | StepState::Blocked);
        !self.earlier.is_empty() || self.acting().any(|step| !is_open(step))
    }

    /// Whether it goes on by a person only, or not at all.
    pub fn rests(&self) -> bool {
        self.state.is_ended() || self.state.waits_for_person() || self.held_up_by().is_some()
    }

    /// The case by whose restriction an approved one comes to a stand: nothing of it goes on until somebody lifts that.
    pub fn held_up_by(&self) -> Option<CaseId> {
        let mut open = self.steps.iter().filter(|step| step.state != StepState::Verified);
        let stands = open.clone().all(|step| step.state == StepState::Blocked);
        open.find_map(|step| step.held_by)
            .filter(|_| stands && self.state == CaseState::Acting)
    }

    /// Steps that look whether nothing is there, where nothing of the person was found.
    pub fn looks(&self) -> impl Iterator<Item = &StepView> {
        self.steps.iter().filter(|step| step.verb == Verb::Observe)
    }
}

/// A certificate or statement that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IssuedView {
    /// Its id.
    pub certificate: String,
    /// What its plan carried out.
    pub verb: Verb,
    /// Whether it states completion: otherwise it states that a person closed the case without.
    pub completed: bool,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// Digest of its plan, `sha256:<hex>`.
    pub plan_digest: String,
}

/// The erasure in whose favour the person gives a restriction up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SupersededView {
    /// The erasure.
    pub case: CaseId,
    /// Whether it was completed: what it erased is restricted no more.
    pub done: bool,
}

/// Data of an erased person that was observed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResurrectionView {
    /// The case that had erased it.
    pub of: CaseId,
    /// Where it came back.
    pub system: String,
}

/// What holds of a case beside its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaseFlag {
    /// The time to answer was extended, with notice to the person.
    Extended,
    /// The clock stands still.
    ClockPaused,
    /// The person's data is restricted now.
    Restricted,
}

/// Something that a person has to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttentionView {
    /// The system that it is about.
    pub system: String,
    /// The dataset, where it is about one.
    pub dataset: Option<String>,
    /// Stable code, with a page in ops/errors.
    pub code: String,
}

/// A step of a plan, as far as it is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// Number of the step in its plan, from 0.
    pub step: u32,
    /// The system.
    pub system: String,
    /// The dataset.
    pub dataset: String,
    /// What is asked.
    pub verb: Verb,
    /// Its state.
    pub state: StepState,
    /// What the system says it did: a statement, not yet a fact.
    pub outcome: Option<Outcome>,
    /// How many records: of the plan, or once reported, of the report.
    pub records: u64,
    /// What an observation saw.
    pub observed: Option<Observed>,
    /// How independent that observation was.
    pub independence: Option<Independence>,
    /// How it failed, where it did.
    pub failure: Option<FailureClass>,
    /// Code of the failure, with a page in ops/errors.
    pub code: Option<String>,
    /// What it waits for, where it is blocked.
    pub blocked_by: Option<BlockedBy>,
    /// The case whose restriction it waits for, where it does: one of them, where there are several.
    #[serde(default)]
    pub held_by: Option<CaseId>,
    /// What the system said that works on it, and when it is asked again.
    #[serde(default)]
    pub in_progress: Option<InProgressView>,
}

/// What a system said that has taken a step on and not done it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InProgressView {
    /// What it waits for; `None` where it does its own work.
    pub awaits: Option<Awaited>,
    /// When it is asked again; later where it cannot be reached.
    pub ask_at: Timestamp,
    /// What it is asked with, in its own words.
    pub ticket: String,
}

/// What a blocked step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockedBy {
    /// Another step.
    Dependency,
    /// The end of a hold or of another case's restriction.
    Hold,
}

/// A remark of the plan linter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemarkView {
    /// Stable code, such as `field_not_erasable`.
    pub code: String,
    /// Whether approving in spite of it would leave data behind.
    pub fatal: bool,
    /// The system; nothing where it is about all of them.
    pub system: Option<String>,
    /// The dataset, where it is about one.
    pub dataset: Option<String>,
    /// Names of fields, systems or kinds of identifiers.
    pub detail: Vec<String>,
}

/// Cases, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CasePage {
    /// The cases of the page.
    pub cases: Vec<CaseView>,
    /// What to give as `page` for the next page; `None` at the end.
    pub next: Option<String>,
    /// How many cases there are, whatever the page and the filter.
    pub total: u64,
}

/// A person's lineage: what a walk reached, and why. Kinds, never values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LineageView {
    /// The records.
    pub records: Vec<LineageRecord>,
    /// Identifiers and records as a graph.
    pub nodes: Vec<LineageNode>,
    /// What connects them.
    pub edges: Vec<LineageEdge>,
    /// Records that share only a shared identifier with the person, such as an office address: not the person's, as far as is known.
    pub candidates_behind_shared: u64,
    /// Whether every partition of lineage answered and had read everything, and every system was read to its end; what is missing is unknown,
    /// never absent.
    pub complete: bool,
    /// Code of the bound that ended the walk before it had reached everything, with a page in ops/errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<String>,
    /// Inputs in quarantine, of whatever system: each may hide records of the person.
    #[serde(default)]
    pub quarantined: u64,
}

/// Records of one dataset that a walk reached in one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageRecord {
    /// The system.
    pub system: String,
    /// The dataset.
    pub dataset: String,
    /// How many rows or lines.
    pub count: u64,
    /// Kinds of the identifiers along the way, nearest to the record last.
    pub path: Vec<IdentifierKind>,
    /// The link that would have to be cut for the record not to be reached, where one link carries it.
    pub link: Option<String>,
}

/// A node of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageNode {
    /// Names the node within this answer; means nothing outside of it.
    pub id: String,
    /// What it is.
    #[serde(flatten)]
    pub what: LineageWhat,
}

/// What a node of the picture is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "node", rename_all = "snake_case")]
pub enum LineageWhat {
    /// An identifier.
    Identifier {
        /// Its kind.
        kind: IdentifierKind,
        /// How far a walk follows it.
        strength: Strength,
        /// Whether the person gave it.
        given: bool,
    },
    /// A record.
    Record {
        /// The system.
        system: String,
        /// The dataset.
        dataset: String,
        /// How many rows or lines.
        count: u64,
    },
}

/// An edge of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineageEdge {
    /// Id of the node that it comes from.
    pub from: String,
    /// Id of the node that it goes to.
    pub to: String,
    /// How they are connected.
    pub how: LineageHow,
}

/// How two nodes of the picture are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineageHow {
    /// The record names the identifier.
    Identifies,
    /// The second was copied from the first.
    CopiedTo,
    /// The second was derived from the first.
    DerivedFrom,
    /// The first was disclosed to the second.
    DisclosedTo,
}

/// A system of personal data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemView {
    /// Its name.
    pub name: String,
    /// Kind of its connector, such as `sql`.
    pub kind: String,
    /// How it stands.
    pub state: SystemState,
    /// Its datasets.
    pub datasets: Vec<DatasetView>,
    /// When its feed was last read without an error.
    pub last_feed_at: Option<Timestamp>,
    /// How far reading is behind, in milliseconds; `None` where that is unknown.
    pub lag_ms: Option<u64>,
    /// Input that could not be read and stands in quarantine.
    pub quarantined: u64,
    /// What the last check found.
    pub findings: Vec<FindingView>,
}

/// How a system stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemState {
    /// It answers, and its feed is read.
    Up,
    /// Its feed is being read for the first time.
    Scanning,
    /// It was paused by a person or by the configuration.
    Paused,
    /// It does not answer.
    Unreachable,
    /// Nothing is known yet.
    Unknown,
}

/// A dataset of a system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetView {
    /// Its name.
    pub name: String,
    /// What a record of it is, in words.
    pub unit: String,
    /// What can be done with it.
    pub verbs: Vec<Verb>,
    /// Categories of personal data in it.
    pub categories: Vec<DataCategory>,
    /// How many records lineage knows; `None` where it is not counted.
    pub records: Option<u64>,
}

/// One finding of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingView {
    /// What was looked at.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is wrong and what was expected.
    pub detail: String,
}

/// The result of a check of one system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    /// The system.
    pub system: String,
    /// Whether every finding is as it should be.
    pub ok: bool,
    /// The findings.
    pub findings: Vec<FindingView>,
}

/// How far the scan of a system is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScanView {
    /// The system.
    pub system: String,
    /// How it stands.
    pub state: ScanState,
    /// Units read so far.
    pub done: u64,
    /// Units in total, where that is known.
    pub total: Option<u64>,
    /// What a unit is, such as `rows`.
    pub unit: String,
    /// Records observed so far.
    pub records: u64,
    /// Input that could not be read and was put into quarantine.
    pub quarantined: u64,
    /// Code of the error, where it failed, or of what a running one waits for: `node-host-silent`.
    pub code: Option<String>,
}

/// How a scan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanState {
    /// It was never asked for.
    NotStarted,
    /// It runs.
    Running,
    /// Everything was read once; the feed goes on from there.
    Finished,
    /// It ended badly; see the code.
    Failed,
}

/// What the conformance suite found of a connector against its live system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConformanceView {
    /// The system.
    pub system: String,
    /// Whether no MUST is broken.
    pub ok: bool,
    /// The numbered MUSTs of the contract.
    pub musts: Vec<MustView>,
}

/// One MUST of the connector contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MustView {
    /// Its number in the contract.
    pub number: String,
    /// What it says.
    pub must: String,
    /// Whether it is kept.
    pub result: MustResult,
    /// What was seen.
    pub detail: String,
}

/// Whether a MUST is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MustResult {
    /// It is kept.
    Kept,
    /// It is broken.
    Broken,
    /// It does not apply to this connector, or was not tried on a live system.
    NotTried,
}

/// A command was taken: it is on the log and survives a crash. What came of it shows in the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AcceptedView {
    /// The case.
    pub case: CaseId,
    /// The command; repeating it changes nothing.
    pub command: CommandId,
}

/// Whether the server works, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HealthView {
    /// Whether all parts are well.
    pub ok: bool,
    /// The parts.
    pub parts: Vec<FindingView>,
}

/// A partition of lineage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionView {
    /// Its number.
    pub partition: u16,
    /// The process that answers for it; `None` where every process has its own.
    pub process: Option<String>,
    /// How many positions of the log are still to be folded; `None` where nobody answers.
    pub behind: Option<u64>,
}

/// All partitions of lineage.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PartitionList {
    /// By number.
    pub partitions: Vec<PartitionView>,
    /// The hash of all rows, once every partition has folded what the log held when it was asked for; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_hash: Option<String>,
}

/// All systems.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SystemList {
    /// The systems, by name.
    pub systems: Vec<SystemView>,
}

/// One input that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantinedView {
    /// Its number in the quarantine.
    pub position: u64,
    /// When it was put there.
    pub at: Timestamp,
    /// The system that it came from.
    pub system: Option<String>,
    /// Where it stood in its source, in the connector's words.
    pub place: String,
    /// Code of the error; see ops/errors.
    pub code: String,
    /// What was expected.
    pub expected: String,
}

/// Inputs that could not be read, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineList {
    /// The newest.
    pub inputs: Vec<QuarantinedView>,
    /// How many there are.
    pub total: u64,
}

/// An input that was to be taken in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetriedView {
    /// What is known of it, with the newest reason where it stays.
    #[serde(flatten)]
    pub about: QuarantinedView,
    /// Whether it was taken in and has left the quarantine.
    pub taken_in: bool,
}

/// One input that could not be read, with what it is. It may name people.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantinedInput {
    /// What is known of it.
    #[serde(flatten)]
    pub about: QuarantinedView,
    /// The input, base64.
    pub input: String,
}
