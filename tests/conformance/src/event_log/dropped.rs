//! Checks of queues whose start is dropped.

use std::sync::Arc;

use lethe_journal::{Position, Stream};

use super::checks::{PATIENCE, commands, numbers, seen};
use super::{Factory, entry, read_from, stored};

/// The start of a queue goes up to a position; a reader that stood there is told, even at 0.
pub async fn an_expired_queue_tells_the_reader_who_fell_behind(factory: &dyn Factory) {
    let mut log = factory.open().await;
    stored(
        &*log,
        &commands(),
        (1..=6).map(|n| entry(n, "a", Some("x"))).collect(),
    )
    .await;
    let start = read_from(&*log, &commands(), 0).await[3].position;
    let report = log.expire(&Stream::Commands, &seen(0, start)).await.unwrap();
    assert_eq!((report.kept_entries, report.removed_entries), (3, 3));
    for is_reopened in [false, true] {
        if is_reopened {
            log = factory.reopen(log).await;
        }
        assert_eq!(numbers(&read_from(&*log, &commands(), 0).await), [4, 5, 6]);
        for from in 0..=log.head(&commands()).await.unwrap() {
            let page = log.read(&commands(), from, 9).await.unwrap();
            assert_eq!(page.fell_behind, from < start, "a reader at {from}");
        }
    }
}

/// Whatever is dropped while a reader reads, it gets what is still there, and is told; a drop under the very read is no error.
pub async fn a_queue_that_is_dropped_under_a_reader_goes_on_for_it(factory: &dyn Factory) {
    const ENTRIES: u64 = 24;
    let log = factory.open().await;
    stored(
        &*log,
        &commands(),
        (1..=ENTRIES).map(|n| entry(n, "a", Some("x"))).collect(),
    )
    .await;
    let places: Vec<Position> = read_from(&*log, &commands(), 0)
        .await
        .iter()
        .map(|stored| stored.position)
        .collect();
    let reader = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            loop {
                let page = log.read(&commands(), 0, 2).await.expect("a page is read");
                let first = page.entries.first().map_or(page.next, |stored| stored.position);
                assert_eq!(
                    page.fell_behind,
                    first > 0,
                    "whether a reader at 0 missed something"
                );
                if page.entries.is_empty() && page.next >= page.head {
                    return;
                }
            }
        })
    };
    for next in places
        .iter()
        .skip(1)
        .copied()
        .chain([log.head(&commands()).await.unwrap()])
    {
        log.expire(&Stream::Commands, &seen(0, next)).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, reader)
        .await
        .expect("the reader comes to an end")
        .unwrap();
}
