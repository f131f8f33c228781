//! What is asked of a system, what it says, what was seen, and the states that follow.

use crate::vocabulary::closed_list;

closed_list! {
    /// What an instruction asks of a system.
    Verb as "verb" {
        /// Say which records of a person there are.
        Locate = "locate", "dpv:Query";
        /// Hand out a person's data.
        Export = "export", "dpv:Export";
        /// Remove irretrievably (GDPR Art. 17).
        Erase = "erase", "dpv:Erase";
        /// Mark so that only the uses of Art. 18(2) remain; reversible.
        Restrict = "restrict", "dpv:Restrict";
        /// End a restriction, after the person was told (Art. 18(3)).
        Lift = "lift";
        /// Correct or complete (Art. 16).
        Rectify = "rectify", "dpv:Modify";
        /// Look again, by another path, at what is there now.
        Observe = "observe", "dpv:Observe";
        /// Tell a recipient (Art. 19).
        Notify = "notify", "eu-gdpr:RightsRecipientsNotice";
    }
}

impl Verb {
    /// Whether asking twice could double the effect: such a verb is never repeated blindly after an unknown outcome.
    pub const fn repeat_could_double(self) -> bool {
        matches!(self, Self::Notify | Self::Lift | Self::Export | Self::Rectify)
    }
}

closed_list! {
    /// What a system says it did. A statement, not yet a fact: only an observation makes a step verified.
    Outcome as "outcome" {
        /// Physically removed.
        Erased = "erased", "dpv:Erase";
        /// Kept without anything that points to a person.
        Anonymised = "anonymised", "dpv:Anonymise";
        /// The key is gone; for immutable logs and backups only, and never called erased.
        CryptoShredded = "crypto_shredded";
        /// Marked, and out of use.
        Restricted = "restricted", "dpv:Restrict";
        /// The mark is gone.
        Lifted = "lifted";
        /// Kept under an exception.
        Retained = "retained", "dpv:Store";
        /// Nothing held.
        NotFound = "not_found";
        /// The system cannot do that.
        NotSupported = "not_supported";
        /// The recipient was told.
        Notified = "notified", "eu-gdpr:RightsRecipientsNotice";
    }
}

closed_list! {
    /// What an observation saw.
    Observed as "observation" {
        /// Nothing of what was asked for is there.
        Absent = "absent";
        /// It is there, in ordinary use.
        Present = "present";
        /// It is there, marked and out of ordinary use.
        Restricted = "restricted";
        /// It could not be told; never a success.
        CannotTell = "cannot_tell";
    }
}

closed_list! {
    /// How independent an observation was of what it checks, weakest first.
    Independence as "independence" {
        /// The same connection and query path that did the work: weak.
        SamePath = "same_path";
        /// Another connection and another query, the same credential.
        SeparateConnection = "separate_connection";
        /// Another connection with another credential.
        SeparateCredential = "separate_credential";
    }
}

closed_list! {
    /// What a system waits for that has taken an instruction and not done it.
    Awaited as "awaited" {
        /// The rotation of a log file that a program still writes to.
        Rotation = "rotation";
        /// Programs that have to let go of a file.
        Writers = "writers";
    }
}

closed_list! {
    /// What a failure allows.
    FailureClass as "failure class" {
        /// It did not happen, and trying again is safe.
        Retryable = "retryable";
        /// It did not happen, and trying again will not help.
        Final = "final";
        /// Whether it happened is unknown: ask, never repeat blindly.
        Unknown = "unknown";
    }
}

closed_list! {
    /// State of a case: derived from its events, never stored. The DPV code is the wire state of a rights request.
    CaseState as "case state" {
        /// Arrived.
        Received = "received", "dpv:RequestInitiated";
        /// Who asks is being established.
        IdentityPending = "identity_pending", "dpv:RequestRequiresAction";
        /// Taken on.
        Accepted = "accepted", "dpv:RequestAccepted";
        /// A plan is frozen, not yet in the ledger.
        Planned = "planned", "dpv:RequestAcknowledged";
        /// The plan is logged and waits for a person.
        AwaitingApproval = "awaiting_approval", "dpv:RequestRequiresAction";
        /// Instructions are out.
        Acting = "acting", "dpv:RequestAccepted";
        /// Everything is reported, observations are out.
        Observing = "observing", "dpv:RequestAccepted";
        /// A step ended badly or was contradicted: a person decides.
        NeedsAttention = "needs_attention", "dpv:RequestRequiresAction";
        /// Done and observed, certificate issued.
        Completed = "completed", "dpv:RequestFulfilled";
        /// Done but for stated exceptions, or for what a strong identifier that was not followed may lead to; certificate issued.
        CompletedWithExceptions = "completed_with_exceptions", "dpv:RequestFulfilled";
        /// Closed by a person with reasons, statement issued.
        NotCompleted = "not_completed", "dpv:RequestUnfulfilled";
        /// Refused with reasons.
        Refused = "refused", "dpv:RequestRejected";
        /// Taken back by the person.
        Withdrawn = "withdrawn", "dpv:RequestUnfulfilled";
    }
}

impl CaseState {
    /// Whether nothing more happens unless somebody opens it again.
    pub const fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::CompletedWithExceptions
                | Self::NotCompleted
                | Self::Refused
                | Self::Withdrawn
        )
    }

    /// Whether it ended with a certificate.
    pub const fn is_completed(self) -> bool {
        matches!(self, Self::Completed | Self::CompletedWithExceptions)
    }

    /// Whether the next move is a person's.
    pub const fn waits_for_person(self) -> bool {
        matches!(
            self,
            Self::AwaitingApproval | Self::NeedsAttention | Self::IdentityPending
        )
    }
}

closed_list! {
    /// State of a step: derived from the events of its case.
    StepState as "step state" {
        /// In the plan.
        Planned = "planned";
        /// Waits for another step or for the end of a hold or restriction.
        Blocked = "blocked";
        /// The instruction is on the log.
        Dispatched = "dispatched";
        /// The connector host has it.
        Acknowledged = "acknowledged";
        /// The system works on it and is asked again later.
        InProgress = "in_progress";
        /// The system says it is done; see the outcome.
        Reported = "reported";
        /// An observation saw that it is done.
        Verified = "verified";
        /// It ended badly; see the failure class.
        Failed = "failed";
        /// No answer within its time.
        Overdue = "overdue";
    }
}
