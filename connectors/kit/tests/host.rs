//! The host's care: pace, bounds, time, pause, panics, repeats.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lethe_kit::memory::MemoryConnector;
use lethe_kit::{
    Ask, Call, Connector, Error, FeedPage, Finding, Host, Located, Manifest, Observed, Page, Performed,
    Selector,
};
use lethe_terms::{DatasetName, InstructionId, ShardName, Verb};
use tokio::time::Instant;

/// How the connector behaves when it is called.
#[derive(Clone, Copy)]
enum Way {
    Answers,
    FailsTwice,
    Hangs,
    Panics,
}

struct Moody {
    manifest: Manifest,
    inner: MemoryConnector,
    way: Way,
    calls: AtomicU32,
    at_once: AtomicU32,
    most_at_once: AtomicU32,
}

impl Moody {
    fn new(way: Way, change: impl FnOnce(&mut Manifest)) -> Arc<Self> {
        let inner = MemoryConnector::new("memory").unwrap();
        let mut manifest = inner.manifest().clone();
        change(&mut manifest);
        let zero = AtomicU32::default;
        Arc::new(Self {
            manifest,
            inner,
            way,
            calls: zero(),
            at_once: zero(),
            most_at_once: zero(),
        })
    }

    async fn mood(&self) -> Result<(), Error> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let at_once = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        match self.way {
            Way::FailsTwice if call < 2 => Err(Error::Transient {
                code: "kit-refused",
                reason: "no".to_owned(),
            }),
            Way::Hangs => std::future::pending().await,
            Way::Panics => panic!("a defect"),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Connector for Moody {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    async fn check(&self) -> Result<Vec<Finding>, Error> {
        self.mood().await?;
        self.inner.check().await
    }
    async fn feed(&self, shard: &ShardName, cursor: Option<&str>, limit: usize) -> Result<FeedPage, Error> {
        self.mood().await?;
        self.inner.feed(shard, cursor, limit).await
    }
    async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, Error> {
        self.mood().await?;
        self.inner.locate(selector, page).await
    }
    async fn perform(&self, ask: &Ask) -> Result<Performed, Error> {
        self.mood().await?;
        self.inner.perform(ask).await
    }
    async fn poll(&self, ask: &Ask, ticket: &str) -> Result<Performed, Error> {
        self.inner.poll(ask, ticket).await
    }
    async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Error> {
        self.mood().await?;
        self.inner.observe(dataset, selector).await
    }
    async fn export(&self, selector: &Selector, page: Page) -> Result<(Vec<serde_json::Value>, Page), Error> {
        self.inner.export(selector, page).await
    }
}

fn erase() -> Ask {
    let dataset = "contacts".parse().unwrap();
    Ask {
        id: InstructionId::from_bytes([1; 16]),
        generation: (1, 0),
        dataset,
        verb: Verb::Erase,
        selector: Selector::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_did_not_happen_is_asked_again() {
    let connector = Moody::new(Way::FailsTwice, |_| {});
    let host = Host::new(connector.clone());
    host.locate(&Selector::default(), Page::default()).await.unwrap();
    assert_eq!(connector.calls.load(Ordering::SeqCst), 3);
    assert_eq!(
        (host.count(Call::Locate).calls, host.count(Call::Locate).failures),
        (3, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn work_is_repeated_only_where_the_system_detects_repeats() {
    let forgetful = Moody::new(Way::FailsTwice, |m| m.detects_repeats = false);
    assert!(matches!(
        Host::new(forgetful.clone()).perform(&erase()).await,
        Err(Error::Transient { .. })
    ));
    assert_eq!(forgetful.calls.load(Ordering::SeqCst), 1);
    let careful = Moody::new(Way::FailsTwice, |_| {});
    assert!(Host::new(careful.clone()).perform(&erase()).await.is_ok());
    assert_eq!(careful.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn work_that_ran_out_of_time_is_unknown_and_not_repeated() {
    let connector = Moody::new(Way::Hangs, |_| {});
    let host = Host::new(connector.clone());
    assert!(matches!(
        host.perform(&erase()).await,
        Err(Error::Unknown {
            code: "kit-timeout",
            ..
        })
    ));
    assert!(matches!(
        host.locate(&Selector::default(), Page::default()).await,
        Err(Error::Transient {
            code: "kit-timeout",
            ..
        })
    ));
    assert_eq!(connector.calls.load(Ordering::SeqCst), 2);
    assert_eq!(host.count(Call::Perform).unknown, 1);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_breaks_down_takes_nothing_else_down() {
    let host = Host::new(Moody::new(Way::Panics, |_| {}));
    assert!(matches!(
        host.perform(&erase()).await,
        Err(Error::Unknown {
            code: "kit-connector-panicked",
            ..
        })
    ));
    let read = host.locate(&Selector::default(), Page::default()).await;
    assert!(matches!(
        read,
        Err(Error::Permanent {
            code: "kit-connector-panicked",
            ..
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn calls_keep_the_pace_and_the_bound() {
    let connector = Moody::new(Way::Answers, |m| (m.pace_ms, m.concurrency_max) = (100, 2));
    let host = Host::new(connector.clone());
    let begun = Instant::now();
    let selector = Selector::default();
    futures::future::join_all((0..5).map(|_| host.locate(&selector, Page::default()))).await;
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "{:?}",
        begun.elapsed()
    );
    let connector = Moody::new(Way::Answers, |m| m.concurrency_max = 2);
    let host = Host::new(connector.clone());
    futures::future::join_all((0..5).map(|_| host.locate(&selector, Page::default()))).await;
    assert_eq!(connector.most_at_once.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_paused_host_begins_nothing_until_it_is_resumed() {
    let connector = Moody::new(Way::Answers, |_| {});
    let host = Host::new(connector.clone());
    host.pause();
    assert!(host.is_paused());
    let selector = Selector::default();
    let waiting = host.locate(&selector, Page::default());
    assert!(
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .is_err()
    );
    assert_eq!(connector.calls.load(Ordering::SeqCst), 0);
    assert!(host.check().await.is_ok(), "an operator may still check");
    host.resume();
    assert!(host.locate(&selector, Page::default()).await.is_ok());
}

#[tokio::test]
async fn what_the_manifest_does_not_declare_never_reaches_the_connector() {
    let connector = Moody::new(Way::Answers, |m| m.datasets[0].verbs = vec![Verb::Erase]);
    let host = Host::new(connector.clone());
    let restrict = Ask {
        verb: Verb::Restrict,
        ..erase()
    };
    assert!(matches!(
        host.perform(&restrict).await,
        Ok(Performed::Refused {
            code: "kit-verb-not-supported",
            ..
        })
    ));
    let elsewhere = Ask {
        dataset: "elsewhere".parse().unwrap(),
        ..erase()
    };
    assert!(matches!(
        host.perform(&elsewhere).await,
        Ok(Performed::Refused {
            code: "kit-unknown-dataset",
            ..
        })
    ));
    assert_eq!(connector.calls.load(Ordering::SeqCst), 0);
}
