//! What is asked of the program and what it answers: the wire form, of which `schemas/json` holds the JSON Schemas.
//!
//! Every message names its version, its system and the revision of the manifest that its sender knows. Names of calls and answers stand
//! inside the body, since the signature covers the body and neither path nor status.

use std::collections::BTreeMap;

use lethe_terms::{
    Awaited, DataCategory, DatasetName, FailureClass, Identifier, Independence, InstructionId, IssuedKind,
    LegalBasis, Observed, Outcome, Purpose, ShardName, SystemName, Verb,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of these messages. Another one is refused by either side.
pub const VERSION: u32 = 1;

/// A request: one call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestMessage {
    /// Version of the messages: 1.
    pub version: u32,
    /// The system that is meant, as Lethe's configuration names it. The program refuses another one's.
    pub system: SystemName,
    /// Revision of the manifest that Lethe started with; only the call `manifest` goes without. The program refuses another one than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What is asked.
    pub call: Call,
}

/// What is asked. The object has one key, the name of the call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// What the program declares of itself. Answer: `manifest`.
    Manifest {},
    /// Whether its system can be reached and allows what the manifest says; touches no personal data. Answer: `checked`.
    Check {},
    /// Records that appeared, changed or left since the cursor. Answer: `page`.
    Feed {
        /// The shard.
        shard: ShardName,
        /// Where to read on: the program's own mark; from the beginning where left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        /// About how many units to read at most.
        limit: u64,
    },
    /// The person's records, by identifiers. Answer: `located`.
    Locate {
        /// Whom it is about.
        selector: SelectorMessage,
        /// Where to read on: the program's own mark; from the beginning where left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page: Option<String>,
    },
    /// Erase, restrict or lift. The same instruction twice has the effect of once and gets the same answer. Answer: `done`, `accepted` or `refused`.
    Perform {
        /// The instruction; `webhook-id` of the request as well.
        instruction: InstructionId,
        /// A lower one than was seen for one of the records is refused whole.
        generation: GenerationMessage,
        /// The dataset.
        dataset: DatasetName,
        /// Erase, restrict or lift.
        verb: Verb,
        /// The records, by handle, and the person's identifiers. Work is done on the records, never on whatever an identifier matches.
        selector: SelectorMessage,
    },
    /// How far an accepted instruction is. Answer: as to `perform`.
    Poll {
        /// The instruction that was accepted.
        instruction: InstructionId,
        /// What was given with `accepted`.
        ticket: String,
    },
    /// What is there now, by another statement on another connection than the work's. Answer: `observed`.
    Observe {
        /// The dataset.
        dataset: DatasetName,
        /// The records, by handle, and the person's identifiers.
        selector: SelectorMessage,
    },
    /// The person's data. Answer: `exported`.
    Export {
        /// Whom it is about.
        selector: SelectorMessage,
        /// Where to read on: the program's own mark; from the beginning where left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page: Option<String>,
    },
}

/// Place of an instruction among all: by plan, then by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerationMessage {
    /// Index of the plan in the ledger.
    pub plan: u64,
    /// Number of the step in it.
    pub step: u32,
}

/// Whom a call is about. Personal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectorMessage {
    /// Handles of records, as the program gave them.
    pub records: Vec<String>,
    /// Identifiers of the person, normalised: e-mails in lower case, telephone numbers as E.164.
    pub identifiers: Vec<Identifier>,
}

/// An answer.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerMessage {
    /// Version of the messages: 1.
    pub version: u32,
    /// The system that answers.
    pub system: SystemName,
    /// Revision of the program's manifest: any text of at most 63 of a-z, A-Z, 0-9, '-', '_' and '.'; another one whenever the manifest changes.
    pub manifest: String,
    /// What is said.
    pub answer: Answer,
}

/// What is said. The object has one key, the name of the answer.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// To `manifest`.
    Manifest(ManifestMessage),
    /// To `check`: one finding for each thing that was looked at.
    Checked {
        /// The findings.
        findings: Vec<FindingMessage>,
    },
    /// To `feed`.
    Page {
        /// Records that appeared, changed or left, whole.
        observations: Vec<ObservationMessage>,
        /// Input that could not be read.
        #[serde(default)]
        rejected: Vec<RejectedMessage>,
        /// Where to read on: at most 1024 bytes, no key of a record and nothing made of one.
        cursor: String,
        /// Whether there is more right now.
        more: bool,
        /// Units read so far and in total, where they are known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<ProgressMessage>,
    },
    /// To `locate`.
    Located {
        /// Records of the person, whole.
        observations: Vec<ObservationMessage>,
        /// Where to read on; left out at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// To `perform` and `poll`: it is done, as far as the system says.
    Done {
        /// The instruction that was asked for or about; another one's answer is not believed.
        instruction: InstructionId,
        /// The outcome.
        outcome: Outcome,
        /// How many records it touched.
        records: u64,
        /// Names of tables and the like with numbers, never values.
        #[serde(default)]
        details: BTreeMap<String, u64>,
    },
    /// To `perform` and `poll`: taken, and not done yet.
    Accepted {
        /// The instruction that was asked for or about; another one's answer is not believed.
        instruction: InstructionId,
        /// What Lethe quotes when it asks again: at most 127 of a-z, A-Z, 0-9, '-', '_' and '.', nothing personal.
        ticket: String,
        /// When to ask again, in milliseconds.
        ask_after_ms: u64,
        /// What it waits for, where that is not its own work.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        awaits: Option<Awaited>,
    },
    /// To `perform` and `poll`: refused, and nothing of it was done.
    Refused {
        /// The instruction that was asked for or about; another one's answer is not believed.
        instruction: InstructionId,
        /// Why, as lower-case words with dashes, such as `stale-generation`.
        code: String,
    },
    /// To `observe`.
    Observed {
        /// What was seen.
        observed: Observed,
        /// How many records were still seen.
        records: u64,
        /// How independent this very look was.
        independence: Independence,
        /// Keys of the selected records that are not there any more.
        #[serde(default)]
        gone: Vec<String>,
    },
    /// To `export`.
    Exported {
        /// The person's data.
        values: Vec<serde_json::Value>,
        /// Where to read on; left out at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<String>,
    },
    /// To any call: it failed.
    Failed {
        /// Whether it happened, and whether trying again is safe.
        class: FailureClass,
        /// Why, as lower-case words with dashes, such as `database-locked`.
        code: String,
    },
}

/// What the program declares of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ManifestMessage {
    /// The datasets: what its records are.
    pub datasets: Vec<DatasetMessage>,
    /// Source shards that `feed` reads.
    pub shards: Vec<ShardName>,
    /// Kinds of identifiers by which `locate` searches. Ids that the company does not give itself stand with their issuer, such as `user_id@forum`:
    /// here, in what is located and in what is asked for. Ids of other issuers are never sent.
    pub locates_by: Vec<IssuedKind>,
    /// Whether the same instruction twice is detected and answered with the same receipt, over restarts too.
    pub detects_repeats: bool,
    /// How independent observations are of the work at best.
    pub independence: Independence,
    /// Most calls at the same time, 1 to 64.
    pub concurrency_max: u32,
    /// Least time between two calls, in milliseconds, at most an hour.
    #[serde(default)]
    pub pace_ms: u64,
    /// How long backups keep what was erased, in days; left out where nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_days: Option<u32>,
}

/// One dataset: one kind of record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetMessage {
    /// Its name.
    pub name: DatasetName,
    /// What a record of it is, in words, such as `a contact`.
    pub unit: String,
    /// What can be done with it.
    pub verbs: Vec<Verb>,
    /// Categories of personal data in it.
    pub categories: Vec<DataCategory>,
    /// Why the data is processed.
    pub purpose: Purpose,
    /// On what basis.
    pub basis: LegalBasis,
    /// Fields that an erasure leaves in place.
    #[serde(default)]
    pub keeps: Vec<String>,
    /// Datasets of the same system that must be done before it.
    #[serde(default)]
    pub after: Vec<DatasetName>,
    /// Whether two strong identifiers in one record of it are one person's.
    pub proves_identity: bool,
    /// How long the system needs before an observation can tell, in milliseconds.
    #[serde(default)]
    pub settle_ms: u64,
    /// How long the system may take to act, in milliseconds.
    #[serde(default)]
    pub lead_ms: u64,
}

/// One result of a check.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingMessage {
    /// What was looked at, such as `table contacts`.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What is wrong and what was expected; nothing personal.
    #[serde(default)]
    pub detail: String,
}

/// A record as its system shows it now, whole: every identifier that it holds. Personal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationMessage {
    /// The dataset.
    pub dataset: DatasetName,
    /// Stable key of the record within the dataset, at most 1024 bytes.
    pub key: String,
    /// How the program finds the record again; the key where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Every identifier, as the system holds it; none where the record is gone.
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    /// How many rows it stands for.
    #[serde(default = "one")]
    pub count: u64,
    /// Whether the record is gone.
    #[serde(default)]
    pub gone: bool,
}

const fn one() -> u64 {
    1
}

/// Input that could not be read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectedMessage {
    /// Where it stands in its source, such as `line 1024`: numbers, and of words `file`, `page`, `part`, `line`, `row`, `column`, `record`, `entry`, `message`, `offset`, `byte`. Anything else is not shown.
    pub position: String,
    /// The input itself, in base64. Personal.
    pub input: String,
}

/// How far a feed is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressMessage {
    /// Units read so far.
    pub done: u64,
    /// Units in total.
    pub total: u64,
}
