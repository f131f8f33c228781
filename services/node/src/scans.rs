//! Reading a system from its beginning, because it was never read or because somebody asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lethe_journal::{Place, Position, ScanAsked, Stored, Stream, SystemTold};
use lethe_log::{EventLog, Pages};
use lethe_terms::{SystemName, Timestamp};
use tokio::sync::watch;

use crate::board::Board;
use crate::looks::is_look;
use crate::processes::is_process;
use crate::systems::System;
use crate::{Error, following, poison, publish};

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
    /// The newest wish for which every shard was, or is being, read from its beginning.
    begun: Option<Timestamp>,
    /// The newest wish for which that is still to begin.
    wanted: Option<Timestamp>,
    under_way: bool,
}

impl Scan {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Recalls what was told before this process started: what was begun goes on from where its cursors stand.
    pub(crate) fn recall(&self, wish: &Wish) {
        if wish.is_begun() {
            let mut state = self.state();
            state.begun = state.begun.max(Some(wish.asked));
            state.under_way |= wish.scanning;
        } else {
            self.ask(wish.asked);
        }
    }

    /// Hears a wish. One that comes while a scan is under way is met by that.
    pub(crate) fn ask(&self, at: Timestamp) {
        let mut state = self.state();
        let heard = if state.under_way {
            &mut state.begun
        } else {
            &mut state.wanted
        };
        *heard = (*heard).max(Some(at));
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.state().wanted.is_some()
    }

    /// Every shard is read from its beginning from now on.
    pub(crate) fn begun(&self) {
        let mut state = self.state();
        state.begun = state.begun.max(state.wanted.take());
        state.under_way = true;
    }

    /// Every shard was read to its end.
    pub(crate) fn ended(&self) {
        self.state().under_way = false;
    }

    /// The newest wish for which a scan has begun, and whether anything that was asked for is still to be done.
    pub(crate) fn stands(&self) -> (Option<Timestamp>, bool) {
        let state = self.state();
        (state.begun, state.wanted.is_some() || state.under_way)
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

/// A wish for a scan as the log has it, beside what the system's host told last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    asked: Timestamp,
    begun: Option<Timestamp>,
    scanning: bool,
}

impl Wish {
    #[cfg(test)]
    pub(crate) const fn begun(asked: Timestamp) -> Self {
        Self {
            asked,
            begun: Some(asked),
            scanning: true,
        }
    }

    fn is_begun(&self) -> bool {
        self.begun.is_some_and(|begun| begun >= self.asked)
    }
}

/// The newest wish for each system, and where the log goes on from there.
async fn wishes(log: &dyn EventLog) -> Result<(BTreeMap<SystemName, Wish>, Position), Error> {
    let (mut asked, mut told) = (BTreeMap::new(), BTreeMap::new());
    let at = Place::new(Stream::Systems, 0);
    let mut pages = Pages::new(log, &at, 0);
    while let Some(page) = pages.next().await? {
        for stored in page
            .entries
            .iter()
            .filter(|stored| !is_process(stored) && !is_look(stored))
        {
            if is_scan(stored) {
                if let Some(event) = poison::event_of::<ScanAsked>(&at.stream, stored)? {
                    asked.insert(event.data.system, event.time);
                }
            } else if let Some(event) = poison::event_of::<SystemTold>(&at.stream, stored)? {
                let system = event.data;
                told.insert(system.inventory.name, (system.scan_asked, system.scanning));
            }
        }
    }
    let wish = |(system, asked)| {
        let (begun, scanning) = told.remove(&system).unwrap_or_default();
        let wish = Wish {
            asked,
            begun,
            scanning,
        };
        (system, wish)
    };
    Ok((asked.into_iter().map(wish).collect(), pages.position()))
}

/// Recalls what was asked of the systems that this process hosts, before it tells anything of them; returns from where on [`hear`] goes on. A wish
/// for a look is met by the next one.
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
    for system in systems.values() {
        system.look_anew(next);
    }
    Ok(next)
}

/// Hears the wishes for systems that this process hosts, for scans and for looks, until `stop`.
pub(crate) async fn hear(
    systems: BTreeMap<SystemName, Arc<System>>,
    from: Position,
    log: Arc<dyn EventLog>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let take = |entries: &[Stored]| {
        for stored in entries.iter().filter(|stored| is_scan(stored)) {
            if let Some(event) = poison::event_of::<ScanAsked>(&Stream::Systems, stored)?
                && let Some(system) = systems.get(&event.data.system)
            {
                system.scan_anew(event.time);
            }
        }
        if let Some(wish) = entries.iter().rfind(|stored| is_look(stored)) {
            for system in systems.values() {
                system.look_anew(wish.position.saturating_add(1));
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
    async fn the_newest_wish_stands_beside_what_the_host_told_last() {
        let (log, shop): (_, SystemName) = (MemoryLog::new(), "shop".parse().unwrap());
        told(&log, &shop, None, false).await;
        ask(&log, &shop).await.unwrap();
        let (open, next) = wishes(&log).await.unwrap();
        assert!(!open[&shop].is_begun(), "nobody heard it");

        told(&log, &shop, Some(open[&shop].asked), true).await;
        let (begun, later) = wishes(&log).await.unwrap();
        assert!(begun[&shop].is_begun() && begun[&shop].scanning);
        assert_eq!(later, next + 1);

        told(&log, &shop, Some(open[&shop].asked), false).await;
        let (met, _) = wishes(&log).await.unwrap();
        assert!(met[&shop].is_begun() && !met[&shop].scanning);
    }

    #[test]
    fn a_host_that_starts_again_begins_what_was_not_begun_and_goes_on_with_what_was() {
        let at = Timestamp::from_millis;
        let recalled = |asked, begun, scanning| {
            let scan = Scan::default();
            scan.recall(&Wish {
                asked,
                begun,
                scanning,
            });
            (scan.is_wanted(), scan.stands())
        };
        assert_eq!(recalled(at(5), None, false), (true, (None, true)));
        assert_eq!(recalled(at(5), Some(at(4)), true), (true, (None, true)));
        assert_eq!(recalled(at(5), Some(at(5)), true), (false, (Some(at(5)), true)));
        assert_eq!(recalled(at(5), Some(at(5)), false), (false, (Some(at(5)), false)));
    }

    #[test]
    fn a_wish_during_a_scan_is_met_by_it_and_one_before_it_begins_is_told_once_it_has() {
        let (scan, at) = (Scan::default(), Timestamp::from_millis);
        scan.ask(at(5));
        assert_eq!(scan.stands(), (None, true));
        scan.begun();
        scan.ask(at(6));
        assert_eq!((scan.is_wanted(), scan.stands()), (false, (Some(at(6)), true)));
        scan.ended();
        assert_eq!(scan.stands(), (Some(at(6)), false));
    }
}
