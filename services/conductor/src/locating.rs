//! Searching the systems for a person before a plan is made.

use lethe_casework::Case;
use lethe_journal::{CaseEvent, Sealed};
use lethe_terms::{CaseId, SystemName};

use crate::conductor::{Conductor, Moment};
use crate::errands;

impl Conductor {
    /// Whether a system that can be searched was not asked in this round: none was, or a crash came between.
    pub(crate) fn is_unasked(&self, case: &Case) -> bool {
        let mut searchable = self.inventory.systems.iter().filter(|system| system.locates);
        searchable.any(|system| !case.locating.asked.contains_key(&system.name))
    }

    /// Asks every system that can be searched, in the round that is due.
    pub(crate) fn locate(&mut self, id: CaseId, identifiers: &Sealed, moment: Moment) {
        let Some(case) = self.cases.get(&id).filter(|case| case.plan_due) else {
            return;
        };
        // A round that a crash cut off is asked again under the same number, and so under the same ids.
        let whole = case.locating.is_answered() && !self.is_unasked(case);
        let round = if case.locating.asked.is_empty() || whole {
            case.locating.round + 1
        } else {
            case.locating.round
        };
        let systems: Vec<SystemName> = self
            .inventory
            .systems
            .iter()
            .filter(|system| system.locates)
            .map(|system| system.name.clone())
            .collect();
        for system in systems {
            let Some(case) = self.cases.get(&id) else { return };
            let instruction = errands::locate(case, &system, round, identifiers);
            let answered = case.locating.round == round
                && case
                    .locating
                    .asked
                    .get(&system)
                    .is_some_and(|(asked, answer)| *asked == instruction.id && answer.is_some());
            if answered {
                continue;
            }
            let event = CaseEvent::LocateAsked {
                instruction: instruction.id,
                system,
                round,
            };
            self.record(id, event, moment.now);
            self.send(instruction);
        }
    }
}
