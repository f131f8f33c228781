//! Whatever happens to the files, opening never panics and never passes off fewer rows as all of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};

use lethe_journal::Stream;
use lethe_store::{Batch, Store};
use lethe_store_sled::{Condition, Opened, SledStore};

const BATCHES: u64 = 12;
const BATCH_ROWS: u64 = 100;

fn key(number: u64) -> Vec<u8> {
    // Spread like tokens.
    let mut key = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn fill(store: &SledStore) {
    for batch_number in 0..BATCHES {
        let mut batch = Batch::default();
        for number in batch_number * BATCH_ROWS..(batch_number + 1) * BATCH_ROWS {
            batch.put(key(number), vec![b'v'; 200]);
        }
        store
            .commit(&Stream::Records, batch_number, batch_number + 1, &batch)
            .unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A store as a killed program leaves it (`closed` false), or one that was closed.
fn left_behind(closed: bool) -> tempfile::TempDir {
    let live = tempfile::tempdir().unwrap();
    let left = tempfile::tempdir().unwrap();
    let opened = SledStore::open(live.path()).unwrap();
    assert_eq!(opened.condition, Condition::Fresh);
    fill(&opened.store);
    if closed {
        drop(opened);
        copy(live.path(), left.path());
    } else {
        copy(live.path(), left.path());
    }
    left
}

fn count(store: &SledStore) -> u64 {
    store.scan(&[], None, usize::MAX).unwrap().len() as u64
}

/// Opens a copy after `harm`: everything is there, or the store says that it is not and starts from nothing.
fn check(left: &Path, harm: impl FnOnce(&Path)) -> bool {
    let work = tempfile::tempdir().unwrap();
    copy(left, work.path());
    harm(work.path());
    let Opened { store, condition } = SledStore::open(work.path()).unwrap();
    let kept = match condition {
        Condition::Kept => true,
        Condition::Rebuild { .. } => false,
        Condition::Fresh => panic!("a damaged store is not a fresh one"),
    };
    let expected = if kept {
        (BATCHES * BATCH_ROWS, BATCHES)
    } else {
        (0, 0)
    };
    assert_eq!(
        (count(&store), store.position(&Stream::Records).unwrap()),
        expected,
        "{condition:?}"
    );
    if !kept {
        fill(&store);
        assert_eq!(
            count(&store),
            BATCHES * BATCH_ROWS,
            "the store works again after the rebuild"
        );
    }
    kept
}

#[test]
fn a_store_of_a_killed_program_is_kept() {
    assert!(check(left_behind(false).path(), |_| {}));
}

#[test]
fn a_closed_store_is_kept() {
    assert!(check(left_behind(true).path(), |_| {}));
}

#[test]
fn a_flipped_byte_anywhere_is_survived() {
    for closed in [false, true] {
        let left = left_behind(closed);
        let mut rebuilt = 0;
        for file in files(left.path()) {
            let length = fs::metadata(&file).unwrap().len();
            let inside = file.strip_prefix(left.path()).unwrap().to_owned();
            for place in 0..24 {
                let at = length * place / 24 + place;
                if at >= length {
                    continue;
                }
                let kept = check(left.path(), |dir| {
                    let mut bytes = fs::read(dir.join(&inside)).unwrap();
                    bytes[usize::try_from(at).unwrap()] ^= 0x41;
                    fs::write(dir.join(&inside), bytes).unwrap();
                });
                rebuilt += u32::from(!kept);
            }
        }
        assert!(rebuilt > 0, "some of these places matter");
    }
}

#[test]
fn a_lost_tail_of_any_length_is_noticed() {
    for closed in [false, true] {
        let left = left_behind(closed);
        let db = Path::new("rows-1/db");
        let length = fs::metadata(left.path().join(db)).unwrap().len();
        for part in 0..16 {
            let keep = length * part / 16;
            check(left.path(), |dir| {
                fs::File::options()
                    .write(true)
                    .open(dir.join(db))
                    .unwrap()
                    .set_len(keep)
                    .unwrap();
            });
        }
        assert!(
            !check(left.path(), |dir| fs::write(dir.join(db), b"").unwrap()),
            "an empty file is no store"
        );
    }
}

#[test]
fn an_older_file_of_rows_is_noticed() {
    let live = tempfile::tempdir().unwrap();
    let older = tempfile::tempdir().unwrap();
    let store = SledStore::open(live.path()).unwrap().store;
    fill(&store);
    copy(live.path(), older.path());
    for position in BATCHES..BATCHES + 2 {
        let mut batch = Batch::default();
        batch.put(key(position), b"new".to_vec());
        store
            .commit(&Stream::Records, position, position + 1, &batch)
            .unwrap();
    }
    drop(store);
    fs::remove_dir_all(live.path().join("rows-1")).unwrap();
    copy(&older.path().join("rows-1"), &live.path().join("rows-1"));
    let opened = SledStore::open(live.path()).unwrap();
    assert!(
        matches!(opened.condition, Condition::Rebuild { .. }),
        "{:?}",
        opened.condition
    );
}

#[test]
fn a_missing_folder_of_rows_or_manifest_is_noticed() {
    let left = left_behind(true);
    assert!(!check(left.path(), |dir| fs::remove_dir_all(dir.join("rows-1")).unwrap()));
    assert!(!check(left.path(), |dir| fs::remove_file(dir.join("manifest")).unwrap()));
    assert!(!check(left.path(), |dir| fs::write(
        dir.join("manifest"),
        [0; 8192]
    )
    .unwrap()));
}

#[test]
fn a_crash_between_rows_and_manifest_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap().store;
    fill(&store);
    let before = fs::read(dir.path().join("manifest")).unwrap();
    let mut batch = Batch::default();
    batch.put(b"late".to_vec(), b"row".to_vec());
    store
        .commit(&Stream::Records, BATCHES, BATCHES + 1, &batch)
        .unwrap();
    drop(store);
    fs::write(dir.path().join("manifest"), before).unwrap();
    let opened = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened.condition, Condition::Kept);
    assert_eq!(opened.store.position(&Stream::Records).unwrap(), BATCHES + 1);
}

#[test]
fn a_store_is_open_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = SledStore::open(dir.path()).unwrap();
    let error = SledStore::open(dir.path()).unwrap_err();
    assert_eq!(error.code(), "store-not-stored");
    drop(first);
    assert_eq!(SledStore::open(dir.path()).unwrap().condition, Condition::Kept);
}
