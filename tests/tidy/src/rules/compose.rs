//! What ops/compose names is there: files that are mounted, volumes, and images with their versions.

use std::collections::{BTreeMap, BTreeSet};

use crate::Violation;

/// The file that the rule is about.
pub const FILE: &str = "ops/compose/compose.yaml";

/// Image that is built here, and so has no version.
const OWN_IMAGE: &str = "lethe";

/// Mounts of files that are not there or of volumes that are not declared, a Dockerfile that is missing, and images without a version. `files` is
/// the repository.
pub fn check(files: &BTreeMap<String, String>) -> Vec<Violation> {
    let Some(text) = files.get(FILE) else {
        return vec![Violation::new(FILE, 0, "compose", "the file is missing")];
    };
    let declared: BTreeSet<&str> = text
        .lines()
        .skip_while(|line| *line != "volumes:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ").and_then(|name| name.strip_suffix(':')))
        .collect();
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut wrong = |what: String| found.push(Violation::new(FILE, number + 1, "compose", what));
        let line = line.trim();
        if let Some(path) = line.strip_prefix("dockerfile: ") {
            if !files.contains_key(path) {
                wrong(format!("{path} is missing"));
            }
        } else if let Some(image) = line.strip_prefix("image: ") {
            let version = image.split_once(':').map(|(_, version)| version);
            if image != OWN_IMAGE && version.is_none_or(|version| version == "latest") {
                wrong(format!(
                    "{image}: name a version, so that it is the same image tomorrow"
                ));
            }
        } else if let Some((from, _)) = line
            .strip_prefix("- ")
            .filter(|mount| !mount.starts_with('"'))
            .and_then(|mount| mount.split_once(":/"))
        {
            match from.strip_prefix("./") {
                Some(path) if files.contains_key(&format!("ops/compose/{path}")) => {}
                Some(path) => wrong(format!("{path} is mounted and missing")),
                None if declared.contains(from) => {}
                None => wrong(format!("the volume {from} is not declared")),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_and_what_is_there_is_not() {
        let compose = "services:\n  a:\n    image: x\n    volumes:\n      - ./there:/t:ro\n      - ./gone:/g\n      - kept:/k\n      - lost:/l\n    build:\n      dockerfile: gone/Dockerfile\n  b:\n    image: x:1\n  c:\n    image: lethe\nvolumes:\n  kept:\n";
        let files = [(FILE, compose), ("ops/compose/there", "")]
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .into();
        let lines: Vec<_> = check(&files).iter().map(|found| found.line).collect();
        assert_eq!(lines, [3, 6, 8, 10]);
    }
}
