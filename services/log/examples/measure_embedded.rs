//! Measures what could lie under the embedded log, on the log's own work: durable appends, compaction by rewriting, opening after
//! a kill. `cargo run --release -p lethe-log --example measure_embedded [entries of a batch]`; figures of one run stand in src/embedded.rs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement stops at the first failure"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fjall::{KeyspaceCreateOptions, PersistMode};
use lethe_journal::{Entry, Place, Stream};
use lethe_log::{EmbeddedLog, EventLog, OpenOptions};
use lethe_terms::EntryId;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const ENTRIES: u64 = 200_000;
const KEYS: u64 = 50_000;
const VALUE_BYTES: usize = 400;
const BATCH_ENTRIES: u64 = 100;
const SINGLE_APPENDS: u64 = 2_000;
const PARTITIONS: u64 = 16;
const CACHE_BYTES: usize = 4 << 20;

const TABLE: TableDefinition<'_, (u16, u64), &[u8]> = TableDefinition::new("entries");

/// An entry: partition, position, key and value in one piece.
type Item = (u16, u64, Vec<u8>);

fn item(number: u64) -> Item {
    let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS;
    let mut bytes = vec![0; 16 + VALUE_BYTES];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    // Sealed values do not compress.
    let mut state = number;
    for chunk in bytes[16..].chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    ((key % PARTITIONS) as u16, number, bytes)
}

fn newest(items: impl Iterator<Item = Item>) -> HashMap<Vec<u8>, u64> {
    items
        .map(|(_, position, bytes)| (bytes[..16].to_vec(), position))
        .collect()
}

trait Engine {
    fn append(&mut self, items: &[Item]);
    /// Writes the newest entry of each key into a second folder, durably.
    fn compact(&self, into: &Path);
    fn open_again(&self, folder: &Path);
}

struct Redb(Database);

impl Redb {
    fn open(folder: &Path) -> Self {
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(folder.join("entries.redb"))
            .unwrap();
        Self(database)
    }

    fn items(&self, mut visit: impl FnMut(Item)) {
        let table = self.0.begin_read().unwrap().open_table(TABLE).unwrap();
        for row in table.iter().unwrap() {
            let (key, value) = row.unwrap();
            visit((key.value().0, key.value().1, value.value().to_vec()));
        }
    }
}

impl Engine for Redb {
    fn append(&mut self, items: &[Item]) {
        let transaction = self.0.begin_write().unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for (partition, position, bytes) in items {
                table.insert((*partition, *position), bytes.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }

    fn compact(&self, into: &Path) {
        let mut keys = HashMap::new();
        self.items(|(_, position, bytes)| _ = keys.insert(bytes[..16].to_vec(), position));
        let (mut new, mut batch) = (Self::open(into), Vec::new());
        self.items(|item| {
            if keys[&item.2[..16]] == item.1 {
                batch.push(item);
            }
            if batch.len() == 4_096 {
                new.append(&std::mem::take(&mut batch));
            }
        });
        new.append(&batch);
    }

    fn open_again(&self, folder: &Path) {
        Self::open(folder);
    }
}

struct Fjall(fjall::Database, fjall::Keyspace);

impl Fjall {
    fn open(folder: &Path) -> Self {
        let database = fjall::Database::builder(folder)
            .cache_size(CACHE_BYTES as u64)
            .open()
            .unwrap();
        let keyspace = database
            .keyspace("entries", KeyspaceCreateOptions::default)
            .unwrap();
        Self(database, keyspace)
    }

    fn items(&self) -> impl Iterator<Item = Item> {
        self.1.iter().map(|row| {
            let (key, value) = row.into_inner().unwrap();
            let partition = u16::from_be_bytes(key[..2].try_into().unwrap());
            (
                partition,
                u64::from_be_bytes(key[2..].try_into().unwrap()),
                value.to_vec(),
            )
        })
    }
}

impl Engine for Fjall {
    fn append(&mut self, items: &[Item]) {
        let mut batch = self.0.batch().durability(Some(PersistMode::SyncAll));
        for (partition, position, bytes) in items {
            let key = [&partition.to_be_bytes()[..], &position.to_be_bytes()].concat();
            batch.insert(&self.1, key, bytes.as_slice());
        }
        batch.commit().unwrap();
    }

    fn compact(&self, into: &Path) {
        let keys = newest(self.items());
        let mut new = Self::open(into);
        let mut batch = Vec::new();
        for item in self.items().filter(|item| keys[&item.2[..16]] == item.1) {
            batch.push(item);
            if batch.len() == 4_096 {
                new.append(&std::mem::take(&mut batch));
            }
        }
        new.append(&batch);
    }

    fn open_again(&self, folder: &Path) {
        Self::open(folder);
    }
}

struct Segment(File, PathBuf);

impl Segment {
    fn open(folder: &Path) -> Self {
        let path = folder.join("entries.segment");
        let file = File::options().create(true).append(true).open(&path).unwrap();
        Self(file, path)
    }

    fn items(path: &Path) -> impl Iterator<Item = Item> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
        std::iter::from_fn(move || {
            let mut head = [0; 18];
            file.read_exact(&mut head).ok()?;
            let mut bytes = vec![0; u32::from_le_bytes(head[..4].try_into().unwrap()) as usize];
            file.read_exact(&mut bytes).ok()?;
            assert_eq!(
                u32::from_le_bytes(head[4..8].try_into().unwrap()),
                crc32fast::hash(&bytes)
            );
            let partition = u16::from_le_bytes(head[8..10].try_into().unwrap());
            Some((
                partition,
                u64::from_le_bytes(head[10..].try_into().unwrap()),
                bytes,
            ))
        })
    }

    fn write(out: &mut impl Write, (partition, position, bytes): &Item) {
        out.write_all(&(bytes.len() as u32).to_le_bytes()).unwrap();
        out.write_all(&crc32fast::hash(bytes).to_le_bytes()).unwrap();
        out.write_all(&partition.to_le_bytes()).unwrap();
        out.write_all(&position.to_le_bytes()).unwrap();
        out.write_all(bytes).unwrap();
    }
}

impl Engine for Segment {
    fn append(&mut self, items: &[Item]) {
        let mut bytes = Vec::new();
        items.iter().for_each(|item| Self::write(&mut bytes, item));
        self.0.write_all(&bytes).unwrap();
        self.0.sync_data().unwrap();
    }

    fn compact(&self, into: &Path) {
        let keys = newest(Self::items(&self.1));
        let new = Self::open(into);
        let mut out = BufWriter::with_capacity(1 << 20, &new.0);
        for item in Self::items(&self.1).filter(|item| keys[&item.2[..16]] == item.1) {
            Self::write(&mut out, &item);
        }
        out.flush().unwrap();
        new.0.sync_data().unwrap();
    }

    fn open_again(&self, folder: &Path) {
        // The places of the entries have to be known again before the first read.
        let places: BTreeMap<(u16, u64), usize> = Self::items(&folder.join("entries.segment"))
            .map(|(partition, position, bytes)| ((partition, position), bytes.len()))
            .collect();
        assert!(!places.is_empty());
    }
}

struct Embedded(tokio::runtime::Runtime, EmbeddedLog, PathBuf);

impl Embedded {
    fn open(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let log = EmbeddedLog::open(folder, &[Stream::Records], OpenOptions::default()).unwrap();
        Self(runtime, log, folder.to_path_buf())
    }
}

impl Engine for Embedded {
    fn append(&mut self, items: &[Item]) {
        let mut batches: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
        for (partition, position, bytes) in items {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&position.to_le_bytes());
            let (key, value) = bytes.split_at(16);
            let entry = Entry {
                id: EntryId::from_bytes(id),
                key: key.to_vec(),
                value: Some(value.to_vec()),
            };
            batches.entry(*partition).or_default().push(entry);
        }
        let places: Vec<Place> = batches
            .keys()
            .map(|partition| Place::new(Stream::Records, *partition))
            .collect();
        self.0.block_on(async {
            let appends = places.iter().zip(batches.into_values());
            let appends: Vec<_> = appends
                .map(|(at, batch)| self.1.append(at, None, batch))
                .collect();
            for append in futures::future::join_all(appends).await {
                append.unwrap();
            }
        });
    }

    fn compact(&self, _: &Path) {
        let report = self
            .0
            .block_on(self.1.compact(&Stream::Records, &BTreeMap::new()))
            .unwrap();
        assert!(report.removed_entries > 0 && self.2.exists());
    }

    fn open_again(&self, folder: &Path) {
        Self::open(folder);
    }
}

fn disk_bytes(folder: &Path) -> u64 {
    let size = |path: PathBuf| {
        if path.is_dir() {
            disk_bytes(&path)
        } else {
            path.metadata().unwrap().len()
        }
    };
    std::fs::read_dir(folder)
        .unwrap()
        .map(|file| size(file.unwrap().path()))
        .sum()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let path = file.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn measure(name: &str, root: &Path, batch_entries: u64, open: impl FnOnce(&Path) -> Box<dyn Engine>) {
    let folder = |kind: &str| {
        let folder = root.join(format!("{name}-{kind}"));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let (first, second, killed) = (folder("log"), folder("compacted"), folder("killed"));
    let mut engine = open(&first);
    let batches: Vec<Vec<Item>> = (0..ENTRIES / batch_entries)
        .map(|batch| {
            (batch * batch_entries..(batch + 1) * batch_entries)
                .map(item)
                .collect()
        })
        .collect();
    let started = Instant::now();
    batches.iter().for_each(|batch| engine.append(batch));
    let appended = started.elapsed();
    let mut singles: Vec<Duration> = (ENTRIES..ENTRIES + SINGLE_APPENDS)
        .map(|number| {
            let single = [item(number)];
            let started = Instant::now();
            engine.append(&single);
            started.elapsed()
        })
        .collect();
    singles.sort_unstable();
    let bytes = disk_bytes(&first);
    // What a killed process leaves behind is what its files hold while they are open.
    copy(&first, &killed);
    let started = Instant::now();
    engine.open_again(&killed);
    let opened = started.elapsed();
    let started = Instant::now();
    engine.compact(&second);
    let compacted = started.elapsed();
    let after = disk_bytes(&second).max(if name == "embedded" { disk_bytes(&first) } else { 0 });
    println!(
        "{name:<9} {:>9.0} {:>8} {:>8} {:>9} {:>9} {:>10} {:>10}",
        ENTRIES as f64 / appended.as_secs_f64(),
        singles[singles.len() / 2].as_micros(),
        singles[singles.len() * 99 / 100].as_micros(),
        bytes >> 20,
        opened.as_millis(),
        compacted.as_millis(),
        after >> 20,
    );
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let batch = std::env::args()
        .nth(1)
        .map_or(BATCH_ENTRIES, |text| text.parse().expect("a number of entries"));
    println!("{ENTRIES} entries of {VALUE_BYTES} B, {KEYS} keys, {batch} a durable batch");
    println!("engine    entries/s  one p50  one p99  disk MiB  open (ms)  compact ms  after MiB");
    measure("redb", root, batch, |folder| Box::new(Redb::open(folder)));
    measure("fjall", root, batch, |folder| Box::new(Fjall::open(folder)));
    measure("segment", root, batch, |folder| Box::new(Segment::open(folder)));
    measure("embedded", root, batch, |folder| Box::new(Embedded::open(folder)));
}
