//! One partition: what waits to be appended, and what is known of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lethe_journal::{Epoch, Place, Position};
use lethe_log::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Appended, Error};
use tokio::sync::{oneshot, watch};

use crate::clients::Sender;
use crate::moment::Moment;
use crate::wire::Content;

/// Positions of readers that are remembered for each partition: more readers than services that read one.
const TRAILS_MAX: usize = 64;

/// One partition of one stream.
pub(crate) struct Channel {
    pub(crate) at: Place,
    pub(crate) topic: String,
    /// Up to where the partition was seen to be readable.
    pub(crate) head: watch::Sender<Position>,
    queue: Mutex<Queue>,
    writer: Mutex<Writer>,
    trails: Mutex<Trails>,
}

#[derive(Default)]
struct Trails {
    known: BTreeMap<Position, (u64, Trail)>,
    notes: u64,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    is_served: bool,
}

/// What waits for a partition's turn.
pub(crate) enum Request {
    /// Entries to append.
    Append(Append),
    /// Somebody who wants to become the writer.
    Acquire(oneshot::Sender<Result<Epoch, Error>>),
}

/// Entries that wait.
pub(crate) struct Append {
    pub(crate) writer: Option<Epoch>,
    pub(crate) contents: Vec<Content>,
    pub(crate) reply: oneshot::Sender<Result<Appended, Error>>,
}

/// What is done at once.
pub(crate) enum Turn {
    /// Appends by the same writer, which go into one transaction.
    Append(Vec<Append>),
    Acquire(oneshot::Sender<Result<Epoch, Error>>),
}

/// The handle of a partition's single writer.
#[derive(Default)]
pub(crate) struct Writer {
    /// While this process is the writer.
    pub(crate) held: Option<Held>,
}

/// What a writer writes with.
pub(crate) struct Held {
    pub(crate) producer: Sender,
    pub(crate) epoch: Epoch,
    /// Where its next entry stands, unless somebody else wrote in between.
    pub(crate) next: Position,
}

/// What is known of a reader who stands at a position.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trail {
    /// The newest epoch that began before the position.
    pub(crate) epoch: Option<Epoch>,
    /// When the reader had last seen everything that a tombstone could end.
    pub(crate) as_of: Option<Moment>,
}

impl Channel {
    pub(crate) fn new(at: Place, topic: String) -> Arc<Self> {
        Arc::new(Self {
            at,
            topic,
            head: watch::Sender::new(0),
            queue: Mutex::default(),
            writer: Mutex::default(),
            trails: Mutex::default(),
        })
    }

    /// Partition as Kafka numbers it.
    pub(crate) fn partition(&self) -> i32 {
        i32::from(self.at.partition)
    }

    /// Puts a request in the queue; true where nobody serves the queue yet, and the caller has to.
    pub(crate) fn push(&self, request: Request) -> bool {
        let mut queue = self.queue();
        queue.requests.push_back(request);
        !std::mem::replace(&mut queue.is_served, true)
    }

    /// The next turn; `None` ends the service.
    pub(crate) fn next_turn(&self) -> Option<Turn> {
        let mut queue = self.queue();
        let first = match queue.requests.pop_front() {
            Some(Request::Append(append)) => append,
            Some(Request::Acquire(reply)) => return Some(Turn::Acquire(reply)),
            None => {
                queue.is_served = false;
                return None;
            }
        };
        let (mut entries, mut bytes) = weight(&first);
        let writer = first.writer;
        let mut together = vec![first];
        while let Some(Request::Append(next)) = queue.requests.front() {
            let (more_entries, more_bytes) = weight(next);
            entries += more_entries;
            bytes += more_bytes;
            if next.writer != writer || entries > APPEND_ENTRIES_MAX || bytes > APPEND_BYTES_MAX {
                break;
            }
            if let Some(Request::Append(next)) = queue.requests.pop_front() {
                together.push(next);
            }
        }
        Some(Turn::Append(together))
    }

    /// Ends a service that broke: what waits is dropped, so that nobody waits for ever.
    pub(crate) fn abandon(&self) {
        let mut queue = self.queue();
        queue.requests.clear();
        queue.is_served = false;
    }

    /// The writer's handle. Only the service of the queue takes it.
    pub(crate) fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a reader at a position.
    pub(crate) fn trail(&self, position: Position) -> Trail {
        self.trails()
            .known
            .get(&position)
            .map_or_else(Trail::default, |(_, trail)| *trail)
    }

    /// Remembers what is known of a reader at a position.
    pub(crate) fn note(&self, position: Position, trail: Trail) {
        let mut trails = self.trails();
        trails.notes += 1;
        let note = trails.notes;
        trails.known.insert(position, (note, trail));
        if trails.known.len() > TRAILS_MAX {
            // The one that was noted first: its reader has gone on, or away.
            let oldest = trails
                .known
                .iter()
                .min_by_key(|(_, (note, _))| *note)
                .map(|(position, _)| *position);
            oldest.map(|position| trails.known.remove(&position));
        }
    }

    /// Tells those who wait how far the partition reaches.
    pub(crate) fn raise(&self, head: Position) {
        self.head.send_if_modified(|known| {
            let is_news = head > *known;
            *known = head.max(*known);
            is_news
        });
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trails(&self) -> MutexGuard<'_, Trails> {
        self.trails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight(append: &Append) -> (usize, usize) {
    (
        append.contents.len(),
        append.contents.iter().map(Content::bytes).sum(),
    )
}
