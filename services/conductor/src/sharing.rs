//! Several conductors side by side. Each carries the cases of some partitions of the histories, alone, and follows the histories of all others,
//! so that all know what the cases hold of each other's records.
//!
//! That two of them never have conflicting instructions out for one record rests on an order: a conductor journals that an instruction goes
//! out, then reads whatever the others have journaled, and sends it only if nothing of that speaks against it ([`Conductor::keeps_back`]). Of
//! two that cross at least one sees the other. Who gives way follows from the order of their plans in the ledger:
//!
//! * What was planned before a restriction and comes after it the system refuses: its generation is lower.
//! * What was planned after a restriction, and would erase or release what is restricted, waits for the restriction to end.
//! * A restriction that was planned before, and overtaken, is planned again: the system would refuse it.

use std::collections::BTreeSet;

use lethe_casework::{Case, PlanProgress};
use lethe_journal::{CaseEvent, HoldingRef, Instruction, Step, Stream, partition_of};
use lethe_terms::{CaseId, InstructionId, Verb};

use crate::claims::{index_of, instructed, is_done};
use crate::conductor::{Conductor, IN_FLIGHT_PER_SYSTEM_MAX, Moment};

/// What a conductor knows of the others.
pub(crate) struct Sharing {
    /// The partitions of the histories whose cases are carried here.
    carried: BTreeSet<u16>,
    /// Instructions that were journaled and not sent.
    pub(crate) kept_back: BTreeSet<InstructionId>,
    /// Erasures of other conductors that were completed: what they supersede may end here.
    completed: BTreeSet<CaseId>,
    /// Whether other conductors have journaled something since what waits here was looked at.
    has_moved: bool,
}

impl Sharing {
    pub(crate) fn new() -> Self {
        Self {
            carried: (0..Stream::Cases.partitions()).collect(),
            kept_back: BTreeSet::new(),
            completed: BTreeSet::new(),
            has_moved: false,
        }
    }
}

impl Conductor {
    /// Carries the cases of these partitions of the histories, in place of all.
    #[must_use]
    pub fn carrying(mut self, partitions: BTreeSet<u16>) -> Self {
        self.sharing.carried = partitions;
        self
    }

    /// Goes on with no case of these partitions: another conductor is to carry them.
    pub fn leave(&mut self, partitions: &BTreeSet<u16>) {
        self.sharing
            .carried
            .retain(|carried| !partitions.contains(carried));
    }

    /// Whether a case is carried here.
    pub fn carries(&self, case: CaseId) -> bool {
        let partition = partition_of(case.as_bytes(), Stream::Cases.partitions());
        self.sharing.carried.contains(&partition)
    }

    /// How many instructions may be out to one system from here: a share of what may be out in all.
    pub(crate) fn room(&self) -> usize {
        let carried = self.sharing.carried.len();
        IN_FLIGHT_PER_SYSTEM_MAX * carried / usize::from(Stream::Cases.partitions())
    }

    /// Notes what an entry of another conductor means for the cases that are carried here; it is taken up with the next input.
    pub(crate) fn heard_of(&mut self, id: CaseId, event: &CaseEvent) {
        let Some(case) = self.cases.get(&id) else { return };
        let mut reached = Vec::new();
        if let CaseEvent::Dispatched { step, .. } = event
            && let Some(present) = case.plan()
            && let Some((index, _)) = &present.logged
        {
            let steps = present.plan.steps.iter().filter(|planned| planned.step == *step);
            let holdings = steps.flat_map(|planned| &planned.records);
            reached.extend(holdings.map(|holding| (holding.unit(), *index)));
        }
        let ends = case.opening.supersedes.filter(|_| is_done(case));
        if ends.is_some_and(|earlier| self.carries(earlier)) {
            self.sharing.completed.insert(id);
        }
        for (unit, index) in reached {
            self.note_reached(unit, index);
        }
        self.sharing.has_moved |= !self.blocked.is_empty();
    }

    pub(crate) fn has_heard(&self) -> bool {
        self.sharing.has_moved || !self.sharing.completed.is_empty()
    }

    /// Takes up what other conductors have journaled.
    pub(crate) fn take_heard(&mut self, moment: Moment) {
        for erasure in std::mem::take(&mut self.sharing.completed) {
            self.end_superseded(erasure, moment.now);
        }
        if std::mem::take(&mut self.sharing.has_moved) {
            self.wake_blocked(moment);
        }
    }

    /// Whether an instruction that is journaled must not be sent after all: to be asked once everything was followed that other conductors had
    /// journaled by then. Its step waits or is planned again, as if nothing had been journaled.
    pub fn keeps_back(&mut self, instruction: &Instruction, moment: Moment) -> bool {
        if !self.is_in_conflict(instruction) {
            return false;
        }
        let system = self.landed(instruction.id);
        self.sharing.kept_back.insert(instruction.id);
        self.wake_at(instruction.case, moment.now);
        if let Some(system) = system {
            self.wake_waiting(&system, moment);
        }
        true
    }

    pub(crate) fn is_kept_back(&self, instruction: InstructionId) -> bool {
        self.sharing.kept_back.contains(&instruction)
    }

    /// Whether what was journaled as sent for a step was kept back for another case's restriction: sent it could not have been beside that.
    pub fn is_held_back(&self, case: &Case, step: usize) -> bool {
        let Some(present) = case.plan() else { return false };
        let open = present.steps.get(step).is_some_and(|progress| {
            progress.sent.is_some() && progress.report.is_none() && progress.failure.is_none()
        });
        let planned = present.plan.steps.get(step).filter(|_| open);
        planned
            .filter(|planned| planned.verb != Verb::Restrict)
            .is_some_and(|planned| self.is_held_since(case, present, planned))
    }

    fn is_in_conflict(&self, instruction: &Instruction) -> bool {
        let Some(planned) = &instruction.planned else {
            return false;
        };
        let acts = instruction.verb == planned.step_verb && instruction.verb != Verb::Observe;
        if !acts || instruction.ticket.is_some() {
            return false;
        }
        // A plan that was made in the meantime says nothing of this one.
        let case = self.cases.get(&instruction.case);
        let plans = case.into_iter().flat_map(|case| &case.plans);
        let made = plans.into_iter().find(|made| made.digest == planned.digest);
        let (Some(case), Some(present)) = (case, made) else {
            return false;
        };
        let number = planned.generation.step;
        let mut steps = present.plan.steps.iter();
        steps
            .find(|step| step.step == number)
            .is_some_and(|step| match step.verb {
                Verb::Restrict => self.is_past(case, present, step),
                _ => self.is_held_since(case, present, step),
            })
    }

    /// Whether a case that was planned after this restriction acts on one of its units: it did not see the restriction.
    fn is_past(&self, case: &Case, present: &PlanProgress, step: &Step) -> bool {
        if !self.is_overtaken(present, step) {
            return false;
        }
        let units: BTreeSet<_> = step.records.iter().map(HoldingRef::unit).collect();
        let index = index_of(present);
        let mut others = self.cases.values().filter(|other| other.id != case.id);
        others.any(|other| {
            other.opening.supersedes != Some(case.id)
                && instructed(other).any(|(verb, unit, later)| {
                    verb != Verb::Restrict && later > index && units.contains(&unit)
                })
        })
    }

    /// Whether another case restricts a unit of the step by a plan that is older than this one: no generation would keep the step from it.
    fn is_held_since(&self, case: &Case, present: &PlanProgress, step: &Step) -> bool {
        let index = index_of(present);
        let restricts_since = |holder: CaseId, held| {
            let holder = self.cases.get(&holder);
            holder
                .into_iter()
                .flat_map(instructed)
                .any(|(verb, unit, earlier)| verb == Verb::Restrict && unit == held && earlier < index)
        };
        step.records.iter().any(|holding| {
            self.holders(case, step.verb, holding.unit())
                .any(|holder| restricts_since(holder, holding.unit()))
        })
    }
}
