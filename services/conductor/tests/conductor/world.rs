//! A company in memory: systems that act by id, a ledger that follows the journal, an operator, and a conductor that may be cut off
//! after any effect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lethe_conductor::{Conductor, Effect, Input, Moment};
use lethe_journal::{
    Answer, CaseEvent, CaseOrigin, Command, FailureCode, Found, Generation, Instruction, Inventory,
    KeyWrapped, Opening, Sealed, Token,
};
use lethe_planner::Suspicion;
use lethe_terms::{
    Awaited, CaseId, CaseState, CommandId, ErasureGround, FailureClass, Independence, InstructionId,
    Observed, Outcome, RestrictionGround, Right, SystemName, Timestamp, Verb,
};

use crate::parts::{config, envelope, inventory, token};

/// 24 November 2026, 09:00 UTC.
pub const START_MS: i64 = 1_795_510_800_000;

/// What a system does next instead of what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whim {
    /// Says that it did it, and does nothing.
    Lie,
    /// Ends badly.
    Fail(FailureClass),
    /// Cannot tell what is there.
    CannotTell,
    /// Does it, and counts no record.
    CountNone,
    /// Has lost the record before it is told.
    Lose,
    /// Takes a ticket and does it when it is asked again.
    Ticket,
    /// Finds what it had overlooked.
    Find,
}

/// One system.
#[derive(Default)]
pub struct System {
    /// Whims for instructions that act, first one first.
    pub acting: VecDeque<Whim>,
    /// Whims for searches, first one first.
    pub locating: VecDeque<Whim>,
    /// Whims for observations, first one first.
    pub observing: VecDeque<Whim>,
    /// Whether it keeps its answers to itself.
    pub silent: bool,
    /// How often each instruction had an effect.
    pub effects: BTreeMap<InstructionId, u32>,
    answers: BTreeMap<InstructionId, Answer>,
    /// Generation of the newest instruction about each person.
    newest: BTreeMap<u8, Generation>,
    /// Instructions that it took and did not answer.
    pub unanswered: BTreeSet<InstructionId>,
}

/// The whole.
pub struct World {
    /// The machine under test.
    pub conductor: Conductor,
    /// Histories as they are on the log.
    pub journal: Vec<(CaseId, u64, Timestamp, CaseEvent)>,
    /// Commands and answers as they are on the log; the first is taken off when all its effects were carried out.
    pub inputs: VecDeque<Input>,
    walks: VecDeque<Input>,
    /// The systems.
    pub systems: BTreeMap<SystemName, System>,
    /// What is where of whom: person, system.
    pub held: BTreeMap<(u8, SystemName), Observed>,
    /// Second records of a person in a system, which only what the first system holds of the person leads to.
    pub behind: BTreeMap<(u8, SystemName), Observed>,
    /// Records that no search finds, and so no walk reaches, though an observation sees them.
    pub overlooked: BTreeSet<(u8, SystemName)>,
    /// Now.
    pub now: Timestamp,
    /// What happened, a line each.
    pub transcript: Vec<String>,
    /// Why commands were refused.
    pub refused: Vec<(CommandId, &'static str)>,
    /// Keys that were put in `keys`.
    pub kept: BTreeMap<CaseId, KeyWrapped>,
    /// Persons that were marked as erased.
    pub marked: BTreeSet<CaseId>,
    /// All instructions that went out.
    pub sent: Vec<Instruction>,
    /// After so many effects the conductor is cut off; whether the last one was carried out.
    pub cut: Option<(usize, bool)>,
    /// Effects so far.
    pub effects: usize,
    /// Whether answers on the log come before walks that are under way.
    pub answers_first: bool,
    /// Whether the operator approves what waits for approval.
    pub approving: bool,
    /// Further identifiers of the person that walks go along.
    pub further: Vec<Token>,
    /// The bound that walks come to.
    pub bound: Option<&'static str>,
    /// What walks do not follow.
    pub suspicious: Vec<Suspicion>,
    /// Whose records walks reach once they follow that.
    pub neighbour: Option<u8>,
    /// The inventory, as the shell would hand it over after a crash.
    pub inventory: Inventory,
    leaves: u64,
    drawn: u64,
}

pub fn name(text: &str) -> SystemName {
    text.parse().unwrap()
}

pub fn case(number: u8) -> CaseId {
    CaseId::from_bytes([0, 0, 0, 0, 0, 0, 0, number])
}

pub fn command(number: u8) -> CommandId {
    CommandId::from_bytes([number; 16])
}

impl World {
    /// A company with these systems, each of which holds one record of each of these persons.
    pub fn new(systems: &[&str], persons: &[u8], locates: bool) -> Self {
        let inventory = inventory(systems, locates);
        let held = persons
            .iter()
            .flat_map(|person| {
                systems
                    .iter()
                    .map(|system| ((*person, name(system)), Observed::Present))
            })
            .collect();
        Self {
            conductor: Conductor::new(config(), inventory.clone()),
            journal: Vec::new(),
            inputs: VecDeque::new(),
            walks: VecDeque::new(),
            systems: systems
                .iter()
                .map(|text| (name(text), System::default()))
                .collect(),
            held,
            behind: BTreeMap::new(),
            overlooked: BTreeSet::new(),
            now: Timestamp::from_millis(START_MS),
            transcript: Vec::new(),
            refused: Vec::new(),
            kept: BTreeMap::new(),
            marked: BTreeSet::new(),
            sent: Vec::new(),
            cut: None,
            effects: 0,
            answers_first: false,
            approving: true,
            further: Vec::new(),
            bound: None,
            suspicious: Vec::new(),
            neighbour: None,
            inventory,
            leaves: 0,
            drawn: 0,
        }
    }

    pub fn system(&mut self, text: &str) -> &mut System {
        self.systems.get_mut(&name(text)).unwrap()
    }

    /// The system refuses the next work for good.
    pub fn refuse_next(&mut self, system: &str) {
        let refusal = Whim::Fail(FailureClass::Final);
        self.system(system).acting.push_back(refusal);
    }

    /// Somebody asks for the lift of a restriction whose person was told so many milliseconds from now.
    pub fn lift(&mut self, restriction: u8, number: u8, in_ms: i64) {
        self.say(Command::Lift {
            command: command(number),
            case: case(restriction),
            notified_at: self.now.plus_millis(in_ms),
        });
    }

    /// From now on the company has these systems; a new one holds a record of each of these persons.
    pub fn change_systems(&mut self, systems: &[&str], persons: &[u8]) {
        let locates = self.inventory.systems.iter().any(|system| system.locates);
        self.inventory = inventory(systems, locates);
        for system in systems.iter().copied().map(name) {
            if !self.systems.contains_key(&system) {
                self.systems.insert(system.clone(), System::default());
                let new = persons
                    .iter()
                    .map(|person| ((*person, system.clone()), Observed::Present));
                self.held.extend(new);
            }
        }
        self.inputs
            .push_back(Input::InventoryChanged(self.inventory.clone()));
    }

    /// A silent system says everything that it had kept to itself.
    pub fn speak(&mut self, text: &str) {
        let system = self.system(text);
        system.silent = false;
        let kept = std::mem::take(&mut system.unanswered);
        let answers: Vec<_> = kept.iter().map(|id| system.answers[id].clone()).collect();
        self.inputs.extend(answers.into_iter().map(Input::Answer));
    }

    pub fn moment(&mut self) -> Moment {
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.draw().to_be_bytes());
        Moment { now: self.now, nonce }
    }

    pub fn open(&mut self, number: u8, person: u8, right: Right, supersedes: Option<CaseId>) {
        let opening = Opening {
            right,
            erasure_ground: (right == Right::Erasure).then_some(ErasureGround::ALL[0]),
            restriction_ground: (right == Right::Restriction).then_some(RestrictionGround::ALL[0]),
            received_at: self.now,
            origin: CaseOrigin::Requested,
            supersedes,
            given: Sealed::from_bytes(vec![person]),
            commitment: "00".repeat(32),
        };
        let open = Command::Open {
            command: command(number),
            case: case(number),
            key: KeyWrapped {
                bucket: 1,
                wrapped: Sealed::from_bytes(self.draw().to_be_bytes().to_vec()),
            },
            opening,
        };
        self.inputs.push_back(Input::Command {
            command: open,
            tokens: vec![token(person)],
        });
    }

    /// A number that was not drawn yet.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub fn say(&mut self, command: Command) {
        self.inputs.push_back(Input::Command {
            command,
            tokens: Vec::new(),
        });
    }

    pub fn state(&self, number: u8) -> CaseState {
        self.conductor.case(case(number)).unwrap().state()
    }

    /// Statement of the case as it was given to the ledger last.
    pub fn statement(&self, number: u8) -> serde_json::Value {
        let asked = self
            .journal
            .iter()
            .rev()
            .find_map(|(id, _, _, event)| match event {
                CaseEvent::StatementAsked { statement } if *id == case(number) => Some(statement.clone()),
                _ => None,
            });
        serde_json::from_str(&asked.expect("a statement was asked for")).unwrap()
    }

    /// Goes on until nothing happens by itself any more, time included.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.go() {
                return;
            }
        }
        panic!("the company does not come to rest");
    }

    fn go(&mut self) -> bool {
        let answered = self.answers_first && !self.inputs.is_empty();
        if let Some(walked) = self.walks.pop_front_if(|_| !answered) {
            self.take(walked);
        } else if let Some(input) = self.inputs.front().cloned() {
            if self.take(input) {
                self.inputs.pop_front();
            }
        } else if let Some(approval) = self.approval() {
            self.say(approval);
        } else if let Some(at) = self.conductor.next_wakeup() {
            self.now = self.now.max(at);
            self.take(Input::Tick);
        } else {
            return false;
        }
        true
    }

    /// The operator approves what waits now, and nothing after it.
    pub fn approve_once(&mut self) {
        self.approving = true;
        let approval = self.approval().expect("a plan waits for approval");
        self.approving = false;
        self.say(approval);
    }

    pub fn approval(&self) -> Option<Command> {
        let waits = |open: &&lethe_casework::Case| self.conductor.state(open) == CaseState::AwaitingApproval;
        let open = self.conductor.cases().filter(|_| self.approving).find(waits)?;
        let present = open.plan()?;
        let mut id = [0xaa; 16];
        id[8..].copy_from_slice(open.id.as_bytes());
        // The first half is that of the key, and each command has its own.
        id[0] = u8::try_from(present.plan.number).unwrap();
        id[1] = open.id.as_bytes()[7];
        let (command, plan_digest) = (CommandId::from_bytes(id), present.digest.clone());
        Some(Command::Approve {
            command,
            case: open.id,
            plan_digest,
        })
    }

    /// Hands one input to the conductor and carries its effects out; false where it was cut off.
    pub fn take(&mut self, input: Input) -> bool {
        let moment = self.moment();
        self.conductor.handle(input, moment);
        self.carry_out()
    }

    fn carry_out(&mut self) -> bool {
        while let Some(effect) = self.conductor.next_effect() {
            self.effects += 1;
            match self.cut {
                Some((at, done)) if at == self.effects => {
                    if done {
                        self.carry(effect);
                    }
                    self.crash();
                    return false;
                }
                _ => self.carry(effect),
            }
        }
        true
    }

    /// The conductor is lost with all that is not on the log, and comes back.
    pub fn crash(&mut self) {
        self.come_back();
        assert_eq!(self.conductor.damaged().count(), 0, "every history fits together");
    }

    /// A conductor that has read nothing yet.
    pub fn looking(&self) -> Conductor {
        Conductor::new(config(), self.inventory.clone())
    }

    /// As [`Self::crash`], from histories that may be damaged.
    pub fn come_back(&mut self) {
        self.cut = None;
        self.walks.clear();
        self.conductor = self.looking();
        for (id, number, at, event) in &self.journal {
            let _ = self.conductor.replay(*id, *number, event, *at);
        }
        let moment = self.moment();
        self.conductor.recover(moment);
        self.carry_out();
    }

    pub fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Journal {
                case,
                number,
                at,
                event,
            } => self.write(case, number, at, event),
            Effect::Send(instruction) => self.act(instruction),
            Effect::Walk {
                case,
                start,
                kept,
                purpose,
                ..
            } => {
                let outcome = self.walk(&start, &kept);
                self.walks.push_back(Input::Walked {
                    case,
                    purpose,
                    outcome,
                });
            }
            Effect::KeepKey { case, key } => {
                assert!(self.kept.insert(case, key).is_none(), "a case has one key");
            }
            Effect::MarkErased { case, .. } => {
                self.marked.insert(case);
            }
            Effect::Settled { command, refused, .. } => {
                self.refused
                    .extend(refused.map(|refused| (command, refused.code())));
            }
        }
    }

    pub fn write(&mut self, case: CaseId, number: u64, at: Timestamp, event: CaseEvent) {
        let next = self.journal.iter().filter(|(known, ..)| *known == case).count();
        assert_eq!(number, next as u64, "entries of {case} are numbered without gaps");
        let json = serde_json::to_value(&event).unwrap();
        self.transcript
            .push(json.as_object().unwrap().keys().next().unwrap().clone());
        let index = self.leaves;
        let answer = match &event {
            CaseEvent::PlanFrozen { digest, .. } => Some(Answer::PlanSequenced {
                case,
                digest: digest.clone(),
                index,
                head: format!("head {index}"),
            }),
            CaseEvent::StatementAsked { statement } => {
                let said: serde_json::Value = serde_json::from_str(statement).unwrap();
                let certificate = said["certificate_id"].as_str().unwrap().to_owned();
                Some(Answer::StatementIssued {
                    case,
                    certificate,
                    index,
                })
            }
            _ => None,
        };
        self.leaves += u64::from(event.leaf().is_some());
        self.inputs.extend(answer.map(Input::Answer));
        self.journal.push((case, number, at, event));
    }

    fn act(&mut self, instruction: Instruction) {
        let line = format!("{} {}", instruction.verb, instruction.system);
        self.transcript.push(line);
        let answer = self.answer(&instruction);
        let system = self.systems.get_mut(&instruction.system).unwrap();
        if system.silent {
            system.unanswered.insert(instruction.id);
        } else {
            self.inputs.push_back(Input::Answer(answer));
        }
        self.sent.push(instruction);
    }

    // tidy: long because it is one arm per kind of answer that a system can give
    fn answer(&mut self, order: &Instruction) -> Answer {
        let (case, instruction) = (order.case, order.id);
        let system = self.systems.get_mut(&order.system).unwrap();
        if let Some(known) = system.answers.get(&instruction) {
            return known.clone();
        }
        let observing = order.verb == Verb::Observe;
        let whim = if order.verb == Verb::Locate {
            system.locating.pop_front()
        } else if observing {
            system.observing.pop_front()
        } else {
            system.acting.pop_front()
        };
        let key = (order.selectors.as_bytes()[0], order.system.clone());
        if whim == Some(Whim::Lose) {
            self.held.insert(key.clone(), Observed::Absent);
        }
        if whim == Some(Whim::Find) {
            self.overlooked.remove(&key);
        }
        let selects_behind = order.selectors.as_bytes().len() > 1;
        let first = self.held.get(&key).copied().unwrap_or(Observed::Absent);
        // One that is still there decides what is seen.
        let there = match self.behind.get(&key) {
            Some(state) if selects_behind && first == Observed::Absent => *state,
            _ => first,
        };
        let signed = envelope(instruction);
        let answer = match (order.verb, whim) {
            (_, Some(Whim::Fail(class))) => {
                return Answer::Failed {
                    case,
                    instruction,
                    class,
                    code: FailureCode("test-failed".into()),
                };
            }
            (_, Some(Whim::Ticket)) => {
                return Answer::InProgress {
                    case,
                    instruction,
                    ticket: "t-1".into(),
                    ask_after_ms: 60_000,
                    awaits: Some(Awaited::Rotation),
                };
            }
            (Verb::Locate, _) => Answer::Located {
                case,
                instruction,
                system: order.system.clone(),
                found: Found::default(),
            },
            (Verb::Observe, whim) => {
                let observed = if whim == Some(Whim::CannotTell) {
                    Observed::CannotTell
                } else {
                    there
                };
                let independence = Independence::SeparateCredential;
                Answer::Observed {
                    case,
                    instruction,
                    observed,
                    records: 0,
                    independence,
                    observation: signed,
                }
            }
            (verb, whim) => {
                let generation = order.planned.as_ref().unwrap().generation;
                let newest = system.newest.entry(key.0).or_insert(generation);
                if generation < *newest {
                    return Answer::Failed {
                        case,
                        instruction,
                        class: FailureClass::Final,
                        code: FailureCode("test-stale".into()),
                    };
                }
                *newest = generation;
                let (outcome, after) = match verb {
                    _ if there == Observed::Absent && whim != Some(Whim::Lie) => {
                        (Outcome::NotFound, Observed::Absent)
                    }
                    Verb::Erase => (Outcome::Erased, Observed::Absent),
                    Verb::Restrict => (Outcome::Restricted, Observed::Restricted),
                    _ if there == Observed::Present => (Outcome::NotFound, Observed::Present),
                    _ => (Outcome::Lifted, Observed::Present),
                };
                if whim != Some(Whim::Lie) && outcome != Outcome::NotFound {
                    if selects_behind {
                        self.behind.insert(key.clone(), after);
                    }
                    self.held.insert(key, after);
                    *system.effects.entry(instruction).or_default() += 1;
                }
                Answer::Reported {
                    case,
                    instruction,
                    outcome,
                    records: u64::from(whim != Some(Whim::CountNone)),
                    receipt: signed,
                }
            }
        };
        system.answers.insert(instruction, answer.clone());
        answer
    }

    /// What is left of the run that may not depend on where it was cut.
    pub fn ending(&self) -> Vec<String> {
        let cases = self.conductor.cases().map(|case| {
            let steps: Vec<_> = (0..case.plan().map_or(0, |plan| plan.steps.len()))
                .map(|n| case.step_state(n, false))
                .collect();
            let (restricted, marked) = (self.conductor.is_restricted(case), self.marked.contains(&case.id));
            format!(
                "{} {} {steps:?} plans {} restricted {restricted} marked {marked}",
                case.id,
                case.state(),
                case.plans.len()
            )
        });
        cases
            .chain(self.held.iter().map(|place| format!("{place:?}")))
            .collect()
    }

    /// Each instruction had an effect at most once.
    pub fn assert_once(&self) {
        for (system, inside) in &self.systems {
            assert!(
                inside.effects.values().all(|times| *times == 1),
                "{system} acted twice on one instruction"
            );
        }
    }
}
