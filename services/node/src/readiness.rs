//! Whether the server can take work now, and what is in the way.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lethe_gateway::views::{FindingView, HealthView};
use lethe_journal::{Place, Stream};
use lethe_log::EventLog;

use crate::cases::Cases;
use crate::cluster::Cluster;
use crate::janitor::LogHealth;
use crate::patience::Answering;
use crate::processes::{self, Processes};
use crate::shell;

/// How long the log may take to answer: whoever probes asks every few seconds.
const PROBE_TIME_MAX: Duration = Duration::from_secs(3);

/// What is looked at.
pub(crate) struct Readiness {
    /// The log itself, without patience.
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) log_health: LogHealth,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) cases: Cases,
    /// The other processes; nothing where this one does everything.
    pub(crate) processes: Option<Arc<Processes>>,
}

impl Readiness {
    pub(crate) async fn look(&self) -> HealthView {
        let mut parts = vec![self.log().await, self.stored(), self.histories()];
        parts.extend(self.roles());
        HealthView {
            ok: parts.iter().all(|part| part.ok),
            parts,
        }
    }

    async fn log(&self) -> FindingView {
        let at = Place::new(Stream::Commands, 0);
        let why = match self.answering.silent_since() {
            Some(since) => Some(format!(
                "has not answered for {} s",
                shell::now().since(since) / 1_000
            )),
            None => match tokio::time::timeout(PROBE_TIME_MAX, self.log.head(&at)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("has not answered within {} s", PROBE_TIME_MAX.as_secs())),
            },
        };
        finding("log", why)
    }

    /// What keeps the entries: files that were read again, or topics.
    fn stored(&self) -> FindingView {
        if self.cluster.is_there() {
            let (ok, detail) = self.cluster.stands();
            return FindingView {
                what: "topics".to_owned(),
                ok,
                detail,
            };
        }
        let damage = *self.log_health.lock().unwrap_or_else(PoisonError::into_inner);
        finding("stored entries", damage.map(str::to_owned))
    }

    fn histories(&self) -> FindingView {
        let damaged = self.cases.look().damaged().count();
        finding(
            "case histories",
            (damaged > 0).then(|| format!("{damaged} cannot be folded")),
        )
    }

    fn roles(&self) -> Option<FindingView> {
        let missing = self.processes.as_ref()?.missing();
        Some(finding(
            "roles",
            (!missing.is_empty()).then(|| processes::in_words(&missing)),
        ))
    }
}

fn finding(what: &str, why: Option<String>) -> FindingView {
    FindingView {
        what: what.to_owned(),
        ok: why.is_none(),
        detail: why.unwrap_or_default(),
    }
}
