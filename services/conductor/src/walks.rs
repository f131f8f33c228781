//! Walks: when one is taken, and what follows from it.

use std::collections::BTreeSet;

use lethe_casework::{Case, PlanProgress, Statement};
use lethe_journal::{CaseEvent, FailureCode, Remark, Sealed};
use lethe_planner::{Basis, Holding, lint};
use lethe_terms::{CaseId, DatasetName, RecordToken, SystemName, Verb};

use crate::conductor::{Conductor, Effect, Moment, WalkOutcome, WalkPurpose};

/// Wait before a walk that met a lagging partition is taken again, in milliseconds.
const WALK_AGAIN_MS: i64 = 200;

impl Conductor {
    /// Asks for a walk, unless one for the same purpose is under way.
    pub(crate) fn walk(&mut self, id: CaseId, purpose: WalkPurpose) {
        let Some(case) = self.cases.get(&id) else { return };
        if self.walking.insert(id, purpose) != Some(purpose) {
            let known = std::iter::once(&case.opening.given)
                .chain(case.acted().map(|present| &present.person.identifiers))
                .cloned()
                .collect();
            let start = case.start();
            // Only a plan is made of selectors.
            let earlier = case.acted().filter(|_| purpose == WalkPurpose::Plan);
            let kept = earlier
                .into_iter()
                .flat_map(PlanProgress::unseen)
                .filter(|step| !step.only_observes())
                .map(|step| (step.place(), step.selectors.clone()))
                .collect();
            self.queue(Effect::Walk {
                case: id,
                start,
                known,
                kept,
                purpose,
            });
        }
    }

    /// Whether a walk that has yet to begin decides on an erasure: what is on the log now is found by it.
    pub fn looks_again(&self, case: &Case) -> bool {
        let goes_on = !self.stands_still(case.id)
            && !case.is_taken_back()
            && case.closed.is_none()
            && case.statement == Statement::None;
        goes_on && (case.plan_due || case.plan().is_some_and(|present| !present.is_verified()))
    }

    /// What a walk came to. One that is not waited for any more is dropped.
    pub(crate) fn walked(&mut self, id: CaseId, purpose: WalkPurpose, outcome: WalkOutcome, moment: Moment) {
        if self.walking.get(&id) != Some(&purpose) {
            return;
        }
        self.walking.remove(&id);
        if self.stands_still(id) {
            return;
        }
        let (basis, person) = match outcome {
            WalkOutcome::Reached { basis, person } => (basis, person),
            WalkOutcome::Unknown => {
                self.wake_at(id, moment.now.plus_millis(WALK_AGAIN_MS));
                return;
            }
            WalkOutcome::CutOff(code) => {
                self.cut_off(id, code, moment);
                return;
            }
        };
        match purpose {
            WalkPurpose::Locate => self.locate(id, &person.identifiers, moment),
            WalkPurpose::Plan => self.freeze(id, &basis, person, moment),
            WalkPurpose::Dispatch => self.look_before_acting(id, &basis, moment),
            WalkPurpose::Confirm => self.confirm(id, &basis, person.identifiers, moment),
        }
    }

    /// A person has to see that what lies beyond the bound is unknown; the case waits until they ask for a new plan.
    fn cut_off(&mut self, id: CaseId, code: FailureCode, moment: Moment) {
        let waits = |case: &&Case| !case.is_taken_back() && case.closed.is_none() && case.cut_off.is_none();
        if self.cases.get(&id).filter(waits).is_some() {
            self.record(id, CaseEvent::WalkCutOff { code }, moment.now);
        }
    }

    /// Whether the walk is taken again before the first instruction: between plan and approval days may have passed, and what leads to a new
    /// record may be what the plan erases first. A lift has no walk, and what is under way goes on; a plan that only adds waited for nobody, and what
    /// has appeared since its own walk is found before the statement.
    pub(crate) fn looks_before_acting(&self, id: CaseId) -> bool {
        let Some(case) = self.cases.get(&id) else {
            return false;
        };
        let Some(present) = case.plan().filter(|_| case.lift.is_none()) else {
            return false;
        };
        let acts = present.steps.iter().any(|step| step.sent.is_some());
        !acts && present.additions == 0 && self.looked.get(&id) != Some(&present.plan.number)
    }

    fn look_before_acting(&mut self, id: CaseId, basis: &Basis, moment: Moment) {
        let waits = |case: &&Case| !case.plan_due && !case.is_taken_back();
        let Some(case) = self.cases.get(&id).filter(waits) else {
            return;
        };
        let Some(present) = case.plan() else { return };
        let (number, covered, acted) = (present.plan.number, covered(present), case.acted().is_some());
        if self.is_new(id, &basis.holdings, &covered, moment) || self.is_open_to_say(id, basis, moment) {
            return;
        }
        let reached: BTreeSet<_> = basis.holdings.iter().map(|holding| holding.record).collect();
        let lost = covered.difference(&reached).count();
        if lost > 0 && !acted {
            // What the walk does not reach any more is gone, or somebody else's by now.
            let records = u64::try_from(lost).unwrap_or(u64::MAX);
            self.record(id, CaseEvent::NewHoldings { records }, moment.now);
        } else {
            self.looked.insert(id, number);
        }
        self.advance(id, moment);
    }

    /// Whether a walk reached what is not covered: then a new plan is due.
    fn is_new(
        &mut self,
        id: CaseId,
        holdings: &[Holding],
        covered: &BTreeSet<RecordToken>,
        moment: Moment,
    ) -> bool {
        let new = holdings
            .iter()
            .filter(|holding| !covered.contains(&holding.record));
        let records = u64::try_from(new.count()).unwrap_or(u64::MAX);
        if records > 0 {
            self.record(id, CaseEvent::NewHoldings { records }, moment.now);
            self.advance(id, moment);
        }
        records > 0
    }

    /// Whether what is known now leaves something open that the plan does not say, such as input of a system that cannot be searched: then a new
    /// plan is due that says it. How many inputs there are says nothing new, so that each system asks for one at most.
    fn is_open_to_say(&mut self, id: CaseId, basis: &Basis, moment: Moment) -> bool {
        let Some(case) = self.cases.get(&id) else {
            return false;
        };
        let Some(present) = case.plan() else { return false };
        let said = |remark: &Remark| {
            let mut known = present.plan.remarks.iter();
            known.any(|known| known.code == remark.code && place_of(known) == place_of(remark))
        };
        let remarks = lint(&present.plan, &basis.holdings, &self.inventory, case.due);
        let unsaid = remarks
            .iter()
            .any(|remark| remark.code.leaves_open() && !said(remark));
        if unsaid {
            self.record(id, CaseEvent::NewHoldings { records: 0 }, moment.now);
            self.advance(id, moment);
        }
        unsaid
    }

    /// The last look before the statement: what the plan does not cover is planned, too, and what it leaves open is said.
    fn confirm(&mut self, id: CaseId, basis: &Basis, identifiers: Sealed, moment: Moment) {
        let Some(case) = self.cases.get(&id) else { return };
        let Some(present) = case.plan().filter(|present| present.is_verified()) else {
            return;
        };
        let verb = case.verb();
        let covered = match verb {
            // What was observed absent and is reached again has come back.
            Verb::Erase => BTreeSet::new(),
            _ => covered(present),
        };
        if self.is_new(id, &basis.holdings, &covered, moment) || self.is_open_to_say(id, basis, moment) {
            return;
        }
        if verb == Verb::Erase {
            let days = i64::from(self.config.suppression_days);
            let until = moment.now.plus_millis(days.saturating_mul(86_400_000));
            self.queue(Effect::MarkErased {
                case: id,
                identifiers,
                until,
            });
        }
        self.ask_statement(id, moment);
    }
}

fn covered(present: &PlanProgress) -> BTreeSet<RecordToken> {
    let steps = present.plan.steps.iter();
    steps
        .flat_map(|step| step.records.iter().map(|holding| holding.record))
        .collect()
}

fn place_of(remark: &Remark) -> (Option<&SystemName>, Option<&DatasetName>) {
    (remark.system.as_ref(), remark.dataset.as_ref())
}
