//! The aggregate: the fold of one case's events.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{
    CaseEvent, CloseReason, FailureCode, Found, LiftRequest, Opening, Person, Plan, Step, Token,
};
use lethe_terms::{
    CaseId, CaseState, CommandId, InstructionId, Observed, Outcome, Right, StepState, SystemName, Timestamp,
    Verb,
};

use crate::{Attention, Error, Issued, Statement, StepProgress};

/// Searching the systems for the person before a plan is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locating {
    /// Round, from 1; 0 before the first.
    pub round: u32,
    /// Last round of an earlier search: rounds go on counting, so that no id of an instruction comes twice.
    pub before: u32,
    /// What was asked in this round, and what came of it.
    pub asked: BTreeMap<SystemName, (InstructionId, Option<Result<Found, FailureCode>>)>,
    /// Records that only locating found: the lineage gap.
    pub gap: u64,
}

impl Locating {
    /// Whether every system of this round has answered.
    pub fn is_answered(&self) -> bool {
        self.asked.values().all(|(_, answer)| answer.is_some())
    }

    /// Whether this round found records that lineage did not know.
    pub fn found_new(&self) -> bool {
        self.asked
            .values()
            .any(|(_, answer)| matches!(answer, Some(Ok(found)) if found.unknown_before > 0))
    }
}

/// Where a walk for a case starts, and what it does not go along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkStart {
    /// Identifiers that it starts from.
    pub tokens: Vec<Token>,
    /// Identifiers that it leads nowhere from, since several people seemed to stand behind them.
    pub not_followed: Vec<Token>,
}

/// A plan and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanProgress {
    /// The plan.
    pub plan: Plan,
    /// Its digest, `sha256:<hex>`.
    pub digest: String,
    /// Public statement of it, as the ledger signs it.
    pub statement: String,
    /// Whom it is about.
    pub person: Person,
    /// Index of its leaf and signed tree head, once it is in the ledger.
    pub logged: Option<(u64, String)>,
    /// Who approved it; of a plan that only adds, who approved what it adds to.
    pub approved: Option<CommandId>,
    /// How many plans in a row, this one last, went through because they only add to one that a person approved.
    pub additions: u32,
    /// Its steps.
    pub steps: Vec<StepProgress>,
}

impl PlanProgress {
    /// Each step with how far it is.
    pub fn each(&self) -> impl Iterator<Item = (&Step, &StepProgress)> {
        self.plan.steps.iter().zip(&self.steps)
    }

    /// Whether every step is verified.
    pub fn is_verified(&self) -> bool {
        self.each().all(|(step, progress)| progress.is_verified(step))
    }

    /// Steps whose records were not all seen absent: a later plan must not lose them, though no walk reaches them any more.
    pub fn unseen(&self) -> impl Iterator<Item = &Step> {
        self.each()
            .filter(|(step, progress)| {
                let absent = progress
                    .sighting
                    .as_ref()
                    .is_some_and(|seen| seen.observed == Observed::Absent);
                !(absent && progress.is_verified(step))
            })
            .map(|(step, _)| step)
    }

    /// Whether every step that changes something is at least reported.
    pub fn is_reported(&self) -> bool {
        self.each().all(|(step, progress)| progress.is_observable(step))
    }

    /// The verb of the steps that change something, where there is one.
    pub fn verb(&self) -> Option<Verb> {
        self.plan.acting().next().map(|step| step.verb)
    }
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its id.
    pub id: CaseId,
    /// Number that its next entry must have.
    pub next_number: u64,
    /// What it was opened with.
    pub opening: Opening,
    /// The given identifiers as tokens.
    pub tokens: Vec<Token>,
    /// When the answer is due.
    pub due: Timestamp,
    /// Commands that it has carried out: the same one again changes nothing.
    pub commands: BTreeSet<CommandId>,
    /// Searching.
    pub locating: Locating,
    /// Plans, the present one last.
    pub plans: Vec<PlanProgress>,
    /// Whether a new plan is due (after a replan, new holdings or a lift).
    pub plan_due: bool,
    /// Whether the plan that is due, or the present one, was made because a walk found more or has to say more, or because another case came first
    /// on a record of an erasure, and for nothing else.
    pub found_more: bool,
    /// The command to lift and the person's notice.
    pub lift: Option<(CommandId, LiftRequest)>,
    /// Why its last walk had not reached everything: until a new plan is asked for, nothing more is done.
    pub cut_off: Option<FailureCode>,
    /// Why it was closed without completion.
    pub closed: Option<CloseReason>,
    /// Whether the person took it back.
    pub withdrawn: bool,
    /// The erasure for which the person gave this restriction up before it had ended.
    pub given_up_for: Option<CaseId>,
    /// The signed statement of the present plan.
    pub statement: Statement,
    /// Certificates and statements that were issued, in order.
    pub issued: Vec<Issued>,
    /// When the last event happened; after a clock was set back, when the latest one did. What is stated of the case is not dated before.
    pub changed_at: Timestamp,
}

impl Case {
    /// A case from its first event.
    pub fn open(id: CaseId, event: &CaseEvent, at: Timestamp) -> Result<Self, Error> {
        let CaseEvent::Opened {
            command,
            opening,
            tokens,
            due,
        } = event
        else {
            return Err(Error::NotOpened);
        };
        Ok(Self {
            id,
            next_number: 1,
            opening: opening.clone(),
            tokens: tokens.clone(),
            due: *due,
            commands: BTreeSet::from([*command]),
            locating: Locating::default(),
            plans: Vec::new(),
            plan_due: true,
            found_more: false,
            lift: None,
            cut_off: None,
            closed: None,
            withdrawn: false,
            given_up_for: None,
            statement: Statement::None,
            issued: Vec::new(),
            changed_at: at.max(opening.received_at),
        })
    }

    /// The present plan.
    pub fn plan(&self) -> Option<&PlanProgress> {
        self.plans.last()
    }

    /// The present plan, where an instruction of the case went out. Until then nothing that leads to a record was taken away, and a later plan need
    /// not keep what no walk reaches any more: it may be somebody else's by now.
    pub fn acted(&self) -> Option<&PlanProgress> {
        let mut steps = self.plans.iter().flat_map(|made| &made.steps);
        self.plan().filter(|_| steps.any(|step| step.sent.is_some()))
    }

    /// Where a walk for this case starts: the given identifiers and, once something was done, those that the present plan had reached. What
    /// several people seemed to stand behind by then is not followed any more: of erased records fewer people speak.
    pub fn start(&self) -> WalkStart {
        let person = self.acted().map(|present| &present.person);
        let reached = person.into_iter().flat_map(|person| &person.tokens);
        let tokens: BTreeSet<Token> = self.tokens.iter().chain(reached).copied().collect();
        WalkStart {
            tokens: tokens.into_iter().collect(),
            not_followed: person.map_or_else(Vec::new, |person| person.not_followed.clone()),
        }
    }

    /// The verb that the case's next plan carries out.
    pub const fn verb(&self) -> Verb {
        match (self.opening.right, self.lift) {
            (Right::Erasure, _) => Verb::Erase,
            (Right::Restriction, None) => Verb::Restrict,
            (Right::Restriction, Some(_)) => Verb::Lift,
        }
    }

    /// Folds one event with the number of its entry.
    pub fn apply(&mut self, number: u64, event: &CaseEvent, at: Timestamp) -> Result<(), Error> {
        if number != self.next_number {
            return Err(Error::Gap {
                expected: self.next_number,
                found: number,
            });
        }
        self.change(event, at)?;
        self.next_number += 1;
        self.changed_at = self.changed_at.max(at);
        Ok(())
    }

    fn change(&mut self, event: &CaseEvent, at: Timestamp) -> Result<(), Error> {
        match event {
            CaseEvent::Opened { .. } => return Err(Error::NotOpened),
            CaseEvent::LocateAsked {
                instruction,
                system,
                round,
            } => self.locate_asked(*instruction, system, *round),
            CaseEvent::Located {
                instruction,
                system,
                found,
            } => self.locate_answered(*instruction, system, Ok(*found), "located")?,
            CaseEvent::LocateFailed {
                instruction,
                system,
                code,
            } => self.locate_answered(*instruction, system, Err(code.clone()), "locate_failed")?,
            CaseEvent::PlanFrozen {
                plan,
                digest,
                statement,
                person,
            } => self.frozen(plan, digest, statement, person)?,
            CaseEvent::PlanLogged { digest, index, head } => {
                self.present(digest, "plan_logged")?.logged = Some((*index, head.clone()));
            }
            CaseEvent::Approved { command, digest } => {
                self.present(digest, "approved")?.approved = Some(*command);
                self.commands.insert(*command);
            }
            CaseEvent::WalkCutOff { code } => self.cut_off = Some(code.clone()),
            CaseEvent::AdditionApproved { digest } => self.addition_approved(digest)?,
            CaseEvent::NewHoldings { .. } => self.plan_again(true),
            // Whoever approved an erasure did so knowing that it may have to wait for a restriction to end.
            CaseEvent::Overtaken { .. } => self.plan_again(self.opening.right == Right::Erasure),
            CaseEvent::ReplanAsked { command } => {
                self.commands.insert(*command);
                self.plan_again(false);
            }
            CaseEvent::LiftAsked { command, lift } => {
                self.commands.insert(*command);
                self.lift = Some((*command, *lift));
                self.closed = None;
                self.plan_again(false);
            }
            CaseEvent::Withdrawn { command } => {
                self.commands.insert(*command);
                self.withdrawn = true;
            }
            CaseEvent::GivenUp { erasure } => self.given_up_for = Some(*erasure),
            CaseEvent::Closed { command, reason } => {
                self.commands.insert(*command);
                self.closed = Some(*reason);
            }
            CaseEvent::StatementAsked { .. } => self.statement = Statement::Asked,
            CaseEvent::StatementIssued {
                certificate, index, ..
            } => {
                self.statement_issued(certificate, *index, at)?;
            }
            CaseEvent::Dispatched { .. }
            | CaseEvent::InProgress { .. }
            | CaseEvent::Reported { .. }
            | CaseEvent::ObservationAsked { .. }
            | CaseEvent::Observed { .. }
            | CaseEvent::StepFailed { .. } => self.step_event(event, at)?,
        }
        Ok(())
    }

    fn plan_again(&mut self, found_more: bool) {
        self.plan_due = true;
        self.found_more = found_more;
        self.cut_off = None;
        self.statement = Statement::None;
        self.locating = Locating {
            gap: self.locating.gap,
            round: self.locating.round,
            before: self.locating.round,
            ..Locating::default()
        };
    }

    fn locate_asked(&mut self, instruction: InstructionId, system: &SystemName, round: u32) {
        if round != self.locating.round {
            self.locating.round = round;
            self.locating.asked.clear();
        }
        self.locating.asked.insert(system.clone(), (instruction, None));
    }

    fn locate_answered(
        &mut self,
        instruction: InstructionId,
        system: &SystemName,
        answer: Result<Found, FailureCode>,
        event: &'static str,
    ) -> Result<(), Error> {
        let Some((asked, slot)) = self.locating.asked.get_mut(system) else {
            return Err(Error::Impossible { event });
        };
        if *asked != instruction {
            return Err(Error::Impossible { event });
        }
        if let Ok(found) = &answer {
            self.locating.gap += found.unknown_before;
        }
        *slot = Some(answer);
        Ok(())
    }

    fn frozen(&mut self, plan: &Plan, digest: &str, statement: &str, person: &Person) -> Result<(), Error> {
        if !self.plan_due {
            return Err(Error::Impossible { event: "plan_frozen" });
        }
        self.plan_due = false;
        self.plans.push(PlanProgress {
            steps: vec![StepProgress::default(); plan.steps.len()],
            plan: plan.clone(),
            digest: digest.to_owned(),
            statement: statement.to_owned(),
            person: person.clone(),
            logged: None,
            approved: None,
            additions: 0,
        });
        Ok(())
    }

    fn statement_issued(&mut self, certificate: &str, index: u64, at: Timestamp) -> Result<(), Error> {
        let present = self.plan().ok_or(Error::Impossible {
            event: "statement_issued",
        })?;
        let issued = Issued {
            certificate: certificate.to_owned(),
            verb: present.verb().unwrap_or(self.verb()),
            completed: self.closed.is_none(),
            plan_digest: present.digest.clone(),
            at,
        };
        self.issued.push(issued);
        self.statement = Statement::Issued {
            certificate: certificate.to_owned(),
            index,
            at,
        };
        Ok(())
    }

    pub(crate) fn present(&mut self, digest: &str, event: &'static str) -> Result<&mut PlanProgress, Error> {
        self.plans
            .last_mut()
            .filter(|plan| plan.digest == digest)
            .ok_or(Error::Impossible { event })
    }

    fn step_event(&mut self, event: &CaseEvent, at: Timestamp) -> Result<(), Error> {
        let (step, name) = step_of(event).ok_or(Error::Impossible { event: "step" })?;
        let progress = usize::try_from(step)
            .ok()
            .and_then(|index| self.plans.last_mut()?.steps.get_mut(index))
            .ok_or(Error::Impossible { event: name })?;
        progress.fold(event, at);
        Ok(())
    }

    /// Everything that a person has to look at.
    pub fn attention(&self) -> Vec<Attention> {
        if self.given_up_for.is_some() {
            return Vec::new();
        }
        let unsearched = self
            .locating
            .asked
            .iter()
            .filter_map(|(system, (_, answer))| match answer {
                Some(Err(code)) if self.plan_due => Some(Attention {
                    system: Some(system.clone()),
                    dataset: None,
                    code: code.0.clone(),
                }),
                _ => None,
            });
        // Where a new plan is due, what the old one fell short of is the new one's to do.
        let current = self.plan().filter(|_| !self.plan_due);
        let steps = current.into_iter().flat_map(|present| {
            present
                .plan
                .steps
                .iter()
                .zip(&present.steps)
                .filter_map(|(step, progress)| progress.attention(step))
        });
        let cut_off = self.cut_off.iter().map(|code| Attention {
            system: None,
            dataset: None,
            code: code.0.clone(),
        });
        unsearched.chain(steps).chain(cut_off).collect()
    }

    /// State of the case, derived.
    pub fn state(&self) -> CaseState {
        if self.withdrawn {
            return CaseState::Withdrawn;
        }
        if self.given_up_for.is_some() {
            return self.state_given_up();
        }
        if self.closed.is_some() {
            return match self.statement {
                Statement::Issued { .. } => CaseState::NotCompleted,
                _ => CaseState::NeedsAttention,
            };
        }
        if matches!(self.statement, Statement::Issued { .. }) {
            return if self.has_exceptions() {
                CaseState::CompletedWithExceptions
            } else {
                CaseState::Completed
            };
        }
        if !self.attention().is_empty() {
            return CaseState::NeedsAttention;
        }
        let Some(present) = self.plan().filter(|_| !self.plan_due) else {
            return CaseState::Accepted;
        };
        if present.logged.is_none() {
            CaseState::Planned
        } else if present.approved.is_none() {
            CaseState::AwaitingApproval
        } else if present.is_reported() {
            CaseState::Observing
        } else {
            CaseState::Acting
        }
    }

    /// Whether nothing more is done for the case, whatever is still out: the person took back what it is about.
    pub const fn is_taken_back(&self) -> bool {
        self.withdrawn || self.given_up_for.is_some()
    }

    /// A restriction that is given up ends as what was last certified of it; without that it was taken back by the person.
    fn state_given_up(&self) -> CaseState {
        match self.issued.last() {
            Some(issued) if issued.completed => CaseState::Completed,
            Some(_) => CaseState::NotCompleted,
            None => CaseState::Withdrawn,
        }
    }

    /// Whether the present plan leaves something in place, or may have left something out.
    pub fn has_exceptions(&self) -> bool {
        self.plan().is_some_and(|present| {
            !present.plan.exceptions.is_empty()
                || present
                    .plan
                    .remarks
                    .iter()
                    .any(|remark| remark.code.leaves_open())
                || present.steps.iter().any(|step| {
                    step.report
                        .as_ref()
                        .is_some_and(|report| report.outcome == Outcome::Retained)
                })
        })
    }

    /// State of a step of the present plan.
    pub fn step_state(&self, step: usize, blocked: bool) -> Option<StepState> {
        let present = self.plan()?;
        Some(
            present
                .steps
                .get(step)?
                .state(present.plan.steps.get(step)?, blocked),
        )
    }

    /// Whether the steps that a step waits for are verified.
    pub fn is_ready(&self, step: usize) -> bool {
        let Some(present) = self.plan() else { return false };
        let Some(planned) = present.plan.steps.get(step) else {
            return false;
        };
        planned.after.iter().all(|before| {
            usize::try_from(*before).is_ok_and(|before| {
                match (present.plan.steps.get(before), present.steps.get(before)) {
                    (Some(step), Some(progress)) => progress.is_verified(step),
                    _ => false,
                }
            })
        })
    }
}

fn step_of(event: &CaseEvent) -> Option<(u32, &'static str)> {
    match event {
        CaseEvent::Dispatched { step, .. } => Some((*step, "dispatched")),
        CaseEvent::InProgress { step, .. } => Some((*step, "in_progress")),
        CaseEvent::Reported { step, .. } => Some((*step, "reported")),
        CaseEvent::ObservationAsked { step, .. } => Some((*step, "observation_asked")),
        CaseEvent::Observed { step, .. } => Some((*step, "observed")),
        CaseEvent::StepFailed { step, .. } => Some((*step, "step_failed")),
        _ => None,
    }
}
