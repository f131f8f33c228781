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
use tokio::time::Instant;

use crate::Error;
use crate::evidence::Evidence;
use crate::lineage::Owners;
use crate::log::Log;
use crate::patience::Answering;
use crate::quarantine::Quarantine;

/// How often the janitor looks whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often what readers have behind them is dropped although no record ended: sealed selectors stay no longer than they must.
const DROP_EVERY: Duration = Duration::from_secs(600);

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
        let mut waits_since = Some(Instant::now());
        let mut dropped_at = Instant::now();
        while !*stop.borrow() {
            let gone = self.owners.ended();
            if gone != compacted_to && waits_since.is_none() {
                waits_since = Some(Instant::now());
            }
            let compacts = waits_since.is_some_and(|since| since.elapsed() >= self.after);
            if compacts {
                (compacted_to, waits_since) = if self.compact().await.end()? {
                    (gone, None)
                } else {
                    (compacted_to, Some(Instant::now()))
                };
            }
            // Also where no record ended here: a process without partitions reads queues, too.
            if compacts || dropped_at.elapsed() >= DROP_EVERY {
                dropped_at = Instant::now();
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
    use std::path::Path;

    use lethe_journal::{Entry, Place};
    use lethe_ledger::EvidenceStore;
    use lethe_log::{EmbeddedLog, OpenOptions};

    use super::*;
    use crate::nothing_known::NothingKnown;
    use crate::shell;
    use crate::test_world::World;

    /// A janitor with an answer in its queue that was read, and another queue of which nobody knows that.
    async fn janitor(world: &World, folder: &Path) -> Janitor {
        let queues = [
            Stream::Records,
            Stream::Keys,
            Stream::Cursors,
            Stream::Erased,
            Stream::Commands,
            Stream::Answers,
        ];
        let log = EmbeddedLog::open(&folder.join("log"), &queues, OpenOptions::default()).unwrap();
        let answers = Place::new(Stream::Answers, 0);
        let entry = Entry {
            id: shell::entry_id(),
            key: b"step".to_vec(),
            value: Some(b"answer".to_vec()),
        };
        log.append(&answers, None, vec![entry]).await.unwrap();
        let passed = log.head(&answers).await.unwrap();
        let store = EvidenceStore::open(&folder.join("evidence")).unwrap();
        store.put("expired", b"evidence", shell::now()).unwrap();
        let no_right = || Error::Log(lethe_log::Error::NotStored("no right to delete".into()));
        Janitor {
            log: Log::Embedded(Arc::new(log)),
            answering: Arc::new(Answering::new(true)),
            owners: Arc::new(Owners::none(&folder.join("lineage"))),
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
        }
    }

    async fn answers_left(log: &dyn EventLog) -> usize {
        let page = log.read(&Place::new(Stream::Answers, 0), 0, 9).await;
        page.unwrap().entries.len()
    }

    #[tokio::test]
    async fn what_cannot_be_dropped_from_one_queue_keeps_nothing_else() {
        let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
        let janitor = janitor(&world, folder.path()).await;
        let is_whole = janitor.drop_passed(&world.stopped).await.end().unwrap();
        assert!(!is_whole, "what failed is told, and ends nothing");
        assert_eq!(answers_left(&*janitor.log.port()).await, 0);
        assert_eq!(janitor.evidence.store.list(), []);
    }

    /// Whether a janitor has dropped an answer that was read once so much time has passed, while the clock on the wall stands still.
    async fn is_dropped_once(passed: Duration, after: Duration) -> bool {
        let (folder, world) = (tempfile::tempdir().unwrap(), World::new());
        let janitor = Janitor {
            after,
            ..janitor(&world, folder.path()).await
        };
        let log = janitor.log.port();
        let running = tokio::spawn(janitor.run(world.stopped.clone()));
        // It has begun by then.
        tokio::task::yield_now().await;
        tokio::time::pause();
        tokio::time::advance(passed).await;
        tokio::time::resume();
        let dropped = async {
            while answers_left(&*log).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        let is_dropped = tokio::time::timeout(10 * LOOK_EVERY, dropped).await.is_ok();
        world.stop.send(true).unwrap();
        running.await.unwrap().unwrap();
        is_dropped
    }

    #[tokio::test]
    async fn what_is_due_is_done_although_the_clock_on_the_wall_stands_still() {
        let (soon, late) = (Duration::from_secs(60), 10 * DROP_EVERY);
        assert!(is_dropped_once(soon, soon).await);
        assert!(
            is_dropped_once(DROP_EVERY, late).await,
            "also where nothing ended"
        );
    }
}
