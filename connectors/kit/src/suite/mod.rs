//! The conformance suite: executes CONTRACT.md number by number, in tests and against a live system.
//!
//! It needs a [`Fixture`]: somebody who can put synthetic people into the system and look into it by a path of their own. Against a live system where
//! nobody can, the numbers that need it are reported as not tried, never as kept.

mod feed;
mod musts;
mod run;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use lethe_terms::{DatasetName, Identifier};

use crate::Connector;
use run::Run;

/// A synthetic person in the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planted {
    /// Name that the suite gave: the same name is the same person with the same values.
    pub name: String,
    /// Identifiers that name only this person, normalised: any of them finds every record.
    pub identifiers: Vec<Identifier>,
    /// The records, with what each of them holds.
    pub records: Vec<PlantedRecord>,
}

/// One record of a synthetic person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantedRecord {
    /// The dataset.
    pub dataset: DatasetName,
    /// Every identifier of the record, as the system holds it.
    pub identifiers: Vec<Identifier>,
}

/// The suite's hands and eyes in a system. Everything here goes past the connector.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The connector, as it runs now.
    fn connector(&self) -> Arc<dyn Connector>;

    /// Puts a synthetic person there, or puts them back exactly as they were. `None` where nobody can.
    async fn plant(&mut self, name: &str) -> Option<Planted>;

    /// Whether a value stands anywhere in the system.
    async fn holds(&mut self, value: &str) -> bool;

    /// Whether ordinary use of the system shows a value; `None` where that cannot be told.
    async fn in_ordinary_use(&mut self, value: &str) -> Option<bool>;

    /// Everything in the system but this person, as text.
    async fn dump_others(&mut self, person: &Planted) -> String;

    /// This person's data and where it stands, as text; without marks and times that the system sets by itself.
    async fn dump_of(&mut self, person: &Planted) -> String;

    /// Starts the connector anew on the same system.
    async fn restart(&mut self);

    /// Lets the next instruction take effect and loses its answer. `false` where that cannot be brought about.
    async fn crash_after_next_effect(&mut self) -> bool {
        false
    }

    /// How many people to plant to see that pages are bounded; 0 where that is too much for the system.
    fn crowd(&self) -> usize {
        0
    }
}

/// Whether a MUST is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MustResult {
    /// It is kept.
    Kept,
    /// It is broken.
    Broken,
    /// It does not apply, or nobody could try it here.
    NotTried,
}

/// What the suite found out about one MUST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its number in CONTRACT.md, such as `K7`.
    pub number: String,
    /// What it says.
    pub must: &'static str,
    /// Whether it is kept.
    pub result: MustResult,
    /// What was seen; never personal data.
    pub detail: String,
}

/// The MUSTs, in the order of CONTRACT.md.
pub const MUSTS: [&str; 23] = [
    "the manifest is truthful: a declared verb works, any other is refused and changes nothing",
    "the same instruction id again gets the same receipt and has no second effect",
    "this holds when the connector was started anew in between",
    "an instruction that took effect and whose answer was lost gets its receipt, and no second effect, when it comes again",
    "an instruction with a lower generation than was seen for one of its records is refused whole",
    "an unknown handle is not an error: the receipt says not found and the observation absent",
    "what was reported erased is gone from the system and observed absent",
    "an observation looks at the system as it is now, not at what the connector remembers",
    "what was reported restricted is still there, observed restricted, and out of ordinary use",
    "lifting puts the data back into use at the same place, and counts as many records as restricting did",
    "an older lift does not end a newer restriction",
    "other people's data stays as it is, byte for byte",
    "locating by any one of a person's own identifiers finds every record of theirs",
    "an observation names every identifier that the record holds",
    "a selector that selects nothing touches nobody and finds nobody",
    "the feed from its beginning shows every record, in bounded pages",
    "reading the same cursor twice gives the same or newer state, never less",
    "the feed shows what comes later",
    "a record that is gone is said to be gone",
    "a cursor holds no personal data and at most 1024 bytes",
    "no error, refusal or receipt carries personal data",
    "an export hands out every identifier of every record of the person",
    "a check touches no personal data",
];

/// Executes the contract. `salt` makes the instruction ids of this run its own: the caller draws it at random.
pub async fn run(fixture: &mut dyn Fixture, salt: u64) -> Vec<Verdict> {
    run_some(fixture, salt, &(1..=MUSTS.len()).collect()).await
}

/// Executes some numbers of the contract.
pub async fn run_some(fixture: &mut dyn Fixture, salt: u64, numbers: &BTreeSet<usize>) -> Vec<Verdict> {
    let mut run = Run::new(fixture, salt);
    let mut verdicts = Vec::new();
    for (number, must) in (1..).zip(MUSTS).filter(|(number, _)| numbers.contains(number)) {
        run.begin(number);
        let (result, detail) = match musts::execute(&mut run, number).await {
            Ok(detail) => (MustResult::Kept, detail),
            Err(Miss::Broken(detail)) => (MustResult::Broken, detail),
            Err(Miss::NotTried(detail)) => (MustResult::NotTried, detail),
        };
        verdicts.push(Verdict {
            number: format!("K{number}"),
            must,
            result,
            detail,
        });
    }
    verdicts
}

/// Why a number is not kept.
pub(crate) enum Miss {
    Broken(String),
    NotTried(String),
}

/// A live system into which nobody can plant: only what needs no planting is tried.
pub struct LiveFixture(pub Arc<dyn Connector>);

#[async_trait]
impl Fixture for LiveFixture {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.0)
    }
    async fn plant(&mut self, _name: &str) -> Option<Planted> {
        None
    }
    async fn holds(&mut self, _value: &str) -> bool {
        false
    }
    async fn in_ordinary_use(&mut self, _value: &str) -> Option<bool> {
        None
    }
    async fn dump_others(&mut self, _person: &Planted) -> String {
        String::new()
    }
    async fn dump_of(&mut self, _person: &Planted) -> String {
        String::new()
    }
    async fn restart(&mut self) {}
}
