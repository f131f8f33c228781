//! Two conductors share the partitions of the histories, and each step of one may come between any two steps of the other.

use std::collections::{BTreeSet, VecDeque};

use lethe_casework::Case;
use lethe_conductor::{Conductor, Effect, IN_FLIGHT_PER_SYSTEM_MAX, Input};
use lethe_journal::{CaseEvent, Instruction};
use lethe_terms::{CaseId, CaseState, Observed, Right, Verb};

use crate::parts::config;
use crate::world::{World, case, name};

/// Orders of steps that are tried.
const SEEDS: u64 = 600;

/// Steps after which two conductors must have come to rest.
const STEPS_MAX: u32 = 20_000;

/// What a conductor has yet to do of its round.
enum Round {
    Over,
    Journal(Vec<Effect>),
    Look(Vec<Effect>),
    Send(Vec<Effect>),
}

/// One conductor with its reading positions.
struct Side {
    conductor: Conductor,
    partitions: BTreeSet<u16>,
    followed: usize,
    read: usize,
    worked: usize,
    walks: VecDeque<Input>,
    round: Round,
}

/// A company whose cases are carried by several conductors; its own conductor only looks.
struct Several {
    world: World,
    looked: usize,
    sides: Vec<Side>,
    drawn: u64,
}

impl Several {
    fn new(persons: &[u8], seed: u64) -> Self {
        let mut world = World::new(&["crm", "shop"], persons, false);
        world.conductor = world.looking().carrying(BTreeSet::new());
        let side = |partitions: [u16; 2]| Side {
            conductor: world.looking().carrying(partitions.into()),
            partitions: partitions.into(),
            followed: 0,
            read: 0,
            worked: 0,
            walks: VecDeque::new(),
            round: Round::Over,
        };
        let sides = vec![side([0, 1]), side([2, 3])];
        Self {
            world,
            looked: 0,
            sides,
            drawn: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A number below `bound`.
    fn draw(&mut self, bound: u64) -> u64 {
        self.drawn ^= self.drawn << 13;
        self.drawn ^= self.drawn >> 7;
        self.drawn ^= self.drawn << 17;
        self.drawn % bound
    }

    /// Shows whoever looks everything that is journaled.
    fn look(&mut self) {
        for (id, number, at, event) in &self.world.journal[self.looked..] {
            self.world.conductor.follow(*id, *number, event, *at).unwrap();
        }
        self.looked = self.world.journal.len();
    }

    fn follow(&mut self, side: usize) {
        let side = &mut self.sides[side];
        for (id, number, at, event) in &self.world.journal[side.followed..] {
            if !side.conductor.carries(*id) {
                side.conductor.follow(*id, *number, event, *at).unwrap();
            }
        }
        side.followed = self.world.journal.len();
    }

    /// The next part of a round; false where there is nothing to do.
    fn step(&mut self, number: usize) -> bool {
        let round = std::mem::replace(&mut self.sides[number].round, Round::Over);
        self.sides[number].round = match round {
            Round::Over => {
                let inputs = self.world.inputs.len();
                self.follow(number);
                let moment = self.world.moment();
                let side = &mut self.sides[number];
                let due = side.conductor.next_wakeup().is_some_and(|at| at <= moment.now);
                if side.read == inputs && side.walks.is_empty() && !due {
                    return false;
                }
                let new = self.world.inputs.range(side.read..inputs).cloned();
                for input in side.walks.drain(..).chain(new).chain([Input::Tick]) {
                    side.conductor.handle(input, moment);
                }
                side.read = inputs;
                Round::Journal(effects(&mut side.conductor))
            }
            Round::Journal(effects) => {
                for effect in effects
                    .iter()
                    .filter(|effect| matches!(effect, Effect::Journal { .. }))
                {
                    self.world.carry(effect.clone());
                }
                Round::Look(effects)
            }
            Round::Look(mut effects) => {
                self.follow(number);
                let moment = self.world.moment();
                let conductor = &mut self.sides[number].conductor;
                effects.retain(|effect| match effect {
                    Effect::Send(instruction) => !conductor.keeps_back(instruction, moment),
                    _ => true,
                });
                Round::Send(effects)
            }
            Round::Send(effects) => {
                self.send(number, effects);
                self.sides[number].worked = self.sides[number].read;
                Round::Over
            }
        };
        true
    }

    fn send(&mut self, number: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Journal { .. } => {}
                Effect::Walk {
                    case,
                    start,
                    kept,
                    purpose,
                    ..
                } => {
                    let outcome = self.world.walk(&start, &kept);
                    self.sides[number].walks.push_back(Input::Walked {
                        case,
                        purpose,
                        outcome,
                    });
                }
                Effect::Send(instruction) => self.watch(instruction),
                other => self.world.carry(other),
            }
        }
    }

    /// Has a system act, and looks whether a restriction that is in force was broken by it.
    fn watch(&mut self, instruction: Instruction) {
        let key = (instruction.selectors.as_bytes()[0], instruction.system.clone());
        let before = self.world.held[&key];
        let (by, verb) = (instruction.case, instruction.verb);
        self.world.carry(Effect::Send(instruction));
        if before == Observed::Restricted && self.world.held[&key] != Observed::Restricted {
            self.look();
            let conductor = &self.world.conductor;
            let supersedes = conductor.case(by).unwrap().opening.supersedes;
            let broken = |held: &&Case| {
                held.id != by
                    && supersedes != Some(held.id)
                    && held.opening.right == Right::Restriction
                    && conductor.is_restricted(held)
                    && !(verb == Verb::Lift && held.lift.is_some())
            };
            let broken: Vec<CaseId> = conductor.cases().filter(broken).map(|held| held.id).collect();
            assert!(broken.is_empty(), "{by} broke the restriction of {broken:?}");
        }
    }

    /// A conductor is lost, and one that comes carries these partitions from the log.
    fn come_back(&mut self, number: usize, partitions: BTreeSet<u16>, read: usize) {
        let mut conductor = self.world.looking().carrying(partitions.clone());
        for (id, number, at, event) in &self.world.journal {
            conductor.replay(*id, *number, event, *at).unwrap();
        }
        conductor.recover(self.world.moment());
        let round = Round::Journal(effects(&mut conductor));
        self.sides[number] = Side {
            conductor,
            partitions,
            followed: self.world.journal.len(),
            read,
            worked: read,
            walks: VecDeque::new(),
            round,
        };
    }

    /// Steps in some order until nothing happens by itself any more, with a kill now and then.
    fn run(&mut self, kills: u64) {
        let mut left = kills;
        for _ in 0..STEPS_MAX {
            let first = usize::try_from(self.draw(2)).unwrap() % self.sides.len();
            if left > 0 && self.draw(40) == 0 {
                left -= 1;
                let (partitions, worked) = (self.sides[first].partitions.clone(), self.sides[first].worked);
                self.come_back(first, partitions, worked);
            }
            if self.draw(8) == 0 {
                self.approve();
            }
            if self.step(first) || (0..self.sides.len()).any(|side| self.step(side)) || self.approve() {
                continue;
            }
            let wakes = self.sides.iter().filter_map(|side| side.conductor.next_wakeup());
            let Some(at) = wakes.min() else { return };
            self.world.now = self.world.now.max(at);
        }
        panic!("the conductors do not come to rest");
    }

    /// The operator approves what waits, where something does.
    fn approve(&mut self) -> bool {
        self.look();
        let Some(approval) = self.world.approval() else {
            return false;
        };
        let is_said =
            |input: &Input| matches!(input, Input::Command { command, .. } if command.id() == approval.id());
        if self.world.inputs.iter().any(is_said) {
            return false;
        }
        self.world.say(approval);
        true
    }

    fn lift(&mut self, restriction: u8, number: u8) {
        self.world.lift(restriction, number, -1);
    }

    fn state(&mut self, number: u8) -> CaseState {
        self.look();
        self.world.state(number)
    }

    fn is_absent(&self) -> bool {
        let mut held = self.world.held.values();
        held.all(|observed| *observed == Observed::Absent)
    }
}

fn effects(conductor: &mut Conductor) -> Vec<Effect> {
    std::iter::from_fn(|| conductor.next_effect()).collect()
}

#[test]
fn what_crosses_between_two_conductors_never_breaks_a_restriction_and_comes_to_its_end() {
    let mut crossed = 0;
    for seed in 0..SEEDS {
        let mut several = Several::new(&[1], seed);
        // The restriction is in the partition of one conductor, the erasure in that of the other.
        several.world.open(1, 1, Right::Restriction, None);
        several.world.open(2, 1, Right::Erasure, None);
        // Now and then the conductor of the erasure has a restriction of its own.
        let restrictions = if seed % 4 == 3 { &[1, 3][..] } else { &[1][..] };
        for number in &restrictions[1..] {
            several.world.open(*number, 1, Right::Restriction, None);
        }
        several.run(seed % 3);
        // Where the erasure went first, a person has to look at what is not there to be restricted.
        for number in restrictions {
            let state = several.state(*number);
            let is_over = [CaseState::Completed, CaseState::NeedsAttention].contains(&state);
            assert!(is_over, "seed {seed}: {number} is {state:?}");
        }
        crossed += u32::from(was_kept_back(&several.world));
        for number in restrictions {
            if several.state(2) != CaseState::Completed {
                several.lift(*number, 8 + number);
                several.run(seed % 2);
            }
        }
        assert_eq!(several.state(2), CaseState::Completed, "seed {seed}");
        assert!(several.is_absent(), "seed {seed}");
        several.world.assert_once();
    }
    assert!(crossed > 0, "no two instructions have crossed");
}

/// Whether an instruction that acts was journaled and never sent under that plan.
fn was_kept_back(world: &World) -> bool {
    let sent: BTreeSet<_> = world.sent.iter().map(|instruction| instruction.id).collect();
    world.journal.iter().any(|(.., event)| {
        matches!(event, CaseEvent::Dispatched { instruction, .. } if !sent.contains(instruction))
    })
}

#[test]
fn a_record_is_released_when_no_conductor_knows_of_a_claim_on_it_any_more() {
    for seed in 0..SEEDS {
        let mut several = Several::new(&[1], seed);
        several.world.open(1, 1, Right::Restriction, None);
        several.world.open(2, 1, Right::Restriction, None);
        several.run(seed % 3);
        several.lift(1, 8);
        several.run(seed % 2);
        let restricted = several.world.held[&(1, name("shop"))];
        assert_eq!(
            restricted,
            Observed::Restricted,
            "seed {seed}: another case restricts it"
        );
        several.lift(2, 9);
        several.run(seed % 2);
        for number in [1, 2] {
            assert_eq!(several.state(number), CaseState::Completed, "seed {seed}");
        }
        let lifted = several
            .world
            .held
            .values()
            .all(|observed| *observed == Observed::Present);
        assert!(lifted, "seed {seed}");
        several.world.assert_once();
    }
}

#[test]
fn a_restriction_ends_with_the_erasure_that_another_conductor_carries() {
    for seed in 0..SEEDS {
        let mut several = Several::new(&[1], seed);
        several.world.open(1, 1, Right::Restriction, None);
        several.run(0);
        several.world.open(2, 1, Right::Erasure, Some(case(1)));
        several.run(seed % 3);
        assert_eq!(several.state(2), CaseState::Completed, "seed {seed}");
        let conductor = &several.world.conductor;
        assert!(
            !conductor.is_restricted(conductor.case(case(1)).unwrap()),
            "seed {seed}"
        );
        assert!(several.is_absent(), "seed {seed}");
    }
}

#[test]
fn one_conductor_goes_on_with_the_cases_of_one_that_was_killed_in_the_middle() {
    for seed in 0..SEEDS {
        let mut several = Several::new(&[1, 3, 4], seed);
        several.world.open(1, 1, Right::Restriction, None);
        several.world.open(2, 1, Right::Erasure, None);
        for number in [3, 4] {
            several.world.open(number, number, Right::Erasure, None);
        }
        for _ in 0..several.draw(120) {
            let side = usize::try_from(several.draw(2)).unwrap();
            several.step(side);
            several.approve();
        }
        let killed = usize::try_from(several.draw(2)).unwrap();
        let killed = several.sides.remove(killed);
        let read = killed.worked.min(several.sides[0].worked);
        several.come_back(0, (0..4).collect(), read);
        several.run(0);
        if several.state(2) != CaseState::Completed {
            several.lift(1, 9);
            several.run(0);
        }
        for number in 2..=4 {
            assert_eq!(several.state(number), CaseState::Completed, "seed {seed}");
        }
        assert!(several.is_absent(), "seed {seed}");
        several.world.assert_once();
    }
}

#[test]
fn what_is_out_to_a_slow_system_is_bounded_for_all_conductors_together() {
    let persons: Vec<u8> = (1..=200).collect();
    let mut several = Several::new(&persons, 1);
    several.world.system("shop").silent = true;
    for person in &persons {
        several.world.open(*person, *person, Right::Erasure, None);
    }
    several.run(0);
    let out = several.world.system("shop").unanswered.len();
    assert_eq!(out, IN_FLIGHT_PER_SYSTEM_MAX);
}

#[test]
fn a_conductor_leaves_the_cases_of_another_alone() {
    let mut world = World::new(&["shop"], &[1], false);
    world.conductor = Conductor::new(config(), world.inventory.clone()).carrying([0].into());
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert!(world.journal.is_empty() && world.refused.is_empty() && world.sent.is_empty());
}
