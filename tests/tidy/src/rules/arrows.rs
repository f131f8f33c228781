//! Which crate may be built from which (design section 7), and which arrows must not exist.

use crate::Violation;
use crate::repository::Package;

/// Every crate outside tests with the crates of the workspace that it may be built from.
const ARROWS: [(&str, &[&str]); 17] = [
    ("lethe-terms", &[]),
    ("lethe-journal", &["terms"]),
    ("lethe-proof", &["terms"]),
    ("lethe-exchange", &["terms"]),
    ("lethe-lineage", &["terms", "journal"]),
    ("lethe-casework", &["terms", "journal"]),
    ("lethe-planner", &["terms", "journal", "lineage", "casework"]),
    (
        "lethe-conductor",
        &["terms", "journal", "lineage", "casework", "planner", "proof"],
    ),
    ("lethe-log", &["terms", "journal"]),
    ("lethe-log-kafka", &["terms", "journal", "log"]),
    ("lethe-store", &["terms", "journal"]),
    ("lethe-store-sled", &["terms", "journal", "store"]),
    ("lethe-vault", &["terms", "journal", "exchange"]),
    (
        "lethe-intake",
        &["terms", "journal", "kit", "vault", "log", "store"],
    ),
    ("lethe-ledger", &["terms", "journal", "proof"]),
    ("lethe-gateway", &["terms", "journal", "proof", "exchange"]),
    ("lethe-verify", &["terms", "proof"]),
];
/// What a connector may be built from: it never sees the log.
const CONNECTOR: &[&str] = &["terms", "kit"];

/// Arrows that are not in the design.
pub fn check(packages: &[Package]) -> Vec<Violation> {
    packages.iter().flat_map(of_package).collect()
}

fn of_package(package: &Package) -> Vec<Violation> {
    let manifest = format!("{}/Cargo.toml", package.folder);
    let report = |what: String| Violation::new(&manifest, 0, "arrows", what);
    if package.folder.starts_with("tests/") {
        return Vec::new();
    }
    let allowed = if package.name == "lethe-kit" {
        &["terms"][..]
    } else if package.folder.starts_with("connectors/") {
        CONNECTOR
    } else if package.name == "lethe-node" {
        let tests = package.built_from.iter().filter(|name| is_test(name));
        return tests
            .map(|name| report(format!("the product must not be built from {name}")))
            .collect();
    } else if let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) {
        allowed
    } else {
        return vec![report(format!(
            "{} has no line in tests/tidy's table of arrows: add what it may be built from",
            package.name
        ))];
    };
    let wrong = package
        .built_from
        .iter()
        .filter(|name| !allowed.contains(&name.trim_start_matches("lethe-")));
    wrong
        .map(|name| {
            report(format!(
                "{} must not be built from {name}: allowed are {allowed:?}",
                package.name
            ))
        })
        .collect()
}

fn is_test(name: &str) -> bool {
    [
        "tidy",
        "conformance",
        "world",
        "journeys",
        "faults",
        "bench",
        "simulation",
    ]
    .contains(&name.trim_start_matches("lethe-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, built_from: &[&str]) -> Package {
        let name = format!("lethe-{}", folder.rsplit('/').next().unwrap());
        Package {
            name,
            folder: folder.into(),
            built_from: built_from.iter().map(|n| format!("lethe-{n}")).collect(),
        }
    }

    #[test]
    fn arrows_that_must_not_exist_are_found() {
        for (folder, built_from) in [
            ("services/conductor", "log"),
            ("services/conductor", "store"),
            ("connectors/weblog", "journal"),
            ("services/gateway", "node"),
            ("services/gateway", "conductor"),
            ("services/node", "world"),
            ("services/unheard-of", "terms"),
        ] {
            assert_eq!(
                check(&[package(folder, &[built_from])]).len(),
                1,
                "{folder} -> {built_from}"
            );
        }
    }

    #[test]
    fn arrows_of_the_design_are_fine() {
        let fine = [
            package("services/conductor", &["planner", "proof"]),
            package("connectors/sql", &["kit", "terms"]),
        ];
        assert!(check(&fine).is_empty());
    }
}
