//! From the core's state to what people see.

use std::collections::BTreeMap;
use std::time::Duration;

use lethe_casework::{Case, Issued, PlanProgress, StepProgress};
use lethe_conductor::Conductor;
use lethe_gateway::views::{
    AttentionView, BlockedBy, CaseFlag, CaseView, DatasetView, EarlierView, ExceptionView, FindingView,
    InProgressView, IssuedView, PartitionList, PartitionView, PathView, PlanStepView, PlanView, RemarkView,
    ResurrectionView, ScanState, ScanView, StepView, SupersededView, SystemState, SystemView,
};
use lethe_journal::{CaseOrigin, DatasetRef, Remark, Step, SystemTold};
use lethe_terms::{IdentifierKind, StepState, Timestamp};

use crate::board::SILENT;
use crate::lineage::Lineage;
use crate::{Error, shell};

/// A case as people see it.
pub(crate) fn case_view(conductor: &Conductor, case: &Case) -> CaseView {
    let opening = &case.opening;
    let ground = opening
        .erasure_ground
        .map(|ground| ground.code())
        .or_else(|| opening.restriction_ground.map(|ground| ground.code()));
    let present = case.plan();
    let state = conductor.state(case);
    CaseView {
        id: case.id,
        right: opening.right,
        state,
        due: case.due,
        plan_digest: present.map(|present| present.digest.clone()),
        steps: present.map_or_else(Vec::new, |present| step_views(conductor, case, present)),
        earlier: case
            .plans
            .split_last()
            .map_or_else(Vec::new, |(_, before)| earlier(before)),
        certificate: case.issued.last().map(|issued| issued.certificate.clone()),
        certificates: case.issued.iter().map(issued_view).collect(),
        received_at: opening.received_at,
        ground: ground.map(str::to_owned),
        supersedes: opening.supersedes,
        given_up_for: case.given_up_for,
        superseded_by: superseded_by(conductor, case),
        resurrection: match &opening.origin {
            CaseOrigin::Resurrection { of, system } => Some(ResurrectionView {
                of: *of,
                system: system.to_string(),
            }),
            _ => None,
        },
        // Sent is not done: what only was asked for is not in force yet.
        flags: if conductor.is_restricted(case) && (state.is_ended() || case.lift.is_some()) {
            vec![CaseFlag::Restricted]
        } else {
            Vec::new()
        },
        attention: case
            .attention()
            .into_iter()
            .map(|attention| AttentionView {
                system: attention
                    .system
                    .map_or(LETHE.to_owned(), |system| system.to_string()),
                dataset: attention.dataset.map(|dataset| dataset.to_string()),
                code: attention.code,
            })
            .chain(conductor.stopped(case.id).map(stands_still))
            .collect(),
        remarks: present.map_or_else(Vec::new, |present| {
            present.plan.remarks.iter().map(remark_view).collect()
        }),
        gap: present.map(|_| case.locating.gap),
        revision: case.next_number,
    }
}

fn issued_view(issued: &Issued) -> IssuedView {
    IssuedView {
        certificate: issued.certificate.clone(),
        verb: issued.verb,
        completed: issued.completed,
        issued_at: issued.at,
        plan_digest: issued.plan_digest.clone(),
    }
}

/// What attention that no system needs is shown under.
const LETHE: &str = "lethe";

/// What to look at where a case stands still: nothing of any system, but its own history.
fn stands_still(error: &lethe_conductor::Error) -> AttentionView {
    AttentionView {
        system: LETHE.to_owned(),
        dataset: None,
        code: error.code().to_owned(),
    }
}

/// The erasure that supersedes a restriction: one that is done before one that may yet be.
fn superseded_by(conductor: &Conductor, restriction: &Case) -> Option<SupersededView> {
    let standing = conductor.erasures_for(restriction.id).filter_map(|erasure| {
        let (state, case) = (erasure.state(), erasure.id);
        let done = state.is_completed();
        (done || !state.is_ended()).then_some(SupersededView { case, done })
    });
    standing.max_by_key(|erasure| erasure.done)
}

/// What went out by plans that a later one took the place of.
fn earlier(plans: &[PlanProgress]) -> Vec<EarlierView> {
    let steps = plans.iter().flat_map(|made| {
        let number = made.plan.number;
        made.each().map(move |(step, progress)| (number, step, progress))
    });
    steps
        .filter(|(.., progress)| progress.sent.is_some())
        .map(|(plan, step, progress)| EarlierView {
            plan,
            system: step.system.to_string(),
            dataset: step.dataset.to_string(),
            verb: step.verb,
            outcome: progress.report.as_ref().map(|report| report.outcome),
            seen: progress.is_verified(step),
        })
        .collect()
}

fn step_views(conductor: &Conductor, case: &Case, present: &PlanProgress) -> Vec<StepView> {
    present
        .plan
        .steps
        .iter()
        .zip(&present.steps)
        .enumerate()
        .map(|(index, (step, progress))| step_view(conductor, case, index, step, progress))
        .collect()
}

fn step_view(
    conductor: &Conductor,
    case: &Case,
    index: usize,
    step: &Step,
    progress: &StepProgress,
) -> StepView {
    let is_open = progress.sent.is_none() || conductor.is_held_back(case, index);
    let held_by = conductor.held_by(case, index).filter(|_| is_open);
    let blocked_by = match held_by {
        Some(_) => Some(BlockedBy::Hold),
        None if progress.sent.is_some() || case.is_ready(index) => None,
        None => Some(BlockedBy::Dependency),
    };
    let state = progress.state(step, blocked_by.is_some());
    let planned = u64::try_from(step.records.len()).unwrap_or(u64::MAX);
    StepView {
        step: step.step,
        system: step.system.to_string(),
        dataset: step.dataset.to_string(),
        verb: step.verb,
        state,
        outcome: progress.report.as_ref().map(|report| report.outcome),
        records: progress.report.as_ref().map_or(planned, |report| report.records),
        observed: progress.sighting.as_ref().map(|seen| seen.observed),
        independence: progress.sighting.as_ref().map(|seen| seen.independence),
        failure: progress
            .failure
            .as_ref()
            .filter(|_| state == StepState::Failed)
            .map(|failure| failure.class),
        code: progress.attention(step).map(|attention| attention.code),
        blocked_by,
        held_by,
        in_progress: progress
            .ticket
            .as_ref()
            .filter(|_| state == StepState::InProgress)
            .map(|ticket| InProgressView {
                awaits: ticket.awaits,
                ask_at: ticket.ask_at,
                ticket: ticket.quote.clone(),
            }),
    }
}

fn remark_view(remark: &Remark) -> RemarkView {
    RemarkView {
        code: remark.code.code().to_owned(),
        fatal: remark.code.is_fatal(),
        system: remark.system.as_ref().map(ToString::to_string),
        dataset: remark.dataset.as_ref().map(ToString::to_string),
        detail: remark.detail.clone(),
    }
}

/// The newest plan of a case as people see it.
pub(crate) fn plan_view(case: &Case) -> Option<PlanView> {
    let present = case.plan()?;
    let plan = &present.plan;
    Some(PlanView {
        case: case.id,
        right: plan.right,
        number: plan.number,
        digest: present.digest.clone(),
        frozen_at: plan.frozen_at,
        ledger_index: present.logged.as_ref().map(|(index, _)| *index),
        steps: plan.steps.iter().map(plan_step_view).collect(),
        exceptions: plan
            .exceptions
            .iter()
            .map(|exception| ExceptionView {
                system: exception.system.to_string(),
                dataset: exception.dataset.to_string(),
                norm: exception.norm.clone(),
                until: exception.until,
            })
            .collect(),
        remarks: plan.remarks.iter().map(remark_view).collect(),
    })
}

fn plan_step_view(step: &Step) -> PlanStepView {
    let mut reached: BTreeMap<&[IdentifierKind], u64> = BTreeMap::new();
    for holding in &step.records {
        *reached.entry(&holding.via).or_default() += 1;
    }
    PlanStepView {
        step: step.step,
        system: step.system.to_string(),
        dataset: step.dataset.to_string(),
        verb: step.verb,
        records: u64::try_from(step.records.len()).unwrap_or(u64::MAX),
        after: step.after.clone(),
        categories: step.categories.clone(),
        reached: reached
            .into_iter()
            .map(|(path, records)| PathView {
                path: path.to_vec(),
                records,
            })
            .collect(),
        lead_ms: step.lead_ms,
        settle_ms: step.settle_ms,
    }
}

/// The state of a system as people see it.
pub(crate) fn system_state(told: &SystemTold) -> SystemState {
    match (&told.failure, told.caught_up_at) {
        (Some(_), _) => SystemState::Unreachable,
        (None, Some(_)) => SystemState::Up,
        (None, None) if told.inventory.away => SystemState::Unknown,
        (None, None) => SystemState::Scanning,
    }
}

/// A system as people see it; `records` counts those of a dataset.
pub(crate) fn system_view(told: &SystemTold, records: impl Fn(&DatasetRef) -> Option<u64>) -> SystemView {
    let system = &told.inventory;
    let datasets = system.datasets.iter().map(|dataset| DatasetView {
        name: dataset.name.to_string(),
        unit: told.units.get(&dataset.name).cloned().unwrap_or_default(),
        verbs: dataset.verbs.clone(),
        categories: dataset.categories.clone(),
        records: records(&DatasetRef {
            system: system.name.clone(),
            dataset: dataset.name.clone(),
        }),
    });
    SystemView {
        name: system.name.to_string(),
        kind: told.kind.clone(),
        state: system_state(told),
        datasets: datasets.collect(),
        last_feed_at: told.caught_up_at,
        lag_ms: told
            .caught_up_at
            // One that is ahead says that clocks differ, and not how far it is behind.
            .and_then(|at| u64::try_from(shell::now().since(at)).ok()),
        quarantined: system.quarantined,
        findings: told.failure.as_ref().map_or_else(Vec::new, |code| {
            vec![FindingView {
                what: "feed".into(),
                ok: false,
                detail: code.0.clone(),
            }]
        }),
    }
}

/// What a scan waits for and goes on after by itself; of the rest somebody has to hear.
const WAITED_FOR: [&str; 4] = [
    SILENT,
    "log-not-stored",
    "log-unknown-whether-stored",
    "intake-lagging",
];

/// How far the scan of a system is that was asked for at that moment.
pub(crate) fn scan_view(told: &SystemTold, asked_at: Option<Timestamp>) -> ScanView {
    let is_heard = asked_at.is_none_or(|asked| told.scan_asked.is_some_and(|heard| heard >= asked));
    let caught_up = is_heard && !told.scanning && told.caught_up_at.is_some();
    ScanView {
        system: told.inventory.name.to_string(),
        state: match (&told.failure, caught_up) {
            // It begins, or goes on, once its host lives and the log answers: nothing has ended.
            (Some(code), _) if WAITED_FOR.contains(&&*code.0) => ScanState::Running,
            (Some(_), _) => ScanState::Failed,
            (None, true) => ScanState::Finished,
            (None, false) => ScanState::Running,
        },
        done: told.done,
        total: (told.total > 0).then_some(told.total),
        unit: if told.kind == "weblog" { "bytes" } else { "rows" }.into(),
        records: told.appended,
        quarantined: told.inventory.quarantined,
        code: told.failure.as_ref().map(|code| code.0.clone()),
    }
}

/// Who folds each partition of lineage; where it is wanted, the hash of all rows, too.
pub(crate) async fn partitions(
    lineage: &Lineage,
    patience: Duration,
    with_hash: bool,
) -> Result<PartitionList, Error> {
    let views = (0..).zip(lineage.partitions(patience).await?);
    let views = views.map(|(partition, (process, behind))| PartitionView {
        partition,
        process,
        behind,
    });
    Ok(PartitionList {
        partitions: views.collect(),
        state_hash: if with_hash {
            Some(lineage.state_hash().await?.to_string())
        } else {
            None
        },
    })
}

#[cfg(test)]
mod tests {
    use lethe_journal::FailureCode;

    use super::*;
    use crate::board::silent;

    #[test]
    fn a_scan_whose_host_is_not_heard_of_or_whose_log_is_away_has_not_failed() {
        let seen = |code: &str| {
            let mut told = silent("shop".parse().unwrap(), "sql".into());
            told.failure = Some(FailureCode(code.to_owned()));
            scan_view(&told, Some(shell::now())).state
        };
        assert_eq!(seen("node-host-silent"), ScanState::Running);
        for waited in [
            lethe_intake::Error::Log(lethe_log::Error::NotStored(String::new())),
            lethe_intake::Error::Log(lethe_log::Error::Unknown(String::new())),
            lethe_intake::Error::Lagging,
        ] {
            assert_eq!(seen(waited.code()), ScanState::Running, "{waited}");
        }
        assert_eq!(seen("sql-unknown-table"), ScanState::Failed);
    }

    #[test]
    fn how_far_a_feed_is_behind_is_unknown_where_the_clock_of_its_host_is_ahead() {
        let lag = |ahead_ms: i64| {
            let mut told = silent("shop".parse().unwrap(), "sql".into());
            told.caught_up_at = Some(Timestamp::from_millis(shell::now().millis() + ahead_ms));
            system_view(&told, |_| None).lag_ms
        };
        assert_eq!(lag(3_600_000), None);
        assert!(lag(-3_600_000).is_some_and(|lag| lag >= 3_600_000));
    }
}
