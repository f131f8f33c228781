//! Which partitions of the case histories this process carries, and how far their commands and answers are worked off.
//!
//! A consumer group says who is to carry which. Whoever does holds the partition's lock, and gives it up when its round is over and written
//! down; the lock of a process that was killed is free at once. So no two fence each other off without end, and a process that starts need not
//! wait until the group has missed the one before: it takes what nobody carries. What makes a history have one writer is not the lock but its
//! epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Position, Stream};
use lethe_log_kafka::Membership;
use lethe_store::{Batch, Store};
use tokio::sync::watch;

use crate::janitor::{self, Passed};
use crate::{Error, standby};

/// How often is looked whether a partition is free that another process still carries.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How far the commands and answers of a partition are worked off: what stands before does not have to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Worked {
    pub(crate) commands: Position,
    pub(crate) answers: Position,
}

/// The partitions that this process carries.
pub(crate) enum Share {
    /// All: no other process conducts.
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
    held: BTreeMap<u16, File>,
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

    /// The partitions that are carried now, and how far each is.
    ///
    /// # Errors
    /// Where a position cannot be read.
    pub(crate) fn carried(&self) -> Result<BTreeMap<u16, Worked>, Error> {
        match self {
            Self::All(store) => {
                let worked = Worked {
                    commands: store.position(&Stream::Commands)?,
                    answers: store.position(&Stream::Answers)?,
                };
                Ok((0..Stream::Cases.partitions())
                    .map(|partition| (partition, worked))
                    .collect())
            }
            Self::Group(group) => {
                let held = group.held.keys().copied();
                held.map(|partition| Ok((partition, worked(&group.folder, partition)?)))
                    .collect()
            }
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
                        let worked = worked(&folder, partition)?;
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

    /// Whether other partitions are to be carried than are.
    pub(crate) fn is_to_change(&self) -> bool {
        match self {
            Self::All(_) => false,
            Self::Group(group) => !group.wanted().iter().eq(group.held.keys()),
        }
    }

    /// The partitions of those that are carried which are to be given up.
    pub(crate) fn leaving(&self) -> BTreeSet<u16> {
        match self {
            Self::All(_) => BTreeSet::new(),
            Self::Group(group) => {
                let wanted = group.wanted();
                let held = group.held.keys().copied();
                held.filter(|partition| !wanted.contains(partition)).collect()
            }
        }
    }

    /// Gives up what is to be carried elsewhere and takes what is free of what is to be carried here; whether that changed anything. Only between
    /// rounds, and after [`Self::write`].
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
        })
    }

    /// What the group gives; until it has spoken, whatever is free.
    fn wanted(&self) -> BTreeSet<u16> {
        if self.has_spoken || self.assigned.has_changed().unwrap_or(false) {
            self.assigned.borrow().clone()
        } else {
            (0..Stream::Cases.partitions()).collect()
        }
    }

    fn change(&mut self) -> Result<bool, Error> {
        let wanted = self.wanted();
        let before = self.held.len();
        self.held.retain(|partition, _| {
            let stays = wanted.contains(partition);
            if !stays {
                tracing::info!(partition, "a partition of the case histories left");
            }
            stays
        });
        let mut has_changed = self.held.len() != before;
        for partition in wanted {
            if !self.held.contains_key(&partition)
                && let Some(lock) = self.try_lock(partition)?
            {
                tracing::info!(partition, "a partition of the case histories came");
                self.held.insert(partition, lock);
                has_changed = true;
            }
        }
        Ok(has_changed)
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
            if !self.held.contains_key(partition) {
                continue;
            }
            let (file, new) = (
                self.folder.join(partition.to_string()),
                self.folder.join(format!("{partition}.new")),
            );
            fs::write(&new, format!("{} {}\n", now.commands, now.answers)).map_err(unusable)?;
            fs::rename(&new, &file).map_err(unusable)?;
        }
        Ok(())
    }
}

/// How far a partition is as far as was written down; from the beginning of the queues where nothing was, or nothing that can be read.
fn worked(folder: &Path, partition: u16) -> Result<Worked, Error> {
    let text = match fs::read_to_string(folder.join(partition.to_string())) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => String::new(),
        Err(error) => return Err(unusable(error)),
    };
    let mut numbers = text.split_whitespace().map(str::parse);
    Ok(match (numbers.next(), numbers.next()) {
        (Some(Ok(commands)), Some(Ok(answers))) => Worked { commands, answers },
        _ => Worked::default(),
    })
}

fn unusable(_: std::io::Error) -> Error {
    Error::Roles {
        reason: "the folder `roles/cases` below data_dir cannot be read or written: expected one that this user may read and write",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(folder: &Path) -> (watch::Sender<BTreeSet<u16>>, Share) {
        let (assign, assigned) = watch::channel(BTreeSet::new());
        (
            assign,
            Share::Group(Box::new(Group::new(assigned, folder).unwrap())),
        )
    }

    fn partitions(share: &Share) -> Vec<u16> {
        share.carried().unwrap().into_keys().collect()
    }

    #[test]
    fn a_partition_comes_when_the_one_before_has_given_it_up_and_goes_on_where_that_was() {
        let folder = tempfile::tempdir().unwrap();
        let (first_gets, mut first) = member(folder.path());
        let (second_gets, mut second) = member(folder.path());
        assert!(
            first.is_to_change() && first.change().unwrap(),
            "nobody carries them"
        );
        assert_eq!(partitions(&first), [0, 1, 2, 3]);
        assert!(!second.change().unwrap(), "the first one carries them");
        first_gets.send_replace([0, 1, 2, 3].into());
        assert!(!first.is_to_change() && !first.change().unwrap());

        // The group is ahead of what the first one is in the middle of.
        first_gets.send_replace([0, 1].into());
        second_gets.send_replace([2, 3].into());
        assert!(!second.change().unwrap() && second.is_to_change());
        let worked = Worked {
            commands: 7,
            answers: 9,
        };
        first
            .write(
                &first
                    .carried()
                    .unwrap()
                    .into_keys()
                    .map(|one| (one, worked))
                    .collect(),
            )
            .unwrap();
        assert_eq!(first.leaving(), [2, 3].into());
        assert!(first.change().unwrap() && !first.is_to_change());
        assert!(second.change().unwrap());
        assert_eq!(second.carried().unwrap(), [(2, worked), (3, worked)].into());

        // A process that ended has given everything up.
        drop(first);
        second_gets.send_replace([0, 1, 2, 3].into());
        assert!(second.change().unwrap());
        assert_eq!(partitions(&second), [0, 1, 2, 3]);
    }

    #[test]
    fn a_queue_is_dropped_up_to_where_the_slowest_conductor_is() {
        let folder = tempfile::tempdir().unwrap();
        let (gets, mut share) = member(folder.path());
        gets.send_replace([0, 1, 2].into());
        share.change().unwrap();
        let worked = |commands, answers| Worked { commands, answers };
        share
            .write(&[(0, worked(5, 8)), (1, worked(4, 9)), (2, worked(6, 7))].into())
            .unwrap();
        let (commands, answers) = (share.passed(Stream::Commands), share.passed(Stream::Answers));
        assert_eq!(
            commands().unwrap(),
            0,
            "nobody has said how far the fourth partition is"
        );
        gets.send_replace([3].into());
        share.change().unwrap();
        share
            .write(&[(0, worked(99, 99)), (3, worked(11, 12))].into())
            .unwrap();
        assert_eq!(
            (commands().unwrap(), answers().unwrap()),
            (4, 7),
            "what is not carried is not written"
        );
        fs::write(folder.path().join("1"), "half a").unwrap();
        assert_eq!(commands().unwrap(), 0);
    }
}
