//! Reading a system from its beginning, because it was never read or because somebody asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lethe_journal::{Event, Place, ScanAsked, Stored, Stream};
use lethe_log::EventLog;
use lethe_terms::{SystemName, Timestamp};
use tokio::sync::watch;

use crate::board::Board;
use crate::systems::System;
use crate::{Error, following, publish};

/// What the keys of these entries begin with: no name of a system has a colon.
const KEY_PREFIX: &str = "scan:";

/// Whether an entry of `systems` asks for a scan.
pub(crate) fn is_scan(stored: &Stored) -> bool {
    stored.entry.key.starts_with(KEY_PREFIX.as_bytes())
}

/// How the scan of one system stands.
#[derive(Default)]
pub(crate) struct Scan {
    state: Mutex<State>,
}

#[derive(Default, Clone, Copy)]
struct State {
    /// The newest wish that was heard.
    asked: Option<Timestamp>,
    /// Whether it is to begin.
    wanted: bool,
    under_way: bool,
}

impl Scan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears a wish. One that comes while a scan is under way is met by that.
    pub(crate) fn ask(&self, at: Timestamp) {
        let mut state = self.state();
        state.asked = state.asked.max(Some(at));
        state.wanted |= !state.under_way;
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.state().wanted
    }

    pub(crate) fn begun(&self) {
        let mut state = self.state();
        (state.wanted, state.under_way) = (false, true);
    }

    /// Every shard was read to its end.
    pub(crate) fn ended(&self) {
        self.state().under_way = false;
    }

    /// The newest wish that was heard, and whether what it asked for is still to be done.
    pub(crate) fn stands(&self) -> (Option<Timestamp>, bool) {
        let state = self.state();
        (state.asked, state.wanted || state.under_way)
    }
}

/// Has a system scanned: here, or by its host elsewhere.
pub(crate) async fn start(
    board: &Board,
    log: &dyn EventLog,
    system: &SystemName,
    now: Timestamp,
) -> Result<(), Error> {
    match board.hosted(system) {
        Some(system) => {
            system.scan_anew(now);
            Ok(())
        }
        None => ask(log, system).await,
    }
}

async fn ask(log: &dyn EventLog, system: &SystemName) -> Result<(), Error> {
    let key = format!("{KEY_PREFIX}{system}");
    let asked = ScanAsked {
        system: system.clone(),
    };
    let entry = publish::entry(key.as_bytes(), "/lethe/gateway", asked)?;
    publish::append(log, &Place::new(Stream::Systems, 0), vec![entry], "systems").await
}

/// Hears the wishes for systems that this process hosts, until `stop`. One from before it started is over: whoever asked sees that nothing came of
/// it, and a process that starts again must not read everything each time.
pub(crate) async fn hear(
    systems: BTreeMap<SystemName, Arc<System>>,
    since: Timestamp,
    log: Arc<dyn EventLog>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let take = |entries: &[Stored]| {
        for stored in entries.iter().filter(|stored| is_scan(stored)) {
            if let Some(value) = &stored.entry.value {
                let event = Event::<ScanAsked>::decode(value)?;
                if let Some(system) = systems.get(&event.data.system).filter(|_| event.time >= since) {
                    system.scan_anew(event.time);
                }
            }
        }
        Ok(())
    };
    following::follow(log, Stream::Systems, take, stop).await
}
