//! The store: which generation counts, whether it can be trusted, and how it is replaced.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use lethe_journal::{Position, Stream};
use lethe_store::{Batch, COMMIT_ROWS_MAX, Error, Row, Store};

use crate::engine::{Engine, Fault};
use crate::manifest::{Manifest, ManifestFile};
use crate::totals::Totals;

/// Folder of a generation: this and its number.
const GENERATION_PREFIX: &str = "rows-";

/// How long a folder is waited for that somebody else has: what a process needs to close its files.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How often is looked whether it is free.
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// In which condition a store was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There was none; it is empty.
    Fresh,
    /// Everything that was committed is there.
    Kept,
    /// What was there could not be trusted and was removed; the store is empty and the caller folds the log again from its start,
    /// and says so.
    Rebuild {
        /// What was found, without content.
        why: String,
    },
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SledStore,
    /// In which condition it was found.
    pub condition: Condition,
}

/// Derived state of one partition on sled. One process at a time.
pub struct SledStore {
    dir: PathBuf,
    /// Whoever holds it is the only one who writes; it is taken before `current`.
    manifest: Mutex<ManifestFile>,
    current: RwLock<Current>,
    /// Why nothing is answered any more, until the store is wiped or opened again.
    halted: Mutex<Option<Halt>>,
    /// Held locked as long as the store is open.
    _lock: File,
}

struct Current {
    generation: u64,
    engine: Engine,
    totals: Totals,
}

#[derive(Clone)]
enum Halt {
    Damaged(String),
    Unwritable(String),
}

impl Halt {
    fn error(&self) -> Error {
        match self {
            Self::Damaged(why) => Error::Damaged(why.clone()),
            Self::Unwritable(why) => Error::NotStored(format!("{why}; open the store again")),
        }
    }
}

impl SledStore {
    /// Opens the store in a folder, or makes it. Reads every row once and compares: nothing that was committed can be missing unnoticed.
    ///
    /// Errors: [`Error::NotStored`] where the file system refuses or somebody else has the store open. Damage is no error but
    /// [`Condition::Rebuild`].
    pub fn open(dir: &Path) -> Result<Opened, Error> {
        fs::create_dir_all(dir).map_err(not_stored)?;
        let lock = lock(dir)?;
        let (mut file, manifest) = ManifestFile::open(&dir.join("manifest")).map_err(not_stored)?;
        let generations = generations(dir).map_err(not_stored)?;
        let mut condition = Condition::Kept;
        let found = match (&manifest, generations.last()) {
            (None, None) => {
                condition = Condition::Fresh;
                None
            }
            (None, Some(_)) => {
                condition = Condition::Rebuild {
                    why: "the manifest cannot be read".into(),
                };
                None
            }
            (Some(manifest), _) => match trusted(dir, manifest) {
                Ok(current) => Some(current),
                Err(Fault::Damaged(why)) => {
                    condition = Condition::Rebuild { why };
                    None
                }
                Err(Fault::Io(why)) => return Err(Error::NotStored(why)),
            },
        };
        let newest = generations
            .last()
            .copied()
            .into_iter()
            .chain(manifest.map(|m| m.generation))
            .max()
            .unwrap_or(0);
        let current = match found {
            Some(current) => current,
            None => empty_generation(dir, newest + 1).map_err(|fault| refused(&fault))?,
        };
        file.write(current.generation, &current.totals)
            .map_err(not_stored)?;
        sync_dir(dir).map_err(not_stored)?;
        remove_others(dir, current.generation).map_err(not_stored)?;
        let store = Self {
            dir: dir.to_owned(),
            manifest: Mutex::new(file),
            current: RwLock::new(current),
            halted: Mutex::default(),
            _lock: lock,
        };
        Ok(Opened { store, condition })
    }

    /// Copies what lives into a new generation and removes the old one: afterwards no file of the store holds a byte of a removed row.
    /// Readers go on meanwhile, commits wait. 300,000 rows take some seconds.
    ///
    /// Errors: [`Error::NotStored`] where the file system refuses, the old generation stays; [`Error::Damaged`].
    pub fn compact(&self) -> Result<(), Error> {
        let mut manifest = self.writer();
        self.running()?;
        let copied = {
            let current = self.current();
            copy_generation(&self.dir, &current)
        };
        let next = copied.map_err(|fault| self.unchanged(fault))?;
        self.switch(&mut manifest, next)
    }

    /// Lets a generation count and removes the one before.
    fn switch(&self, manifest: &mut ManifestFile, next: Current) -> Result<(), Error> {
        let generation = next.generation;
        manifest
            .write(generation, &next.totals)
            .map_err(|error| self.halt(Fault::io(&error)))?;
        let old = std::mem::replace(&mut *self.current_mut(), next);
        drop(old);
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = None;
        remove_others(&self.dir, generation).map_err(not_stored)
    }

    fn writer(&self) -> MutexGuard<'_, ManifestFile> {
        self.manifest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_mut(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Result<(), Error> {
        match &*self.halted.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(halt) => Err(halt.error()),
            None => Ok(()),
        }
    }

    /// Nothing is answered any more: what is stored is damaged, or what a write left behind is unknown.
    fn halt(&self, fault: Fault) -> Error {
        let halt = match fault {
            Fault::Io(why) => Halt::Unwritable(why),
            Fault::Damaged(why) => Halt::Damaged(why),
        };
        let error = halt.error();
        *self.halted.lock().unwrap_or_else(PoisonError::into_inner) = Some(halt);
        error
    }

    /// A read that the file system refused changes nothing; damage halts.
    fn unchanged(&self, fault: Fault) -> Error {
        match fault {
            Fault::Io(why) => Error::NotStored(why),
            damaged @ Fault::Damaged(_) => self.halt(damaged),
        }
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        write!(
            f,
            "SledStore(generation {}, {} rows)",
            current.generation, current.totals.rows
        )
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.running()?;
        self.current()
            .engine
            .get(key)
            .map_err(|fault| self.unchanged(fault))
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        self.running()?;
        self.current()
            .engine
            .scan(prefix, after, limit)
            .map_err(|fault| self.unchanged(fault))
    }

    fn commit(&self, stream: &Stream, from: Position, to: Position, batch: &Batch) -> Result<(), Error> {
        let mut manifest = self.writer();
        self.running()?;
        let (generation, totals) = {
            let current = self.current();
            batch.check(from, to, current.totals.position(stream))?;
            // The last change of a key wins.
            let changes: BTreeMap<&[u8], Option<&[u8]>> = batch
                .changes()
                .iter()
                .map(|(key, value)| (key.as_slice(), value.as_deref()))
                .collect();
            let mut totals = current.totals.clone();
            for (key, new) in &changes {
                let old = current.engine.get(key).map_err(|fault| self.unchanged(fault))?;
                totals.change(key, old.as_deref(), *new);
            }
            totals.sequence += 1;
            totals.set_position(stream, to);
            current
                .engine
                .apply(changes.into_iter(), &totals)
                .map_err(|fault| self.halt(fault))?;
            current.engine.sync().map_err(|fault| self.halt(fault))?;
            (current.generation, totals)
        };
        manifest
            .write(generation, &totals)
            .map_err(|error| self.halt(Fault::io(&error)))?;
        self.current_mut().totals = totals;
        Ok(())
    }

    fn position(&self, stream: &Stream) -> Result<Position, Error> {
        self.running()?;
        Ok(self.current().totals.position(stream))
    }

    fn wipe(&self) -> Result<(), Error> {
        let mut manifest = self.writer();
        let next = self.current().generation + 1;
        let next = empty_generation(&self.dir, next).map_err(|fault| refused(&fault))?;
        self.switch(&mut manifest, next)
    }
}

/// What the manifest names, if everything that it claims is there.
fn trusted(dir: &Path, manifest: &Manifest) -> Result<Current, Fault> {
    let folder = generation_dir(dir, manifest.generation);
    if !folder.join("db").is_file() {
        return Err(Fault::Damaged("the rows are missing".into()));
    }
    let engine = Engine::open(&folder)?;
    let totals = engine
        .totals()?
        .ok_or_else(|| Fault::Damaged("the totals are missing: a tail was lost".into()))?;
    let claimed = &manifest.totals;
    // sled is made durable before the manifest, so a crash in between leaves it exactly one commit ahead.
    let fits = match totals.sequence.checked_sub(claimed.sequence) {
        Some(0) => totals == *claimed,
        Some(1) => true,
        Some(_) => return Err(Fault::Damaged("the manifest is older than the rows".into())),
        None => return Err(Fault::Damaged("commits are missing: a tail was lost".into())),
    };
    let (rows, sum) = engine.survey()?;
    // The survey filled sled's cache, whose bound is a number of pages and not of bytes; opening anew is what empties it.
    drop(engine);
    let engine = Engine::open(&folder)?;
    if engine.totals()?.as_ref() != Some(&totals) {
        return Err(Fault::Damaged(
            "the totals changed while the rows were read".into(),
        ));
    }
    if !fits || rows != totals.rows || sum != totals.sum {
        return Err(Fault::Damaged(format!(
            "{} rows were committed, {rows} were found, or their content differs",
            totals.rows
        )));
    }
    Ok(Current {
        generation: manifest.generation,
        engine,
        totals,
    })
}

/// A new generation without rows, durable.
fn empty_generation(dir: &Path, generation: u64) -> Result<Current, Fault> {
    let folder = generation_dir(dir, generation);
    remove_folder(&folder).map_err(|error| Fault::io(&error))?;
    let engine = Engine::open(&folder)?;
    let totals = Totals::default();
    engine.apply(std::iter::empty(), &totals)?;
    engine.sync()?;
    engine.sync_names()?;
    sync_dir(dir).map_err(|error| Fault::io(&error))?;
    Ok(Current {
        generation,
        engine,
        totals,
    })
}

/// The next generation with the rows of the present one, durable and compared.
fn copy_generation(dir: &Path, current: &Current) -> Result<Current, Fault> {
    let mut next = empty_generation(dir, current.generation + 1)?;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = current.engine.scan(&[], after.as_deref(), COMMIT_ROWS_MAX)?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        next.engine.apply(
            rows.iter()
                .map(|(key, value)| (key.as_slice(), Some(value.as_slice()))),
            &next.totals,
        )?;
    }
    next.totals = current.totals.clone();
    next.engine.apply(std::iter::empty(), &next.totals)?;
    next.engine.sync()?;
    if next.engine.survey()? != (next.totals.rows, next.totals.sum) {
        return Err(Fault::Damaged("the rows differ from what was committed".into()));
    }
    Ok(next)
}

/// Takes the folder. A process that ends closes its files one after another, so whoever follows it may come a moment too early.
fn lock(dir: &Path) -> Result<File, Error> {
    let until = Instant::now() + LOCK_PATIENCE;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("lock"))
        .map_err(not_stored)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_LOOK),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::NotStored("somebody else has the store open".into()));
            }
            Err(TryLockError::Error(error)) => return Err(not_stored(error)),
        }
    }
}

fn generation_dir(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("{GENERATION_PREFIX}{generation}"))
}

/// Generations in a folder, ascending.
fn generations(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number: Option<u64> = name
            .to_str()
            .and_then(|name| name.strip_prefix(GENERATION_PREFIX)?.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

fn remove_others(dir: &Path, keep: u64) -> io::Result<()> {
    for generation in generations(dir)?
        .into_iter()
        .filter(|generation| *generation != keep)
    {
        remove_folder(&generation_dir(dir, generation))?;
    }
    sync_dir(dir)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn not_stored(error: io::Error) -> Error {
    Error::NotStored(error.to_string())
}

/// A fault while making something new: nothing that counted before has changed.
fn refused(fault: &Fault) -> Error {
    match fault {
        Fault::Io(why) | Fault::Damaged(why) => Error::NotStored(why.clone()),
    }
}
