//! sled behind a wall: one generation of rows, where a panic of sled becomes a value.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lethe_store::Row;

use crate::totals::{RowSum, Totals};

/// Page cache of one generation: as little as sled takes seriously. Measured, it hardly bounds memory: sled looks at its cache only after 64
/// accesses in each of 256 shards.
const CACHE_BYTES: u64 = 256 << 10;

/// Half of sled's default, since each open store holds write buffers of this size; a page above a quarter of it goes to a file of its own.
const SEGMENT_BYTES: usize = 256 << 10;

/// Key of the row that holds the totals; rows of the port stand under [`ROW`].
const TOTALS_KEY: &[u8] = b"m";

/// First byte of the key of every row of the port.
const ROW: u8 = b'r';

/// What went wrong inside sled.
pub(crate) enum Fault {
    /// The file system refused: nothing is known to be damaged.
    Io(String),
    /// sled cannot read what it wrote.
    Damaged(String),
}

impl Fault {
    /// A failure of the file system outside sled.
    pub(crate) fn io(error: &io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// One generation of rows.
pub(crate) struct Engine {
    /// `None` only while it is being dropped.
    db: Option<sled::Db>,
    /// The same file that sled writes: the handle that fsync goes through.
    file: File,
    dir: PathBuf,
    /// Values that sled keeps in files of their own and that are durable already.
    blobs_durable: Mutex<BTreeSet<OsString>>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Closing a damaged sled can panic too, and a panic while another unwinds would end the program.
        let db = self.db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

/// Runs sled's code; a panic of it becomes a fault. Its message is not kept: it can quote what was stored.
fn contained<T>(run: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if !is_damage(error.kind()) => Err(Fault::Io(error.to_string())),
        Ok(Err(sled::Error::Io(_))) => Err(Fault::Damaged(
            "a file of sled is shorter than it should be".into(),
        )),
        Ok(Err(sled::Error::Corruption { .. })) => {
            Err(Fault::Damaged("sled found a checksum that does not fit".into()))
        }
        Ok(Err(_)) => Err(Fault::Damaged("sled cannot read what it wrote".into())),
        Err(_) => Err(Fault::Damaged("sled panicked".into())),
    }
}

/// Errors by which sled reports a file that ends early or does not decode.
fn is_damage(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::Other
    )
}

impl Engine {
    /// Opens what stands in a folder, or makes it.
    pub(crate) fn open(dir: &Path) -> Result<Self, Fault> {
        let db = contained(|| {
            sled::Config::new()
                .path(dir)
                .cache_capacity(CACHE_BYTES)
                .segment_size(SEGMENT_BYTES)
                .flush_every_ms(None)
                .open()
        })?;
        let file = File::open(dir.join("db")).map_err(|error| Fault::io(&error))?;
        Ok(Self {
            db: Some(db),
            file,
            dir: dir.to_owned(),
            blobs_durable: Mutex::default(),
        })
    }

    fn run<T>(&self, run: impl FnOnce(&sled::Db) -> Result<T, sled::Error>) -> Result<T, Fault> {
        match &self.db {
            Some(db) => contained(|| run(db)),
            None => Err(Fault::Io("the store is closed".into())),
        }
    }

    /// The value of a row.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.run(|db| Ok(db.get(row_key(key))?.map(|value| value.to_vec())))
    }

    /// Rows under a prefix and after a key, in order.
    pub(crate) fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Fault> {
        let prefix_key = row_key(prefix);
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(row_key(after)),
            _ => Bound::Included(prefix_key.clone()),
        };
        self.run(|db| {
            let mut rows = Vec::new();
            for row in db.range::<Vec<u8>, _>((start, Bound::Unbounded)).take(limit) {
                let (key, value) = row?;
                if !key.starts_with(&prefix_key) {
                    break;
                }
                rows.push((key[1..].to_vec(), value.to_vec()));
            }
            Ok(rows)
        })
    }

    /// Applies changes and totals, all or none, without making them durable.
    pub(crate) fn apply<'a>(
        &self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        totals: &Totals,
    ) -> Result<(), Fault> {
        let totals = serde_json::to_vec(totals).map_err(|error| Fault::Io(error.to_string()))?;
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(row_key(key), value),
                None => batch.remove(row_key(key)),
            }
        }
        batch.insert(TOTALS_KEY, totals);
        self.run(|db| db.apply_batch(batch))
    }

    /// Makes everything that was applied durable.
    pub(crate) fn sync(&self) -> Result<(), Fault> {
        self.run(|db| db.flush())?;
        self.sync_blobs().map_err(|error| Fault::io(&error))?;
        self.file.sync_all().map_err(|error| Fault::io(&error))
    }

    /// sled writes pages above a quarter of a segment to files of their own and never syncs those.
    fn sync_blobs(&self) -> io::Result<()> {
        let dir = self.dir.join("blobs");
        let mut durable = self.blobs_durable.lock().unwrap_or_else(PoisonError::into_inner);
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&dir)? {
            let name = entry?.file_name();
            if !durable.contains(&name) {
                match File::open(dir.join(&name)) {
                    Ok(file) => file.sync_all()?,
                    // sled removes a file as soon as no page needs it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            present.insert(name);
        }
        if present.iter().any(|name| !durable.contains(name)) {
            File::open(&dir)?.sync_all()?;
        }
        *durable = present;
        Ok(())
    }

    /// Makes the names of sled's files durable: needed once, after they were made.
    pub(crate) fn sync_names(&self) -> Result<(), Fault> {
        let sync = |path: &Path| File::open(path).and_then(|dir| dir.sync_all());
        sync(&self.dir.join("blobs"))
            .and_then(|()| sync(&self.dir.join("conf")))
            .and_then(|()| sync(&self.dir))
            .map_err(|error| Fault::io(&error))
    }

    /// The totals that the last batch left, if there was one.
    pub(crate) fn totals(&self) -> Result<Option<Totals>, Fault> {
        match self.run(|db| db.get(TOTALS_KEY))? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|_| Fault::Damaged("the totals inside sled cannot be read".into())),
            None => Ok(None),
        }
    }

    /// Reads everything: number and sum of the rows that are there.
    pub(crate) fn survey(&self) -> Result<(u64, RowSum), Fault> {
        self.run(|db| {
            let (mut rows, mut sum) = (0, RowSum::default());
            for row in db.range::<&[u8], _>(&[ROW][..]..&[ROW + 1][..]) {
                let (key, value) = row?;
                rows += 1;
                sum.add(&key[1..], &value);
            }
            Ok((rows, sum))
        })
    }
}

fn row_key(key: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(key.len() + 1);
    row.push(ROW);
    row.extend_from_slice(key);
    row
}
