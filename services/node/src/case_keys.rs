//! The data keys of cases: made when a case opens, read back from the `keys` stream afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_journal::{CaseEntry, CaseEvent, Place, Sealed, Selectors, SelectorsWire, Stream, partition_of};
use lethe_log::EventLog;
use lethe_proof::SubjectOpening;
use lethe_terms::CaseId;
use lethe_vault::{DataKey, KeyVault, open_json, seal_json};

use crate::lineage::Lineage;
use crate::{Error, publish};

/// How long a key that was just put on the log may take to be folded, and a partition to find another owner.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keys of open cases that are kept unwrapped. One is 32 bytes; unwrapping one costs a look-up in a store.
const CACHED_MAX: usize = 10_000;

/// Makes, finds and uses the keys of cases.
#[derive(Clone)]
pub(crate) struct CaseKeys {
    vault: Arc<dyn KeyVault>,
    log: Arc<dyn EventLog>,
    lineage: Arc<Lineage>,
    cache: Arc<Mutex<BTreeMap<CaseId, Arc<DataKey>>>>,
    making: Arc<tokio::sync::Mutex<()>>,
}

impl CaseKeys {
    pub(crate) fn new(vault: Arc<dyn KeyVault>, log: Arc<dyn EventLog>, lineage: Arc<Lineage>) -> Self {
        Self {
            vault,
            log,
            lineage,
            cache: Arc::default(),
            making: Arc::default(),
        }
    }

    /// Makes the key of a new case, unless it has one; it is durable when this returns, before anything that it opens. A second key would
    /// take the place of the first, and what that had sealed could not be opened any more.
    pub(crate) async fn create(&self, case: CaseId) -> Result<Arc<DataKey>, Error> {
        let _one_at_a_time = self.making.lock().await;
        match self.get(case).await {
            Err(Error::NoCaseKey { .. }) => {}
            known => return known,
        }
        let (key, wrapped) = self.vault.create()?;
        let entry = publish::entry(case.as_bytes(), "/lethe/gateway", wrapped)?;
        publish::append(&*self.log, &place_of(case), vec![entry], "keys").await?;
        let key = Arc::new(key);
        self.remember(case, &key);
        Ok(key)
    }

    /// The key of a case, as soon as it is known here.
    pub(crate) async fn get(&self, case: CaseId) -> Result<Arc<DataKey>, Error> {
        if let Some(key) = self.cached(case) {
            return Ok(key);
        }
        let id = case.as_bytes();
        let wrapped = match self.lineage.wrapped_key(id, false, PATIENCE).await? {
            Some(wrapped) => wrapped,
            None => {
                let waited = self.lineage.wrapped_key(id, true, PATIENCE).await?;
                waited.ok_or(Error::NoCaseKey { case })?
            }
        };
        let key = Arc::new(self.vault.unwrap(&wrapped)?);
        self.remember(case, &key);
        Ok(key)
    }

    fn cached(&self, case: CaseId) -> Option<Arc<DataKey>> {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&case)
            .cloned()
    }

    fn remember(&self, case: CaseId, key: &Arc<DataKey>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHED_MAX {
            cache.pop_first();
        }
        cache.insert(case, Arc::clone(key));
    }

    /// Seals an event as an entry of its case's history.
    pub(crate) async fn seal_event(
        &self,
        case: CaseId,
        number: u64,
        event: &CaseEvent,
    ) -> Result<CaseEntry, Error> {
        let key = self.get(case).await?;
        let sealed = seal_json(&key, &history_context(case, number), event)?;
        Ok(CaseEntry {
            case,
            number,
            leaf: event.leaf(),
            event: sealed,
        })
    }

    /// Opens an entry of a case's history.
    pub(crate) async fn open_event(&self, entry: &CaseEntry) -> Result<CaseEvent, Error> {
        let key = self.get(entry.case).await?;
        Ok(open_json(
            &key,
            &history_context(entry.case, entry.number),
            &entry.event,
        )?)
    }

    /// Seals selectors for a case.
    pub(crate) async fn seal_selectors(&self, case: CaseId, selectors: Selectors) -> Result<Sealed, Error> {
        let key = self.get(case).await?;
        Ok(seal_json(
            &key,
            &selectors_context(case),
            &SelectorsWire::from(selectors),
        )?)
    }

    /// Opens selectors of a case.
    pub(crate) async fn open_selectors(&self, case: CaseId, sealed: &Sealed) -> Result<Selectors, Error> {
        let key = self.get(case).await?;
        let wire: SelectorsWire = open_json(&key, &selectors_context(case), sealed)?;
        Ok(wire.into())
    }
}

impl CaseKeys {
    /// Seals what opens a commitment of a case.
    pub(crate) async fn seal_opening(
        &self,
        case: CaseId,
        commitment: &str,
        opening: &SubjectOpening,
    ) -> Result<Sealed, Error> {
        let key = self.get(case).await?;
        Ok(seal_json(&key, &opening_context(case, commitment), opening)?)
    }

    /// Opens what opens a commitment of a case.
    pub(crate) async fn open_opening(
        &self,
        case: CaseId,
        commitment: &str,
        sealed: &Sealed,
    ) -> Result<SubjectOpening, Error> {
        let key = self.get(case).await?;
        Ok(open_json(&key, &opening_context(case, commitment), sealed)?)
    }
}

/// The partition of the `keys` stream that holds a case's key.
fn place_of(case: CaseId) -> Place {
    Place::new(
        Stream::Keys,
        partition_of(case.as_bytes(), Stream::Keys.partitions()),
    )
}

fn history_context(case: CaseId, number: u64) -> String {
    format!("cases/{case}/{number}")
}

fn selectors_context(case: CaseId) -> String {
    format!("selectors/{case}")
}

fn opening_context(case: CaseId, commitment: &str) -> String {
    format!("openings/{case}/{commitment}")
}
