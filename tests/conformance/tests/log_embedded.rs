//! What only the embedded log promises: nothing of what went stays in a file, appends share an fsync, and a folder has one owner.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by a panic"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lethe_conformance::event_log::power_loss::PowerLossFiles;
use lethe_conformance::event_log::{entry, read_from, stored, streams};
use lethe_journal::{Place, Stream};
use lethe_log::{EmbeddedLog, Error, EventLog, OpenOptions};

/// Runs in a second process by [`a_second_process_is_refused`].
const FOLDER_VARIABLE: &str = "LETHE_TEST_LOG_FOLDER";

fn open(folder: &Path) -> Result<EmbeddedLog, Error> {
    EmbeddedLog::open(folder, &streams(), OpenOptions::default())
}

fn records() -> Place {
    Place::new(Stream::Records, 6)
}

fn commands() -> Place {
    Place::new(Stream::Commands, 0)
}

/// Names of the files of a folder that hold the bytes.
fn files_that_hold(folder: &Path, marker: &str) -> Vec<String> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        if bytes
            .windows(marker.len())
            .any(|window| window == marker.as_bytes())
        {
            names.push(file.file_name().into_string().unwrap());
        }
    }
    names
}

#[tokio::test]
async fn no_file_holds_a_byte_of_what_a_compaction_removed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    let mut number = 0;
    for round in 0..40 {
        let mut batch = Vec::new();
        for key in 0..20 {
            number += 1;
            let (key, value) = (format!("MARKER-KEY-{key}."), format!("MARKER-OLD-{round}-{key}."));
            batch.push(entry(number, &key, Some(&value)));
        }
        batch.push(entry(number, &format!("KEPT-KEY-{round}."), Some("KEPT-VALUE.")));
        stored(&log, &records(), batch).await;
    }
    stored(
        &log,
        &records(),
        vec![entry(0, "MARKER-KEY-1.", Some("KEPT-NEWEST."))],
    )
    .await;
    let ends = (0..20)
        .filter(|key| *key != 1)
        .map(|key| entry(0, &format!("MARKER-KEY-{key}."), None))
        .collect();
    stored(&log, &records(), ends).await;
    for marker in [
        "MARKER-KEY-0.",
        "MARKER-KEY-19.",
        "MARKER-OLD-0-0.",
        "MARKER-OLD-39-19.",
    ] {
        assert_eq!(
            files_that_hold(folder.path(), marker),
            ["records.1.redb"],
            "{marker} was planted"
        );
    }
    let before = log.disk_bytes(&Stream::Records).unwrap();

    let head = log.head(&records()).await.unwrap();
    let report = log
        .compact(&Stream::Records, &BTreeMap::from([(6, head)]))
        .await
        .unwrap();

    assert_eq!(report.kept_entries, 41);
    assert_eq!(report.removed_tombstones, 19);
    for marker in ["MARKER-OLD", "MARKER-KEY-0.", "MARKER-KEY-19."] {
        assert_eq!(files_that_hold(folder.path(), marker), [""; 0], "{marker} went");
    }
    assert_eq!(files_that_hold(folder.path(), "KEPT-KEY-0."), ["records.2.redb"]);
    assert_eq!(files_that_hold(folder.path(), "KEPT-NEWEST."), ["records.2.redb"]);
    assert_eq!(report.bytes_before, before);
    assert!(
        log.disk_bytes(&Stream::Records).unwrap() < before,
        "bytes were given back"
    );
    drop(log);
    assert_eq!(
        files_that_hold(folder.path(), "MARKER-OLD"),
        [""; 0],
        "closing brings nothing back"
    );
}

#[tokio::test]
async fn no_file_holds_a_byte_of_what_expired() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    let batch = (0..100)
        .map(|n| entry(n, &format!("STEP-{n}."), Some(&format!("SEALED-{n}."))))
        .collect();
    stored(&log, &commands(), batch).await;
    let start = read_from(&log, &commands(), 0).await[60].position;
    assert_eq!(files_that_hold(folder.path(), "SEALED-59."), ["commands.1.redb"]);
    log.expire(&Stream::Commands, &BTreeMap::from([(0, start)]))
        .await
        .unwrap();
    for gone in ["STEP-0.", "SEALED-0.", "STEP-59.", "SEALED-59."] {
        assert_eq!(files_that_hold(folder.path(), gone), [""; 0], "{gone}");
    }
    assert_eq!(files_that_hold(folder.path(), "SEALED-60."), ["commands.2.redb"]);
}

/// A compaction that finds nothing to remove still rewrites a file of an earlier run: what a crash left in its free pages goes.
#[tokio::test]
async fn a_file_of_an_earlier_run_is_rewritten_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    stored(&log, &records(), vec![entry(1, "a", Some("x"))]).await;
    log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    assert!(
        folder.path().join("records.1.redb").exists(),
        "nothing to remove, nothing rewritten"
    );
    drop(log);
    let log = open(folder.path()).unwrap();
    log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    assert!(folder.path().join("records.2.redb").exists());
    assert_eq!(read_from(&log, &records(), 0).await.len(), 1);
}

/// The current-thread runtime runs all appends up to their wait before the first one can be answered, so this counts exactly.
#[tokio::test]
async fn concurrent_appends_share_an_fsync() {
    const APPENDS: u64 = 100;
    let files = PowerLossFiles::default();
    let log = EmbeddedLog::open_on(Arc::new(files.clone()), &streams(), OpenOptions::default()).unwrap();
    let log = Arc::new(log);
    let before = files.syncs();
    stored(&*log, &records(), vec![entry(0, "alone", Some("x"))]).await;
    let alone = files.syncs() - before;
    assert_eq!(alone, 1, "an append to an idle stream costs one fsync");

    files.hold_syncs();
    let mut appends = tokio::task::JoinSet::new();
    for number in 0..APPENDS {
        let log = Arc::clone(&log);
        appends.spawn(async move { stored(&*log, &records(), vec![entry(number, "key", Some("x"))]).await });
    }
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let before = files.syncs();
    files.release_syncs();
    let mut positions: Vec<_> = appends.join_all().await;
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(
        positions.len() as u64,
        APPENDS,
        "each append has a position of its own"
    );
    let syncs = files.syncs() - before;
    assert!(syncs <= 3, "{APPENDS} waiting appends cost {syncs} fsyncs");
}

/// A reader is answered while the writer of its stream waits for the disk.
#[tokio::test]
async fn a_reader_does_not_wait_for_the_writer() {
    let files = PowerLossFiles::default();
    let log = EmbeddedLog::open_on(Arc::new(files.clone()), &streams(), OpenOptions::default()).unwrap();
    let log = Arc::new(log);
    stored(&*log, &records(), vec![entry(1, "a", Some("x"))]).await;
    files.hold_syncs();
    let append = {
        let log = Arc::clone(&log);
        tokio::spawn(async move { stored(&*log, &records(), vec![entry(2, "b", Some("y"))]).await })
    };
    tokio::task::yield_now().await;
    let page = log.read(&records(), 0, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1, "what is not durable is not shown");
    assert!(!append.is_finished(), "the append waits for the disk");
    files.release_syncs();
    append.await.unwrap();
    assert_eq!(log.read(&records(), 0, 10).await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn a_second_process_is_refused() {
    if let Ok(folder) = std::env::var(FOLDER_VARIABLE) {
        let refused = open(Path::new(&folder)).expect_err("the folder is in use");
        assert!(matches!(refused, Error::NotStored(_)));
        assert!(
            refused
                .to_string()
                .contains("another process has the log's folder open"),
            "{refused}"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    assert!(
        open(folder.path()).is_err(),
        "nor may the same process open it twice"
    );
    let second = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_refused"])
        .env(FOLDER_VARIABLE, folder.path())
        .output()
        .unwrap();
    assert!(
        second.status.success(),
        "{}",
        String::from_utf8_lossy(&second.stdout)
    );
    drop(log);
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn streams_are_added_and_never_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Stream::Instructions("shop".parse().unwrap());
    let log = EmbeddedLog::open(folder.path(), &[Stream::Records], OpenOptions::default()).unwrap();
    let refused = log
        .append(&Place::new(shop.clone(), 0), None, vec![entry(1, "a", None)])
        .await;
    assert!(
        matches!(refused, Err(Error::NotStored(_))),
        "a stream that was not opened: {refused:?}"
    );
    drop(log);
    let log = EmbeddedLog::open(folder.path(), std::slice::from_ref(&shop), OpenOptions::default()).unwrap();
    assert_eq!(log.streams().collect::<Vec<_>>(), [&Stream::Records, &shop]);
    stored(&log, &Place::new(shop.clone(), 0), vec![entry(1, "a", Some("x"))]).await;
    assert_eq!(log.heads(&shop).unwrap(), BTreeMap::from([(0, 1)]));
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_look_into_the_folder() {
    use std::os::unix::fs::PermissionsExt;
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("log");
    drop(open(&folder).unwrap());
    assert_eq!(
        std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.file_name()
        );
    }
}

/// A disk that is full or gone: the append says so, and what was acknowledged before is still there after a new start.
#[tokio::test]
async fn a_failed_write_stops_the_stream_and_loses_nothing() {
    let files = PowerLossFiles::default();
    // Nothing stays in memory that could be read without the disk.
    let uncached = OpenOptions {
        cache_bytes_per_stream: 0,
        ..OpenOptions::default()
    };
    let log = EmbeddedLog::open_on(Arc::new(files.clone()), &streams(), uncached).unwrap();
    stored(&log, &records(), vec![entry(1, "a", Some("x"))]).await;
    files.cut_after(1);
    let failed = log.append(&records(), None, vec![entry(2, "b", Some("y"))]).await;
    assert!(failed.is_err(), "{failed:?}");
    let later = log.append(&records(), None, vec![entry(3, "c", Some("z"))]).await;
    assert!(
        matches!(later, Err(Error::NotStored(_))),
        "a stopped stream takes nothing: {later:?}"
    );
    let read = log.read(&records(), 0, 9).await;
    assert!(
        matches!(read, Err(Error::NotStored(_))),
        "a disk that is full has damaged nothing: {read:?}"
    );
    drop(log);
    files.power_loss(1);
    let log = EmbeddedLog::open_on(Arc::new(files.clone()), &streams(), OpenOptions::default()).unwrap();
    assert_eq!(
        read_from(&log, &records(), 0).await[0].entry,
        entry(1, "a", Some("x"))
    );
}

/// Whatever a cut leaves of the very first opening, the next one succeeds.
#[tokio::test]
async fn a_log_whose_making_was_cut_is_made_again() {
    for seed in 0..300 {
        let files = PowerLossFiles::default();
        files.cut_after(seed / 2);
        drop(EmbeddedLog::open_on(
            Arc::new(files.clone()),
            &streams(),
            OpenOptions::default(),
        ));
        files.cut_after(0);
        files.power_loss(seed);
        let log = EmbeddedLog::open_on(Arc::new(files.clone()), &streams(), OpenOptions::default());
        let log = log.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        stored(&log, &records(), vec![entry(1, "a", Some("x"))]).await;
    }
}
