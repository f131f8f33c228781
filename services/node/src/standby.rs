//! Roles of which one process at a time may run: who comes second stands by, and goes on when the first one ends.
//!
//! Two conductors would fence each other off without end. Two hosts of one system would each take the other's word for old news: what one has
//! ended the other appends again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use crate::Error;
use crate::roles::{Role, Roles};

/// How often a process that stands by looks whether the role is free.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// In this order everywhere, so that no two processes wait for each other. The ledger has a lock of its own.
const SOLE: [Role; 2] = [Role::Conductor, Role::Connectors];

/// Roles that nobody else of the installation has while this lives.
pub(crate) struct Held {
    _locks: Vec<File>,
}

/// Takes those of the roles of which one process may run, and waits as long as another has one.
///
/// # Errors
/// Where the folder cannot be written.
pub(crate) async fn take(folder: &Path, roles: &Roles) -> Result<Held, Error> {
    let unusable = |_| Error::Roles {
        reason: "the folder `roles` below data_dir cannot be written: expected one that this user may write",
    };
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(unusable)?;
    let mut locks = Vec::new();
    for role in SOLE.into_iter().filter(|role| roles.has(*role)) {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(folder.join(role.name())).map_err(unusable)?;
        let mut said = false;
        while let Err(why) = lock.try_lock() {
            if let TryLockError::Error(error) = why {
                return Err(unusable(error));
            }
            if !said {
                eprintln!("lethe: standing by: another process has the role {}", role.name());
                said = true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        locks.push(lock);
    }
    Ok(Held { _locks: locks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &[&str]) -> Roles {
        Roles::named(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[tokio::test]
    async fn one_process_has_a_role_and_another_gets_it_when_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path(), &roles(&["conductor", "gateway"]))
            .await
            .unwrap();
        take(folder.path(), &roles(&["connectors", "lineage"]))
            .await
            .unwrap();
        let second = roles(&["conductor"]);
        let waits = take(folder.path(), &second);
        tokio::pin!(waits);
        assert!(futures::poll!(&mut waits).is_pending(), "the first one lives");
        drop(first);
        waits.await.unwrap();
    }
}
