//! The vault of one machine: root key in erasable slots, bucket and token keys wrapped under it in files beside it.
//!
//! A vault is made in this order: token keys, an empty file of bucket keys, the root key. So a valid root key means that the
//! others were there once, and one that is missing was lost. Before the first bucket exists nothing was ever sealed, and a vault
//! whose making was cut short is made again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lethe_journal::{KeyWrapped, Sealed};
use serde::{Deserialize, Serialize};

use crate::folder::{Folder, Openers};
use crate::intake_keys::{self, WrappedIntakeKeys};
use crate::keyring::{Keyring, WrappedBuckets, open_key};
use crate::root::Root;
use crate::{
    Attestation, DataKey, DestroyReceipt, Entropy, Error, IntakeKey, IntakeLook, IntakeTimes, KeyVault,
    TokenKeys,
};

const TOKENS_FILE: &str = "tokens.json";
const BUCKETS_FILE: &str = "buckets.json";
const INTAKE_KEYS_FILE: &str = "intake-keys.json";

const TOKEN_CONTEXT: &str = "token-key";
const SUPPRESSION_CONTEXT: &str = "suppression-key";

/// The only version of the files so far.
const FILE_VERSION: u32 = 1;

/// Whether a vault may be made where there is none. With a log that holds entries it must not: its tokens and sealed values
/// belong to keys that were lost, and fresh ones would hide that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStart {
    /// Make one.
    Allowed,
    /// Refuse with [`Error::NoVault`].
    Refused,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensFile {
    version: u32,
    token: Sealed,
    suppression: Sealed,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketsFile {
    version: u32,
    buckets: BTreeMap<u32, Sealed>,
}

/// Keys in a folder of one machine.
pub struct FileVault {
    keyring: Keyring,
    tokens: Arc<TokenKeys>,
    folder: Folder,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntakeKeysFile {
    version: u32,
    keys: WrappedIntakeKeys,
}

impl FileVault {
    /// Opens the vault in this folder, and makes it where there is none and `first` allows it.
    ///
    /// Errors: [`Error::InUse`], [`Error::NoVault`], [`Error::RootMissing`], [`Error::FileMissing`], [`Error::FileDamaged`],
    /// [`Error::Io`]; after any of them the folder holds what it held.
    pub fn open(
        path: &Path,
        openers: Openers,
        first: FirstStart,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        let folder = Folder::open(path, openers)?;
        let changing = folder.change()?;
        let root = match Root::read(&folder, &entropy)? {
            Some(root) => root,
            None => make(&folder, first, &entropy)?,
        };
        let tokens = read_tokens(&folder, &root, &entropy)?;
        let buckets = read_buckets(&folder)?.ok_or(Error::FileMissing { file: BUCKETS_FILE })?;
        let keyring =
            Keyring::open(root.key, root.generation, buckets, entropy).map_err(|_| Error::FileDamaged {
                file: BUCKETS_FILE,
                expected: "bucket keys under the present root key",
            })?;
        drop(changing);
        Ok(Self {
            keyring,
            tokens: Arc::new(tokens),
            folder,
        })
    }
}

/// Makes the keys of a new vault.
fn make(folder: &Folder, first: FirstStart, entropy: &Arc<dyn Entropy>) -> Result<Root, Error> {
    if read_buckets(folder)?.is_some_and(|buckets| !buckets.is_empty()) {
        return Err(Error::RootMissing);
    }
    if first == FirstStart::Refused {
        return Err(Error::NoVault);
    }
    let root = Root {
        key: DataKey::draw(entropy)?,
        generation: 1,
    };
    let (token, suppression) = (DataKey::draw(entropy)?, DataKey::draw(entropy)?);
    let tokens = TokensFile {
        version: FILE_VERSION,
        token: root.key.seal(TOKEN_CONTEXT, token.bytes())?,
        suppression: root.key.seal(SUPPRESSION_CONTEXT, suppression.bytes())?,
    };
    write_json(folder, TOKENS_FILE, &tokens)?;
    write_json(
        folder,
        BUCKETS_FILE,
        &BucketsFile {
            version: FILE_VERSION,
            buckets: BTreeMap::new(),
        },
    )?;
    root.write(folder)?;
    Ok(root)
}

fn read_tokens(folder: &Folder, root: &Root, entropy: &Arc<dyn Entropy>) -> Result<TokenKeys, Error> {
    let damaged = || Error::FileDamaged {
        file: TOKENS_FILE,
        expected: "two token keys under the present root key",
    };
    let bytes = folder
        .read(TOKENS_FILE)?
        .ok_or(Error::FileMissing { file: TOKENS_FILE })?;
    let file: TokensFile = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    if file.version != FILE_VERSION {
        return Err(Error::FileDamaged {
            file: TOKENS_FILE,
            expected: "version 1",
        });
    }
    let token = open_key(&root.key, TOKEN_CONTEXT, &file.token, entropy).map_err(|_| damaged())?;
    let suppression =
        open_key(&root.key, SUPPRESSION_CONTEXT, &file.suppression, entropy).map_err(|_| damaged())?;
    Ok(TokenKeys::new(token.bytes(), suppression.bytes()))
}

fn read_buckets(folder: &Folder) -> Result<Option<WrappedBuckets>, Error> {
    let Some(bytes) = folder.read(BUCKETS_FILE)? else {
        return Ok(None);
    };
    let file: BucketsFile = serde_json::from_slice(&bytes).map_err(|_| Error::FileDamaged {
        file: BUCKETS_FILE,
        expected: "bucket keys as JSON",
    })?;
    if file.version != FILE_VERSION {
        return Err(Error::FileDamaged {
            file: BUCKETS_FILE,
            expected: "version 1",
        });
    }
    Ok(Some(file.buckets))
}

/// The intake keys; none where none was ever made.
fn read_intake_keys(folder: &Folder) -> Result<WrappedIntakeKeys, Error> {
    let Some(bytes) = folder.read(INTAKE_KEYS_FILE)? else {
        return Ok(WrappedIntakeKeys::new());
    };
    let file: IntakeKeysFile = serde_json::from_slice(&bytes).map_err(|_| Error::FileDamaged {
        file: INTAKE_KEYS_FILE,
        expected: "intake keys as JSON",
    })?;
    if file.version != FILE_VERSION {
        return Err(Error::FileDamaged {
            file: INTAKE_KEYS_FILE,
            expected: "version 1",
        });
    }
    Ok(file.keys)
}

fn write_json<T: Serialize>(folder: &Folder, name: &'static str, value: &T) -> Result<(), Error> {
    let bytes = serde_json::to_vec(value).map_err(|_| Error::UnexpectedContent)?;
    folder.replace(name, &bytes)
}

impl FileVault {
    fn open_intake_keys(&self, wrapped: &WrappedIntakeKeys) -> Result<Vec<IntakeKey>, Error> {
        intake_keys::open(self.keyring.root(), wrapped).map_err(|_| Error::FileDamaged {
            file: INTAKE_KEYS_FILE,
            expected: "intake keys under the present root key",
        })
    }
}

impl KeyVault for FileVault {
    fn create(&self) -> Result<(DataKey, KeyWrapped), Error> {
        self.keyring.create(|_, add| {
            // Another process may have opened buckets of its own since.
            let _changing = self.folder.change()?;
            let stored = read_buckets(&self.folder)?.ok_or(Error::FileMissing { file: BUCKETS_FILE })?;
            let buckets = add(&stored)?;
            let file = BucketsFile {
                version: FILE_VERSION,
                buckets,
            };
            write_json(&self.folder, BUCKETS_FILE, &file)?;
            Ok(file.buckets)
        })
    }

    fn unwrap(&self, wrapped: &KeyWrapped) -> Result<DataKey, Error> {
        match self.keyring.unwrap(wrapped) {
            Err(Error::UnknownBucket { .. }) => {
                let stored = read_buckets(&self.folder)?.ok_or(Error::FileMissing { file: BUCKETS_FILE })?;
                self.keyring.learn(stored)?;
                self.keyring.unwrap(wrapped)
            }
            unwrapped => unwrapped,
        }
    }

    fn destroy(&self, wrapped: &KeyWrapped) -> Result<DestroyReceipt, Error> {
        self.keyring.destroy(wrapped)
    }

    fn attest(&self) -> Attestation {
        // A file in place is as erasable as its file system: not on a copy-on-write one, which nobody is asked about yet.
        self.keyring.attest("file", true)
    }

    fn intake_keys(&self) -> Result<Vec<IntakeKey>, Error> {
        let wrapped = read_intake_keys(&self.folder)?;
        self.open_intake_keys(&wrapped)
    }

    fn tend_intake_keys(&self, times: IntakeTimes, look: IntakeLook) -> Result<Vec<IntakeKey>, Error> {
        // Another process may have made one since.
        let _changing = self.folder.change()?;
        let mut keys = read_intake_keys(&self.folder)?;
        let (root, entropy) = (self.keyring.root(), self.keyring.entropy());
        if let Some(changed) = intake_keys::tend(root, entropy, &keys, times, look)? {
            let file = IntakeKeysFile {
                version: FILE_VERSION,
                keys: changed,
            };
            write_json(&self.folder, INTAKE_KEYS_FILE, &file)?;
            keys = file.keys;
        }
        self.open_intake_keys(&keys)
    }

    fn tokens(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.tokens)
    }
}

impl fmt::Debug for FileVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileVault(redacted)")
    }
}

#[cfg(test)]
#[path = "file_vault_tests.rs"]
mod tests;
