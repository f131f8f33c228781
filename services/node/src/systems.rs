//! One configured system: its connector behind a host, and the loop that follows its feed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use lethe_gateway::views::{ConformanceView, FindingView};
use lethe_intake::Intake;
use lethe_journal::{FailureCode, InventoryDataset, InventorySystem, Position, SystemTold};
use lethe_kit::{Host, Manifest};
use lethe_remote::Carrier;
use lethe_terms::{ShardName, SystemName, Timestamp, Verb};
use tokio::sync::{Notify, watch};

use crate::connect::{Kinds, Unopened};
use crate::connector_shell::FeedState;
use crate::follow_ups::FollowUps;
use crate::scans::{Scan, Wish};
use crate::settings::SystemSettings;
use crate::{Error, published};

/// Units of one page of a feed: rows or lines; moved as one batch, so it bounds memory.
const FEED_UNITS: usize = 500;

/// Wait before a system that could not be reached is tried again.
const AWAY_RETRY: Duration = Duration::from_secs(5);

/// Longest wait before a feed that failed is read again.
const FEED_RETRY: Duration = Duration::from_secs(5);

/// A configured system.
pub(crate) struct System {
    pub(crate) settings: SystemSettings,
    /// The way to its program, where that is reached over topics.
    carrier: Option<Arc<dyn Carrier>>,
    host: OnceLock<Arc<Host>>,
    /// Why it could not be opened, until it is.
    away: Mutex<String>,
    pub(crate) feed: FeedState,
    scan: Scan,
    wake: Notify,
}

impl System {
    /// A system that is not open yet.
    pub(crate) fn new(settings: SystemSettings, carrier: Option<Arc<dyn Carrier>>) -> Self {
        Self {
            settings,
            carrier,
            host: OnceLock::new(),
            away: Mutex::new(String::new()),
            feed: FeedState::default(),
            scan: Scan::default(),
            wake: Notify::new(),
        }
    }

    /// Tries to open its connector. One that cannot be reached is away, and what it holds is unknown.
    ///
    /// # Errors
    /// Where its settings are wrong.
    pub(crate) async fn open(&self, kinds: &Kinds) -> Result<Option<Arc<Host>>, Error> {
        match kinds.connector(&self.settings, self.carrier.clone()).await {
            Ok(connector) => {
                let host = self.host.get_or_init(|| Arc::new(Host::new(connector)));
                return Ok(Some(Arc::clone(host)));
            }
            Err(Unopened::Away { code, reason }) => {
                tracing::warn!(code, reason, system = %self.settings.name, "a system cannot be reached");
                self.feed.fell_short(code);
                *self.away.lock().unwrap_or_else(PoisonError::into_inner) = reason;
            }
            Err(Unopened::Refused(message)) => {
                return Err(Error::Connector {
                    file: self.settings.file.clone(),
                    system: self.settings.name.to_string(),
                    message,
                });
            }
        }
        Ok(None)
    }

    /// Opens its connector as soon as the system can be reached.
    pub(crate) async fn come_back(self: Arc<Self>, kinds: &Kinds) -> (Arc<Self>, Arc<Host>) {
        loop {
            tokio::time::sleep(AWAY_RETRY).await;
            match self.open(kinds).await {
                Ok(Some(host)) => return (self, host),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(code = error.code(), %error, "a system that is back does not fit its settings");
                    *self.away.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
                    self.feed.fell_short(error.code());
                }
            }
        }
    }

    /// Its host; nothing while it is away.
    pub(crate) fn host(&self) -> Option<&Arc<Host>> {
        self.host.get()
    }

    fn why_away(&self) -> Vec<FindingView> {
        let reason = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        vec![FindingView {
            what: "connection".into(),
            ok: false,
            detail: reason.clone(),
        }]
    }

    /// What it is like and how it stands.
    pub(crate) fn told(&self) -> SystemTold {
        // First, so that what that look put away counts.
        let look = self.feed.last_look();
        let quarantined = self.feed.quarantined.load(Ordering::Relaxed);
        let manifest = self.host().map(|host| host.manifest());
        let (scan_asked, scanning) = self.scan.stands();
        SystemTold {
            inventory: match manifest {
                Some(manifest) => inventory_system(manifest, quarantined),
                None => away(self.settings.name.clone(), quarantined),
            },
            kind: self.settings.kind.clone(),
            units: manifest.map_or_else(BTreeMap::new, |manifest| {
                let datasets = manifest.datasets.iter();
                datasets
                    .map(|dataset| (dataset.name.clone(), dataset.unit.clone()))
                    .collect()
            }),
            caught_up_at: look.map(|look| look.at),
            failure: self.feed.failed().map(|code| FailureCode(code.to_owned())),
            done: self.feed.done.load(Ordering::Relaxed),
            total: self.feed.total.load(Ordering::Relaxed),
            appended: self.feed.records.load(Ordering::Relaxed),
            scan_asked,
            scanning,
            answers_before: look.map(|look| look.answers_before),
        }
    }

    /// Whether programs publish what it holds.
    pub(crate) fn is_published(&self) -> bool {
        published::is_published(&self.settings)
    }

    /// Reads the feed from its beginning, since somebody asked for that then.
    pub(crate) fn scan_anew(&self, asked_at: Timestamp) {
        self.scan.ask(asked_at);
        self.scan_now();
    }

    /// Recalls a wish for a scan from before this process started.
    pub(crate) fn recall_scan(&self, wish: &Wish) {
        self.scan.recall(wish);
        self.scan_now();
    }

    fn scan_now(&self) {
        if self.is_published() {
            // What others publish has no beginning that could be read again.
            self.scan.begun();
            self.scan.ended();
        } else {
            self.feed_now();
        }
    }

    /// Hears the wishes for a look that stand before this position of `systems`.
    pub(crate) fn look_anew(&self, before: Position) {
        self.feed.hear_wishes(before);
        self.feed_now();
    }

    /// Reads the feed now instead of at the next beat.
    pub(crate) fn feed_now(&self) {
        self.wake.notify_one();
    }

    /// Returns once somebody asks for its feed to be read now.
    pub(crate) async fn asked(&self) {
        self.wake.notified().await;
    }

    /// Whether the system can be reached and allows what its manifest says.
    pub(crate) async fn check(&self) -> Vec<FindingView> {
        let Some(host) = self.host() else {
            return self.why_away();
        };
        match host.check().await {
            Ok(findings) => findings
                .into_iter()
                .map(|finding| FindingView {
                    what: finding.what,
                    ok: finding.ok,
                    detail: finding.detail,
                })
                .collect(),
            Err(error) => vec![FindingView {
                what: "connection".into(),
                ok: false,
                detail: error.to_string(),
            }],
        }
    }

    /// The part of the connector contract that can be tried on a live system; nothing while it is away.
    pub(crate) async fn conformance(&self) -> Option<ConformanceView> {
        crate::conformance::against(self.host()?).await
    }

    /// Follows the feed until `stop`, and opens a case for whatever comes back of erased people.
    pub(crate) async fn follow(
        self: Arc<Self>,
        host: Arc<Host>,
        intake: Arc<Intake>,
        every: Duration,
        follow_ups: Arc<FollowUps>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            let look = self.feed.look();
            let pause = match self.read_all(&host, &intake, &follow_ups, &stop).await {
                Ok(true) => {
                    self.feed.caught_up(look);
                    every
                }
                Ok(false) => break,
                Err(code) => {
                    let system = &self.settings.name;
                    tracing::warn!(code, %system, "a feed could not be read");
                    self.feed.fell_short(code);
                    every.max(FEED_RETRY)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Reads every shard to its end; whether it came there before `stop`.
    async fn read_all(
        &self,
        host: &Host,
        intake: &Intake,
        follow_ups: &FollowUps,
        stop: &watch::Receiver<bool>,
    ) -> Result<bool, &'static str> {
        let shards = host.manifest().shards.clone();
        self.begin_anew(intake, &shards)
            .await
            .map_err(|error| error.code())?;
        let mut before = (0, 0);
        for shard in &shards {
            let read = self.read_shard(host, intake, shard, follow_ups, stop, before);
            let Some(reached) = read.await? else {
                return Ok(false);
            };
            before = reached;
        }
        if before.1 > 0 {
            // What was erased meanwhile is no longer there to be read.
            self.feed.total.store(before.1, Ordering::Relaxed);
        }
        self.scan.ended();
        Ok(true)
    }

    /// Takes the cursors back where a scan is wanted. What is known is told apart by its digest, so that a scan repeats and changes nothing.
    async fn begin_anew(&self, intake: &Intake, shards: &[ShardName]) -> Result<(), lethe_intake::Error> {
        let system = &self.settings.name;
        if self.scan.is_wanted() {
            for shard in shards {
                intake.begin_anew(system, shard).await?;
            }
        }
        // A shard that is new beside others that were read is no scan: a wish is for all of them.
        for shard in shards {
            if intake.cursor(system, shard)?.is_some() {
                return Ok(());
            }
        }
        self.scan.begun();
        Ok(())
    }

    /// Reads a shard to its end: how far everything is; nothing where `stop` came before.
    async fn read_shard(
        &self,
        host: &Host,
        intake: &Intake,
        shard: &ShardName,
        follow_ups: &FollowUps,
        stop: &watch::Receiver<bool>,
        before: (u64, u64),
    ) -> Result<Option<(u64, u64)>, &'static str> {
        let (system, mut stopped) = (self.settings.name.clone(), stop.clone());
        let mut reached = before;
        loop {
            let mark = intake.mark(&system);
            let cursor = intake.cursor(&system, shard).map_err(|error| error.code())?;
            let page = tokio::select! {
                biased;
                page = host.feed(shard, cursor.as_deref(), FEED_UNITS) => page.map_err(|error| error.code())?,
                // Nobody hosts the system until this one has ended, and what was not read the next one reads.
                _ = stopped.wait_for(|stop| *stop) => return Ok(None),
            };
            let more = page.more;
            if let Some((done, total)) = page.progress {
                reached = (before.0 + done, before.1 + total);
                self.feed.done.store(reached.0, Ordering::Relaxed);
                self.feed.total.fetch_max(reached.1, Ordering::Relaxed);
            }
            let published = match intake.publish(&system, mark, &page).await {
                Ok(published) => published,
                Err(lethe_intake::Error::Stale) => continue,
                Err(error) => return Err(error.code()),
            };
            self.feed.took(published.appended);
            for finding in published.findings {
                follow_ups.open(finding).await.map_err(|error| error.code())?;
            }
            intake
                .advance(&system, shard, &page.cursor)
                .await
                .map_err(|error| error.code())?;
            if !more {
                return Ok(Some(reached));
            }
            if *stop.borrow() {
                return Ok(None);
            }
        }
    }
}

/// What a manifest says, as the inventory has it.
pub(crate) fn inventory_system(manifest: &Manifest, quarantined: u64) -> InventorySystem {
    InventorySystem {
        name: manifest.system.clone(),
        locates: !manifest.locates_by.is_empty(),
        locates_by: manifest.locates_by.clone(),
        datasets: manifest
            .datasets
            .iter()
            .map(|dataset| InventoryDataset {
                name: dataset.name.clone(),
                verbs: dataset
                    .verbs
                    .iter()
                    .copied()
                    .filter(|verb| is_step(*verb))
                    .collect(),
                categories: dataset.categories.clone(),
                keeps: dataset.keeps.clone(),
                after: dataset.after.clone(),
                unproven: !dataset.proves_identity,
                settle_ms: dataset.settle_ms,
                lead_ms: dataset.lead_ms,
            })
            .collect(),
        quarantined,
        backup_days: manifest.backup_days,
        away: false,
    }
}

/// A system that cannot be reached: it is searched for everybody, so that no plan is made without it.
pub(crate) fn away(name: SystemName, quarantined: u64) -> InventorySystem {
    InventorySystem {
        name,
        locates: true,
        locates_by: Vec::new(),
        datasets: Vec::new(),
        quarantined,
        backup_days: None,
        away: true,
    }
}

const fn is_step(verb: Verb) -> bool {
    matches!(verb, Verb::Erase | Verb::Restrict | Verb::Lift | Verb::Observe)
}

#[cfg(test)]
mod tests {
    use lethe_kit::memory::MemoryConnector;
    use lethe_terms::{Identifier, IdentifierKind};

    use super::*;
    use crate::nothing_known::NothingKnown;
    use crate::shell;
    use crate::test_world::{Silent, World};

    fn system(name: &str) -> System {
        let settings = SystemSettings {
            file: String::new(),
            name: name.parse().unwrap(),
            kind: "memory".into(),
            connector: BTreeMap::new(),
        };
        System::new(settings, None)
    }

    fn people(count: usize) -> Arc<Host> {
        let connector = MemoryConnector::new("crm").unwrap();
        let dataset = "contacts".parse().unwrap();
        for number in 0..count {
            let email = Identifier::new(IdentifierKind::Email, format!("{number}@example.org"));
            connector.put(&dataset, &number.to_string(), vec![email]);
        }
        Arc::new(Host::new(Arc::new(connector)))
    }

    #[tokio::test]
    async fn a_feed_that_is_broken_off_by_a_stop_was_not_read_and_its_scan_goes_on_afterwards() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let intake = world.intake(Arc::new(NothingKnown));
        let (system, host) = (system("crm"), people(FEED_UNITS + 1));
        let follow_ups = world.follow_ups(&intake, folder.path());
        system.scan_anew(shell::now());
        world.stop.send(true).unwrap();
        let read = system.read_all(&host, &intake, &follow_ups, &world.stopped).await;
        assert_eq!(read, Ok(false));
        assert!(system.told().scanning);

        let began_again = System::new(system.settings.clone(), None);
        let wish = system.scan.stands().0.unwrap();
        began_again.recall_scan(&Wish::begun(wish));
        world.stop.send(false).unwrap();
        let read = began_again.read_all(&host, &intake, &follow_ups, &world.stopped);
        assert_eq!(read.await, Ok(true));
        let told = began_again.told();
        assert_eq!((told.scanning, told.scan_asked), (false, Some(wish)));
        assert_eq!(told.appended, 1, "what was read before was read again");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_waits_for_no_feed_that_is_not_answered_and_asks_for_it_no_more() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let intake = world.intake(Arc::new(NothingKnown));
        let follow_ups = world.follow_ups(&intake, folder.path());
        let silent = Arc::new(Silent::new());
        let host = Arc::new(Host::new(Arc::clone(&silent) as _));
        let following = Arc::new(system("crm")).follow(
            host,
            intake,
            Duration::from_secs(1),
            follow_ups,
            world.stopped.clone(),
        );
        let began = tokio::time::Instant::now();
        let (ended, ()) = tokio::join!(following, async {
            silent.asked(1).await;
            world.stop.send_replace(true);
        });
        ended.unwrap();
        assert_eq!((began.elapsed(), silent.calls()), (Duration::ZERO, 1));
    }

    #[tokio::test]
    async fn a_wish_while_a_new_shard_is_read_beside_old_ones_is_for_all_of_them() {
        let (world, system) = (World::new(), system("crm"));
        let intake = world.intake(Arc::new(NothingKnown));
        let (old, new): (ShardName, ShardName) = ("old".parse().unwrap(), "new".parse().unwrap());
        intake.advance(&system.settings.name, &old, "end").await.unwrap();
        system.begin_anew(&intake, &[old.clone(), new]).await.unwrap();
        system.scan_anew(shell::now());
        assert!(system.scan.is_wanted());
        system
            .begin_anew(&intake, std::slice::from_ref(&old))
            .await
            .unwrap();
        assert!(!system.scan.is_wanted());
        assert_eq!(intake.cursor(&system.settings.name, &old).unwrap(), None);
    }

    #[tokio::test]
    async fn a_system_without_shards_is_scanned_at_once() {
        let (world, system) = (World::new(), system("crm"));
        system.scan_anew(shell::now());
        let intake = world.intake(Arc::new(NothingKnown));
        system.begin_anew(&intake, &[]).await.unwrap();
        system.scan.ended();
        assert!(!system.told().scanning);
    }
}
