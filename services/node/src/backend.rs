//! What the gateway asks of the node: views of its state, and commands onto the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_casework::Refusal;
use lethe_conductor::Refused;
use lethe_gateway::asks::{CaseQuery, Ground, OpenCase, QuarantineQuery};
use lethe_gateway::backend::{Backend, BackendError, Document};
use lethe_gateway::events::{EventResult, IntakeKeyList};
use lethe_gateway::views::{
    AcceptedView, CasePage, CaseView, CheckView, ConformanceView, HealthView, LineageView, PartitionList,
    PlanView, QuarantineList, QuarantinedInput, QuarantinedView, RetriedView, ScanView, SystemState,
    SystemView, TopicList,
};
use lethe_gateway::{Callback, CallbackView};
use lethe_journal::{CaseOrigin, CloseReason, Command, DatasetRef, Opening, Selectors, SystemTold};
use lethe_log::EventLog;
use lethe_terms::{CaseId, CommandId, Identifier, SystemName, Timestamp};

use crate::board::Board;
use crate::callbacks::Callbacks;
use crate::case_keys::{CaseKeys, Drawn};
use crate::cases::{Cases, CommandRefused};
use crate::evidence::Evidence;
use crate::metrics::Metrics;
use crate::published::{Checker, Desk, not_taken};
use crate::quarantine::{Quarantine, Retry};
use crate::readiness::Readiness;
use crate::systems::System;
use crate::walker::Walker;
use crate::{Error, case_list, issuers, publish, scans, shell, views};

/// How long an answer to a command may take until the request is told that the outcome is unknown.
const SETTLE_PATIENCE: Duration = Duration::from_secs(10);

/// How long whoever asks for a case that is not known here may wait until the log was read to its end: where it answers, that takes a moment.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a page of systems may wait for the number of their records.
const COUNT_PATIENCE: Duration = Duration::from_secs(2);

/// The node as the gateway sees it.
pub(crate) struct NodeBackend {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) keys: CaseKeys,
    pub(crate) cases: Cases,
    pub(crate) walker: Arc<Walker>,
    pub(crate) board: Arc<Board>,
    pub(crate) callbacks: Callbacks,
    /// When a scan of a system was asked for last.
    pub(crate) asked: Mutex<BTreeMap<SystemName, Timestamp>>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) desk: Desk,
    pub(crate) checker: Arc<Checker>,
}

pub(crate) fn unavailable(error: &Error) -> BackendError {
    tracing::warn!(
        code = error.code(),
        error = error as &dyn std::error::Error,
        "a request could not be answered"
    );
    BackendError::Unavailable {
        code: error.code().to_owned(),
        message: error.to_string(),
    }
}

impl NodeBackend {
    /// Puts a command on the log and waits until the conductor carried it out or refused it.
    async fn submit(&self, command: Command) -> Result<AcceptedView, BackendError> {
        let (case, id) = (command.case(), command.id());
        let opens = matches!(command, Command::Open { .. });
        let mut changes = self.cases.changes();
        if self.cases.settled(case, id).is_none() {
            publish::command(&*self.log, "/lethe/gateway", command)
                .await
                .map_err(|error| unavailable(&error))?;
        }
        let settled = tokio::time::timeout(SETTLE_PATIENCE, async {
            loop {
                if let Some(settled) = self.cases.settled(case, id) {
                    return settled;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        });
        match settled.await {
            Ok(None) => Ok(AcceptedView { case, command: id }),
            Ok(Some(refused)) => Err(refused.into()),
            Err(_) => {
                if opens {
                    self.cases.waits_to_be_opened(case);
                }
                Err(BackendError::Unknown {
                    code: "node-command-unsettled".into(),
                    message: format!(
                        "the command is on the log, and what came of it is not known yet: look at {case}"
                    ),
                })
            }
        }
    }

    /// Refuses a case that nobody opened, once that is certain: what another gateway took on a moment ago is read first.
    async fn known(&self, id: CaseId) -> Result<(), BackendError> {
        match self.cases.is_known(id, CATCH_UP_PATIENCE).await {
            Some(true) => Ok(()),
            Some(false) => Err(BackendError::NotFound { what: "case" }),
            None => Err(BackendError::Unavailable {
                code: "node-cases-not-read".into(),
                message: "whether there is such a case cannot be told: what is on the log was not worked off in time".into(),
            }),
        }
    }

    fn view(&self, id: CaseId) -> Result<CaseView, BackendError> {
        let conductor = self.cases.look();
        let case = conductor
            .case(id)
            .ok_or(BackendError::NotFound { what: "case" })?;
        Ok(views::case_view(&conductor, case))
    }

    fn system(&self, name: &str) -> Result<SystemTold, BackendError> {
        let name: SystemName = name
            .parse()
            .map_err(|_| BackendError::NotFound { what: "system" })?;
        self.board
            .system(&name)
            .ok_or(BackendError::NotFound { what: "system" })
    }

    /// A system that this process can ask itself.
    fn hosted(&self, name: &str) -> Result<&Arc<System>, BackendError> {
        let told = self.system(name)?;
        self.board
            .hosted(&told.inventory.name)
            .ok_or_else(|| BackendError::Unavailable {
                code: "node-hosted-elsewhere".into(),
                message:
                    "the system's connector runs in another process: give that one the role gateway, too, and ask it with --server"
                        .into(),
            })
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<SystemName, Timestamp>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a person can be looked for by, as lineage and systems know it.
    fn sought(&self, identifiers: &[Identifier]) -> Result<Vec<Identifier>, BackendError> {
        let normalised = self.walker.normalised(identifiers).map_err(|error| match error {
            Error::Intake(lethe_intake::Error::Vault(lethe_vault::Error::NotNormalised {
                kind,
                expected,
            })) => BackendError::Invalid {
                code: error.code().to_owned(),
                message: format!("what was given is not an identifier of kind {kind}"),
                expected: expected.to_owned(),
            },
            other => unavailable(&other),
        })?;
        issuers::check(&normalised, &self.board.inventory())?;
        Ok(normalised)
    }

    /// Whether every feed was read to its end, and the last look went well: what was never read is unknown, not absent.
    fn all_read(&self) -> bool {
        self.board
            .systems()
            .all(|told| views::system_state(&told) == SystemState::Up)
    }

    fn opening_of(&self, drawn: &Drawn, ask: &OpenCase) -> Result<Opening, BackendError> {
        let now = shell::now();
        let received_at = ask.received_at.unwrap_or(now);
        if received_at > now {
            return Err(BackendError::Invalid {
                code: "node-received-later".into(),
                message: "the request was received in the future".into(),
                expected: "a moment that has been".into(),
            });
        }
        let ground = ask.checked_ground().map_err(|expected| BackendError::Invalid {
            code: "node-ground".into(),
            message: "unknown ground".into(),
            expected,
        })?;
        let identifiers: Vec<Identifier> = ask.identifiers.iter().cloned().map(Identifier::from).collect();
        let identifiers = self.sought(&identifiers)?;
        let commitment = self
            .evidence
            .commit(drawn, &identifiers)
            .map_err(|error| unavailable(&error))?;
        let selectors = Selectors {
            records: Vec::new(),
            identifiers,
        };
        let given = drawn
            .seal_selectors(selectors)
            .map_err(|error| unavailable(&error))?;
        let (erasure_ground, restriction_ground) = match ground {
            Ground::Erasure(ground) => (Some(ground), None),
            Ground::Restriction(ground) => (None, Some(ground)),
        };
        Ok(Opening {
            right: ask.right,
            erasure_ground,
            restriction_ground,
            received_at,
            origin: CaseOrigin::Requested,
            supersedes: ask.supersedes,
            given,
            commitment,
        })
    }
}

/// The case that a command opens: derived from the key of the command, so that repeating it opens one case.
fn case_of(command: CommandId) -> CaseId {
    let mut id = [0; 8];
    id.copy_from_slice(&command.as_bytes()[..8]);
    CaseId::from_bytes(id)
}

#[async_trait]
impl Backend for NodeBackend {
    fn command_id(&self, key: &[&str], body: &[u8]) -> CommandId {
        let keys = self.walker.intake.tokens();
        let key = || key.iter().map(|part| part.as_bytes());
        let of_key = keys.command_id(key());
        let of_both = keys.command_id(key().chain([body]));
        let mut id = [0; 16];
        id[..8].copy_from_slice(&of_key.as_bytes()[..8]);
        id[8..].copy_from_slice(&of_both.as_bytes()[..8]);
        CommandId::from_bytes(id)
    }

    async fn cases(&self, query: &CaseQuery) -> Result<CasePage, BackendError> {
        case_list::page(&self.cases, query)
    }

    fn cases_age(&self) -> Duration {
        self.cases.rounds().age()
    }

    async fn case(&self, id: CaseId) -> Result<CaseView, BackendError> {
        self.known(id).await?;
        self.view(id)
    }

    async fn wait_case(
        &self,
        id: CaseId,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<CaseView, BackendError> {
        self.known(id).await?;
        let mut changes = self.cases.changes();
        let resting = tokio::time::timeout(wait, async {
            loop {
                let view = self.view(id)?;
                let news = after.is_none_or(|after| view.revision > after);
                if news && view.rests() {
                    return Ok(view);
                }
                if changes.changed().await.is_err() {
                    return self.view(id);
                }
            }
        });
        resting.await.unwrap_or_else(|_| self.view(id))
    }

    async fn plan(&self, id: CaseId) -> Result<PlanView, BackendError> {
        self.known(id).await?;
        let conductor = self.cases.look();
        let case = conductor
            .case(id)
            .ok_or(BackendError::NotFound { what: "case" })?;
        views::plan_view(case).ok_or(BackendError::NotFound { what: "plan" })
    }

    async fn open_case(&self, command: CommandId, ask: OpenCase) -> Result<AcceptedView, BackendError> {
        let case = case_of(command);
        if let Some(opened) = self.cases.look().case(case) {
            return if opened.commands.contains(&command) {
                Ok(AcceptedView { case, command })
            } else {
                Err(CommandRefused::from(&Refused::ByCase(Refusal::KeyReused)).into())
            };
        }
        let drawn = self.keys.draw(case).map_err(|error| unavailable(&error))?;
        let opening = self.opening_of(&drawn, &ask)?;
        self.submit(Command::Open {
            command,
            case,
            key: drawn.wrapped,
            opening,
        })
        .await
    }

    async fn approve(
        &self,
        command: CommandId,
        id: CaseId,
        plan_digest: &str,
    ) -> Result<AcceptedView, BackendError> {
        self.known(id).await?;
        self.submit(Command::Approve {
            command,
            case: id,
            plan_digest: plan_digest.to_owned(),
        })
        .await
    }

    async fn withdraw(&self, command: CommandId, id: CaseId) -> Result<AcceptedView, BackendError> {
        self.known(id).await?;
        self.submit(Command::Withdraw { command, case: id }).await
    }

    async fn lift(
        &self,
        command: CommandId,
        id: CaseId,
        notified_at: Timestamp,
    ) -> Result<AcceptedView, BackendError> {
        self.known(id).await?;
        self.submit(Command::Lift {
            command,
            case: id,
            notified_at,
        })
        .await
    }

    async fn replan(&self, command: CommandId, id: CaseId) -> Result<AcceptedView, BackendError> {
        self.known(id).await?;
        self.submit(Command::Replan { command, case: id }).await
    }

    async fn close(
        &self,
        command: CommandId,
        id: CaseId,
        reason: CloseReason,
    ) -> Result<AcceptedView, BackendError> {
        self.known(id).await?;
        self.submit(Command::Close {
            command,
            case: id,
            reason,
        })
        .await
    }

    async fn lineage(&self, identifiers: Vec<Identifier>) -> Result<LineageView, BackendError> {
        let identifiers = self.sought(&identifiers)?;
        let mut view = self
            .walker
            .lineage_view(&identifiers)
            .await
            .map_err(|error| unavailable(&error))?;
        let quarantined = self.quarantine.count().await;
        view.complete &= self.all_read() && quarantined.is_some();
        view.quarantined = quarantined.unwrap_or_default();
        Ok(view)
    }

    async fn partitions(&self, hash: bool) -> Result<PartitionList, BackendError> {
        let told = views::partitions(&self.walker.lineage, COUNT_PATIENCE, hash).await;
        told.map_err(|error| unavailable(&error))
    }

    async fn topics(&self) -> Result<TopicList, BackendError> {
        Ok(self.readiness.cluster.topics())
    }

    async fn systems(&self) -> Result<Vec<SystemView>, BackendError> {
        // A partition that nobody answers for makes the number unknown, and nothing else.
        let counts = self.walker.lineage.records_by_dataset(COUNT_PATIENCE).await.ok();
        let records = |place: &DatasetRef| Some(counts.as_ref()?.get(place).copied().unwrap_or(0));
        let systems = self.board.systems();
        Ok(systems.map(|told| views::system_view(&told, records)).collect())
    }

    async fn quarantine(&self, query: &QuarantineQuery) -> Result<QuarantineList, BackendError> {
        let named = query
            .system
            .as_deref()
            .map(|name| self.system(name))
            .transpose()?;
        let system = named.map(|told| told.inventory.name);
        let limit = case_list::page_length(query.limit);
        let listed = self.quarantine.list(system.as_ref(), query.before, limit).await;
        listed.map_err(|error| unavailable(&error))
    }

    async fn quarantined(&self, position: u64) -> Result<QuarantinedInput, BackendError> {
        let readable = |event: &[u8]| self.checker.readable(event);
        let found = self.quarantine.show(position, readable).await;
        found
            .map_err(|error| unavailable(&error))?
            .ok_or(BackendError::NotFound { what: "input" })
    }

    async fn drop_quarantined(&self, position: u64) -> Result<QuarantinedView, BackendError> {
        let dropped = self.quarantine.drop_one(position).await;
        dropped
            .map_err(|error| unavailable(&error))?
            .ok_or(BackendError::NotFound { what: "input" })
    }

    async fn retry_quarantined(&self, position: u64) -> Result<RetriedView, BackendError> {
        match self.quarantine.retry(position).await {
            Ok(Retry::Done(view)) => Ok(view),
            Ok(Retry::NoSuchInput) => Err(BackendError::NotFound { what: "input" }),
            Ok(Retry::Impossible(refused)) => Err(BackendError::Conflict {
                code: refused.code.to_owned(),
                message: format!(
                    "the input cannot be taken in again: expected {}",
                    refused.expected
                ),
            }),
            Ok(Retry::Unsettled) => Err(BackendError::Unavailable {
                code: "node-command-unsettled".into(),
                message: "the wish is on the log, and what came of it is not known yet: look at the list"
                    .into(),
            }),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn system_check(&self, name: &str) -> Result<CheckView, BackendError> {
        let findings = self.hosted(name)?.check().await;
        Ok(CheckView {
            system: name.to_owned(),
            ok: findings.iter().all(|finding| finding.ok),
            findings,
        })
    }

    async fn start_scan(&self, name: &str) -> Result<ScanView, BackendError> {
        let told = self.system(name)?;
        let name = told.inventory.name.clone();
        let now = shell::now();
        let started = scans::start(&self.board, &*self.log, &name, now).await;
        started.map_err(|error| unavailable(&error))?;
        self.asked().insert(name, now);
        Ok(views::scan_view(&told, Some(now)))
    }

    async fn scan(&self, name: &str) -> Result<ScanView, BackendError> {
        let told = self.system(name)?;
        let asked = self.asked().get(&told.inventory.name).copied();
        Ok(views::scan_view(&told, asked))
    }

    async fn connector_check(&self, name: &str) -> Result<ConformanceView, BackendError> {
        self.hosted(name)?
            .conformance()
            .await
            .ok_or_else(|| BackendError::Unavailable {
                code: "node-system-away".into(),
                message: "the system cannot be reached".into(),
            })
    }

    async fn publish(
        &self,
        caller: Option<&str>,
        events: Vec<Vec<u8>>,
    ) -> Result<Vec<EventResult>, BackendError> {
        let taken = self.desk.take(caller, events).await;
        taken.map_err(|error| not_taken(&error))
    }

    async fn intake_keys(&self) -> Result<IntakeKeyList, BackendError> {
        self.checker.keys.list().map_err(|error| unavailable(&error))
    }

    async fn renew_intake_key(&self) -> Result<IntakeKeyList, BackendError> {
        let renewed = self
            .checker
            .keys
            .tend(true)
            .and_then(|_| self.checker.keys.list());
        renewed.map_err(|error| unavailable(&error))
    }

    async fn called_back(&self, callback: Callback) -> Result<CallbackView, BackendError> {
        self.callbacks.take(&*self.log, &self.cases, callback).await
    }

    async fn certificate(&self, id: CaseId, certificate: Option<&str>) -> Result<Document, BackendError> {
        self.known(id).await?;
        let name = self
            .view(id)?
            .issued(certificate)
            .ok_or(BackendError::NotFound { what: "certificate" })?;
        let bytes = self
            .evidence
            .certificate(&name)
            .map_err(|error| unavailable(&error))?;
        let bytes = bytes.ok_or(BackendError::NotFound { what: "certificate" })?;
        Ok(Document {
            media_type: "application/vnd.lethe.bundle+json",
            bytes,
        })
    }

    async fn opening(&self, id: CaseId) -> Result<Document, BackendError> {
        self.known(id).await?;
        let commitment = {
            let conductor = self.cases.look();
            let case = conductor
                .case(id)
                .ok_or(BackendError::NotFound { what: "case" })?;
            case.opening.commitment.clone()
        };
        let opening = self
            .evidence
            .opening(&self.keys, id, &commitment)
            .await
            .map_err(|error| unavailable(&error))?
            .ok_or(BackendError::NotFound { what: "opening" })?;
        Ok(Document {
            media_type: "application/json",
            bytes: opening.to_bytes().map_err(|error| unavailable(&error.into()))?,
        })
    }

    async fn policy(&self) -> Result<Document, BackendError> {
        Ok(Document {
            media_type: "application/vnd.lethe.policy+json",
            bytes: self.evidence.policy(),
        })
    }

    async fn health(&self) -> HealthView {
        HealthView {
            ok: true,
            parts: Vec::new(),
        }
    }

    async fn ready(&self) -> HealthView {
        self.readiness.look().await
    }

    async fn metrics(&self) -> String {
        self.metrics.text(&self.cases, &self.board)
    }
}
