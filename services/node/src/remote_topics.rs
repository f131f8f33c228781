//! The two streams between this process and a program elsewhere: requests go out, replies come back. Both are sealed before they come here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::{Entry, Place, Position, Stored, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_remote::{Carrier, NotCarried};
use lethe_terms::SystemName;
use tokio::sync::{mpsc, watch};

use crate::{Error, publish, shell};

/// Replies to one request that wait to be looked at: one is expected, and what others write must not take the memory.
const REPLIES_WAITING_MAX: usize = 8;

/// Longest wait before the replies are looked at without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// Wait before replies that could not be read are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Who waits for a reply, by the id of the request.
type Waiting = Mutex<HashMap<Vec<u8>, mpsc::Sender<Vec<u8>>>>;

/// The streams of one system.
pub(crate) struct RemoteTopics {
    log: Arc<dyn EventLog>,
    requests: Place,
    replies: Place,
    waiting: Waiting,
}

impl RemoteTopics {
    /// Where replies are read from, and the streams of a system. A reply from before this moment answers nobody any more.
    pub(crate) async fn open(
        log: Arc<dyn EventLog>,
        system: &SystemName,
    ) -> Result<(Arc<Self>, Position), Error> {
        let topics = Self {
            log,
            requests: Place::new(Stream::Requests(system.clone()), 0),
            replies: Place::new(Stream::Replies(system.clone()), 0),
            waiting: Mutex::default(),
        };
        let head = topics.log.head(&topics.replies).await?;
        Ok((Arc::new(topics), head))
    }

    /// Brings replies to those who wait for them, until `stop`.
    pub(crate) async fn bring(
        self: Arc<Self>,
        mut from: Position,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            let pause = match self.log.read(&self.replies, from, PAGE_ENTRIES_MAX).await {
                Ok(page) => {
                    self.hand_out(page.entries);
                    if page.next != from {
                        from = page.next;
                        continue;
                    }
                    Duration::ZERO
                }
                Err(error) => {
                    tracing::warn!(code = error.code(), place = %self.replies, "replies could not be read");
                    RETRY
                }
            };
            tokio::select! {
                // Whether the wait failed shows when the stream is read.
                _ = async {
                    tokio::time::sleep(pause).await;
                    self.log.wait(&self.replies, from, IDLE).await
                } => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// A reply that nobody waits for came too late, or is nobody's.
    fn hand_out(&self, entries: Vec<Stored>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for stored in entries {
            if let (Some(waits), Some(reply)) = (waiting.get(&stored.entry.key), stored.entry.value) {
                // Where too many wait already, this one is as good as garbage.
                let _ = waits.try_send(reply);
            }
        }
    }
}

#[async_trait]
impl Carrier for RemoteTopics {
    async fn send(&self, id: &str, request: Vec<u8>) -> Result<mpsc::Receiver<Vec<u8>>, NotCarried> {
        let (waits, replies) = mpsc::channel(REPLIES_WAITING_MAX);
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|_, waits| !waits.is_closed());
            waiting.insert(id.as_bytes().to_vec(), waits);
        }
        let entry = Entry {
            id: shell::entry_id(),
            key: id.as_bytes().to_vec(),
            value: Some(request),
        };
        match publish::append(&*self.log, &self.requests, vec![entry], "requests").await {
            Ok(()) | Err(Error::Log(lethe_log::Error::Unknown(_))) => Ok(replies),
            Err(error) => {
                tracing::warn!(code = error.code(), place = %self.requests, "a request could not be sent");
                Err(NotCarried::NotStored)
            }
        }
    }
}
