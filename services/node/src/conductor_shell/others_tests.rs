//! Two conductors on one log, each of which has decided before it knew of the other.

use std::sync::Arc;

use lethe_conductor::{Conductor, Input, Moment, WalkOutcome};
use lethe_journal::{
    Answer, CaseEvent, CaseOrigin, Command, DatasetRef, Entry, Event, Instruction, Inventory,
    InventoryDataset, InventorySystem, KeyWrapped, Opening, Person, Sealed, Token,
};
use lethe_log::MemoryLog;
use lethe_planner::{Basis, Holding};
use lethe_terms::{
    CaseId, CommandId, ErasureGround, IdentifierKind, IdentifierToken, RecordToken, RestrictionGround, Right,
    Timestamp, Verb,
};
use tokio::sync::watch;

use super::*;
use crate::conductor_shell::partition_of_case;
use crate::test_world::{config, keys_on};

fn place() -> DatasetRef {
    DatasetRef {
        system: "shop".parse().unwrap(),
        dataset: "people".parse().unwrap(),
    }
}

fn inventory() -> Inventory {
    let dataset = InventoryDataset {
        name: place().dataset,
        verbs: vec![Verb::Erase, Verb::Restrict, Verb::Lift, Verb::Observe],
        categories: Vec::new(),
        keeps: Vec::new(),
        after: Vec::new(),
        unproven: false,
        settle_ms: 0,
        lead_ms: 0,
    };
    Inventory {
        systems: vec![InventorySystem {
            name: place().system,
            locates: false,
            locates_by: Vec::new(),
            datasets: vec![dataset],
            quarantined: 0,
            backup_days: None,
            away: false,
        }],
        flows: Vec::new(),
    }
}

/// The person's one record.
fn reached() -> WalkOutcome {
    let holding = Holding {
        record: RecordToken::from_bytes([1; 16]),
        system: place().system,
        dataset: place().dataset,
        via: vec![IdentifierKind::Email],
    };
    WalkOutcome::Reached {
        basis: Box::new(Basis {
            holdings: vec![holding],
            selectors: [(place(), Sealed::from_bytes(vec![1]))].into(),
            ..Basis::default()
        }),
        person: Person {
            tokens: vec![token()],
            identifiers: Sealed::from_bytes(vec![1]),
            not_followed: Vec::new(),
        },
    }
}

fn token() -> Token {
    Token {
        kind: IdentifierKind::Email,
        token: IdentifierToken::from_bytes([1; 16]),
    }
}

/// A conductor, and what it wants journaled and sent.
struct Side {
    case: CaseId,
    cases: Cases,
    followed: BTreeMap<u16, Position>,
    journal: Vec<(u64, Timestamp, CaseEvent)>,
    sends: Vec<Effect>,
}

impl Side {
    /// Has a case of this number dispatched to the shop, by a plan with this index in the ledger.
    fn dispatched(number: u8, right: Right, index: u64) -> Self {
        let case = CaseId::from_bytes([0, 0, 0, 0, 0, 0, 0, number]);
        let own = partition_of_case(case);
        let conductor = Conductor::new(config(), inventory()).carrying([own].into());
        let others = (0..Stream::Cases.partitions()).filter(|partition| *partition != own);
        let mut side = Self {
            case,
            cases: Cases::of(conductor),
            followed: others.map(|partition| (partition, 0)).collect(),
            journal: Vec::new(),
            sends: Vec::new(),
        };
        let opening = Opening {
            right,
            erasure_ground: (right == Right::Erasure).then_some(ErasureGround::ALL[0]),
            restriction_ground: (right == Right::Restriction).then_some(RestrictionGround::ALL[0]),
            received_at: shell::now(),
            origin: CaseOrigin::Requested,
            supersedes: None,
            given: Sealed::from_bytes(vec![1]),
            commitment: "00".repeat(32),
        };
        let command = CommandId::from_bytes([number; 16]);
        side.take(Input::Command {
            command: Command::Open {
                command,
                case,
                key: KeyWrapped {
                    bucket: 1,
                    wrapped: Sealed::from_bytes(vec![1]),
                },
                opening,
            },
            tokens: vec![token()],
        });
        let digest = side.digest();
        let head = format!("head {index}");
        side.take(Input::Answer(Answer::PlanSequenced {
            case,
            digest: digest.clone(),
            index,
            head,
        }));
        let command = CommandId::from_bytes([number + 100; 16]);
        side.take(Input::Command {
            command: Command::Approve {
                command,
                case,
                plan_digest: digest,
            },
            tokens: Vec::new(),
        });
        assert_eq!(side.sends.len(), 1, "{:?}", side.journal);
        side
    }

    fn digest(&self) -> String {
        let conductor = self.cases.look();
        conductor.case(self.case).unwrap().plan().unwrap().digest.clone()
    }

    /// Hands one input over, and whatever walks reach.
    fn take(&mut self, input: Input) {
        let moment = Moment {
            now: shell::now(),
            nonce: shell::random(),
        };
        self.cases.look().handle(input, moment);
        loop {
            let Some(effect) = self.cases.look().next_effect() else {
                return;
            };
            match effect {
                Effect::Journal {
                    number, at, event, ..
                } => self.journal.push((number, at, event)),
                Effect::Walk { case, purpose, .. } => {
                    let outcome = reached();
                    self.cases.look().handle(
                        Input::Walked {
                            case,
                            purpose,
                            outcome,
                        },
                        moment,
                    );
                }
                Effect::Send(_) => self.sends.push(effect),
                _ => {}
            }
        }
    }

    /// Puts its history on the log.
    async fn write(&self, log: &MemoryLog, keys: &CaseKeys) {
        let drawn = keys.draw(self.case).unwrap();
        keys.keep(self.case, drawn.wrapped).await.unwrap();
        for (number, at, event) in &self.journal {
            let id = shell::entry_id();
            let event = Event {
                id,
                source: "/lethe/conductor",
                time: *at,
                data: keys.seal_event(self.case, *number, event).await.unwrap(),
            };
            let entry = Entry {
                id,
                key: self.case.as_bytes().to_vec(),
                value: Some(event.encode().unwrap()),
            };
            let at = Place::new(Stream::Cases, partition_of_case(self.case));
            log.append(&at, None, vec![entry]).await.unwrap();
        }
    }

    /// What it may send now.
    async fn allowed(&mut self, log: &MemoryLog, keys: &CaseKeys) -> Vec<Verb> {
        let mut others = Others {
            log,
            keys,
            cases: &self.cases,
            followed: &mut self.followed,
        };
        let allowed = others.allow(self.sends.clone()).await.unwrap();
        let verb = |effect: &Effect| match effect {
            Effect::Send(Instruction { verb, .. }) => Some(*verb),
            _ => None,
        };
        allowed.iter().filter_map(verb).collect()
    }
}

/// A log, and the keys of the cases on it.
fn log(folder: &std::path::Path) -> (Arc<MemoryLog>, CaseKeys, watch::Sender<bool>) {
    let log = Arc::new(MemoryLog::new());
    let (keys, stop) = keys_on(&log, folder);
    (log, keys, stop)
}

#[tokio::test]
async fn of_two_instructions_for_one_record_that_cross_the_one_that_comes_second_to_the_log_is_kept_back() {
    for restriction_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let (log, keys, _stop) = log(folder.path());
        // Neither knows of the other, and the erasure was planned later: no system would refuse it.
        let mut restriction = Side::dispatched(1, Right::Restriction, 7);
        let mut erasure = Side::dispatched(2, Right::Erasure, 10);
        let (first, second) = if restriction_first {
            (&mut restriction, &mut erasure)
        } else {
            (&mut erasure, &mut restriction)
        };
        first.write(&log, &keys).await;
        assert_eq!(first.allowed(&log, &keys).await.len(), 1, "nobody else acts");
        second.write(&log, &keys).await;
        assert_eq!(second.allowed(&log, &keys).await, [], "it would break the first");
    }
}

#[tokio::test]
async fn what_a_system_refuses_by_itself_and_what_is_about_others_goes_out() {
    let folder = tempfile::tempdir().unwrap();
    let (log, keys, _stop) = log(folder.path());
    let mut erasure = Side::dispatched(1, Right::Erasure, 7);
    let mut restriction = Side::dispatched(2, Right::Restriction, 10);
    let mut other = Side::dispatched(3, Right::Restriction, 11);
    for side in [&erasure, &restriction, &other] {
        side.write(&log, &keys).await;
    }
    assert_eq!(
        erasure.allowed(&log, &keys).await,
        [Verb::Erase],
        "its generation is lower"
    );
    assert_eq!(restriction.allowed(&log, &keys).await, [Verb::Restrict]);
    assert_eq!(other.allowed(&log, &keys).await, [Verb::Restrict]);
}
