//! Folds of processes that were stopped and did not come back.
//!
//! Nobody keeps their rows current, so they would go on holding what is erased. One that nobody wrote to for longer than a reader of a table may be
//! away is of no use to its process either, which would begin it anew; a process that only starts again finds its folds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::{Error, standby};

/// Shortest and longest pause between two looks: a restart takes less than a minute, and what is stale may stay for an hour more.
const LOOK_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(1);

/// The folders of all processes of the installation.
pub(crate) struct Departed {
    pub(crate) processes: PathBuf,
    /// How long a reader of a table may be away.
    pub(crate) away_max: Duration,
}

impl Departed {
    /// Looks around until `stop`.
    ///
    /// # Errors
    /// Where a look panics. What cannot be removed is told of, and tried again.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let pause = self.away_max.clamp(*LOOK_EVERY.start(), *LOOK_EVERY.end());
        while !*stop.borrow() {
            let (processes, away_max) = (self.processes.clone(), self.away_max);
            let looked = tokio::task::spawn_blocking(move || sweep(&processes, away_max, SystemTime::now()));
            let looked = looked.await.map_err(|_| Error::Stopped {
                what: "a look at folds of other processes",
            })?;
            if let Err(error) = looked {
                tracing::warn!(%error, "folds of processes that are gone could not be removed");
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }
}

/// Removes the folds below the folders of all processes that nobody has, and that were not written to for so long.
fn sweep(processes: &Path, away_max: Duration, now: SystemTime) -> io::Result<()> {
    for process in folders(processes)? {
        let folds = folders(&process.join("lineage"))?;
        let stale: Vec<_> = folds
            .into_iter()
            .filter(|fold| last_written(fold).is_ok_and(|at| is_older(at, away_max, now)))
            .collect();
        if stale.is_empty() {
            continue;
        }
        // Taken meanwhile, so that the process does not come back in between.
        let name = standby::lock_file(&process.join("lock"))?;
        if name.try_lock().is_err() {
            continue;
        }
        for fold in stale {
            fs::remove_dir_all(&fold)?;
            tracing::info!(fold = %fold.display(), "a fold was removed that its process left too long ago");
        }
    }
    Ok(())
}

fn is_older(at: SystemTime, than: Duration, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age > than)
}

/// When anything in a folder was last written to.
fn last_written(folder: &Path) -> io::Result<SystemTime> {
    let mut newest = fs::metadata(folder)?.modified()?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let written = if entry.file_type()?.is_dir() {
            last_written(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        newest = newest.max(written);
    }
    Ok(newest)
}

/// The folders in a folder; none where it is not there.
fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWAY_MAX: Duration = Duration::from_hours(84);

    /// A fold of a process, which was last written to now.
    fn fold(processes: &Path, process: &str, partition: &str) -> PathBuf {
        let fold = processes.join(process).join("lineage").join(partition);
        fs::create_dir_all(fold.join("rows-1")).unwrap();
        fs::write(fold.join("rows-1").join("db"), "a row").unwrap();
        fold
    }

    fn later(by: Duration) -> SystemTime {
        SystemTime::now() + by
    }

    #[test]
    fn what_a_process_left_goes_when_it_was_away_for_too_long_to_go_on_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (gone, lives) = (
            fold(folder.path(), "lineage-2", "03"),
            fold(folder.path(), "lineage-1", "04"),
        );
        let _name = standby::try_take_name(&folder.path().join("lineage-1"), "lineage-1").unwrap();
        sweep(folder.path(), AWAY_MAX, later(AWAY_MAX / 2)).unwrap();
        assert!(gone.exists(), "it may start again");
        sweep(folder.path(), AWAY_MAX, later(AWAY_MAX * 2)).unwrap();
        assert!(!gone.exists());
        assert!(lives.exists(), "its process runs");
        assert!(
            folder.path().join("lineage-2").exists(),
            "whatever else is there stays"
        );
    }

    #[test]
    fn a_fold_that_was_written_to_stays_whatever_is_old_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let fold = fold(folder.path(), "lineage-2", "03");
        let old = fs::File::create(fold.join("manifest")).unwrap();
        old.set_modified(SystemTime::now() - AWAY_MAX * 2).unwrap();
        sweep(folder.path(), AWAY_MAX, SystemTime::now()).unwrap();
        assert!(fold.exists());
    }

    #[test]
    fn nothing_is_there_where_one_process_does_everything() {
        let folder = tempfile::tempdir().unwrap();
        sweep(&folder.path().join("processes"), AWAY_MAX, SystemTime::now()).unwrap();
    }
}
