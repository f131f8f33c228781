//! Files and functions that a reader can hold in mind, and no file that nothing reaches.

use std::collections::BTreeMap;

use crate::Violation;
use crate::repository::{Package, reached};
use crate::source::Source;

/// Lines that a file may have.
const FILE_LINES_MAX: usize = 600;
/// Lines that a function may have.
const FUNCTION_LINES_MAX: usize = 70;
/// A comment that says this and a reason lets a longer one be.
const EXCUSE: &str = "tidy: long because ";
/// Lines at the top of a file, and above a function, in which the reason may stand.
const EXCUSE_LINES: usize = 12;

/// A file that is too long, and functions that are.
pub fn check(file: &str, source: &Source) -> Vec<Violation> {
    let mut out = Vec::new();
    let lines = source.text.lines().count();
    let excuses: Vec<usize> = source
        .comments
        .match_indices(EXCUSE)
        .map(|(at, _)| source.line(at))
        .collect();
    if lines > FILE_LINES_MAX && !excuses.iter().any(|line| *line <= EXCUSE_LINES) {
        let what = format!(
            "{lines} lines, of at most {FILE_LINES_MAX}: split it by job, or say `// {EXCUSE}…` at its top"
        );
        out.push(Violation::new(file, 0, "file-length", what));
    }
    for function in source.functions() {
        let excused =
            |line: &usize| (function.line.saturating_sub(EXCUSE_LINES)..=function.line + 1).contains(line);
        if function.lines > FUNCTION_LINES_MAX && !excuses.iter().any(excused) {
            let what = format!(
                "fn {} has {} lines, of at most {FUNCTION_LINES_MAX}: one job per function, or say `// {EXCUSE}…` above it",
                function.name, function.lines
            );
            out.push(Violation::new(file, function.line, "function-length", what));
        }
    }
    out
}

/// Rust files of the crates that no `mod` reaches.
pub fn dead(packages: &[Package], files: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut out = Vec::new();
    for package in packages {
        let reached = reached(&package.folder, files);
        let prefix = format!("{}/", package.folder);
        for path in files
            .keys()
            .filter(|p| p.starts_with(&prefix) && p.ends_with(".rs") && !reached.contains_key(*p))
        {
            out.push(Violation::new(
                path,
                0,
                "dead-file",
                "no `mod` reaches it: declare it or remove it",
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_function_and_a_long_file_need_a_reason() {
        let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(70));
        let found = check("x.rs", &Source::new(&long));
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("fn a has 72 lines"), "{}", found[0].what);
        assert!(
            check(
                "x.rs",
                &Source::new(&format!("// tidy: long because it is a table\n{long}"))
            )
            .is_empty()
        );
        assert_eq!(check("x.rs", &Source::new(&"// text\n".repeat(601))).len(), 1);
        assert!(check("x.rs", &Source::new(&"// text\n".repeat(600))).is_empty());
    }

    #[test]
    fn a_file_that_nothing_reaches_is_found() {
        let files = [("a/src/lib.rs", "mod x;"), ("a/src/x.rs", ""), ("a/src/y.rs", "")];
        let files: BTreeMap<String, String> = files.map(|(p, t)| (p.to_owned(), t.to_owned())).into();
        let package = Package {
            name: "a".into(),
            folder: "a".into(),
            built_from: vec![],
        };
        assert_eq!(
            dead(&[package], &files)
                .iter()
                .map(|v| v.file.as_str())
                .collect::<Vec<_>>(),
            ["a/src/y.rs"]
        );
    }
}
