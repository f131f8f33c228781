//! Which partitions of the case histories this process carries, and how far their commands and answers are worked off.
//!
//! A consumer group says who is to carry which. Whoever does holds the partition's lock, and gives it up when its round is over and written
//! down; the lock of a process that was killed is free at once. So no two fence each other off without end, and a process that starts need not
//! wait until the group has missed the one before: it takes what nobody carries. What makes a history have one writer is not the lock but its
//! epoch: where the group gives a partition whose lock does not come free, it is taken all the same, from a process that hangs. When that goes on,
//! its next append is refused; it gives up what others have taken, and rests before it takes that again.

mod worked;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Epoch, Place, Position, Stream};
use lethe_log_kafka::{Membership, Pulse};
use lethe_store::{Batch, Store};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::worked::Worked;
use crate::janitor::{self, Passed};
use crate::{Error, standby};

/// How often is looked whether a partition is free that another process still carries.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long the lock of a partition is waited for that the group gives. A process that lives gives it up at the end of its round, which takes
/// seconds at most where brokers answer; what a slower one loses is a round. It is longer than the group takes to miss a member (10 s), so
/// whoever rests as long after it was fenced off has heard meanwhile what the group gives it.
const GRACE: Duration = Duration::from_secs(15);

/// The partitions that this process carries.
pub(crate) enum Share {
    /// All: the log is embedded, and no other process conducts.
    All(Arc<dyn Store>),
    /// What the group of conductors gives it.
    Group(Box<Group>),
}

/// A share that changes.
pub(crate) struct Group {
    /// Nothing once the group was left.
    membership: Option<Membership>,
    assigned: watch::Receiver<BTreeSet<u16>>,
    /// Whether the group has said something since it was joined.
    has_spoken: bool,
    folder: PathBuf,
    held: BTreeMap<u16, Holding>,
    /// Since when partitions are waited for that the group gives: their locks are taken.
    awaited: BTreeMap<u16, Instant>,
    /// When partitions were found taken by another writer that are not taken back at once.
    lost: BTreeMap<u16, Instant>,
}

/// What makes a partition this process's.
struct Holding {
    /// Nothing where a process has it that hangs.
    lock: Option<File>,
    /// Nothing until it was begun with.
    epoch: Option<Epoch>,
}

impl Share {
    /// What the group of this membership gives; locks and positions are kept in this folder, which all conductors share.
    ///
    /// # Errors
    /// Where the folder cannot be written.
    pub(crate) fn of_group(membership: Membership, folder: &Path) -> Result<Self, Error> {
        let assigned = membership.assigned();
        Ok(Self::Group(Box::new(Group {
            membership: Some(membership),
            ..Group::new(assigned, folder)?
        })))
    }

    /// What a group gives that somebody else speaks for.
    #[cfg(test)]
    pub(crate) fn given(assigned: watch::Receiver<BTreeSet<u16>>, folder: &Path) -> Self {
        Self::Group(Box::new(Group::new(assigned, folder).unwrap()))
    }

    /// The partitions that are carried now.
    pub(crate) fn carried(&self) -> BTreeSet<u16> {
        match self {
            Self::All(_) => (0..Stream::Cases.partitions()).collect(),
            Self::Group(group) => group.held.keys().copied().collect(),
        }
    }

    /// Begins as the writer of the carried partitions, with these epochs: how far each is. Before anything is appended under them.
    ///
    /// # Errors
    /// Where a position cannot be read.
    pub(crate) fn begin(&mut self, epochs: &BTreeMap<u16, Epoch>) -> Result<BTreeMap<u16, Worked>, Error> {
        match self {
            Self::All(store) => {
                let worked = Worked {
                    commands: store.position(&Stream::Commands)?,
                    answers: store.position(&Stream::Answers)?,
                };
                Ok(epochs.keys().map(|partition| (*partition, worked)).collect())
            }
            Self::Group(group) => group.begin(epochs),
        }
    }

    /// Writes down how far the carried partitions are: repeats are harmless, so nobody waits for the disk.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn write(&self, carried: &BTreeMap<u16, Worked>) -> Result<(), Error> {
        match self {
            Self::All(store) => {
                // Read in one go, they are all as far.
                let least = |position: fn(&Worked) -> Position| carried.values().map(position).min();
                for (stream, now) in [
                    (Stream::Commands, least(|worked| worked.commands)),
                    (Stream::Answers, least(|worked| worked.answers)),
                ] {
                    let before = store.position(&stream)?;
                    if let Some(now) = now.filter(|now| *now != before) {
                        store.commit(&stream, before, now, &Batch::default())?;
                    }
                }
                Ok(())
            }
            Self::Group(group) => group.write(carried),
        }
    }

    /// What all conductors have behind them in one of their queues.
    pub(crate) fn passed(&self, stream: Stream) -> Passed {
        match self {
            Self::All(store) => janitor::passed(store, stream),
            Self::Group(group) => {
                let folder = group.folder.clone();
                Box::new(move || {
                    let mut least = Position::MAX;
                    for partition in 0..Stream::Cases.partitions() {
                        let worked = worked::read(&folder, partition).map_err(unusable)?;
                        least = least.min(match stream {
                            Stream::Commands => worked.commands,
                            _ => worked.answers,
                        });
                    }
                    Ok(least)
                })
            }
        }
    }

    /// Where the conductors stand in one of their queues, for whoever watches over all: where the slowest is, so that a partition shows that
    /// nobody carries.
    pub(crate) fn stands(
        &self,
        stream: Stream,
    ) -> impl Fn() -> Vec<(Place, Position)> + Send + Sync + 'static {
        let (at, passed) = (Place::new(stream.clone(), 0), self.passed(stream));
        move || {
            passed()
                .ok()
                .map(|least| (at.clone(), least))
                .into_iter()
                .collect()
        }
    }

    /// Where whoever carries says that it is not stuck; nothing where nobody else would go on.
    pub(crate) fn pulse(&self) -> Option<Pulse> {
        match self {
            Self::All(_) => None,
            Self::Group(group) => group.membership.as_ref().map(Membership::pulse),
        }
    }

    /// Whether other conductors may take over what this one carries, and it goes on beside them.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Group(_))
    }

    /// Whether another process has begun as the writer of a partition that is carried here.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub(crate) fn is_overtaken(&self) -> Result<bool, Error> {
        match self {
            Self::All(_) => Ok(false),
            Self::Group(group) => Ok(!group.overtaken()?.is_empty()),
        }
    }

    /// Whether other partitions are to be carried than are, or one is without its lock, which may be free by now.
    pub(crate) fn is_to_change(&self) -> bool {
        match self {
            Self::All(_) => false,
            Self::Group(group) => {
                let lacks_lock = group.held.values().any(|holding| holding.lock.is_none());
                lacks_lock || !group.wanted().iter().eq(group.held.keys())
            }
        }
    }

    /// The partitions of those that are carried which are to be given up, or which another process carries already.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub(crate) fn leaving(&self) -> Result<BTreeSet<u16>, Error> {
        match self {
            Self::All(_) => Ok(BTreeSet::new()),
            Self::Group(group) => {
                let (wanted, mut leaving) = (group.wanted(), group.overtaken()?);
                let held = group.held.keys().copied();
                leaving.extend(held.filter(|partition| !wanted.contains(partition)));
                Ok(leaving)
            }
        }
    }

    /// Gives up what is to be carried elsewhere, or is already, and takes what is free of what is to be carried here; whether that changed
    /// anything. Only between rounds, and after [`Self::write`].
    ///
    /// # Errors
    /// Where a lock cannot be looked at.
    pub(crate) fn change(&mut self) -> Result<bool, Error> {
        match self {
            Self::All(_) => Ok(false),
            Self::Group(group) => group.change(),
        }
    }

    /// Returns once the group gives something else.
    pub(crate) async fn changed(&mut self) {
        match self {
            Self::All(_) => std::future::pending().await,
            // Where the group was left nothing comes any more.
            Self::Group(group) => {
                if group.assigned.changed().await.is_err() {
                    std::future::pending().await
                }
                group.has_spoken = true;
            }
        }
    }

    /// Gives all partitions up, and then leaves the group, so that whoever gets them finds them free.
    ///
    /// # Errors
    /// Where leaving fails.
    pub(crate) async fn end(&mut self) -> Result<(), Error> {
        if let Self::Group(group) = self {
            group.held.clear();
            let membership = group.membership.take();
            // Leaving the group waits for its thread.
            let left = tokio::task::spawn_blocking(move || drop(membership));
            left.await.map_err(|_| Error::Stopped { what: "a membership" })?;
        }
        Ok(())
    }
}

impl Group {
    fn new(assigned: watch::Receiver<BTreeSet<u16>>, folder: &Path) -> Result<Self, Error> {
        standby::make_folder(folder).map_err(unusable)?;
        Ok(Self {
            membership: None,
            assigned,
            has_spoken: false,
            folder: folder.to_owned(),
            held: BTreeMap::new(),
            awaited: BTreeMap::new(),
            lost: BTreeMap::new(),
        })
    }

    fn has_spoken(&self) -> bool {
        self.has_spoken || self.assigned.has_changed().unwrap_or(false)
    }

    /// What the group gives; until it has spoken, whatever is free.
    fn wanted(&self) -> BTreeSet<u16> {
        if self.has_spoken() {
            self.assigned.borrow().clone()
        } else {
            (0..Stream::Cases.partitions()).collect()
        }
    }

    fn begin(&mut self, epochs: &BTreeMap<u16, Epoch>) -> Result<BTreeMap<u16, Worked>, Error> {
        let mut begun = BTreeMap::new();
        for (partition, epoch) in epochs {
            if let Some(holding) = self.held.get_mut(partition) {
                let worked = worked::begin(&self.folder, *partition, *epoch).map_err(unusable)?;
                holding.epoch = Some(*epoch);
                begun.insert(*partition, worked);
            }
        }
        Ok(begun)
    }

    fn overtaken(&self) -> Result<BTreeSet<u16>, Error> {
        let newest = worked::newest_of_all(&self.folder).map_err(unusable)?;
        let is_overtaken = |(partition, holding): &(&u16, &Holding)| {
            holding.epoch.is_some() && newest.get(partition).copied() > holding.epoch
        };
        let overtaken = self.held.iter().filter(is_overtaken);
        Ok(overtaken.map(|(partition, _)| *partition).collect())
    }

    fn change(&mut self) -> Result<bool, Error> {
        let (wanted, now) = (self.wanted(), Instant::now());
        let (before, overtaken) = (self.held.len(), self.overtaken()?);
        self.held.retain(|partition, _| {
            let stays = wanted.contains(partition) && !overtaken.contains(partition);
            if !stays {
                tracing::info!(partition, "a partition of the case histories left");
            }
            stays
        });
        let mut has_changed = self.held.len() != before;
        self.lost
            .extend(overtaken.into_iter().map(|partition| (partition, now)));
        self.lost
            .retain(|partition, at| wanted.contains(partition) && now - *at < GRACE);
        self.awaited.retain(|partition, _| wanted.contains(partition));
        for partition in wanted {
            if let Some(holding) = self.held.get(&partition) {
                // Whoever had hung with the lock has given it up by now, or not.
                if holding.lock.is_none() {
                    let lock = self.try_lock(partition)?;
                    self.held
                        .entry(partition)
                        .and_modify(|holding| holding.lock = lock);
                }
            } else if !self.lost.contains_key(&partition)
                && let Some(holding) = self.take(partition, now)?
            {
                tracing::info!(partition, "a partition of the case histories came");
                self.held.insert(partition, holding);
                self.awaited.remove(&partition);
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    /// Takes a partition whose lock is free, or that the group gives and whose lock was waited for long enough.
    fn take(&mut self, partition: u16, now: Instant) -> Result<Option<Holding>, Error> {
        let lock = self.try_lock(partition)?;
        if lock.is_none() {
            if !self.has_spoken() {
                return Ok(None);
            }
            let since = self.awaited.entry(partition).or_insert(now);
            if now - *since < GRACE {
                return Ok(None);
            }
            tracing::warn!(
                partition,
                "a partition of the case histories is taken from a process that does not give it up"
            );
        }
        Ok(Some(Holding { lock, epoch: None }))
    }

    fn try_lock(&self, partition: u16) -> Result<Option<File>, Error> {
        let lock = standby::lock_file(&self.folder.join(format!("{partition}.lock"))).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    fn write(&self, carried: &BTreeMap<u16, Worked>) -> Result<(), Error> {
        for (partition, now) in carried {
            let holding = self.held.get(partition);
            if let Some(epoch) = holding.and_then(|holding| holding.epoch) {
                worked::write(&self.folder, *partition, epoch, *now).map_err(unusable)?;
            }
        }
        Ok(())
    }
}

fn unusable(_: std::io::Error) -> Error {
    Error::Roles {
        reason: "the folder `roles/cases` below data_dir cannot be read or written: expected one that this user may read and write",
    }
}

#[cfg(test)]
mod tests;
