//! What travels between Lethe and programs in any language: sessions that seal to a public key ([`Sealer`], [`Opener`]), and published
//! events ([`PublishedEvent`]), whose format is described in `ops/publishing.md` with test vectors in `schemas/json/vectors.json`.
//!
//! Pure: no I/O, no clock; random bits are arguments.
//!
//! Deliberately not here: tokens, the log, and how keys are kept. A connector or publisher can be built from this crate alone.

mod error;
mod event;
mod keys;
mod read;
mod sealing;

pub use error::Error;
pub use event::{
    EVENT_BYTES_MAX, EVENT_TYPE, EventData, EventName, EventWire, IDENTIFIERS_MAX, INTAKE_INFO,
    NAME_BYTES_MAX, PublishedEvent, PublishedRecord, Publisher, SEALED_MEDIA_TYPE, Sequence, VALUE_BYTES_MAX,
};
pub use keys::{KEY_BYTES, KeyId, PrivateKey, PublicKey};
pub use read::Refused;
pub use sealing::{Opener, SESSIONS_MAX, SealedMessage, Sealer};
