//! What a command does to a case: events, or a refusal in words.

use lethe_journal::{CaseEvent, Command};
use lethe_terms::{CaseState, Right, Timestamp};

use crate::{Case, Statement};

/// Why a command is refused; nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another plan is the present one.
    #[error("the plan has another digest: read the present plan and approve that one")]
    OtherPlan,
    /// The case is in a state in which the command means nothing.
    #[error("a case that is {state} cannot be {what}")]
    WrongState {
        /// State of the case.
        state: CaseState,
        /// What the command would have done.
        what: &'static str,
    },
    /// Only a restriction can be lifted.
    #[error("only a restriction in force can be lifted")]
    NotRestricted,
    /// The plan would leave data behind.
    #[error("the plan has a remark that would leave data behind ({0}): mend the inventory and plan again")]
    FatalRemark(&'static str),
    /// The person is told before a restriction ends (GDPR Art. 18(3)).
    #[error(
        "the person must have been told before the restriction is lifted (GDPR Art. 18(3)): the notice lies in the future"
    )]
    NotNotified,
}

impl Refusal {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::OtherPlan => "casework-other-plan",
            Self::WrongState { .. } => "casework-wrong-state",
            Self::NotRestricted => "casework-not-restricted",
            Self::FatalRemark(_) => "casework-fatal-remark",
            Self::NotNotified => "casework-not-notified",
        }
    }
}

/// The events that a command brings about. A command that was carried out already brings none.
pub fn decide(case: &Case, command: &Command, now: Timestamp) -> Result<Vec<CaseEvent>, Refusal> {
    if case.commands.contains(&command.id()) {
        return Ok(Vec::new());
    }
    let state = case.state();
    match command {
        Command::Open { .. } => Ok(Vec::new()),
        Command::Approve {
            command, plan_digest, ..
        } => {
            if state != CaseState::AwaitingApproval {
                return Err(Refusal::WrongState {
                    state,
                    what: "approved",
                });
            }
            let Some(present) = case.plan().filter(|present| present.digest == *plan_digest) else {
                return Err(Refusal::OtherPlan);
            };
            if let Some(fatal) = present.plan.remarks.iter().find(|remark| remark.code.is_fatal()) {
                return Err(Refusal::FatalRemark(fatal.code.code()));
            }
            Ok(vec![CaseEvent::Approved {
                command: *command,
                digest: plan_digest.clone(),
            }])
        }
        Command::Withdraw { command, .. } => {
            // Once an instruction went out, what was done cannot be taken back by taking back the request.
            let acting = case
                .plan()
                .is_some_and(|present| present.steps.iter().any(|step| step.sent.is_some()));
            if state.is_ended() || acting {
                return Err(Refusal::WrongState {
                    state,
                    what: "withdrawn",
                });
            }
            Ok(vec![CaseEvent::Withdrawn { command: *command }])
        }
        Command::Lift {
            command, notified_at, ..
        } => {
            if case.opening.right != Right::Restriction
                || case.lift.is_some()
                || state != CaseState::Completed
            {
                return Err(Refusal::NotRestricted);
            }
            if *notified_at > now {
                return Err(Refusal::NotNotified);
            }
            let lift = lethe_journal::LiftRequest {
                notified_at: *notified_at,
            };
            Ok(vec![CaseEvent::LiftAsked {
                command: *command,
                lift,
            }])
        }
        Command::Replan { command, .. } => {
            if !matches!(state, CaseState::NeedsAttention | CaseState::AwaitingApproval)
                || case.closed.is_some()
            {
                return Err(Refusal::WrongState {
                    state,
                    what: "planned again",
                });
            }
            Ok(vec![CaseEvent::ReplanAsked { command: *command }])
        }
        Command::Close { command, reason, .. } => {
            // A statement about a plan needs a plan in the ledger.
            let logged = case.plan().is_some_and(|present| present.logged.is_some());
            if state != CaseState::NeedsAttention || case.closed.is_some() || !logged {
                return Err(Refusal::WrongState {
                    state,
                    what: "closed as not completed",
                });
            }
            debug_assert!(!matches!(case.statement, Statement::Issued { .. }));
            Ok(vec![CaseEvent::Closed {
                command: *command,
                reason: *reason,
            }])
        }
    }
}
