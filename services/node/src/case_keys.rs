//! The data keys of cases: drawn by whoever asks for a case, put in the `keys` stream by whoever opens it, and read back from there afterwards.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_journal::{
    CaseEntry, CaseEvent, KeyWrapped, Place, Sealed, Selectors, SelectorsWire, Stream, partition_of,
};
use lethe_log::EventLog;
use lethe_proof::SubjectOpening;
use lethe_terms::CaseId;
use lethe_vault::{DataKey, KeyVault, open_json, seal_json};

use crate::lineage::Lineage;
use crate::recent::Recent;
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
    cache: Arc<Mutex<Recent<CaseId, Arc<DataKey>, CACHED_MAX>>>,
}

/// A key for a case that is asked for. It travels with the command: two processes may ask for the same case at once, and a key that one of them put in
/// `keys` would take the place of what the other's history is sealed with.
pub(crate) struct Drawn {
    pub(crate) case: CaseId,
    key: DataKey,
    pub(crate) wrapped: KeyWrapped,
}

impl Drawn {
    /// Seals selectors for the case.
    pub(crate) fn seal_selectors(&self, selectors: Selectors) -> Result<Sealed, Error> {
        seal_selectors(&self.key, self.case, selectors)
    }

    /// Seals what opens a commitment of the case.
    pub(crate) fn seal_opening(&self, commitment: &str, opening: &SubjectOpening) -> Result<Sealed, Error> {
        Ok(seal_json(
            &self.key,
            &opening_context(self.case, commitment),
            opening,
        )?)
    }
}

impl CaseKeys {
    pub(crate) fn new(vault: Arc<dyn KeyVault>, log: Arc<dyn EventLog>, lineage: Arc<Lineage>) -> Self {
        Self {
            vault,
            log,
            lineage,
            cache: Arc::default(),
        }
    }

    /// Draws a key for a case that is to be opened.
    pub(crate) fn draw(&self, case: CaseId) -> Result<Drawn, Error> {
        let (key, wrapped) = self.vault.create()?;
        Ok(Drawn { case, key, wrapped })
    }

    /// Puts the key of a case on the log; it is durable when this returns, before anything that it opens. For whoever carries the case, and with the key of
    /// the first command that opens it alone: who carries it next comes to the same.
    pub(crate) async fn keep(&self, case: CaseId, wrapped: KeyWrapped) -> Result<(), Error> {
        let key = Arc::new(self.vault.unwrap(&wrapped)?);
        let entry = publish::entry(case.as_bytes(), "/lethe/conductor", wrapped)?;
        publish::append(&*self.log, &place_of(case), vec![entry], "keys").await?;
        self.remember(case, &key);
        Ok(())
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
        seal_selectors(&*self.get(case).await?, case, selectors)
    }

    /// Opens selectors of a case.
    pub(crate) async fn open_selectors(&self, case: CaseId, sealed: &Sealed) -> Result<Selectors, Error> {
        open_selectors(&*self.get(case).await?, case, sealed)
    }

    /// Opens selectors under the key of the command that they came with.
    pub(crate) fn open_given(
        &self,
        case: CaseId,
        key: &KeyWrapped,
        given: &Sealed,
    ) -> Result<Selectors, Error> {
        open_selectors(&self.vault.unwrap(key)?, case, given)
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

fn seal_selectors(key: &DataKey, case: CaseId, selectors: Selectors) -> Result<Sealed, Error> {
    Ok(seal_json(
        key,
        &selectors_context(case),
        &SelectorsWire::from(selectors),
    )?)
}

fn open_selectors(key: &DataKey, case: CaseId, sealed: &Sealed) -> Result<Selectors, Error> {
    let wire: SelectorsWire = open_json(key, &selectors_context(case), sealed)?;
    Ok(wire.into())
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
