//! The partitions that this process folds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use lethe_journal::{Position, Stream, TABLE_PARTITIONS};
use lethe_lineage::{Rows, StateHash, state_hash};
use lethe_log::EventLog;

use super::owner::{FOLDED, Owner};
use crate::Error;

/// How long a partition that leaves may wait for the questions that are still being answered from it.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(30);

/// How often is looked whether the last of them is answered.
const ANSWERS_LOOK: Duration = Duration::from_millis(10);

/// The owners of this process, by partition.
pub(crate) struct Owners {
    folder: PathBuf,
    open: RwLock<BTreeMap<u16, Arc<Owner>>>,
}

impl Owners {
    /// None yet, with their stores below a folder.
    pub(crate) fn none(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            open: RwLock::default(),
        }
    }

    /// All partitions.
    pub(crate) fn open_all(folder: &Path) -> Result<Self, Error> {
        let owners = Self::none(folder);
        for partition in 0..TABLE_PARTITIONS {
            owners.take(partition)?;
        }
        Ok(owners)
    }

    fn folder_of(&self, partition: u16) -> PathBuf {
        self.folder.join(format!("{partition:02}"))
    }

    /// Opens a partition.
    pub(crate) fn take(&self, partition: u16) -> Result<Arc<Owner>, Error> {
        let owner = Arc::new(Owner::open(partition, &self.folder_of(partition))?);
        self.locked().insert(partition, Arc::clone(&owner));
        Ok(owner)
    }

    /// Closes a partition that nobody folds any more, and removes its rows. One that is still in use stays for the next call.
    pub(crate) async fn give_up(&self, partition: u16) -> Result<(), Error> {
        let owner = self.locked().remove(&partition);
        if let Some(owner) = owner
            && let Err(used) = unused(owner).await
        {
            tracing::warn!(partition, "a partition left, and its rows are still in use");
            self.locked().insert(partition, used);
            return Ok(());
        }
        remove(self.folder_of(partition)).await
    }

    fn locked(&self) -> RwLockWriteGuard<'_, BTreeMap<u16, Arc<Owner>>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of a partition, where this process has it.
    pub(crate) fn get(&self, partition: u16) -> Option<Arc<Owner>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&partition).cloned()
    }

    /// All owners of this process.
    pub(crate) fn all(&self) -> BTreeMap<u16, Arc<Owner>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Partitions whose rows are kept here, also of an earlier run.
    pub(crate) fn kept(&self) -> Vec<u16> {
        (0..TABLE_PARTITIONS)
            .filter(|partition| self.folder_of(*partition).exists())
            .collect()
    }

    /// How many records were ended since the start.
    pub(crate) fn ended(&self) -> u64 {
        self.all().values().map(|owner| owner.ended()).sum()
    }

    /// Where the folds of a stream stand, by partition.
    pub(crate) fn positions(&self, stream: &Stream) -> BTreeMap<u16, Position> {
        let slot = usize::from(*stream == FOLDED[1]);
        let all = self.all().into_iter();
        all.map(|(partition, owner)| (partition, owner.folded()[slot]))
            .collect()
    }

    /// Copies every store into a fresh one, so that nothing of a removed row is left.
    pub(crate) async fn compact(&self) -> Result<(), Error> {
        for partition in 0..TABLE_PARTITIONS {
            // One at a time: a partition that leaves waits for whoever holds it.
            let Some(owner) = self.get(partition) else {
                continue;
            };
            tokio::task::spawn_blocking(move || owner.compact())
                .await
                .map_err(|_| Error::Stopped { what: "a compaction" })??;
        }
        Ok(())
    }

    /// Hash of all live rows.
    pub(crate) fn state_hash(&self) -> Result<StateHash, Error> {
        let all = self.all();
        let rows: Vec<_> = all.values().map(|owner| owner.rows()).collect();
        Ok(state_hash(rows.iter().map(|rows| rows as &dyn Rows))?)
    }

    /// Folds everything that the log holds, once.
    pub(crate) async fn fold_all(&self, log: &Arc<dyn EventLog>) -> Result<(), Error> {
        for owner in self.all().into_values() {
            owner.fold_all(log).await?;
        }
        Ok(())
    }
}

/// Drops an owner once nobody else holds it; gives it back where that does not come in time.
async fn unused(mut owner: Arc<Owner>) -> Result<(), Arc<Owner>> {
    let until = Instant::now() + ANSWERS_PATIENCE;
    loop {
        match Arc::try_unwrap(owner) {
            Ok(last) => {
                // A store that cannot be dropped off the runtime is dropped when the process ends.
                let _ = tokio::task::spawn_blocking(move || drop(last)).await;
                return Ok(());
            }
            Err(shared) if Instant::now() > until => return Err(shared),
            Err(shared) => owner = shared,
        }
        tokio::time::sleep(ANSWERS_LOOK).await;
    }
}

async fn remove(folder: PathBuf) -> Result<(), Error> {
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
    match removed {
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
            // The next run removes it, or folds it on: rows alone decide nothing.
            tracing::warn!(%error, "rows of a partition that left could not be removed");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Stopped { what: "an owner" }),
    }
}
