//! A made-up backend for tests and the preview: it holds no log, and what it says is said by this file.
//!
//! A case that is opened waits for approval at once; approved it is completed, unless the person's identifier begins with
//! `stuck`: then its second system contradicts it and the case needs attention.

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::CloseReason;
use lethe_terms::{
    CaseId, CaseState, CommandId, Identifier, Independence, Observed, Outcome, Right, StepState, Timestamp,
    Verb,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::asks::{CaseQuery, OpenCase, QuarantineQuery};
use crate::backend::{Backend, BackendError, Document};
use crate::callbacks::{Callback, CallbackView};
use crate::events::{EventResult, IntakeKeyList};
use crate::views::{
    AcceptedView, AttentionView, CaseFlag, CasePage, CaseView, CheckView, ConformanceView, FindingView,
    HealthView, IssuedView, LineageView, PartitionList, PlanView, QuarantineList, QuarantinedInput,
    QuarantinedView, RetriedView, ScanState, ScanView, SystemView, TopicList,
};
use crate::words::overdue;

/// The made-up backend.
pub struct Fake {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    cases: BTreeMap<CaseId, (CaseView, Option<PlanView>)>,
    commands: BTreeMap<CommandId, AcceptedView>,
    systems: Vec<SystemView>,
    stuck: Vec<CaseId>,
    scans: BTreeMap<String, u64>,
    executed: u64,
    now: Timestamp,
    quarantine: Vec<QuarantinedView>,
    missing: Option<String>,
    /// How old what is known of cases is.
    cases_age: Duration,
    published: BTreeSet<Vec<u8>>,
    /// Intake keys that were made after the first.
    intake_keys: u8,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl Fake {
    /// Two systems and no case.
    pub fn new() -> Self {
        let state = State {
            systems: samples::systems(),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
        }
    }

    /// Systems in several states, and a case in each state that a case can be in, as of `now`.
    pub fn with_samples(now: Timestamp) -> Self {
        let fake = Self::new();
        fake.locked().systems.extend(samples::more_systems(now));
        fake.locked().quarantine = samples::quarantine(now);
        fake.locked().cases = samples::cases(now);
        fake.locked().now = now;
        fake
    }

    /// How many commands had an effect.
    pub fn executed(&self) -> u64 {
        self.locked().executed
    }

    /// From now on nobody has a role, as these words say.
    pub fn miss(&self, words: &str) {
        self.locked().missing = Some(words.to_owned());
    }

    /// Nothing has been read of cases for so long.
    pub fn cut_off(&self, age: Duration) {
        self.locked().cases_age = age;
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries a command out once.
    fn once(
        &self,
        command: CommandId,
        act: impl FnOnce(&mut State) -> Result<CaseId, BackendError>,
    ) -> Result<AcceptedView, BackendError> {
        let mut state = self.locked();
        if let Some(known) = state.commands.get(&command) {
            return Ok(known.clone());
        }
        if state.commands.keys().any(|known| known.has_key_of(command)) {
            return Err(BackendError::Invalid {
                code: "casework-key-reused".to_owned(),
                message: "the key came with another body".to_owned(),
                expected: "one key for one command".to_owned(),
            });
        }
        let case = act(&mut state)?;
        state.executed += 1;
        let view = AcceptedView { case, command };
        state.commands.insert(command, view.clone());
        if let Some((case, _)) = state.cases.get_mut(&case) {
            case.revision += 1;
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        Ok(view)
    }
}

fn case_of(state: &mut State, id: CaseId) -> Result<&mut CaseView, BackendError> {
    state
        .cases
        .get_mut(&id)
        .map(|(case, _)| case)
        .ok_or(BackendError::NotFound { what: "case" })
}

fn conflict(code: &str, message: &str) -> BackendError {
    BackendError::Conflict {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn is_ready(case: &CaseView, after: Option<u64>) -> bool {
    after.is_none_or(|after| case.revision > after) && case.rests()
}

fn case_that_needs_attention(state: &mut State, id: CaseId) -> Result<&mut CaseView, BackendError> {
    let case = case_of(state, id)?;
    if case.state == CaseState::NeedsAttention {
        Ok(case)
    } else {
        Err(conflict(
            "fake-no-attention-needed",
            "the case does not need attention",
        ))
    }
}

fn complete(case: &mut CaseView) {
    for step in &mut case.steps {
        step.state = StepState::Verified;
        step.independence = Some(Independence::SeparateConnection);
        (step.outcome, step.observed) = match step.verb {
            Verb::Restrict => (Some(Outcome::Restricted), Some(Observed::Restricted)),
            Verb::Lift => (Some(Outcome::Lifted), Some(Observed::Present)),
            _ => (Some(Outcome::Erased), Some(Observed::Absent)),
        };
    }
    if case.right == Right::Restriction {
        case.flags.push(CaseFlag::Restricted);
    }
    case.state = CaseState::Completed;
    issue(case, &format!("cert-{}", case.id), true);
}

/// Gives a case a certificate or statement about what its steps do.
fn issue(case: &mut CaseView, certificate: &str, completed: bool) {
    case.certificate = Some(certificate.to_owned());
    case.certificates.push(IssuedView {
        certificate: certificate.to_owned(),
        verb: case.steps.first().map_or(Verb::Erase, |step| step.verb),
        completed,
        issued_at: case.received_at,
        plan_digest: case.plan_digest.clone().unwrap_or_default(),
    });
}

fn contradict(case: &mut CaseView) {
    complete(case);
    case.flags.clear();
    case.certificate = None;
    case.certificates.clear();
    case.state = CaseState::NeedsAttention;
    if let Some(step) = case.steps.last_mut() {
        step.state = StepState::Failed;
        step.observed = Some(Observed::Present);
        step.code = Some("casework-contradicted".to_owned());
        case.attention.push(AttentionView {
            system: step.system.clone(),
            dataset: Some(step.dataset.clone()),
            code: "casework-contradicted".to_owned(),
        });
    }
}

#[async_trait]
impl Backend for Fake {
    fn command_id(&self, key: &[&str], body: &[u8]) -> CommandId {
        let key = Sha256::digest(key.join("\n"));
        let body = Sha256::digest(body);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&key[..8]);
        id[8..].copy_from_slice(&body[..8]);
        CommandId::from_bytes(id)
    }

    async fn cases(&self, query: &CaseQuery) -> Result<CasePage, BackendError> {
        let state = self.locked();
        let mut cases: Vec<CaseView> = state
            .cases
            .values()
            .map(|(case, _)| case.clone())
            .filter(|case| query.state.is_none_or(|state| case.state == state))
            .filter(|case| query.right.is_none_or(|right| case.right == right))
            .filter(|case| !query.overdue || overdue(case, state.now).is_some())
            .filter(|case| !query.waiting || case.state.waits_for_person())
            .collect();
        cases.sort_by_key(|case| std::cmp::Reverse((case.received_at, case.id)));
        let start: usize = match &query.page {
            None => 0,
            Some(page) => page.parse().map_err(|_| BackendError::Invalid {
                code: "gateway-malformed".to_owned(),
                message: "unknown page".to_owned(),
                expected: "what an earlier page named".to_owned(),
            })?,
        };
        let limit = query.limit.unwrap_or(100) as usize;
        let next = (cases.len() > start + limit).then(|| (start + limit).to_string());
        let cases = cases.into_iter().skip(start).take(limit).collect();
        Ok(CasePage {
            cases,
            next,
            total: state.cases.len() as u64,
        })
    }

    fn cases_age(&self) -> Duration {
        self.locked().cases_age
    }

    async fn case(&self, id: CaseId) -> Result<CaseView, BackendError> {
        case_of(&mut self.locked(), id).cloned()
    }

    async fn wait_case(
        &self,
        id: CaseId,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<CaseView, BackendError> {
        let mut changed = self.changed.subscribe();
        let until = tokio::time::Instant::now() + wait;
        loop {
            let case = self.case(id).await?;
            if is_ready(&case, after) || tokio::time::timeout_at(until, changed.changed()).await.is_err() {
                return self.case(id).await;
            }
        }
    }

    async fn plan(&self, id: CaseId) -> Result<PlanView, BackendError> {
        let state = self.locked();
        state
            .cases
            .get(&id)
            .and_then(|(_, plan)| plan.clone())
            .ok_or(BackendError::NotFound { what: "plan" })
    }

    async fn open_case(&self, command: CommandId, ask: OpenCase) -> Result<AcceptedView, BackendError> {
        if ask
            .identifiers
            .iter()
            .any(|identifier| identifier.value == "panic")
        {
            #[expect(clippy::panic, reason = "stands in for a mistake of ours")]
            {
                panic!(
                    "{}",
                    ask.identifiers
                        .first()
                        .map(|first| first.value.clone())
                        .unwrap_or_default()
                );
            }
        }
        self.once(command, |state| {
            let mut id = [0; 8];
            id.copy_from_slice(&command.as_bytes()[..8]);
            let id = CaseId::from_bytes(id);
            let at = ask
                .received_at
                .unwrap_or(Timestamp::from_millis(1_795_521_600_000));
            let (mut case, plan) = samples::opened(id, ask.right, at);
            case.supersedes = ask.supersedes;
            if ask
                .identifiers
                .iter()
                .any(|identifier| identifier.value.starts_with("stuck"))
            {
                state.stuck.push(id);
            }
            state.cases.insert(id, (case, Some(plan)));
            Ok(id)
        })
    }

    async fn approve(
        &self,
        command: CommandId,
        id: CaseId,
        plan_digest: &str,
    ) -> Result<AcceptedView, BackendError> {
        self.once(command, |state| {
            let is_stuck = state.stuck.contains(&id);
            let case = case_of(state, id)?;
            if case.state != CaseState::AwaitingApproval {
                return Err(conflict(
                    "fake-not-awaiting-approval",
                    "the case does not wait for approval",
                ));
            }
            if case.plan_digest.as_deref() != Some(plan_digest) {
                return Err(conflict(
                    "fake-other-plan",
                    "the case has another plan now; read it before approving",
                ));
            }
            if is_stuck {
                contradict(case)
            } else {
                complete(case)
            }
            Ok(id)
        })
    }

    async fn withdraw(&self, command: CommandId, id: CaseId) -> Result<AcceptedView, BackendError> {
        self.once(command, |state| {
            let case = case_of(state, id)?;
            if case.state.is_ended() {
                return Err(conflict("fake-ended", "the case has ended"));
            }
            case.state = CaseState::Withdrawn;
            Ok(id)
        })
    }

    async fn lift(&self, command: CommandId, id: CaseId, _: Timestamp) -> Result<AcceptedView, BackendError> {
        self.once(command, |state| {
            let case = case_of(state, id)?;
            if !case.flags.contains(&CaseFlag::Restricted) {
                return Err(conflict(
                    "fake-not-restricted",
                    "no restriction of this case is in force",
                ));
            }
            case.flags.retain(|flag| *flag != CaseFlag::Restricted);
            for step in &mut case.steps {
                step.verb = Verb::Lift;
                (step.outcome, step.observed) = (Some(Outcome::Lifted), Some(Observed::Present));
            }
            issue(case, &format!("lift-{id}"), true);
            Ok(id)
        })
    }

    async fn replan(&self, command: CommandId, id: CaseId) -> Result<AcceptedView, BackendError> {
        self.once(command, |state| {
            let case = case_that_needs_attention(state, id)?;
            case.state = CaseState::AwaitingApproval;
            case.attention.clear();
            samples::replanned(case);
            Ok(id)
        })
    }

    async fn close(
        &self,
        command: CommandId,
        id: CaseId,
        _: CloseReason,
    ) -> Result<AcceptedView, BackendError> {
        self.once(command, |state| {
            let case = case_that_needs_attention(state, id)?;
            case.state = CaseState::NotCompleted;
            issue(case, &format!("statement-{id}"), false);
            Ok(id)
        })
    }

    async fn lineage(&self, identifiers: Vec<Identifier>) -> Result<LineageView, BackendError> {
        if identifiers
            .iter()
            .any(|identifier| identifier.value.starts_with("nobody"))
        {
            return Ok(LineageView {
                complete: true,
                cut_off: None,
                ..LineageView::default()
            });
        }
        Ok(samples::lineage())
    }

    async fn partitions(&self, hash: bool) -> Result<PartitionList, BackendError> {
        Ok(samples::partitions(hash))
    }

    async fn topics(&self) -> Result<TopicList, BackendError> {
        Ok(samples::topics())
    }

    async fn systems(&self) -> Result<Vec<SystemView>, BackendError> {
        Ok(self.locked().systems.clone())
    }

    async fn quarantine(&self, query: &QuarantineQuery) -> Result<QuarantineList, BackendError> {
        let fits = |input: &&QuarantinedView| query.system.is_none() || query.system == input.system;
        let inputs: Vec<_> = self.locked().quarantine.iter().filter(fits).cloned().collect();
        Ok(QuarantineList {
            total: inputs.len() as u64,
            inputs,
        })
    }

    async fn quarantined(&self, position: u64) -> Result<QuarantinedInput, BackendError> {
        let state = self.locked();
        let mut inputs = state.quarantine.iter();
        let about = inputs.find(|input| input.position == position).cloned();
        Ok(QuarantinedInput {
            about: about.ok_or(BackendError::NotFound { what: "input" })?,
            input: "bm90IGEgbGluZQobWzMxbQ==".to_owned(),
        })
    }

    async fn drop_quarantined(&self, position: u64) -> Result<QuarantinedView, BackendError> {
        let about = self.quarantined(position).await?.about;
        self.locked()
            .quarantine
            .retain(|input| input.position != position);
        Ok(about)
    }

    async fn retry_quarantined(&self, position: u64) -> Result<RetriedView, BackendError> {
        let about = self.drop_quarantined(position).await?;
        Ok(RetriedView {
            about,
            taken_in: true,
        })
    }

    async fn called_back(&self, callback: Callback) -> Result<CallbackView, BackendError> {
        // It knows one system and believes whatever has a signature.
        if callback.system.as_str() != "crm" {
            return Err(BackendError::NotFound {
                what: "remote system",
            });
        }
        Ok(CallbackView {
            asks: callback.signature.starts_with("v1,"),
        })
    }

    async fn system_check(&self, name: &str) -> Result<CheckView, BackendError> {
        let system = self
            .locked()
            .systems
            .iter()
            .find(|system| system.name == name)
            .cloned();
        let system = system.ok_or(BackendError::NotFound { what: "system" })?;
        Ok(samples::check(&system))
    }

    async fn start_scan(&self, name: &str) -> Result<ScanView, BackendError> {
        if !self.locked().systems.iter().any(|system| system.name == name) {
            return Err(BackendError::NotFound { what: "system" });
        }
        self.locked().scans.insert(name.to_owned(), 0);
        self.scan(name).await
    }

    async fn scan(&self, name: &str) -> Result<ScanView, BackendError> {
        let mut state = self.locked();
        let system = state.systems.iter().find(|system| system.name == name).cloned();
        let system = system.ok_or(BackendError::NotFound { what: "system" })?;
        let mut none = 0;
        let (scan, done) = match state.scans.get_mut(name) {
            Some(done) if *done < 3000 => (ScanState::Running, done),
            Some(done) => (ScanState::Finished, done),
            None => (ScanState::NotStarted, &mut none),
        };
        let view = samples::scan(&system, scan, *done);
        // The archive is down, and its scan stands still.
        if name != "archive" {
            *done = (*done + 1500).min(3000);
        }
        Ok(view)
    }

    async fn connector_check(&self, name: &str) -> Result<ConformanceView, BackendError> {
        Ok(samples::conformance(&self.system_check(name).await?))
    }

    async fn certificate(&self, id: CaseId, certificate: Option<&str>) -> Result<Document, BackendError> {
        let certificate = self
            .case(id)
            .await?
            .issued(certificate)
            .ok_or(BackendError::NotFound { what: "certificate" })?;
        Ok(Document {
            media_type: "application/json",
            bytes: format!("{{\"id\":\"{certificate}\"}}").into_bytes(),
        })
    }

    async fn opening(&self, id: CaseId) -> Result<Document, BackendError> {
        self.case(id).await?;
        Ok(Document {
            media_type: "application/json",
            bytes: b"{\"scheme\":\"lethe-subject/v1\"}".to_vec(),
        })
    }

    async fn publish(
        &self,
        caller: Option<&str>,
        events: Vec<Vec<u8>>,
    ) -> Result<Vec<EventResult>, BackendError> {
        let mut state = self.locked();
        let one = |event| match caller {
            Some("stranger") => samples::not_yours(),
            _ if state.published.insert(event) => EventResult::Accepted,
            _ => EventResult::Repeated,
        };
        Ok(events.into_iter().map(one).collect())
    }

    async fn intake_keys(&self) -> Result<IntakeKeyList, BackendError> {
        Ok(samples::intake_keys(self.locked().intake_keys))
    }

    async fn renew_intake_key(&self) -> Result<IntakeKeyList, BackendError> {
        let mut state = self.locked();
        state.intake_keys += 1;
        Ok(samples::intake_keys(state.intake_keys))
    }

    async fn policy(&self) -> Result<Document, BackendError> {
        Ok(Document {
            media_type: "application/json",
            bytes: b"{\"policy\":1}".to_vec(),
        })
    }

    async fn health(&self) -> HealthView {
        HealthView {
            ok: true,
            parts: Vec::new(),
        }
    }

    async fn ready(&self) -> HealthView {
        let missing = self.locked().missing.clone();
        HealthView {
            ok: missing.is_none(),
            parts: vec![FindingView {
                what: "roles".to_owned(),
                ok: missing.is_none(),
                detail: missing.unwrap_or_default(),
            }],
        }
    }

    async fn metrics(&self) -> String {
        "# TYPE lethe_cases gauge\nlethe_cases 1".to_owned()
    }
}
