//! The implementations under the suite.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lethe_journal::{Position, Stream};
use lethe_log::{Compaction, EmbeddedLog, Error, MemoryLog, OpenOptions};

use super::power_loss::PowerLossFiles;
use super::{Factory, Log, Subject, streams};

/// About so many operations on files open a log after a power loss.
const OPENING_OPERATIONS: u64 = 60;

macro_rules! subject {
    ($log:ty) => {
        #[async_trait]
        impl Subject for $log {
            async fn compact(
                &self,
                stream: &Stream,
                seen: &BTreeMap<u16, Position>,
            ) -> Result<Compaction, Error> {
                <$log>::compact(self, stream, seen).await
            }

            async fn expire(
                &self,
                stream: &Stream,
                before: &BTreeMap<u16, Position>,
            ) -> Result<Compaction, Error> {
                <$log>::expire(self, stream, before).await
            }
        }
    };
}

subject!(MemoryLog);
subject!(EmbeddedLog);

/// Logs in memory.
#[derive(Debug, Default)]
pub struct MemoryLogs;

#[async_trait]
impl Factory for MemoryLogs {
    async fn open(&self) -> Log {
        Arc::new(MemoryLog::new())
    }

    async fn reopen(&self, log: Log) -> Log {
        log
    }
}

/// Embedded logs, each in a folder of the file system.
#[derive(Debug, Default)]
pub struct FolderLogs {
    folders: Mutex<Vec<tempfile::TempDir>>,
}

impl FolderLogs {
    fn open_last(&self) -> Log {
        let folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = folders.last().expect("a log was opened before");
        Arc::new(EmbeddedLog::open(folder.path(), &streams(), OpenOptions::default()).expect("the log opens"))
    }
}

#[async_trait]
impl Factory for FolderLogs {
    async fn open(&self) -> Log {
        let folder = tempfile::tempdir().expect("a folder can be made");
        self.folders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(folder);
        self.open_last()
    }

    async fn reopen(&self, log: Log) -> Log {
        drop(log);
        self.open_last()
    }
}

/// Embedded logs, each on files that can lose power.
#[derive(Debug, Default)]
pub struct PowerLossLogs {
    kind: PowerLossFiles,
    files: Mutex<PowerLossFiles>,
}

impl PowerLossLogs {
    /// Logs on files of which syncs of bytes do nothing.
    pub fn that_lie_about_bytes() -> Self {
        Self {
            kind: PowerLossFiles::that_lie_about_bytes(),
            ..Self::default()
        }
    }

    /// Logs on files of which syncs of names do nothing.
    pub fn that_lie_about_names() -> Self {
        Self {
            kind: PowerLossFiles::that_lie_about_names(),
            ..Self::default()
        }
    }

    fn files(&self) -> PowerLossFiles {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn open_last(&self) -> Log {
        let log = EmbeddedLog::open_on(Arc::new(self.files()), &streams(), OpenOptions::default());
        Arc::new(log.expect("the log opens"))
    }
}

#[async_trait]
impl Factory for PowerLossLogs {
    async fn open(&self) -> Log {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = self.kind.fresh();
        self.open_last()
    }

    async fn reopen(&self, log: Log) -> Log {
        drop(log);
        self.open_last()
    }

    fn can_lose_power(&self) -> bool {
        true
    }

    fn cut_power_after(&self, operations: u64) {
        self.files().cut_after(operations);
    }

    async fn reopen_after_power_loss(&self, log: Log, seed: u64) -> Log {
        let files = self.files();
        files.cut_after(0);
        drop(log);
        files.power_loss(seed);
        if seed.is_multiple_of(3) {
            // The power may also go while the log opens.
            files.cut_after(seed / 3 % OPENING_OPERATIONS);
            drop(EmbeddedLog::open_on(
                Arc::new(files.clone()),
                &streams(),
                OpenOptions::default(),
            ));
            files.cut_after(0);
            files.power_loss(seed.rotate_left(32));
        }
        self.open_last()
    }
}
