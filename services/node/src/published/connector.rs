//! A published system as a connector: it has datasets, and nothing to ask.

use std::sync::Arc;

use async_trait::async_trait;
use lethe_kit::{
    Ask, Connector, Error, FeedPage, Finding, Located, Manifest, Observed, Page, Performed, Selector,
};
use lethe_terms::{DatasetName, Independence, ShardName, SystemName};

use super::{KIND, PublishedSettings};

/// Nothing is asked of it, so the time for an answer is never used up; in milliseconds.
const TIMEOUT_MS: u64 = 10_000;

/// A system that only publishes.
struct Published {
    manifest: Manifest,
}

/// The connector of a published system.
///
/// # Errors
/// Where its settings are wrong; in words.
pub(crate) fn open(name: SystemName, settings: serde_json::Value) -> Result<Arc<dyn Connector>, String> {
    let settings = PublishedSettings::of(settings)?;
    Ok(Arc::new(Published {
        manifest: Manifest {
            system: name,
            kind: KIND,
            version: env!("CARGO_PKG_VERSION"),
            datasets: settings.manifests(),
            shards: Vec::new(),
            locates_by: Vec::new(),
            detects_repeats: false,
            independence: Independence::SamePath,
            concurrency_max: 1,
            pace_ms: 0,
            timeout_ms: TIMEOUT_MS,
            backup_days: settings.backup_days,
        },
    }))
}

fn cannot() -> Error {
    Error::Permanent {
        code: "kit-verb-not-supported",
        reason: "the system publishes and takes no questions or instructions".to_owned(),
    }
}

#[async_trait]
impl Connector for Published {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn check(&self) -> Result<Vec<Finding>, Error> {
        Ok(vec![Finding {
            what: "publishing".to_owned(),
            ok: true,
            detail: String::new(),
        }])
    }

    async fn feed(&self, _: &ShardName, _: Option<&str>, _: usize) -> Result<FeedPage, Error> {
        Ok(FeedPage::default())
    }

    async fn locate(&self, _: &Selector, _: Page) -> Result<Located, Error> {
        Err(cannot())
    }

    async fn perform(&self, _: &Ask) -> Result<Performed, Error> {
        Ok(Performed::Refused {
            code: "kit-verb-not-supported",
            reason: "the system publishes and takes no instructions".to_owned(),
        })
    }

    async fn poll(&self, _: &Ask, _: &str) -> Result<Performed, Error> {
        Err(cannot())
    }

    async fn observe(&self, _: &DatasetName, _: &Selector) -> Result<Observed, Error> {
        Err(cannot())
    }

    async fn export(&self, _: &Selector, _: Page) -> Result<(Vec<serde_json::Value>, Page), Error> {
        Err(cannot())
    }
}
