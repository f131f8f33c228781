//! What a command does to a case: events, or a refusal in words.

use lethe_journal::{CaseEvent, CloseReason, Command, LiftRequest};
use lethe_terms::{CaseState, CommandId, Right, Timestamp};

use crate::{Case, Statement};

/// Why a command is refused; nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key of the command came with another body, and that was carried out.
    #[error("the key of this command came before with another body; nothing was done")]
    KeyReused,
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
            Self::KeyReused => "casework-key-reused",
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
    if case.commands.iter().any(|known| known.has_key_of(command.id())) {
        return Err(Refusal::KeyReused);
    }
    match command {
        Command::Open { .. } => return Ok(Vec::new()),
        Command::Approve {
            command, plan_digest, ..
        } => approve(case, *command, plan_digest),
        Command::Withdraw { command, .. } => withdraw(case, *command),
        Command::Lift {
            command, notified_at, ..
        } => lift(case, *command, *notified_at, now),
        Command::Replan { command, .. } => replan(case, *command),
        Command::Close { command, reason, .. } => close(case, *command, *reason),
    }
    .map(|event| vec![event])
}

fn approve(case: &Case, command: CommandId, plan_digest: &str) -> Result<CaseEvent, Refusal> {
    let state = case.state();
    if state != CaseState::AwaitingApproval {
        return Err(Refusal::WrongState {
            state,
            what: "approved",
        });
    }
    let Some(present) = case.plan().filter(|present| present.digest == plan_digest) else {
        return Err(Refusal::OtherPlan);
    };
    if let Some(fatal) = present.plan.remarks.iter().find(|remark| remark.code.is_fatal()) {
        return Err(Refusal::FatalRemark(fatal.code.code()));
    }
    Ok(CaseEvent::Approved {
        command,
        digest: plan_digest.to_owned(),
    })
}

fn withdraw(case: &Case, command: CommandId) -> Result<CaseEvent, Refusal> {
    let state = case.state();
    // Once an instruction went out, of whatever plan, what was done cannot be taken back by taking back the request.
    let mut steps = case.plans.iter().flat_map(|made| &made.steps);
    let acting = steps.any(|step| step.sent.is_some());
    if state.is_ended() || acting {
        return Err(Refusal::WrongState {
            state,
            what: "withdrawn",
        });
    }
    Ok(CaseEvent::Withdrawn { command })
}

fn lift(
    case: &Case,
    command: CommandId,
    notified_at: Timestamp,
    now: Timestamp,
) -> Result<CaseEvent, Refusal> {
    // However the case ended, what it restricts must not stay so for ever.
    let in_force = case.state().is_ended() && case.flags().restricted;
    if case.opening.right != Right::Restriction || !in_force {
        return Err(Refusal::NotRestricted);
    }
    if notified_at > now {
        return Err(Refusal::NotNotified);
    }
    Ok(CaseEvent::LiftAsked {
        command,
        lift: LiftRequest { notified_at },
    })
}

fn replan(case: &Case, command: CommandId) -> Result<CaseEvent, Refusal> {
    let state = case.state();
    if !matches!(state, CaseState::NeedsAttention | CaseState::AwaitingApproval) || case.closed.is_some() {
        return Err(Refusal::WrongState {
            state,
            what: "planned again",
        });
    }
    Ok(CaseEvent::ReplanAsked { command })
}

fn close(case: &Case, command: CommandId, reason: CloseReason) -> Result<CaseEvent, Refusal> {
    let state = case.state();
    // A statement about a plan needs a plan in the ledger.
    let logged = case.plan().is_some_and(|present| present.logged.is_some());
    if state != CaseState::NeedsAttention || case.closed.is_some() || !logged {
        return Err(Refusal::WrongState {
            state,
            what: "closed as not completed",
        });
    }
    debug_assert!(!matches!(case.statement, Statement::Issued { .. }));
    Ok(CaseEvent::Closed { command, reason })
}
