//! The ledger: the tree, and what may be signed of it.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use lethe_proof::merkle::{self, Hash};
use lethe_proof::{Checkpoint, Leaf, NoteKey, Proof, open_checkpoint, sign_checkpoint};

use crate::tree::Tree;
use crate::{Error, files};

/// File with the last signed head, in a folder apart from the tree.
const HEAD: &str = "head";

/// The tree with its signer.
pub struct Ledger {
    tree: Tree,
    head_dir: PathBuf,
    origin: String,
    key: SigningKey,
}

impl Ledger {
    /// Opens the tree in `dir` and the last signed head in `head_dir`, which should be another disk where there is one.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Damaged`] where the head is not one that this key signed.
    pub fn open(dir: &Path, head_dir: &Path, origin: &str, key: SigningKey) -> Result<Self, Error> {
        files::make_dir(head_dir)?;
        let ledger =
            Self { tree: Tree::open(dir)?, head_dir: head_dir.to_owned(), origin: origin.to_owned(), key };
        ledger.last_head()?;
        Ok(ledger)
    }

    /// The key by which others check the heads.
    pub fn note_key(&self) -> NoteKey {
        NoteKey { name: self.origin.clone(), key: self.key.verifying_key() }
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Index of a leaf that is in the tree.
    pub fn index_of(&self, leaf: &Leaf) -> Option<u64> {
        self.tree.index_of(&leaf.hash())
    }

    /// Appends leaves that were read back from the `leaves` stream; durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, leaves: &[Leaf]) -> Result<u64, Error> {
        let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
        self.tree.append(&hashes)
    }

    /// Signs the present head and remembers it, before it is given away.
    ///
    /// # Errors
    /// [`Error::HeadBehind`] where the tree does not contain the head that was signed last.
    pub fn sign_head(&self) -> Result<String, Error> {
        if let Some(last) = self.last_head()? {
            let same = last.size <= self.size() && self.root(last.size)? == last.root;
            if !same {
                return Err(Error::HeadBehind { signed: last.size, found: self.size() });
            }
        }
        let head = Checkpoint { origin: self.origin.clone(), size: self.size(), root: self.root(self.size())? };
        let note = sign_checkpoint(&head, &self.key);
        files::replace(&self.head_dir, HEAD, note.as_bytes())?;
        Ok(note)
    }

    /// Where a leaf stands in the tree of `size` leaves.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the tree cannot be read that far.
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Proof, Error> {
        let path = merkle::inclusion(&self.tree, index, size).ok_or(Error::Damaged { what: "the tree" })?;
        Ok(Proof::new(index, &path))
    }

    fn root(&self, size: u64) -> Result<Hash, Error> {
        merkle::root(&self.tree, size).ok_or(Error::Damaged { what: "the tree" })
    }

    fn last_head(&self) -> Result<Option<Checkpoint>, Error> {
        let Some(note) = files::read(&self.head_dir, HEAD)? else { return Ok(None) };
        let note = String::from_utf8(note).map_err(|_| Error::Damaged { what: "the last signed head" })?;
        open_checkpoint(&note, &self.note_key()).map(Some).map_err(|_| Error::Damaged { what: "the last signed head" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lethe_proof::{Envelope, LeafKind};

    fn leaf(number: u64) -> Leaf {
        let key = SigningKey::from_bytes(&[1; 32]);
        Leaf::of(LeafKind::Plan, &Envelope::sign("t", &number, &key).unwrap()).unwrap()
    }

    fn open(dir: &Path) -> Result<Ledger, Error> {
        Ledger::open(&dir.join("tree"), &dir.join("head"), "acme/lethe", SigningKey::from_bytes(&[2; 32]))
    }

    #[test]
    fn a_tree_survives_a_restart_and_proves_every_leaf() {
        let dir = tempfile::tempdir().unwrap();
        let leaves: Vec<_> = (0..37).map(leaf).collect();
        let mut ledger = open(dir.path()).unwrap();
        ledger.append(&leaves[..20]).unwrap();
        ledger.sign_head().unwrap();
        drop(ledger);
        let mut ledger = open(dir.path()).unwrap();
        ledger.append(&leaves[20..]).unwrap();
        let note = ledger.sign_head().unwrap();
        let head = open_checkpoint(&note, &ledger.note_key()).unwrap();
        assert_eq!(head.size, 37);
        let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
        assert_eq!(head.root, merkle::root(hashes.as_slice(), 37).unwrap());
        for (index, leaf) in (0..).zip(&leaves) {
            assert_eq!(ledger.index_of(leaf), Some(index));
            assert_eq!(
                ledger.inclusion(index, 37).unwrap(),
                Proof::new(index, &merkle::inclusion(hashes.as_slice(), index, 37).unwrap())
            );
        }
    }

    #[test]
    fn a_torn_write_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path()).unwrap();
        ledger.append(&(0..9).map(leaf).collect::<Vec<_>>()).unwrap();
        let note = ledger.sign_head().unwrap();
        drop(ledger);
        for level in 0..4 {
            let file = dir.path().join(format!("tree/level.{level:02}"));
            let mut bytes = std::fs::read(&file).unwrap();
            bytes.extend_from_slice(&[7; 11]);
            std::fs::write(&file, bytes).unwrap();
        }
        let ledger = open(dir.path()).unwrap();
        assert_eq!(ledger.sign_head().unwrap(), note);
    }

    #[test]
    fn nothing_shorter_or_different_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = open(dir.path()).unwrap();
        ledger.append(&[leaf(1), leaf(2), leaf(3)]).unwrap();
        ledger.sign_head().unwrap();
        drop(ledger);
        std::fs::remove_dir_all(dir.path().join("tree")).unwrap();
        let mut ledger = open(dir.path()).unwrap();
        ledger.append(&[leaf(1), leaf(2)]).unwrap();
        assert!(matches!(ledger.sign_head(), Err(Error::HeadBehind { signed: 3, found: 2 })));
        ledger.append(&[leaf(4), leaf(5)]).unwrap();
        assert!(matches!(ledger.sign_head(), Err(Error::HeadBehind { .. })));
    }
}
