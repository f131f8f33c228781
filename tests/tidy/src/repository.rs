//! The repository as it stands: its files, its crates, and which file belongs to which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::source::Source;

/// A crate of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name, such as `lethe-terms`.
    pub name: String,
    /// Its folder from the root, such as `schemas/terms`.
    pub folder: String,
    /// Packages of the workspace that it is built from; those of its tests are not among them.
    pub built_from: Vec<String>,
}

/// Everything that the rules look at.
pub struct Repository {
    /// The root.
    pub root: PathBuf,
    /// Every file that is or could be committed, from the root, with its text; binary files are left out.
    pub files: BTreeMap<String, String>,
    /// The crates, in the order of the workspace's members.
    pub packages: Vec<Package>,
    /// Members as the root's Cargo.toml lists them.
    pub members: Vec<String>,
}

impl Repository {
    /// Reads the repository that this package stands in. Errors say what could not be read.
    pub fn read() -> Result<Self, String> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .map_err(|e| format!("{}: {e}", root.display()))?;
        let listed = run(&root, "git", &["ls-files", "-co", "--exclude-standard", "-z"])?;
        let mut files = BTreeMap::new();
        for path in listed.split('\0').filter(|p| !p.is_empty()) {
            // A file that is listed and gone is about to be committed as gone.
            if let Ok(text) = std::fs::read_to_string(root.join(path)) {
                files.insert(path.to_owned(), text);
            }
        }
        let manifest = files.get("Cargo.toml").ok_or("no Cargo.toml at the root")?;
        let members = members(manifest)?;
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let metadata = run(&root, &cargo, &["metadata", "--no-deps", "--format-version", "1"])?;
        let mut packages = packages(&metadata, &root)?;
        packages.sort_by_key(|p| members.iter().position(|m| *m == p.folder).unwrap_or(usize::MAX));
        Ok(Self {
            root,
            files,
            packages,
            members,
        })
    }

    /// What a package's programs are made of, one crate a line.
    pub fn tree(&self, package: &str) -> Result<String, String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        run(
            &self.root,
            &cargo,
            &[
                "tree", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}",
            ],
        )
    }

    /// Rust files of a folder.
    pub fn rust(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        let prefix = format!("{folder}/");
        self.files
            .iter()
            .filter(move |(path, _)| path.starts_with(&prefix) && path.ends_with(".rs"))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

/// Runs a program and returns what it prints.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let out = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if !out.status.success() {
        return Err(format!(
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    String::from_utf8(out.stdout).map_err(|e| format!("{program}: {e}"))
}

/// The members that a root Cargo.toml lists.
pub fn members(manifest: &str) -> Result<Vec<String>, String> {
    let table: toml::Table = manifest.parse().map_err(|e| format!("Cargo.toml: {e}"))?;
    let members = table
        .get("workspace")
        .and_then(|w| w.get("members"))
        .and_then(|m| m.as_array());
    let members = members.ok_or("Cargo.toml lists no members")?;
    Ok(members
        .iter()
        .filter_map(|m| m.as_str())
        .map(str::to_owned)
        .collect())
}

fn packages(metadata: &str, root: &Path) -> Result<Vec<Package>, String> {
    let metadata: serde_json::Value =
        serde_json::from_str(metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = Vec::new();
    for package in list(&metadata["packages"]) {
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest)
            .parent()
            .and_then(|p| p.strip_prefix(root).ok())
            .unwrap_or(Path::new(""));
        let built_from: BTreeSet<String> = list(&package["dependencies"])
            .iter()
            .filter(|d| d["path"].is_string() && d["kind"] != "dev")
            .map(|d| text(&d["name"]))
            .collect();
        out.push(Package {
            name: text(&package["name"]),
            folder: folder.display().to_string(),
            built_from: built_from.into_iter().collect(),
        });
    }
    Ok(out)
}

/// Files that a crate's roots reach by `mod`, with whether they are there for tests only.
pub fn reached(folder: &str, files: &BTreeMap<String, String>) -> BTreeMap<String, bool> {
    let prefix = format!("{folder}/");
    let mut todo: Vec<(String, bool)> = Vec::new();
    for path in files.keys().filter(|p| p.ends_with(".rs")) {
        let Some(inner) = path.strip_prefix(&prefix) else {
            continue;
        };
        let parts: Vec<&str> = inner.split('/').collect();
        let root = matches!(
            parts[..],
            ["src", "lib.rs" | "main.rs"] | ["build.rs"] | ["src", "bin", _]
        ) || matches!(parts[..], ["src", "bin", _, "main.rs"])
            || matches!(parts[..], ["tests" | "benches" | "examples", _])
            || matches!(parts[..], ["tests" | "benches" | "examples", _, "main.rs"]);
        if root {
            todo.push((path.clone(), matches!(parts[0], "tests" | "benches" | "examples")));
        }
    }
    let roots: BTreeSet<String> = todo.iter().map(|(path, _)| path.clone()).collect();
    let mut out: BTreeMap<String, bool> = BTreeMap::new();
    while let Some((path, test)) = todo.pop() {
        if out.get(&path).is_some_and(|known| !*known || test) {
            continue;
        }
        out.insert(path.clone(), test);
        let Some(text) = files.get(&path) else { continue };
        let source = Source::new(text);
        let here = Path::new(&path);
        let parent = here.parent().unwrap_or(Path::new(""));
        let stem = here.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
        let below = if roots.contains(&path) || stem == "mod" {
            parent.to_owned()
        } else {
            parent.join(stem)
        };
        for module in source.modules() {
            let candidates = match &module.path {
                Some(given) => vec![parent.join(given)],
                None => vec![
                    below.join(format!("{}.rs", module.name)),
                    below.join(&module.name).join("mod.rs"),
                ],
            };
            for candidate in candidates {
                let candidate = plain(&candidate);
                if files.contains_key(&candidate) {
                    todo.push((candidate, test || module.test));
                }
            }
        }
        for (at, name) in source.strings.iter().filter(|(_, s)| s.ends_with(".rs")) {
            if source.code[..*at]
                .trim_end_matches([' ', '('])
                .ends_with("include!")
            {
                todo.push((plain(&parent.join(name)), test));
            }
        }
    }
    out
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part.as_os_str().to_str().unwrap_or_default() {
            ".." => drop(parts.pop()),
            "." => {}
            other => parts.push(other),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_followed_through_folders_and_test_attributes() {
        let files: BTreeMap<String, String> = [
            ("a/src/lib.rs", "mod x;\n#[cfg(test)]\nmod tests;"),
            ("a/src/x.rs", "mod y;"),
            ("a/src/x/y.rs", ""),
            ("a/src/tests.rs", ""),
            ("a/src/dead.rs", ""),
            ("a/tests/it.rs", "mod helper;"),
            ("a/tests/helper/mod.rs", ""),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into();
        let reached = reached("a", &files);
        assert_eq!(reached.get("a/src/x/y.rs"), Some(&false));
        assert_eq!(reached.get("a/src/tests.rs"), Some(&true));
        assert_eq!(reached.get("a/tests/helper/mod.rs"), Some(&true));
        assert!(!reached.contains_key("a/src/dead.rs"));
    }
}
