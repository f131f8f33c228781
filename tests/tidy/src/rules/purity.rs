//! The core has no I/O, no clock, no randomness, no async, no logging and no order that changes from run to run.

use crate::Violation;
use crate::source::Source;

/// Folders of the pure crates.
pub const PURE: [&str; 8] = [
    "schemas/terms",
    "schemas/journal",
    "schemas/proof",
    "schemas/exchange",
    "services/lineage",
    "services/casework",
    "services/planner",
    "services/conductor",
];

/// Crates that bring in what the core must not have.
const IMPURE_CRATES: [&str; 40] = [
    "tokio",
    "async-std",
    "smol",
    "async-trait",
    "futures",
    "futures-util",
    "mio",
    "socket2",
    "hyper",
    "reqwest",
    "axum",
    "tower",
    "rdkafka",
    "sled",
    "redb",
    "sqlx",
    "sqlx-core",
    "rusqlite",
    "getrandom",
    "rand",
    "fastrand",
    "tracing",
    "log",
    "env_logger",
    "rustix",
    "nix",
    "chrono",
    "time",
    "uuid",
    "tempfile",
    "walkdir",
    "rustls",
    "ring",
    "native-tls",
    "openssl",
    "prometheus",
    "config",
    "clap",
    "indicatif",
    "parking_lot",
];

/// Crates that a program without network code must not be made of.
const NETWORK_CRATES: [&str; 14] = [
    "tokio",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "hyper",
    "reqwest",
    "axum",
    "rustls",
    "native-tls",
    "openssl",
    "rdkafka",
    "sqlx",
    "ureq",
];

/// Source text that the core must not have, with what to do.
const IMPURE_TEXT: [(&str, &str); 20] = [
    ("std::fs", "files belong into the shell"),
    ("std::net", "sockets belong into the shell"),
    ("std::env", "the environment belongs into the shell"),
    ("std::process", "processes belong into the shell"),
    ("std::thread", "threads belong into the shell"),
    ("std::io", "input and output belong into the shell"),
    ("SystemTime", "take `now` as a value"),
    ("Instant::now", "take `now` as a value"),
    ("Timestamp::now", "take `now` as a value"),
    ("Zoned::now", "take `now` as a value"),
    ("HashMap", "its order changes from run to run: use BTreeMap"),
    ("HashSet", "its order changes from run to run: use BTreeSet"),
    ("RandomState", "take randomness as a value"),
    ("async fn", "the core is synchronous"),
    (".await", "the core is synchronous"),
    ("println!", "the core does not talk"),
    ("eprintln!", "the core does not talk"),
    ("static mut", "the core has no hidden state"),
    ("thread_local!", "the core has no hidden state"),
    (
        "include_bytes!",
        "the core reads no files, not even while it is built",
    ),
];

/// Crates of a `cargo tree` (one `name vX …` a line) that are in the deny list.
fn denied(tree: &str, deny: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| deny.contains(name))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Impure crates among what a pure crate is made of.
pub fn crates(folder: &str, tree: &str) -> Vec<Violation> {
    let manifest = format!("{folder}/Cargo.toml");
    let report = |name: String| {
        let what = format!(
            "the pure crate is made of {name}: see `cargo tree -i {name} -e normal` and choose another library or feature"
        );
        Violation::new(&manifest, 0, "pure-crates", what)
    };
    denied(tree, &IMPURE_CRATES).into_iter().map(report).collect()
}

/// Network crates among what the offline verifier is made of.
pub fn offline(folder: &str, tree: &str) -> Vec<Violation> {
    let manifest = format!("{folder}/Cargo.toml");
    let report = |name: String| {
        Violation::new(
            &manifest,
            0,
            "offline-verifier",
            format!("it is made of {name}, which has network code"),
        )
    };
    denied(tree, &NETWORK_CRATES).into_iter().map(report).collect()
}

/// Impure text in a source file of a pure crate; regions that are compiled for tests only may have it.
pub fn text(file: &str, source: &Source) -> Vec<Violation> {
    let tests = source.test_regions();
    let mut out = Vec::new();
    for (needle, advice) in IMPURE_TEXT {
        for (at, _) in source.code.match_indices(needle) {
            let longer =
                source.code[at + needle.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            if longer || tests.iter().any(|(from, to)| (*from..*to).contains(&at)) {
                continue;
            }
            out.push(Violation::new(
                file,
                source.line(at),
                "pure-source",
                format!("`{needle}` in a pure crate: {advice}"),
            ));
        }
    }
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_deep_in_the_tree_is_found() {
        let tree = "lethe-planner v0.1.0\nserde v1.0.0\nmio v1.0.0\ntokio v1.0.0\nmio v1.0.0 (*)\n";
        let found = crates("services/planner", tree);
        assert_eq!(found.len(), 2);
        assert!(
            found[0]
                .to_string()
                .starts_with("services/planner/Cargo.toml:0: pure-crates"),
            "{}",
            found[0]
        );
        assert!(crates("services/planner", "serde v1.0.0\ntokio-free v1.0.0\n").is_empty());
        assert_eq!(offline("services/verify", tree).len(), 2);
    }

    #[test]
    fn files_clocks_and_hash_maps_are_found_outside_tests_comments_and_strings() {
        let planted = "use std::fs;\nfn f() { let t = Instant::now(); let m: HashMap<u8, u8>; }\n";
        let found = text("x.rs", &Source::new(planted));
        assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [1, 2, 2]);
        let fine = "// std::fs\nfn f() { let s = \"Instant::now\"; }\n#[cfg(test)]\nmod t { use std::fs; }\n";
        assert!(text("x.rs", &Source::new(fine)).is_empty());
    }
}
