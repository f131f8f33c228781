//! Published systems: nobody reads them, programs publish what their records hold.
//!
//! ```text
//!   POST /v1/events ──> desk: checks, seals ──┐
//!                                             ├──> [intake] ──> taking: opens, checks ──> intake ──> records, cursors, quarantine
//!   any Kafka client, sealed ─────────────────┘
//! ```
//!
//! Who says what is decided by keys: over HTTP by the API key, on the topic by the key that a session proves, for anybody can write
//! there. Both are declared in the system's settings. The desk seals as the server itself.

mod checking;
mod connector;
mod desk;
mod keyring;
mod taking;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lethe_exchange::PublicKey;
use lethe_kit::DatasetManifest;
use lethe_terms::{DataCategory, DatasetName, LegalBasis, Purpose, ShardName, SystemName};
use serde::Deserialize;

use crate::Error;
use crate::settings::{Settings, SystemSettings, refused};

pub(crate) use checking::Checker;
pub(crate) use connector::open;
pub(crate) use desk::{Desk, not_taken};
pub(crate) use keyring::IntakeKeyring;
pub(crate) use taking::{Needs as TakingNeeds, Taking};

/// The kind of a published system in the settings.
pub(crate) const KIND: &str = "published";

/// Shards of one system: each has a cursor that is kept for good.
const SHARDS_MAX: usize = 64;

/// What the settings say of a published system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishedSettings {
    /// Its kinds of records.
    datasets: Vec<PublishedDataset>,
    /// Its shards: events of one are in order.
    #[serde(default = "one_shard")]
    shards: BTreeSet<ShardName>,
    /// Names of API keys that may publish to it; such a key may do nothing else.
    #[serde(default)]
    api_keys: BTreeSet<String>,
    /// Public keys that sealed events may come from.
    #[serde(default)]
    senders: Vec<PublicKey>,
    /// How long its backups keep what was erased, in days.
    backup_days: Option<u32>,
}

/// One kind of record.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishedDataset {
    name: DatasetName,
    /// What a record is, in words.
    unit: String,
    categories: Vec<DataCategory>,
    purpose: Purpose,
    basis: LegalBasis,
    /// Whether two strong identifiers in one record are one person's.
    #[serde(default = "yes")]
    proves_identity: bool,
}

fn one_shard() -> BTreeSet<ShardName> {
    "main".parse().into_iter().collect()
}

const fn yes() -> bool {
    true
}

impl PublishedSettings {
    /// Reads and checks the settings of a system.
    pub(crate) fn of(settings: serde_json::Value) -> Result<Self, String> {
        let read: Self = crate::connect::own(settings)?;
        let names: BTreeSet<_> = read.datasets.iter().map(|dataset| &dataset.name).collect();
        if names.is_empty() || names.len() < read.datasets.len() {
            return Err("datasets: expected at least one, each name once".to_owned());
        }
        if !(1..=SHARDS_MAX).contains(&read.shards.len()) {
            return Err(format!("shards: expected 1 to {SHARDS_MAX}"));
        }
        if read.datasets.iter().any(|dataset| dataset.unit.trim().is_empty()) {
            return Err("unit: expected what a record is, in words".to_owned());
        }
        Ok(read)
    }

    fn manifests(&self) -> Vec<DatasetManifest> {
        let manifest = |dataset: &PublishedDataset| DatasetManifest {
            name: dataset.name.clone(),
            unit: dataset.unit.clone(),
            // Who only publishes takes no instructions.
            verbs: Vec::new(),
            categories: dataset.categories.clone(),
            purpose: dataset.purpose,
            basis: dataset.basis,
            keeps: Vec::new(),
            after: Vec::new(),
            proves_identity: dataset.proves_identity,
            settle_ms: 0,
            lead_ms: 0,
        };
        self.datasets.iter().map(manifest).collect()
    }
}

/// The published systems by name.
pub(crate) type PublishedSystems = BTreeMap<SystemName, PublishedSettings>;

/// Whether programs publish what this system holds.
pub(crate) fn is_published(system: &SystemSettings) -> bool {
    system.kind == KIND
}

/// The published systems of a configuration.
///
/// # Errors
/// Where the settings of one are wrong.
pub(crate) fn systems(file: &Path, settings: &Settings) -> Result<PublishedSystems, Error> {
    let published = settings.systems.iter().filter(|system| is_published(system));
    published
        .map(|system| {
            let own = serde_json::Value::Object(system.connector.clone().into_iter().collect());
            let read = PublishedSettings::of(own).map_err(|wrong| {
                refused(file, &format!("system {}, in [[systems]]: {wrong}", system.name))
            })?;
            Ok((system.name.clone(), read))
        })
        .collect()
}

/// Names of API keys that may only publish.
pub(crate) fn publishers(systems: &PublishedSystems) -> BTreeSet<String> {
    systems
        .values()
        .flat_map(|system| system.api_keys.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of ops/publishing.md, in a configuration.
    fn loaded(change: impl Fn(String) -> String) -> Result<PublishedSystems, Error> {
        let page = include_str!("../../../../ops/publishing.md");
        let example = page
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let text = format!(
            "data_dir = \"d\"\n[controller]\nid = \"a\"\nname = \"A GmbH\"\n{}",
            change(example.to_owned())
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lethe.toml");
        std::fs::write(&file, text).unwrap();
        systems(&file, &Settings::load(&file).unwrap())
    }

    #[test]
    fn the_example_of_the_page_is_a_published_system() {
        let systems = loaded(|example| example).unwrap();
        assert_eq!(publishers(&systems), ["crm".to_owned()].into());
        let crm = systems.values().next().unwrap();
        assert_eq!(
            (crm.shards.len(), crm.senders.len(), crm.manifests().len()),
            (2, 1, 1)
        );
    }

    #[test]
    fn settings_without_sense_are_refused_with_what_was_expected() {
        for (given, instead, expected) in [
            ("api_keys", "api_kyes", "did you mean api_keys?"),
            ("YIC75RAF6prM", "YIC75RAF6pr", "X25519"),
            ("\"contacts\", \"tickets\"", "", "shards: expected 1 to 64"),
            ("\"a contact\"", "\" \"", "unit: expected"),
            ("basis = \"6-1-f\"", "basis = \"6-1-x\"", "6-1-f"),
        ] {
            let error = loaded(|example| example.replace(given, instead))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("crm") && error.contains(expected),
                "{given}: {error}"
            );
        }
    }
}
