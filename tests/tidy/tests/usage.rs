//! How the scripts of `ops` answer a call that makes no sense: at once, with 64 and one line.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as expected"
)]

use std::path::Path;
use std::process::Command;

/// Words of a wrong call, and what its one line must name.
const CALLS: [(&str, &str, &str); 30] = [
    ("demo", "--folder", "--folder takes a folder"),
    ("demo", "--folder --once", "--folder takes a folder"),
    ("demo", "--folder Cargo.toml", "--folder takes a folder"),
    ("demo", "--folder a|b", "--folder takes a folder without"),
    ("demo", "--people", "--people takes a whole number from 10"),
    ("demo", "--people many", "--people takes a whole number from 10"),
    ("demo", "--people 9", "--people takes a whole number from 10"),
    ("demo", "--light --kafka", "choose one"),
    ("demo", "--nonsense", "unknown: --nonsense"),
    ("demo", "word", "unknown: word"),
    ("test", "--nonsense", "unknown: --nonsense"),
    ("test", "word", "unknown: word"),
    ("bench", "--nonsense", "unknown: --nonsense"),
    ("bench", "--events", "--events takes a whole number from 1"),
    ("bench", "--lines -1", "--lines takes a whole number from 1"),
    ("bench", "--people 9", "--people takes a whole number from 10"),
    ("bench", "--erasures 2001", "more than --people 2000"),
    ("bench", "--idle-erasures 2000", "not less than --people 2000"),
    ("bench", "ingest", "--kafka"),
    ("bench", "--kafka", "ingest"),
    ("bench", "ingest --kafka --people 20", "--people"),
    ("kafka", "", "start, stop or fetch"),
    ("kafka", "begin", "unknown: begin"),
    ("kafka", "start", "start takes a folder"),
    ("kafka", "start a b", "a or b"),
    (
        "kafka",
        "start a --brokers",
        "--brokers takes a whole number from 1 to 9",
    ),
    ("kafka", "start a --kill", "start knows no --kill"),
    (
        "kafka",
        "stop a --broker",
        "--broker takes a whole number from 1 to 9",
    ),
    ("kafka", "stop ops --broker 1", "no broker 1 in"),
    ("kafka", "stop no/such/folder", "no folder"),
];

#[test]
fn a_wrong_call_of_a_script_is_refused_with_64_and_one_line() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (script, words, named) in CALLS {
        let out = Command::new(root.join("ops").join(script))
            .args(words.split_whitespace())
            .current_dir(&root)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(64) && said.lines().count() == 1 && said.contains(named),
            "ops/{script} {words}: {}: {said}",
            out.status
        );
        assert!(out.stdout.is_empty(), "ops/{script} {words}");
    }
}
