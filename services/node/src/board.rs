//! How every configured system stands, wherever its connector is hosted. A process that does everything looks at its own hosts; otherwise hosts tell
//! on the `systems` table, and everybody else reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{DatasetRef, FailureCode, Inventory, Place, Stored, Stream, SystemTold};
use lethe_log::EventLog;
use lethe_terms::SystemName;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::looks::{Heard, Wish, is_look};
use crate::patience::Answering;
use crate::processes::is_process;
use crate::scans::is_scan;
use crate::settings::SystemSettings;
use crate::systems::{System, away};
use crate::{Error, following, poison, publish};

/// How often hosts look whether there is something to tell.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How often a system is told again of which there is no news but that its host lives: the table grows with each time.
const ALIVE_EVERY: Duration = Duration::from_secs(2);

/// After so long without a word a host is taken for gone: it tells every few seconds.
const SILENT_MAX: Duration = Duration::from_secs(30);

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
    told: watch::Sender<BTreeMap<SystemName, (Heard, SystemTold)>>,
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
        let Some((heard, mut told)) = self.told.borrow().get(name).cloned() else {
            return Some(silent(settings.name.clone(), settings.kind.clone()));
        };
        if heard.age() > SILENT_MAX {
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

    /// Has every feed read, and waits until all feeds, wherever they are, were read to their end by looks that began after this call; whether that
    /// came within the time. What was never read since is unknown, not absent.
    pub(crate) async fn read_anew(&self, log: &dyn EventLog, patience: Duration) -> bool {
        let mut wish = Wish::here();
        for system in self.here.values() {
            system.feed_now();
        }
        let all = async {
            if self.settings.keys().any(|name| !self.here.contains_key(name)) {
                wish.ask_elsewhere(log).await?;
            }
            while !self.settings.keys().all(|name| self.is_met(&wish, name)) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(patience, all).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(
                    code = error.code(),
                    "hosts could not be asked to read their feeds"
                );
                false
            }
            Err(_) => false,
        }
    }

    /// Whether the feed of a system was read to its end since that wish, and did not fail again.
    fn is_met(&self, wish: &Wish, name: &SystemName) -> bool {
        match self.here.get(name) {
            Some(system) => {
                let look = system.feed.last_look();
                look.is_some_and(|look| wish.is_met_by(&look)) && system.feed.failed().is_none()
            }
            None => self
                .system(name)
                .is_some_and(|told| told.failure.is_none() && wish.is_met_elsewhere(&told)),
        }
    }

    /// Hears of everything that hosts elsewhere tell.
    pub(crate) fn changes(&self) -> watch::Receiver<BTreeMap<SystemName, (Heard, SystemTold)>> {
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
                .filter(|stored| !is_process(stored) && !is_scan(stored) && !is_look(stored))
            {
                if let Some(event) = poison::event_of::<SystemTold>(&Stream::Systems, stored)? {
                    let heard = Heard::now(event.time);
                    told.insert(event.data.inventory.name.clone(), (heard, event.data));
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
        answers_before: None,
    }
}

/// Tells how hosted systems stand whenever that changes, until `stop`.
pub(crate) async fn tell(
    systems: BTreeMap<SystemName, Arc<System>>,
    log: Arc<dyn EventLog>,
    answering: Arc<Answering>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut last: BTreeMap<SystemName, (Instant, SystemTold)> = BTreeMap::new();
    while !*stop.borrow() {
        for (name, system) in &systems {
            let (at, now) = (Instant::now(), system.told());
            let is_due = |(told_at, before): &(Instant, SystemTold)| {
                at.duration_since(*told_at) >= ALIVE_EVERY || is_news(before, &now)
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

#[cfg(test)]
mod tests {
    use lethe_journal::{Event, LookAsked, Position};
    use lethe_log::MemoryLog;
    use lethe_terms::Timestamp;

    use super::*;
    use crate::shell;
    use crate::test_world::World;

    const HOUR_MS: i64 = 3_600_000;

    fn shop() -> SystemName {
        "shop".parse().unwrap()
    }

    fn now_and(ms: i64) -> Timestamp {
        Timestamp::from_millis(shell::now().millis() + ms)
    }

    /// A board of a system whose host is another process.
    fn board(world: &World) -> Arc<Board> {
        let settings = SystemSettings {
            file: String::new(),
            name: shop(),
            kind: "sql".into(),
            connector: BTreeMap::new(),
        };
        let board = Arc::new(Board::new(&[settings], Vec::new(), BTreeMap::new()));
        tokio::spawn(Arc::clone(&board).follow(Arc::clone(&world.log) as _, world.stopped.clone()));
        board
    }

    /// Tells of the system at a time of its host, and waits until the board has heard it.
    async fn tell_at(world: &World, board: &Board, at: Timestamp, told: SystemTold) {
        let event = Event {
            id: shell::entry_id(),
            source: "/lethe/connectors",
            time: at,
            data: told.clone(),
        };
        let entry = lethe_journal::Entry {
            id: event.id,
            key: b"shop".to_vec(),
            value: Some(event.encode().unwrap()),
        };
        let place = Place::new(Stream::Systems, 0);
        publish::append(&*world.log, &place, vec![entry], "systems")
            .await
            .unwrap();
        let mut changes = board.changes();
        let heard = changes.wait_for(|known| known.get(&shop()).is_some_and(|(_, heard)| *heard == told));
        drop(heard.await.unwrap());
    }

    fn told(answers_before: Option<Position>) -> SystemTold {
        SystemTold {
            caught_up_at: Some(now_and(HOUR_MS)),
            answers_before,
            ..silent(shop(), "sql".into())
        }
    }

    /// Where the wish stands for a look that is the `count`th.
    async fn wish(log: &MemoryLog, count: usize) -> Position {
        let at = Place::new(Stream::Systems, 0);
        loop {
            let page = log.read(&at, 0, 99).await.unwrap();
            let mut wishes = page.entries.iter().filter(|stored| is_look(stored));
            if let Some(stored) = wishes.nth(count - 1) {
                Event::<LookAsked>::decode(stored.entry.value.as_ref().unwrap()).unwrap();
                return stored.position;
            }
            log.wait(&at, page.next, SILENT_MAX).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_tells_nothing_is_gone_although_a_clock_was_set_back() {
        let world = World::new();
        let board = board(&world);
        let failure = || board.system(&shop()).unwrap().failure.map(|code| code.0);
        tell_at(&world, &board, now_and(HOUR_MS), told(None)).await;
        assert_eq!(failure(), None);
        tokio::time::advance(SILENT_MAX + Duration::from_secs(1)).await;
        assert_eq!(failure().as_deref(), Some(SILENT));
        tell_at(&world, &board, now_and(HOUR_MS), told(Some(1))).await;
        assert_eq!(failure(), None);
        tell_at(&world, &board, now_and(-HOUR_MS), told(Some(2))).await;
        assert_eq!(failure().as_deref(), Some(SILENT), "it is read late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_elsewhere_was_read_once_its_host_says_that_it_looked_after_it_was_asked() {
        let world = World::new();
        let board = board(&world);
        tell_at(&world, &board, now_and(HOUR_MS), told(Some(0))).await;
        let patience = Duration::from_secs(5);
        assert!(
            !board.read_anew(&*world.log, patience).await,
            "by the clock of its host it looked an hour later"
        );
        let first = wish(&world.log, 1).await;
        tell_at(&world, &board, now_and(0), told(Some(first + 1))).await;
        assert!(
            !board.read_anew(&*world.log, patience).await,
            "what it looked for was asked before"
        );
        let answers = async {
            let third = wish(&world.log, 3).await;
            tell_at(&world, &board, now_and(-1_000), told(Some(third + 1))).await;
        };
        let (is_read, ()) = tokio::join!(board.read_anew(&*world.log, patience), answers);
        assert!(is_read);
    }
}
