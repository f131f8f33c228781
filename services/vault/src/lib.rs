//! Tokens, keys and sealing: the only place where identifiers become tokens and values are opened.
//!
//! Three things stand here. [`Normaliser`] brings identifiers into one spelling; [`TokenKeys`] turns them into keyed digests;
//! [`KeyVault`] makes data keys, each random and wrapped by a bucket's key, which the root key wraps, and seals under them.
//! [`FileVault`] keeps bucket, token, intake and root keys in a folder of one machine; [`MemoryVault`] serves tests and simulation.
//!
//! Deliberately not here: any key that is derived from a master (it could not be ended while the master lives), any way to
//! list or export keys, and a clock. Whatever can hold a key, a token or a value shows nothing of it in `Debug`.

mod entropy;
mod error;
mod file_vault;
mod folder;
mod intake_keys;
mod keyring;
mod keyvault;
mod memory_vault;
mod normalise;
mod root;
mod seal;
mod tokens;

pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use error::Error;
pub use file_vault::{FileVault, FirstStart};
pub use folder::Openers;
pub use intake_keys::{INTAKE_KEYS_MAX, IntakeKey, IntakeLook, IntakeTimes, NOTICE_MS};
pub use keyring::BUCKET_KEYS_MAX;
pub use keyvault::{Attestation, DestroyReceipt, Effective, KeyVault, Method};
pub use memory_vault::MemoryVault;
pub use normalise::{IPV4_KEPT_BITS, IPV6_KEPT_BITS, Normaliser, VALUE_BYTES_MAX, related};
pub use seal::{DataKey, KEY_BYTES, open_json, record_context, seal_json};
pub use tokens::{InternalKey, StateDigest, TokenKeys};
