//! What the gateway asks of whoever runs it. The gateway knows HTTP and pages; the backend knows the log.

use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::CloseReason;
use lethe_terms::{CaseId, CommandId, Identifier, Timestamp};

use crate::asks::{CaseQuery, OpenCase, QuarantineQuery};
use crate::callbacks::{Callback, CallbackView};
use crate::events::{EventResult, IntakeKeyList};
use crate::views::{
    AcceptedView, CasePage, CaseView, CheckView, ConformanceView, HealthView, LineageView, PartitionList,
    PlanView, QuarantineList, QuarantinedInput, QuarantinedView, RetriedView, ScanView, SystemView,
    TopicList,
};

/// Why the backend did not do what it was asked. No text of it holds personal data: it may end in a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// There is no such case, plan, system or certificate.
    #[error("no such {what}")]
    NotFound {
        /// What was looked for, such as `case`.
        what: &'static str,
    },
    /// It does not fit the state of things; nothing was done.
    #[error("{message}")]
    Conflict {
        /// Stable code, with a page in ops/errors.
        code: String,
        /// What is in the way and what would fit.
        message: String,
    },
    /// What was asked is malformed; nothing was done.
    #[error("{message}")]
    Invalid {
        /// Stable code, with a page in ops/errors.
        code: String,
        /// What is wrong.
        message: String,
        /// What was expected.
        expected: String,
    },
    /// It did not happen and may work later.
    #[error("{message}")]
    Unavailable {
        /// Stable code, with a page in ops/errors.
        code: String,
        /// What is not there.
        message: String,
    },
    /// Whether it happened is unknown: ask, or repeat with the same `Idempotency-Key`.
    #[error("{message}")]
    Unknown {
        /// Stable code, with a page in ops/errors.
        code: String,
        /// What is not known.
        message: String,
    },
}

/// A file that the backend hands out as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What the gateway asks. Implemented by the node.
///
/// Every command carries a [`CommandId`]: the same id twice MUST have the effect of once and get the same answer, and an id that has only
/// the key of one that was carried out ([`CommandId::has_key_of`]) MUST be refused with `casework-key-reused`. A command is
/// answered once it is durably on the log; what came of it shows in the case.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Id of a command with a key that the client chose: its first half follows from the key alone, its second from key and body, so that the
    /// same key with another body is told apart, however long ago it came. Ids stand on the log in the clear and a body names a person: both
    /// halves are computed under a key of the server's own.
    fn command_id(&self, key: &[&str], body: &[u8]) -> CommandId;

    /// Cases, newest first.
    async fn cases(&self, query: &CaseQuery) -> Result<CasePage, BackendError>;
    /// For how long what happened to cases may not have been read: the answers about them may know nothing of it.
    fn cases_age(&self) -> Duration;
    /// One case.
    async fn case(&self, id: CaseId) -> Result<CaseView, BackendError>;
    /// The case as soon as its revision is above `after` (where one is given) and it has ended or waits for a person; at the
    /// latest when `wait` is over, then as it is.
    async fn wait_case(
        &self,
        id: CaseId,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<CaseView, BackendError>;
    /// The newest plan of a case; not found while none is frozen.
    async fn plan(&self, id: CaseId) -> Result<PlanView, BackendError>;

    /// Opens a case. The ground was checked to belong to the right.
    async fn open_case(&self, command: CommandId, ask: OpenCase) -> Result<AcceptedView, BackendError>;
    /// Approves the plan with this digest; a conflict where it is not the one that waits for approval.
    async fn approve(
        &self,
        command: CommandId,
        id: CaseId,
        plan_digest: &str,
    ) -> Result<AcceptedView, BackendError>;
    /// The person takes the request back.
    async fn withdraw(&self, command: CommandId, id: CaseId) -> Result<AcceptedView, BackendError>;
    /// Ends the restriction of a completed restriction case.
    async fn lift(
        &self,
        command: CommandId,
        id: CaseId,
        notified_at: Timestamp,
    ) -> Result<AcceptedView, BackendError>;
    /// Makes a new plan for a case that needs attention.
    async fn replan(&self, command: CommandId, id: CaseId) -> Result<AcceptedView, BackendError>;
    /// Closes a case as not completed.
    async fn close(
        &self,
        command: CommandId,
        id: CaseId,
        reason: CloseReason,
    ) -> Result<AcceptedView, BackendError>;

    /// The lineage of the person behind identifiers, as the person wrote them.
    async fn lineage(&self, identifiers: Vec<Identifier>) -> Result<LineageView, BackendError>;

    /// Who folds each partition of lineage and how far behind; with `hash`, the hash of all rows, which takes some seconds a million.
    async fn partitions(&self, hash: bool) -> Result<PartitionList, BackendError>;

    /// How long what was ended may still stand in each topic of the log, and what was found about it.
    async fn topics(&self) -> Result<TopicList, BackendError>;

    /// All systems, by name.
    async fn systems(&self) -> Result<Vec<SystemView>, BackendError>;
    /// Checks that a system can be reached and allows what its manifest says.
    async fn system_check(&self, name: &str) -> Result<CheckView, BackendError>;
    /// Starts the scan of a system, unless it runs already.
    async fn start_scan(&self, name: &str) -> Result<ScanView, BackendError>;
    /// How far the scan of a system is.
    async fn scan(&self, name: &str) -> Result<ScanView, BackendError>;
    /// Runs the conformance suite against a live system, with made-up people only.
    async fn connector_check(&self, name: &str) -> Result<ConformanceView, BackendError>;

    /// Inputs that could not be read, newest first.
    async fn quarantine(&self, query: &QuarantineQuery) -> Result<QuarantineList, BackendError>;
    /// One of them, with what it is.
    async fn quarantined(&self, position: u64) -> Result<QuarantinedInput, BackendError>;
    /// Takes one out of the count: an operator has seen that it hides nobody. Again changes nothing.
    async fn drop_quarantined(&self, position: u64) -> Result<QuarantinedView, BackendError>;
    /// Has one taken in again, after something was mended, and waits for what becomes of it. Again changes nothing.
    async fn retry_quarantined(&self, position: u64) -> Result<RetriedView, BackendError>;

    /// Takes events that the holder of this key publishes; nobody where the server is open. One result for each, in their order: an event
    /// is accepted once it is durably on the log, and accepting it twice MUST have the effect of once.
    async fn publish(
        &self,
        caller: Option<&str>,
        events: Vec<Vec<u8>>,
    ) -> Result<Vec<EventResult>, BackendError>;
    /// The keys that publishers may seal to, the newest first.
    async fn intake_keys(&self) -> Result<IntakeKeyList, BackendError>;
    /// Makes a new one; the others end sooner.
    async fn renew_intake_key(&self) -> Result<IntakeKeyList, BackendError>;

    /// Asks a remote connector at once how far an instruction is, where the callback is signed by it.
    async fn called_back(&self, callback: Callback) -> Result<CallbackView, BackendError>;

    /// The certificate or statement of a case with this id, or the newest; not found where the case has none such.
    async fn certificate(&self, id: CaseId, certificate: Option<&str>) -> Result<Document, BackendError>;
    /// What opens the commitment to the person in a case's certificates, as a file for whoever may check whom they are about: the person, an auditor.
    async fn opening(&self, id: CaseId) -> Result<Document, BackendError>;
    /// The policy that verifiers of this server's certificates need; to be handed over by another way than the certificate.
    async fn policy(&self) -> Result<Document, BackendError>;

    /// Whether the server works at all. Quick, no I/O.
    async fn health(&self) -> HealthView;
    /// Whether it can take work now.
    async fn ready(&self) -> HealthView;
    /// Metrics in Prometheus' text format.
    async fn metrics(&self) -> String;
}
