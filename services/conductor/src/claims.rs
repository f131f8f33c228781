//! What cases hold of each other's records: restrictions that keep an erasure waiting, and later plans that came first.

use lethe_casework::{Case, PlanProgress, Statement};
use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{CaseEvent, DatasetRef, Held, Step};
use lethe_terms::{CaseId, CaseState, RecordToken, Right, Timestamp, Verb};

use crate::conductor::Conductor;

impl Conductor {
    /// Whether another case's restriction keeps a step from going on.
    pub fn is_claimed(&self, case: &Case, step: usize) -> bool {
        let Some(step) = case.plan().and_then(|present| present.plan.steps.get(step)) else {
            return false;
        };
        if step.verb == Verb::Restrict {
            return false;
        }
        // Two restrictions that both end do not wait for each other, nor does a lift for one that is given up for an erasure.
        let ends = |holder: &CaseId| {
            step.verb == Verb::Lift
                && (self.cases.get(holder).is_some_and(|case| case.lift.is_some())
                    || self.is_to_be_given_up(*holder))
        };
        step.records
            .iter()
            .filter_map(|holding| self.claims.get(&holding.record))
            .flatten()
            .any(|holder| *holder != case.id && Some(*holder) != case.opening.supersedes && !ends(holder))
    }

    /// Whether a restriction of the case is in force: claimed, and not given up for an erasure.
    pub fn is_restricted(&self, case: &Case) -> bool {
        !self.given_up.contains(&case.id) && case.flags().restricted
    }

    /// What earlier steps of a case left restricted, by place. Where another case restricts one of the records too, or has lifted it since,
    /// the system need not hold anything for this one any more.
    pub(crate) fn held(&self, case: &Case) -> BTreeMap<DatasetRef, Held> {
        let mut held = case.held();
        for (place, step) in case.restricting() {
            if self.is_shared(case, step)
                && let Some(now) = held.get_mut(&place)
            {
                *now = Held::Perhaps.min(*now);
            }
        }
        held
    }

    fn is_shared(&self, case: &Case, step: &Step) -> bool {
        let records: BTreeSet<_> = step.records.iter().map(|holding| holding.record).collect();
        let first_plan = case.plans.iter().find_map(|made| made.logged.as_ref());
        let since = first_plan.map_or(0, |(index, _)| *index);
        let mut others = self.cases.values().filter(|other| other.id != case.id);
        others.any(|other| {
            other.opening.right == Right::Restriction
                && (!other.claims().is_disjoint(&records)
                    || instructed(other).any(|(record, index)| index > since && records.contains(&record)))
        })
    }

    /// Remembers that the instruction of a step went out.
    pub(crate) fn reach(&mut self, present: u64, step: &Step) {
        for holding in &step.records {
            self.note_reached(holding.record, present);
        }
    }

    fn note_reached(&mut self, record: RecordToken, index: u64) {
        let newest = self.reached.entry(record).or_default();
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
                .get(&holding.record)
                .is_some_and(|newest| newest > index)
        })
    }

    /// Reads all claims, and what was reached by which plan, from the cases.
    pub(crate) fn rebuild_claims(&mut self) {
        self.claims.clear();
        let sent: Vec<_> = self.cases.values().flat_map(instructed).collect();
        for (record, index) in sent {
            self.note_reached(record, index);
        }
        let given_up = self
            .cases
            .values()
            .filter(|case| is_done(case))
            .filter_map(|case| case.opening.supersedes);
        self.given_up = given_up.collect();
        let cases: Vec<_> = self.cases.keys().copied().collect();
        for case in cases {
            self.refresh_claims(case);
        }
    }

    /// Brings the claims of one case up to date, and lets what they had blocked go on with the next tick.
    pub(crate) fn refresh_claims(&mut self, id: CaseId) {
        let Some(case) = self.cases.get(&id) else { return };
        if is_done(case)
            && let Some(earlier) = case.opening.supersedes
            && self.given_up.insert(earlier)
        {
            self.refresh_claims(earlier);
            return;
        }
        if case.opening.right != Right::Restriction {
            return;
        }
        let holdings = case
            .plans
            .iter()
            .flat_map(|present| present.plan.steps.iter())
            .flat_map(|step| &step.records);
        for holding in holdings {
            if let Some(holders) = self.claims.get_mut(&holding.record) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.claims.remove(&holding.record);
                }
            }
        }
        if !self.given_up.contains(&id) {
            for record in case.claims() {
                self.claims.entry(record).or_default().insert(id);
            }
        }
    }

    /// Ends the restriction that a completed erasure supersedes, where it has not ended by itself: what it restricts is gone, so it could never be seen
    /// restricted or lifted any more. One that waits for its statement only gets it.
    pub(crate) fn end_superseded(&mut self, id: CaseId, now: Timestamp) {
        let erasure = self.cases.get(&id).filter(|case| is_done(case));
        let Some(earlier) = erasure.and_then(|case| case.opening.supersedes) else {
            return;
        };
        let goes_on = |case: &Case| {
            !case.state().is_ended() && case.closed.is_none() && case.statement == Statement::None
        };
        if self.cases.get(&earlier).is_some_and(goes_on) && !self.stands_still(earlier) {
            self.record(earlier, CaseEvent::GivenUp { erasure: id }, now);
        }
    }

    /// Whether an erasure that is under way supersedes the restriction.
    fn is_to_be_given_up(&self, restriction: CaseId) -> bool {
        let mut cases = self.cases.values();
        cases.any(|case| case.opening.supersedes == Some(restriction) && !case.state().is_ended())
    }
}

/// Whether the case ended with a certificate.
fn is_done(case: &Case) -> bool {
    matches!(
        case.state(),
        CaseState::Completed | CaseState::CompletedWithExceptions
    )
}

/// Records of every instruction of a case that went out, with the index of its plan.
fn instructed(case: &Case) -> impl Iterator<Item = (RecordToken, u64)> {
    case.plans.iter().flat_map(|made| {
        let index = made.logged.as_ref().map_or(0, |(index, _)| *index);
        let steps = made.plan.steps.iter().zip(&made.steps);
        steps
            .filter(|(_, progress)| progress.sent.is_some())
            .flat_map(move |(step, _)| step.records.iter().map(move |holding| (holding.record, index)))
    })
}
