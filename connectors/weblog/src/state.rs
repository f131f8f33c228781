//! What the connector must remember between runs, sealed: nothing about a person stands in the state folder in the clear.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use lethe_terms::Verb;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::error::Error;
use crate::matcher::Matcher;

const KEY_FILE: &str = "key";
const LOCK_FILE: &str = "lock";
/// How long to wait for the folder, and how often to look.
const LOCK_MS_MAX: u64 = 1_000;
const LOCK_LOOK_MS: u64 = 10;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
/// Bytes of a digest: enough that two records never meet by chance.
const DIGEST_BYTES: usize = 16;

/// The state folder with its key, held by one program at a time.
pub(crate) struct StateDir {
    path: PathBuf,
    seal: XChaCha20Poly1305,
    digest: [u8; KEY_BYTES],
    _lock: File,
}

/// Progress and files of one log: written whole, at each stage.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct LogState {
    /// How often Lethe rewrote a file of the log: cursors say after which of them they were given.
    pub(crate) rewrites: u64,
    /// The next file's id.
    pub(crate) next_file: u64,
    /// Files that are known.
    pub(crate) files: Vec<KnownFile>,
    /// Which version of the side file is valid.
    pub(crate) side_version: Option<u64>,
    /// Instructions that are not done yet, by id.
    pub(crate) active: BTreeMap<String, Active>,
    /// The rewrite that is under way.
    pub(crate) rewrite: Option<Rewrite>,
}

/// A file of the log, through its renames and compression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownFile {
    /// Its id.
    pub(crate) id: u64,
    /// Keyed digest of its first line, once it has one: it survives renaming, copying and compression.
    pub(crate) print: Option<String>,
    /// Device.
    pub(crate) dev: u64,
    /// Inode.
    pub(crate) ino: u64,
}

/// An instruction that is not done yet.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Active {
    /// What is asked.
    pub(crate) verb: Verb,
    /// Whom it is about.
    pub(crate) matcher: Matcher,
    /// Files that are still to do; `None` before the first look.
    pub(crate) waiting: Option<BTreeSet<u64>>,
    /// Digests of the records that were touched.
    pub(crate) touched: BTreeSet<String>,
    /// Lines that were touched.
    pub(crate) lines: u64,
    /// Lines of them that stayed without their fields.
    pub(crate) cleared: u64,
}

/// A file that is being replaced. See `rewrite.rs` for the stages.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Rewrite {
    /// The instruction.
    pub(crate) instruction: String,
    /// Where it stands.
    pub(crate) stage: Stage,
    /// Id of the file.
    pub(crate) file: u64,
    /// The file's path when the work began.
    pub(crate) path: PathBuf,
    /// Name of the copy before the exchange, of the old file after it.
    pub(crate) aside: PathBuf,
    /// Whether it is compressed.
    pub(crate) gz: bool,
    /// Inode of the old file.
    pub(crate) old_ino: u64,
    /// Inode of the copy.
    pub(crate) new_ino: u64,
    /// Bytes of the copy when it was made.
    pub(crate) new_len: u64,
    /// Print of the copy.
    pub(crate) new_print: Option<String>,
    /// Bytes of the old file that are taken care of.
    pub(crate) taken: u64,
    /// Late lines on their way to the new file.
    pub(crate) appending: Option<Appending>,
    /// Side file to use once the files are exchanged.
    pub(crate) side_version: Option<u64>,
    /// What the copy took out, to be added to the instruction once the files are exchanged.
    pub(crate) touched: BTreeSet<String>,
    /// Lines of it.
    pub(crate) lines: u64,
    /// Lines of it that stayed without their fields.
    pub(crate) cleared: u64,
}

/// Stage of a rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// The copy is complete and durable; the files may or may not be exchanged.
    Prepared,
    /// The files are exchanged; the old one is drained.
    Draining,
}

/// Late lines on their way to the new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Appending {
    /// Where the block ends in the old file.
    pub(crate) to: u64,
    /// Length of the new file before it.
    pub(crate) at: u64,
}

impl StateDir {
    /// Opens the folder, makes it and its key where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| Error::state(path, "making the folder", e))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|e| Error::state(&lock_path, "opening", e))?;
        take(&lock)?;
        let key = load_key(path)?;
        let derived = |label: &[u8]| mac(&key, &[label]);
        Ok(Self {
            path: path.to_owned(),
            seal: XChaCha20Poly1305::new(&Key::from(derived(b"seal"))),
            digest: derived(b"digest"),
            _lock: lock,
        })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keyed digest of these parts, in hexadecimal: names something without saying it.
    pub(crate) fn digest(&self, parts: &[&[u8]]) -> String {
        hex::encode(self.short_digest(parts))
    }

    /// The same as bytes.
    pub(crate) fn short_digest(&self, parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
        let mut short = [0; DIGEST_BYTES];
        short.copy_from_slice(&mac(&self.digest, parts)[..DIGEST_BYTES]);
        short
    }

    /// Seals bytes; `name` must be given again to open them.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let damaged = |what: &str| Error::StateDamaged {
            reason: format!("{name}: {what}"),
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| damaged("no randomness to seal it with"))?;
        let sealed = self
            .seal
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: plain,
                    aad: name.as_bytes(),
                },
            )
            .map_err(|_| damaged("sealing failed"))?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed.
    pub(crate) fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let damaged = || Error::StateDamaged {
            reason: format!("{name} does not open with the key of the folder"),
        };
        let (nonce, text) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| damaged())?;
        self.seal
            .decrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: text,
                    aad: name.as_bytes(),
                },
            )
            .map_err(|_| damaged())
    }

    /// Writes a value whole: after a crash the old or the new one is there.
    pub(crate) fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let plain = serde_json::to_vec(value);
        let plain = plain.map_err(|e| Error::state(Path::new(name), "writing", e.into()))?;
        self.write(name, &self.seal(name, &plain)?)
    }

    /// Writes bytes that are sealed already, whole.
    pub(crate) fn write(&self, name: &str, sealed: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        let failed = |e| Error::state(&path, "writing", e);
        let fresh = self.path.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(failed)?;
        file.write_all(sealed)
            .and_then(|()| file.sync_all())
            .map_err(failed)?;
        fs::rename(&fresh, &path).map_err(failed)?;
        sync_dir(&self.path).map_err(failed)
    }

    /// Reads a value; `None` where there is none.
    pub(crate) fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.path.join(name);
        let sealed = match fs::read(&path) {
            Ok(sealed) => sealed,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::state(&path, "reading", e)),
        };
        let plain = self.unseal(name, &sealed)?;
        serde_json::from_slice(&plain)
            .map(Some)
            .map_err(|_| Error::StateDamaged {
                reason: format!("{name} is not of this version"),
            })
    }

    /// Names of the values.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |e| Error::state(&self.path, "listing the folder", e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// Takes a value away.
    pub(crate) fn drop_file(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::state(&path, "removing", e)),
            _ => Ok(()),
        }
    }
}

/// Takes the folder for this process. A program that was just started by one that ended may hold it for a moment longer.
fn take(lock: &File) -> Result<(), Error> {
    let began = Instant::now();
    while rustix::fs::flock(lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if began.elapsed() > Duration::from_millis(LOCK_MS_MAX) {
            return Err(Error::StateInUse);
        }
        std::thread::sleep(Duration::from_millis(LOCK_LOOK_MS));
    }
    Ok(())
}

/// Makes names in a folder durable.
pub(crate) fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn mac(key: &[u8; KEY_BYTES], parts: &[&[u8]]) -> [u8; KEY_BYTES] {
    // A key shorter than a block is filled up with zeros (RFC 2104).
    let mut block = [0; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new(&block.into());
    for part in parts {
        // Lengths in front: two lists of parts never give the same bytes.
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn load_key(dir: &Path) -> Result<[u8; KEY_BYTES], Error> {
    let path = dir.join(KEY_FILE);
    let failed = |action| move |e| Error::state(Path::new(KEY_FILE), action, e);
    match File::open(&path) {
        Ok(mut file) => {
            let mode = file.metadata().map_err(failed("reading"))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(Error::StateDamaged {
                    reason: "key can be read by others: expected mode 0600".to_owned(),
                });
            }
            let mut key = [0; KEY_BYTES];
            file.read_exact(&mut key).map_err(failed("reading"))?;
            Ok(key)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let others = fs::read_dir(dir)
                .map_err(failed("reading"))?
                .flatten()
                .any(|e| e.file_name() != LOCK_FILE);
            if others {
                // A fresh key would make everything that is sealed unreadable without a word.
                return Err(Error::StateDamaged {
                    reason: "key is gone, but sealed files are there".to_owned(),
                });
            }
            make_key(dir, &path)
        }
        Err(e) => Err(failed("reading")(e)),
    }
}

fn make_key(dir: &Path, path: &Path) -> Result<[u8; KEY_BYTES], Error> {
    let failed = |e| Error::state(Path::new(KEY_FILE), "writing", e);
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|_| Error::StateDamaged {
        reason: "no randomness for a key".to_owned(),
    })?;
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(&key)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    sync_dir(dir).map_err(failed)?;
    Ok(key)
}
