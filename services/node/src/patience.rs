//! A broker may be away for minutes, and everybody goes on when it is back.
//!
//! Reads are repeated until they are answered: repeating one changes nothing. Appends are not: what became of one is unknown, and only its
//! writer knows how to find out. A role whose append failed begins again from the log, as it does when the program starts. All this is for Kafka:
//! a log in files that failed needs a new start of the program.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::{Entry, Epoch, Place, Position, Stream};
use lethe_log::{Appended, Error, EventLog, GoneBy, Page};
use lethe_terms::Timestamp;
use tokio::sync::watch;

use crate::shell;

/// First pause before something is tried again: an election of a leader takes less.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// Longest pause: a broker that is back is noticed so late.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses that grow.
pub(crate) struct Pauses(Duration);

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self(PAUSE_FIRST)
    }

    /// Rests, longer each time, but not beyond `stop`.
    pub(crate) async fn rest(&mut self, stop: &mut watch::Receiver<bool>) {
        // Where the sender is gone, everything has stopped.
        let _ = tokio::time::timeout(self.0, stop.wait_for(|stop| *stop)).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }
}

/// Whether the log answers, as the readers of this process find.
pub(crate) struct Answering {
    /// Whether a log that failed may be well again while the process runs. The embedded one is not: after a commit that failed only a new start
    /// shows what is durable.
    comes_back: bool,
    /// Reads that wait for an answer, by a number: since when each does, and the code of its first failure. One that is answered says nothing
    /// of another: rights may be missing on one topic alone.
    unanswered: Mutex<BTreeMap<u64, Silence>>,
    retries: AtomicU64,
}

/// Since when the log has not answered, and by what code it was told.
pub(crate) type Silence = (Timestamp, &'static str);

impl Answering {
    pub(crate) const fn new(comes_back: bool) -> Self {
        Self {
            comes_back,
            unanswered: Mutex::new(BTreeMap::new()),
            retries: AtomicU64::new(0),
        }
    }

    /// Whether what failed may go well when it is done again in a while.
    pub(crate) const fn passes(&self, error: &crate::Error) -> bool {
        error.is_of_the_moment() && (self.comes_back || !error.is_silent_log())
    }

    fn unanswered(&self) -> MutexGuard<'_, BTreeMap<u64, Silence>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest silence that a read meets now; nothing while all are answered.
    pub(crate) fn silence(&self) -> Option<Silence> {
        self.unanswered().values().min().copied()
    }

    /// Since when the log has not answered; nothing while it does.
    pub(crate) fn silent_since(&self) -> Option<Timestamp> {
        self.silence().map(|(since, _)| since)
    }

    /// Reads that were repeated since the start.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    fn was_silent(&self, error: &Error) -> Unanswered<'_> {
        let mut unanswered = self.unanswered();
        if unanswered.is_empty() {
            tracing::warn!(code = error.code(), %error, "the log does not answer: reading is tried again until it does");
        }
        let number = unanswered.last_key_value().map_or(0, |(last, _)| last + 1);
        unanswered.insert(number, (shell::now(), error.code()));
        Unanswered {
            answering: self,
            number,
        }
    }
}

/// A read that waits for an answer, until it has one or nobody wants it any more.
struct Unanswered<'a> {
    answering: &'a Answering,
    number: u64,
}

impl Unanswered<'_> {
    fn answered(self) {
        let (answering, before) = (self.answering, self.answering.silent_since());
        drop(self);
        if let (Some(since), None) = (before, answering.silent_since()) {
            let silent_ms = shell::now().since(since);
            tracing::info!(silent_ms, "the log answers again");
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.answering.unanswered().remove(&self.number);
    }
}

/// A log whose reads are repeated until they are answered or the process stops.
pub(crate) struct Patient {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) stop: watch::Receiver<bool>,
}

impl Patient {
    /// Asks until there is an answer. What is corrupt stays so, and is told at once.
    async fn until_answered<T, A: Future<Output = Result<T, Error>> + Send>(
        &self,
        ask: impl Fn() -> A + Send + Sync,
    ) -> Result<T, Error> {
        let (mut pauses, mut stop) = (Pauses::new(), self.stop.clone());
        let mut unanswered = None;
        loop {
            match ask().await {
                Err(error @ (Error::NotStored(_) | Error::Unknown(_))) if !*stop.borrow() => {
                    self.answering.retries.fetch_add(1, Ordering::Relaxed);
                    unanswered.get_or_insert_with(|| self.answering.was_silent(&error));
                    pauses.rest(&mut stop).await;
                }
                Ok(answer) => {
                    if let Some(read) = unanswered {
                        read.answered();
                    }
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[async_trait]
impl EventLog for Patient {
    async fn acquire(&self, at: &Place) -> Result<Epoch, Error> {
        self.log.acquire(at).await
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, Error> {
        self.log.append(at, writer, entries).await
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
        self.until_answered(|| self.log.read(at, from, limit)).await
    }

    async fn head(&self, at: &Place) -> Result<Position, Error> {
        self.until_answered(|| self.log.head(at)).await
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error> {
        self.log.wait(at, position, patience).await
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        self.log.gone_by(stream)
    }

    async fn check(&self) -> Result<(), Error> {
        self.log.check().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use lethe_log::MemoryLog;

    use super::*;

    /// A log that is away for so many calls.
    struct Away {
        log: MemoryLog,
        calls: AtomicU32,
    }

    impl Away {
        fn call(&self) -> Result<(), Error> {
            let left = |calls: u32| calls.checked_sub(1);
            match self
                .calls
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            {
                Ok(_) => Err(Error::NotStored("the broker is away".into())),
                Err(_) => Ok(()),
            }
        }
    }

    #[async_trait]
    impl EventLog for Away {
        async fn acquire(&self, at: &Place) -> Result<Epoch, Error> {
            self.call()?;
            self.log.acquire(at).await
        }
        async fn append(
            &self,
            at: &Place,
            writer: Option<Epoch>,
            entries: Vec<Entry>,
        ) -> Result<Appended, Error> {
            self.call()?;
            self.log.append(at, writer, entries).await
        }
        async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
            self.call()?;
            self.log.read(at, from, limit).await
        }
        async fn head(&self, at: &Place) -> Result<Position, Error> {
            self.call()?;
            self.log.head(at).await
        }
        async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error> {
            self.log.wait(at, position, patience).await
        }
        fn gone_by(&self, stream: &Stream) -> GoneBy {
            self.log.gone_by(stream)
        }
        async fn check(&self) -> Result<(), Error> {
            self.log.check().await
        }
    }

    fn patient(calls: u32, stop: watch::Receiver<bool>) -> Patient {
        let away = Away {
            log: MemoryLog::new(),
            calls: AtomicU32::new(calls),
        };
        Patient {
            log: Arc::new(away),
            answering: Arc::new(Answering::new(true)),
            stop,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_outlasts_a_broker_that_is_away_for_minutes_and_an_append_does_not_repeat_itself() {
        let (_stop, stopped) = watch::channel(false);
        let (log, at) = (patient(40, stopped), Place::new(Stream::Commands, 0));
        assert!(
            log.append(&at, None, Vec::new()).await.is_err(),
            "an append is told at once"
        );
        let began = tokio::time::Instant::now();
        assert_eq!(log.read(&at, 0, 9).await.unwrap().head, 0);
        assert!(
            began.elapsed() > Duration::from_secs(120),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(
            (log.answering.silent_since(), log.answering.retries()),
            (None, 39)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_waits_is_told_although_others_are_answered_and_is_not_once_nobody_wants_it() {
        let (_stop, stopped) = watch::channel(false);
        let (mut log, at) = (
            patient(u32::MAX, stopped.clone()),
            Place::new(Stream::Commands, 0),
        );
        let other = patient(0, stopped);
        log.answering = Arc::clone(&other.answering);
        let waits = tokio::time::timeout(Duration::from_secs(60), log.read(&at, 0, 9));
        let (waited, ()) = tokio::join!(waits, async {
            while other.answering.silence().is_none() {
                tokio::time::sleep(PAUSE_FIRST).await;
            }
            other.read(&at, 0, 9).await.unwrap();
            let told = other.answering.silence();
            assert!(told.is_some_and(|(_, code)| code == "log-not-stored"), "{told:?}");
        });
        assert!(waited.is_err());
        assert_eq!(other.answering.silence(), None);
    }

    #[test]
    fn only_a_log_that_comes_back_is_waited_for() {
        let failed = crate::Error::Log(Error::Unknown("the commit failed".into()));
        let corrupt = crate::Error::Log(Error::Corrupt("an entry".into()));
        for (comes_back, expected) in [(true, [true, true, false]), (false, [false, true, false])] {
            let answering = Answering::new(comes_back);
            let passes = [&failed, &crate::Error::Lagging, &corrupt].map(|error| answering.passes(error));
            assert_eq!(passes, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waits_for_no_broker_and_what_is_corrupt_is_told_at_once() {
        let (stop, stopped) = watch::channel(false);
        let (log, at) = (
            patient(u32::MAX, stopped.clone()),
            Place::new(Stream::Commands, 0),
        );
        let (read, ()) = tokio::join!(log.read(&at, 0, 9), async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(log.answering.silent_since().is_some());
            stop.send(true).unwrap();
        });
        assert!(matches!(read, Err(Error::NotStored(_))));
        let log = patient(0, stopped);
        assert!(matches!(log.read(&at, 7, 9).await, Err(Error::Corrupt(_))));
    }
}
