//! Erasure reaches the broker's disk.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lethe_conformance::event_log::entry;
use lethe_journal::{Place, Stream, StreamKind};
use lethe_log::{EventLog, GoneBy};
use lethe_log_kafka::{Finding, KafkaLog, Retention};

use crate::broker::{OnKafka, appended, bootstrap, open, settings};

/// Lags so short that a test can wait for two compactions.
const SHORT: Retention = Retention {
    compaction_lag_max_ms: 500,
    tombstone_ms: 1_000,
    segment_ms: 500,
    queue_ms: 1_000,
    heartbeat_ms: 300,
    file_ms: 100,
    cleaner_ms: 20_000,
};

fn data() -> Option<PathBuf> {
    let found = std::env::var_os("LETHE_TEST_KAFKA_DATA").filter(|folder| !folder.is_empty());
    if found.is_none() {
        println!("SKIPPED: Kafka's files: LETHE_TEST_KAFKA_DATA is not set");
    }
    found.map(PathBuf::from)
}

/// Files of the log's topics, and of Kafka's own ones, that hold the bytes.
fn files_that_hold(data: &Path, prefix: &str, marker: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in listed(data) {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with(prefix) || name.starts_with("__") {
            found.extend(listed(&folder).into_iter().filter(|file| holds(file, marker)));
        }
    }
    found
}

/// Kafka moves its files about meanwhile: one that went holds nothing.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).into_iter().flatten();
    files.filter_map(Result::ok).map(|file| file.path()).collect()
}

fn holds(file: &Path, marker: &str) -> bool {
    // An index holds no key and no value, and is a megabyte of nothing.
    if file.to_string_lossy().contains("index") {
        return false;
    }
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes
        .windows(marker.len())
        .any(|window| window == marker.as_bytes())
}

#[tokio::test]
async fn after_compaction_no_file_of_the_broker_holds_the_value_or_its_key() {
    let (Some(bootstrap), Some(data)) = (bootstrap(), data()) else {
        return;
    };
    let mut settings = settings(&bootstrap);
    settings.retention = SHORT;
    let log = OnKafka(open(&settings).await);
    let at = Place::new(Stream::Records, 3);
    let mark = &settings.topic_prefix;
    let (key, value, kept) = (
        format!("KEY-{mark}"),
        format!("VALUE-{mark}"),
        format!("KEPT-{mark}"),
    );
    appended(
        &log,
        &at,
        vec![entry(1, &key, Some(&value)), entry(2, "other", Some(&kept))],
    )
    .await;
    appended(&log, &at, vec![entry(3, &key, Some(&value))]).await;
    for planted in [&key, &value, &kept] {
        assert!(
            !files_that_hold(&data, mark, planted).is_empty(),
            "{planted} was planted"
        );
    }
    let GoneBy::Within(promised) = log.gone_by(&Stream::Records) else {
        panic!("a table on Kafka says when a value is gone");
    };
    appended(&log, &at, vec![entry(4, &key, None)]).await;

    let ended = Instant::now();
    let mut rhythm = tokio::time::interval(Duration::from_millis(SHORT.heartbeat_ms));
    let mut held = files_that_hold(&data, mark, &key);
    while !held.is_empty() || !files_that_hold(&data, mark, &value).is_empty() {
        assert!(
            ended.elapsed() < promised,
            "after {promised:?} the key is still in {held:?}"
        );
        rhythm.tick().await;
        log.0.heartbeat().await.unwrap();
        held = files_that_hold(&data, mark, &key);
    }
    assert!(
        !files_that_hold(&data, mark, &kept).is_empty(),
        "what did not end stays"
    );
    let page = log.read(&at, 0, 100).await.unwrap();
    let ids: Vec<_> = page.entries.iter().map(|stored| stored.entry.id).collect();
    assert_eq!(
        ids,
        [entry(2, "", None).id],
        "only what did not end is read, and no heartbeat"
    );
    assert_eq!(page.next, page.head);
}

/// Beats until something was not removed in time; nothing where it all was until then.
async fn not_cleaned(log: &KafkaLog, until: Instant) -> Option<Finding> {
    let mut rhythm = tokio::time::interval(Duration::from_millis(SHORT.heartbeat_ms));
    while Instant::now() < until {
        rhythm.tick().await;
        log.heartbeat().await.unwrap();
        let mut found = log.findings().await.unwrap().into_iter();
        let late = found.find(|found| matches!(found, Finding::NotCleaned(_)));
        if late.is_some() {
            return late;
        }
    }
    None
}

#[tokio::test]
async fn a_cleaner_that_does_not_come_is_found_and_one_that_does_is_not() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut settings = settings(&bootstrap);
    settings.retention = SHORT;
    let log = open(&settings).await;
    let two_passes = Duration::from_millis(2 * SHORT.cleaner_ms);
    assert_eq!(not_cleaned(&log, Instant::now() + two_passes).await, None);
    drop(log);

    // Topics that are compacted after a day, and a log that expects it within a second.
    let mut settings = crate::broker::settings(&bootstrap);
    drop(open(&settings).await);
    settings.retention = Retention {
        cleaner_ms: 100,
        ..SHORT
    };
    let log = open(&settings).await;
    let late = not_cleaned(&log, Instant::now() + Duration::from_secs(60)).await;
    let Some(Finding::NotCleaned(at)) = late else {
        panic!("{late:?}");
    };
    assert_eq!(at.stream.kind(), StreamKind::Table);
    assert!(Finding::NotCleaned(at).delays_removal());
}

#[tokio::test]
async fn a_reader_that_slept_through_a_tombstone_is_told_and_one_that_begins_again_is_not() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut settings = settings(&bootstrap);
    settings.retention = SHORT;
    let at = Place::new(Stream::Records, 0);
    let log = OnKafka(open(&settings).await);
    appended(&log, &at, vec![entry(1, "a", Some("x"))]).await;
    let seen = log.read(&at, 0, 10).await.unwrap().next;
    appended(&log, &at, vec![entry(2, "a", None)]).await;
    assert!(
        !log.read(&at, seen, 10).await.unwrap().fell_behind,
        "the tombstone is still there"
    );

    let until = Instant::now() + Duration::from_secs(30);
    while !log.read(&at, seen, 10).await.unwrap().fell_behind {
        assert!(
            Instant::now() < until,
            "the tombstone grew old, and nobody is told"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The same holds for a program that starts again and knows only its position.
    drop(log);
    let log = OnKafka(open(&settings).await);
    assert!(log.read(&at, seen, 10).await.unwrap().fell_behind);

    appended(&log, &at, vec![entry(3, "b", Some("y"))]).await;
    let mut from = 0;
    loop {
        let page = log.read(&at, from, 1).await.unwrap();
        assert!(
            !page.fell_behind,
            "a fold that began from nothing is told so at {from}"
        );
        from = page.next;
        if from >= page.head {
            break;
        }
    }
    appended(&log, &at, vec![entry(4, "c", Some("z"))]).await;
    assert!(
        !log.read(&at, from, 10).await.unwrap().fell_behind,
        "who stands at the end has missed nothing"
    );
}

#[tokio::test]
async fn a_queue_gives_up_what_is_older_than_its_time() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut settings = settings(&bootstrap);
    settings.retention = SHORT;
    let log = OnKafka(open(&settings).await);
    let at = Place::new(Stream::Commands, 0);
    appended(&log, &at, vec![entry(1, "a", Some("x"))]).await;
    let until = Instant::now() + Duration::from_secs(60);
    let mut rhythm = tokio::time::interval(Duration::from_millis(SHORT.heartbeat_ms));
    loop {
        let page = log.read(&at, 0, 10).await.unwrap();
        if page.fell_behind && page.entries.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "an entry outlives the time of its queue");
        rhythm.tick().await;
        log.0.heartbeat().await.unwrap();
    }
}
