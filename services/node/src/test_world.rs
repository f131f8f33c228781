//! A log, a vault and what stands on them, all in memory, for tests.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use lethe_conductor::Config;
use lethe_intake::{Inputs, Intake, Poison, Shell};
use lethe_journal::Place;
use lethe_kit::memory::MemoryConnector;
use lethe_kit::{
    Ask, Connector, Error as CallError, FeedPage, Finding, Located, Manifest, Observed, Page, Performed,
    Selector,
};
use lethe_ledger::EvidenceStore;
use lethe_log::MemoryLog;
use lethe_terms::{DatasetName, ShardName};
use lethe_vault::{MemoryVault, Normaliser, SeededEntropy};
use tokio::sync::watch;

use crate::Error;
use crate::case_keys::CaseKeys;
use crate::evidence::Evidence;
use crate::follow_ups::{Asked, FollowUps};
use crate::lineage::{Lineage, Owners};
use crate::nothing_known::NothingKnown;
use crate::poison::PutsAway;
use crate::shell;

/// What a conductor is told of a company.
pub(crate) fn config() -> Config {
    Config {
        controller_id: "controller".into(),
        controller_name: "Beispiel GmbH".into(),
        version: "0.1.0".into(),
        land: lethe_casework::Land::Nationwide,
        suppression_days: 100,
        copies: Vec::new(),
    }
}

/// Where nothing is expected that can be no entry.
pub(crate) struct NothingToPutAway;

#[async_trait]
impl PutsAway for NothingToPutAway {
    async fn put_away(
        &self,
        at: &Place,
        poison: &[Poison],
        _: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        assert!(poison.is_empty(), "{at}: {poison:?}");
        Ok(true)
    }
}

/// Keys of cases on a log that is folded into a folder, until the sender is gone.
pub(crate) fn keys_on(log: &Arc<MemoryLog>, folder: &Path) -> (CaseKeys, watch::Sender<bool>) {
    let (stop, stopped) = watch::channel(false);
    let owners = Arc::new(Owners::open_all(folder).unwrap());
    for owner in owners.all().into_values() {
        tokio::spawn(owner.run(Arc::clone(log) as _, Arc::new(NothingToPutAway), stopped.clone()));
    }
    let lineage = Arc::new(Lineage::new(Arc::clone(log) as _, owners, None));
    let vault = Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(1))).unwrap());
    (CaseKeys::new(vault, Arc::clone(log) as _, lineage), stop)
}

pub(crate) struct World {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) vault: Arc<MemoryVault>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) stopped: watch::Receiver<bool>,
}

impl World {
    pub(crate) fn new() -> Self {
        let (stop, stopped) = watch::channel(false);
        Self {
            stop,
            stopped,
            log: Arc::new(MemoryLog::new()),
            vault: Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(7))).unwrap()),
        }
    }

    pub(crate) fn intake(&self, inputs: Arc<dyn Inputs>) -> Arc<Intake> {
        Arc::new(Intake::new(
            Arc::clone(&self.log) as _,
            Arc::clone(&self.vault) as _,
            Normaliser::new("DE").unwrap(),
            Arc::new(NothingKnown),
            inputs,
            Shell {
                now: shell::now,
                id: shell::entry_id,
            },
        ))
    }

    /// What opens a case for whatever comes back, with its files in a folder.
    pub(crate) fn follow_ups(&self, intake: &Arc<Intake>, folder: &Path) -> Arc<FollowUps> {
        let (log, vault) = (Arc::clone(&self.log), Arc::clone(&self.vault));
        let owners = Arc::new(Owners::none(folder));
        let lineage = Arc::new(Lineage::new(Arc::clone(&log) as _, owners, None));
        let evidence = Evidence {
            store: EvidenceStore::open(&folder.join("evidence")).unwrap(),
            controller: "example".into(),
            days: 1,
            policy: Vec::new(),
        };
        Arc::new(FollowUps {
            keys: CaseKeys::new(vault, Arc::clone(&log) as _, lineage),
            log,
            evidence: Arc::new(evidence),
            cases: None,
            intake: Arc::clone(intake),
            asked: Asked::default(),
            stopped: self.stopped.clone(),
        })
    }
}

/// A system that is asked and never answers.
pub(crate) struct Silent {
    manifest: Manifest,
    calls: watch::Sender<u32>,
}

impl Silent {
    /// One of which all calls may be under way at the same time.
    pub(crate) fn new() -> Self {
        let manifest = MemoryConnector::new("crm").unwrap().manifest().clone();
        Self {
            manifest: Manifest {
                concurrency_max: usize::MAX,
                ..manifest
            },
            calls: watch::Sender::new(0),
        }
    }

    pub(crate) fn calls(&self) -> u32 {
        *self.calls.borrow()
    }

    /// Returns once it was asked so often.
    pub(crate) async fn asked(&self, times: u32) {
        let mut calls = self.calls.subscribe();
        calls.wait_for(|calls| *calls >= times).await.unwrap();
    }

    async fn call<T>(&self) -> Result<T, CallError> {
        self.calls.send_modify(|calls| *calls += 1);
        std::future::pending().await
    }
}

#[async_trait]
impl Connector for Silent {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    async fn check(&self) -> Result<Vec<Finding>, CallError> {
        self.call().await
    }
    async fn feed(&self, _: &ShardName, _: Option<&str>, _: usize) -> Result<FeedPage, CallError> {
        self.call().await
    }
    async fn locate(&self, _: &Selector, _: Page) -> Result<Located, CallError> {
        self.call().await
    }
    async fn perform(&self, _: &Ask) -> Result<Performed, CallError> {
        self.call().await
    }
    async fn poll(&self, _: &Ask, _: &str) -> Result<Performed, CallError> {
        self.call().await
    }
    async fn observe(&self, _: &DatasetName, _: &Selector) -> Result<Observed, CallError> {
        self.call().await
    }
    async fn export(&self, _: &Selector, _: Page) -> Result<(Vec<serde_json::Value>, Page), CallError> {
        self.call().await
    }
}
