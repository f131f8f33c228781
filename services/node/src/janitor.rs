//! The eraser erases itself: compacts log and stores once something has been ended for a while, and drops what queues have handed over.

use std::collections::BTreeMap;
use std::fmt;
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
            let waited = waits_since.map(|since| u64::try_from(shell::now().since(since)).unwrap_or(0));
            let compacts = waited.is_some_and(|waited_ms| Duration::from_millis(waited_ms) >= self.after);
            if compacts {
                (compacted_to, waits_since) = if self.compact().await.end()? {
                    (gone, None)
                } else {
                    (compacted_to, Some(shell::now()))
                };
            }
            // Also where no record ended here: a process without partitions reads queues, too.
            if compacts || shell::now().since(dropped_at) >= DROP_EVERY_MS {
                dropped_at = shell::now();
                self.drop_passed(&stop).await.end()?;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Compacts the tables and their folds.
    async fn compact(&self) -> Round<'_> {
        let mut round = Round::new(&self.answering);
        for stream in [Stream::Records, Stream::Keys] {
            let seen = self.owners.positions(&stream);
            let compacted = self.log.compact(&stream, &seen).await;
            round.took(format_args!("compacting {stream}"), compacted);
        }
        for stream in [Stream::Cursors, Stream::Erased] {
            let compacted = self.log.compact(&stream, &self.intake.positions(&stream)).await;
            round.took(format_args!("compacting {stream}"), compacted);
        }
        let compacted = self.owners.compact().await;
        round.took(format_args!("compacting the rows"), compacted);
        round
    }

    /// Drops from the queues what their readers have behind them, and evidence whose time is over: an instruction holds sealed selectors, which
    /// must not outlive the case's own history. Whoever stops waits for one queue at most.
    async fn drop_passed(&self, stop: &watch::Receiver<bool>) -> Round<'_> {
        let mut round = Round::new(&self.answering);
        for (stream, passed) in &self.queues {
            if *stop.borrow() {
                return round;
            }
            let dropped = self.drop_start(stream, passed()).await;
            round.took(format_args!("dropping the start of {stream}"), dropped);
        }
        if let Some(quarantine) = &self.quarantine {
            let dropped = self.drop_decided(quarantine).await;
            round.took(format_args!("dropping the start of quarantine"), dropped);
        }
        let expired = self.evidence.sweep();
        if let Some(expired) = round.took(format_args!("dropping evidence that expired"), expired) {
            tracing::info!(expired, "what is over is dropped");
        }
        round
    }

    async fn drop_decided(&self, quarantine: &Quarantine) -> Result<(), Error> {
        quarantine.say_again().await?;
        self.drop_start(&Stream::Quarantine, Ok(quarantine.passed()))
            .await
    }

    async fn drop_start(&self, stream: &Stream, passed: Result<Position, Error>) -> Result<(), Error> {
        self.log.drop_start(stream, &BTreeMap::from([(0, passed?)])).await
    }
}

/// Steps that are all taken, whatever becomes of one: rights on one topic must not keep what stands in the others.
struct Round<'a> {
    answering: &'a Answering,
    is_whole: bool,
    /// The first failure that does not pass by itself.
    failed: Option<Error>,
}

impl<'a> Round<'a> {
    const fn new(answering: &'a Answering) -> Self {
        Self {
            answering,
            is_whole: true,
            failed: None,
        }
    }

    /// Tells of a step that failed.
    fn took<T>(&mut self, step: fmt::Arguments<'_>, taken: Result<T, Error>) -> Option<T> {
        match taken {
            Ok(taken) => Some(taken),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "put off: {step}");
                self.is_whole = false;
                if !self.answering.passes(&error) {
                    self.failed.get_or_insert(error);
                }
                None
            }
        }
    }

    /// Whether every step went well. Errors: the first failure that does not pass by itself.
    fn end(self) -> Result<bool, Error> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.is_whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use lethe_journal::{Entry, Place};
    use lethe_ledger::EvidenceStore;
    use lethe_log::{EmbeddedLog, OpenOptions};

    use super::*;
    use crate::nothing_known::NothingKnown;
    use crate::test_world::World;

    #[tokio::test]
    async fn what_cannot_be_dropped_from_one_queue_keeps_nothing_else() {
        let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
        let queues = [Stream::Commands, Stream::Answers];
        let log = EmbeddedLog::open(&folder.path().join("log"), &queues, OpenOptions::default()).unwrap();
        let answers = Place::new(Stream::Answers, 0);
        let entry = Entry {
            id: shell::entry_id(),
            key: b"step".to_vec(),
            value: Some(b"answer".to_vec()),
        };
        log.append(&answers, None, vec![entry]).await.unwrap();
        let passed = log.head(&answers).await.unwrap();
        let store = EvidenceStore::open(&folder.path().join("evidence")).unwrap();
        store.put("expired", b"evidence", shell::now()).unwrap();
        let no_right = || Error::Log(lethe_log::Error::NotStored("no right to delete".into()));
        let janitor = Janitor {
            log: Log::Embedded(Arc::new(log)),
            answering: Arc::new(Answering::new(true)),
            owners: Arc::new(Owners::none(&folder.path().join("lineage"))),
            intake: world.intake(Arc::new(NothingKnown)),
            evidence: Arc::new(Evidence {
                store,
                controller: "example".into(),
                days: 1,
                policy: Vec::new(),
            }),
            queues: vec![
                (Stream::Commands, Box::new(move || Err(no_right()))),
                (Stream::Answers, Box::new(move || Ok(passed))),
            ],
            quarantine: None,
            after: Duration::ZERO,
        };
        let is_whole = janitor.drop_passed(&world.stopped).await.end().unwrap();
        assert!(!is_whole, "what failed is told, and ends nothing");
        let left = janitor.log.port().read(&answers, 0, 9).await.unwrap();
        assert!(left.entries.is_empty(), "{left:?}");
        assert_eq!(janitor.evidence.store.list(), []);
    }
}
