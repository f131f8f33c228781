//! The eraser erases itself: compacts log and stores once something has been ended for a while, and drops what queues have handed over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_intake::Intake;
use lethe_journal::{Position, Stream};
use lethe_log::EventLog;
use lethe_store::Store;
use tokio::sync::watch;

use crate::evidence::Evidence;
use crate::lineage::Owners;
use crate::log::Log;
use crate::patience::Answering;
use crate::quarantine::Quarantine;
use crate::{Error, shell};

/// How often the janitor looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often what readers have behind them is dropped although no record ended, in milliseconds: sealed selectors stay no longer than they must.
const DROP_EVERY_MS: i64 = 600_000;

/// How often every stored entry is read again: damage on a disk is found by looking, and a mended copy must still be at hand.
const INSPECT_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Wait before the first inspection, so that it slows no start down.
const INSPECT_AFTER: Duration = Duration::from_secs(60);

/// The position before which all readers of a queue have read.
pub(crate) type Passed = Box<dyn Fn() -> Result<Position, Error> + Send + Sync>;

/// What a reader has behind it whose position stands in a store.
pub(crate) fn passed(store: &Arc<dyn Store>, stream: Stream) -> Passed {
    let store = Arc::clone(store);
    Box::new(move || Ok(store.position(&stream)?))
}

/// Code of what the last inspection of the log found wrong; nothing where all was well.
pub(crate) type LogHealth = Arc<Mutex<Option<&'static str>>>;

/// Reads every entry that is stored in files of this server now and then until `stop`. Damage is said, and stops nothing by itself: what can be read goes on.
pub(crate) async fn inspect(
    log: Arc<dyn EventLog>,
    health: LogHealth,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut pause = INSPECT_AFTER;
    while !*stop.borrow() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {
                let found = log.check().await.map_err(|error| error.code()).err();
                if let Some(code) = found {
                    tracing::error!(code, "the log is damaged or cannot be read");
                }
                *health.lock().unwrap_or_else(PoisonError::into_inner) = found;
                pause = if found.is_some() { INSPECT_AFTER } else { INSPECT_EVERY };
            }
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

/// Everything that compaction touches.
pub(crate) struct Janitor {
    pub(crate) log: Log,
    pub(crate) answering: Arc<Answering>,
    pub(crate) owners: Arc<Owners>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) evidence: Arc<Evidence>,
    /// Readers of queues: what each has behind it.
    pub(crate) queues: Vec<(Stream, Passed)>,
    /// What could not be read, in a process that follows it.
    pub(crate) quarantine: Option<Arc<Quarantine>>,
    /// How long an ended record may wait for compaction.
    pub(crate) after: Duration,
}

impl Janitor {
    /// Looks around until `stop`. What earlier runs of the server left is due after the start: nobody wrote down whether they came to it.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut compacted_to = self.owners.ended();
        let mut waits_since = Some(shell::now());
        let mut dropped_at = shell::now();
        while !*stop.borrow() {
            let gone = self.owners.ended();
            if gone != compacted_to && waits_since.is_none() {
                waits_since = Some(shell::now());
            }
            // Whether or not a record ended here: a process without partitions reads queues, too.
            if shell::now().since(dropped_at) >= DROP_EVERY_MS {
                dropped_at = shell::now();
                if let Err(error) = self.drop_passed().await
                    && !self.answering.passes(&error)
                {
                    return Err(error);
                }
            }
            let waited = waits_since.map(|since| u64::try_from(shell::now().since(since)).unwrap_or(0));
            if waited.is_some_and(|waited_ms| Duration::from_millis(waited_ms) >= self.after) {
                (compacted_to, waits_since) = match self.compact().await {
                    Ok(()) => (gone, None),
                    Err(error) if self.answering.passes(&error) => {
                        tracing::warn!(
                            code = error.code(),
                            "compaction is put off: the log does not answer"
                        );
                        (compacted_to, Some(shell::now()))
                    }
                    Err(error) => return Err(error),
                };
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Compacts the tables and their folds, and drops from the queues what their readers have behind them: an instruction holds
    /// sealed selectors, which must not outlive the case's own history.
    pub(crate) async fn compact(&self) -> Result<(), Error> {
        for stream in [Stream::Records, Stream::Keys] {
            let seen = self.owners.positions(&stream);
            self.log.compact(&stream, &seen).await?;
        }
        for stream in [Stream::Cursors, Stream::Erased] {
            self.log.compact(&stream, &self.intake.positions(&stream)).await?;
        }
        self.owners.compact().await?;
        self.drop_passed().await
    }

    /// Drops from the queues what their readers have behind them, and evidence whose time is over.
    async fn drop_passed(&self) -> Result<(), Error> {
        for (stream, passed) in &self.queues {
            self.log
                .drop_start(stream, &BTreeMap::from([(0, passed()?)]))
                .await?;
        }
        if let Some(quarantine) = &self.quarantine {
            let passed = quarantine.passed();
            self.log
                .drop_start(&Stream::Quarantine, &BTreeMap::from([(0, passed)]))
                .await?;
        }
        let expired = self.evidence.sweep()?;
        tracing::info!(expired, "what is over is dropped");
        Ok(())
    }
}
