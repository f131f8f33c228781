//! Strays in streams that nobody reads alone: whoever follows one passes them by, and whoever has the ledger puts them away.

use std::sync::Arc;

use futures::future::try_join_all;
use lethe_journal::{Place, Stream};
use lethe_log::EventLog;
use lethe_terms::SystemName;
use tokio::sync::watch;

use crate::Error;
use crate::following::Following;
use crate::poison::{PutsAway, of_stray};

/// The streams, beside the requests to programs, which those alone read. All others have somebody of Lethe who reads a partition alone.
const FOLLOWED: [Stream; 6] = [
    Stream::Systems,
    Stream::Owners,
    Stream::Erased,
    Stream::Cursors,
    Stream::Quarantine,
    Stream::Leaves,
];

/// Puts away what stands there now and comes later, until `stop`; of these systems the requests, too.
pub(crate) async fn put_away(
    log: Arc<dyn EventLog>,
    away: Arc<dyn PutsAway>,
    asked: Vec<SystemName>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let streams = FOLLOWED
        .into_iter()
        .chain(asked.into_iter().map(Stream::Requests));
    let look = |stream| put_away_of(&*log, &*away, Place::new(stream, 0), stop.clone());
    try_join_all(streams.map(look)).await.map(drop)
}

async fn put_away_of(
    log: &dyn EventLog,
    away: &dyn PutsAway,
    at: Place,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut pages = Following::new(log, at.clone(), 0);
    while let Some(page) = pages.next(&mut stop).await? {
        let strays: Vec<_> = page.strays.into_iter().map(of_stray).collect();
        if !strays.is_empty() && !away.put_away(&at, &strays, &mut stop).await? {
            break;
        }
    }
    Ok(())
}
