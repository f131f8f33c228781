//! The connector contract, tried on a live system without planting anybody in it.

use std::sync::Arc;

use lethe_gateway::views::{ConformanceView, MustResult as Shown, MustView};
use lethe_kit::suite::{LiveFixture, MustResult, run};
use lethe_kit::{Error, Host};

use crate::shell;

/// Executes what of the contract can be tried on a live system; nothing while that cannot be reached, since no answer breaks no promise.
pub(crate) async fn against(host: &Arc<Host>) -> Option<ConformanceView> {
    if let Err(Error::Transient { .. }) = host.connector().check().await {
        return None;
    }
    let mut fixture = LiveFixture(host.connector());
    let verdicts = run(&mut fixture, u64::from_be_bytes(shell::random())).await;
    Some(ConformanceView {
        system: host.manifest().system.to_string(),
        ok: verdicts
            .iter()
            .all(|verdict| verdict.result != MustResult::Broken),
        musts: verdicts
            .into_iter()
            .map(|verdict| MustView {
                number: verdict.number,
                must: verdict.must.to_owned(),
                result: match verdict.result {
                    MustResult::Kept => Shown::Kept,
                    MustResult::Broken => Shown::Broken,
                    MustResult::NotTried => Shown::NotTried,
                },
                detail: verdict.detail,
            })
            .collect(),
    })
}
