//! What the numbers have in common: planting, selecting, asking and waiting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lethe_terms::{DatasetName, InstructionId, Observed as Seen, Outcome, Verb};

use super::{Fixture, Miss, Planted};
use crate::{
    Ask, Connector, Error, FeedPage, Observation, Observed, Page, Performed, Receipt, Selected, Selector,
};

/// Pages of one answer at most: more means that it has no end.
const PAGES_MAX: usize = 100_000;
/// How often an accepted instruction is asked about before the suite gives up.
const POLLS_MAX: usize = 200;
/// Longest wait between two questions, in milliseconds: a system that calls back may name hours, and asking sooner does no harm.
const ASK_AFTER_MS_MAX: u64 = 1_000;
/// Generations of the suite begin here and rise with every instruction that is meant to be newer.
const FIRST_PLAN: u64 = 1_000;

pub(super) fn broken<T>(detail: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Broken(detail.into()))
}

/// A call that failed is a broken number; only the code is shown, since the reason may be what is wrong.
pub(super) fn failed(what: &str) -> impl Fn(Error) -> Miss {
    let what = what.to_owned();
    move |error| Miss::Broken(format!("{what} failed with {}", error.code()))
}

/// A number with its noun.
pub(super) fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

pub(super) struct Run<'f> {
    pub(super) fixture: &'f mut dyn Fixture,
    salt: u64,
    number: usize,
    asked: u32,
}

impl<'f> Run<'f> {
    pub(super) fn new(fixture: &'f mut dyn Fixture, salt: u64) -> Self {
        Self {
            fixture,
            salt,
            number: 0,
            asked: 0,
        }
    }

    pub(super) fn begin(&mut self, number: usize) {
        self.number = number;
    }

    pub(super) fn connector(&self) -> Arc<dyn Connector> {
        self.fixture.connector()
    }

    /// A text that stands nowhere in the system: for handles of nobody.
    pub(super) fn nobody(&self) -> String {
        format!("[\"lethe-check-nobody-{:016x}\"]", self.salt)
    }

    /// Plants a person of this number's own.
    pub(super) async fn person(&mut self, name: &str) -> Result<Planted, Miss> {
        let name = format!("k{}-{name}-{:08x}", self.number, self.salt as u32);
        self.fixture
            .plant(&name)
            .await
            .ok_or_else(|| Miss::NotTried("nobody can plant a synthetic person here".to_owned()))
    }

    pub(super) async fn again(&mut self, person: &Planted) -> Result<Planted, Miss> {
        self.fixture
            .plant(&person.name)
            .await
            .ok_or_else(|| Miss::NotTried("the person could not be planted again".to_owned()))
    }

    /// Every record that locating finds.
    pub(super) async fn locate(&self, selector: &Selector) -> Result<Vec<Observation>, Miss> {
        let mut found = Vec::new();
        let mut page = Page::default();
        for _ in 0..PAGES_MAX {
            let located = self
                .connector()
                .locate(selector, page)
                .await
                .map_err(failed("locate"))?;
            found.extend(located.observations);
            match located.next {
                Some(next) => page = Page(Some(next)),
                None => return Ok(found),
            }
        }
        broken("locate has no last page")
    }

    pub(super) async fn located(&self, person: &Planted) -> Result<Vec<Observation>, Miss> {
        self.locate(&by_identifiers(person)).await
    }

    /// What a plan would select of the person in a dataset.
    pub(super) async fn selector(&self, person: &Planted, dataset: &DatasetName) -> Result<Selector, Miss> {
        let mut selector = by_identifiers(person);
        let found = self.located(person).await?;
        let mine = found.into_iter().filter(|o| o.dataset == *dataset);
        selector.records = mine.map(|o| Selected { handle: o.handle }).collect();
        if selector.records.is_empty() {
            return broken(format!("locate finds nothing of the person in {dataset}"));
        }
        Ok(selector)
    }

    /// Datasets of the person that can do the verb, in the order that their dependencies demand.
    pub(super) fn datasets(&self, person: &Planted, verb: Verb) -> Vec<DatasetName> {
        let connector = self.connector();
        let mut left: Vec<_> = connector
            .manifest()
            .datasets
            .iter()
            .filter(|d| d.verbs.contains(&verb))
            .collect();
        let mut ordered: Vec<DatasetName> = Vec::new();
        while !left.is_empty() {
            let waiting: BTreeSet<_> = left.iter().map(|d| d.name.clone()).collect();
            let ready = left
                .iter()
                .position(|d| !d.after.iter().any(|a| waiting.contains(a)))
                .unwrap_or(0);
            ordered.push(left.remove(ready).name.clone());
        }
        ordered.retain(|name| person.records.iter().any(|r| r.dataset == *name));
        ordered
    }

    /// The dataset to try a verb on; not tried where the connector has none.
    pub(super) fn dataset(&self, person: &Planted, verb: Verb) -> Result<DatasetName, Miss> {
        let none = || Miss::NotTried(format!("no dataset of the person can {verb}"));
        self.datasets(person, verb).into_iter().next().ok_or_else(none)
    }

    /// An instruction that is newer than all before it.
    pub(super) fn ask(&mut self, dataset: &DatasetName, verb: Verb, selector: &Selector) -> Ask {
        self.asked += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.salt.to_be_bytes());
        id[12..].copy_from_slice(&self.asked.to_be_bytes());
        Ask {
            id: InstructionId::from_bytes(id),
            generation: (FIRST_PLAN + u64::from(self.asked), 0),
            dataset: dataset.clone(),
            verb,
            selector: selector.clone(),
        }
    }

    /// Performs and waits until it is done; a refusal is broken.
    pub(super) async fn done(&self, ask: &Ask) -> Result<Receipt, Miss> {
        let mut performed = self
            .connector()
            .perform(ask)
            .await
            .map_err(failed(ask.verb.code()))?;
        for _ in 0..POLLS_MAX {
            match performed {
                Performed::Done(receipt) => return Ok(receipt),
                Performed::Refused { code, .. } => {
                    return broken(format!("{} is refused with {code}", ask.verb));
                }
                Performed::Accepted {
                    ticket, ask_after_ms, ..
                } => {
                    let wait_ms = ask_after_ms.min(ASK_AFTER_MS_MAX);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    performed = self
                        .connector()
                        .poll(ask, &ticket)
                        .await
                        .map_err(failed("poll"))?;
                }
            }
        }
        broken(format!("{} is never done", ask.verb))
    }

    /// Performs and expects the outcome.
    pub(super) async fn done_as(&self, ask: &Ask, outcomes: &[Outcome]) -> Result<Receipt, Miss> {
        let receipt = self.done(ask).await?;
        if outcomes.contains(&receipt.outcome) {
            return Ok(receipt);
        }
        broken(format!("{} is reported as {}", ask.verb, receipt.outcome))
    }

    /// Erases everything of the person, datasets in their order.
    pub(super) async fn erase(&mut self, person: &Planted) -> Result<(), Miss> {
        for dataset in self.datasets(person, Verb::Erase) {
            let selector = self.selector(person, &dataset).await?;
            let ask = self.ask(&dataset, Verb::Erase, &selector);
            self.done_as(&ask, &[Outcome::Erased, Outcome::Anonymised])
                .await?;
        }
        Ok(())
    }

    /// Observes after the time that the dataset needs.
    pub(super) async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Miss> {
        let connector = self.connector();
        let settle_ms = connector
            .manifest()
            .datasets
            .iter()
            .find(|d| d.name == *dataset)
            .map_or(0, |d| d.settle_ms);
        tokio::time::sleep(Duration::from_millis(settle_ms)).await;
        connector
            .observe(dataset, selector)
            .await
            .map_err(failed("observe"))
    }

    pub(super) async fn expect(
        &self,
        dataset: &DatasetName,
        selector: &Selector,
        seen: Seen,
        when: &str,
    ) -> Result<Observed, Miss> {
        let observed = self.observe(dataset, selector).await?;
        if observed.observed == seen {
            return Ok(observed);
        }
        broken(format!(
            "{when}, {dataset} is observed {}: expected {seen}",
            observed.observed
        ))
    }

    /// Reads every shard from these cursors to its end.
    pub(super) async fn feed(&self, cursors: &[Option<String>], limit: usize) -> Result<Vec<FeedPage>, Miss> {
        let connector = self.connector();
        let mut pages = Vec::new();
        for (shard, cursor) in connector.manifest().shards.iter().zip(cursors) {
            let mut cursor = cursor.clone();
            let mut ended = false;
            for _ in 0..PAGES_MAX {
                let page = connector
                    .feed(shard, cursor.as_deref(), limit)
                    .await
                    .map_err(failed("feed"))?;
                cursor = Some(page.cursor.clone());
                ended = !page.more;
                pages.push(page);
                if ended {
                    break;
                }
            }
            if !ended {
                return broken("the feed has no end");
            }
        }
        Ok(pages)
    }

    /// Where each shard ends now.
    pub(super) async fn ends(&self, limit: usize) -> Result<Vec<Option<String>>, Miss> {
        let connector = self.connector();
        let mut ends = Vec::new();
        for shard in &connector.manifest().shards {
            let mut cursor: Option<String> = None;
            for _ in 0..PAGES_MAX {
                let page = connector
                    .feed(shard, cursor.as_deref(), limit)
                    .await
                    .map_err(failed("feed"))?;
                cursor = Some(page.cursor);
                if !page.more {
                    break;
                }
            }
            ends.push(cursor);
        }
        Ok(ends)
    }

    pub(super) fn beginnings(&self) -> Vec<Option<String>> {
        vec![None; self.connector().manifest().shards.len()]
    }
}

pub(super) fn by_identifiers(person: &Planted) -> Selector {
    Selector {
        records: Vec::new(),
        identifiers: person.identifiers.clone(),
    }
}
