//! How every configured system stands, wherever its connector is hosted. A process that does everything looks at its own hosts; otherwise hosts tell
//! on the `systems` table, and everybody else reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{DatasetRef, FailureCode, Inventory, Place, Stored, Stream, SystemTold};
use lethe_log::EventLog;
use lethe_terms::{SystemName, Timestamp};
use tokio::sync::watch;

use crate::patience::Answering;
use crate::processes::is_process;
use crate::scans::is_scan;
use crate::settings::SystemSettings;
use crate::systems::{System, away};
use crate::{Error, following, poison, publish, shell};

/// How often hosts look whether there is something to tell.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How often a system is told again of which there is no news but that its host lives, in milliseconds: the table grows with each time.
const ALIVE_EVERY_MS: i64 = 2_000;

/// After so long without a word, in milliseconds, a host is taken for gone: it tells every few seconds.
const SILENT_MAX_MS: i64 = 30_000;

/// The code of a host that is taken for gone.
pub(crate) const SILENT: &str = lethe_gateway::words::HOST_SILENT;

/// How often somebody who waits for feeds looks again: a feed without news is read in milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How every configured system stands.
pub(crate) struct Board {
    settings: BTreeMap<SystemName, SystemSettings>,
    flows: Vec<(DatasetRef, DatasetRef)>,
    /// Systems whose connectors this process hosts.
    here: BTreeMap<SystemName, Arc<System>>,
    /// What hosts elsewhere told.
    told: watch::Sender<BTreeMap<SystemName, (Timestamp, SystemTold)>>,
}

impl Board {
    pub(crate) fn new(
        settings: &[SystemSettings],
        flows: Vec<(DatasetRef, DatasetRef)>,
        here: BTreeMap<SystemName, Arc<System>>,
    ) -> Self {
        let settings = settings
            .iter()
            .map(|system| (system.name.clone(), system.clone()))
            .collect();
        Self {
            settings,
            flows,
            here,
            told: watch::Sender::new(BTreeMap::new()),
        }
    }

    /// A system whose connector this process hosts.
    pub(crate) fn hosted(&self, name: &SystemName) -> Option<&Arc<System>> {
        self.here.get(name)
    }

    /// How one system stands; nothing where it is not configured.
    pub(crate) fn system(&self, name: &SystemName) -> Option<SystemTold> {
        let settings = self.settings.get(name)?;
        if let Some(system) = self.here.get(name) {
            return Some(system.told());
        }
        let Some((at, mut told)) = self.told.borrow().get(name).cloned() else {
            return Some(silent(settings.name.clone(), settings.kind.clone()));
        };
        if shell::now().since(at) > SILENT_MAX_MS {
            told.failure = Some(FailureCode(SILENT.into()));
        }
        Some(told)
    }

    /// How all systems stand.
    pub(crate) fn systems(&self) -> impl Iterator<Item = SystemTold> {
        self.settings.keys().filter_map(|name| self.system(name))
    }

    /// What is known when a plan is made.
    pub(crate) fn inventory(&self) -> Inventory {
        Inventory {
            systems: self.systems().map(|told| told.inventory).collect(),
            flows: self.flows.clone(),
        }
    }

    /// Has every feed read that this process hosts, and waits until all feeds, wherever they are, were read to their end by looks that began
    /// after this call; whether that came within the time. What was never read since is unknown, not absent.
    pub(crate) async fn read_anew(&self, patience: Duration) -> bool {
        let since = shell::now();
        for system in self.here.values() {
            system.feed_now();
        }
        let is_read =
            |told: SystemTold| told.failure.is_none() && told.caught_up_at.is_some_and(|at| at >= since);
        let all = async {
            while !self.systems().all(is_read) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    /// Hears of everything that hosts elsewhere tell.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeMap<SystemName, (Timestamp, SystemTold)>> {
        self.told.subscribe()
    }

    /// Reads what hosts elsewhere tell, until `stop`.
    pub(crate) async fn follow(
        self: Arc<Self>,
        log: Arc<dyn EventLog>,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let take = |entries: &[Stored]| {
            let mut told = BTreeMap::new();
            for stored in entries
                .iter()
                .filter(|stored| !is_process(stored) && !is_scan(stored))
            {
                if let Some(event) = poison::event_of::<SystemTold>(&Stream::Systems, stored)? {
                    told.insert(event.data.inventory.name.clone(), (event.time, event.data));
                }
            }
            if !told.is_empty() {
                self.told.send_modify(|known| known.extend(told));
            }
            Ok(())
        };
        following::follow(log, Stream::Systems, take, stop).await
    }
}

/// A system of which nobody has told anything yet.
pub(crate) fn silent(name: SystemName, kind: String) -> SystemTold {
    SystemTold {
        inventory: away(name, 0),
        kind,
        units: BTreeMap::new(),
        caught_up_at: None,
        failure: None,
        done: 0,
        total: 0,
        appended: 0,
        scan_asked: None,
        scanning: false,
    }
}

/// Tells how hosted systems stand whenever that changes, until `stop`.
pub(crate) async fn tell(
    systems: BTreeMap<SystemName, Arc<System>>,
    log: Arc<dyn EventLog>,
    answering: Arc<Answering>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut last: BTreeMap<SystemName, (Timestamp, SystemTold)> = BTreeMap::new();
    while !*stop.borrow() {
        for (name, system) in &systems {
            let (at, now) = (shell::now(), system.told());
            let is_due = |(told_at, before): &(Timestamp, SystemTold)| {
                at.since(*told_at) >= ALIVE_EVERY_MS || is_news(before, &now)
            };
            if last.get(name).is_none_or(is_due) {
                match tell_one(&*log, name, &now).await {
                    Ok(()) => drop(last.insert(name.clone(), (at, now))),
                    // The next look tells it.
                    Err(error) if answering.passes(&error) => {
                        tracing::warn!(code = error.code(), system = %name, "how a system stands could not be told");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(TELL_EVERY) => {}
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

/// Tells how one system stands.
pub(crate) async fn tell_one(log: &dyn EventLog, name: &SystemName, told: &SystemTold) -> Result<(), Error> {
    let entry = publish::entry(name.as_str().as_bytes(), "/lethe/connectors", told.clone())?;
    publish::append(log, &Place::new(Stream::Systems, 0), vec![entry], "systems").await
}

fn is_news(before: &SystemTold, now: &SystemTold) -> bool {
    let again = SystemTold {
        caught_up_at: before.caught_up_at,
        ..now.clone()
    };
    again != *before || before.caught_up_at.is_none() && now.caught_up_at.is_some()
}
