//! Following a stream in one partition: whatever stands there now and comes later.

use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Place, Position, Stored, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use tokio::sync::watch;

use crate::Error;

/// Longest wait before somebody who follows looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// Hands over each page of a stream from its beginning, until `stop`.
pub(crate) async fn follow(
    log: Arc<dyn EventLog>,
    stream: Stream,
    take: impl FnMut(&[Stored]) -> Result<(), Error>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    follow_from(log, stream, 0, take, stop).await
}

/// As [`follow`], from that position on.
pub(crate) async fn follow_from(
    log: Arc<dyn EventLog>,
    stream: Stream,
    mut from: Position,
    mut take: impl FnMut(&[Stored]) -> Result<(), Error>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let at = Place::new(stream, 0);
    while !*stop.borrow() {
        let page = log.read(&at, from, PAGE_ENTRIES_MAX).await?;
        take(&page.entries)?;
        let moved = page.next != from;
        from = page.next;
        if !moved {
            tokio::select! {
                woken = log.wait(&at, from, IDLE) => woken?,
                _ = stop.changed() => {}
            }
        }
    }
    Ok(())
}
