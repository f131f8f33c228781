//! The root's Cargo.toml and architecture.md as maps: every crate listed one by one, in dependency order, each with a section.

use crate::Violation;
use crate::repository::Package;

/// Members that are patterns, that do not exist, that are missing, or that stand before what they are built from.
pub fn order(members: &[String], packages: &[Package], manifests: &[&str]) -> Vec<Violation> {
    let report = |what: String| Violation::new("Cargo.toml", 0, "members", what);
    let mut out = Vec::new();
    for member in members.iter().filter(|m| m.contains(['*', '?', '['])) {
        out.push(report(format!(
            "{member} is a pattern: list the members one by one"
        )));
    }
    for manifest in manifests {
        let Some(folder) = manifest.strip_suffix("/Cargo.toml") else {
            continue;
        };
        if !members.iter().any(|m| m == folder) {
            out.push(report(format!("{folder} is not listed")));
        }
    }
    let place = |name: &str| {
        packages
            .iter()
            .find(|p| p.name == name)
            .and_then(|p| members.iter().position(|m| *m == p.folder))
    };
    for package in packages {
        for needed in &package.built_from {
            if place(needed) > place(&package.name) {
                out.push(report(format!(
                    "{} stands before {needed}, which it is built from",
                    package.folder
                )));
            }
        }
    }
    out
}

/// Crates without a section in architecture.md: a heading that names the folder or the package.
pub fn sections(architecture: Option<&str>, packages: &[Package]) -> Vec<Violation> {
    let Some(text) = architecture else {
        return vec![Violation::new(
            "architecture.md",
            0,
            "architecture",
            "it is missing: one section per crate",
        )];
    };
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    let names = |heading: &str, name: &str| {
        heading
            .split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '/' || c == '_'))
            .any(|word| word == name)
    };
    let without = packages
        .iter()
        .filter(|p| !headings.iter().any(|h| names(h, &p.folder) || names(h, &p.name)));
    without
        .map(|p| {
            Violation::new(
                "architecture.md",
                0,
                "architecture",
                format!("no heading names {}: give it a section", p.folder),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, built_from: &[&str]) -> Package {
        let name = folder.replace('/', "-");
        Package {
            name,
            folder: folder.into(),
            built_from: built_from.iter().map(|s| (*s).to_owned()).collect(),
        }
    }

    #[test]
    fn patterns_missing_members_and_wrong_order_are_found() {
        let members = ["a/late".to_owned(), "a/early".to_owned(), "b/*".to_owned()];
        let packages = [package("a/late", &["a-early"]), package("a/early", &[])];
        let found = order(
            &members,
            &packages,
            &[
                "Cargo.toml",
                "a/late/Cargo.toml",
                "a/early/Cargo.toml",
                "c/x/Cargo.toml",
            ],
        );
        let text: Vec<&str> = found.iter().map(|v| v.what.as_str()).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(
            text[0].contains("pattern")
                && text[1].contains("c/x")
                && text[2].contains("a/late stands before")
        );
    }

    #[test]
    fn a_crate_without_a_section_is_found_and_a_longer_name_is_not_enough() {
        let packages = [
            package("services/store", &[]),
            package("services/store-sled", &[]),
        ];
        let found = sections(
            Some("## `services/store-sled`\n\nservices/store is elsewhere\n"),
            &packages,
        );
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("services/store:"), "{}", found[0].what);
        assert_eq!(sections(None, &packages).len(), 1);
    }
}
