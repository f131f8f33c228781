//! Every rule on the repository as it stands.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is not as expected"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use lethe_tidy::repository::{Repository, reached};
use lethe_tidy::rules::{arrows, codes, compose, marks, members, purity, size, words};
use lethe_tidy::source::Source;
use lethe_tidy::{Violation, listed};

static REPOSITORY: LazyLock<Repository> = LazyLock::new(|| Repository::read().unwrap());

/// Where the product's code is; tests are another matter.
const PRODUCT: [&str; 3] = ["schemas", "services", "connectors"];

#[track_caller]
fn none(violations: Vec<Violation>) {
    assert!(
        violations.is_empty(),
        "{} broken rules:{}",
        violations.len(),
        listed(&violations)
    );
}

#[test]
fn the_pure_crates_are_made_of_pure_crates() {
    let tree = |folder: &str| {
        let package = REPOSITORY.packages.iter().find(|p| p.folder == folder).unwrap();
        REPOSITORY.tree(&package.name).unwrap()
    };
    none(
        purity::PURE
            .iter()
            .flat_map(|folder| purity::crates(folder, &tree(folder)))
            .collect(),
    );
    none(purity::offline("services/verify", &tree("services/verify")));
}

#[test]
fn the_pure_crates_have_no_files_clocks_or_hash_maps() {
    let mut found = Vec::new();
    for folder in purity::PURE {
        for (path, _) in reached(folder, &REPOSITORY.files)
            .iter()
            .filter(|(_, test)| !**test)
        {
            // Programs of a pure crate, such as the one that writes its schemas, are its shell.
            if !path.contains("/src/bin/") && !path.ends_with("/build.rs") {
                found.extend(purity::text(path, &Source::new(&REPOSITORY.files[path])));
            }
        }
    }
    none(found);
}

#[test]
fn arrows_between_crates_are_those_of_the_design() {
    none(arrows::check(&REPOSITORY.packages));
}

#[test]
fn schemas_and_services_use_the_words_of_the_glossary() {
    let files = ["schemas", "services"]
        .into_iter()
        .flat_map(|folder| REPOSITORY.rust(folder));
    none(
        files
            .flat_map(|(path, text)| words::check(path, &Source::new(text)))
            .collect(),
    );
}

#[test]
fn every_error_code_has_its_page_and_every_page_its_code() {
    let (mut found, mut literals) = (Vec::new(), BTreeSet::new());
    for package in REPOSITORY
        .packages
        .iter()
        .filter(|p| PRODUCT.iter().any(|f| p.folder.starts_with(f)))
    {
        for (path, _) in reached(&package.folder, &REPOSITORY.files)
            .iter()
            .filter(|(_, test)| !**test)
        {
            let source = Source::new(&REPOSITORY.files[path]);
            found.extend(codes::in_source(path, &source));
            literals.extend(source.strings.into_iter().map(|(_, text)| text));
        }
    }
    let page = |(path, text): (&String, &String)| {
        let name = path.strip_prefix("ops/errors/")?.strip_suffix(".md")?;
        (name != "README").then(|| (name.to_owned(), text.clone()))
    };
    let pages: BTreeMap<String, String> = REPOSITORY.files.iter().filter_map(page).collect();
    none(codes::check(&found, &literals, &pages));
}

#[test]
fn no_file_and_no_function_is_too_long() {
    let files = REPOSITORY.files.iter().filter(|(path, _)| path.ends_with(".rs"));
    none(
        files
            .flat_map(|(path, text)| size::check(path, &Source::new(text)))
            .collect(),
    );
}

#[test]
fn what_compose_names_is_there() {
    none(compose::check(&REPOSITORY.files));
}

#[test]
fn no_rust_file_is_dead() {
    none(size::dead(&REPOSITORY.packages, &REPOSITORY.files));
}

#[test]
fn members_are_listed_one_by_one_in_dependency_order() {
    let manifests: Vec<&str> = REPOSITORY
        .files
        .keys()
        .filter(|path| path.ends_with("Cargo.toml"))
        .map(String::as_str)
        .collect();
    none(members::order(
        &REPOSITORY.members,
        &REPOSITORY.packages,
        &manifests,
    ));
}

#[test]
fn every_crate_has_its_section_in_the_architecture() {
    none(members::sections(
        REPOSITORY.files.get("architecture.md").map(String::as_str),
        &REPOSITORY.packages,
    ));
}

#[test]
fn nothing_is_put_off_and_no_path_belongs_to_one_machine() {
    none(
        REPOSITORY
            .files
            .iter()
            .flat_map(|(path, text)| marks::check(path, text))
            .collect(),
    );
}

#[test]
fn shell_scripts_are_clean() {
    let is_shell = |(path, text): &(&String, &String)| {
        path.ends_with(".sh") || text.starts_with("#!/usr/bin/env bash") || text.starts_with("#!/bin/bash")
    };
    let scripts: Vec<&String> = REPOSITORY
        .files
        .iter()
        .filter(is_shell)
        .map(|(path, _)| path)
        .collect();
    assert!(!scripts.is_empty(), "no shell scripts were found");
    for script in &scripts {
        let bash = Command::new("bash")
            .arg("-n")
            .arg(script)
            .current_dir(&REPOSITORY.root)
            .output()
            .unwrap();
        assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
    }
    let checked = Command::new("shellcheck")
        .arg("-x")
        .args(&scripts)
        .current_dir(&REPOSITORY.root)
        .output();
    match checked {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout)),
        Err(_) => println!("SKIPPED: shellcheck is not installed"),
    }
}
