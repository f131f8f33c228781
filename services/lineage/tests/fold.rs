//! The fold: rows follow the newest entry, repeats change nothing, replay gives the same state.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use common::{
    Partition, apply, fold_entries, folded, hash, key_entry, observed, record_entry, record_token, stored,
    token,
};
use lethe_journal::{Entry, Stored, Stream};
use lethe_lineage::{
    CHUNK_CHANGES_MAX, Displaced, Stretch, fold, known_digest, record, records_by_dataset, records_of,
    wrapped_key,
};
use lethe_terms::EntryId;
use proptest::prelude::*;

/// Folds entries of `records` at once and one by one.
fn check(entries: &[Entry], expected: &[(&str, &[&str])]) {
    let mut rows = Partition::new();
    folded(&mut rows, &Stream::Records, &stored(0, entries), &[entries.len()]);
    let mut one_by_one = Partition::new();
    folded(&mut one_by_one, &Stream::Records, &stored(0, entries), &[1]);
    assert_eq!(rows, one_by_one, "later entries of a batch see the earlier ones");
    check_rows(&rows, expected);
}

/// For each identifier the records that the index gives.
fn check_rows(rows: &Partition, expected: &[(&str, &[&str])]) {
    for (identifier, names) in expected {
        let held = records_of(rows, &[token(identifier).token], 100).unwrap();
        let mut found: Vec<_> = held[0].records.iter().map(|seen| seen.record).collect();
        let mut wanted: Vec<_> = names.iter().map(|name| record_token(name)).collect();
        found.sort();
        wanted.sort();
        assert!(
            found == wanted,
            "{identifier}: {} records instead of {}",
            found.len(),
            wanted.len()
        );
    }
}

#[test]
fn a_record_is_found_by_each_of_its_identifiers() {
    check(
        &[
            record_entry("shop/orders/1", Some("email=ada user_id=1")),
            record_entry("shop/orders/2", Some("user_id=1")),
        ],
        &[
            ("email=ada", &["shop/orders/1"]),
            ("user_id=1", &["shop/orders/1", "shop/orders/2"]),
            ("email=bob", &[]),
        ],
    );
}

#[test]
fn a_newer_entry_replaces_the_older_one_whole() {
    check(
        &[
            record_entry("shop/orders/1", Some("email=ada phone=1")),
            record_entry("shop/orders/1", Some("email=ada email=new")),
        ],
        &[
            ("email=ada", &["shop/orders/1"]),
            ("email=new", &["shop/orders/1"]),
            ("phone=1", &[]),
        ],
    );
}

#[test]
fn a_tombstone_removes_every_row() {
    let entries = [
        record_entry("shop/orders/1", Some("email=ada phone=1")),
        record_entry("shop/orders/1", None),
    ];
    check(&entries, &[("email=ada", &[]), ("phone=1", &[])]);
    let mut rows = Partition::new();
    folded(&mut rows, &Stream::Records, &stored(0, &entries), &[2]);
    assert!(rows.is_empty());
}

#[test]
fn records_are_counted_by_dataset() {
    let entries = [
        record_entry("shop/orders/1", Some("email=ada")),
        record_entry("shop/orders/2", Some("email=ada phone=1")),
        record_entry("crm/people/1", Some("email=ada")),
        record_entry("crm/people/2", Some("email=bob")),
        record_entry("crm/people/1", None),
    ];
    let mut rows = Partition::new();
    folded(&mut rows, &Stream::Records, &stored(0, &entries), &[5]);
    let counts: Vec<_> = records_by_dataset(&rows)
        .unwrap()
        .into_iter()
        .map(|(place, count)| (format!("{}.{}", place.system, place.dataset), count))
        .collect();
    assert_eq!(
        counts,
        [("crm.people".to_owned(), 1), ("shop.orders".to_owned(), 2)]
    );
    // As the fold says itself, entry by entry.
    let (mut rows, mut told) = (Partition::new(), std::collections::BTreeMap::new());
    for (position, entry) in (0..).zip(stored(0, &entries)) {
        let chunks = fold_entries(&rows, &Stream::Records, position, &[entry], position + 1).chunks;
        apply(&mut rows, &chunks);
        for (place, by) in chunks.into_iter().flat_map(|chunk| chunk.counts) {
            *told.entry(place).or_insert(0_i64) += by;
        }
    }
    let told: Vec<_> = told.into_values().collect();
    assert_eq!(told, [1, 2]);
}

#[test]
fn a_record_reads_back_whole() {
    let mut rows = Partition::new();
    folded(
        &mut rows,
        &Stream::Records,
        &stored(0, &[record_entry("shop/orders/1", Some("email=ada ip=10.0.0.1"))]),
        &[1],
    );
    let wanted = observed("shop/orders/1", "email=ada ip=10.0.0.1");
    assert_eq!(
        known_digest(&rows, wanted.record).unwrap().as_ref(),
        Some(&wanted.digest)
    );
    assert_eq!(record(&rows, wanted.record).unwrap(), Some(wanted));
    assert_eq!(record(&rows, record_token("nobody")).unwrap(), None);
}

#[test]
fn keys_are_found_by_record_and_by_case() {
    let mut rows = Partition::new();
    let case = Entry {
        key: vec![9; 8],
        ..key_entry("x", Some("case key"))
    };
    let entries = [
        key_entry("shop/orders/1", Some("one")),
        case,
        key_entry("shop/orders/1", Some("two")),
    ];
    folded(&mut rows, &Stream::Keys, &stored(0, &entries), &[3]);
    let key = wrapped_key(&rows, record_token("shop/orders/1").as_bytes())
        .unwrap()
        .unwrap();
    assert_eq!((key.bucket, key.wrapped.as_bytes()), (7, b"two".as_slice()));
    assert_eq!(
        wrapped_key(&rows, &[9; 8]).unwrap().unwrap().wrapped.as_bytes(),
        b"case key"
    );
    folded(
        &mut rows,
        &Stream::Keys,
        &stored(3, &[key_entry("shop/orders/1", None)]),
        &[1],
    );
    assert!(
        wrapped_key(&rows, record_token("shop/orders/1").as_bytes())
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_repeat_moves_the_position_and_changes_no_row() {
    let mut rows = Partition::new();
    let entries = stored(
        0,
        &[
            record_entry("shop/orders/1", Some("email=ada")),
            record_entry("shop/orders/2", None),
        ],
    );
    let first = fold_entries(&rows, &Stream::Records, 0, &entries, 2).chunks;
    apply(&mut rows, &first);
    let again = fold_entries(&rows, &Stream::Records, 0, &entries, 2).chunks;
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].from, again[0].to, again[0].changes.len()), (0, 2, 0));
    assert_eq!(fold_entries(&rows, &Stream::Records, 2, &[], 2).chunks, []);
}

#[test]
fn chunks_follow_each_other_and_fit_into_a_commit() {
    let entries: Vec<Entry> = (0..1_500)
        .map(|n| {
            record_entry(
                &format!("shop/orders/{n}"),
                Some(&format!("email=e{n} user_id=u{n}")),
            )
        })
        .collect();
    let entries: Vec<Stored> = (0..)
        .zip(entries)
        .map(|(n, entry)| Stored {
            position: 10 + 3 * n,
            taken_at: None,
            entry,
        })
        .collect();
    let chunks = fold_entries(&Partition::new(), &Stream::Records, 4, &entries, 9_999).chunks;
    assert!(chunks.len() >= 5);
    assert_eq!((chunks[0].from, chunks[chunks.len() - 1].to), (4, 9_999));
    for (chunk, later) in chunks.iter().zip(&chunks[1..]) {
        assert_eq!(chunk.to, later.from);
    }
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.changes.len() <= CHUNK_CHANGES_MAX)
    );
}

#[test]
fn an_entry_sees_what_an_earlier_chunk_of_its_batch_changed() {
    let filler = (0..1_200).map(|n| record_entry(&format!("shop/orders/{n}"), Some(&format!("email=e{n}"))));
    let mut entries = vec![record_entry("shop/accounts/ada", Some("email=ada phone=1"))];
    entries.extend(filler);
    entries.push(record_entry("shop/accounts/ada", Some("email=ada")));
    check(
        &entries,
        &[("email=ada", &["shop/accounts/ada"]), ("phone=1", &[])],
    );
}

#[test]
fn a_very_large_entry_survives_a_crash_between_its_parts() {
    let many: Vec<String> = (0..2_500).map(|n| format!("cookie_id=c{n}")).collect();
    let entries = stored(0, &[record_entry("web/log/1", Some(&many.join(" ")))]);
    let mut whole = Partition::new();
    let chunks = fold_entries(&whole, &Stream::Records, 0, &entries, 1).chunks;
    assert!(
        chunks.len() > 2 && chunks[0].to == 0,
        "parts stay where the entry starts"
    );
    apply(&mut whole, &chunks);
    let mut crashed = Partition::new();
    apply(&mut crashed, &chunks[..1]);
    let held = records_of(&crashed, &[token("cookie_id=c1").token], 10).unwrap();
    assert!(held[0].records.is_empty(), "a part of an entry is not shown");
    let again = fold_entries(&crashed, &Stream::Records, 0, &entries, 1).chunks;
    apply(&mut crashed, &again);
    assert_eq!(crashed, whole);
}

#[test]
fn a_fence_changes_nothing() {
    let fence = Entry {
        id: EntryId::from_bytes([2; 16]),
        key: Vec::new(),
        value: None,
    };
    let chunks = fold_entries(&Partition::new(), &Stream::Records, 0, &stored(0, &[fence]), 1).chunks;
    assert_eq!((chunks.len(), chunks[0].changes.len(), chunks[0].to), (1, 0, 1));
}

#[test]
fn what_can_be_no_entry_ends_what_stood_under_its_key() {
    let good = record_entry("shop/orders/1", Some("email=ada"));
    let with = |key: &[u8], value: &Option<Vec<u8>>| Entry {
        key: key.to_vec(),
        value: value.clone(),
        ..good.clone()
    };
    let of_a_key = key_entry("shop/orders/1", Some("key"));
    for (bad, code, displaces) in [
        (
            with(&good.key, &Some(b"{".to_vec())),
            "lineage-entry-unreadable",
            true,
        ),
        (with(&good.key, &of_a_key.value), "lineage-entry-unreadable", true),
        (with(&[1; 16], &good.value), "lineage-key-mismatch", false),
        (with(&[1; 3], &good.value), "lineage-key-mismatch", false),
    ] {
        let entries = stored(0, &[good.clone(), bad.clone()]);
        let mut rows = Partition::new();
        let done = fold_entries(&rows, &Stream::Records, 0, &entries, 2);
        apply(&mut rows, &done.chunks);
        let [(1, error)] = &done.unreadable[..] else {
            panic!("{:?}", done.unreadable);
        };
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains("position 1"), "{error}");
        let displaced = done.displaced.get(&1);
        let expected = match (displaces, bad.key.len()) {
            (true, _) => Some(Displaced::Of("shop".parse().unwrap())),
            // It may bear the name of a record that was compacted away.
            (false, 16) => Some(Displaced::Unknown),
            (false, _) => None,
        };
        assert_eq!(displaced, expected.as_ref());
        // What a fold finds that begins when the log was compacted.
        let mut later = Partition::new();
        let left = if displaces {
            stored(1, &[bad])
        } else {
            entries.clone()
        };
        let left = fold_entries(&later, &Stream::Records, 0, &left, 2);
        apply(&mut later, &left.chunks);
        assert_eq!(rows, later);
        let again = stored(2, std::slice::from_ref(&good));
        let again = fold_entries(&rows, &Stream::Records, 2, &again, 3);
        apply(&mut rows, &again.chunks);
        check_rows(&rows, &[("email=ada", &["shop/orders/1"])]);
    }
}

#[test]
fn a_stray_ends_what_stood_under_its_key_and_says_nothing() {
    let entries = stored(
        0,
        &[
            record_entry("shop/orders/1", Some("email=ada")),
            record_entry("shop/orders/2", Some("email=ada")),
        ],
    );
    let keys = [
        record_token("shop/orders/1"),
        record_token("shop/orders/2"),
        record_token("crm/people/1"),
    ];
    let mut keys = keys.iter().map(|record| record.as_bytes().as_slice());
    let mut next = || keys.next().unwrap();
    let strays = [(2, next()), (4, next()), (5, next()), (6, b"stray")];
    let again = stored(5, &[record_entry("shop/orders/2", Some("email=bob"))]);
    let mut rows = Partition::new();
    let stretch = Stretch {
        entries: &[entries, again].concat(),
        strays: &strays,
        next: 9,
    };
    let done = fold(&rows, &Stream::Records, 0, stretch).unwrap();
    apply(&mut rows, &done.chunks);
    assert!(done.unreadable.is_empty());
    let of = |system: &str| Displaced::Of(system.parse().unwrap());
    let expected = [(2, of("shop")), (4, of("shop")), (5, Displaced::Unknown)];
    assert_eq!(done.displaced, expected.into());
    check_rows(&rows, &[("email=ada", &[]), ("email=bob", &["shop/orders/2"])]);
    assert_eq!(done.chunks.last().unwrap().to, 9);
}

#[test]
fn an_entry_of_a_newer_version_stops_the_fold() {
    let mut entry = record_entry("shop/orders/1", Some("email=ada"));
    let text = String::from_utf8(entry.value.unwrap()).unwrap();
    entry.value = Some(text.replace("observed.v1", "observed.v2").into_bytes());
    let stretch = Stretch {
        entries: &stored(0, &[entry]),
        strays: &[],
        next: 1,
    };
    let error = fold(&Partition::new(), &Stream::Records, 0, stretch).unwrap_err();
    assert_eq!(error.code(), "lineage-entry-unreadable");
}

#[test]
fn a_row_that_does_not_decode_is_an_error() {
    let mut rows = Partition::new();
    folded(
        &mut rows,
        &Stream::Records,
        &stored(0, &[record_entry("shop/orders/1", Some("email=ada"))]),
        &[1],
    );
    let token = record_token("shop/orders/1");
    let row = rows
        .iter()
        .find(|(key, _)| key.first() == Some(&b'r'))
        .map(|(key, value)| (key.clone(), value.clone()))
        .unwrap();
    for length in 0..row.1.len() {
        rows.insert(row.0.clone(), row.1[..length].to_vec());
        assert_eq!(record(&rows, token).unwrap_err().code(), "lineage-row-unreadable");
    }
}

/// One change in one of the tables, over few keys so that they meet.
fn operation() -> impl Strategy<Value = (bool, Entry)> {
    let name = (0..6_u8).prop_map(|n| format!("shop/orders/{n}"));
    let identifiers = proptest::collection::vec((0..4_u8, 0..3_usize), 0..4).prop_map(|picked| {
        let kinds = ["email", "user_id", "ip"];
        picked
            .into_iter()
            .map(|(n, kind)| format!("{}={n}", kinds[kind]))
            .collect::<Vec<_>>()
            .join(" ")
    });
    let value = proptest::option::weighted(0.7, identifiers);
    let is_damaged = proptest::bool::weighted(0.1);
    (any::<bool>(), name, value, is_damaged).prop_map(|(records, name, value, is_damaged)| {
        let mut entry = if records {
            record_entry(&name, value.as_deref())
        } else {
            key_entry(&name, value.as_deref())
        };
        if is_damaged {
            entry.value = Some(b"{".to_vec());
        }
        (records, entry)
    })
}

/// The entries of one table, and what compaction leaves of them: the newest of each key, without tombstones.
fn table(operations: &[(bool, Entry)], records: bool) -> (Vec<Stored>, Vec<Stored>) {
    let entries: Vec<Entry> = operations
        .iter()
        .filter(|(table, _)| *table == records)
        .map(|(_, entry)| entry.clone())
        .collect();
    let full = stored(0, &entries);
    let newest = |one: &Stored| full.iter().rev().find(|other| other.entry.key == one.entry.key) == Some(one);
    let compacted = full
        .iter()
        .filter(|one| one.entry.value.is_some() && newest(one))
        .cloned()
        .collect();
    (full, compacted)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn replay_and_compaction_and_other_batches_give_the_same_state(
        operations in proptest::collection::vec(operation(), 0..40),
        sizes in proptest::collection::vec(1..9_usize, 1..5),
    ) {
        let (records, fewer_records) = table(&operations, true);
        let (keys, fewer_keys) = table(&operations, false);
        let fold_all = |records: &[Stored], keys: &[Stored], sizes: &[usize], keys_first: bool| {
            let mut rows = Partition::new();
            if keys_first {
                folded(&mut rows, &Stream::Keys, keys, sizes);
            }
            folded(&mut rows, &Stream::Records, records, sizes);
            if !keys_first {
                folded(&mut rows, &Stream::Keys, keys, sizes);
            }
            rows
        };
        let live = fold_all(&records, &keys, &[1], false);
        let replayed = fold_all(&records, &keys, &sizes, true);
        let compacted = fold_all(&fewer_records, &fewer_keys, &sizes, false);
        prop_assert_eq!(hash(std::slice::from_ref(&live)), hash(&[replayed]));
        prop_assert_eq!(hash(std::slice::from_ref(&live)), hash(&[compacted]));
        // Folding everything once more from the start, as after a crash that lost the position, ends in the same state.
        let mut twice = live.clone();
        folded(&mut twice, &Stream::Records, &records, &sizes);
        folded(&mut twice, &Stream::Keys, &keys, &sizes);
        prop_assert_eq!(hash(&[live]), hash(&[twice]));
    }

    #[test]
    fn the_state_hash_tells_states_apart_and_ignores_where_rows_stand(
        rows in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 1..5), proptest::collection::vec(any::<u8>(), 0..5), 1..20),
        split in any::<u8>(),
    ) {
        let whole: Partition = rows;
        let (one, other): (Partition, Partition) = whole.clone().into_iter().partition(|(key, _)| key[0] < split);
        prop_assert_eq!(hash(std::slice::from_ref(&whole)), hash(&[one, other]));
        let mut changed = whole.clone();
        changed.pop_first();
        prop_assert_ne!(hash(std::slice::from_ref(&whole)), hash(std::slice::from_ref(&changed)));
        let mut value = whole.clone();
        value.first_entry().unwrap().get_mut().push(1);
        prop_assert_ne!(hash(&[whole]), hash(&[value]));
    }
}
