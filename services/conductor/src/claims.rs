//! What cases hold of each other's records: restrictions that keep an erasure waiting, and later plans that came first. All of it goes by the units
//! that systems act on: who restricts one part of a line restricts the line.

use lethe_casework::{Case, PlanProgress, Statement, StepProgress};
use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{CaseEvent, DatasetRef, Held, HoldingRef, Step};
use lethe_terms::{CaseId, Observed, Right, Timestamp, UnitToken, Verb};

use crate::conductor::Conductor;

impl Conductor {
    /// The case whose restriction keeps a step from going on, the first where there are several.
    pub fn held_by(&self, case: &Case, step: usize) -> Option<CaseId> {
        let present = case.plan()?;
        let step = present.plan.steps.get(step)?;
        if step.verb == Verb::Restrict {
            return None;
        }
        let mut units = step.records.iter().map(HoldingRef::unit);
        units.find_map(|unit| self.holders(case, step.verb, unit).next())
    }

    /// The other cases whose restriction of a unit keeps this one from going on there.
    pub(crate) fn holders(
        &self,
        case: &Case,
        verb: Verb,
        unit: UnitToken,
    ) -> impl Iterator<Item = CaseId> + use<'_> {
        let (own, superseded) = (case.id, case.opening.supersedes);
        let holders = self.claims.get(&unit).into_iter().flatten().copied();
        holders.filter(move |holder| {
            *holder != own && Some(*holder) != superseded && !self.makes_way(*holder, superseded, verb, unit)
        })
    }

    /// Whether a restriction of a unit that is about to end holds a step no longer. Two restrictions that both end do not wait for each other. Nor
    /// does an erasure for one that another erasure takes the place of, or whose lift waits for the very restriction that this erasure gives up:
    /// released for the moment in between, the unit would stand open under a restriction in force.
    fn makes_way(&self, holder: CaseId, superseded: Option<CaseId>, verb: Verb, unit: UnitToken) -> bool {
        let Some(restriction) = self.cases.get(&holder) else {
            return false;
        };
        let ends = restriction.lift.is_some();
        match verb {
            Verb::Lift => ends,
            Verb::Erase => {
                let own = superseded.is_some_and(|own| self.claims_of(unit).contains(&own));
                self.is_to_be_given_up(holder, unit) || (ends && own && !is_lift_sent(restriction, unit))
            }
            _ => false,
        }
    }

    fn claims_of(&self, unit: UnitToken) -> &BTreeSet<CaseId> {
        const NOBODY: &BTreeSet<CaseId> = &BTreeSet::new();
        self.claims.get(&unit).unwrap_or(NOBODY)
    }

    /// Whether other erasures went ahead on what this approved one covers because it gives its restriction up: what they erased cannot be
    /// restricted again.
    pub(crate) fn was_relied_on(&self, erasure: &Case) -> bool {
        let earlier = erasure.opening.supersedes.and_then(|id| self.cases.get(&id));
        let approved = erasure.plan().filter(|present| present.approved.is_some());
        let (Some(earlier), Some(present)) = (earlier, approved) else {
            return false;
        };
        let restricted = restricted(earlier);
        let holdings = present.plan.steps.iter().flat_map(|step| &step.records);
        let covered: BTreeSet<_> = holdings.map(HoldingRef::unit).collect();
        // The same person's other erasures rely on nobody.
        let mut others = self
            .cases
            .values()
            .filter(|other| other.opening.supersedes != erasure.opening.supersedes);
        others.any(|other| {
            sent(other)
                .filter(|(_, step, progress)| step.verb == Verb::Erase && !progress.is_refused())
                .flat_map(units)
                .any(|(_, unit, index)| {
                    covered.contains(&unit) && restricted.get(&unit).is_some_and(|since| *since < index)
                })
        })
    }

    /// Whether a step would release what an erasure has erased since it was restricted.
    pub(crate) fn is_lift_of_erased(&self, case: &Case, step: &Step) -> bool {
        step.verb == Verb::Lift && {
            let given_up = self.given_up(case);
            step.records
                .iter()
                .any(|holding| given_up.contains(&holding.unit()))
        }
    }

    /// Whether a restriction of the case is in force: something is claimed that was not given up for an erasure.
    pub fn is_restricted(&self, case: &Case) -> bool {
        !self.left(case).is_empty()
    }

    /// What a restriction claims and was not given up for an erasure.
    fn left(&self, case: &Case) -> BTreeSet<UnitToken> {
        let given_up = self.given_up(case);
        let mut left = case.claims();
        left.retain(|unit| !given_up.contains(unit));
        left
    }

    /// Units that erasures have erased since the case restricted them, whoever asked for those. What they did not cover stays as it is: the system
    /// still restricts it.
    pub(crate) fn given_up(&self, case: &Case) -> BTreeSet<UnitToken> {
        let is_erased = |unit: &UnitToken, since: u64| {
            let erased = self.erased.get(unit).into_iter().flatten();
            erased.map(|(_, index)| *index).any(|index| since < index)
        };
        let restricted = restricted(case).into_iter();
        let mut given_up: BTreeSet<_> = restricted
            .filter(|(unit, since)| is_erased(unit, *since))
            .map(|(unit, _)| unit)
            .collect();
        if self.erasures_for(case.id).any(is_done) {
            // What was not there to be restricted, no erasure has to cover.
            given_up.extend(seen_absent(case, Verb::Restrict).into_keys());
        }
        given_up
    }

    /// What earlier steps of a case left restricted, by place. Where another case restricts one of the records too, or has lifted it since,
    /// the system need not hold anything for this one any more; nor where some were given up for an erasure, and where all were it does not.
    pub(crate) fn held(&self, case: &Case) -> BTreeMap<DatasetRef, Held> {
        let mut held = case.held();
        let given_up = self.given_up(case);
        let is_given_up = |holding: &HoldingRef| given_up.contains(&holding.unit());
        for (place, step) in case.restricting() {
            let Some(now) = held.get_mut(&place) else { continue };
            if step.records.iter().all(is_given_up) {
                *now = Held::Nothing;
            } else if step.records.iter().any(is_given_up) || self.is_shared(case, step) {
                *now = Held::Perhaps.min(*now);
            }
        }
        held
    }

    fn is_shared(&self, case: &Case, step: &Step) -> bool {
        let units: BTreeSet<_> = step.records.iter().map(HoldingRef::unit).collect();
        let first_plan = case.plans.iter().find_map(|made| made.logged.as_ref());
        let since = first_plan.map_or(0, |(index, _)| *index);
        let mut others = self.cases.values().filter(|other| other.id != case.id);
        others.any(|other| {
            other.opening.right == Right::Restriction
                && (!other.claims().is_disjoint(&units)
                    || instructed(other).any(|(_, unit, index)| index > since && units.contains(&unit)))
        })
    }

    /// Remembers that the instruction of a step went out.
    pub(crate) fn reach(&mut self, present: u64, step: &Step) {
        for holding in &step.records {
            self.note_reached(holding.unit(), present);
        }
    }

    pub(crate) fn note_reached(&mut self, unit: UnitToken, index: u64) {
        let newest = self.reached.entry(unit).or_default();
        *newest = index.max(*newest);
    }

    /// Whether a later plan reached a record of the step first: a system refuses what is older than what it has seen of a record, so that a
    /// late erasure or lift cannot undo a newer restriction.
    pub(crate) fn is_overtaken(&self, present: &PlanProgress, step: &Step) -> bool {
        let Some((index, _)) = &present.logged else {
            return false;
        };
        step.records.iter().any(|holding| {
            self.reached
                .get(&holding.unit())
                .is_some_and(|newest| newest > index)
        })
    }

    /// Reads all claims, and what was reached by which plan, from the cases.
    pub(crate) fn rebuild_claims(&mut self) {
        self.claims.clear();
        let sent: Vec<_> = self.cases.values().flat_map(instructed).collect();
        for (_, unit, index) in sent {
            self.note_reached(unit, index);
        }
        self.erased.clear();
        let cases: Vec<_> = self.cases.keys().copied().collect();
        for case in cases {
            self.refresh_claims(case);
        }
    }

    /// Brings the claims of one case up to date, or those that its erasure ends, and lets what they had blocked go on with the next tick.
    pub(crate) fn refresh_claims(&mut self, id: CaseId) {
        let Some(case) = self.cases.get(&id) else { return };
        if case.opening.right == Right::Restriction {
            self.refresh_claims_of_restriction(id);
            return;
        }
        let mut affected: BTreeSet<_> = case.opening.supersedes.into_iter().collect();
        let absent = seen_absent(case, Verb::Erase);
        let units: BTreeSet<_> = instructed(case).map(|(_, unit, _)| unit).collect();
        for unit in units {
            affected.extend(self.claims_of(unit));
            if let Some(index) = absent.get(&unit) {
                self.erased.entry(unit).or_default().insert(id, *index);
            } else if let Some(erasures) = self.erased.get_mut(&unit) {
                erasures.remove(&id);
            }
        }
        for restriction in affected {
            self.refresh_claims_of_restriction(restriction);
        }
    }

    fn refresh_claims_of_restriction(&mut self, id: CaseId) {
        let Some(case) = self.cases.get(&id) else { return };
        let left = self.left(case);
        let holdings = case
            .plans
            .iter()
            .flat_map(|present| present.plan.steps.iter())
            .flat_map(|step| &step.records);
        for holding in holdings {
            if let Some(holders) = self.claims.get_mut(&holding.unit()) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.claims.remove(&holding.unit());
                }
            }
        }
        for unit in left {
            self.claims.entry(unit).or_default().insert(id);
        }
    }

    /// Ends the restriction that a completed erasure supersedes, where it has not ended by itself and all that it restricts is gone: it could
    /// never be seen restricted or lifted any more. One that waits for its statement only gets it. Where the erasure left something, the
    /// restriction goes on for that.
    pub(crate) fn end_superseded(&mut self, id: CaseId, now: Timestamp) {
        let erasure = self.cases.get(&id).filter(|case| is_done(case));
        let Some(earlier) = erasure.and_then(|case| case.opening.supersedes) else {
            return;
        };
        let goes_on = |case: &&Case| {
            !case.state().is_ended() && case.closed.is_none() && case.statement == Statement::None
        };
        let restriction = self.cases.get(&earlier).filter(goes_on);
        let restriction = restriction.filter(|case| self.carries(case.id));
        if restriction.is_some_and(|case| !self.is_restricted(case)) && !self.stands_still(earlier) {
            self.record(earlier, CaseEvent::GivenUp { erasure: id }, now);
        }
    }

    /// Whether an erasure that was approved supersedes the restriction of the unit and covers it. One that nobody has approved may yet be withdrawn.
    fn is_to_be_given_up(&self, restriction: CaseId, unit: UnitToken) -> bool {
        let covers = |present: &PlanProgress| {
            if present.approved.is_none() {
                return false;
            }
            let mut holdings = present.plan.steps.iter().flat_map(|step| &step.records);
            holdings.any(|holding| holding.unit() == unit)
        };
        self.erasures_for(restriction)
            .filter(|case| !case.state().is_ended())
            .any(|case| case.plan().is_some_and(covers))
    }

    /// The erasures that were opened to supersede a restriction.
    pub fn erasures_for(&self, restriction: CaseId) -> impl Iterator<Item = &Case> {
        let erasures = self.superseding.get(&restriction).into_iter().flatten();
        erasures.filter_map(|erasure| self.cases.get(erasure))
    }
}

/// Whether the case ended with a certificate.
pub(crate) fn is_done(case: &Case) -> bool {
    case.state().is_completed()
}

/// Whether the present lift of a restriction went out for a unit.
fn is_lift_sent(restriction: &Case, unit: UnitToken) -> bool {
    let mut steps = restriction.plan().into_iter().flat_map(PlanProgress::each);
    steps.any(|(step, progress)| {
        step.verb == Verb::Lift
            && progress.sent.is_some()
            && step.records.iter().any(|holding| holding.unit() == unit)
    })
}

/// Units that a case was told to restrict, with the index of the latest plan that did.
fn restricted(case: &Case) -> BTreeMap<UnitToken, u64> {
    instructed(case)
        .filter(|(verb, ..)| *verb == Verb::Restrict)
        .map(|(_, unit, index)| (unit, index))
        .collect()
}

/// Units of every instruction of a case that went out, with its verb and the index of its plan; earlier plans come first.
pub(crate) fn instructed(case: &Case) -> impl Iterator<Item = (Verb, UnitToken, u64)> {
    sent(case).flat_map(units)
}

/// Every step of a case that went out, with the index of its plan.
fn sent(case: &Case) -> impl Iterator<Item = (u64, &Step, &StepProgress)> {
    let steps = case.plans.iter().flat_map(|made| {
        let index = index_of(made);
        made.each().map(move |(step, progress)| (index, step, progress))
    });
    steps.filter(|(.., progress)| progress.sent.is_some())
}

fn units<'a>(
    (index, step, _): (u64, &'a Step, &StepProgress),
) -> impl Iterator<Item = (Verb, UnitToken, u64)> + use<'a> {
    let records = step.records.iter();
    records.map(move |holding| (step.verb, holding.unit(), index))
}

/// Units that steps of this verb left absent and that were seen so, with the index of the plan; a later instruction for one decides of it.
fn seen_absent(case: &Case, verb: Verb) -> BTreeMap<UnitToken, u64> {
    let mut absent = BTreeMap::new();
    for (index, step, progress) in sent(case).filter(|(_, step, _)| step.verb == verb) {
        let sighting = progress.sighting.as_ref();
        let is_absent =
            progress.is_verified(step) && sighting.is_some_and(|seen| seen.observed == Observed::Absent);
        for holding in &step.records {
            if is_absent {
                absent.insert(holding.unit(), index);
            } else {
                absent.remove(&holding.unit());
            }
        }
    }
    absent
}

pub(crate) fn index_of(made: &PlanProgress) -> u64 {
    made.logged.as_ref().map_or(0, |(index, _)| *index)
}
