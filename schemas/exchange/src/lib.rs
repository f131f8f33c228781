//! What travels between Lethe and programs in any language: sessions that seal to a public key ([`Sealer`], [`Opener`]).
//!
//! Pure: no I/O, no clock; random bits are arguments.
//!
//! Deliberately not here: tokens, the log, and how keys are kept. A connector or publisher can be built from this crate alone.

mod error;
mod keys;
mod sealing;

pub use error::Error;
pub use keys::{KEY_BYTES, KeyId, PrivateKey, PublicKey};
pub use sealing::{Opener, SESSIONS_MAX, SealedMessage, Sealer};
