//! The suite passes the reference connector and names the number that each wrong one breaks.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lethe_kit::Connector;
use lethe_kit::memory::{Fault, MemoryConnector};
use lethe_kit::suite::{Fixture, LiveFixture, MUSTS, MustResult, Planted, PlantedRecord, run};
use lethe_terms::{DatasetName, Identifier, IdentifierKind};

struct Memory {
    connector: Arc<MemoryConnector>,
    keys: BTreeMap<String, Vec<String>>,
}

impl Memory {
    fn new(connector: MemoryConnector) -> Self {
        Self {
            connector: Arc::new(connector),
            keys: BTreeMap::new(),
        }
    }
}

#[async_trait]
impl Fixture for Memory {
    fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector) as Arc<dyn Connector>
    }

    async fn plant(&mut self, name: &str) -> Option<Planted> {
        let dataset: DatasetName = "contacts".parse().unwrap();
        let identifiers = vec![
            Identifier::new(IdentifierKind::Email, format!("{name}@lethe-check.example")),
            Identifier::new(IdentifierKind::UserId, format!("user-{name}")),
        ];
        let keys = vec![format!("contact-of-{name}"), format!("second-contact-of-{name}")];
        for key in &keys {
            self.connector.put(&dataset, key, identifiers.clone());
        }
        self.keys.insert(name.to_owned(), keys);
        let record = PlantedRecord {
            dataset,
            identifiers: identifiers.clone(),
        };
        Some(Planted {
            name: name.to_owned(),
            identifiers,
            records: vec![record.clone(), record],
        })
    }

    async fn holds(&mut self, value: &str) -> bool {
        self.connector.holds(value)
    }

    async fn in_ordinary_use(&mut self, value: &str) -> Option<bool> {
        Some(self.connector.in_ordinary_use(value))
    }

    async fn dump_others(&mut self, person: &Planted) -> String {
        self.connector.dump_except(&self.keys[&person.name])
    }

    async fn dump_of(&mut self, person: &Planted) -> String {
        self.connector.dump_of(&self.keys[&person.name])
    }

    async fn restart(&mut self) {
        self.connector = Arc::new(self.connector.restarted());
    }

    async fn crash_after_next_effect(&mut self) -> bool {
        self.connector.crash_after_next_effect();
        true
    }

    fn crowd(&self) -> usize {
        400
    }
}

async fn broken(connector: MemoryConnector) -> Vec<String> {
    let verdicts = run(&mut Memory::new(connector), 7).await;
    assert_eq!(verdicts.len(), MUSTS.len());
    verdicts
        .into_iter()
        .filter(|v| v.result == MustResult::Broken)
        .map(|v| format!("{}: {}", v.number, v.detail))
        .collect()
}

fn memory() -> MemoryConnector {
    MemoryConnector::new("memory").unwrap()
}

#[tokio::test]
async fn the_reference_connector_keeps_every_number() {
    let verdicts = run(&mut Memory::new(memory()), 7).await;
    assert_eq!(verdicts[0].detail, "1 dataset");
    for verdict in verdicts {
        assert_eq!(
            verdict.result,
            MustResult::Kept,
            "{} {}: {}",
            verdict.number,
            verdict.must,
            verdict.detail
        );
    }
}

#[tokio::test]
async fn each_wrong_connector_breaks_the_number_that_forbids_it() {
    let wrong = [
        (Fault::ManifestLies, "K1"),
        (Fault::ActsTwice, "K2"),
        (Fault::ForgetsIds, "K3"),
        (Fault::RemembersTooLate, "K4"),
        (Fault::AcceptsStale, "K5"),
        (Fault::UnknownHandleIsError, "K6"),
        (Fault::SaysErasedButDoesNot, "K7"),
        (Fault::ObservesFromMemory, "K8"),
        (Fault::RestrictsInNameOnly, "K9"),
        (Fault::LosesPlace, "K10"),
        (Fault::CountsLiftShort, "K10"),
        (Fault::LiftsNewer, "K11"),
        (Fault::TouchesBystander, "K12"),
        (Fault::FindsByFirstOnly, "K13"),
        (Fault::DropsIdentifier, "K14"),
        (Fault::EmptyMeansAll, "K15"),
        (Fault::UnboundedPages, "K16"),
        (Fault::ConsumesFeed, "K17"),
        (Fault::NeverFollows, "K18"),
        (Fault::KeepsSilentAboutGone, "K19"),
        (Fault::KeyInCursor, "K20"),
        (Fault::LeaksIdentifier, "K21"),
        (Fault::ExportsHalf, "K22"),
        (Fault::CheckTouches, "K23"),
    ];
    for (fault, number) in wrong {
        let broken = broken(memory().with(fault)).await;
        assert!(
            broken.iter().any(|b| b.starts_with(&format!("{number}:"))),
            "{fault:?} breaks {broken:?}, not {number}"
        );
    }
}

#[tokio::test]
async fn a_connector_whose_observation_lies_as_well_is_found_out_by_the_fixtures_own_look() {
    let broken = broken(memory().observe_lies_too()).await;
    assert!(
        broken.iter().any(|b| b.starts_with("K7: an identifier")),
        "{broken:?}"
    );
}

#[tokio::test]
async fn where_nobody_can_plant_the_rest_is_tried_and_nothing_is_claimed() {
    let verdicts = run(&mut LiveFixture(Arc::new(memory())), 7).await;
    let with = |result| {
        verdicts
            .iter()
            .filter(|v| v.result == result)
            .map(|v| v.number.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(with(MustResult::Kept), ["K1", "K6", "K15", "K21", "K23"]);
    assert_eq!(with(MustResult::Broken), Vec::<&str>::new());
}

#[test]
fn the_page_and_the_suite_name_the_same_numbers() {
    let page = include_str!("../CONTRACT.md");
    for (number, must) in (1..).zip(MUSTS) {
        assert!(
            page.contains(&format!("**K{number}** ")),
            "CONTRACT.md lacks K{number}"
        );
        assert!(
            page.to_lowercase().contains(must),
            "CONTRACT.md says K{number} in other words than: {must}"
        );
    }
}
