//! A log, a vault and what stands on them, all in memory, for tests.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use lethe_conductor::Config;
use lethe_intake::{Inputs, Intake, Poison, Shell};
use lethe_journal::Place;
use lethe_ledger::EvidenceStore;
use lethe_log::MemoryLog;
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
        panic!("{at}: {poison:?}");
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
