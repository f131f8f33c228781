//! A vault in memory, for tests and simulation: gone with its owner.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use lethe_journal::KeyWrapped;

use crate::intake_keys::{self, WrappedIntakeKeys};
use crate::keyring::{Keyring, WrappedBuckets};
use crate::{
    Attestation, DataKey, DestroyReceipt, Entropy, Error, IntakeKey, IntakeLook, IntakeTimes, KeyVault,
    TokenKeys,
};

/// Keys in memory.
pub struct MemoryVault {
    keyring: Keyring,
    tokens: Arc<TokenKeys>,
    intake: Mutex<WrappedIntakeKeys>,
}

impl MemoryVault {
    /// A vault with fresh keys.
    ///
    /// Errors: [`Error::NoEntropy`].
    pub fn new(entropy: Arc<dyn Entropy>) -> Result<Self, Error> {
        let (root, token, suppression) = (
            DataKey::draw(&entropy)?,
            DataKey::draw(&entropy)?,
            DataKey::draw(&entropy)?,
        );
        let tokens = Arc::new(TokenKeys::new(token.bytes(), suppression.bytes()));
        Ok(Self {
            keyring: Keyring::open(root, 1, WrappedBuckets::new(), entropy)?,
            tokens,
            intake: Mutex::default(),
        })
    }
}

impl KeyVault for MemoryVault {
    fn create(&self) -> Result<(DataKey, KeyWrapped), Error> {
        self.keyring.create(|known, add| add(known))
    }

    fn unwrap(&self, wrapped: &KeyWrapped) -> Result<DataKey, Error> {
        self.keyring.unwrap(wrapped)
    }

    fn destroy(&self, wrapped: &KeyWrapped) -> Result<DestroyReceipt, Error> {
        self.keyring.destroy(wrapped)
    }

    fn attest(&self) -> Attestation {
        self.keyring.attest("memory", false)
    }

    fn intake_keys(&self) -> Result<Vec<IntakeKey>, Error> {
        let wrapped = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        intake_keys::open(self.keyring.root(), &wrapped)
    }

    fn tend_intake_keys(&self, times: IntakeTimes, look: IntakeLook) -> Result<Vec<IntakeKey>, Error> {
        let (root, entropy) = (self.keyring.root(), self.keyring.entropy());
        let mut wrapped = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(changed) = intake_keys::tend(root, entropy, &wrapped, times, look)? {
            *wrapped = changed;
        }
        intake_keys::open(root, &wrapped)
    }

    fn tokens(&self) -> Arc<TokenKeys> {
        Arc::clone(&self.tokens)
    }
}

impl fmt::Debug for MemoryVault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryVault(redacted)")
    }
}
