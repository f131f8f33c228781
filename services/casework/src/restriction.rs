//! What a case restricts, and what it left restricted where (GDPR Art. 18).

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, Held, HoldingRef, Step};
use lethe_terms::{Outcome, UnitToken, Verb};

use crate::{Case, PlanProgress, StepProgress};

/// Marks beside the state of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// A restriction of this case is in force.
    pub restricted: bool,
}

impl Case {
    /// Marks beside the state.
    pub fn flags(&self) -> Flags {
        Flags {
            restricted: !self.claims().is_empty(),
        }
    }

    /// Units on which this case claims a restriction: from the moment in which the instruction to restrict goes out until the lift is
    /// verified (GDPR Art. 18). What a system refused to restrict is not.
    pub fn claims(&self) -> BTreeSet<UnitToken> {
        let mut claims = BTreeSet::new();
        for (step, progress) in self.all_steps() {
            let units = step.records.iter().map(HoldingRef::unit);
            match step.verb {
                Verb::Restrict if progress.sent.is_some() && !progress.is_refused() => claims.extend(units),
                Verb::Lift if progress.is_verified(step) => {
                    units.for_each(|unit| {
                        claims.remove(&unit);
                    });
                }
                _ => {}
            }
        }
        claims
    }

    /// The newest step of each place by which the case restricted something, or may have.
    pub fn restricting(&self) -> BTreeMap<DatasetRef, &Step> {
        self.all_steps()
            .filter(|(step, progress)| {
                step.verb == Verb::Restrict && progress.sent.is_some() && !progress.is_refused()
            })
            .map(|(step, _)| (step.place(), step))
            .collect()
    }

    /// What the steps of all plans left restricted, by place.
    pub fn held(&self) -> BTreeMap<DatasetRef, Held> {
        let mut held = BTreeMap::new();
        for (step, progress) in self.all_steps() {
            let now = held.entry(step.place()).or_default();
            let said = progress
                .report
                .as_ref()
                .map(|report| (report.outcome, report.records));
            match (step.verb, said) {
                (Verb::Restrict, Some((Outcome::Restricted, records))) => *now = Held::Something { records },
                (Verb::Restrict, None) if progress.is_unknown() => *now = Held::Perhaps.max(*now),
                // What a lift did not find stays lost, however often it is lifted again.
                (Verb::Lift, Some((Outcome::Lifted, lifted))) => *now = now.after_lifting(lifted),
                (Verb::Lift, None) if progress.is_unknown() => *now = Held::Perhaps.min(*now),
                _ => {}
            }
        }
        held
    }

    fn all_steps(&self) -> impl Iterator<Item = (&Step, &StepProgress)> {
        self.plans.iter().flat_map(PlanProgress::each)
    }
}
