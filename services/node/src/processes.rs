//! Who of several processes lives: each tells on the `systems` table now and then, and gateways read it.
//!
//! A role has nobody only when the last process that had it was silent for a while. So a process that is started again, or that the log
//! keeps waiting for a moment, makes nobody flap.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_journal::{LagTold, Place, ProcessTold, Stored, Stream};
use lethe_log::EventLog;
use lethe_terms::Timestamp;
use tokio::sync::watch;

use crate::lag::Lags;
use crate::looks::Heard;
use crate::roles::{Role, Roles};
use crate::{Error, following, poison, publish};

/// How often a process tells that it lives: the table grows with each time.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// After so long without a word a process is taken for gone: three words were missed, and a start takes less.
const SILENT_MAX: Duration = Duration::from_secs(35);

/// A process that has not got what others have by then stands by, and tells so: a start takes roles that are free at once.
const STANDS_BY_AFTER: Duration = Duration::from_secs(2);

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
    /// Whether it writes the ledger, where it has that role.
    pub(crate) is_writer: Arc<AtomicBool>,
}

impl Oneself {
    /// Whether the process does what the role is for, and does not stand by for it.
    fn does(&self, role: Role) -> bool {
        self.roles.has(role) && (role != Role::Ledger || self.is_writer.load(Ordering::Relaxed))
    }

    fn told(&self, is_stopping: bool, lags: Vec<LagTold>) -> ProcessTold {
        let own = Role::ALL.into_iter().filter(|role| self.roles.has(*role));
        let (roles, standing_by): (Vec<_>, Vec<_>) = own.partition(|role| self.does(*role));
        ProcessTold {
            instance: self.instance.clone(),
            roles: named(roles),
            standing_by: named(standing_by),
            since: self.since,
            is_stopping,
            lags,
        }
    }
}

fn named(roles: impl IntoIterator<Item = Role>) -> BTreeSet<String> {
    roles.into_iter().map(|role| role.name().to_owned()).collect()
}

/// The processes that were heard of.
pub(crate) struct Processes {
    oneself: Oneself,
    /// The roles that somebody must have.
    needed: Vec<Role>,
    known: Mutex<Known>,
}

/// What was heard.
#[derive(Default)]
struct Known {
    told: BTreeMap<String, (Heard, ProcessTold)>,
    /// Who had a role last, and when that was said. A process that starts again to stand by had it a moment ago.
    last_with: BTreeMap<Role, (Heard, String)>,
}

impl Known {
    /// What processes told that live.
    fn live(&self) -> impl Iterator<Item = &ProcessTold> {
        let live = self.told.values().filter(|(heard, _)| heard.age() <= SILENT_MAX);
        live.map(|(_, process)| process)
    }
}

/// A role that nobody has.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) role: Role,
    /// The process that had it last, and for how many seconds it has not been heard of as that.
    last: Option<(String, u64)>,
    /// Processes that live and stand by for it.
    standing_by: Vec<String>,
}

impl Processes {
    pub(crate) const fn new(oneself: Oneself, needed: Vec<Role>) -> Self {
        Self {
            oneself,
            needed,
            known: Mutex::new(Known {
                told: BTreeMap::new(),
                last_with: BTreeMap::new(),
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each role that nobody has.
    pub(crate) fn missing(&self) -> Vec<Missing> {
        let known = self.known();
        let elsewhere = self.needed.iter().filter(|role| !self.oneself.does(**role));
        let missing = elsewhere.filter_map(|role| {
            let last = known.last_with.get(role);
            if last.is_some_and(|(heard, _)| heard.age() <= SILENT_MAX) {
                return None;
            }
            Some(Missing {
                role: *role,
                last: last.map(|(heard, instance)| (instance.clone(), heard.age().as_secs())),
                standing_by: self.standing_by(&known, *role),
            })
        });
        missing.collect()
    }

    fn standing_by(&self, known: &Known, role: Role) -> Vec<String> {
        let others = known
            .live()
            .filter(|process| process.instance != self.oneself.instance)
            .filter(|process| process.standing_by.contains(role.name()) && !process.is_stopping)
            .map(|process| process.instance.clone());
        let own = self
            .oneself
            .roles
            .has(role)
            .then(|| self.oneself.instance.clone());
        others.chain(own).collect()
    }

    /// How far the readers of all other processes are that live, by the process.
    pub(crate) fn lags(&self) -> Vec<(String, LagTold)> {
        let known = self.known();
        let others = known.live();
        others
            .filter(|process| process.instance != self.oneself.instance)
            .flat_map(|process| {
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

    fn hear(&self, said: Timestamp, process: ProcessTold) {
        let (heard, mut known) = (Heard::now(said), self.known());
        for role in Role::ALL {
            if process.roles.contains(role.name()) {
                known.last_with.insert(role, (heard, process.instance.clone()));
            }
        }
        let told = &mut known.told;
        told.insert(process.instance.clone(), (heard, process));
        if told.len() > PROCESSES_MAX {
            let oldest = told.iter().max_by_key(|(_, (heard, _))| heard.age());
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
                if let Some(event) = poison::event_of(&Stream::Systems, stored)? {
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

/// Tells the others that this process waits for roles that another one has, for as long as somebody waits for this.
pub(crate) async fn tell_standing_by(oneself: &Oneself, log: &dyn EventLog) -> Infallible {
    tokio::time::sleep(STANDS_BY_AFTER).await;
    loop {
        let mut told = oneself.told(false, Vec::new());
        told.standing_by.append(&mut told.roles);
        append(log, told).await;
        tokio::time::sleep(TELL_EVERY).await;
    }
}

async fn tell_once(log: &dyn EventLog, oneself: &Oneself, is_stopping: bool, lags: Vec<LagTold>) {
    append(log, oneself.told(is_stopping, lags)).await;
}

async fn append(log: &dyn EventLog, told: ProcessTold) {
    let key = format!("{KEY_PREFIX}{}", told.instance);
    let appended = async {
        let entry = publish::entry(key.as_bytes(), "/lethe/connectors", told)?;
        publish::append(log, &Place::new(Stream::Systems, 0), vec![entry], "systems").await
    };
    if let Err(error) = appended.await {
        tracing::warn!(code = error.code(), "this process could not tell that it lives");
    }
}

/// The roles in words, such as `nobody is ledger: core was last heard of 40 s ago`.
pub(crate) fn in_words(missing: &[Missing]) -> String {
    let one = |missing: &Missing| {
        let mut words = match &missing.last {
            Some((instance, silent_s)) => {
                format!(
                    "nobody is {}: {instance} was last heard of {silent_s} s ago",
                    missing.role.name()
                )
            }
            None => format!("nobody is {}, and nobody ever was", missing.role.name()),
        };
        if !missing.standing_by.is_empty() {
            words.push_str(&format!(" ({} stands by)", missing.standing_by.join(", ")));
        }
        words
    };
    missing
        .iter()
        .map(one)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use lethe_journal::Event;
    use lethe_log::MemoryLog;

    use super::*;
    use crate::shell;

    fn oneself(instance: &str, roles: &[&str]) -> Oneself {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        Oneself {
            instance: instance.to_owned(),
            roles: Roles::named(&roles, &[]).unwrap(),
            since: shell::now(),
            is_writer: Arc::new(AtomicBool::new(true)),
        }
    }

    /// A process that stands by for the ledger.
    fn standing_by(instance: &str, roles: &[&str]) -> Oneself {
        let oneself = oneself(instance, roles);
        oneself.is_writer.store(false, Ordering::Relaxed);
        oneself
    }

    fn role_names(missing: &[Missing]) -> Vec<&'static str> {
        missing.iter().map(|missing| missing.role.name()).collect()
    }

    /// Nobody publishes.
    const NEEDED: [Role; 5] = [
        Role::Gateway,
        Role::Lineage,
        Role::Conductor,
        Role::Ledger,
        Role::Connectors,
    ];

    #[tokio::test]
    async fn a_role_has_nobody_once_its_last_process_was_silent_for_a_while_and_a_short_stop_is_no_news() {
        let log = Arc::new(MemoryLog::new());
        let gateway = Arc::new(Processes::new(
            oneself("gateway", &["gateway", "lineage"]),
            NEEDED.into(),
        ));
        let names = || role_names(&gateway.missing());
        assert_eq!(
            names(),
            ["conductor", "ledger", "connectors"],
            "nobody was heard of"
        );

        let (stop, stopped) = watch::channel(false);
        let following = tokio::spawn(Arc::clone(&gateway).follow(Arc::clone(&log) as _, stopped.clone()));
        let core = oneself("core", &["conductor", "ledger"]);
        let lags = Arc::new(Lags::new(Arc::clone(&log) as _));
        let telling = tokio::spawn(tell(core, lags, Arc::clone(&log) as _, stopped));
        tell_once(&*log, &oneself("hosts", &["connectors"]), false, Vec::new()).await;
        while !names().is_empty() {
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
        assert!(again.missing().is_empty());
        // Also where the clock on the wall does not go on.
        tokio::time::pause();
        tokio::time::advance(SILENT_MAX + Duration::from_secs(2)).await;
        let missing = again.missing();
        assert_eq!(missing.len(), 3);
        let words = in_words(&missing);
        assert!(
            words.contains("nobody is ledger: core was last heard of 3"),
            "{words}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_by_hides_no_writer_that_is_gone_and_whoever_takes_over_is_one() {
        let all = ["gateway", "lineage", "conductor", "connectors", "ledger"];
        let gateway = Processes::new(standing_by("gateway", &all), NEEDED.into());
        let at = shell::now();
        assert_eq!(
            role_names(&gateway.missing()),
            ["ledger"],
            "it only stands by itself"
        );
        gateway.hear(at, oneself("ledger-1", &["ledger"]).told(false, Vec::new()));
        let second = standing_by("ledger-2", &["ledger"]);
        let told = second.told(false, Vec::new());
        assert!(
            told.roles.is_empty() && told.standing_by.contains("ledger"),
            "{told:?}"
        );
        gateway.hear(at, told);
        assert!(gateway.missing().is_empty());
        // The writer is silent, and those who stand by are not.
        tokio::time::advance(SILENT_MAX + Duration::from_secs(1)).await;
        let late = shell::now();
        gateway.hear(late, second.told(false, Vec::new()));
        let words = in_words(&gateway.missing());
        assert_eq!(
            words,
            "nobody is ledger: ledger-1 was last heard of 36 s ago (ledger-2, gateway stands by)"
        );
        second.is_writer.store(true, Ordering::Relaxed);
        gateway.hear(late, second.told(false, Vec::new()));
        // The first one is back, and stands by: the other has told only a moment ago that it took over.
        gateway.hear(late, standing_by("ledger-1", &["ledger"]).told(false, Vec::new()));
        assert!(gateway.missing().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_waits_for_another_one_to_end_tells_none_of_its_roles_as_had() {
        let log = MemoryLog::new();
        let host = oneself("hosts-2", &["connectors", "intake"]);
        let waits = tell_standing_by(&host, &log);
        assert!(tokio::time::timeout(TELL_EVERY, waits).await.is_err());
        let page = log.read(&Place::new(Stream::Systems, 0), 0, 99).await.unwrap();
        assert_eq!(page.entries.len(), 1);
        let value = page.entries[0].entry.value.as_ref().unwrap();
        let told = Event::<ProcessTold>::decode(value).unwrap().data;
        let names = |roles: &BTreeSet<String>| roles.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(
            (names(&told.roles), names(&told.standing_by)),
            (String::new(), "connectors intake".into())
        );
    }
}
