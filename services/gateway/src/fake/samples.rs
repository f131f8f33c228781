//! What the made-up backend shows.

use std::collections::BTreeMap;
use std::time::Duration;

use lethe_exchange::PrivateKey;
use lethe_terms::{
    Awaited, CaseId, CaseState, DataCategory, FailureClass, IdentifierKind, Independence, Observed, Outcome,
    Right, StepState, Timestamp, Verb,
};

use super::{Fake, complete, contradict, issue};
use crate::events::{EventResult, IntakeKeyList, IntakeKeyView};
use crate::views::{
    AttentionView, BlockedBy, CaseFlag, CaseView, CheckView, ConformanceView, DatasetView, EarlierView,
    ExceptionView, FindingView, InProgressView, LineageEdge, LineageHow, LineageNode, LineageRecord,
    LineageView, LineageWhat, MustResult, MustView, PartitionList, PartitionView, PathView, PlanStepView,
    PlanView, QuarantinedView, RemarkView, ResurrectionView, ScanState, ScanView, StepView, SystemState,
    SystemView, TopicList, TopicView,
};
use crate::words;

const DAY: i64 = 86_400_000;

/// System, dataset, records, what comes before, ways.
type Row = (
    &'static str,
    &'static str,
    u64,
    &'static [u32],
    &'static [&'static [IdentifierKind]],
);

const EMAIL: &[IdentifierKind] = &[IdentifierKind::Email];
const ACCOUNT: &[IdentifierKind] = &[IdentifierKind::Email, IdentifierKind::UserId];
const COOKIE: &[IdentifierKind] = &[
    IdentifierKind::Email,
    IdentifierKind::UserId,
    IdentifierKind::CookieId,
];

const ROWS: [Row; 7] = [
    ("shop", "payments", 4, &[], &[ACCOUNT]),
    ("shop", "orders", 4, &[0], &[ACCOUNT]),
    ("shop", "addresses", 2, &[], &[ACCOUNT]),
    ("shop", "accounts", 1, &[1, 2, 5], &[EMAIL]),
    ("website", "access_log", 214, &[], &[ACCOUNT, COOKIE]),
    ("helpdesk", "conversations", 3, &[], &[EMAIL]),
    (
        "helpdesk",
        "attachments_with_a_rather_long_name",
        5,
        &[5],
        &[EMAIL],
    ),
];

fn plan(id: CaseId, right: Right, at: Timestamp) -> PlanView {
    let verb = if right == Right::Erasure {
        Verb::Erase
    } else {
        Verb::Restrict
    };
    let steps = (0..)
        .zip(ROWS)
        .map(|(step, (system, dataset, records, after, ways))| PlanStepView {
            step,
            system: system.to_owned(),
            dataset: dataset.to_owned(),
            verb,
            records,
            after: after.to_vec(),
            categories: vec![DataCategory::Purchase],
            reached: split(records, ways),
            lead_ms: 0,
            settle_ms: 0,
        })
        .collect();
    let digit = if right == Right::Erasure { "e" } else { "7" };
    PlanView {
        case: id,
        right,
        number: 1,
        digest: format!("sha256:{}", digit.repeat(64)),
        frozen_at: at,
        ledger_index: Some(17),
        steps,
        exceptions: vec![ExceptionView {
            system: "shop".to_owned(),
            dataset: "invoices".to_owned(),
            norm: "17-3-b".to_owned(),
            until: at.plus_millis(2_900 * DAY),
        }],
        remarks: vec![RemarkView {
            code: "quarantine_may_hide".to_owned(),
            fatal: false,
            system: Some("website".to_owned()),
            dataset: None,
            detail: vec!["12 lines".to_owned()],
        }],
    }
}

fn split(records: u64, ways: &[&[IdentifierKind]]) -> Vec<PathView> {
    let share = records / ways.len().max(1) as u64;
    ways.iter()
        .enumerate()
        .map(|(number, path)| PathView {
            path: path.to_vec(),
            records: if number == 0 {
                records - share * (ways.len() as u64 - 1)
            } else {
                share
            },
        })
        .collect()
}

/// A case that waits for approval, and its plan.
pub(super) fn opened(id: CaseId, right: Right, at: Timestamp) -> (CaseView, PlanView) {
    let plan = plan(id, right, at);
    let steps = plan
        .steps
        .iter()
        .map(|step| StepView {
            step: step.step,
            system: step.system.clone(),
            dataset: step.dataset.clone(),
            verb: step.verb,
            state: StepState::Planned,
            outcome: None,
            records: step.records,
            observed: None,
            independence: None,
            failure: None,
            code: None,
            blocked_by: None,
            held_by: None,
            in_progress: None,
        })
        .collect();
    let case = CaseView {
        id,
        right,
        state: CaseState::AwaitingApproval,
        due: at.plus_millis(30 * DAY),
        plan_digest: Some(plan.digest.clone()),
        steps,
        earlier: Vec::new(),
        certificate: None,
        certificates: Vec::new(),
        received_at: at,
        ground: Some(
            if right == Right::Erasure {
                "17-1-a"
            } else {
                "18-1-a"
            }
            .to_owned(),
        ),
        supersedes: None,
        given_up_for: None,
        superseded_by: None,
        resurrection: None,
        flags: Vec::new(),
        attention: Vec::new(),
        remarks: plan.remarks.clone(),
        gap: Some(1),
        revision: 5,
    };
    (case, plan)
}

fn midway(case: &mut CaseView) {
    let states = [
        (StepState::Verified, Some(Outcome::Erased)),
        (StepState::Reported, Some(Outcome::Erased)),
        (StepState::InProgress, None),
        (StepState::Blocked, None),
        (StepState::Dispatched, None),
        (StepState::Overdue, None),
        (StepState::Planned, None),
    ];
    for (step, (state, outcome)) in case.steps.iter_mut().zip(states) {
        step.state = state;
        step.outcome = outcome;
        if state == StepState::Verified {
            step.observed = Some(Observed::Absent);
            step.independence = Some(Independence::SeparateCredential);
        }
        if state == StepState::InProgress {
            step.in_progress = Some(InProgressView {
                awaits: Some(Awaited::Rotation),
                ask_at: case.received_at.plus_millis(60 * DAY),
                ticket: "ins-17".to_owned(),
            });
        }
        if state == StepState::Blocked {
            step.blocked_by = Some(BlockedBy::Dependency);
        }
    }
}

/// What was done by the plan that a new one takes the place of, as far as it was sent.
pub(super) fn replanned(case: &mut CaseView) {
    for step in &mut case.steps {
        case.earlier.push(EarlierView {
            plan: 1,
            system: step.system.clone(),
            dataset: step.dataset.clone(),
            verb: step.verb,
            outcome: step.outcome,
            seen: step.state == StepState::Verified,
        });
        step.state = StepState::Planned;
        (step.outcome, step.observed, step.independence) = (None, None, None);
        (step.failure, step.code) = (None, None);
    }
}

/// A case in each state.
pub(super) fn cases(now: Timestamp) -> BTreeMap<CaseId, (CaseView, Option<PlanView>)> {
    (0_u8..)
        .zip(CaseState::ALL)
        .map(|(number, state)| {
            let id = CaseId::from_bytes([0x5a, 0x10 + number, 7, number, 0xc0, 0xff, 0xee, number]);
            let right = if number % 3 == 1 {
                Right::Restriction
            } else {
                Right::Erasure
            };
            let at = now.plus_millis(-DAY * (i64::from(number) * 3 + 1));
            let (mut case, mut plan) = opened(id, right, at);
            let has_plan = !matches!(
                state,
                CaseState::Received | CaseState::IdentityPending | CaseState::Accepted | CaseState::Refused
            );
            match state {
                CaseState::Acting | CaseState::Observing => midway(&mut case),
                CaseState::NeedsAttention => {
                    contradict(&mut case);
                    case.due = now.plus_millis(-2 * DAY);
                    case.attention.push(AttentionView {
                        system: "website".to_owned(),
                        dataset: None,
                        code: "kit-timeout".to_owned(),
                    });
                }
                CaseState::Planned => {
                    case.resurrection = Some(ResurrectionView {
                        of: CaseId::from_bytes([0x5a, 0x18, 7, 8, 0xc0, 0xff, 0xee, 8]),
                        system: "helpdesk".to_owned(),
                    });
                }
                CaseState::Completed | CaseState::CompletedWithExceptions => complete(&mut case),
                CaseState::NotCompleted => {
                    contradict(&mut case);
                    case.attention.clear();
                    issue(&mut case, &format!("statement-{id}"), false);
                    if let Some(step) = case.steps.last_mut() {
                        step.failure = Some(FailureClass::Final);
                    }
                }
                CaseState::Withdrawn => {
                    plan.steps.clear();
                    plan.exceptions.clear();
                    case.steps.clear();
                }
                _ => {}
            }
            if *state == CaseState::Observing {
                case.flags.push(CaseFlag::Extended);
            }
            case.state = *state;
            if !has_plan {
                case.plan_digest = None;
                case.steps.clear();
                case.remarks.clear();
                case.gap = None;
            }
            (id, (case, has_plan.then_some(plan)))
        })
        .collect()
}

fn system(name: &str, kind: &str, state: SystemState, datasets: &[(&str, &str, u64)]) -> SystemView {
    SystemView {
        name: name.to_owned(),
        kind: kind.to_owned(),
        state,
        datasets: datasets
            .iter()
            .map(|(name, unit, records)| DatasetView {
                name: (*name).to_owned(),
                unit: (*unit).to_owned(),
                verbs: vec![
                    Verb::Locate,
                    Verb::Erase,
                    Verb::Restrict,
                    Verb::Lift,
                    Verb::Observe,
                ],
                categories: vec![DataCategory::EmailAddress],
                records: Some(*records),
            })
            .collect(),
        last_feed_at: None,
        lag_ms: Some(0),
        quarantined: 0,
        findings: Vec::new(),
    }
}

/// Two systems that are up.
pub(super) fn systems() -> Vec<SystemView> {
    vec![
        system(
            "shop",
            "sql",
            SystemState::Up,
            &[
                ("accounts", "an account", 2_000),
                ("addresses", "an address", 3_412),
                ("orders", "an order with its items", 9_120),
                ("payments", "a payment", 9_007),
            ],
        ),
        system(
            "website",
            "weblog",
            SystemState::Up,
            &[("access_log", "a log's lines of one set of identifiers", 48_213)],
        ),
    ]
}

/// Systems in other states.
pub(super) fn more_systems(now: Timestamp) -> Vec<SystemView> {
    let mut helpdesk = system(
        "helpdesk",
        "sql",
        SystemState::Unreachable,
        &[("conversations", "a conversation", 812)],
    );
    helpdesk.last_feed_at = Some(now.plus_millis(-3 * 3_600_000));
    helpdesk.lag_ms = Some(3 * 3_600_000);
    helpdesk.quarantined = 12;
    helpdesk.findings = vec![FindingView {
        what: "connection".to_owned(),
        ok: false,
        detail: "refused; expected a server at the configured address".to_owned(),
    }];
    let mut archive = system(
        "archive",
        "sql",
        SystemState::Scanning,
        &[("letters", "a letter", 120)],
    );
    archive.last_feed_at = Some(now.plus_millis(-2_000));
    vec![helpdesk, archive]
}

/// System, dataset, rows, identifiers that it names, way.
type Held = (
    &'static str,
    &'static str,
    u64,
    &'static [&'static str],
    &'static [IdentifierKind],
);

const HELD: [Held; 9] = [
    ("shop", "accounts", 1, &["email", "account", "phone"], EMAIL),
    ("helpdesk", "conversations", 3, &["email"], EMAIL),
    ("shop", "orders", 4, &["account"], ACCOUNT),
    ("shop", "payments", 4, &["account"], ACCOUNT),
    ("shop", "addresses", 2, &["account"], ACCOUNT),
    (
        "website",
        "access_log",
        120,
        &["account", "cookie 1", "office"],
        ACCOUNT,
    ),
    (
        "website",
        "access_log",
        94,
        &["account", "cookie 2", "office"],
        ACCOUNT,
    ),
    ("website", "access_log", 31, &["cookie 1", "office"], COOKIE),
    ("website", "access_log", 17, &["cookie 2", "office"], COOKIE),
];

/// A person's lineage.
pub(super) fn lineage() -> LineageView {
    let mut view = LineageView {
        complete: true,
        cut_off: None,
        candidates_behind_shared: 7,
        ..LineageView::default()
    };
    let identifier = |id: &str, kind: IdentifierKind, given: bool| LineageNode {
        id: id.to_owned(),
        what: LineageWhat::Identifier {
            kind,
            strength: kind.strength(),
            given,
        },
    };
    view.nodes = vec![
        identifier("email", IdentifierKind::Email, true),
        identifier("account", IdentifierKind::UserId, false),
        identifier("cookie 1", IdentifierKind::CookieId, false),
        identifier("cookie 2", IdentifierKind::CookieId, false),
        identifier("phone", IdentifierKind::Phone, false),
        identifier("office", IdentifierKind::Ip, false),
    ];
    for (number, (system, dataset, count, by, path)) in HELD.into_iter().enumerate() {
        let id = format!("record {number}");
        for end in by {
            let edge = LineageEdge {
                from: (*end).to_owned(),
                to: id.clone(),
                how: LineageHow::Identifies,
            };
            view.edges.push(edge);
        }
        view.records.push(LineageRecord {
            system: system.to_owned(),
            dataset: dataset.to_owned(),
            count,
            path: path.to_vec(),
            link: (path.len() > 1).then(|| format!("link-{number}")),
        });
        let what = LineageWhat::Record {
            system: system.to_owned(),
            dataset: dataset.to_owned(),
            count,
        };
        view.nodes.push(LineageNode { id, what });
    }
    view
}

pub(super) fn quarantine(now: Timestamp) -> Vec<QuarantinedView> {
    [9, 7]
        .map(|position| QuarantinedView {
            position,
            at: now,
            system: Some("website".to_owned()),
            place: format!("access.log byte {}", position * 1_024),
            code: "weblog-line".to_owned(),
            expected: "a line of the combined format".to_owned(),
        })
        .into()
}

/// The first intake key and so many more, the newest first.
pub(crate) fn intake_keys(more: u8) -> IntakeKeyList {
    let key = |number: u8| {
        let key = PrivateKey::derive(&[number + 1; 32].into());
        IntakeKeyView {
            id: key.public().id(),
            public_key: key.public().clone(),
            made_at: Timestamp::from_millis(0),
            seal_until: Timestamp::MAX,
        }
    };
    IntakeKeyList {
        info: "lethe/intake/v1".to_owned(),
        keys: (0..=more).rev().map(key).collect(),
    }
}

/// What a publisher is told of an event that is another's.
pub(crate) fn not_yours() -> EventResult {
    EventResult::Refused {
        code: "event-not-yours".to_owned(),
        place: "source".to_owned(),
        expected: "a system of the key".to_owned(),
    }
}

pub(super) fn check(system: &SystemView) -> CheckView {
    let ok = system.state != SystemState::Unreachable;
    let detail = if ok {
        ""
    } else {
        "connection refused; expected a server at the configured address"
    };
    CheckView {
        system: system.name.clone(),
        ok,
        findings: vec![FindingView {
            what: "connection".to_owned(),
            ok,
            detail: detail.to_owned(),
        }],
    }
}

pub(super) fn conformance(check: &CheckView) -> ConformanceView {
    let must = |number: &str, must: &str, result| MustView {
        number: number.to_owned(),
        must: must.to_owned(),
        result,
        detail: String::new(),
    };
    let second = if check.ok {
        MustResult::Kept
    } else {
        MustResult::Broken
    };
    ConformanceView {
        system: check.system.clone(),
        ok: check.ok,
        musts: vec![
            must("1", "the manifest is answered without I/O", MustResult::Kept),
            must("2", "the same instruction twice gets the same receipt", second),
        ],
    }
}

/// Four partitions, of which nobody answers for the last.
pub(super) fn partitions(hash: bool) -> PartitionList {
    let one = |partition: u16| PartitionView {
        partition,
        process: Some(format!("lineage-{}", partition % 2)),
        behind: (partition != 3).then_some(0),
    };
    PartitionList {
        partitions: (0..4).map(one).collect(),
        state_hash: hash.then(|| "00".repeat(32)),
    }
}

/// A topic of each kind, one of which was changed.
pub(super) fn topics() -> TopicList {
    let topic = |topic: &str, kind: &str, gone_by_s: Option<u64>| TopicView {
        topic: topic.to_owned(),
        kind: kind.to_owned(),
        gone_by: gone_by_s.map_or_else(
            || "not by time: it stays, sealed under the key of its case".to_owned(),
            |seconds| words::at_most(Duration::from_secs(seconds)),
        ),
        gone_by_s,
        findings: Vec::new(),
    };
    let mut answers = topic("lethe.answers", "queue", Some(695_160));
    answers.findings = vec!["topic lethe.answers has retention.ms = 1000, not 604800000".to_owned()];
    TopicList {
        topics: vec![
            topic("lethe.records", "table", Some(792_060)),
            topic("lethe.cases", "history", None),
            answers,
        ],
        looked: true,
        pending: Some("pending: a setting of the log is not as declared".to_owned()),
    }
}

/// How far the scan of a system is.
pub(super) fn scan(system: &SystemView, state: ScanState, done: u64) -> ScanView {
    let is_unheard = |finding: &FindingView| finding.detail == words::HOST_SILENT;
    let is_silent = system.findings.iter().any(is_unheard);
    ScanView {
        system: system.name.clone(),
        state: if is_silent { ScanState::Running } else { state },
        done,
        total: Some(3000),
        unit: "rows".to_owned(),
        records: done / 2,
        quarantined: 0,
        code: is_silent.then(|| words::HOST_SILENT.to_owned()),
    }
}

impl Fake {
    /// From now on nothing is heard of the process that hosts this system.
    pub fn silence(&self, name: &str) {
        let mut state = self.locked();
        if let Some(system) = state.systems.iter_mut().find(|system| system.name == name) {
            system.state = SystemState::Unreachable;
            system.findings = vec![FindingView {
                what: "feed".to_owned(),
                ok: false,
                detail: words::HOST_SILENT.to_owned(),
            }];
        }
    }
}
