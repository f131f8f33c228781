//! Sixteen stores, one a partition, share one process. Measured: 25 MiB empty, 44 MiB with 48,000 rows, 122 MiB with 400,000, 182 MiB with
//! 960,000, 214 MiB with 1,600,000 rows of 16 + 115 bytes on average.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::time::Instant;

use lethe_journal::Stream;
use lethe_store::{Batch, Store};
use lethe_store_sled::SledStore;

const STORES: u64 = 16;

/// What sixteen stores may add to the process, in MiB.
const TOGETHER_MIB_MAX: u64 = 100;

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Rows per store; more of them with `LETHE_STORE_ROWS`.
fn rows_per_store() -> u64 {
    std::env::var("LETHE_STORE_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(3_000)
}

#[test]
fn sixteen_stores_of_a_few_thousand_rows_stay_under_a_hundred_mebibytes() {
    let dir = tempfile::tempdir().unwrap();
    let before = resident_mib();
    let stores: Vec<_> = (0..STORES)
        .map(|number| {
            SledStore::open(&dir.path().join(number.to_string()))
                .unwrap()
                .store
        })
        .collect();
    let opened = resident_mib();
    let started = Instant::now();
    let (mut number, mut commits, mut peak) = (0_u64, 0_u32, 0);
    while number < rows_per_store() {
        for store in &stores {
            let position = store.position(&Stream::Records).unwrap();
            let mut batch = Batch::default();
            for row in number..number + 250 {
                let mut key = row.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes().to_vec();
                key.extend_from_slice(&row.to_be_bytes());
                batch.put(key, vec![b'v'; if row % 4 == 0 { 400 } else { 20 }]);
            }
            store
                .commit(&Stream::Records, position, position + 1, &batch)
                .unwrap();
            commits += 1;
        }
        number += 250;
        peak = peak.max(resident_mib());
    }
    let took = started.elapsed();
    println!(
        "16 empty stores: {} MiB; {} rows in {commits} commits: {} MiB at most, {took:?}, {:.0} rows/s",
        opened - before,
        number * STORES,
        peak - before,
        (number * STORES) as f64 / took.as_secs_f64(),
    );
    assert!(peak - before < TOGETHER_MIB_MAX, "{} MiB", peak - before);
}
