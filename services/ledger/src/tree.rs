//! The tree in two files that only grow: `leaves`, one line a leaf, and `hashes`, every complete subtree's hash in the order in which it became complete.
//!
//! One append is one write at the end of each, which tiles (many files, rewritten while partial) are not; a tile is a run of hashes of one level, so tiles can be
//! served from here. Only `leaves` is synced: `hashes` follows from it and is checked against it whenever the tree is opened.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use lethe_proof::merkle::{Hash, Nodes, node_hash};
use lethe_proof::{LEAF_BYTES, Leaf};

use crate::{Error, files};

const LEAVES: &str = "leaves";
const HASHES: &str = "hashes";

/// A leaf and the line break.
const LINE_BYTES: u64 = LEAF_BYTES as u64 + 1;

const HASH_BYTES: u64 = 32;

/// The tree. A failed append leaves it unusable until it is opened again.
pub(crate) struct Tree {
    leaves: File,
    leaves_path: PathBuf,
    hashes: File,
    hashes_path: PathBuf,
    size: u64,
    /// Where each leaf stands: what makes repeating an append change nothing.
    index: BTreeMap<Leaf, u64>,
    failed: bool,
}

/// Place of a subtree's hash in the file, in hashes: the leaf that completes it is its last, and smaller subtrees come first.
fn place_of(level: u32, index: u64) -> Option<u64> {
    let last_leaf = index
        .checked_add(1)?
        .checked_shl(level)
        .filter(|end| end >> level == index + 1)?
        - 1;
    let before: u64 = (0..64).map(|shift| last_leaf >> shift).sum();
    before.checked_add(u64::from(level))
}

/// Number of hashes of a tree of this size.
fn hashes_of(size: u64) -> u64 {
    (0..64).map(|shift| size >> shift).sum()
}

impl Nodes for Tree {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        let at = place_of(level, index)?;
        if at >= hashes_of(self.size) {
            return None;
        }
        let mut hash = [0; 32];
        self.hashes.read_exact_at(&mut hash, at * HASH_BYTES).ok()?;
        Some(hash)
    }
}

/// The hashes that appended leaves complete.
#[derive(Default)]
struct Growth {
    size: u64,
    /// Roots of the complete subtrees of the tree so far, largest first.
    peaks: Vec<Hash>,
}

impl Growth {
    /// Takes a leaf and hands on every hash that it completes.
    fn add(&mut self, leaf: Hash, mut completed: impl FnMut(Hash)) {
        let mut hash = leaf;
        completed(hash);
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            completed(hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    fn of(tree: &Tree) -> Option<Self> {
        let mut peaks = Vec::new();
        let mut covered = 0;
        for level in (0..64).rev().filter(|level| tree.size >> level & 1 == 1) {
            peaks.push(tree.node(level, covered >> level)?);
            covered += 1 << level;
        }
        Some(Self {
            size: tree.size,
            peaks,
        })
    }
}

fn open_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options.open(path).map_err(Error::io("open", path))
}

impl Tree {
    /// Opens or makes the tree of a folder. What a crash left of an append that nobody was told of is cut off, unless it was signed:
    /// then a leaf that cannot be read is damage.
    pub(crate) fn open(folder: &Path, signed: u64) -> Result<Self, Error> {
        files::make_folder(folder)?;
        let (leaves_path, hashes_path) = (folder.join(LEAVES), folder.join(HASHES));
        let (leaves, hashes) = (open_file(&leaves_path)?, open_file(&hashes_path)?);
        files::sync_folder(folder)?;
        let mut this = Self {
            leaves,
            leaves_path,
            hashes,
            hashes_path,
            size: 0,
            index: BTreeMap::new(),
            failed: false,
        };
        let mut hashes = Vec::new();
        let mut growth = Growth::default();
        this.read_leaves(signed, |leaf| {
            growth.add(leaf.hash(), |hash| hashes.extend_from_slice(&hash))
        })?;
        this.follow(&hashes)?;
        Ok(this)
    }

    fn read_leaves(&mut self, signed: u64, mut each: impl FnMut(&Leaf)) -> Result<(), Error> {
        let path = self.leaves_path.clone();
        let length = self.leaves.metadata().map_err(Error::io("read", &path))?.len();
        let mut reader = BufReader::new(self.leaves.try_clone().map_err(Error::io("read", &path))?);
        let mut line = [0; LEAF_BYTES + 1];
        let mut readable = 0;
        for index in 0..length / LINE_BYTES {
            reader.read_exact(&mut line).map_err(Error::io("read", &path))?;
            let leaf = line
                .strip_suffix(b"\n")
                .and_then(|line| Leaf::from_bytes(line).ok());
            // A leaf stands once; a second time is damage as much as one that cannot be read.
            let Some(leaf) = leaf.filter(|leaf| !self.index.contains_key(leaf)) else {
                break;
            };
            each(&leaf);
            self.index.insert(leaf, index);
            readable += 1;
        }
        self.size = readable;
        if readable * LINE_BYTES == length {
            return Ok(());
        }
        if readable < signed {
            return Err(Error::Corrupt { index: readable });
        }
        tracing::warn!(
            leaves = readable,
            cut = length - readable * LINE_BYTES,
            "an unfinished append was cut off"
        );
        self.leaves
            .set_len(readable * LINE_BYTES)
            .map_err(Error::io("cut", &path))?;
        self.leaves.sync_all().map_err(Error::io("sync", &path))
    }

    /// Makes the file of hashes what the leaves say.
    fn follow(&self, expected: &[u8]) -> Result<(), Error> {
        let path = &self.hashes_path;
        let mut stored = Vec::new();
        let mut reader = self.hashes.try_clone().map_err(Error::io("read", path))?;
        reader.read_to_end(&mut stored).map_err(Error::io("read", path))?;
        if stored == expected {
            return Ok(());
        }
        self.hashes
            .write_all_at(expected, 0)
            .map_err(Error::io("write", path))?;
        let length = u64::try_from(expected.len()).unwrap_or(u64::MAX);
        self.hashes.set_len(length).map_err(Error::io("cut", path))?;
        self.hashes.sync_all().map_err(Error::io("sync", path))
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn index_of(&self, leaf: &Leaf) -> Option<u64> {
        self.index.get(leaf).copied()
    }

    /// Appends the leaves that are new, durably, and says where each of them stands.
    pub(crate) fn append(&mut self, leaves: &[Leaf]) -> Result<Vec<u64>, Error> {
        if self.failed {
            return Err(Error::Unknown);
        }
        let mut fresh: BTreeMap<&Leaf, u64> = BTreeMap::new();
        let mut lines = Vec::new();
        let mut hashes = Vec::new();
        let mut growth = Growth::of(self).ok_or(Error::Corrupt { index: self.size })?;
        let mut indices = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let known = self.index_of(leaf).or_else(|| fresh.get(leaf).copied());
            indices.push(known.unwrap_or(growth.size));
            if known.is_none() {
                fresh.insert(leaf, growth.size);
                lines.extend_from_slice(leaf.as_bytes());
                lines.push(b'\n');
                growth.add(leaf.hash(), |hash| hashes.extend_from_slice(&hash));
            }
        }
        if !fresh.is_empty() {
            // Until both writes are through, what is on disk is not known.
            self.failed = true;
            self.leaves
                .write_all_at(&lines, self.size * LINE_BYTES)
                .and_then(|()| self.leaves.sync_data())
                .map_err(Error::io("append to", &self.leaves_path))?;
            self.hashes
                .write_all_at(&hashes, hashes_of(self.size) * HASH_BYTES)
                .map_err(Error::io("append to", &self.hashes_path))?;
            self.index
                .extend(fresh.into_iter().map(|(leaf, index)| (leaf.clone(), index)));
            self.size = growth.size;
            self.failed = false;
        }
        Ok(indices)
    }
}

/// Puts the tree of one folder in the place of another's.
pub(crate) fn replace(with: &Path, folder: &Path) -> Result<(), Error> {
    // The leaves decide; hashes that do not fit them are made anew on opening.
    for name in [LEAVES, HASHES] {
        let (from, to) = (with.join(name), folder.join(name));
        std::fs::rename(&from, &to).map_err(Error::io("replace", &to))?;
    }
    files::sync_folder(folder)?;
    std::fs::remove_dir_all(with).map_err(Error::io("remove", with))
}
