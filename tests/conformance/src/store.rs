//! The suite of the Store port: what every implementation keeps, and what deliberately wrong ones break.
//!
//! [`store_suite!`](crate::store_suite) stamps one test a check on an implementation. The mutants in [`mutants`] show that each check
//! that they are meant for has teeth.

use std::sync::{Arc, Barrier};

use lethe_journal::Stream;
use lethe_store::{Batch, COMMIT_ROWS_MAX, Error, Row, Store};

pub mod mutants;

/// A place where one store lives, so that it can be opened again.
pub trait Site: Send + Sync {
    /// Opens what was left there. At most one store is open at a time.
    fn open(&self) -> Box<dyn Store>;
}

/// What a check found: nothing, or what was not as promised.
pub type Verdict = Result<(), String>;

/// One promise of the port.
#[derive(Clone, Copy)]
pub struct Check {
    /// Its name, a sentence.
    pub name: &'static str,
    /// Looks whether a store that lives at the site keeps it; the site holds nothing yet.
    pub run: fn(&dyn Site) -> Verdict,
}

macro_rules! checks {
    ($($name:ident),+ $(,)?) => {
        /// Every check of the suite.
        pub const CHECKS: &[Check] = &[ $( Check { name: stringify!($name), run: $name }, )+ ];

        /// Stamps the suite on an implementation: `store_suite!(module, || site)`, one test a check, each at a fresh site.
        #[macro_export]
        macro_rules! store_suite {
            ($module:ident, $site:expr) => {
                mod $module {
                    #[allow(unused_imports)]
                    use super::*;
                    $( #[test] fn $name() { $crate::store::must_hold(stringify!($name), &$site()); } )+
                }
            };
        }
    };
}

checks! {
    a_row_reads_back,
    a_removed_row_is_absent,
    the_last_change_of_a_key_wins,
    a_scan_is_in_order_and_stays_under_its_prefix,
    a_scan_goes_on_after_a_key,
    a_scan_stops_at_its_limit,
    a_position_starts_at_nought_and_moves_with_its_batch,
    a_commit_from_a_wrong_position_changes_nothing,
    a_commit_that_goes_back_changes_nothing,
    a_commit_of_too_many_rows_changes_nothing,
    a_commit_without_rows_moves_the_position,
    a_commit_may_stay_where_it_is,
    positions_of_streams_are_apart,
    positions_are_no_rows,
    a_reader_never_sees_rows_without_their_position,
    rows_and_positions_are_there_after_opening_again,
    removed_rows_stay_removed_after_opening_again,
    wiping_removes_rows_and_positions,
    keys_and_values_are_any_bytes,
}

/// Every check that a store at such sites does not pass.
pub fn broken(site: impl Fn() -> Box<dyn Site>) -> Vec<&'static str> {
    CHECKS
        .iter()
        .filter(|check| (check.run)(site().as_ref()).is_err())
        .map(|check| check.name)
        .collect()
}

/// Fails the calling test with what the check found.
#[allow(clippy::panic, reason = "the suite is test code in a library")]
pub fn must_hold(name: &str, site: &dyn Site) {
    let verdict = match CHECKS.iter().find(|check| check.name == name) {
        Some(check) => (check.run)(site),
        None => Err("no such check".to_owned()),
    };
    if let Err(found) = verdict {
        panic!("{name}: {found}");
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: Result<T, Error>, wanted: &T) -> Verdict {
    match found {
        Ok(found) if found == *wanted => Ok(()),
        Ok(found) => Err(format!("{what}: {found:?} instead of {wanted:?}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

fn expect_code(what: &str, found: Result<(), Error>, code: &str) -> Verdict {
    match found {
        Err(error) if error.code() == code => Ok(()),
        Err(error) => Err(format!("{what}: {} instead of {code}", error.code())),
        Ok(()) => Err(format!("{what}: accepted instead of {code}")),
    }
}

fn done(what: &str, found: Result<(), Error>) -> Verdict {
    expect(what, found, &())
}

/// A batch that puts rows (`Some`) and removes them (`None`).
fn batch(changes: &[(&str, Option<&str>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in changes {
        match value {
            Some(value) => batch.put(key.as_bytes().to_vec(), value.as_bytes().to_vec()),
            None => batch.remove(key.as_bytes().to_vec()),
        }
    }
    batch
}

fn rows(rows: &[(&str, &str)]) -> Vec<Row> {
    rows.iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

fn value(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

/// Five rows under two prefixes, inserted out of order; the position of `records` is 5.
fn five(site: &dyn Site) -> Result<Box<dyn Store>, String> {
    let store = site.open();
    let changes = batch(&[
        ("b/2", Some("two")),
        ("a/9", Some("nine")),
        ("b/1", Some("one")),
        ("c/0", Some("other")),
        ("b/3", Some("three")),
    ]);
    done("commit", store.commit(&Stream::Records, 0, 5, &changes))?;
    Ok(store)
}

fn a_row_reads_back(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    expect("get", store.get(b"b/1"), &value("one"))?;
    expect("get of another key", store.get(b"b/"), &None)
}

fn a_removed_row_is_absent(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    done(
        "commit",
        store.commit(
            &Stream::Records,
            5,
            6,
            &batch(&[("b/2", None), ("nothing", None)]),
        ),
    )?;
    expect("get", store.get(b"b/2"), &None)?;
    expect(
        "scan",
        store.scan(b"b/", None, 10),
        &rows(&[("b/1", "one"), ("b/3", "three")]),
    )
}

fn the_last_change_of_a_key_wins(site: &dyn Site) -> Verdict {
    let store = site.open();
    let changes = batch(&[
        ("a", Some("1")),
        ("a", None),
        ("b", None),
        ("b", Some("2")),
        ("c", Some("3")),
        ("c", Some("4")),
    ]);
    done("commit", store.commit(&Stream::Records, 0, 1, &changes))?;
    expect(
        "scan",
        store.scan(b"", None, 10),
        &rows(&[("b", "2"), ("c", "4")]),
    )
}

fn a_scan_is_in_order_and_stays_under_its_prefix(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    expect(
        "scan",
        store.scan(b"b/", None, 10),
        &rows(&[("b/1", "one"), ("b/2", "two"), ("b/3", "three")]),
    )?;
    let all = rows(&[
        ("a/9", "nine"),
        ("b/1", "one"),
        ("b/2", "two"),
        ("b/3", "three"),
        ("c/0", "other"),
    ]);
    expect("scan of everything", store.scan(b"", None, 10), &all)
}

fn a_scan_goes_on_after_a_key(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    expect(
        "scan",
        store.scan(b"b/", Some(b"b/1"), 10),
        &rows(&[("b/2", "two"), ("b/3", "three")]),
    )?;
    expect(
        "scan after a key that is not there",
        store.scan(b"b/", Some(b"b/25"), 10),
        &rows(&[("b/3", "three")]),
    )?;
    let all = rows(&[("b/1", "one"), ("b/2", "two"), ("b/3", "three")]);
    expect(
        "scan after a key before the prefix",
        store.scan(b"b/", Some(b"a/9"), 10),
        &all,
    )?;
    expect(
        "scan after the last key",
        store.scan(b"b/", Some(b"c"), 10),
        &Vec::new(),
    )
}

fn a_scan_stops_at_its_limit(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    expect(
        "scan",
        store.scan(b"b/", None, 2),
        &rows(&[("b/1", "one"), ("b/2", "two")]),
    )?;
    expect("scan of nothing", store.scan(b"b/", None, 0), &Vec::new())
}

fn a_position_starts_at_nought_and_moves_with_its_batch(site: &dyn Site) -> Verdict {
    let store = site.open();
    expect("position", store.position(&Stream::Records), &0)?;
    done(
        "commit",
        store.commit(&Stream::Records, 0, 7, &batch(&[("a", Some("1"))])),
    )?;
    expect("position", store.position(&Stream::Records), &7)?;
    // Positions of a log may have gaps.
    done(
        "commit",
        store.commit(&Stream::Records, 7, 1_000, &batch(&[("a", Some("2"))])),
    )?;
    expect("position", store.position(&Stream::Records), &1_000)
}

fn a_commit_from_a_wrong_position_changes_nothing(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    for from in [0, 4, 6] {
        let late = batch(&[("b/1", Some("wrong")), ("b/2", None)]);
        expect_code(
            "commit",
            store.commit(&Stream::Records, from, 9, &late),
            "store-not-at-position",
        )?;
    }
    expect("get", store.get(b"b/1"), &value("one"))?;
    expect("get", store.get(b"b/2"), &value("two"))?;
    expect("position", store.position(&Stream::Records), &5)
}

fn a_commit_that_goes_back_changes_nothing(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    expect_code(
        "commit",
        store.commit(&Stream::Records, 5, 4, &batch(&[("b/1", None)])),
        "store-not-stored",
    )?;
    expect("get", store.get(b"b/1"), &value("one"))?;
    expect("position", store.position(&Stream::Records), &5)
}

fn a_commit_of_too_many_rows_changes_nothing(site: &dyn Site) -> Verdict {
    let store = site.open();
    let mut changes = Batch::default();
    for number in 0..COMMIT_ROWS_MAX {
        changes.put(format!("{number:05}").into_bytes(), b"row".to_vec());
    }
    let mut many = changes.clone();
    many.put(b"one more".to_vec(), b"row".to_vec());
    expect_code(
        "commit",
        store.commit(&Stream::Records, 0, 1, &many),
        "store-too-many-rows",
    )?;
    expect("scan", store.scan(b"", None, 1), &Vec::new())?;
    done("commit", store.commit(&Stream::Records, 0, 1, &changes))?;
    expect(
        "scan",
        store.scan(b"", None, usize::MAX).map(|rows| rows.len()),
        &COMMIT_ROWS_MAX,
    )
}

fn a_commit_without_rows_moves_the_position(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    done("commit", store.commit(&Stream::Records, 5, 8, &Batch::default()))?;
    expect("position", store.position(&Stream::Records), &8)
}

fn a_commit_may_stay_where_it_is(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    done(
        "commit",
        store.commit(&Stream::Records, 5, 5, &batch(&[("d", Some("part"))])),
    )?;
    expect("get", store.get(b"d"), &value("part"))?;
    expect("position", store.position(&Stream::Records), &5)
}

fn positions_of_streams_are_apart(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    expect("position", store.position(&Stream::Keys), &0)?;
    done(
        "commit",
        store.commit(&Stream::Keys, 0, 3, &batch(&[("k", Some("key"))])),
    )?;
    expect("position of keys", store.position(&Stream::Keys), &3)?;
    expect("position of records", store.position(&Stream::Records), &5)
}

fn positions_are_no_rows(site: &dyn Site) -> Verdict {
    let store = site.open();
    for stream in [Stream::Records, Stream::Keys] {
        done("commit", store.commit(&stream, 0, 9, &Batch::default()))?;
    }
    expect("scan", store.scan(b"", None, 10), &Vec::new())?;
    expect("get", store.get(b""), &None)
}

/// One thread counts up in a row while another reads: the row is never behind a position that was read before it.
fn a_reader_never_sees_rows_without_their_position(site: &dyn Site) -> Verdict {
    const COMMITS: u64 = 60;
    let store: Arc<dyn Store> = Arc::from(site.open());
    let start = Arc::new(Barrier::new(2));
    let (writer, gate) = (Arc::clone(&store), Arc::clone(&start));
    let writing = std::thread::spawn(move || {
        gate.wait();
        (0..COMMITS).try_for_each(|at| {
            let number = (at + 1).to_string();
            let changes = batch(&[("first", Some(&number)), ("second", Some(&number))]);
            done("commit", writer.commit(&Stream::Records, at, at + 1, &changes))
        })
    });
    start.wait();
    let mut seen = Ok(());
    while seen.is_ok() && !writing.is_finished() {
        seen = one_look(store.as_ref());
    }
    writing.join().map_err(|_| "the writer panicked".to_owned())??;
    seen?;
    expect("position", store.position(&Stream::Records), &COMMITS)
}

fn one_look(store: &dyn Store) -> Verdict {
    let position = store
        .position(&Stream::Records)
        .map_err(|error| error.to_string())?;
    let rows = store.scan(b"", None, 10).map_err(|error| error.to_string())?;
    let numbers: Vec<u64> = rows
        .iter()
        .filter_map(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok())
        .collect();
    let whole = if position == 0 {
        numbers.is_empty() || numbers.len() == 2
    } else {
        numbers.len() == 2
    };
    if whole && numbers.iter().all(|number| *number >= position) {
        Ok(())
    } else {
        Err(format!("position {position} with rows of {numbers:?}"))
    }
}

fn rows_and_positions_are_there_after_opening_again(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    done(
        "commit",
        store.commit(&Stream::Keys, 0, 2, &batch(&[("k", Some("key"))])),
    )?;
    done(
        "last commit",
        store.commit(&Stream::Records, 5, 6, &batch(&[("z", Some("last"))])),
    )?;
    drop(store);
    let store = site.open();
    expect("position of records", store.position(&Stream::Records), &6)?;
    expect("position of keys", store.position(&Stream::Keys), &2)?;
    expect("last row", store.get(b"z"), &value("last"))?;
    expect("all rows", store.scan(b"", None, 100).map(|rows| rows.len()), &7)?;
    done(
        "next commit",
        store.commit(&Stream::Records, 6, 7, &Batch::default()),
    )
}

fn removed_rows_stay_removed_after_opening_again(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    done(
        "commit",
        store.commit(&Stream::Records, 5, 6, &batch(&[("b/2", None)])),
    )?;
    drop(store);
    expect("get", site.open().get(b"b/2"), &None)
}

fn wiping_removes_rows_and_positions(site: &dyn Site) -> Verdict {
    let store = five(site)?;
    done("wipe", store.wipe())?;
    expect("scan", store.scan(b"", None, 10), &Vec::new())?;
    expect("position", store.position(&Stream::Records), &0)?;
    done(
        "commit",
        store.commit(&Stream::Records, 0, 1, &batch(&[("a", Some("again"))])),
    )?;
    drop(store);
    expect(
        "scan after opening again",
        site.open().scan(b"", None, 10),
        &rows(&[("a", "again")]),
    )
}

fn keys_and_values_are_any_bytes(site: &dyn Site) -> Verdict {
    let store = site.open();
    let keys: [&[u8]; 5] = [b"", &[0], &[0, 0], &[0xff], &[0xff, 0xff, 0]];
    let mut changes = Batch::default();
    for (number, key) in keys.iter().enumerate() {
        changes.put(key.to_vec(), vec![0xff; number * 4_000]);
    }
    done("commit", store.commit(&Stream::Records, 0, 1, &changes))?;
    let wanted: Vec<Row> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| (key.to_vec(), vec![0xff; n * 4_000]))
        .collect();
    expect(
        "scan",
        store.scan(b"", None, 10).map(|rows| rows == wanted),
        &true,
    )?;
    expect(
        "scan under 0xff",
        store.scan(&[0xff], None, 10).map(|rows| rows.len()),
        &2,
    )?;
    expect(
        "scan after the empty key",
        store.scan(b"", Some(b""), 10).map(|rows| rows.len()),
        &4,
    )
}
