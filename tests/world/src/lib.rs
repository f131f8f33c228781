//! A software company's customers, orders and traffic, made up: the world of the demo and of the tests.
//!
//! Everything about a person follows from the seed and the person's index, so nothing is held in memory, and an auditor can make the world again
//! and compare it with what the systems hold now, without asking Lethe anything.

pub mod audit;
pub mod logs;
pub mod people;
pub mod seed;
pub mod tables;
pub mod traffic;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::people::Person;

/// Fewest people that a world has: the cast needs distinct places.
pub const PEOPLE_MIN: u32 = 10;

/// What went wrong. Messages may name made-up people: nobody in this world exists.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("file {path}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The world file is not one.
    #[error("world file {path}")]
    WorldFile {
        /// Which file.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The database refused.
    #[error("database: {0}")]
    Database(String),
    /// An argument that cannot be.
    #[error("{0}")]
    Usage(String),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl Error {
    /// A file error with its path.
    pub fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.display().to_string(),
            source,
        }
    }
}

/// A world: a seed, how many people live in it, and the moment at which its past ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// Seed of everything.
    pub seed: u64,
    /// How many people have an account.
    pub people: u32,
    /// End of the made-up past, in seconds since 1970.
    pub ends: i64,
    /// Lines in the log history; 0 before the history is written.
    #[serde(default)]
    pub log_lines: u64,
}

impl World {
    /// A world of that many people, whose past ends at `ends` (seconds since 1970).
    pub fn new(seed: u64, people: u32, ends: i64) -> Result<Self, Error> {
        if people < PEOPLE_MIN {
            return Err(Error::Usage(format!(
                "a world needs at least {PEOPLE_MIN} people, not {people}"
            )));
        }
        Ok(Self {
            seed,
            people,
            ends,
            log_lines: 0,
        })
    }

    /// The person whose data is to be erased.
    pub fn subject(&self) -> Person {
        self.person(self.subject_index())
    }

    /// Somebody else of the same name.
    pub fn namesake(&self) -> Person {
        self.person(self.namesake_index())
    }

    /// Somebody else behind the subject's office address, postal and IP.
    pub fn colleague(&self) -> Person {
        self.person(self.colleague_index())
    }

    /// Index of the subject.
    pub const fn subject_index(&self) -> u32 {
        (self.people as u64 * 2 / 5) as u32
    }

    /// Index of the namesake.
    pub const fn namesake_index(&self) -> u32 {
        (self.people as u64 * 3 / 5) as u32
    }

    /// Index of the colleague.
    pub const fn colleague_index(&self) -> u32 {
        (self.people as u64 * 4 / 5) as u32
    }

    /// Reads a world file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let file: WorldFile = serde_json::from_str(&text).map_err(|source| Error::WorldFile {
            path: path.display().to_string(),
            source,
        })?;
        Ok(file.world)
    }

    /// Writes the world file, with the cast for scripts to read.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let subject = self.subject();
        let file = WorldFile {
            world: *self,
            subject: Cast {
                email: subject.email,
                user_id: subject.user_id,
                full_name: subject.full_name,
                ip: subject.ip,
            },
            namesake: self.namesake().email,
            same_office: self.colleague().email,
        };
        let text = serde_json::to_string_pretty(&file).map_err(|source| Error::WorldFile {
            path: path.display().to_string(),
            source,
        })?;
        std::fs::write(path, text + "\n").map_err(|e| Error::file(path, e))
    }
}

#[derive(Serialize, Deserialize)]
struct WorldFile {
    world: World,
    subject: Cast,
    namesake: String,
    same_office: String,
}

#[derive(Serialize, Deserialize)]
struct Cast {
    email: String,
    user_id: String,
    full_name: String,
    ip: String,
}
