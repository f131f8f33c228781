//! Commands of operators. The gateway puts them on the log; the conductor carries them out.

use lethe_terms::{CaseId, CommandId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{CloseReason, Event, KeyWrapped, Opening};

/// A command as it travels on the log.
pub type CommandEvent = Event<Command>;

/// One command. The same id twice has the effect of once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Open a case.
    Open {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
        /// The key of the case, wrapped. Of several commands that would open it, that of the one that does is the case's: whoever carries the case
        /// puts it in `keys`.
        key: KeyWrapped,
        /// What is asked, sealed parts under this key.
        opening: Opening,
    },
    /// Approve a plan by its digest.
    Approve {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
        /// Digest of the plan that was read, `sha256:<hex>`.
        plan_digest: String,
    },
    /// The person takes the request back.
    Withdraw {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
    },
    /// End the restriction of a completed restriction case (GDPR Art. 18(3): the person is told before).
    Lift {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
        /// When the person was told.
        notified_at: Timestamp,
    },
    /// Make a new plan for a case that needs attention.
    Replan {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
    },
    /// Close a case as not completed, with a reason: a signed statement follows.
    Close {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
        /// Why.
        reason: CloseReason,
    },
}

impl Command {
    /// The case that is meant.
    pub const fn case(&self) -> CaseId {
        match self {
            Self::Open { case, .. }
            | Self::Approve { case, .. }
            | Self::Withdraw { case, .. }
            | Self::Lift { case, .. }
            | Self::Replan { case, .. }
            | Self::Close { case, .. } => *case,
        }
    }

    /// The id of the command.
    pub const fn id(&self) -> CommandId {
        match self {
            Self::Open { command, .. }
            | Self::Approve { command, .. }
            | Self::Withdraw { command, .. }
            | Self::Lift { command, .. }
            | Self::Replan { command, .. }
            | Self::Close { command, .. } => *command,
        }
    }
}
