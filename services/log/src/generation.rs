//! One file of one stream: a redb database with the entries by partition and position, and a row of state per partition.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use lethe_journal::{Entry, Place, Position, Stored, Stream};
use redb::{Database, ReadTransaction, ReadableDatabase, Table, TableDefinition};
use tokio::sync::oneshot;

use crate::files::{Boxed, FileLayer, Lock};
use crate::frame::{self, Frame};
use crate::manifest::{damaged, file_name};
use crate::rules::{self, PageRoom, State};
use crate::{Error, Page};

const ENTRIES: TableDefinition<'_, (u16, u64), &[u8]> = TableDefinition::new("entries");
const PARTITIONS: TableDefinition<'_, u16, &[u8]> = TableDefinition::new("partitions");

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Bytes of redb's cache for one file.
    pub(crate) cache_bytes: usize,
    /// Whether every page is verified when the file is opened.
    pub(crate) verify: bool,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Generation {
    /// `None` only while it is dropped.
    database: Option<Database>,
    stream: Stream,
    /// Its number: the current one stands in the manifest.
    pub(crate) number: u64,
    /// Whether this process wrote all of it, so that nothing of an earlier crash lies in its free pages.
    pub(crate) is_clean: bool,
    closed: Mutex<Option<oneshot::Receiver<()>>>,
    // Dropped after the database: who waits for it knows that the file is closed. The folder stays locked until then.
    _closing: oneshot::Sender<()>,
    _lock: Arc<Lock>,
}

/// Why a transaction failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Before the commit: nothing of it is stored.
    Before(Error),
    /// In the commit: whether it is stored is unknown.
    During(Error),
}

impl Failure {
    /// The error alone.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Before(error) | Self::During(error) => error,
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        let database = self.database.take();
        // A damaged file may make redb panic while it is closed, too; there is nothing left to save.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

impl Generation {
    /// Makes the file of a new generation with the given states, durable under its name.
    pub(crate) fn create(
        files: &dyn FileLayer,
        lock: Arc<Lock>,
        stream: &Stream,
        number: u64,
        states: &[State],
        settings: Settings,
    ) -> Result<Self, Error> {
        let name = file_name(stream, number);
        let not_made = |error: std::io::Error| Error::NotStored(format!("{name} cannot be made: {error}"));
        let file = files.create(&name).map_err(not_made)?;
        let database = Database::builder()
            .set_cache_size(settings.cache_bytes)
            .create_with_backend(Boxed(file))
            .map_err(|error| Error::NotStored(format!("{name} cannot be made: {error}")))?;
        let generation = Self::new(database, lock, stream, number, true);
        generation.transact(|transaction| {
            transaction.open_table(ENTRIES)?;
            let mut partitions = transaction.open_table(PARTITIONS)?;
            for (partition, state) in (0..).zip(states) {
                partitions.insert(partition, frame::encode_state(partition, state).as_slice())?;
            }
            Ok(())
        })?;
        files.sync_names().map_err(not_made)?;
        Ok(generation)
    }

    /// Opens the file of a generation that exists.
    pub(crate) fn open(
        files: &dyn FileLayer,
        lock: Arc<Lock>,
        stream: &Stream,
        number: u64,
        settings: Settings,
    ) -> Result<Self, Error> {
        let name = file_name(stream, number);
        let file = files.open(&name).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged(&format!("{name} is missing")),
            _ => Error::NotStored(format!("{name} cannot be opened: {error}")),
        })?;
        // redb would make a new database of an empty file.
        if file
            .len()
            .map_err(|error| Error::NotStored(format!("{name} cannot be opened: {error}")))?
            == 0
        {
            return Err(damaged(&format!("{name} is empty")));
        }
        let open = || {
            Database::builder()
                .set_cache_size(settings.cache_bytes)
                .set_check_integrity_on_open(settings.verify)
                .create_with_backend(Boxed(file))
        };
        // redb may panic where a damaged file contradicts itself.
        let database = catch_unwind(AssertUnwindSafe(open))
            .map_err(|_| damaged(&format!("{name} is damaged")))?
            .map_err(|error| refused(&format!("{name} cannot be opened"), error.into()))?;
        Ok(Self::new(database, lock, stream, number, false))
    }

    fn new(database: Database, lock: Arc<Lock>, stream: &Stream, number: u64, is_clean: bool) -> Self {
        let (closing, closed) = oneshot::channel();
        Self {
            database: Some(database),
            stream: stream.clone(),
            number,
            is_clean,
            closed: Mutex::new(Some(closed)),
            _closing: closing,
            _lock: lock,
        }
    }

    /// What ends when the file is closed; only the first caller gets it.
    pub(crate) fn closed(&self) -> Option<oneshot::Receiver<()>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The name of the file.
    pub(crate) fn name(&self) -> String {
        file_name(&self.stream, self.number)
    }

    fn database(&self) -> Result<&Database, Error> {
        self.database
            .as_ref()
            .ok_or_else(|| Error::NotStored(format!("{} is closed", self.name())))
    }

    fn unreadable(&self, error: impl Into<redb::Error>) -> Error {
        refused(&format!("{} cannot be read", self.name()), error.into())
    }

    fn transact(
        &self,
        fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), Error> {
        let not_written =
            |error: redb::Error| Error::NotStored(format!("{} cannot be written: {error}", self.name()));
        let transaction = self
            .database()?
            .begin_write()
            .map_err(|error| not_written(error.into()))?;
        fill(&transaction).map_err(not_written)?;
        transaction.commit().map_err(|error| not_written(error.into()))
    }

    /// What the file holds now, unmoved by later commits.
    pub(crate) fn snapshot(&self) -> Result<Snapshot<'_>, Error> {
        let transaction = self
            .database()?
            .begin_read()
            .map_err(|error| self.unreadable(error))?;
        let partitions = transaction
            .open_table(PARTITIONS)
            .map_err(|error| self.unreadable(error))?;
        let mut states = Vec::new();
        for partition in 0..self.stream.partitions() {
            let row = partitions
                .get(partition)
                .map_err(|error| self.unreadable(error))?;
            let state = row.and_then(|row| frame::decode_state(partition, row.value()));
            states.push(state.ok_or_else(|| {
                damaged(&format!(
                    "{}: the state of partition {partition} is damaged",
                    self.name()
                ))
            })?);
        }
        let entries = transaction
            .open_table(ENTRIES)
            .map_err(|error| self.unreadable(error))?;
        Ok(Snapshot {
            generation: self,
            entries,
            states,
            _transaction: transaction,
        })
    }

    /// Reads a page.
    pub(crate) fn page(&self, partition: u16, from: Position, limit: usize) -> Result<Page, Error> {
        let snapshot = self.snapshot()?;
        let at = Place::new(self.stream.clone(), partition);
        let state = snapshot.state(partition);
        rules::check_from(&at, from, state.head)?;
        let mut room = PageRoom::new(limit);
        let mut next = state.head;
        snapshot.scan(partition, from, |position, frame| {
            if room.is_full() || !room.fits(frame.value.map_or(0, <[u8]>::len)) {
                next = position;
                return Ok(ControlFlow::Break(()));
            }
            room.push(Stored {
                position,
                taken_at: None,
                entry: frame.to_entry(),
            });
            Ok(ControlFlow::Continue(()))
        })?;
        let fell_behind = rules::fell_behind(self.stream.kind(), from, state.removed_below);
        Ok(Page {
            entries: room.entries,
            strays: Vec::new(),
            next,
            head: state.head,
            fell_behind,
        })
    }

    /// Writes in one durable transaction. `states` are the states of the partitions before it, and after it where it succeeds.
    pub(crate) fn commit<T>(
        &self,
        states: &mut Vec<State>,
        fill: impl FnOnce(&mut Writing<'_, '_>) -> Result<T, redb::Error>,
    ) -> Result<T, Failure> {
        let before = |error: redb::Error| {
            Failure::Before(Error::NotStored(format!(
                "{} cannot be written: {error}",
                self.name()
            )))
        };
        let transaction = self
            .database()
            .map_err(Failure::Before)?
            .begin_write()
            .map_err(|error| before(error.into()))?;
        let mut next = states.clone();
        let filled = {
            let entries = transaction
                .open_table(ENTRIES)
                .map_err(|error| before(error.into()))?;
            fill(&mut Writing {
                entries,
                states: &mut next,
                bytes: Vec::new(),
            })
            .map_err(before)?
        };
        if next == *states {
            transaction.abort().map_err(|error| before(error.into()))?;
            return Ok(filled);
        }
        {
            let mut partitions = transaction
                .open_table(PARTITIONS)
                .map_err(|error| before(error.into()))?;
            for (partition, (state, old)) in (0..).zip(next.iter().zip(states.iter())) {
                if state != old {
                    let row = frame::encode_state(partition, state);
                    partitions
                        .insert(partition, row.as_slice())
                        .map_err(|error| before(error.into()))?;
                }
            }
        }
        transaction.commit().map_err(|error| {
            Failure::During(Error::Unknown(format!(
                "the commit of {} failed: {error}",
                self.name()
            )))
        })?;
        *states = next;
        Ok(filled)
    }
}

/// The error of a file that redb does not open or read. Where the disk is full or fails, redb reads no more either: that is no damage, and what is
/// durable shows a new start. A file that ends too early is damaged.
fn refused(what: &str, error: redb::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let is_of_content = |error: &std::io::Error| matches!(error.kind(), InvalidData | UnexpectedEof);
    match error {
        redb::Error::PreviousIo => Error::NotStored(format!(
            "{what} until a new start: an earlier write or read failed"
        )),
        redb::Error::Io(error) if !is_of_content(&error) => Error::NotStored(format!("{what}: {error}")),
        error => damaged(&format!("{what} ({error})")),
    }
}

/// The open table of a transaction that writes, and the states it changes.
#[derive(Debug)]
pub(crate) struct Writing<'a, 't> {
    entries: Table<'t, (u16, u64), &'static [u8]>,
    /// The states of the partitions.
    pub(crate) states: &'a mut Vec<State>,
    bytes: Vec<u8>,
}

impl Writing<'_, '_> {
    /// The state of a partition that exists.
    pub(crate) fn state(&mut self, partition: u16) -> &mut State {
        &mut self.states[usize::from(partition)]
    }

    /// Adds an entry at a position that is not below the head's past: the next one, or in a copy the one it had.
    pub(crate) fn put(
        &mut self,
        partition: u16,
        position: Position,
        entry: &Entry,
    ) -> Result<(), redb::Error> {
        let previous = self.state(partition).last;
        Frame::new(previous, entry).encode(partition, position, &mut self.bytes);
        self.entries
            .insert((partition, position), self.bytes.as_slice())?;
        let state = self.state(partition);
        state.last = position + 1;
        state.head = state.head.max(position + 1);
        Ok(())
    }
}

/// What a file held at one moment.
pub(crate) struct Snapshot<'a> {
    generation: &'a Generation,
    entries: redb::ReadOnlyTable<(u16, u64), &'static [u8]>,
    /// The states of all partitions.
    pub(crate) states: Vec<State>,
    _transaction: ReadTransaction,
}

impl Snapshot<'_> {
    /// The state of a partition that exists.
    pub(crate) fn state(&self, partition: u16) -> State {
        self.states[usize::from(partition)]
    }

    /// Visits the entries of a partition from a position on, and refuses to go on where one is damaged or missing.
    pub(crate) fn scan(
        &self,
        partition: u16,
        from: Position,
        mut visit: impl FnMut(Position, Frame<'_>) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let unreadable = |error: redb::StorageError| self.generation.unreadable(error);
        let broken = |position: Position, what: &str| {
            damaged(&format!(
                "{}: partition {partition} {what} at {position}",
                self.generation.name()
            ))
        };
        let mut expected = None;
        for row in self
            .entries
            .range((partition, from)..=(partition, u64::MAX))
            .map_err(unreadable)?
        {
            let (key, value) = row.map_err(unreadable)?;
            let (_, position) = key.value();
            let frame = Frame::decode(partition, position, value.value())
                .ok_or_else(|| broken(position, "holds a damaged entry"))?;
            let follows = expected.map_or(frame.previous <= from, |expected| frame.previous == expected);
            if !follows {
                return Err(broken(position, "misses entries before the one"));
            }
            expected = Some(position + 1);
            if visit(position, frame)?.is_break() {
                return Ok(());
            }
        }
        let last = self.state(partition).last;
        let is_whole = expected.map_or(last <= from, |expected| last == expected);
        if is_whole {
            Ok(())
        } else {
            Err(broken(last, "misses entries before its end"))
        }
    }
}
