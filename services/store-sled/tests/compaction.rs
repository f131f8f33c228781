//! What was removed is in no file after compaction, and a crash around it costs nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::path::Path;

use lethe_journal::Stream;
use lethe_store::{Batch, Store};
use lethe_store_sled::{Condition, SledStore};

const ROWS: u64 = 900;

fn row(number: u64, mark: &str) -> (Vec<u8>, Vec<u8>) {
    (
        format!("{:08x}-{mark}-key", number.wrapping_mul(2_654_435_761)).into_bytes(),
        format!("{mark}-value-{number}").into_bytes(),
    )
}

fn filled(dir: &Path) -> SledStore {
    let store = SledStore::open(dir).unwrap().store;
    for (position, mark) in ["kept", "removed"].into_iter().enumerate() {
        let mut batch = Batch::default();
        for number in 0..ROWS {
            let (key, value) = row(number, mark);
            batch.put(key, value);
        }
        store
            .commit(&Stream::Records, position as u64, position as u64 + 1, &batch)
            .unwrap();
    }
    let mut batch = Batch::default();
    for number in 0..ROWS {
        batch.remove(row(number, "removed").0);
    }
    store.commit(&Stream::Records, 2, 3, &batch).unwrap();
    store
}

/// Files that hold the text, anywhere below.
fn found(dir: &Path, text: &[u8]) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += found(&path, text);
        } else if fs::read(&path)
            .unwrap()
            .windows(text.len())
            .any(|window| window == text)
        {
            files += 1;
        }
    }
    files
}

fn expect_kept_rows(store: &SledStore) {
    let rows = store.scan(&[], None, usize::MAX).unwrap();
    assert_eq!(rows.len() as u64, ROWS);
    let (key, value) = row(7, "kept");
    assert_eq!(store.get(&key).unwrap(), Some(value));
    assert_eq!(store.position(&Stream::Records).unwrap(), 3);
}

#[test]
fn after_compaction_no_file_holds_a_removed_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    // Without compaction sled keeps what was removed: this is why compaction exists.
    assert!(found(dir.path(), b"removed-value") > 0);
    store.compact().unwrap();
    for text in ["removed-value", "removed-key"] {
        assert_eq!(found(dir.path(), text.as_bytes()), 0, "{text}");
    }
    assert!(found(dir.path(), b"kept-value") > 0, "the search itself works");
    expect_kept_rows(&store);
    drop(store);
    assert_eq!(found(dir.path(), b"removed-value"), 0);
    let opened = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened.condition, Condition::Kept);
    expect_kept_rows(&opened.store);
}

#[test]
fn a_wiped_store_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.wipe().unwrap();
    assert_eq!(found(dir.path(), b"-value-"), 0);
    assert_eq!(store.position(&Stream::Records).unwrap(), 0);
}

#[test]
fn a_half_made_generation_is_removed_at_open() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    fs::create_dir_all(dir.path().join("rows-2")).unwrap();
    fs::write(dir.path().join("rows-2/db"), b"removed-value").unwrap();
    let opened = SledStore::open(dir.path()).unwrap();
    assert_eq!(opened.condition, Condition::Kept);
    assert!(!dir.path().join("rows-2").exists());
    expect_kept_rows(&opened.store);
    opened.store.compact().unwrap();
    expect_kept_rows(&opened.store);
}

#[test]
fn readers_and_a_writer_go_on_during_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| (0..3).try_for_each(|_| store.compact()));
        for position in 3..23 {
            let mut batch = Batch::default();
            batch.put(format!("new-{position}").into_bytes(), b"row".to_vec());
            store
                .commit(&Stream::Records, position, position + 1, &batch)
                .unwrap();
            let (key, value) = row(position, "kept");
            assert_eq!(store.get(&key).unwrap(), Some(value));
        }
        compaction.join().unwrap().unwrap();
    });
    assert_eq!(store.scan(b"new-", None, 100).unwrap().len(), 20);
}
