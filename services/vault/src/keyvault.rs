//! The KeyVault port: who makes, opens and ends data keys.

use std::sync::Arc;

use lethe_journal::KeyWrapped;

use crate::{DataKey, Error, IntakeKey, IntakeLook, IntakeTimes, TokenKeys};

/// How a data key was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Its wrapped form is dropped; older copies of that form open until the root key is replaced.
    WrappedFormDropped,
}

impl Method {
    /// The method as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrappedFormDropped => "wrapped-form-dropped",
        }
    }
}

/// When the end of a data key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effective {
    /// Nothing that was sealed under it can be opened by anybody any more.
    Now,
    /// Whoever kept the wrapped form can open it until the root key of this generation is replaced and overwritten.
    PendingRootRotation {
        /// Generation of the root key that has to go.
        root: u64,
    },
}

/// What the vault says about the end of a data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestroyReceipt {
    /// How.
    pub method: Method,
    /// From when on.
    pub effective: Effective,
}

/// What the vault says of itself: names and numbers, never keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// Kind of vault, such as `file`.
    pub kind: &'static str,
    /// Whether the root key stands where overwriting it makes it unreadable, as far as the vault can tell.
    pub erasable_root: bool,
    /// Generation of the root key.
    pub root: u64,
    /// How many bucket keys there are.
    pub buckets: usize,
    /// Data keys made since the vault was opened.
    pub made: u64,
    /// Data keys ended since the vault was opened.
    pub destroyed: u64,
}

/// Makes, opens and ends data keys. Calls may block for one fsync.
pub trait KeyVault: Send + Sync {
    /// A fresh random data key and its wrapped form. The vault keeps neither: whoever seals under the key makes the wrapped form
    /// durable first.
    fn create(&self) -> Result<(DataKey, KeyWrapped), Error>;

    /// The data key of a wrapped form.
    ///
    /// Errors: [`Error::UnknownBucket`], [`Error::CannotOpen`].
    fn unwrap(&self, wrapped: &KeyWrapped) -> Result<DataKey, Error>;

    /// Ends a data key. The caller drops the wrapped form from the `keys` stream; the receipt says when that takes effect.
    ///
    /// Errors: [`Error::UnknownBucket`].
    fn destroy(&self, wrapped: &KeyWrapped) -> Result<DestroyReceipt, Error>;

    /// What the vault says of itself.
    fn attest(&self) -> Attestation;

    /// The intake keys that were not destroyed, the newest first.
    ///
    /// Errors: [`Error::FileDamaged`], [`Error::Io`].
    fn intake_keys(&self) -> Result<Vec<IntakeKey>, Error>;

    /// Makes the first intake key and every later one that is due, or one now where the look asks for it, and destroys those that ended
    /// and were read to their end. What [`KeyVault::intake_keys`] gives afterwards.
    ///
    /// Errors: as [`KeyVault::intake_keys`], [`Error::TooManyIntakeKeys`], [`Error::NoEntropy`].
    fn tend_intake_keys(&self, times: IntakeTimes, look: IntakeLook) -> Result<Vec<IntakeKey>, Error>;

    /// The keys of tokens: the same for as long as the log lives.
    fn tokens(&self) -> Arc<TokenKeys>;
}
