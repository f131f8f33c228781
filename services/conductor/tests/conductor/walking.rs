//! What a walk reaches in the company in memory.

use std::collections::BTreeMap;

use lethe_casework::WalkStart;
use lethe_conductor::WalkOutcome;
use lethe_journal::{DatasetRef, FailureCode, Person, Sealed};
use lethe_planner::{Basis, Holding};
use lethe_terms::{IdentifierKind, Observed, SystemName};

use crate::parts::{place, record, token};
use crate::world::World;

/// An identifier behind which several people stand: while anything is suspicious, it is this.
const MAILBOX: u8 = 200;

/// Tells a person's second record from the first.
const BEHIND: u8 = 100;

impl World {
    /// Selectors are the person, and a second byte where they hold the record behind.
    pub(crate) fn walk(&self, start: &WalkStart, kept: &BTreeMap<DatasetRef, Sealed>) -> WalkOutcome {
        if let Some(code) = self.bound {
            return WalkOutcome::CutOff(FailureCode(code.into()));
        }
        let (from, mut not_followed) = (start.tokens[0], start.not_followed.clone());
        if !self.suspicious.is_empty() && not_followed.is_empty() {
            not_followed.push(token(MAILBOX));
        }
        let person = from.token.as_bytes()[0];
        let leads_on = |(of, _): &(u8, SystemName)| {
            *of == person
                && self
                    .held
                    .iter()
                    .find(|((of, _), _)| *of == person)
                    .is_some_and(|(_, state)| *state == Observed::Present)
        };
        let mut basis = Basis {
            suspicious: self.suspicious.clone(),
            ..Basis::default()
        };
        for ((of, system), state) in &self.held {
            let overlooked = self.overlooked.contains(&(*of, system.clone()));
            let goes_along = *of == person || (self.neighbour == Some(*of) && not_followed.is_empty());
            if !goes_along || *state == Observed::Absent || overlooked {
                continue;
            }
            let place = place(system);
            basis.holdings.push(Holding {
                record: record(*of, system),
                system: system.clone(),
                dataset: place.dataset.clone(),
                via: vec![IdentifierKind::Email],
            });
            basis.selectors.insert(place, Sealed::from_bytes(vec![person]));
        }
        for ((_, system), state) in self.behind.iter().filter(|(key, _)| leads_on(key)) {
            if *state != Observed::Absent {
                let place = place(system);
                basis.holdings.push(Holding {
                    record: record(person + BEHIND, system),
                    system: system.clone(),
                    dataset: place.dataset.clone(),
                    via: vec![IdentifierKind::Email, IdentifierKind::UserId],
                });
                let both = Sealed::from_bytes(vec![person, BEHIND]);
                basis.selectors.insert(place, both);
            }
        }
        for (place, sealed) in kept {
            let selectors = basis.selectors.entry(place.clone()).or_insert(sealed.clone());
            if sealed.as_bytes().len() > selectors.as_bytes().len() {
                *selectors = sealed.clone();
            }
        }
        let person = Person {
            tokens: [vec![from], self.further.clone()].concat(),
            identifiers: Sealed::from_bytes(vec![person]),
            not_followed,
        };
        WalkOutcome::Reached {
            basis: Box::new(basis),
            person,
        }
    }
}
