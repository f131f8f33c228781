//! One log with all that belongs to it, behind a lock: one piece of work at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lethe_terms::Identifier;

use crate::config::{EraseMode, LogConfig};
use crate::error::Error;
use crate::feed::FeedState;
use crate::files::{self, Found};
use crate::history::{History, today};
use crate::identify::Rules;
use crate::names;
use crate::record::Record;
use crate::state::{LogState, StateDir};

/// One log.
pub(crate) struct Log {
    /// Name and place.
    pub(crate) config: LogConfig,
    /// How its lines are read.
    pub(crate) rules: Arc<Rules>,
    /// The state folder.
    pub(crate) dir: Arc<StateDir>,
    /// The command that makes the server reopen its logs.
    pub(crate) reopen: Vec<String>,
    /// What an erasure does with a line.
    pub(crate) erase: EraseMode,
    /// How long what was done is remembered.
    remember_days: u64,
    /// Progress and files.
    pub(crate) state: LogState,
    /// What was done.
    pub(crate) history: History,
    /// Where tests stop it.
    pub(crate) stops: Stops,
    /// What the feed remembers between two pages.
    pub(crate) feed: FeedState,
}

/// Where tests stop the work as a crash would: at the n-th stage, and for good.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stops {
    /// Stages until the stop.
    pub(crate) left: Option<Arc<AtomicUsize>>,
    /// Whether the next answer is lost.
    pub(crate) lose_answer: Arc<AtomicBool>,
}

impl Stops {
    /// A stage between two lasting changes. `Err` where the work is to stop here.
    pub(crate) fn stage(&self) -> Result<(), Error> {
        let Some(left) = &self.left else { return Ok(()) };
        let before = left.load(Ordering::SeqCst);
        if before == 0 {
            return Err(Error::Stopped);
        }
        left.store(before - 1, Ordering::SeqCst);
        Ok(())
    }

    /// Everything is done and journaled, and only the answer is missing.
    pub(crate) fn answer(&self) -> Result<(), Error> {
        if self.lose_answer.swap(false, Ordering::SeqCst) {
            Err(Error::Stopped)
        } else {
            Ok(())
        }
    }
}

impl Log {
    /// Opens a log's state, and takes away what a crash left beside the log; touches no log file.
    pub(crate) fn open(
        config: LogConfig,
        rules: Arc<Rules>,
        dir: Arc<StateDir>,
        reopen: Vec<String>,
        erase: EraseMode,
        remember_days: u64,
    ) -> Result<Self, Error> {
        let state = dir.load(&state_name(&config))?.unwrap_or_default();
        let history = History::open(&dir, &config.name)?;
        let (stops, feed) = (
            Stops::default(),
            FeedState {
                counts: BTreeMap::new(),
                counted_at: None,
                reader: None,
                recount: None,
            },
        );
        let mut log = Self {
            config,
            rules,
            dir,
            reopen,
            erase,
            remember_days,
            state,
            history,
            stops,
            feed,
        };
        log.drop_unnamed()?;
        log.end_old()?;
        // Where one cannot be taken away, every listing says so.
        let _ = log.drop_all_strays();
        Ok(log)
    }

    /// Writes the state, durably.
    pub(crate) fn save(&self) -> Result<(), Error> {
        self.stops.stage()?;
        self.dir.save(&state_name(&self.config), &self.state)
    }

    /// The files that can be read, oldest first, and why one cannot. Their ids are durable once this returns.
    pub(crate) fn listed(&mut self) -> Result<(Vec<Found>, Option<Error>), Error> {
        let listed = files::list(&self.config, &self.dir, &mut self.state)?;
        if listed.changed {
            self.save()?;
        }
        let strays = self.drop_all_strays().err();
        Ok((listed.found, listed.unread.or(strays)))
    }

    fn drop_all_strays(&self) -> Result<(), Error> {
        let folders = names::folders(&self.config);
        folders
            .iter()
            .filter(|folder| folder.is_dir())
            .try_for_each(|folder| self.drop_strays(folder))
    }

    /// The files that can be read.
    pub(crate) fn files(&mut self) -> Result<Vec<Found>, Error> {
        Ok(self.listed()?.0)
    }

    /// The files where they are all of the log's.
    pub(crate) fn whole(&mut self) -> Result<Vec<Found>, Error> {
        let (files, unread) = self.with_live()?;
        match unread {
            None => Ok(files),
            Some(unread) => Err(unread),
        }
    }

    /// The files that can be read where the live one is among them, and why one cannot. During a rotation the live file is away for a moment; a log
    /// that stays away, or never was, is not an empty log.
    pub(crate) fn with_live(&mut self) -> Result<(Vec<Found>, Option<Error>), Error> {
        let listed = self.listed()?;
        if listed.0.iter().any(|file| file.live) {
            return Ok(listed);
        }
        if let Some(unread) = listed.1 {
            return Err(unread);
        }
        let why = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no such file");
        Err(Error::file(&self.config.path, "looking for the live file", why))
    }

    /// Ends what was done so long ago that nobody asks for it again. What a restriction in force is about stays.
    pub(crate) fn end_old(&mut self) -> Result<(), Error> {
        let day = today().saturating_sub(self.remember_days);
        if !self.history.reaches_before(day) {
            return Ok(());
        }
        let held = self
            .side()?
            .lines
            .into_iter()
            .flat_map(|line| line.claims)
            .flatten()
            .collect();
        self.history.end_before(&self.dir, &self.config.name, day, &held)
    }

    /// A keyed digest that stands for a record where its identifiers must not.
    pub(crate) fn digest_of(&self, record: &Record) -> String {
        self.dir.digest(&[b"record", record.handle().as_bytes()])
    }

    /// The same for the lines that an instruction about the record acts on, whichever of their records it names.
    pub(crate) fn digest_of_unit(&self, record: &Record) -> String {
        self.digest_of(&record.unit())
    }

    /// The same for an identifier.
    pub(crate) fn digest_of_identifier(&self, one: &Identifier) -> String {
        self.dir.digest(&[one.name().as_bytes(), one.value.as_bytes()])
    }
}

/// Name of a log's state in the state folder.
pub(crate) fn state_name(config: &LogConfig) -> String {
    format!("{}.state", config.name)
}
