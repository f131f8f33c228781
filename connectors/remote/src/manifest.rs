//! What the program declares of itself, looked at before it is believed.

use std::collections::BTreeSet;

use lethe_kit::{DatasetManifest, Manifest};
use lethe_terms::{DatasetName, SystemName, Verb};

use crate::config::Config;
use crate::error::Error;
use crate::message::{DatasetMessage, ManifestMessage};
use crate::words;

/// Datasets of one system: a plan has a step for each.
const DATASETS_MAX: usize = 64;
/// Shards of one system: each is read in its turn.
const SHARDS_MAX: usize = 256;
/// Calls at the same time.
const CONCURRENCY_MAX: u32 = 64;
/// Fields that a dataset keeps.
const KEEPS_MAX: usize = 256;
/// Longest time between two calls: with more than an hour a plan of some hundred steps would not end within the month to answer.
const PACE_MS_MAX: u64 = 3_600_000;
/// Longest time to settle or to act: more than the month of GDPR Art. 12(3) cannot be planned with.
const WAIT_MS_MAX: u64 = 31 * 86_400_000;
/// Books and their backups are kept for ten years at most (AO § 147), and the rest of a year.
const BACKUP_DAYS_MAX: u32 = 4_018;
/// How much later than the call itself the host gives up, in milliseconds: the call knows better what was lost.
const HOST_SLACK_MS: u64 = 1_000;
/// What a program can be asked to do with a dataset.
const VERBS: [Verb; 6] = [
    Verb::Locate,
    Verb::Export,
    Verb::Erase,
    Verb::Restrict,
    Verb::Lift,
    Verb::Observe,
];

/// The manifest as the host takes it.
///
/// # Errors
/// What cannot be taken, in words.
pub(crate) fn checked(
    system: &SystemName,
    config: &Config,
    message: &ManifestMessage,
) -> Result<Manifest, Error> {
    let refuse = |what: String| Err(Error::Manifest(what));
    same_datasets(config, message)?;
    let shards: BTreeSet<_> = message.shards.iter().collect();
    if message.shards.len() > SHARDS_MAX || shards.len() < message.shards.len() {
        return refuse(format!("shards: expected at most {SHARDS_MAX}, each once"));
    }
    if !(1..=CONCURRENCY_MAX).contains(&message.concurrency_max) {
        return refuse(format!("concurrency_max: expected 1 to {CONCURRENCY_MAX}"));
    }
    if message.pace_ms > PACE_MS_MAX {
        return refuse(format!("pace_ms: expected at most {PACE_MS_MAX}"));
    }
    if message.backup_days.is_some_and(|days| days > BACKUP_DAYS_MAX) {
        return refuse(format!("backup_days: expected at most {BACKUP_DAYS_MAX}"));
    }
    let mut datasets = Vec::new();
    for dataset in &message.datasets {
        datasets.push(checked_dataset(dataset, message)?);
    }
    if is_circular(&message.datasets) {
        return refuse("after: datasets wait for each other in a circle".to_owned());
    }
    Ok(Manifest {
        system: system.clone(),
        kind: "remote",
        version: env!("CARGO_PKG_VERSION"),
        datasets,
        shards: message.shards.clone(),
        locates_by: message.locates_by.clone(),
        detects_repeats: message.detects_repeats,
        independence: message.independence,
        concurrency_max: usize::try_from(message.concurrency_max).unwrap_or(1),
        pace_ms: message.pace_ms,
        timeout_ms: config.timeout_ms + HOST_SLACK_MS,
        backup_days: message.backup_days,
    })
}

/// A dataset that vanishes from a manifest would vanish from every plan: the operator names them all.
fn same_datasets(config: &Config, message: &ManifestMessage) -> Result<(), Error> {
    let expected: BTreeSet<&DatasetName> = config.datasets.iter().collect();
    let declared: BTreeSet<&DatasetName> = message.datasets.iter().map(|d| &d.name).collect();
    if declared.len() < message.datasets.len() || declared.len() > DATASETS_MAX {
        let what = format!("datasets: expected at most {DATASETS_MAX}, each once");
        return Err(Error::Manifest(what));
    }
    if let Some(missing) = expected.difference(&declared).next() {
        let what = format!("it declares no dataset {missing}, which the configuration names in datasets");
        return Err(Error::Manifest(what));
    }
    if let Some(unknown) = declared.difference(&expected).next() {
        let what = format!("it declares the dataset {unknown}: name it in datasets of the configuration");
        return Err(Error::Manifest(what));
    }
    Ok(())
}

fn checked_dataset(dataset: &DatasetMessage, message: &ManifestMessage) -> Result<DatasetManifest, Error> {
    let refuse = |what: String| Err(Error::Manifest(format!("dataset {}: {what}", dataset.name)));
    if let Some(verb) = dataset.verbs.iter().find(|verb| !VERBS.contains(verb)) {
        return refuse(format!(
            "no program is asked to {verb}: expected erase, restrict, lift, locate, observe, export"
        ));
    }
    if !words::is_line(&dataset.unit) {
        return refuse("unit: expected 1 to 200 bytes on one line".to_owned());
    }
    if dataset.keeps.len() > KEEPS_MAX || !dataset.keeps.iter().all(|field| words::is_line(field)) {
        return refuse(format!("keeps: expected at most {KEEPS_MAX} names of fields"));
    }
    if dataset.settle_ms > WAIT_MS_MAX || dataset.lead_ms > WAIT_MS_MAX {
        return refuse(format!("settle_ms and lead_ms: expected at most {WAIT_MS_MAX}"));
    }
    if let Some(other) = dataset
        .after
        .iter()
        .find(|name| !message.datasets.iter().any(|d| d.name == **name))
    {
        return refuse(format!("after: the manifest declares no dataset {other}"));
    }
    Ok(DatasetManifest {
        name: dataset.name.clone(),
        unit: dataset.unit.clone(),
        verbs: dataset.verbs.clone(),
        categories: dataset.categories.clone(),
        purpose: dataset.purpose,
        basis: dataset.basis,
        keeps: dataset.keeps.clone(),
        after: dataset.after.clone(),
        proves_identity: dataset.proves_identity,
        settle_ms: dataset.settle_ms,
        lead_ms: dataset.lead_ms,
    })
}

/// Whether some datasets can never begin since each waits for another one.
fn is_circular(datasets: &[DatasetMessage]) -> bool {
    let mut waiting: Vec<&DatasetMessage> = datasets.iter().collect();
    loop {
        let names: BTreeSet<&DatasetName> = waiting.iter().map(|d| &d.name).collect();
        let before = waiting.len();
        waiting.retain(|dataset| dataset.after.iter().any(|name| names.contains(name)));
        if waiting.len() == before {
            return before > 0;
        }
    }
}
