//! The embedded log: durable, on one machine.
//!
//! ```text
//! append ──> bounded queue ──> writer thread of the stream ──> one transaction, one fsync ──> answers, heads, waiters
//! read ────> a thread for blocking work ──> a snapshot of the stream's current file
//! compact ─> a thread for blocking work copies ──> the writer adds the rest ──> manifest ──> the old file goes
//! ```
//!
//! In the folder: `manifest` (which file of each stream is the current one), `<stream>.<generation>.redb`, `<stream>.heads` (up to where
//! it was acknowledged), `lock`. What was acknowledged survives a power loss; what was not is there whole or not at all.
//!
//! # Why redb
//!
//! `cargo run --release -p lethe-log --example measure_embedded -- 100` (and `-- 1000`) does the log's own work on redb 4.6, fjall 3.1, plain
//! segments (an appended file with checksums, read from the start when it opens), and this log: 200,000 entries of 400 B with
//! 50,000 keys over 16 partitions. Measured in November 2026 on two shared cores and a virtual disk; use the ratios.
//!
//! | | entries/s, 100 a batch | entries/s, 1,000 a batch | one durable append p50 / p99 | disk | open after a kill | compaction | disk after it |
//! |---|---|---|---|---|---|---|---|
//! | redb | 48,000 | 131,000 | 0.43 / 0.74 ms | 272 MiB | 604 ms | 809 ms | 34 MiB |
//! | fjall | 160,000 | 269,000 | 0.16 / 0.28 ms | 143 MiB | 501 ms | 513 ms | 64 MiB |
//! | segments | 295,000 | 938,000 | 0.13 / 0.30 ms | 83 MiB | 35 ms | 172 ms | 20 MiB |
//! | this log, on redb | 44,000 | 130,000 | 0.44 / 0.67 ms | 272 MiB | 572 ms | 826 ms | 34 MiB |
//!
//! redb is the slowest of the three, by a factor of 3 to 7 against segments, and takes three times their disk until a compaction. It was
//! chosen all the same: it is the only library of the two whose files can be put on another layer, so that the suite can
//! throw unsynced writes away under it and show that nothing acknowledged is lost; one stream is one file, so that removing the
//! file removes the bytes, where fjall's keyspaces share a journal; and reading from any position needs no index in memory. Segments
//! would need their own recovery, their own index and their own rule for a torn end. An append on an idle stream costs one
//! fsync on each of them. Where the log becomes the narrowest place, segments behind the same suite are the way on.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use lethe_journal::{Entry, Epoch, Place, Position, Stream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::files::{FileLayer, Folder, Lock};
use crate::generation::{Generation, Settings};
use crate::heads::Heads;
use crate::manifest::{Manifest, damaged, file_name};
use crate::memory::gone_by;
use crate::rules::{self, Rule, State};
use crate::writer::{Request, Shared, Writer, file_bytes, gone};
use crate::{Appended, Compaction, Error, EventLog, GoneBy, Page, rewrite};

/// Requests that may wait for a stream's writer before appends wait as well.
const QUEUE_REQUESTS_MAX: usize = 256;

/// The generation of a stream's first file.
const FIRST_GENERATION: u64 = 1;

/// How a log is opened.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Bytes of page cache for each stream. A dozen streams share the 300 MiB that all of Lethe may take.
    pub cache_bytes_per_stream: usize,
    /// Whether every page of every file is verified before the log opens, which reads all of it. Without it damage shows when
    /// the damaged part is read.
    pub verify: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            cache_bytes_per_stream: 2 << 20,
            verify: false,
        }
    }
}

/// The durable log in a folder of one machine.
pub struct EmbeddedLog {
    channels: BTreeMap<Stream, Channel>,
    files: Arc<dyn FileLayer>,
    lock: Arc<Lock>,
    settings: Settings,
}

struct Channel {
    shared: Arc<Shared>,
    /// `None` only while the log is dropped.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// One rewriting of a stream at a time.
    rewriting: tokio::sync::Mutex<()>,
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        // All writers are told first, so that they finish side by side.
        for channel in self.channels.values_mut() {
            channel.requests = None;
        }
        for thread in self
            .channels
            .values_mut()
            .filter_map(|channel| channel.thread.take())
        {
            // A writer never panics outside of its guards, and there would be nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl EmbeddedLog {
    /// Opens the log in a folder, made where it is missing, with these streams and with every stream that was ever opened there.
    ///
    /// Reads the state of every partition and, after a crash, all of the files that were open. Blocks meanwhile.
    /// Errors: [`Error::NotStored`] where another process has the folder or the file system refuses; [`Error::Corrupt`]
    /// where a file is missing, damaged, or ends before what was acknowledged.
    pub fn open(dir: &Path, streams: &[Stream], options: OpenOptions) -> Result<Self, Error> {
        let folder = Folder::new(dir).map_err(|error| {
            Error::NotStored(format!(
                "the log's folder {} cannot be opened: {error}",
                dir.display()
            ))
        })?;
        Self::open_on(Arc::new(folder), streams, options)
    }

    /// Opens the log on a file layer, as [`EmbeddedLog::open`] does in a folder.
    pub fn open_on(
        files: Arc<dyn FileLayer>,
        streams: &[Stream],
        options: OpenOptions,
    ) -> Result<Self, Error> {
        let lock: Arc<Lock> = Arc::new(files.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::NotStored(
                "another process has the log's folder open; stop it first, or give this one another folder".to_owned(),
            ),
            _ => Error::NotStored(format!("the log's folder cannot be locked: {error}")),
        })?);
        let manifest = Manifest::load(Arc::clone(&files))?;
        let settings = Settings {
            cache_bytes: options.cache_bytes_per_stream,
            verify: options.verify,
        };
        let mut opened = Vec::new();
        for (stream, number) in manifest.generations() {
            let generation = Generation::open(&*files, Arc::clone(&lock), stream, *number, settings)?;
            opened.push((stream.clone(), open_states(&*files, stream, generation)?));
        }
        manifest
            .sweep()
            .map_err(|error| Error::NotStored(format!("remnants cannot be removed: {error}")))?;
        let manifest = Arc::new(Mutex::new(manifest));
        for stream in streams {
            if opened.iter().all(|(other, _)| other != stream) {
                opened.push((
                    stream.clone(),
                    create(&*files, &lock, &manifest, stream, settings)?,
                ));
            }
        }
        let mut log = Self {
            channels: BTreeMap::new(),
            files,
            lock,
            settings,
        };
        for (stream, (generation, states)) in opened {
            let channel = log.start(&manifest, stream.clone(), generation, states)?;
            log.channels.insert(stream, channel);
        }
        Ok(log)
    }

    fn start(
        &self,
        manifest: &Arc<Mutex<Manifest>>,
        stream: Stream,
        generation: Generation,
        states: Vec<State>,
    ) -> Result<Channel, Error> {
        let not_started =
            |error: io::Error| Error::NotStored(format!("the writer of a stream cannot start: {error}"));
        let heads = Heads::open(&*self.files, &stream.to_string()).map_err(not_started)?;
        heads.note(&states);
        let shared = Arc::new(Shared::new(stream, Arc::new(generation), &states));
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let writer = Writer {
            files: Arc::clone(&self.files),
            manifest: Arc::clone(manifest),
            shared: Arc::clone(&shared),
            states,
            heads,
            stopped: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("log-{}", shared.stream))
            .spawn(move || writer.run(receiver))
            .map_err(not_started)?;
        Ok(Channel {
            shared,
            requests: Some(requests),
            thread: Some(thread),
            rewriting: tokio::sync::Mutex::new(()),
        })
    }

    /// The streams of the log.
    pub fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.channels.keys()
    }

    /// Size of a stream's file in bytes.
    ///
    /// Errors: [`Error::NotStored`] where the log has no such stream.
    pub fn disk_bytes(&self, stream: &Stream) -> Result<u64, Error> {
        let channel = self.channel(stream)?;
        Ok(file_bytes(&*self.files, &channel.shared.current().name()))
    }

    /// The head of each partition of a stream, by partition.
    ///
    /// Errors: [`Error::NotStored`] where the log has no such stream.
    pub fn heads(&self, stream: &Stream) -> Result<BTreeMap<u16, Position>, Error> {
        Ok((0..)
            .zip(
                self.channel(stream)?
                    .shared
                    .heads
                    .iter()
                    .map(|head| *head.borrow()),
            )
            .collect())
    }

    /// Keeps only the newest entry of each key of a table, and removes tombstones that every reader has passed. Appends go on
    /// but for a short moment at the end. When it returns, no file of the log holds a byte of what went.
    ///
    /// `seen` says per partition up to where the slowest reader has read; without it no tombstone of the partition goes. Takes
    /// about 80 bytes of memory per key of the largest partition, and the disk space of what stays.
    /// Errors: [`Error::NotStored`] where the stream is not a table, [`Error::Corrupt`] where it cannot be read to its end,
    /// [`Error::Unknown`] where the old file may still be there.
    pub async fn compact(
        &self,
        stream: &Stream,
        seen: &BTreeMap<u16, Position>,
    ) -> Result<Compaction, Error> {
        self.rewrite(stream, Rule::Newest { seen: seen.clone() }).await
    }

    /// Drops the start of a queue, per partition, up to but without the given position, as [`EmbeddedLog::compact`] does with a table.
    ///
    /// Errors: [`Error::NotStored`] where the stream is not a queue, and otherwise those of [`EmbeddedLog::compact`].
    pub async fn expire(
        &self,
        stream: &Stream,
        before: &BTreeMap<u16, Position>,
    ) -> Result<Compaction, Error> {
        self.rewrite(
            stream,
            Rule::From {
                before: before.clone(),
            },
        )
        .await
    }

    async fn rewrite(&self, stream: &Stream, rule: Rule) -> Result<Compaction, Error> {
        rule.check(stream)?;
        let channel = self.channel(stream)?;
        let _alone = channel.rewriting.lock().await;
        let bytes_before = self.disk_bytes(stream)?;
        let (files, lock, settings) = (Arc::clone(&self.files), Arc::clone(&self.lock), self.settings);
        let (old, stream) = (channel.shared.current(), stream.clone());
        let build = move || {
            rewrite::guarded(&old.name(), || {
                rewrite::build(&*files, lock, &old, &stream, &rule, settings)
            })
        };
        let Some(built) = off_thread(build).await? else {
            return Ok(Compaction {
                bytes_before,
                bytes_after: bytes_before,
                ..Compaction::default()
            });
        };
        let (reply, answer) = oneshot::channel();
        channel
            .send(Request::Switch {
                built: Box::new(built),
                reply,
            })
            .await?;
        let switched = answer.await.map_err(|_| gone())??;
        if let Some(closed) = switched.old_closed {
            // Ends with an error, because the sender is dropped without a word.
            let _ = closed.await;
        }
        Ok(Compaction {
            bytes_before,
            ..switched.report
        })
    }

    fn channel(&self, stream: &Stream) -> Result<&Channel, Error> {
        self.channels
            .get(stream)
            .ok_or_else(|| Error::NotStored(format!("the log has no stream {stream}")))
    }

    fn place(&self, at: &Place) -> Result<(&Channel, &watch::Sender<Position>), Error> {
        rules::check_place(at)?;
        let channel = self.channel(&at.stream)?;
        let head = channel
            .shared
            .heads
            .get(usize::from(at.partition))
            .ok_or_else(gone)?;
        Ok((channel, head))
    }
}

/// The states of an opened file, where they reach what was acknowledged.
fn open_states(
    files: &dyn FileLayer,
    stream: &Stream,
    generation: Generation,
) -> Result<(Generation, Vec<State>), Error> {
    let name = generation.name();
    let states = rewrite::guarded(&name, || {
        generation.snapshot().map(|snapshot| snapshot.states.clone())
    })?;
    if !Heads::reached_by(files, &stream.to_string(), &states) {
        return Err(damaged(&format!("{name} ends before what was acknowledged")));
    }
    Ok((generation, states))
}

fn create(
    files: &dyn FileLayer,
    lock: &Arc<Lock>,
    manifest: &Mutex<Manifest>,
    stream: &Stream,
    settings: Settings,
) -> Result<(Generation, Vec<State>), Error> {
    let states = vec![State::default(); usize::from(stream.partitions())];
    let generation = Generation::create(
        files,
        Arc::clone(lock),
        stream,
        FIRST_GENERATION,
        &states,
        settings,
    )?;
    manifest
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .switch(stream, FIRST_GENERATION)
        .map_err(|_| {
            Error::NotStored(format!(
                "{} cannot be entered in the manifest",
                file_name(stream, FIRST_GENERATION)
            ))
        })?;
    Ok((generation, states))
}

/// Runs what reads files where it blocks no other task.
async fn off_thread<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(act).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => Err(damaged("a file of the log is damaged")),
        Err(_) => Err(gone()),
    }
}

impl Channel {
    async fn send(&self, request: Request) -> Result<(), Error> {
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request).await.map_err(|_| gone())
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn acquire(&self, at: &Place) -> Result<Epoch, Error> {
        let (channel, _) = self.place(at)?;
        let (reply, answer) = oneshot::channel();
        channel
            .send(Request::Acquire {
                partition: at.partition,
                reply,
            })
            .await?;
        answer.await.map_err(|_| unanswered())?
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, Error> {
        rules::check_batch(at, &entries)?;
        let (channel, _) = self.place(at)?;
        let (reply, answer) = oneshot::channel();
        channel
            .send(Request::Append {
                partition: at.partition,
                writer,
                entries,
                reply,
            })
            .await?;
        answer.await.map_err(|_| unanswered())?
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, Error> {
        let (channel, head) = self.place(at)?;
        let head = *head.borrow();
        if from == head {
            // A reader that waits at the head costs no look into the file.
            return Ok(Page {
                entries: Vec::new(),
                strays: Vec::new(),
                next: head,
                head,
                fell_behind: false,
            });
        }
        let (generation, partition) = (channel.shared.current(), at.partition);
        off_thread(move || {
            let page = rewrite::guarded(&generation.name(), || generation.page(partition, from, limit));
            // Left here, so that an old file closes on this thread.
            drop(generation);
            page
        })
        .await
    }

    async fn head(&self, at: &Place) -> Result<Position, Error> {
        Ok(*self.place(at)?.1.borrow())
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), Error> {
        let mut head = self.place(at)?.1.subscribe();
        // Running out of patience and the end of the log are no errors: the caller reads on and sees.
        let _ = tokio::time::timeout(patience, head.wait_for(|head| *head > position)).await;
        Ok(())
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        gone_by(stream)
    }

    async fn check(&self) -> Result<(), Error> {
        for channel in self.channels.values() {
            let generation = channel.shared.current();
            off_thread(move || rewrite::guarded(&generation.name(), || read_through(&generation))).await?;
        }
        Ok(())
    }
}

/// Reads every entry of a file.
fn read_through(generation: &Generation) -> Result<(), Error> {
    let snapshot = generation.snapshot()?;
    for partition in (0..).take(snapshot.states.len()) {
        snapshot.scan(partition, 0, |_, _| Ok(std::ops::ControlFlow::Continue(())))?;
    }
    Ok(())
}

/// The error of a request that was taken and never answered.
fn unanswered() -> Error {
    Error::Unknown("the writer of the stream ended before it answered".to_owned())
}
