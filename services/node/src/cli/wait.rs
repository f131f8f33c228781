//! Waiting until a case has ended or waits for a person.

use std::time::{Duration, Instant};

use lethe_gateway::client::Client;
use lethe_gateway::limits::WAIT_MAX;
use lethe_gateway::views::CaseView;
use lethe_gateway::words;
use lethe_terms::{CaseId, CaseState, StepState};

use super::args::WaitArgs;
use super::exit::{Error, Exit};
use super::talk::Talk;

/// Longest single wait, so that progress is shown in between.
const STRETCH: Duration = Duration::from_secs(2);

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// The case has changed since this revision, where one is given, and has ended or waits for a person, be it the one who lifts a restriction.
    Rest(Option<u64>),
    /// The case has ended.
    End,
}

impl Goal {
    const fn after(self) -> Option<u64> {
        match self {
            Self::Rest(after) => after,
            Self::End => None,
        }
    }

    fn is_reached(self, case: &CaseView) -> bool {
        let is_new = self.after().is_none_or(|after| case.revision > after);
        match self {
            Self::Rest(_) => is_new && case.rests(),
            Self::End => case.state.is_ended(),
        }
    }
}

/// Waits for the goal. `None` when the time is over.
pub(super) async fn until(
    client: &Client,
    id: CaseId,
    goal: Goal,
    args: &WaitArgs,
    talk: &Talk<'_>,
) -> Result<Option<CaseView>, Error> {
    let end = Instant::now() + Duration::from_secs(args.timeout);
    let stretch = if talk.lively { STRETCH } else { WAIT_MAX };
    let progress = talk.progress(None);
    progress.set_prefix(id.to_string());
    let mut after = goal.after();
    let mut answered = false;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match client.wait_case(id, after, left.min(stretch)).await {
            Ok(case) => {
                answered = true;
                if goal.is_reached(&case) {
                    progress.finish_and_clear();
                    return Ok(Some(case));
                }
                after = Some(case.revision);
                progress.set_message(summary(&case));
                progress.tick();
            }
            // The client itself has waited for the server to come back; this wait outlives that. A server that never answered is an error at once.
            Err(error) if answered && error.is_away() => progress.set_message("the server is away"),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= end {
            progress.finish_and_clear();
            return Ok(None);
        }
    }
}

fn summary(case: &CaseView) -> String {
    let verified = case
        .steps
        .iter()
        .filter(|step| step.state == StepState::Verified)
        .count();
    let state = words::case_state(case.state);
    if case.steps.is_empty() {
        state.to_owned()
    } else {
        format!("{state}, {verified} of {} steps", case.steps.len())
    }
}

/// How a command ends that waited for a case.
pub(super) const fn exit(state: CaseState) -> Exit {
    match state {
        CaseState::Completed
        | CaseState::CompletedWithExceptions
        | CaseState::AwaitingApproval
        | CaseState::IdentityPending => Exit::Yes,
        CaseState::NeedsAttention | CaseState::NotCompleted | CaseState::Refused | CaseState::Withdrawn => {
            Exit::No
        }
        CaseState::Received
        | CaseState::Accepted
        | CaseState::Planned
        | CaseState::Acting
        | CaseState::Observing => Exit::Unknown,
    }
}
