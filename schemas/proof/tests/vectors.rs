//! Public test vectors, read from the shared folder beside the checkout.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, missing_docs)]

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_proof::merkle::{Hash, verify_consistency, verify_inclusion};
use serde_json::Value;

fn vectors() -> Option<PathBuf> {
    let vectors = std::env::var_os("LETHE_SHARED").map(|shared| Path::new(&shared).join("vectors"));
    let found = vectors.filter(|vectors| vectors.is_dir());
    if found.is_none() {
        println!("SKIPPED: LETHE_SHARED names no folder with the public test vectors");
    }
    found
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found)
        } else {
            found.push(path)
        }
    }
}

fn hash(value: &Value) -> Option<Hash> {
    STANDARD
        .decode(value.as_str().unwrap_or_default())
        .ok()?
        .try_into()
        .ok()
}

/// A proof with an entry of no bytes at all is one with garbage in it, and is refused while reading too.
fn path(value: &Value) -> Option<Vec<Hash>> {
    value
        .as_array()
        .map_or(Some(Vec::new()), |hashes| hashes.iter().map(hash).collect())
}

/// What became of a folder of vectors.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    accepted: usize,
    refused: usize,
    /// A hash that is not 32 bytes: typed code refuses it while reading.
    untyped: usize,
    /// Those among them that untyped code is said to accept.
    untyped_accepted: usize,
}

fn each(dir: &Path, tally: &mut Tally, check: impl Fn(&Value) -> Option<bool>) {
    let mut found = Vec::new();
    files(dir, &mut found);
    for file in found {
        let vector: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let wanted = !vector["wantErr"].as_bool().unwrap();
        match check(&vector) {
            Some(accepted) => {
                assert_eq!(accepted, wanted, "{}", file.display());
                if accepted {
                    tally.accepted += 1
                } else {
                    tally.refused += 1
                }
            }
            None => {
                tally.untyped += 1;
                tally.untyped_accepted += usize::from(wanted);
            }
        }
    }
}

#[test]
fn the_transparency_dev_vectors_are_judged_as_they_say() {
    let Some(vectors) = vectors() else { return };
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut tally = Tally::default();
    each(&vectors.join("merkle/inclusion"), &mut tally, |v| {
        let (leaf, root, path) = (hash(&v["leafHash"])?, hash(&v["root"])?, path(&v["proof"])?);
        Some(verify_inclusion(
            &leaf,
            number(&v["leafIdx"]),
            number(&v["treeSize"]),
            &path,
            &root,
        ))
    });
    each(&vectors.join("merkle/consistency"), &mut tally, |v| {
        let (old, new, path) = (hash(&v["root1"])?, hash(&v["root2"])?, path(&v["proof"])?);
        Some(verify_consistency(
            number(&v["size1"]),
            number(&v["size2"]),
            &path,
            &old,
            &new,
        ))
    });
    // The one that only untyped code can accept has a text of 12 bytes in the place of both roots.
    assert_eq!(
        tally,
        Tally {
            accepted: 11,
            refused: 132,
            untyped: 53,
            untyped_accepted: 1
        }
    );
}

#[test]
fn the_canonical_json_vectors_come_out_to_the_byte() {
    let Some(vectors) = vectors() else { return };
    let mut inputs = Vec::new();
    files(&vectors.join("jcs/input"), &mut inputs);
    for input in inputs {
        let value: Value = serde_json::from_slice(&std::fs::read(&input).unwrap()).unwrap();
        let expected = std::fs::read(vectors.join("jcs/output").join(input.file_name().unwrap())).unwrap();
        assert_eq!(
            lethe_proof::to_canonical("vector", &value).unwrap(),
            expected,
            "{}",
            input.display()
        );
    }
}
