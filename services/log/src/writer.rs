//! The writer of one stream: a thread that takes everything that waits and commits it in one transaction.
//!
//! An idle stream commits at once; while a commit runs, appends queue up and share the next one. No tick, so no latency at
//! low load. A failed commit stops the stream: redb refuses to write on, and what is durable shows only a new start.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lethe_journal::{Entry, Epoch, Place, Position, Stream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::files::FileLayer;
use crate::generation::{Failure, Generation, Writing};
use crate::heads::Heads;
use crate::manifest::{self, Manifest};
use crate::rewrite::{self, Built};
use crate::rules::{self, Standing, State};
use crate::{Appended, Compaction, Error};

/// Most bytes of keys and values in one commit: bounds what redb holds in memory for it.
const COMMIT_BYTES_MAX: usize = 8 << 20;

/// Most requests in one commit: bounds how long the first of them waits for the others.
const COMMIT_REQUESTS_MAX: usize = 1_024;

/// What a stream's writer is asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Append these entries.
    Append {
        /// The partition, which exists.
        partition: u16,
        /// The epoch of the writer.
        writer: Option<Epoch>,
        /// The entries, checked.
        entries: Vec<Entry>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Appended, Error>>,
    },
    /// Give out a new epoch.
    Acquire {
        /// The partition, which exists.
        partition: u16,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Epoch, Error>>,
    },
    /// Go on in a file that was rewritten.
    Switch {
        /// The new file, complete up to a moment ago.
        built: Box<Built>,
        /// Where the answer goes, and with it the end of the old file.
        reply: oneshot::Sender<Result<Switched, Error>>,
    },
}

/// What a switch leads to.
#[derive(Debug)]
pub(crate) struct Switched {
    /// What was rewritten.
    pub(crate) report: Compaction,
    /// Ends when the last reader has left the old file.
    pub(crate) old_closed: Option<oneshot::Receiver<()>>,
}

/// What a writer shares with the readers of its stream.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The stream.
    pub(crate) stream: Stream,
    current: RwLock<Arc<Generation>>,
    /// The acknowledged head of each partition.
    pub(crate) heads: Vec<watch::Sender<Position>>,
}

impl Shared {
    /// What readers of a file need.
    pub(crate) fn new(stream: Stream, current: Arc<Generation>, states: &[State]) -> Self {
        let heads = states
            .iter()
            .map(|state| watch::Sender::new(state.head))
            .collect();
        Self {
            stream,
            current: RwLock::new(current),
            heads,
        }
    }

    /// The file to read.
    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The writer of one stream.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The folder.
    pub(crate) files: Arc<dyn FileLayer>,
    /// The manifest of all streams.
    pub(crate) manifest: Arc<Mutex<Manifest>>,
    /// What the readers see.
    pub(crate) shared: Arc<Shared>,
    /// The states of the partitions, durable.
    pub(crate) states: Vec<State>,
    /// The witness of what was acknowledged.
    pub(crate) heads: Heads,
    /// Why nothing is written any more.
    pub(crate) stopped: Option<String>,
}

enum Done {
    Appended(Appended),
    Acquired(Epoch),
    Refused(Error),
}

impl Writer {
    /// Serves until the log is dropped.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            let mut switch = None;
            while let Some(request) = next.take() {
                match request {
                    Request::Switch { built, reply } => switch = Some((built, reply)),
                    request => {
                        bytes += request.bytes();
                        group.push(request);
                    }
                }
                if switch.is_none() && bytes < COMMIT_BYTES_MAX && group.len() < COMMIT_REQUESTS_MAX {
                    next = requests.try_recv().ok();
                }
            }
            if !group.is_empty() {
                self.commit(group);
            }
            if let Some((built, reply)) = switch {
                // Whoever asked may have gone; the switch holds all the same.
                let _ = reply.send(self.switch(*built));
            }
        }
    }

    fn stopped(&self) -> Option<Error> {
        let reason = self.stopped.as_ref()?;
        Some(Error::NotStored(format!(
            "{} takes no more entries until a new start: {reason}",
            self.shared.stream
        )))
    }

    fn commit(&mut self, group: Vec<Request>) {
        if self.stopped.is_some() {
            for request in group {
                request.refuse(self.stopped().unwrap_or_else(gone));
            }
            return;
        }
        let generation = self.shared.current();
        let stream = &self.shared.stream;
        let states = &mut self.states;
        let attempt = || {
            generation.commit(states, |writing| {
                group
                    .iter()
                    .map(|request| request.apply(stream, writing))
                    .collect()
            })
        };
        let outcome: Result<Vec<Done>, Failure> =
            catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| {
                // Where it panicked is unknown, so what is stored is, too.
                Err(Failure::During(Error::Unknown(format!(
                    "{} is damaged",
                    generation.name()
                ))))
            });
        match outcome {
            Ok(done) => {
                self.heads.note(&self.states);
                for (head, state) in self.shared.heads.iter().zip(&self.states) {
                    head.send_if_modified(|head| std::mem::replace(head, state.head) != state.head);
                }
                for (request, done) in group.into_iter().zip(done) {
                    request.answer(done);
                }
            }
            Err(failure) => {
                self.stopped = Some(failure_reason(&failure));
                for request in group {
                    request.refuse(again(&failure));
                }
            }
        }
    }

    /// Copies what was appended since, makes the new file the current one, and removes the old one.
    fn switch(&mut self, mut built: Built) -> Result<Switched, Error> {
        if let Some(error) = self.stopped() {
            rewrite::discard(&*self.files, built);
            return Err(error);
        }
        let old = self.shared.current();
        if let Err(error) = rewrite::guarded(&old.name(), || rewrite::catch_up(&old, &mut built)) {
            rewrite::discard(&*self.files, built);
            return Err(error);
        }
        let switched = self
            .manifest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .switch(&self.shared.stream, built.generation.number);
        match switched {
            Ok(()) => {}
            Err(manifest::Failure::Unchanged(error)) => {
                rewrite::discard(&*self.files, built);
                return Err(Error::NotStored(format!(
                    "the manifest cannot be written: {error}"
                )));
            }
            Err(manifest::Failure::Unknown(error)) => {
                // After a power loss either file may be the current one: an entry in one of them could be lost.
                let reason = format!("whether its compaction lasts is unknown: {error}");
                self.stopped = Some(reason.clone());
                return Err(Error::Unknown(format!("{}: {reason}", self.shared.stream)));
            }
        }
        self.states = built.states;
        let mut report = built.report;
        let name = built.generation.name();
        report.bytes_after = file_bytes(&*self.files, &name);
        *self
            .shared
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(built.generation);
        let old_closed = old.closed();
        self.files
            .remove(&old.name())
            .and_then(|()| self.files.sync_names())
            .map_err(|error| {
                Error::Unknown(format!(
                    "{} was rewritten, but the old file is still there and goes at the next start: {error}",
                    self.shared.stream
                ))
            })?;
        Ok(Switched { report, old_closed })
    }
}

/// Size of a file, 0 where it cannot be told.
pub(crate) fn file_bytes(files: &dyn FileLayer, name: &str) -> u64 {
    files.open(name).and_then(|file| file.len()).unwrap_or(0)
}

/// The error of a request whose stream has ended.
pub(crate) fn gone() -> Error {
    Error::NotStored("the log is closed".to_owned())
}

fn failure_reason(failure: &Failure) -> String {
    let (Failure::Before(error) | Failure::During(error)) = failure;
    error.to_string()
}

fn again(failure: &Failure) -> Error {
    match failure {
        Failure::During(Error::Unknown(why)) => Error::Unknown(why.clone()),
        Failure::During(error) => Error::Unknown(error.to_string()),
        Failure::Before(Error::NotStored(why)) => Error::NotStored(why.clone()),
        Failure::Before(error) => Error::NotStored(error.to_string()),
    }
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(rules::entry_bytes).sum(),
            Self::Acquire { .. } | Self::Switch { .. } => 0,
        }
    }

    /// Does to the open transaction what is asked for.
    fn apply(&self, stream: &Stream, writing: &mut Writing<'_, '_>) -> Result<Done, redb::Error> {
        match self {
            Self::Append {
                partition,
                writer,
                entries,
                ..
            } => {
                let state = *writing.state(*partition);
                match rules::standing(*writer, state.epoch) {
                    Standing::Current => {}
                    Standing::Stale => {
                        return Ok(Done::Appended(Appended::StaleEpoch { current: state.epoch }));
                    }
                    Standing::Unheard => {
                        let at = Place::new(stream.clone(), *partition);
                        return Ok(Done::Refused(rules::unheard(&at, state.epoch)));
                    }
                }
                for (position, entry) in (state.head..).zip(entries) {
                    writing.put(*partition, position, entry)?;
                }
                let next = writing.state(*partition).head;
                Ok(Done::Appended(Appended::At {
                    first: state.head,
                    next,
                }))
            }
            Self::Acquire { partition, .. } => {
                let state = writing.state(*partition);
                state.epoch += 1;
                Ok(Done::Acquired(state.epoch))
            }
            Self::Switch { .. } => Ok(Done::Refused(gone())),
        }
    }

    // A caller that has gone hears nothing; what was stored stays stored.
    fn answer(self, done: Done) {
        match (self, done) {
            (Self::Append { reply, .. }, Done::Appended(appended)) => drop(reply.send(Ok(appended))),
            (Self::Acquire { reply, .. }, Done::Acquired(epoch)) => drop(reply.send(Ok(epoch))),
            (request, Done::Refused(error)) => request.refuse(error),
            (request, _) => request.refuse(gone()),
        }
    }

    fn refuse(self, error: Error) {
        match self {
            Self::Append { reply, .. } => drop(reply.send(Err(error))),
            Self::Acquire { reply, .. } => drop(reply.send(Err(error))),
            Self::Switch { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}
