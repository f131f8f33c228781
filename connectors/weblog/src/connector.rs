//! The connector: the contract's calls, each on a thread of its own, one at a time per log.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lethe_kit::{
    Ask, Connector, DatasetManifest, FeedPage, Finding, Located, Manifest, Observed, Page, Performed,
    Selector,
};
use lethe_terms::{DataCategory, DatasetName, Independence, ShardName, SystemName, Verb};
use serde_json::Value;

use crate::check;
use crate::config::{Config, EraseMode, LogConfig};
use crate::error::Error;
use crate::identify::Rules;
use crate::log::Log;
use crate::search::lines_of;
use crate::state::StateDir;

/// Calls at the same time: each log has a lock of its own.
const CONCURRENCY_MAX: usize = 4;
/// A pass over a large log takes minutes.
const TIMEOUT_MS: u64 = 600_000;
/// Without a reopen command an erasure waits for rotation, daily by custom; with one it takes a pass over the files.
const LEAD_ROTATION_MS: u64 = 2 * 86_400_000;
/// Longest pass over the files that is planned for.
const LEAD_PASS_MS: u64 = 3_600_000;

#[cfg(test)]
pub(crate) type Counts = std::collections::BTreeMap<String, std::collections::BTreeMap<[u8; 16], u64>>;

/// Web-server logs as a system of personal data.
pub struct WeblogConnector {
    manifest: Manifest,
    logs: Vec<Arc<Mutex<Log>>>,
    config: Arc<Config>,
}

impl std::fmt::Debug for WeblogConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeblogConnector")
            .field("system", &self.manifest.system)
            .finish_non_exhaustive()
    }
}

/// Opens the logs of a system. Takes the state folder for this process, and away what a crash left; touches no log file.
///
/// # Errors
/// Where the configuration cannot work, or the state folder cannot be used, is damaged or in use.
pub fn open(system: SystemName, config: Config) -> Result<WeblogConnector, Error> {
    config.check()?;
    let rules = Arc::new(Rules::new(&config)?);
    let dir = Arc::new(StateDir::open(&config.state_dir)?);
    let logs = config
        .logs
        .iter()
        .map(|log| {
            Log::open(
                log.clone(),
                rules.clone(),
                dir.clone(),
                config.reopen.clone(),
                config.erase,
                u64::from(config.remember_days),
            )
        })
        .map(|log| log.map(|log| Arc::new(Mutex::new(log))))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(WeblogConnector {
        manifest: manifest(system, &config, &rules)?,
        logs,
        config: Arc::new(config),
    })
}

fn manifest(system: SystemName, config: &Config, rules: &Rules) -> Result<Manifest, Error> {
    let wrong = |_| Error::Config {
        reason: "name of a log: expected one that can name a shard".to_owned(),
    };
    let shards = config
        .logs
        .iter()
        .map(|log| log.name.as_str().parse::<ShardName>().map_err(wrong));
    Ok(Manifest {
        system,
        kind: "weblog",
        version: env!("CARGO_PKG_VERSION"),
        datasets: config.logs.iter().map(|log| dataset(log, config)).collect(),
        shards: shards.collect::<Result<_, _>>()?,
        locates_by: rules.locates_by(),
        detects_repeats: true,
        independence: Independence::SeparateConnection,
        concurrency_max: CONCURRENCY_MAX,
        pace_ms: 0,
        timeout_ms: TIMEOUT_MS,
        backup_days: config.backup_days,
    })
}

fn dataset(log: &LogConfig, config: &Config) -> DatasetManifest {
    let keeps = match config.erase {
        EraseMode::Line => Vec::new(),
        EraseMode::Fields => ["time", "method", "path", "query", "protocol", "status", "size"]
            .map(str::to_owned)
            .to_vec(),
    };
    DatasetManifest {
        name: log.name.clone(),
        unit: "the requests of one calendar day with one set of identifiers".to_owned(),
        verbs: vec![
            Verb::Locate,
            Verb::Export,
            Verb::Erase,
            Verb::Restrict,
            Verb::Lift,
            Verb::Observe,
        ],
        categories: vec![
            DataCategory::IpAddress,
            DataCategory::AccountIdentifier,
            DataCategory::EmailAddress,
            DataCategory::BrowsingBehavior,
            DataCategory::DeviceBased,
        ],
        purpose: config.purpose,
        basis: config.basis,
        keeps,
        after: Vec::new(),
        proves_identity: false,
        settle_ms: 0,
        lead_ms: if config.reopen.is_empty() {
            LEAD_ROTATION_MS
        } else {
            LEAD_PASS_MS
        },
    }
}

/// A log whose holder panicked is still what its state on disk says: every stage is journaled before it is taken.
fn hold(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn apart<T: Send + 'static, E: Into<lethe_kit::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, lethe_kit::Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Error::Ended.into()),
    }
}

impl WeblogConnector {
    fn log(&self, name: &str) -> Result<Arc<Mutex<Log>>, Error> {
        let place = self.config.logs.iter().position(|log| log.name.as_str() == name);
        place
            .and_then(|n| self.logs.get(n))
            .cloned()
            .ok_or_else(|| Error::UnknownLog {
                name: name.to_owned(),
                known: self
                    .config
                    .logs
                    .iter()
                    .map(|log| log.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    fn log_of(&self, dataset: &DatasetName) -> Result<Arc<Mutex<Log>>, Error> {
        self.log(dataset.as_str())
    }

    #[cfg(test)]
    pub(crate) fn stop_after(&self, stages: Option<usize>) {
        for log in &self.logs {
            hold(log).stops.left = stages.map(|n| Arc::new(std::sync::atomic::AtomicUsize::new(n)));
        }
    }

    #[cfg(test)]
    pub(crate) fn lose_next_answer(&self) {
        for log in &self.logs {
            hold(log)
                .stops
                .lose_answer
                .store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[cfg(test)]
    pub(crate) fn side_text(&self) -> Vec<u8> {
        self.logs
            .iter()
            .flat_map(|log| hold(log).side().unwrap().lines)
            .flat_map(|line| line.line)
            .collect()
    }

    /// Counts of the first log: kept ones where `kept`, else made again from the files.
    #[cfg(test)]
    pub(crate) fn counts(&self, cursor: &str, kept: bool) -> Option<Counts> {
        let mut log = hold(self.logs.first()?);
        if !kept {
            log.feed.forget();
            log.page(Some(cursor), 1).ok()?;
        }
        log.feed.counted_at.as_ref()?;
        Some(log.feed.counts.clone())
    }

    #[cfg(test)]
    pub(crate) fn stages_left(&self) -> Option<usize> {
        let stops = hold(self.logs.first()?).stops.left.clone()?;
        Some(stops.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[async_trait]
impl Connector for WeblogConnector {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn check(&self) -> Result<Vec<Finding>, lethe_kit::Error> {
        let config = self.config.clone();
        apart(move || Ok::<_, Error>(check::findings(&config))).await
    }

    async fn feed(
        &self,
        shard: &ShardName,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<FeedPage, lethe_kit::Error> {
        let (log, cursor) = (self.log(shard.as_str())?, cursor.map(str::to_owned));
        apart(move || hold(&log).page(cursor.as_deref(), limit)).await
    }

    async fn locate(&self, selector: &Selector, _page: Page) -> Result<Located, lethe_kit::Error> {
        let (logs, selector) = (self.logs.clone(), selector.clone());
        apart(move || {
            let mut found = Located::default();
            for log in &logs {
                hold(log).search(&selector, &mut found)?;
            }
            Ok::<_, Error>(found)
        })
        .await
    }

    async fn perform(&self, ask: &Ask) -> Result<Performed, lethe_kit::Error> {
        let (log, ask) = (self.log_of(&ask.dataset)?, ask.clone());
        apart(move || hold(&log).perform(&ask)).await
    }

    async fn poll(&self, ask: &Ask, _ticket: &str) -> Result<Performed, lethe_kit::Error> {
        self.perform(ask).await
    }

    async fn observe(
        &self,
        dataset: &DatasetName,
        selector: &Selector,
    ) -> Result<Observed, lethe_kit::Error> {
        let (log, config, selector) = (self.log_of(dataset)?, self.config.clone(), selector.clone());
        apart(move || hold(&log).observe(&selector, &config.query_identifiers, &config.user_kind)).await
    }

    async fn export(&self, selector: &Selector, page: Page) -> Result<(Vec<Value>, Page), lethe_kit::Error> {
        let (first, skip) = lines_of(&page)?;
        let (logs, selector) = (self.logs.clone(), selector.clone());
        apart(move || {
            let (mut values, mut skip) = (Vec::new(), skip);
            for (n, log) in logs.iter().enumerate().skip(first) {
                let (found, more) = hold(log).hand_out(&selector, skip)?;
                let next = skip + found.len();
                values.extend(found);
                if more {
                    return Ok((values, Page(Some(format!("{n}:{next}")))));
                }
                skip = 0;
            }
            Ok::<_, Error>((values, Page(None)))
        })
        .await
    }
}

/// Whether a path is there, for findings.
pub(crate) fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file())
}
