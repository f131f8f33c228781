//! What was done to a log, in entries that are only added to, and that end: a digest of an erased identifier is still personal data for whoever holds
//! the key beside it. Like the receipts they end some days after they were written; those of a restriction that is in force stay, so that no
//! late instruction of before can lift it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use lethe_terms::{DatasetName, Outcome};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::state::{StateDir, sync_dir};

const DAY_SECONDS: u64 = 86_400;

/// An entry of the history: what was done, by digests, on which day.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Told {
    /// These records and identifiers have seen an instruction of this generation.
    Seen {
        digests: BTreeSet<String>,
        generation: (u64, u32),
        #[serde(default)]
        day: u64,
    },
    /// This instruction is done.
    Done {
        instruction: String,
        outcome: Outcome,
        records: u64,
        lines: u64,
        cleared: u64,
        #[serde(default)]
        day: u64,
    },
}

impl Told {
    const fn day(&self) -> u64 {
        match self {
            Self::Seen { day, .. } | Self::Done { day, .. } => *day,
        }
    }
}

/// Days since 1970, by the clock of the machine. A clock before that remembers for longer.
pub(crate) fn today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / DAY_SECONDS)
}

/// The history of one log.
pub(crate) struct History {
    name: String,
    file: File,
    /// Day of the oldest entry.
    oldest: Option<u64>,
    /// Highest generation by digest.
    seen: BTreeMap<String, (u64, u32)>,
    /// Instructions that are done.
    done: BTreeMap<String, Told>,
}

impl History {
    /// Name of a log's history in the state folder.
    pub(crate) fn name_of(log: &DatasetName) -> String {
        format!("{log}.history")
    }

    /// Reads the history; a torn last entry was never acknowledged and is cut off.
    pub(crate) fn open(dir: &StateDir, log: &DatasetName) -> Result<Self, Error> {
        let name = Self::name_of(log);
        let path = dir.path().join(&name);
        let failed = |action| {
            let path = path.clone();
            move |e| Error::state(&path, action, e)
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("opening"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("reading"))?;
        let (entries, at) = entries_in(dir, &name, &bytes)?;
        if at < bytes.len() {
            file.set_len(at as u64)
                .and_then(|()| file.sync_all())
                .map_err(failed("mending"))?;
        }
        sync_dir(dir.path()).map_err(failed("opening"))?;
        let mut history = Self {
            name,
            file,
            oldest: None,
            seen: BTreeMap::new(),
            done: BTreeMap::new(),
        };
        entries.into_iter().for_each(|told| history.fold(told));
        Ok(history)
    }

    /// The highest generation that one of these has seen.
    pub(crate) fn generation(&self, digests: &BTreeSet<String>) -> Option<(u64, u32)> {
        digests.iter().filter_map(|d| self.seen.get(d)).max().copied()
    }

    /// How the instruction ended, where it is done.
    pub(crate) fn done(&self, instruction: &str) -> Option<&Told> {
        self.done.get(instruction)
    }

    /// Adds an entry, durably.
    pub(crate) fn tell(&mut self, dir: &StateDir, told: Told) -> Result<(), Error> {
        let failed = |e| Error::state(Path::new(&self.name), "writing", e);
        let entry = sealed(dir, &self.name, &told)?;
        let before = self.file.metadata().map_err(failed)?.len();
        if let Err(e) = self.file.write_all(&entry).and_then(|()| self.file.sync_all()) {
            // Half an entry would hide the ones after it.
            let _ = self.file.set_len(before);
            return Err(failed(e));
        }
        self.fold(told);
        Ok(())
    }

    /// Whether an entry is from before this day.
    pub(crate) fn reaches_before(&self, day: u64) -> bool {
        self.oldest.is_some_and(|oldest| oldest < day)
    }

    /// Ends what is from before this day, by writing the file anew: of what instructions were about, digests that are `held` stay.
    pub(crate) fn end_before(
        &mut self,
        dir: &StateDir,
        log: &DatasetName,
        day: u64,
        held: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let path = dir.path().join(&self.name);
        let failed = |e| Error::state(&path, "writing", e);
        let bytes = fs::read(&path).map_err(failed)?;
        let mut kept = Vec::new();
        for mut told in entries_in(dir, &self.name, &bytes)?.0 {
            if told.day() < day {
                match &mut told {
                    Told::Seen {
                        digests,
                        day: written,
                        ..
                    } => {
                        digests.retain(|digest| held.contains(digest));
                        if digests.is_empty() {
                            continue;
                        }
                        // It is looked at again on the next day.
                        *written = day;
                    }
                    Told::Done { .. } => continue,
                }
            }
            kept.extend(sealed(dir, &self.name, &told)?);
        }
        dir.write(&self.name, &kept)?;
        *self = Self::open(dir, log)?;
        Ok(())
    }

    fn fold(&mut self, told: Told) {
        self.oldest = Some(self.oldest.map_or(told.day(), |oldest| oldest.min(told.day())));
        match told {
            Told::Seen {
                digests, generation, ..
            } => {
                for digest in digests {
                    let highest = self.seen.entry(digest).or_insert(generation);
                    *highest = generation.max(*highest);
                }
            }
            Told::Done { ref instruction, .. } => {
                self.done.insert(instruction.clone(), told);
            }
        }
    }
}

/// The whole entries of a history, and where they end.
fn entries_in(dir: &StateDir, name: &str, bytes: &[u8]) -> Result<(Vec<Told>, usize), Error> {
    let (mut entries, mut at) = (Vec::new(), 0_usize);
    while let Some(entry) = bytes.get(at..at + 4).and_then(|len| {
        let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
        bytes.get(at + 4..at + 4 + len)
    }) {
        let told = serde_json::from_slice(&dir.unseal(name, entry)?).map_err(|_| Error::StateDamaged {
            reason: format!("{name} is not of this version"),
        })?;
        entries.push(told);
        at += 4 + entry.len();
    }
    Ok((entries, at))
}

/// An entry as it stands in the file: its length, and itself sealed.
fn sealed(dir: &StateDir, name: &str, told: &Told) -> Result<Vec<u8>, Error> {
    let failed = |e| Error::state(Path::new(name), "writing", e);
    let plain = serde_json::to_vec(told).map_err(|e| failed(e.into()))?;
    let sealed = dir.seal(name, &plain)?;
    let len = u32::try_from(sealed.len()).map_err(|_| failed(std::io::ErrorKind::FileTooLarge.into()))?;
    Ok([len.to_be_bytes().as_slice(), &sealed].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end_but_for_those_of_restrictions_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let log = "access".parse().unwrap();
        let mut history = History::open(&dir, &log).unwrap();
        let digests = |all: &[&str]| -> BTreeSet<String> { all.iter().map(|d| (*d).to_owned()).collect() };
        let path = folder.path().join("access.history");
        for (day, number, about) in [(10, 1, ["ada", "bob"]), (39, 2, ["carol", "dave"])] {
            let seen = Told::Seen {
                digests: digests(&about),
                generation: (number, 0),
                day,
            };
            history.tell(&dir, seen).unwrap();
            let done = Told::Done {
                instruction: number.to_string(),
                outcome: Outcome::Erased,
                records: 1,
                lines: 1,
                cleared: 0,
                day,
            };
            history.tell(&dir, done).unwrap();
        }
        assert!(!history.reaches_before(10) && history.reaches_before(11));
        let before = fs::metadata(&path).unwrap().len();
        history.end_before(&dir, &log, 11, &digests(&["bob"])).unwrap();
        assert!(fs::metadata(&path).unwrap().len() < before);
        for _ in 0..2 {
            assert_eq!(history.generation(&digests(&["ada"])), None);
            assert_eq!(history.generation(&digests(&["bob"])), Some((1, 0)));
            assert_eq!(history.generation(&digests(&["carol"])), Some((2, 0)));
            assert!(history.done("1").is_none() && history.done("2").is_some());
            assert!(!history.reaches_before(11));
            history = History::open(&dir, &log).unwrap();
        }
        history.end_before(&dir, &log, 41, &BTreeSet::new()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
}
