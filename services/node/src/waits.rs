//! What a process waits for before its roles run: told on stderr, and by `/readyz` of a gateway.
//!
//! A start may take as long as others need who have to come, to end or to be mended. Whoever looks must see for whom it waits, and whoever
//! wants it to end must not have to wait, too.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_gateway::views::{FindingView, HealthView};
use tokio::time::Instant;

use crate::Error;
use crate::patience::Answering;

/// How often is looked what is waited for: what takes less is a part of every start, and nobody has to be told.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After so long the same is said again, for whoever looks at the end of the output only.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// What a process waits for.
pub(crate) struct Waits {
    pub(crate) answering: Arc<Answering>,
    /// What it does now or who is in the way, in words.
    stage: Mutex<String>,
    is_over: AtomicBool,
}

impl Waits {
    pub(crate) fn new(answering: Answering) -> Self {
        Self {
            answering: Arc::new(answering),
            stage: Mutex::new("the log is opened".to_owned()),
            is_over: AtomicBool::new(false),
        }
    }

    /// What it waits for from now on.
    pub(crate) fn now(&self, stage: impl Into<String>) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage.into();
    }

    /// It waits for nothing any more: its roles run.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether its roles run.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// What it waits for, in words.
    pub(crate) fn words(&self) -> String {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.answering.silence() {
            Some((since, code)) => format!("the log does not answer since {since} ({code}); {stage}"),
            None => stage,
        }
    }

    /// The same as a gateway shows it.
    pub(crate) fn health(&self) -> HealthView {
        let start = FindingView {
            what: "start".to_owned(),
            ok: false,
            detail: format!("waits: {}", self.words()),
        };
        HealthView {
            ok: false,
            parts: vec![start],
        }
    }

    /// Does a part of the start, and says meanwhile what it waits for; nothing where the process is told to stop before it is done.
    pub(crate) async fn during<T>(
        &self,
        start: impl Future<Output = Result<T, Error>>,
        told_to_stop: impl Future<Output = ()>,
    ) -> Result<Option<T>, Error> {
        tokio::select! {
            started = start => started.map(Some),
            () = told_to_stop => Ok(None),
            never = self.say() => match never {},
        }
    }

    async fn say(&self) -> Infallible {
        let mut said: Option<(String, Instant)> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let words = self.words();
            let is_news = |(before, at): &(String, Instant)| *before != words || at.elapsed() >= SAY_AGAIN;
            if said.as_ref().is_none_or(is_news) {
                eprintln!("lethe: waits: {words}");
                said = Some((words, Instant::now()));
            }
        }
    }
}
