//! The suite of the EventLog port: named checks, stamped on every implementation by [`event_log_suite!`](crate::event_log_suite) and
//! on deliberately wrong ones ([`mutants`]), each of which a named check must catch.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a check fails by a panic, as tests do"
)]

pub mod checks;
mod dropped;
pub mod mutants;
mod power_check;
pub mod power_loss;
mod random;
mod subjects;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lethe_journal::{Entry, Place, Position, Stored, Stream};
use lethe_log::{Appended, Compaction, Error, EventLog};
use lethe_terms::EntryId;

pub use random::Random;
pub use subjects::{FolderLogs, MemoryLogs, PowerLossLogs};

/// A log with what belongs to it beside the port.
#[async_trait]
pub trait Subject: EventLog {
    /// Compacts a table.
    async fn compact(&self, stream: &Stream, seen: &BTreeMap<u16, Position>) -> Result<Compaction, Error>;

    /// Drops the start of a queue.
    async fn expire(&self, stream: &Stream, before: &BTreeMap<u16, Position>) -> Result<Compaction, Error>;
}

/// A log under test.
pub type Log = Arc<dyn Subject>;

/// Makes the logs of one implementation.
#[async_trait]
pub trait Factory: Send + Sync {
    /// An empty log with [`streams`].
    async fn open(&self) -> Log;

    /// Closes the log that was opened last, and opens it again.
    async fn reopen(&self, log: Log) -> Log;

    /// Whether positions have gaps where nothing went: then the head may be past the newest entry by more than one.
    fn has_gaps(&self) -> bool {
        false
    }

    /// Whether a table is compacted when it is told to be; one that compacts by itself has nothing to do then.
    fn compacts_when_told(&self) -> bool {
        true
    }

    /// Whether the implementation can lose power.
    fn can_lose_power(&self) -> bool {
        false
    }

    /// Cuts the power after so many operations on files.
    fn cut_power_after(&self, _operations: u64) {}

    /// Cuts the power if it is still there, loses a part of what was not synced, and opens the log again.
    async fn reopen_after_power_loss(&self, log: Log, _seed: u64) -> Log {
        self.reopen(log).await
    }
}

/// The streams of a log under test: a table, a history and a queue.
pub fn streams() -> Vec<Stream> {
    vec![Stream::Records, Stream::Cases, Stream::Commands]
}

/// A check by its name.
pub type Check = for<'a> fn(&'a dyn Factory) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Every check of the suite.
pub fn all() -> &'static [(&'static str, Check)] {
    crate::event_log_suite!(@all table ())
}

/// Stamps the suite on an implementation: one test a check. Takes an expression that makes a [`Factory`]; or, for a log that compacts by
/// itself and not when it is told to, `compacts_by_itself` and an expression that makes an `Option` of one, `None` where
/// there is no server to test on.
#[macro_export]
macro_rules! event_log_suite {
    (@all $mode:ident $args:tt) => {
        $crate::event_log_suite! { @names $mode $args
            compaction_keeps_the_newest_entry_of_each_key
            the_fold_of_the_compacted_log_is_the_fold_of_the_full_one
            a_tombstone_stays_until_every_reader_has_passed_it
            a_reader_that_missed_a_tombstone_is_told
            appends_go_on_during_a_compaction
            what_was_acknowledged_survives_power_loss
        }
    };
    (@names $mode:ident $args:tt $($more:ident)*) => {
        $crate::event_log_suite! { @$mode $args
            a_batch_is_stored_whole_and_in_order
            what_is_malformed_is_not_stored
            a_stale_writer_stores_nothing
            an_epoch_outlives_a_reopening
            a_page_holds_what_fits
            a_read_past_the_head_is_refused
            waiting_ends_with_the_next_entry
            waiting_ends_with_patience
            concurrent_appends_are_each_stored_once
            everything_acknowledged_is_there_after_a_reopening
            an_expired_queue_tells_the_reader_who_fell_behind
            a_queue_that_is_dropped_under_a_reader_goes_on_for_it
            positions_are_never_used_again
            a_history_is_never_rewritten
            an_untouched_log_passes_its_own_check
            $($more)*
        }
    };
    (@stamp ($factory:expr) $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::event_log::checks::$name(&$factory).await;
            }
        )*
    };
    (@stamp_if ($factory:expr) $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                if let Some(factory) = $factory {
                    $crate::event_log::checks::$name(&factory).await;
                }
            }
        )*
    };
    (@table () $($name:ident)*) => {
        &[$((stringify!($name), |factory| Box::pin($crate::event_log::checks::$name(factory)))),*]
    };
    (compacts_by_itself $factory:expr) => {
        $crate::event_log_suite! { @names stamp_if ($factory) }
    };
    ($factory:expr) => {
        $crate::event_log_suite! { @all stamp ($factory) }
    };
}

/// An entry whose id, key and value follow from a number and a key.
pub fn entry(number: u64, key: &str, value: Option<&str>) -> Entry {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Entry {
        id: EntryId::from_bytes(id),
        key: key.as_bytes().to_vec(),
        value: value.map(|value| value.as_bytes().to_vec()),
    }
}

/// Appends and expects it to be stored; gives the positions of the first entry and after the last one.
pub async fn stored(log: &dyn Subject, at: &Place, entries: Vec<Entry>) -> (Position, Position) {
    match log.append(at, None, entries).await.expect("an append is stored") {
        Appended::At { first, next } => (first, next),
        Appended::StaleEpoch { current } => panic!("an append without an epoch met epoch {current}"),
    }
}

/// Reads a partition from a position to its head, in small pages.
pub async fn read_from(log: &dyn Subject, at: &Place, from: Position) -> Vec<Stored> {
    const SMALL_PAGE_ENTRIES: usize = 7;
    let mut entries: Vec<Stored> = Vec::new();
    let mut from = from;
    loop {
        let page = log
            .read(at, from, SMALL_PAGE_ENTRIES)
            .await
            .expect("a page is read");
        assert!(
            page.entries.len() <= SMALL_PAGE_ENTRIES,
            "a page is longer than its limit"
        );
        for stored in page.entries {
            assert!(
                stored.position >= from && stored.position < page.head,
                "an entry stands where none was asked for"
            );
            assert!(
                entries.last().is_none_or(|last| last.position < stored.position),
                "entries of a page are not ordered by position"
            );
            entries.push(stored);
        }
        if page.next >= page.head {
            return entries;
        }
        assert!(page.next > from, "a page leads nowhere");
        from = page.next;
    }
}

/// What a fold of a table comes to: the newest value of each key that has not ended.
pub fn fold(entries: &[Stored]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut state = BTreeMap::new();
    for stored in entries {
        match &stored.entry.value {
            Some(value) => drop(state.insert(stored.entry.key.clone(), value.clone())),
            None => drop(state.remove(&stored.entry.key)),
        }
    }
    state
}
