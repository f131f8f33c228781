//! The machine: what comes in, what goes out, and all cases between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lethe_casework::{Case, Land, Refusal, WalkStart, decide, due};
use lethe_journal::{
    Answer, CaseEvent, Command, DatasetRef, FailureCode, Instruction, Inventory, KeyWrapped, Person, Sealed,
    Token,
};
use lethe_planner::Basis;
use lethe_terms::{
    CaseId, CaseState, CommandId, InstructionId, Right, Strength, SystemName, Timestamp, UnitToken,
};

use crate::sharing::Sharing;
use crate::{Error, statements};

/// Instructions that may be out to one system at a time, of all conductors together: enough to keep it busy, few enough that a restart repeats little.
pub const IN_FLIGHT_PER_SYSTEM_MAX: usize = 64;

/// What the statements say of the controller and of this software.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Id of the controller.
    pub controller_id: String,
    /// Legal name of the controller.
    pub controller_name: String,
    /// Version of this software.
    pub version: String,
    /// Whose public holidays count.
    pub land: Land,
    /// How long the suppression of an erased person lasts, in days: longer than the longest backup.
    pub suppression_days: u32,
    /// What the statement says about copies of our own that end later: stream, and when it is gone.
    pub copies: Vec<(String, String)>,
}

/// The present moment, with randomness drawn by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// 256 random bits, never the same twice.
    pub nonce: [u8; 32],
}

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WalkPurpose {
    /// To know by which identifiers the systems are searched.
    Locate,
    /// To freeze a plan on it.
    Plan,
    /// To see before the first instruction that the approved plan is still whole.
    Dispatch,
    /// To see before the statement that nothing was left out.
    Confirm,
}

/// What a walk came to.
#[derive(Debug, Clone)]
pub enum WalkOutcome {
    /// Every partition answered, and none lagged.
    Reached {
        /// The records.
        basis: Box<Basis>,
        /// The person's identifiers.
        person: Person,
    },
    /// A partition lags or is missing: nothing may be decided on it.
    Unknown,
    /// The walk came to a bound: what lies beyond is unknown, and would be again.
    CutOff(FailureCode),
}

/// Everything that can wake the conductor.
#[derive(Debug, Clone)]
pub enum Input {
    /// An operator's command, with the given identifiers as tokens where it opens a case.
    Command {
        /// The command.
        command: Command,
        /// Tokens of the given identifiers.
        tokens: Vec<Token>,
    },
    /// An answer of a connector host or of the ledger.
    Answer(Answer),
    /// A walk came back.
    Walked {
        /// The case.
        case: CaseId,
        /// What it was for.
        purpose: WalkPurpose,
        /// What it came to.
        outcome: WalkOutcome,
    },
    /// The inventory changed.
    InventoryChanged(Inventory),
    /// Time has passed.
    Tick,
}

/// A command that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The case says no.
    ByCase(Refusal),
    /// There is no such case.
    NoSuchCase,
    /// The restriction that is to be given up is not one of this person.
    SupersedesOther,
    /// The case stands still, and nothing can be done with it.
    StandsStill(Error),
}

impl Refused {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ByCase(refusal) => refusal.code(),
            Self::NoSuchCase => "conductor-no-such-case",
            Self::SupersedesOther => "conductor-supersedes-other",
            Self::StandsStill(error) => error.code(),
        }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByCase(refusal) => refusal.fmt(f),
            Self::NoSuchCase => f.write_str("there is no such case"),
            Self::SupersedesOther => f.write_str(
                "the case to be superseded is not a restriction of the same person: expected its id",
            ),
            Self::StandsStill(error) => error.fmt(f),
        }
    }
}

/// What the shell has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append an event to the history of a case, under this number.
    Journal {
        /// The case.
        case: CaseId,
        /// Number of the entry.
        number: u64,
        /// When it was decided: a replay folds the same moment.
        at: Timestamp,
        /// The event.
        event: CaseEvent,
    },
    /// Put the key of a case that opens in `keys`, before its history.
    KeepKey {
        /// The case.
        case: CaseId,
        /// Its key, wrapped.
        key: KeyWrapped,
    },
    /// Append an instruction to its system's stream.
    Send(Instruction),
    /// Take a walk and hand back what it came to.
    Walk {
        /// The case.
        case: CaseId,
        /// Where it starts.
        start: WalkStart,
        /// Identifiers that are known already, as selectors under the case's key: first those of the request.
        known: Vec<Sealed>,
        /// Selectors of the earlier plan by dataset, where it was not seen absent: the new selectors of the dataset have to hold their
        /// records too, and a dataset that is only here gets selectors as well.
        kept: BTreeMap<DatasetRef, Sealed>,
        /// What it is for.
        purpose: WalkPurpose,
    },
    /// Remember that the person was erased, so that what comes back is caught.
    MarkErased {
        /// The case.
        case: CaseId,
        /// The person's identifiers as selectors, sealed under the case's key.
        identifiers: Sealed,
        /// When the mark ends.
        until: Timestamp,
    },
    /// A command was carried out or refused.
    Settled {
        /// The command.
        command: CommandId,
        /// The case.
        case: CaseId,
        /// Why it was refused, where it was.
        refused: Option<Refused>,
    },
}

/// All cases and what is out for them.
pub struct Conductor {
    pub(crate) config: Config,
    pub(crate) inventory: Inventory,
    pub(crate) cases: BTreeMap<CaseId, Case>,
    pub(crate) in_flight: BTreeMap<SystemName, BTreeSet<InstructionId>>,
    pub(crate) waiting: BTreeMap<SystemName, BTreeSet<CaseId>>,
    pub(crate) blocked: BTreeSet<CaseId>,
    pub(crate) walking: BTreeMap<CaseId, WalkPurpose>,
    pub(crate) polling: BTreeSet<InstructionId>,
    pub(crate) looked: BTreeMap<CaseId, u32>,
    pub(crate) claims: BTreeMap<UnitToken, BTreeSet<CaseId>>,
    /// What erasures have erased and seen gone: by unit and case, with the index of the plan.
    pub(crate) erased: BTreeMap<UnitToken, BTreeMap<CaseId, u64>>,
    /// By restriction: the erasures that were opened to supersede it.
    pub(crate) superseding: BTreeMap<CaseId, BTreeSet<CaseId>>,
    pub(crate) reached: BTreeMap<UnitToken, u64>,
    pub(crate) wakes: BTreeMap<Timestamp, BTreeSet<CaseId>>,
    pub(crate) sharing: Sharing,
    damaged: BTreeMap<CaseId, Error>,
    effects: VecDeque<Effect>,
}

impl Conductor {
    /// A conductor without cases.
    pub fn new(config: Config, inventory: Inventory) -> Self {
        Self {
            config,
            inventory,
            cases: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            waiting: BTreeMap::new(),
            blocked: BTreeSet::new(),
            walking: BTreeMap::new(),
            polling: BTreeSet::new(),
            looked: BTreeMap::new(),
            claims: BTreeMap::new(),
            erased: BTreeMap::new(),
            superseding: BTreeMap::new(),
            reached: BTreeMap::new(),
            wakes: BTreeMap::new(),
            sharing: Sharing::new(),
            damaged: BTreeMap::new(),
            effects: VecDeque::new(),
        }
    }

    /// Learns what statements say from now on about copies of our own: when they end may rest on what changes while the process runs.
    pub fn know_copies(&mut self, copies: Vec<(String, String)>) {
        self.config.copies = copies;
    }

    /// Folds one entry of a case's history. A damaged history stops its own case and no other.
    pub fn replay(
        &mut self,
        case: CaseId,
        number: u64,
        event: &CaseEvent,
        at: Timestamp,
    ) -> Result<(), Error> {
        if let Some(error) = self.damaged.get(&case) {
            return Err(error.clone());
        }
        let folded = match self.cases.get_mut(&case) {
            Some(known) if number < known.next_number => Ok(()),
            Some(known) => known.apply(number, event, at),
            None if number == 0 => Case::open(case, event, at).map(|opened| {
                if let Some(earlier) = opened.opening.supersedes {
                    self.superseding.entry(earlier).or_default().insert(case);
                }
                self.cases.insert(case, opened);
            }),
            None => Err(lethe_casework::Error::Gap {
                expected: 0,
                found: number,
            }),
        };
        folded.map_err(|source| {
            let error = Error::Damaged { case, source };
            self.damaged.insert(case, error.clone());
            error
        })
    }

    /// Folds one entry of a history that another conductor writes: for whoever only looks, and for what of it bears on the cases that are
    /// carried here. A stop is not journaled, so it is derived here as the other conductor derives it after each start, when it goes on with
    /// the case.
    ///
    /// # Errors
    /// As [`Conductor::replay`].
    pub fn follow(
        &mut self,
        case: CaseId,
        number: u64,
        event: &CaseEvent,
        at: Timestamp,
    ) -> Result<(), Error> {
        self.replay(case, number, event, at)?;
        self.stop_for_good(case);
        self.refresh_claims(case);
        self.heard_of(case, event);
        Ok(())
    }

    fn stop_for_good(&mut self, case: CaseId) {
        if self.cases.get(&case).is_some_and(statements::is_never_to_come) {
            self.stop(Error::NoStatement {
                case,
                what: "completion",
            });
        }
    }

    /// Stops a case of whose history an entry cannot be opened: what follows would be folded over a gap.
    pub fn unreadable(&mut self, case: CaseId) {
        self.stop(Error::Unreadable { case });
    }

    /// Stops one case, until the cause is mended and the histories are replayed; the first cause stays.
    pub(crate) fn stop(&mut self, error: Error) {
        self.damaged.entry(error.case()).or_insert(error);
    }

    pub(crate) fn stands_still(&self, case: CaseId) -> bool {
        self.damaged.contains_key(&case)
    }

    /// After the replay of all histories: sends again what is unanswered, and goes on with every case that is carried here.
    pub fn recover(&mut self, moment: Moment) {
        self.rebuild_claims();
        // An erasure may have ended in the moment before the stop, also one that another conductor carries.
        let all: Vec<_> = self.cases.keys().copied().collect();
        for case in all {
            self.end_superseded(case, moment.now);
            if !self.carries(case) {
                self.stop_for_good(case);
            }
        }
        let cases: Vec<_> = self
            .cases
            .keys()
            .copied()
            .filter(|case| self.carries(*case) && !self.damaged.contains_key(case))
            .collect();
        // What was out counts first, so that nothing new goes out beyond the bound.
        for case in &cases {
            self.resend(*case);
        }
        for case in cases {
            self.advance(case, moment);
        }
    }

    /// Takes one input and queues the effects that follow. What is for a case of another conductor is left to that one.
    pub fn handle(&mut self, input: Input, moment: Moment) {
        match input {
            Input::Command { command, .. } if !self.carries(command.case()) => {}
            Input::Answer(answer) if !self.carries(answer.case()) => {}
            Input::Command { command, tokens } => self.command(&command, tokens, moment),
            Input::Answer(answer) => self.answer(&answer, moment),
            Input::Walked {
                case,
                purpose,
                outcome,
            } => self.walked(case, purpose, outcome, moment),
            Input::InventoryChanged(inventory) => self.take_inventory(inventory, moment),
            Input::Tick => {}
        }
        self.take_heard(moment);
        self.wake(moment);
    }

    /// The next effect to be carried out.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When the conductor wants to be called with [`Input::Tick`].
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let heard = self.has_heard().then_some(Timestamp::from_millis(0));
        heard.or_else(|| self.wakes.keys().next().copied())
    }

    /// The cases.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.values()
    }

    /// One case.
    pub fn case(&self, case: CaseId) -> Option<&Case> {
        self.cases.get(&case)
    }

    /// State of a case as a person has to see it: one that stands still needs attention, whatever its history had come to.
    pub fn state(&self, case: &Case) -> CaseState {
        if self.stands_still(case.id) {
            CaseState::NeedsAttention
        } else {
            case.state()
        }
    }

    /// Why a case stands still, where it does.
    pub fn stopped(&self, case: CaseId) -> Option<&Error> {
        self.damaged.get(&case)
    }

    /// Why cases stand still: histories that cannot be folded, statements that cannot be written.
    pub fn damaged(&self) -> impl Iterator<Item = &Error> {
        self.damaged.values()
    }

    /// Where a system has come back, what waited for it goes on.
    fn take_inventory(&mut self, inventory: Inventory, moment: Moment) {
        let before = std::mem::replace(&mut self.inventory, inventory);
        let mut away = before.systems.iter().filter(|system| system.away);
        if away.any(|system| !self.is_away(&system.name)) {
            let cases: Vec<_> = self.cases.keys().copied().collect();
            for case in cases {
                self.advance(case, moment);
            }
        }
    }

    pub(crate) fn is_away(&self, name: &SystemName) -> bool {
        let mut systems = self.inventory.systems.iter();
        systems.any(|system| system.away && system.name == *name)
    }

    fn wake(&mut self, moment: Moment) {
        while let Some((at, cases)) = self.wakes.pop_first() {
            if at > moment.now {
                self.wakes.insert(at, cases);
                return;
            }
            for case in cases {
                self.advance(case, moment);
            }
        }
    }

    pub(crate) fn wake_at(&mut self, case: CaseId, at: Timestamp) {
        self.wakes.entry(at).or_default().insert(case);
    }

    pub(crate) fn queue(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Folds an event that follows from a decision, and has it journaled.
    pub(crate) fn record(&mut self, case: CaseId, event: CaseEvent, now: Timestamp) {
        let number = self.cases.get(&case).map_or(0, |known| known.next_number);
        // The same fold as on replay; what the conductor itself decides always fits, and what does not fit stops the case.
        if self.replay(case, number, &event, now).is_ok() {
            self.effects.push_back(Effect::Journal {
                case,
                number,
                at: now,
                event,
            });
        }
    }

    fn command(&mut self, command: &Command, tokens: Vec<Token>, moment: Moment) {
        let refused = match command {
            known if self.stands_still(known.case()) => {
                self.damaged.get(&known.case()).cloned().map(Refused::StandsStill)
            }
            Command::Open {
                command,
                case,
                key,
                opening,
            } if !self.cases.contains_key(case) => {
                let refused = self.open(*command, *case, opening, tokens, moment);
                if refused.is_none() {
                    self.queue(Effect::KeepKey {
                        case: *case,
                        key: key.clone(),
                    });
                }
                refused
            }
            other => self.command_known(other, moment),
        };
        let settled = refused.is_none();
        self.queue(Effect::Settled {
            command: command.id(),
            case: command.case(),
            refused,
        });
        if settled {
            // An erasure that was approved, and a restriction that is to end, hold other erasures back no longer.
            if matches!(command, Command::Approve { .. } | Command::Lift { .. }) {
                self.wake_blocked(moment);
            }
            self.advance(command.case(), moment);
        }
    }

    fn command_known(&mut self, command: &Command, moment: Moment) -> Option<Refused> {
        let Some(case) = self.cases.get(&command.case()) else {
            return Some(Refused::NoSuchCase);
        };
        if matches!(command, Command::Lift { .. }) && !self.is_restricted(case) {
            return Some(Refused::ByCase(Refusal::NotRestricted));
        }
        if matches!(command, Command::Withdraw { .. }) && self.was_relied_on(case) {
            return Some(Refused::ByCase(Refusal::WrongState {
                state: case.state(),
                what: "withdrawn: another erasure has gone ahead because this one gives its restriction up",
            }));
        }
        match decide(case, command, moment.now) {
            Ok(events) => {
                for event in events {
                    self.record(command.case(), event, moment.now);
                }
                None
            }
            Err(refusal) => Some(Refused::ByCase(refusal)),
        }
    }

    fn open(
        &mut self,
        command: CommandId,
        case: CaseId,
        opening: &lethe_journal::Opening,
        tokens: Vec<Token>,
        moment: Moment,
    ) -> Option<Refused> {
        if let Some(earlier) = opening.supersedes {
            // What several people may share says nothing of who asks: one of them would give up the restriction of another.
            let names_one = |token: &&Token| token.kind.strength() == Strength::Strong;
            let same_person = self.cases.get(&earlier).is_some_and(|earlier| {
                let mut named = earlier.tokens.iter().filter(names_one);
                earlier.opening.right == Right::Restriction && named.any(|token| tokens.contains(token))
            });
            if !same_person {
                return Some(Refused::SupersedesOther);
            }
        }
        let due = due(opening.received_at, self.config.land);
        let event = CaseEvent::Opened {
            command,
            opening: opening.clone(),
            tokens,
            due,
        };
        self.record(case, event, moment.now);
        None
    }
}
