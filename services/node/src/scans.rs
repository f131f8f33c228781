//! Reading a system from its beginning, because it was never read or because somebody asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lethe_journal::{Event, Place, Position, ScanAsked, Stored, Stream, SystemTold};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_terms::{SystemName, Timestamp};
use tokio::sync::watch;

use crate::board::Board;
use crate::processes::is_process;
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

    /// Recalls what was heard before this process started: a wish whose scan was not told to have ended is met by another one.
    pub(crate) fn recall(&self, wish: &Wish) {
        if wish.is_open() {
            self.ask(wish.asked);
        } else {
            let mut state = self.state();
            state.asked = state.asked.max(Some(wish.asked));
        }
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

/// A wish for a scan as the log has it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    asked: Timestamp,
    /// The newest wish of which the system's host told that its scan has ended.
    met: Option<Timestamp>,
}

impl Wish {
    fn is_open(&self) -> bool {
        self.met.is_none_or(|met| met < self.asked)
    }
}

/// The newest wish for each system, and where the log goes on from there.
async fn wishes(log: &dyn EventLog) -> Result<(BTreeMap<SystemName, Wish>, Position), Error> {
    let (mut asked, mut met) = (BTreeMap::new(), BTreeMap::new());
    let (at, mut from) = (Place::new(Stream::Systems, 0), 0);
    loop {
        let page = log.read(&at, from, PAGE_ENTRIES_MAX).await?;
        for stored in page.entries.iter().filter(|stored| !is_process(stored)) {
            match &stored.entry.value {
                Some(value) if is_scan(stored) => {
                    let event = Event::<ScanAsked>::decode(value)?;
                    asked.insert(event.data.system, event.time);
                }
                Some(value) => {
                    let told = Event::<SystemTold>::decode(value)?.data;
                    if !told.scanning {
                        met.insert(told.inventory.name, told.scan_asked);
                    }
                }
                None => {}
            }
        }
        if page.next == from {
            break;
        }
        from = page.next;
    }
    let wish = |(system, asked)| {
        let met = met.remove(&system).flatten();
        (system, Wish { asked, met })
    };
    Ok((asked.into_iter().map(wish).collect(), from))
}

/// Recalls what was asked of the systems that this process hosts, before it tells anything of them; returns from where on [`hear`] goes on.
pub(crate) async fn recall(
    systems: &BTreeMap<SystemName, Arc<System>>,
    log: &dyn EventLog,
) -> Result<Position, Error> {
    let (wishes, next) = wishes(log).await?;
    for (name, wish) in wishes {
        if let Some(system) = systems.get(&name) {
            system.recall_scan(&wish);
        }
    }
    Ok(next)
}

/// Hears the wishes for systems that this process hosts, until `stop`.
pub(crate) async fn hear(
    systems: BTreeMap<SystemName, Arc<System>>,
    from: Position,
    log: Arc<dyn EventLog>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let take = |entries: &[Stored]| {
        for stored in entries.iter().filter(|stored| is_scan(stored)) {
            if let Some(value) = &stored.entry.value {
                let event = Event::<ScanAsked>::decode(value)?;
                if let Some(system) = systems.get(&event.data.system) {
                    system.scan_anew(event.time);
                }
            }
        }
        Ok(())
    };
    following::follow_from(log, Stream::Systems, from, take, stop).await
}

#[cfg(test)]
mod tests {
    use lethe_log::MemoryLog;

    use super::*;
    use crate::board::{silent, tell_one};

    async fn told(log: &MemoryLog, name: &SystemName, scan_asked: Option<Timestamp>, scanning: bool) {
        let told = SystemTold {
            scan_asked,
            scanning,
            ..silent(name.clone(), "sql".into())
        };
        tell_one(log, name, &told).await.unwrap();
    }

    #[tokio::test]
    async fn a_wish_is_open_until_its_host_told_that_the_scan_has_ended() {
        let (log, shop): (_, SystemName) = (MemoryLog::new(), "shop".parse().unwrap());
        told(&log, &shop, None, false).await;
        ask(&log, &shop).await.unwrap();
        let (open, next) = wishes(&log).await.unwrap();
        assert!(open[&shop].is_open(), "nobody heard it");
        let asked = Some(open[&shop].asked);

        told(&log, &shop, asked, true).await;
        told(&log, &shop, None, false).await;
        assert!(
            wishes(&log).await.unwrap().0[&shop].is_open(),
            "it was begun only"
        );

        told(&log, &shop, asked, false).await;
        let (met, later) = wishes(&log).await.unwrap();
        assert!(!met[&shop].is_open());
        assert_eq!(later, next + 3);
    }

    #[test]
    fn a_host_that_starts_again_scans_for_an_open_wish_and_tells_of_one_that_was_met() {
        let at = Timestamp::from_millis;
        let recalled = |asked, met| {
            let scan = Scan::default();
            scan.recall(&Wish { asked, met });
            scan.stands()
        };
        assert_eq!(recalled(at(5), None), (Some(at(5)), true));
        assert_eq!(recalled(at(5), Some(at(4))), (Some(at(5)), true));
        assert_eq!(recalled(at(5), Some(at(5))), (Some(at(5)), false));
    }
}
