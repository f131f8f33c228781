//! The vault in a folder: a root key in two alternating slots, bucket keys and token keys wrapped under it.
//!
//! `root.0` and `root.1` hold a root key each, with its number and a checksum; the valid one with the higher number counts. A new root is written over the
//! older slot, in place, and fsynced, so that the root before the last is gone from where it stood. `keys` holds everything wrapped under the root
//! and is replaced whole. Where keys exist, a missing root is refused: making a new one would make everything unreadable in silence.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lethe_journal::{KeyWrapped, Sealed};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::keyvault::{Attestation, BUCKET_KEYS_MAX, Buckets, Destroyed, Effective, KeyVault, SealedBuckets};
use crate::seal::{self, DataKey};
use crate::{Error, Tokens, files};

/// Bytes of a slot: a mark, a number, a key, a checksum.
const SLOT_BYTES: usize = 8 + 8 + 32 + 32;

/// First bytes of a slot.
const SLOT_MARK: &[u8; 8] = b"letheR01";

/// Name of the file with everything that the root wraps.
const KEYS: &str = "keys";

/// Everything that the root wraps.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    root: u64,
    token: Sealed,
    suppression: Sealed,
    buckets: SealedBuckets,
}

struct Root {
    number: u64,
    key: DataKey,
}

/// A vault in a folder of its own, for one process at a time.
pub struct FileVault {
    dir: PathBuf,
    root: Root,
    token: DataKey,
    suppression: DataKey,
    buckets: Mutex<Buckets>,
    _lock: File,
}

impl FileVault {
    /// Opens the vault, making it where the folder is new.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Damaged`], [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        files::make_dir(dir)?;
        let lock = files::lock(dir)?;
        match (read_root(dir)?, files::read(&dir.join(KEYS), "the vault's keys")?) {
            (Some(root), Some(keys)) => Self::read(dir, root, &keys, lock),
            (None, Some(_)) => Err(Error::Damaged { what: "the root key" }),
            // The root is written first: a crash before the keys were leaves a root that wraps nothing.
            (Some(root), None) if root.number == 1 => Self::make(dir, root, lock),
            (Some(_), None) => Err(Error::Damaged { what: "the file of wrapped keys" }),
            (None, None) => {
                let root = Root { number: 1, key: DataKey::random()? };
                write_root(dir, &root)?;
                Self::make(dir, root, lock)
            }
        }
    }

    fn make(dir: &Path, root: Root, lock: File) -> Result<Self, Error> {
        let vault = Self {
            dir: dir.to_owned(),
            root,
            token: DataKey::random()?,
            suppression: DataKey::random()?,
            buckets: Mutex::new(Buckets { keys: vec![DataKey::random()?], in_open: 0 }),
            _lock: lock,
        };
        vault.write(&vault.buckets.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(vault)
    }

    fn read(dir: &Path, root: Root, keys: &[u8], lock: File) -> Result<Self, Error> {
        let damaged = || Error::Damaged { what: "the file of wrapped keys" };
        let wrapped: Wrapped = serde_json::from_slice(keys).map_err(|_| damaged())?;
        if wrapped.root != root.number || wrapped.buckets.is_empty() {
            return Err(damaged());
        }
        let open = |context: &str, sealed: &Sealed| -> Result<DataKey, Error> {
            let mut clear = seal::open(&root.key, context, sealed).map_err(|_| damaged())?;
            let key = clear.as_slice().try_into().map(DataKey::from_bytes).map_err(|_| damaged());
            clear.zeroize();
            key
        };
        let keys: Result<Vec<_>, _> =
            wrapped.buckets.iter().enumerate().map(|(number, sealed)| open(&bucket_context(number), sealed)).collect();
        let buckets = Buckets { keys: keys?, in_open: 0 };
        let (token, suppression) = (open("token", &wrapped.token)?, open("suppression", &wrapped.suppression)?);
        Ok(Self { dir: dir.to_owned(), root, token, suppression, buckets: Mutex::new(buckets), _lock: lock })
    }

    fn write(&self, buckets: &Buckets) -> Result<(), Error> {
        let wrap = |context: &str, key: &DataKey| seal::seal(&self.root.key, context, key.as_bytes());
        let sealed: Result<Vec<_>, _> =
            buckets.keys.iter().enumerate().map(|(number, key)| wrap(&bucket_context(number), key)).collect();
        let wrapped = Wrapped {
            root: self.root.number,
            token: wrap("token", &self.token)?,
            suppression: wrap("suppression", &self.suppression)?,
            buckets: sealed?,
        };
        let bytes = serde_json::to_vec(&wrapped).map_err(|_| Error::Content)?;
        files::replace(&self.dir, KEYS, &bytes, "the vault's keys")
    }

    /// Computes tokens under this vault's keys.
    pub fn tokens(&self, region: &str) -> Tokens {
        Tokens::new(&self.token, &self.suppression, region)
    }
}

fn bucket_context(number: usize) -> String {
    format!("bucket-key/{number}")
}

impl KeyVault for FileVault {
    fn create(&self) -> Result<(DataKey, KeyWrapped), Error> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.in_open >= BUCKET_KEYS_MAX {
            // The new bucket is durable before a key is wrapped under it.
            let mut keys = buckets.keys.clone();
            keys.push(DataKey::random()?);
            let next = Buckets { keys, in_open: 0 };
            self.write(&next)?;
            *buckets = next;
        }
        buckets.in_open += 1;
        let key = DataKey::random()?;
        let wrapped = buckets.wrap(&key)?;
        Ok((key, wrapped))
    }

    fn unwrap(&self, wrapped: &KeyWrapped) -> Result<DataKey, Error> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).unwrap(wrapped)
    }

    fn destroy(&self, wrapped: &KeyWrapped) -> Result<Destroyed, Error> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).key(wrapped.bucket)?;
        Ok(Destroyed { bucket: wrapped.bucket, effective: Effective::PendingRootRotation })
    }

    fn attest(&self) -> Attestation {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner).keys.len();
        Attestation { root: self.root.number, buckets: u32::try_from(buckets).unwrap_or(u32::MAX), overwrites: true }
    }
}

fn slot_name(number: u64) -> String {
    format!("root.{}", number % 2)
}

fn write_root(dir: &Path, root: &Root) -> Result<(), Error> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(SLOT_MARK);
    slot.extend_from_slice(&root.number.to_be_bytes());
    slot.extend_from_slice(root.key.as_bytes());
    let checksum = Sha256::digest(&slot);
    slot.extend_from_slice(&checksum);
    let written = files::overwrite(dir, &slot_name(root.number), &slot, "the root key");
    slot.zeroize();
    written
}

fn read_root(dir: &Path) -> Result<Option<Root>, Error> {
    let mut newest: Option<Root> = None;
    for number in 0..2 {
        let Some(mut slot) = files::read(&dir.join(slot_name(number)), "the root key")? else { continue };
        let root = root_of(&slot);
        slot.zeroize();
        if let Some(root) = root
            && newest.as_ref().is_none_or(|known| root.number > known.number)
        {
            newest = Some(root);
        }
    }
    Ok(newest)
}

fn root_of(slot: &[u8]) -> Option<Root> {
    let (content, checksum) = slot.split_at_checked(SLOT_BYTES - 32)?;
    if checksum != Sha256::digest(content).as_slice() || !content.starts_with(SLOT_MARK) {
        return None;
    }
    let number = u64::from_be_bytes(content.get(8..16)?.try_into().ok()?);
    let key = content.get(16..48)?.try_into().ok()?;
    Some(Root { number, key: DataKey::from_bytes(key) })
}


#[cfg(test)]
mod tests {
    use super::*;

    fn first_key(vault: &FileVault) -> (DataKey, KeyWrapped) {
        vault.create().unwrap()
    }

    #[test]
    fn keys_and_tokens_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let vault = FileVault::open(dir.path()).unwrap();
        let (key, wrapped) = first_key(&vault);
        let ada = lethe_terms::Identifier::new(lethe_terms::IdentifierKind::UserId, "ada");
        let token = vault.tokens("DE").identifier(&ada);
        drop(vault);
        let again = FileVault::open(dir.path()).unwrap();
        assert_eq!(again.unwrap(&wrapped).unwrap().as_bytes(), key.as_bytes());
        assert_eq!(again.tokens("DE").identifier(&ada), token);
    }

    #[test]
    fn a_full_bucket_is_followed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let vault = FileVault::open(dir.path()).unwrap();
        let made: Vec<_> = (0..=BUCKET_KEYS_MAX).map(|_| vault.create().unwrap()).collect();
        assert_eq!(vault.attest().buckets, 2);
        drop(vault);
        let again = FileVault::open(dir.path()).unwrap();
        for (key, wrapped) in made {
            assert_eq!(again.unwrap(&wrapped).unwrap().as_bytes(), key.as_bytes());
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _vault = FileVault::open(dir.path()).unwrap();
        assert!(matches!(FileVault::open(dir.path()), Err(Error::InUse)));
    }

    #[test]
    fn a_missing_or_damaged_root_is_refused_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(FileVault::open(dir.path()).unwrap());
        let slot = dir.path().join("root.1");
        let good = std::fs::read(&slot).unwrap();
        let mut bad = good.clone();
        bad[20] ^= 1;
        std::fs::write(&slot, &bad).unwrap();
        assert!(matches!(FileVault::open(dir.path()), Err(Error::Damaged { .. })));
        std::fs::remove_file(&slot).unwrap();
        assert!(matches!(FileVault::open(dir.path()), Err(Error::Damaged { .. })));
        std::fs::write(&slot, &good).unwrap();
        assert!(FileVault::open(dir.path()).is_ok());
    }
}
