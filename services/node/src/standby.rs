//! What one process at a time may do: who comes second stands by, and goes on when the first one ends.
//!
//! Two hosts of one system would each take the other's word for old news: what one has ended the other appends again.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::Error;
use crate::roles::{Role, Roles};
use crate::settings::SystemSettings;

/// How often a process that stands by looks whether the role is free.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a name may take to come free: clearing a killed process away takes a second a gibibyte at most.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// Roles of one process. The ledger has a lock of its own, and conductors share the partitions of the histories.
const SOLE: [Role; 1] = [Role::Intake];

/// Roles and systems that nobody else of the installation has while this lives.
pub(crate) struct Held {
    _locks: Vec<File>,
}

/// Takes those of the roles of which one process may run, and the systems that this one hosts, and waits as long as another has one; `say`
/// hears for which.
///
/// # Errors
/// Where the folder cannot be written.
pub(crate) async fn take(
    folder: &Path,
    roles: &Roles,
    systems: &[SystemSettings],
    say: impl Fn(String),
) -> Result<Held, Error> {
    let mut locks = Vec::new();
    for (kind, name, lock) in locks_of(folder, roles, systems)? {
        while let Err(why) = lock.try_lock() {
            if let TryLockError::Error(error) = why {
                return Err(unusable(error));
            }
            say(format!("another process has the {kind} {name}"));
            tokio::time::sleep(LOOK_EVERY).await;
        }
        locks.push(lock);
    }
    Ok(Held { _locks: locks })
}

/// As [`take`], at once; nothing where another process has one of the roles or systems now.
///
/// # Errors
/// As [`take`].
pub(crate) fn try_take(
    folder: &Path,
    roles: &Roles,
    systems: &[SystemSettings],
) -> Result<Option<Held>, Error> {
    let mut locks = Vec::new();
    for (_, _, lock) in locks_of(folder, roles, systems)? {
        match lock.try_lock() {
            Ok(()) => locks.push(lock),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
    Ok(Some(Held { _locks: locks }))
}

fn unusable(_: std::io::Error) -> Error {
    Error::Roles {
        reason: "the folder `roles` below data_dir cannot be written: expected one that this user may write",
    }
}

/// The locks of what is taken, none of them held yet.
fn locks_of<'a>(
    folder: &Path,
    roles: &Roles,
    systems: &'a [SystemSettings],
) -> Result<Vec<(&'static str, &'a str, File)>, Error> {
    make_folder(folder).map_err(unusable)?;
    let lock = |(kind, name): (&'static str, &'a str)| {
        let file = lock_file(&folder.join(format!("{kind}-{name}"))).map_err(unusable)?;
        Ok((kind, name, file))
    };
    sole(roles, systems).into_iter().map(lock).collect()
}

/// Takes the name of this process, of which the folder is, for as long as the file lives. One that was killed has its name until the system has
/// cleared it away, so it is waited for a little.
///
/// # Errors
/// [`Error::NameTaken`] where another process has it.
pub(crate) async fn take_name(folder: &Path, instance: &str) -> Result<File, Error> {
    let until = Instant::now() + NAME_PATIENCE;
    loop {
        match try_take_name(folder, instance) {
            Err(Error::NameTaken { .. }) if Instant::now() < until => tokio::time::sleep(LOOK_EVERY).await,
            taken => return taken,
        }
    }
}

/// As [`take_name`], at once.
pub(crate) fn try_take_name(folder: &Path, instance: &str) -> Result<File, Error> {
    let unusable = |_| Error::Roles {
        reason: "the folder `processes` below data_dir cannot be written: expected one that this user may write",
    };
    make_folder(folder).map_err(unusable)?;
    let lock = lock_file(&folder.join("lock")).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::NameTaken {
            instance: instance.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Makes a folder of locks that nobody else may look into.
pub(crate) fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)
}

/// The file of a lock, made where it is not there.
pub(crate) fn lock_file(file: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(file)
}

/// What is taken, in an order that is the same everywhere, so that no two processes wait for each other.
fn sole<'a>(roles: &Roles, systems: &'a [SystemSettings]) -> BTreeSet<(&'static str, &'a str)> {
    let own = SOLE.into_iter().filter(|role| roles.has(*role));
    let hosted = systems.iter().filter(|system| roles.hosts(system));
    own.map(|role| ("role", role.name()))
        .chain(hosted.map(|system| ("system", system.name.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use lethe_terms::SystemName;

    use super::*;

    fn roles(names: &[&str], systems: &[&str]) -> Roles {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let systems: Vec<SystemName> = systems.iter().map(|name| name.parse().unwrap()).collect();
        Roles::named(&names, &systems).unwrap()
    }

    fn configured(names: &[&str]) -> Vec<SystemSettings> {
        let text = |name: &&str| format!("name = \"{name}\"\nkind = \"sql\"");
        names
            .iter()
            .map(|name| toml::from_str(&text(name)).unwrap())
            .collect()
    }

    async fn taken(folder: &Path, roles: &Roles, systems: &[SystemSettings]) -> Result<Held, Error> {
        take(folder, roles, systems, drop).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_one_process_at_a_time_and_waited_for_a_little() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("ledger-1");
        let first = take_name(&own, "ledger-1").await.unwrap();
        let refused = take_name(&own, "ledger-1").await.unwrap_err();
        assert_eq!(refused.code(), "node-name-taken");
        assert!(
            refused
                .to_string()
                .contains("another process named ledger-1 runs"),
            "{refused}"
        );
        let dying = async {
            tokio::time::sleep(NAME_PATIENCE / 2).await;
            drop(first);
        };
        let (taken, ()) = tokio::join!(take_name(&own, "ledger-1"), dying);
        taken.unwrap();
    }

    #[tokio::test]
    async fn one_process_has_a_role_and_another_gets_it_when_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = taken(folder.path(), &roles(&["intake", "gateway"], &[]), &[])
            .await
            .unwrap();
        taken(folder.path(), &roles(&["conductor", "lineage"], &[]), &[])
            .await
            .unwrap();
        let second = roles(&["intake"], &[]);
        let waits = taken(folder.path(), &second, &[]);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending(), "the first one lives");
        assert!(try_take(folder.path(), &second, &[]).unwrap().is_none());
        drop(first);
        drop(waits.await.unwrap());
        assert!(try_take(folder.path(), &second, &[]).unwrap().is_some());
    }

    #[tokio::test]
    async fn processes_host_different_systems_side_by_side_and_none_twice() {
        let (folder, systems) = (tempfile::tempdir().unwrap(), configured(&["crm", "shop"]));
        let crm = taken(folder.path(), &roles(&["connectors"], &["crm"]), &systems)
            .await
            .unwrap();
        let shop = taken(folder.path(), &roles(&["connectors"], &["shop"]), &systems)
            .await
            .unwrap();
        let all = roles(&["connectors"], &[]);
        let waits = taken(folder.path(), &all, &systems);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending(), "both are hosted");
        drop((crm, shop));
        waits.await.unwrap();
    }
}
