//! Which partitions this process folds: as the group of owners shares them out.
//!
//! A fold is private and a question says how far it must have come, so two owners of one partition do no harm. A partition that moves is
//! therefore answered by its old owner until the new one has caught up and says so, and only then given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe_journal::Place;
use lethe_log::EventLog;
use lethe_log_kafka::Membership;
use lethe_vault::InternalKey;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::directory::{self, Told};
use super::owner::FOLDED;
use super::owners::Owners;
use super::question::Folded;
use crate::Error;
use crate::patience::Answering;
use crate::poison::PutsAway;

/// How often is looked whether a partition has caught up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long an owner waits until it tells again what nobody has heard.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// After how many looks the progress of partitions that catch up is told: five seconds.
const LOOKS_BETWEEN_PROGRESS: u32 = 25;

/// Keeps the partitions of this process as the group wants them.
pub(crate) struct Assignment {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
    /// Where owners put what can be no entry.
    pub(crate) away: Arc<dyn PutsAway>,
    pub(crate) membership: Membership,
    pub(crate) owners: Arc<Owners>,
    pub(crate) told: watch::Receiver<Told>,
    /// Name of this process.
    pub(crate) instance: String,
    /// Where it is asked.
    pub(crate) address: String,
    /// What proves that it says so.
    pub(crate) key: InternalKey,
}

/// A fold that runs.
struct Fold {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
    /// When it was last told that it has caught up.
    told_at: Option<Instant>,
}

impl Fold {
    async fn end(self) -> Result<(), Error> {
        self.stop.send_replace(true);
        self.task.await.map_err(|_| Error::Stopped { what: "an owner" })?
    }
}

type Folds = BTreeMap<u16, Fold>;

impl Assignment {
    /// Follows the group until `stop`.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let (mut assigned, mut told) = (self.membership.assigned(), self.told.clone());
        let (mut folds, mut looks) = (Folds::new(), 0_u32);
        while !*stop.borrow() {
            let wanted = assigned.borrow_and_update().clone();
            let others = told.borrow_and_update().clone();
            self.take(&wanted, &mut folds)?;
            self.announce(&wanted, &others, &mut folds).await?;
            self.give_up(&wanted, &others, &mut folds).await?;
            if let Some(ended) = folds.extract_if(.., |_, fold| fold.task.is_finished()).next() {
                return ended.1.end().await;
            }
            if looks.is_multiple_of(LOOKS_BETWEEN_PROGRESS) {
                self.tell_progress(&wanted, &folds).await?;
            }
            looks = looks.wrapping_add(1);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = assigned.changed() => {}
                _ = told.changed() => {}
                _ = stop.changed() => {}
            }
        }
        for fold in folds.into_values() {
            fold.end().await?;
        }
        // Leaving the group waits for its thread.
        let left = tokio::task::spawn_blocking(move || drop(self.membership));
        left.await.map_err(|_| Error::Stopped { what: "a membership" })
    }

    fn take(&self, wanted: &BTreeSet<u16>, folds: &mut Folds) -> Result<(), Error> {
        for partition in wanted {
            if folds.contains_key(partition) {
                continue;
            }
            let owner = self.owners.take(*partition)?;
            let (stop, stopped) = watch::channel(false);
            let task = tokio::spawn(owner.run(Arc::clone(&self.log), Arc::clone(&self.away), stopped));
            let told_at = None;
            folds.insert(*partition, Fold { stop, task, told_at });
            tracing::info!(partition, "a partition of lineage came");
        }
        Ok(())
    }

    /// Tells of partitions that have caught up with what the log holds now, until everybody has heard it: two words of two owners may cross.
    async fn announce(&self, wanted: &BTreeSet<u16>, others: &Told, folds: &mut Folds) -> Result<(), Error> {
        for (partition, fold) in folds {
            let owned = directory::proven(&self.key, *partition, &self.instance, &self.address);
            let is_told = others.get(partition) == Some(&owned);
            let is_due = fold.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN);
            if !wanted.contains(partition) || is_told || !is_due {
                continue;
            }
            let Some(owner) = self.owners.get(*partition) else {
                continue;
            };
            if is_behind(owner.folded(), self.head(*partition).await?) {
                continue;
            }
            match directory::tell(&*self.log, owned).await {
                Ok(()) => fold.told_at = Some(Instant::now()),
                Err(error) if self.answering.passes(&error) => {
                    tracing::warn!(code = error.code(), partition, "an owner could not be told");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives up what the group took away, once somebody else answers for it, and what an earlier run left.
    async fn give_up(&self, wanted: &BTreeSet<u16>, others: &Told, folds: &mut Folds) -> Result<(), Error> {
        let is_elsewhere = |partition: &u16| {
            let owned = others.get(partition);
            !wanted.contains(partition) && owned.is_some_and(|owned| owned.instance != self.instance)
        };
        for partition in self.owners.kept().into_iter().filter(is_elsewhere) {
            if let Some(fold) = folds.remove(&partition) {
                fold.end().await?;
            }
            if self.owners.give_up(partition).await? {
                tracing::info!(partition, "a partition of lineage left");
            }
        }
        Ok(())
    }

    async fn tell_progress(&self, wanted: &BTreeSet<u16>, folds: &Folds) -> Result<(), Error> {
        let behind = |partition: &&u16| folds.get(partition).is_some_and(|fold| fold.told_at.is_none());
        for partition in wanted.iter().filter(behind) {
            if let Some(owner) = self.owners.get(*partition) {
                let (at, head) = (owner.folded(), self.head(*partition).await?);
                tracing::info!(
                    partition,
                    records = at[1],
                    of = head[1],
                    "a partition of lineage catches up"
                );
            }
        }
        Ok(())
    }

    async fn head(&self, partition: u16) -> Result<Folded, Error> {
        head(&*self.log, partition).await
    }
}

/// Where the streams of a partition end.
pub(crate) async fn head(log: &dyn EventLog, partition: u16) -> Result<Folded, Error> {
    let [keys, records] = FOLDED.map(|stream| Place::new(stream, partition));
    let (keys, records) = futures::try_join!(log.head(&keys), log.head(&records))?;
    Ok([keys, records])
}

fn is_behind(at: Folded, head: Folded) -> bool {
    at[0] < head[0] || at[1] < head[1]
}
