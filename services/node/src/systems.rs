//! One configured system: its connector behind a host, and the loop that follows its feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lethe_gateway::views::{ConformanceView, FindingView};
use lethe_intake::Intake;
use lethe_journal::{Inventory, InventoryDataset, InventorySystem};
use lethe_kit::{Host, Manifest};
use lethe_terms::{ShardName, Verb};
use tokio::sync::{Notify, watch};

use crate::connector_shell::FeedState;
use crate::follow_ups::FollowUps;
use crate::{Error, shell};

/// Units of one page of a feed: rows or lines; moved as one batch, so it bounds memory.
const FEED_UNITS: usize = 500;

/// Longest wait before a feed that failed is read again.
const FEED_RETRY: Duration = Duration::from_secs(5);

/// A configured system.
pub(crate) struct System {
    pub(crate) host: Arc<Host>,
    pub(crate) feed: FeedState,
    /// When a scan was asked for last, in milliseconds.
    pub(crate) asked_at: AtomicI64,
    wake: Notify,
}

impl System {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host: Arc::new(host),
            feed: FeedState::default(),
            asked_at: AtomicI64::new(0),
            wake: Notify::new(),
        }
    }

    /// Reads the feed now instead of at the next beat.
    pub(crate) fn feed_now(&self) {
        self.asked_at.store(shell::now().millis(), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Whether the system can be reached and allows what its manifest says.
    pub(crate) async fn check(&self) -> Vec<FindingView> {
        match self.host.check().await {
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

    /// The part of the connector contract that can be tried on a live system.
    pub(crate) async fn conformance(&self) -> ConformanceView {
        crate::conformance::against(&self.host).await
    }

    /// Follows the feed until `stop`, and opens a case for whatever comes back of erased people.
    pub(crate) async fn follow(
        self: Arc<Self>,
        intake: Arc<Intake>,
        every: Duration,
        follow_ups: Arc<FollowUps>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            let pause = match self.read_all(&intake, &follow_ups, &stop).await {
                Ok(()) => {
                    self.feed.caught_up();
                    every
                }
                Err(code) => {
                    let system = &self.host.manifest().system;
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

    async fn read_all(
        &self,
        intake: &Intake,
        follow_ups: &FollowUps,
        stop: &watch::Receiver<bool>,
    ) -> Result<(), &'static str> {
        let shards = self.host.manifest().shards.clone();
        let mut before = (0, 0);
        for shard in &shards {
            before = self.read_shard(intake, shard, follow_ups, stop, before).await?;
        }
        if before.1 > 0 {
            // What was erased meanwhile is no longer there to be read.
            self.feed.total.store(before.1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn read_shard(
        &self,
        intake: &Intake,
        shard: &ShardName,
        follow_ups: &FollowUps,
        stop: &watch::Receiver<bool>,
        before: (u64, u64),
    ) -> Result<(u64, u64), &'static str> {
        let system = self.host.manifest().system.clone();
        let mut reached = before;
        loop {
            let mark = intake.mark(&system);
            let cursor = intake.cursor(&system, shard).map_err(|error| error.code())?;
            let page = self
                .host
                .feed(shard, cursor.as_deref(), FEED_UNITS)
                .await
                .map_err(|error| error.code())?;
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
            self.feed.took(published.appended, published.quarantined);
            for finding in published.findings {
                follow_ups.open(finding).await.map_err(|error| error.code())?;
            }
            intake
                .advance(&system, shard, &page.cursor)
                .await
                .map_err(|error| error.code())?;
            if !more || *stop.borrow() {
                return Ok(reached);
            }
        }
    }
}

/// What a manifest says, as the inventory has it.
pub(crate) fn inventory_system(manifest: &Manifest, quarantined: u64) -> InventorySystem {
    InventorySystem {
        name: manifest.system.clone(),
        locates: !manifest.locates_by.is_empty(),
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
                settle_ms: dataset.settle_ms,
                lead_ms: dataset.lead_ms,
            })
            .collect(),
        quarantined,
    }
}

const fn is_step(verb: Verb) -> bool {
    matches!(verb, Verb::Erase | Verb::Restrict | Verb::Lift)
}

/// The inventory of all systems.
pub(crate) fn inventory<'a>(
    systems: impl Iterator<Item = &'a System>,
    flows: &[(lethe_journal::DatasetRef, lethe_journal::DatasetRef)],
) -> Inventory {
    let systems = systems
        .map(|system| {
            inventory_system(
                system.host.manifest(),
                system.feed.quarantined.load(Ordering::Relaxed),
            )
        })
        .collect();
    Inventory {
        systems,
        flows: flows.to_vec(),
    }
}
