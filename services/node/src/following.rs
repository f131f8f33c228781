//! Following a stream in one partition: whatever stands there now and comes later.

use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Place, Position, Stored, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX, Page};
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
    from: Position,
    mut take: impl FnMut(&[Stored]) -> Result<(), Error>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let mut pages = Following::new(&*log, Place::new(stream, 0), from);
    while let Some(page) = pages.next(&mut stop).await? {
        take(&page.entries)?;
    }
    Ok(())
}

/// The pages of a partition, those that come later, too.
pub(crate) struct Following<'a> {
    log: &'a dyn EventLog,
    at: Place,
    from: Position,
}

impl<'a> Following<'a> {
    /// What stands from `from` on.
    pub(crate) const fn new(log: &'a dyn EventLog, at: Place, from: Position) -> Self {
        Self { log, at, from }
    }

    /// The next page, as soon as there is one; nothing where `stop` comes first.
    pub(crate) async fn next(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Option<Page>, Error> {
        while !*stop.borrow() {
            let page = self.log.read(&self.at, self.from, PAGE_ENTRIES_MAX).await?;
            if page.next != self.from {
                self.from = page.next;
                return Ok(Some(page));
            }
            tokio::select! {
                woken = self.log.wait(&self.at, self.from, IDLE) => woken?,
                _ = stop.changed() => {}
            }
        }
        Ok(None)
    }
}
