//! The host: what every connector would otherwise have to do for itself. It paces, bounds, times out, pauses, catches panics, counts,
//! and repeats only what is safe to repeat.
//!
//! It writes no log: what passes through it is personal.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use lethe_terms::{DatasetName, ShardName, Verb};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use crate::{
    Ask, Connector, Error, FeedPage, Finding, Located, Manifest, Observed, Page, Performed, Selector,
};

/// Calls of one question at most, the first among them: what three attempts do not reach, the conductor tries later.
pub const ATTEMPTS_MAX: u32 = 3;
/// Waiting before the second attempt, in milliseconds; doubled before each further one.
pub const BACKOFF_MS: u64 = 200;
/// A cursor must fit into an entry of the log beside what it caused.
pub const CURSOR_BYTES_MAX: usize = 1024;

/// What was asked of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Connector::check`].
    Check,
    /// [`Connector::feed`].
    Feed,
    /// [`Connector::locate`].
    Locate,
    /// [`Connector::perform`].
    Perform,
    /// [`Connector::poll`].
    Poll,
    /// [`Connector::observe`].
    Observe,
    /// [`Connector::export`].
    Export,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 7] = [
        Self::Check,
        Self::Feed,
        Self::Locate,
        Self::Perform,
        Self::Poll,
        Self::Observe,
        Self::Export,
    ];

    /// Its name, as a metric's label.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Feed => "feed",
            Self::Locate => "locate",
            Self::Perform => "perform",
            Self::Poll => "poll",
            Self::Observe => "observe",
            Self::Export => "export",
        }
    }
}

/// How often a call was made and how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Attempts, repeats included.
    pub calls: u64,
    /// Attempts that failed in any way.
    pub failures: u64,
    /// Attempts whose outcome is unknown.
    pub unknown: u64,
}

#[derive(Default)]
struct Counter {
    calls: AtomicU64,
    failures: AtomicU64,
    unknown: AtomicU64,
}

/// A connector and the care that is taken of it.
pub struct Host {
    connector: Arc<dyn Connector>,
    permits: Semaphore,
    /// When the next call may begin.
    next: Mutex<Instant>,
    paused: watch::Sender<bool>,
    counters: [Counter; Call::ALL.len()],
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({})", self.manifest().system)
    }
}

impl Host {
    /// A host for this connector, with the bounds that its manifest declares.
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        let concurrency_max = connector
            .manifest()
            .concurrency_max
            .clamp(1, Semaphore::MAX_PERMITS);
        Self {
            permits: Semaphore::new(concurrency_max),
            next: Mutex::new(Instant::now()),
            paused: watch::Sender::new(false),
            counters: Default::default(),
            connector,
        }
    }

    /// What the connector declares of itself.
    pub fn manifest(&self) -> &Manifest {
        self.connector.manifest()
    }

    /// The connector itself, for the conformance suite.
    pub fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector)
    }

    /// Lets no further call begin; those under way end by themselves.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Lets calls begin again.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// Whether an operator paused it.
    pub fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    /// How often a call was made and how it went.
    pub fn count(&self, call: Call) -> Count {
        let counter = &self.counters[call as usize];
        Count {
            calls: counter.calls.load(Ordering::Relaxed),
            failures: counter.failures.load(Ordering::Relaxed),
            unknown: counter.unknown.load(Ordering::Relaxed),
        }
    }

    /// See [`Connector::check`]; also while paused, so that an operator can see whether to resume.
    pub async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.attempt(Call::Check, || self.connector.check()).await
    }

    /// See [`Connector::feed`].
    pub async fn feed(
        &self,
        shard: &ShardName,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<FeedPage, Error> {
        let page = self
            .repeat(Call::Feed, || self.connector.feed(shard, cursor, limit))
            .await?;
        if page.cursor.len() > CURSOR_BYTES_MAX {
            let reason = format!(
                "the cursor has {} bytes: expected at most {CURSOR_BYTES_MAX}",
                page.cursor.len()
            );
            return Err(Error::Permanent {
                code: "kit-cursor-too-long",
                reason,
            });
        }
        Ok(page)
    }

    /// See [`Connector::locate`].
    pub async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, Error> {
        let selector = self.own(selector);
        self.repeat(Call::Locate, || self.connector.locate(&selector, page.clone()))
            .await
    }

    /// See [`Connector::perform`]. What the manifest does not declare is refused here; a failure is repeated only where the system detects repeats.
    pub async fn perform(&self, ask: &Ask) -> Result<Performed, Error> {
        if let Some(refused) = self.refusal(ask) {
            return Ok(refused);
        }
        let ask = self.own_ask(ask);
        if self.manifest().detects_repeats {
            return self.repeat(Call::Perform, || self.connector.perform(&ask)).await;
        }
        self.enter().await;
        self.attempt(Call::Perform, || self.connector.perform(&ask)).await
    }

    /// See [`Connector::poll`].
    pub async fn poll(&self, ask: &Ask, ticket: &str) -> Result<Performed, Error> {
        let ask = self.own_ask(ask);
        self.enter().await;
        self.attempt(Call::Poll, || self.connector.poll(&ask, ticket))
            .await
    }

    /// See [`Connector::observe`].
    pub async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Error> {
        let selector = self.own(selector);
        self.repeat(Call::Observe, || self.connector.observe(dataset, &selector))
            .await
    }

    /// See [`Connector::export`].
    pub async fn export(
        &self,
        selector: &Selector,
        page: Page,
    ) -> Result<(Vec<serde_json::Value>, Page), Error> {
        let selector = self.own(selector);
        self.repeat(Call::Export, || self.connector.export(&selector, page.clone()))
            .await
    }

    /// The selector without ids of issuers whose ids the system does not hold: there they may be anybody's.
    fn own(&self, selector: &Selector) -> Selector {
        let mut own = selector.clone();
        own.identifiers.retain(|one| self.manifest().knows(one));
        own
    }

    fn own_ask(&self, ask: &Ask) -> Ask {
        Ask {
            selector: self.own(&ask.selector),
            ..ask.clone()
        }
    }

    fn refusal(&self, ask: &Ask) -> Option<Performed> {
        let Some(dataset) = self.manifest().datasets.iter().find(|d| d.name == ask.dataset) else {
            let reason = format!("the system declares no dataset {}", ask.dataset);
            return Some(Performed::Refused {
                code: "kit-unknown-dataset",
                reason,
            });
        };
        let can = matches!(ask.verb, Verb::Erase | Verb::Restrict | Verb::Lift)
            && dataset.verbs.contains(&ask.verb);
        let reason = || {
            format!(
                "dataset {} cannot {}: expected what its manifest declares",
                ask.dataset, ask.verb
            )
        };
        (!can).then(|| Performed::Refused {
            code: "kit-verb-not-supported",
            reason: reason(),
        })
    }

    /// Waits while paused.
    async fn enter(&self) {
        let mut paused = self.paused.subscribe();
        // The sender lives as long as the host, so waiting cannot fail.
        let _ = paused.wait_for(|paused| !paused).await;
    }

    /// Asks again after failures that did not happen and may pass. A call that ran out of its time is not repeated here: the system has enough to do.
    async fn repeat<T, F>(&self, call: Call, mut ask: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let mut backoff_ms = BACKOFF_MS;
        for _ in 1..ATTEMPTS_MAX {
            self.enter().await;
            match self.attempt(call, &mut ask).await {
                Err(Error::Transient { code, .. }) if code != TIMEOUT => {}
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(backoff_ms)).await;
            backoff_ms *= 2;
        }
        self.enter().await;
        self.attempt(call, ask).await
    }

    /// Waits for a free place and for its turn in the pace.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        let permit = self.permits.acquire().await.ok();
        let pace = Duration::from_millis(self.manifest().pace_ms);
        if !pace.is_zero() {
            let begin = {
                let mut next = self.next.lock().await;
                let begin = (*next).max(Instant::now());
                *next = begin + pace;
                begin
            };
            tokio::time::sleep_until(begin).await;
        }
        permit
    }

    /// One call, within its time, with its panics caught, counted.
    async fn attempt<T, F>(&self, call: Call, ask: impl FnOnce() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let _permit = self.turn().await;
        let timeout = Duration::from_millis(self.manifest().timeout_ms);
        let answer =
            tokio::time::timeout(timeout, AssertUnwindSafe(async { ask().await }).catch_unwind()).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(panicked(call)),
            Err(_) => Err(timed_out(call, timeout)),
        };
        let counter = &self.counters[call as usize];
        counter.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = &answer {
            counter.failures.fetch_add(1, Ordering::Relaxed);
            counter.unknown.fetch_add(
                u64::from(matches!(error, Error::Unknown { .. })),
                Ordering::Relaxed,
            );
        }
        answer
    }
}

const TIMEOUT: &str = "kit-timeout";

/// No answer to a reading call means that nothing happened; no answer to work means that nobody knows.
fn timed_out(call: Call, timeout: Duration) -> Error {
    let reason = format!("no answer within {} ms", timeout.as_millis());
    match call {
        Call::Perform => Error::Unknown {
            code: TIMEOUT,
            reason,
        },
        _ => Error::Transient {
            code: TIMEOUT,
            reason,
        },
    }
}

/// What a connector did before it broke down in the middle of work, nobody knows. The panic's own message may be personal and is not passed on.
fn panicked(call: Call) -> Error {
    let (code, reason) = (
        "kit-connector-panicked",
        format!(
            "the connector broke down in {}: a defect of the connector",
            call.code()
        ),
    );
    match call {
        Call::Perform => Error::Unknown { code, reason },
        _ => Error::Permanent { code, reason },
    }
}
