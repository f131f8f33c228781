//! The ledger: the tree, and the one head of it that was signed last.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use lethe_proof::merkle::{self, Hash, Nodes};
use lethe_proof::{Checkpoint, Leaf, NoteKey, Proof, open_checkpoint, sign_checkpoint};

use crate::tree::{Tree, replace};
use crate::{Error, Start, files};

const HEAD: &str = "head";
const LOCK: &str = "lock";
const REBUILD: &str = "rebuild";

/// Leaves that a rebuild appends at a time: one sync each, bounded memory.
const REBUILD_BATCH: usize = 4_096;

/// The tree with its signer. One program at a time.
pub struct Ledger {
    folder: PathBuf,
    heads: PathBuf,
    tree: Tree,
    key: SigningKey,
    origin: String,
    note: String,
    signed: Checkpoint,
    lock: File,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // A program that is just being started by this process has the file open for a moment, too, and would keep the lock.
        let _ = self.lock.unlock();
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Ledger({}, {} leaves, {} signed)",
            self.origin,
            self.tree.size(),
            self.signed.size
        )
    }
}

impl Ledger {
    /// Opens or makes the ledger whose tree stands in `folder` and whose signed head stands in `heads`: another folder, which no backup of the first
    /// restores with it. `origin` is the log's name.
    ///
    /// # Errors
    /// Where it is open elsewhere, where signed leaves are damaged, or where there is a tree and no readable head.
    pub fn open(
        folder: &Path,
        heads: &Path,
        origin: &str,
        key: &SigningKey,
        start: Start,
    ) -> Result<Self, Error> {
        files::make_folder(folder)?;
        files::make_folder(heads)?;
        let lock_path = heads.join(LOCK);
        let lock = File::create(&lock_path).map_err(Error::io("make", &lock_path))?;
        lock.try_lock().map_err(|_| Error::InUse {
            path: folder.to_owned(),
        })?;
        let found = read_head(heads, origin, key)?;
        let tree = Tree::open(folder, found.as_ref().map_or(0, |(_, signed)| signed.size))?;
        let (note, signed) = match found {
            Some(found) => found,
            // The head of the empty tree is signed before the first leaf: where leaves are and no head is, it was lost.
            None if tree.size() > 0 || start == Start::Again => return Err(Error::HeadUnreadable),
            None => {
                let empty = Checkpoint {
                    origin: origin.to_owned(),
                    size: 0,
                    root: merkle::empty_root(),
                };
                let note = sign_checkpoint(&empty, key);
                files::write(heads, HEAD, note.as_bytes())?;
                (note, empty)
            }
        };
        Ok(Self {
            folder: folder.to_owned(),
            heads: heads.to_owned(),
            tree,
            key: key.clone(),
            origin: origin.to_owned(),
            note,
            signed,
            lock,
        })
    }

    /// Appends leaves that were read back from the `leaves` stream, durably, and says where each stands. A leaf that is there already keeps its place.
    ///
    /// # Errors
    /// After an error of the file system the ledger has to be opened again: only then is it known what was stored.
    pub fn append(&mut self, leaves: &[Leaf]) -> Result<Vec<u64>, Error> {
        self.tree.append(leaves)
    }

    /// Where a leaf stands.
    pub fn index_of(&self, leaf: &Leaf) -> Option<u64> {
        self.tree.index_of(leaf)
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Root over all leaves.
    ///
    /// # Errors
    /// Where the hashes cannot be read.
    pub fn root(&self) -> Result<Hash, Error> {
        root_of(&self.tree, self.tree.size())
    }

    /// The head that was signed last.
    pub const fn signed(&self) -> &Checkpoint {
        &self.signed
    }

    /// The note of the head that was signed last.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The key that verifies heads, with the log's name.
    pub fn note_key(&self) -> NoteKey {
        NoteKey {
            name: self.origin.clone(),
            key: self.key.verifying_key(),
        }
    }

    /// Where a leaf stands and its path in the tree of the first `size` leaves.
    ///
    /// # Errors
    /// Where there is no such leaf.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Proof, Error> {
        if size > self.tree.size() {
            return Err(Error::UnknownLeaf);
        }
        merkle::inclusion(&self.tree, index, size)
            .map(|path| Proof::new(index, &path))
            .ok_or(Error::UnknownLeaf)
    }

    /// Consistency proof between the trees of the first `old` and `new` leaves, with `0 < old <= new`.
    ///
    /// # Errors
    /// Where the tree has fewer leaves.
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        if new > self.tree.size() {
            return Err(Error::UnknownLeaf);
        }
        merkle::consistency(&self.tree, old, new).ok_or(Error::UnknownLeaf)
    }

    /// Whether the tree continues what was signed.
    ///
    /// # Errors
    /// [`Error::HeadBehind`] and [`Error::HeadDiffers`] where it does not.
    pub fn check(&self) -> Result<(), Error> {
        continues(&self.tree, self.tree.size(), &self.signed)
    }

    /// Whether the `leaves` stream, of which these are all leaves, continues what was signed. The tree is not looked at, and nothing is written.
    ///
    /// # Errors
    /// [`Error::HeadBehind`] and [`Error::HeadDiffers`] where it does not.
    pub fn check_stream(&self, leaves: impl IntoIterator<Item = Leaf>) -> Result<(), Error> {
        let (mut known, mut hashes) = (BTreeSet::new(), Vec::new());
        for leaf in leaves {
            let hash = leaf.hash();
            if known.insert(leaf) {
                hashes.push(hash);
            }
        }
        let size = u64::try_from(hashes.len()).unwrap_or(u64::MAX);
        continues(hashes.as_slice(), size, &self.signed)
    }

    /// Signs the head over all leaves and returns its note. It is remembered durably before anybody sees it.
    ///
    /// # Errors
    /// [`Error::HeadBehind`] and [`Error::HeadDiffers`] where the tree is not a continuation of what was signed: then nothing is signed.
    pub fn sign_head(&mut self) -> Result<String, Error> {
        self.check()?;
        if self.tree.size() > self.signed.size {
            let head = Checkpoint {
                origin: self.origin.clone(),
                size: self.tree.size(),
                root: self.root()?,
            };
            let note = sign_checkpoint(&head, &self.key);
            files::write(&self.heads, HEAD, note.as_bytes())?;
            self.signed = head;
            self.note = note;
        }
        Ok(self.note.clone())
    }

    /// Makes the tree anew from the `leaves` stream. The old one stays where the new one does not continue what was signed.
    ///
    /// # Errors
    /// As [`Ledger::sign_head`], and those of the file system.
    pub fn rebuild(&mut self, leaves: impl IntoIterator<Item = Leaf>) -> Result<(), Error> {
        let aside = self.folder.join(REBUILD);
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
        }
        let mut tree = Tree::open(&aside, 0)?;
        let mut batch = Vec::new();
        for leaf in leaves {
            batch.push(leaf);
            if batch.len() >= REBUILD_BATCH {
                tree.append(&batch)?;
                batch.clear();
            }
        }
        tree.append(&batch)?;
        continues(&tree, tree.size(), &self.signed)?;
        drop(tree);
        replace(&aside, &self.folder)?;
        self.tree = Tree::open(&self.folder, self.signed.size)?;
        Ok(())
    }
}

fn read_head(heads: &Path, origin: &str, key: &SigningKey) -> Result<Option<(String, Checkpoint)>, Error> {
    let Some(bytes) = files::read(&heads.join(HEAD))? else {
        return Ok(None);
    };
    let note = String::from_utf8(bytes).map_err(|_| Error::HeadUnreadable)?;
    let signer = NoteKey {
        name: origin.to_owned(),
        key: key.verifying_key(),
    };
    let signed = open_checkpoint(&note, &signer).map_err(|_| Error::HeadUnreadable)?;
    Ok(Some((note, signed)))
}

fn root_of<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Result<Hash, Error> {
    merkle::root(nodes, size).ok_or(Error::Corrupt { index: size })
}

fn continues<N: Nodes + ?Sized>(nodes: &N, size: u64, signed: &Checkpoint) -> Result<(), Error> {
    if size < signed.size {
        return Err(Error::HeadBehind {
            have: size,
            signed: signed.size,
        });
    }
    if root_of(nodes, signed.size)? == signed.root {
        Ok(())
    } else {
        Err(Error::HeadDiffers { signed: signed.size })
    }
}
