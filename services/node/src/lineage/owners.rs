//! The partitions that this process folds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{Duration, Instant};

use lethe_journal::{Position, Stream, TABLE_PARTITIONS};
use lethe_lineage::{Rows, StateHash, state_hash};
use lethe_log::EventLog;

use super::owner::{FOLDED, Owner};
use crate::Error;
use crate::poison::PutsAway;

/// How long a partition that leaves waits for the questions that are still being answered from it until somebody is told.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(30);

/// The owners of this process, by partition.
pub(crate) struct Owners {
    folder: PathBuf,
    open: RwLock<BTreeMap<u16, Arc<Owner>>>,
    /// Those that leave: nobody finds them any more, and who found one before still has an answer from it.
    leaving: Mutex<BTreeMap<u16, Leaving>>,
}

/// An owner that leaves.
struct Leaving {
    owner: Arc<Owner>,
    since: Instant,
    is_told: bool,
}

impl Owners {
    /// None yet, with their stores below a folder.
    pub(crate) fn none(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            open: RwLock::default(),
            leaving: Mutex::default(),
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

    /// Opens a partition. One that is open or about to leave is as it was: its store cannot be opened twice, and has lost nothing.
    pub(crate) fn take(&self, partition: u16) -> Result<Arc<Owner>, Error> {
        let left = self.leaving().remove(&partition).map(|leaving| leaving.owner);
        let owner = match left.or_else(|| self.get(partition)) {
            Some(owner) => owner,
            None => Arc::new(Owner::open(partition, &self.folder_of(partition))?),
        };
        self.locked().insert(partition, Arc::clone(&owner));
        Ok(owner)
    }

    /// Closes a partition that nobody folds any more, and removes its rows. Whether that is done: one from which questions are still being
    /// answered leaves with a later call, and may come back until then.
    pub(crate) async fn give_up(&self, partition: u16) -> Result<bool, Error> {
        match self.last(partition) {
            Leaves::Used => return Ok(false),
            Leaves::Unused(owner) => {
                // A store that cannot be dropped off the runtime is dropped when the process ends.
                let _ = tokio::task::spawn_blocking(move || drop(owner)).await;
            }
            Leaves::Closed => {}
        }
        remove(self.folder_of(partition)).await?;
        Ok(true)
    }

    /// Takes the owner of a partition that leaves from whoever might still find it.
    fn last(&self, partition: u16) -> Leaves {
        let mut all = self.leaving();
        let owner = self.locked().remove(&partition);
        let leaving = all.remove(&partition).or_else(|| {
            owner.map(|owner| Leaving {
                owner,
                since: Instant::now(),
                is_told: false,
            })
        });
        let Some(mut leaving) = leaving else {
            return Leaves::Closed;
        };
        match Arc::try_unwrap(leaving.owner) {
            Ok(owner) => Leaves::Unused(Box::new(owner)),
            Err(used) => {
                if !leaving.is_told && leaving.since.elapsed() >= ANSWERS_PATIENCE {
                    leaving.is_told = true;
                    tracing::warn!(partition, "a partition leaves, and its rows are still in use");
                }
                leaving.owner = used;
                all.insert(partition, leaving);
                Leaves::Used
            }
        }
    }

    fn leaving(&self) -> MutexGuard<'_, BTreeMap<u16, Leaving>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) async fn fold_all(&self, log: &Arc<dyn EventLog>, away: &dyn PutsAway) -> Result<(), Error> {
        for owner in self.all().into_values() {
            owner.fold_all(log, away).await?;
        }
        Ok(())
    }
}

/// Whether somebody still holds an owner that leaves.
enum Leaves {
    Used,
    Unused(Box<Owner>),
    /// It is not open: only its folder may be there.
    Closed,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_partition_that_comes_back_while_a_question_is_answered_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let owners = Owners::none(folder.path());
        let asked = owners.take(3).unwrap();
        assert!(!owners.give_up(3).await.unwrap());
        assert!(owners.get(3).is_none(), "nobody else asks it");
        assert!(!owners.give_up(3).await.unwrap());
        let back = owners.take(3).unwrap();
        assert!(Arc::ptr_eq(&asked, &back));
        assert!(owners.get(3).is_some());
        drop((asked, back));
        assert!(owners.give_up(3).await.unwrap());
        assert!(owners.kept().is_empty());
        assert!(owners.give_up(3).await.unwrap(), "it is gone already");
    }
}
