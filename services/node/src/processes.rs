//! Who of several processes lives: each tells on the `systems` table now and then, and gateways read it.
//!
//! A role has nobody only when the last process that had it was silent for a while. So a process that is started again, or that the log
//! keeps waiting for a moment, makes nobody flap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_journal::{Event, LagTold, Place, ProcessTold, Stored, Stream};
use lethe_log::EventLog;
use lethe_terms::Timestamp;
use tokio::sync::watch;

use crate::lag::Lags;
use crate::roles::{Role, Roles};
use crate::{Error, following, publish};

/// How often a process tells that it lives: the table grows with each time.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// After so long without a word, in milliseconds, a process is taken for gone: three words were missed, and a start takes less.
const SILENT_MAX_MS: i64 = 35_000;

/// How long the word that a process stops may take: nobody waits for it.
const LAST_WORD_TIME_MAX: Duration = Duration::from_secs(2);

/// Processes that are remembered, the last heard of: names of instances are few, and a name that was given up ends here.
const PROCESSES_MAX: usize = 64;

/// Before the name of a process in the keys of the table: no system's name has a colon.
const KEY_PREFIX: &str = "process:";

/// Whether an entry of `systems` is a process's.
pub(crate) fn is_process(stored: &Stored) -> bool {
    stored.entry.key.starts_with(KEY_PREFIX.as_bytes())
}

/// Which process this is.
#[derive(Debug, Clone)]
pub(crate) struct Oneself {
    pub(crate) instance: String,
    pub(crate) roles: Roles,
    pub(crate) since: Timestamp,
}

impl Oneself {
    fn told(&self, is_stopping: bool, lags: Vec<LagTold>) -> ProcessTold {
        let own = Role::ALL.into_iter().filter(|role| self.roles.has(*role));
        ProcessTold {
            instance: self.instance.clone(),
            roles: own.map(|role| role.name().to_owned()).collect(),
            since: self.since,
            is_stopping,
            lags,
        }
    }
}

/// The processes that were heard of.
pub(crate) struct Processes {
    oneself: Oneself,
    /// The roles that somebody must have.
    needed: Vec<Role>,
    told: Mutex<BTreeMap<String, (Timestamp, ProcessTold)>>,
}

impl Processes {
    pub(crate) const fn new(oneself: Oneself, needed: Vec<Role>) -> Self {
        Self {
            oneself,
            needed,
            told: Mutex::new(BTreeMap::new()),
        }
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<String, (Timestamp, ProcessTold)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each role that nobody has, with the process that had it last and for how many seconds it has been silent.
    pub(crate) fn missing(&self, now: Timestamp) -> Vec<(Role, Option<(String, i64)>)> {
        let told = self.told();
        let last_with = |role: Role| {
            let with = told
                .values()
                .filter(|(_, process)| process.roles.contains(role.name()));
            with.max_by_key(|(at, _)| *at)
        };
        let needed = self.needed.iter().copied();
        let elsewhere = needed.filter(|role| !self.oneself.roles.has(*role));
        elsewhere
            .filter_map(|role| match last_with(role) {
                Some((at, _)) if now.since(*at) <= SILENT_MAX_MS => None,
                Some((at, process)) => Some((role, Some((process.instance.clone(), now.since(*at) / 1_000)))),
                None => Some((role, None)),
            })
            .collect()
    }

    /// How far the readers of all other processes are that live, by the process.
    pub(crate) fn lags(&self, now: Timestamp) -> Vec<(String, LagTold)> {
        let told = self.told();
        let live = told.values().filter(|(at, _)| now.since(*at) <= SILENT_MAX_MS);
        live.filter(|(_, process)| process.instance != self.oneself.instance)
            .flat_map(|(_, process)| {
                process
                    .lags
                    .iter()
                    .map(|lag| (process.instance.clone(), lag.clone()))
            })
            .collect()
    }

    /// Name of this process.
    pub(crate) fn own_name(&self) -> &str {
        &self.oneself.instance
    }

    fn hear(&self, at: Timestamp, process: ProcessTold) {
        let mut told = self.told();
        told.insert(process.instance.clone(), (at, process));
        if told.len() > PROCESSES_MAX {
            let oldest = told.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                told.remove(&name);
            }
        }
    }

    /// Reads what processes tell, until `stop`.
    pub(crate) async fn follow(
        self: Arc<Self>,
        log: Arc<dyn EventLog>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let take = |entries: &[Stored]| {
            for stored in entries.iter().filter(|stored| is_process(stored)) {
                if let Some(value) = &stored.entry.value {
                    let event = Event::<ProcessTold>::decode(value)?;
                    self.hear(event.time, event.data);
                }
            }
            Ok(())
        };
        following::follow(log, Stream::Systems, take, stop).await
    }
}

/// Tells the others that this process lives, until `stop`, and then that it stops.
pub(crate) async fn tell(
    oneself: Oneself,
    lags: Arc<Lags>,
    log: Arc<dyn EventLog>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    while !*stop.borrow() {
        tell_once(&*log, &oneself, false, lags.measured()).await;
        tokio::select! {
            () = tokio::time::sleep(TELL_EVERY) => {}
            _ = stop.changed() => {}
        }
    }
    let last = tell_once(&*log, &oneself, true, Vec::new());
    // Where it does not come through, silence says the same.
    let _ = tokio::time::timeout(LAST_WORD_TIME_MAX, last).await;
    Ok(())
}

async fn tell_once(log: &dyn EventLog, oneself: &Oneself, is_stopping: bool, lags: Vec<LagTold>) {
    let key = format!("{KEY_PREFIX}{}", oneself.instance);
    let told = oneself.told(is_stopping, lags);
    let appended = async {
        let entry = publish::entry(key.as_bytes(), "/lethe/connectors", told)?;
        publish::append(log, &Place::new(Stream::Systems, 0), vec![entry], "systems").await
    };
    if let Err(error) = appended.await {
        tracing::warn!(code = error.code(), "this process could not tell that it lives");
    }
}

/// The roles in words, such as `conductor, ledger`.
pub(crate) fn in_words(missing: &[(Role, Option<(String, i64)>)]) -> String {
    let mut words = BTreeSet::new();
    for (role, last) in missing {
        words.insert(match last {
            Some((instance, silent_s)) => {
                format!(
                    "nobody is {}: {instance} was last heard of {silent_s} s ago",
                    role.name()
                )
            }
            None => format!("nobody is {}, and nobody ever was", role.name()),
        });
    }
    words.into_iter().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use lethe_log::MemoryLog;

    use super::*;
    use crate::shell;

    fn oneself(instance: &str, roles: &[&str]) -> Oneself {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        Oneself {
            instance: instance.to_owned(),
            roles: Roles::named(&roles, &[]).unwrap(),
            since: shell::now(),
        }
    }

    /// Nobody publishes.
    const NEEDED: [Role; 5] = [
        Role::Gateway,
        Role::Lineage,
        Role::Conductor,
        Role::Ledger,
        Role::Connectors,
    ];

    fn later(ms: i64) -> Timestamp {
        Timestamp::from_millis(shell::now().millis() + ms)
    }

    #[tokio::test]
    async fn a_role_has_nobody_once_its_last_process_was_silent_for_a_while_and_a_short_stop_is_no_news() {
        let log = Arc::new(MemoryLog::new());
        let gateway = Arc::new(Processes::new(
            oneself("gateway", &["gateway", "lineage"]),
            NEEDED.into(),
        ));
        let names = |now| -> Vec<&str> { gateway.missing(now).iter().map(|(role, _)| role.name()).collect() };
        assert_eq!(
            names(shell::now()),
            ["conductor", "ledger", "connectors"],
            "nobody was heard of"
        );

        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(Arc::clone(&gateway).follow(Arc::clone(&log) as _, stopped.clone()));
        let core = oneself("core", &["conductor", "ledger"]);
        let lags = Arc::new(Lags::new(Arc::clone(&log) as _));
        let telling = tokio::spawn(tell(core, lags, Arc::clone(&log) as _, stopped));
        tell_once(&*log, &oneself("hosts", &["connectors"]), false, Vec::new()).await;
        while !names(shell::now()).is_empty() {
            tokio::task::yield_now().await;
        }
        // A process that says that it stops is waited for: it may be back in a moment.
        stop.send(true).unwrap();
        telling.await.unwrap().unwrap();
        following.await.unwrap().unwrap();
        let again = Processes::new(oneself("gateway", &["gateway", "lineage"]), NEEDED.into());
        let page = log.read(&Place::new(Stream::Systems, 0), 0, 99).await.unwrap();
        for stored in &page.entries {
            let event = Event::<ProcessTold>::decode(stored.entry.value.as_ref().unwrap()).unwrap();
            again.hear(event.time, event.data);
        }
        assert!(again.missing(later(1_000)).is_empty());
        let missing = again.missing(later(SILENT_MAX_MS + 2_000));
        assert_eq!(missing.len(), 3);
        let words = in_words(&missing);
        assert!(
            words.contains("nobody is ledger: core was last heard of 3"),
            "{words}"
        );
    }
}
