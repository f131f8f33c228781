//! Looks at feeds: which one began when, and how a process has feeds read anew that others host.
//!
//! No clock says whether a feed was read since somebody wished for it: those of two machines differ, and each may be set back. In one process the
//! clock that always runs forward does; between two, the log: a host reads the wish, and then looks.

use std::time::Duration;

use lethe_journal::{LookAsked, Place, Position, Stored, Stream, SystemTold};
use lethe_log::EventLog;
use lethe_terms::Timestamp;
use tokio::time::Instant;

use crate::{Error, publish, shell};

/// The key of these entries: no name of a system has a colon, and only the newest is needed.
const KEY: &[u8] = b"look:";

/// Whether an entry of `systems` asks for a look.
pub(crate) fn is_look(stored: &Stored) -> bool {
    stored.entry.key == KEY
}

/// A look at a feed, by when it began: what came later it may have missed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// By the clock on the wall, for people.
    pub(crate) at: Timestamp,
    began: Instant,
    /// Before this position of `systems` every wish for a look had been heard.
    pub(crate) answers_before: Position,
}

impl Look {
    /// One that begins now, where every wish before that position was heard.
    pub(crate) fn now(answers_before: Position) -> Self {
        Self {
            at: shell::now(),
            began: Instant::now(),
            answers_before,
        }
    }
}

/// A wish for looks that begin later than itself.
pub(crate) struct Wish {
    made: Instant,
    /// Where `systems` ended; nothing where no other process is asked.
    head: Option<Position>,
}

impl Wish {
    /// One for the feeds of this process.
    pub(crate) fn here() -> Self {
        Self {
            made: Instant::now(),
            head: None,
        }
    }

    /// Hands it to the hosts in other processes.
    pub(crate) async fn ask_elsewhere(&mut self, log: &dyn EventLog) -> Result<(), Error> {
        let at = Place::new(Stream::Systems, 0);
        // Whatever stands behind it was read after this.
        self.head = Some(log.head(&at).await?);
        let entry = publish::entry(KEY, "/lethe/conductor", LookAsked {})?;
        publish::append(log, &at, vec![entry], "systems").await
    }

    /// Whether this look of a host in this process began later.
    pub(crate) fn is_met_by(&self, look: &Look) -> bool {
        look.began >= self.made
    }

    /// Whether the last look of a host elsewhere began later.
    pub(crate) fn is_met_elsewhere(&self, told: &SystemTold) -> bool {
        let answered = told.answers_before;
        answered.is_some_and(|before| self.head.is_some_and(|head| before > head))
    }
}

/// Something that was said and read: for how long nothing came since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    said: Timestamp,
    read: Instant,
}

impl Heard {
    /// What was said then, and is read now.
    pub(crate) fn now(said: Timestamp) -> Self {
        Self {
            said,
            read: Instant::now(),
        }
    }

    /// How long ago that was, by whichever clock says more. The one on the wall may be set back, and the one that always runs forward knows nothing
    /// of how long it stood on the log.
    pub(crate) fn age(self) -> Duration {
        let by_wall = u64::try_from(shell::now().since(self.said)).unwrap_or(0);
        self.read.elapsed().max(Duration::from_millis(by_wall))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use lethe_kit::Host;
    use lethe_kit::memory::MemoryConnector;

    use super::*;
    use crate::board::{self, Board};
    use crate::nothing_known::NothingKnown;
    use crate::patience::Answering;
    use crate::scans;
    use crate::settings::SystemSettings;
    use crate::systems::System;
    use crate::test_world::World;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn settings() -> SystemSettings {
        SystemSettings {
            file: String::new(),
            name: "crm".parse().unwrap(),
            kind: "memory".into(),
            connector: BTreeMap::new(),
        }
    }

    /// A system whose feed is read now, and then every hour.
    async fn followed(world: &World, folder: &std::path::Path) -> Arc<System> {
        let intake = world.intake(Arc::new(NothingKnown));
        let follow_ups = world.follow_ups(&intake, folder);
        let system = Arc::new(System::new(settings(), None));
        let host = Arc::new(Host::new(Arc::new(MemoryConnector::new("crm").unwrap())));
        let stopped = world.stopped.clone();
        tokio::spawn(Arc::clone(&system).follow(host, intake, HOUR, follow_ups, stopped));
        while system.feed.last_look().is_none() {
            tokio::task::yield_now().await;
        }
        system
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_is_read_anew_by_its_host_in_another_process_as_soon_as_somebody_needs_that() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let system = followed(&world, folder.path()).await;
        let hosted = BTreeMap::from([(settings().name, system)]);
        let (log, stopped): (Arc<dyn EventLog>, _) = (Arc::clone(&world.log) as _, world.stopped.clone());
        let answering = Arc::new(Answering::new(true));
        tokio::spawn(board::tell(
            hosted.clone(),
            Arc::clone(&log),
            answering,
            stopped.clone(),
        ));
        tokio::spawn(scans::hear(hosted, 0, Arc::clone(&log), stopped.clone()));
        let board = Arc::new(Board::new(&[settings()], Vec::new(), BTreeMap::new()));
        tokio::spawn(Arc::clone(&board).follow(Arc::clone(&log), stopped));
        for _ in 0..2 {
            assert!(board.read_anew(&*log, Duration::from_secs(5)).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_host_was_asked_before_it_started_it_answers_with_its_first_look() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let mut wish = Wish::here();
        wish.ask_elsewhere(&*world.log).await.unwrap();
        let system = Arc::new(System::new(settings(), None));
        let hosted = BTreeMap::from([(settings().name, Arc::clone(&system))]);
        scans::recall(&hosted, &*world.log).await.unwrap();
        system.feed.caught_up(system.feed.look());
        assert!(wish.is_met_elsewhere(&system.told()));
        let not_asked = followed(&world, folder.path()).await;
        assert!(!wish.is_met_elsewhere(&not_asked.told()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_feed_of_this_process_was_read_by_a_look_that_began_after_the_wish_and_read_all() {
        let world = World::new();
        let system = Arc::new(System::new(settings(), None));
        let here = BTreeMap::from([(settings().name, Arc::clone(&system))]);
        let board = Board::new(&[settings()], Vec::new(), here);
        let earlier = system.feed.look();
        tokio::time::advance(Duration::from_millis(1)).await;
        let patience = Duration::from_secs(5);
        let (is_read, ()) = tokio::join!(board.read_anew(&*world.log, patience), async {
            system.feed.caught_up(earlier);
        });
        assert!(!is_read, "it began before");
        let (is_read, ()) = tokio::join!(board.read_anew(&*world.log, patience), async {
            system.asked().await;
            system.feed.caught_up(system.feed.look());
        });
        assert!(is_read);
        let systems = Place::new(Stream::Systems, 0);
        assert_eq!(world.log.head(&systems).await.unwrap(), 0, "nobody else is asked");
    }
}
