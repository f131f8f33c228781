//! The checks by name. Each opens a log of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lethe_journal::{Place, Position, Stored, Stream};
use lethe_log::{APPEND_ENTRIES_MAX, Appended, Error, GoneBy, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};

pub use super::dropped::{
    a_queue_that_is_dropped_under_a_reader_goes_on_for_it, an_expired_queue_tells_the_reader_who_fell_behind,
};
pub use super::power_check::what_was_acknowledged_survives_power_loss;
use super::{Factory, Random, entry, fold, read_from, stored};

/// Long enough for any machine; a check that comes here has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

fn records(partition: u16) -> Place {
    Place::new(Stream::Records, partition)
}

fn cases() -> Place {
    Place::new(Stream::Cases, 1)
}

pub(super) fn commands() -> Place {
    Place::new(Stream::Commands, 0)
}

pub(super) fn seen(partition: u16, position: Position) -> BTreeMap<u16, Position> {
    BTreeMap::from([(partition, position)])
}

pub(super) fn numbers(entries: &[Stored]) -> Vec<u64> {
    entries
        .iter()
        .map(|stored| {
            u64::from_le_bytes(
                stored.entry.id.as_bytes()[..8]
                    .try_into()
                    .expect("an id has 16 bytes"),
            )
        })
        .collect()
}

/// Entries come back with the ids, keys, values, tombstones and positions that they got, batch after batch.
pub async fn a_batch_is_stored_whole_and_in_order(factory: &dyn Factory) {
    let log = factory.open().await;
    assert_eq!(
        log.head(&cases()).await.unwrap(),
        0,
        "an empty partition has its head at 0"
    );
    let batches = [
        vec![
            entry(1, "a", Some("one")),
            entry(2, "b", Some("")),
            entry(3, "a", None),
        ],
        vec![entry(4, "", Some("four"))],
    ];
    let mut expected = Vec::new();
    let mut next_expected = 0;
    for batch in batches {
        let (first, next) = stored(&*log, &cases(), batch.clone()).await;
        assert!(first >= next_expected, "a batch stands before the one before it");
        let head = log.head(&cases()).await.unwrap();
        assert!(
            head == next || factory.has_gaps() && head > next,
            "the head follows the append"
        );
        next_expected = next;
        expected.extend(batch);
    }
    let read = read_from(&*log, &cases(), 0).await;
    let entries: Vec<_> = read.iter().map(|stored| stored.entry.clone()).collect();
    assert_eq!(entries, expected);
    for stored in &read {
        let alone = log.read(&cases(), stored.position, 1).await.unwrap();
        assert_eq!(
            alone.entries,
            std::slice::from_ref(stored),
            "a read at a position begins with it"
        );
    }
    assert!(
        read_from(&*log, &Place::new(Stream::Cases, 0), 0)
            .await
            .is_empty(),
        "another partition stays empty"
    );
}

/// An empty or too long batch, and a place that does not exist, leave nothing behind.
pub async fn what_is_malformed_is_not_stored(factory: &dyn Factory) {
    let log = factory.open().await;
    let long = vec![entry(1, "a", Some("x")); APPEND_ENTRIES_MAX + 1];
    for (at, batch) in [
        (cases(), Vec::new()),
        (cases(), long),
        (records(16), vec![entry(1, "a", None)]),
    ] {
        let refused = log.append(&at, None, batch).await;
        assert!(matches!(refused, Err(Error::NotStored(_))), "{refused:?}");
    }
    let unheard = log.append(&cases(), Some(7), vec![entry(1, "a", None)]).await;
    assert!(
        matches!(unheard, Err(Error::NotStored(_))),
        "an epoch that nobody was given: {unheard:?}"
    );
    assert!(log.acquire(&records(16)).await.is_err());
    assert!(log.read(&records(16), 0, 1).await.is_err());
    assert_eq!(log.head(&cases()).await.unwrap(), 0);
    let whole = vec![entry(1, "a", Some("x")); APPEND_ENTRIES_MAX];
    let (first, next) = stored(&*log, &cases(), whole).await;
    assert_eq!(
        next - first,
        APPEND_ENTRIES_MAX as u64,
        "the longest batch is stored"
    );
}

/// Once a newer writer came, the older one gets its epoch told and stores nothing.
pub async fn a_stale_writer_stores_nothing(factory: &dyn Factory) {
    let log = factory.open().await;
    let old = log.acquire(&cases()).await.unwrap();
    let by_old = log
        .append(&cases(), Some(old), vec![entry(1, "a", Some("old"))])
        .await
        .unwrap();
    assert!(matches!(by_old, Appended::At { .. }));
    let new = log.acquire(&cases()).await.unwrap();
    assert!(new > old, "epochs grow");
    let head = log.head(&cases()).await.unwrap();
    let stale = log
        .append(&cases(), Some(old), vec![entry(2, "a", Some("stale"))])
        .await
        .unwrap();
    assert_eq!(stale, Appended::StaleEpoch { current: new });
    assert_eq!(
        log.head(&cases()).await.unwrap(),
        head,
        "a stale append moves nothing"
    );
    let by_new = log
        .append(&cases(), Some(new), vec![entry(3, "a", Some("new"))])
        .await
        .unwrap();
    assert!(matches!(by_new, Appended::At { .. }));
    assert_eq!(numbers(&read_from(&*log, &cases(), 0).await), [1, 3]);
    let elsewhere = log.acquire(&Place::new(Stream::Cases, 2)).await.unwrap();
    assert_eq!(elsewhere, 1, "each partition counts its own epochs, from 1");
}

/// A writer that was fenced off stays so when the log was closed in between, and after a compaction.
pub async fn an_epoch_outlives_a_reopening(factory: &dyn Factory) {
    let log = factory.open().await;
    let at = records(4);
    let old = log.acquire(&at).await.unwrap();
    let new = log.acquire(&at).await.unwrap();
    stored(
        &*log,
        &at,
        vec![entry(1, "a", Some("x")), entry(2, "a", Some("y"))],
    )
    .await;
    log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    let log = factory.reopen(log).await;
    let stale = log
        .append(&at, Some(old), vec![entry(3, "a", Some("z"))])
        .await
        .unwrap();
    assert_eq!(stale, Appended::StaleEpoch { current: new });
    assert!(log.acquire(&at).await.unwrap() > new);
}

/// A page ends at its limit, at [`PAGE_ENTRIES_MAX`], and at [`PAGE_BYTES_MAX`], but holds one entry at least.
pub async fn a_page_holds_what_fits(factory: &dyn Factory) {
    let log = factory.open().await;
    let small = vec![entry(1, "a", Some("x")); APPEND_ENTRIES_MAX];
    stored(&*log, &cases(), small.clone()).await;
    stored(&*log, &cases(), small).await;
    let page = log.read(&cases(), 0, usize::MAX).await.unwrap();
    assert_eq!(page.entries.len(), PAGE_ENTRIES_MAX);
    assert_eq!(page.next, page.entries.last().unwrap().position + 1);
    assert_eq!(log.read(&cases(), 0, 3).await.unwrap().entries.len(), 3);
    let nothing = log.read(&cases(), 5, 0).await.unwrap();
    assert!(
        nothing.entries.is_empty() && nothing.next == 5,
        "a page of no entries leads on to itself"
    );

    let large = "x".repeat(PAGE_BYTES_MAX * 3 / 5);
    let at = commands();
    stored(
        &*log,
        &at,
        vec![entry(1, "a", Some(&large)), entry(2, "b", Some(&large))],
    )
    .await;
    let larger = "x".repeat(PAGE_BYTES_MAX + 1);
    stored(&*log, &at, vec![entry(3, "c", Some(&larger))]).await;
    let mut from = 0;
    for number in 1..=3 {
        let page = log.read(&at, from, 10).await.unwrap();
        assert_eq!(numbers(&page.entries), [number], "each of them fills a page");
        from = page.next;
    }
    assert_eq!(from, log.head(&at).await.unwrap());
    let end = log.read(&at, from, 10).await.unwrap();
    assert!(end.entries.is_empty() && end.next == from && !end.fell_behind);
}

/// A reader that stands past the head has seen more than the log holds: that is said, not overlooked.
pub async fn a_read_past_the_head_is_refused(factory: &dyn Factory) {
    let log = factory.open().await;
    stored(&*log, &cases(), vec![entry(1, "a", Some("x"))]).await;
    let head = log.head(&cases()).await.unwrap();
    let past = log.read(&cases(), head + 1, 1).await;
    assert!(matches!(past, Err(Error::Corrupt(_))), "{past:?}");
}

/// A waiter is woken by an append, and at once where the head has already passed.
pub async fn waiting_ends_with_the_next_entry(factory: &dyn Factory) {
    let log = factory.open().await;
    let started = Instant::now();
    let waiter = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            log.wait(&cases(), 0, PATIENCE).await.unwrap();
            log.head(&cases()).await.unwrap()
        })
    };
    tokio::task::yield_now().await;
    stored(&*log, &cases(), vec![entry(1, "a", Some("x"))]).await;
    assert!(waiter.await.unwrap() > 0, "the waiter came back before the entry");
    log.wait(&cases(), 0, PATIENCE).await.unwrap();
    assert!(started.elapsed() < PATIENCE / 2, "the waiter ran out of patience");
}

/// Where no entry comes, waiting ends all the same.
pub async fn waiting_ends_with_patience(factory: &dyn Factory) {
    let log = factory.open().await;
    stored(&*log, &commands(), vec![entry(1, "a", Some("x"))]).await;
    let at = cases();
    let waiting = log.wait(&at, 0, Duration::from_millis(5));
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("waiting ends")
        .unwrap();
    assert_eq!(log.head(&cases()).await.unwrap(), 0);
}

/// Many writers at once: each batch stands there once, together, and in the order of its writer.
pub async fn concurrent_appends_are_each_stored_once(factory: &dyn Factory) {
    const WRITERS: u64 = 16;
    const BATCHES: u64 = 10;
    let log = factory.open().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        writers.spawn(async move {
            for batch in 0..BATCHES {
                let number = writer * 1_000 + batch * 10;
                let entries = (0..3).map(|n| entry(number + n, "key", Some("value"))).collect();
                stored(&*log, &cases(), entries).await;
            }
        });
    }
    writers.join_all().await;
    let read = numbers(&read_from(&*log, &cases(), 0).await);
    for batch in read.chunks(3) {
        assert!(
            batch.len() == 3 && batch[1] == batch[0] + 1 && batch[2] == batch[0] + 2,
            "a batch was torn: {batch:?}"
        );
    }
    for writer in 0..WRITERS {
        let own: Vec<_> = read.iter().filter(|number| *number / 1_000 == writer).collect();
        assert_eq!(own.len() as u64, BATCHES * 3);
        assert!(own.is_sorted(), "the batches of a writer changed places");
    }
}

/// A log that was closed in order holds the same entries when it is opened again.
pub async fn everything_acknowledged_is_there_after_a_reopening(factory: &dyn Factory) {
    let mut log = factory.open().await;
    let places = [records(0), records(15), cases(), commands()];
    for round in 0..3 {
        let mut before = Vec::new();
        for at in &places {
            stored(
                &*log,
                at,
                (0..9)
                    .map(|n| entry(round * 10 + n, "key", Some("value")))
                    .collect(),
            )
            .await;
            before.push((read_from(&*log, at, 0).await, log.head(at).await.unwrap()));
        }
        log = factory.reopen(log).await;
        for (at, before) in places.iter().zip(before) {
            assert_eq!(
                (read_from(&*log, at, 0).await, log.head(at).await.unwrap()),
                before,
                "{at} after round {round}"
            );
        }
    }
}

/// Replaced entries go, in each partition for itself, and the newest of each key stays where it stood.
pub async fn compaction_keeps_the_newest_entry_of_each_key(factory: &dyn Factory) {
    let mut log = factory.open().await;
    let batch = vec![
        entry(1, "a", Some("old")),
        entry(2, "b", Some("only")),
        entry(3, "a", Some("older")),
        entry(4, "c", Some("gone")),
        entry(5, "a", Some("newest")),
        entry(6, "c", None),
        entry(7, "d", None),
        entry(8, "d", Some("back")),
    ];
    stored(&*log, &records(3), batch.clone()).await;
    stored(&*log, &records(4), batch).await;
    let before = read_from(&*log, &records(3), 0).await;
    let report = log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    for is_reopened in [false, true] {
        if is_reopened {
            log = factory.reopen(log).await;
        }
        for at in [records(3), records(4)] {
            let after = read_from(&*log, &at, 0).await;
            assert_eq!(numbers(&after), [2, 5, 6, 8], "{at}");
            assert!(
                after.iter().all(|stored| before.contains(stored)),
                "an entry changed or moved"
            );
        }
    }
    assert_eq!(
        (
            report.kept_entries,
            report.removed_entries,
            report.removed_tombstones
        ),
        (8, 8, 0)
    );
}

/// Whatever was appended and wherever compactions came in between, a fold comes to the same.
pub async fn the_fold_of_the_compacted_log_is_the_fold_of_the_full_one(factory: &dyn Factory) {
    for seed in 0..8 {
        let mut random = Random::new(seed);
        let mut log = factory.open().await;
        let at = records(9);
        let mut full = Vec::new();
        for number in 0..40 {
            let key = format!("key {}", random.below(6));
            let value = random.chance(70).then(|| format!("value {number}"));
            let new = entry(number, &key, value.as_deref());
            let (position, head) = stored(&*log, &at, vec![new.clone()]).await;
            full.push(Stored {
                position,
                taken_at: None,
                entry: new,
            });
            if random.chance(15) {
                log.compact(&Stream::Records, &seen(9, random.below(head + 1)))
                    .await
                    .unwrap();
            }
            if random.chance(10) {
                log = factory.reopen(log).await;
            }
        }
        assert_eq!(fold(&read_from(&*log, &at, 0).await), fold(&full), "seed {seed}");
        log.compact(&Stream::Records, &seen(9, log.head(&at).await.unwrap()))
            .await
            .unwrap();
        let rest = read_from(&*log, &at, 0).await;
        assert_eq!(fold(&rest), fold(&full), "seed {seed}");
        assert!(
            rest.iter().all(|stored| stored.entry.value.is_some()),
            "seed {seed}: a tombstone stayed for ever"
        );
    }
}

/// A tombstone goes when the slowest reader has read it, and not before.
pub async fn a_tombstone_stays_until_every_reader_has_passed_it(factory: &dyn Factory) {
    let log = factory.open().await;
    let at = records(2);
    stored(
        &*log,
        &at,
        vec![
            entry(1, "a", Some("x")),
            entry(2, "a", None),
            entry(3, "b", Some("y")),
        ],
    )
    .await;
    let tombstone = read_from(&*log, &at, 0).await[1].position;
    for (seen, expected) in [
        (BTreeMap::new(), vec![2, 3]),
        (seen(1, 99), vec![2, 3]),
        (seen(2, tombstone), vec![2, 3]),
        (seen(2, tombstone + 1), vec![3]),
    ] {
        log.compact(&Stream::Records, &seen).await.unwrap();
        assert_eq!(
            numbers(&read_from(&*log, &at, 0).await),
            expected,
            "seen {seen:?}"
        );
    }
    assert_eq!(log.gone_by(&Stream::Records), GoneBy::NextCompaction);
}

/// Where a tombstone went that a reader has not read, that reader is told; a fold from nothing and a reader past it are not.
pub async fn a_reader_that_missed_a_tombstone_is_told(factory: &dyn Factory) {
    let mut log = factory.open().await;
    let at = records(2);
    let batch = vec![
        entry(1, "a", Some("x")),
        entry(2, "b", Some("y")),
        entry(3, "a", None),
        entry(4, "c", Some("z")),
    ];
    stored(&*log, &at, batch).await;
    let tombstone = read_from(&*log, &at, 0).await[2].position;
    let head = log.head(&at).await.unwrap();
    log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    for from in 0..=head {
        assert!(
            !log.read(&at, from, 9).await.unwrap().fell_behind,
            "no tombstone went, but {from} is told so"
        );
    }
    log.compact(&Stream::Records, &seen(2, head)).await.unwrap();
    for is_reopened in [false, true] {
        if is_reopened {
            log = factory.reopen(log).await;
        }
        for from in 0..=head {
            let expected = from > 0 && from <= tombstone;
            assert_eq!(
                log.read(&at, from, 9).await.unwrap().fell_behind,
                expected,
                "a reader at {from}"
            );
        }
        assert!(!log.read(&records(1), 0, 9).await.unwrap().fell_behind);
    }
}

/// A position that was given out never comes again: not after everything went, not after a reopening.
pub async fn positions_are_never_used_again(factory: &dyn Factory) {
    let mut log = factory.open().await;
    let mut past = BTreeMap::new();
    for round in 0..4 {
        for at in [records(5), commands()] {
            let (first, next) = stored(
                &*log,
                &at,
                vec![entry(round, "a", Some("x")), entry(round, "a", None)],
            )
            .await;
            assert!(
                first >= past.get(&at).copied().unwrap_or(0),
                "{at}: position {first} was used before"
            );
            past.insert(at, next);
        }
        log.compact(&Stream::Records, &seen(5, Position::MAX))
            .await
            .unwrap();
        let all = log.head(&commands()).await.unwrap();
        log.expire(&Stream::Commands, &seen(0, all)).await.unwrap();
        for (at, next) in &past {
            if factory.compacts_when_told() || *at == commands() {
                assert!(
                    read_from(&*log, at, 0).await.is_empty(),
                    "everything of {at} went"
                );
            }
            let head = log.head(at).await.unwrap();
            let stays = head == *next || (factory.has_gaps() && head > *next);
            assert!(stays, "the head of {at} is {head}, not {next}");
        }
        if round % 2 == 1 {
            log = factory.reopen(log).await;
        }
    }
}

/// Neither a history nor, by the wrong means, a table or queue loses an entry.
pub async fn a_history_is_never_rewritten(factory: &dyn Factory) {
    let log = factory.open().await;
    for at in [cases(), records(0), commands()] {
        stored(&*log, &at, vec![entry(1, "a", Some("x")), entry(2, "a", None)]).await;
    }
    let all = BTreeMap::from([(0, 2), (1, 2)]);
    let mut outcomes = Vec::new();
    for stream in [Stream::Cases, Stream::Records] {
        outcomes.push(log.expire(&stream, &all).await);
    }
    if factory.compacts_when_told() {
        for stream in [Stream::Cases, Stream::Commands] {
            outcomes.push(log.compact(&stream, &all).await);
        }
    }
    for refused in outcomes {
        assert!(matches!(refused, Err(Error::NotStored(_))), "{refused:?}");
    }
    for at in [cases(), records(0), commands()] {
        assert_eq!(numbers(&read_from(&*log, &at, 0).await), [1, 2]);
    }
    assert_eq!(log.gone_by(&Stream::Cases), GoneBy::KeyDestroyed);
}

/// What is appended while a compaction runs is there afterwards, each entry once.
pub async fn appends_go_on_during_a_compaction(factory: &dyn Factory) {
    const ROUNDS: u64 = 10;
    const ENTRIES: u64 = 200;
    let mut log = factory.open().await;
    let appender = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for number in 0..ENTRIES {
                stored(
                    &*log,
                    &records(7),
                    vec![entry(number, &format!("key {number}"), Some("value"))],
                )
                .await;
                stored(&*log, &records(8), vec![entry(number, "one key", Some("value"))]).await;
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..ROUNDS {
        log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
        tokio::task::yield_now().await;
    }
    appender.await.unwrap();
    log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
    let all: Vec<u64> = (0..ENTRIES).collect();
    for is_reopened in [false, true] {
        if is_reopened {
            log = factory.reopen(log).await;
        }
        assert_eq!(numbers(&read_from(&*log, &records(7), 0).await), all);
        assert_eq!(numbers(&read_from(&*log, &records(8), 0).await), [ENTRIES - 1]);
    }
}

/// The log's own check finds nothing where nothing happened.
pub async fn an_untouched_log_passes_its_own_check(factory: &dyn Factory) {
    let log = factory.open().await;
    log.check().await.unwrap();
    for at in [records(0), cases(), commands()] {
        stored(
            &*log,
            &at,
            (0..50)
                .map(|n| entry(n, &format!("key {}", n % 7), Some("x")))
                .collect(),
        )
        .await;
    }
    log.compact(&Stream::Records, &seen(0, 20)).await.unwrap();
    log.expire(&Stream::Commands, &seen(0, 20)).await.unwrap();
    log.check().await.unwrap();
    factory.reopen(log).await.check().await.unwrap();
}
