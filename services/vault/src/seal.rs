//! Data keys and sealing under them: XChaCha20-Poly1305 with a random nonce, bound to a context, committed to the key.
//!
//! A sealed value is: format (1 byte, 1) ‖ fingerprint of the key (32) ‖ nonce (24) ‖ ciphertext and tag. The fingerprint tells
//! which key protects which value, and commits to it, which XChaCha20-Poly1305 alone does not (a value that opens under two
//! keys can be made). All of the head is authenticated together with the context.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::Mac as _;
use lethe_journal::Sealed;
use lethe_terms::RecordToken;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{Entropy, Error};

/// Bytes of every key.
pub const KEY_BYTES: usize = 32;

/// The only format so far.
const FORMAT: u8 = 1;

const FINGERPRINT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const HEAD_BYTES: usize = 1 + FINGERPRINT_BYTES;

/// First part of the authenticated context, so that no other use of a key fits.
const CONTEXT_PREFIX: &[u8] = b"lethe/seal/v1";

/// A key that seals values: of a record, a case, a quarantined input, or one that wraps other keys.
pub struct DataKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    fingerprint: [u8; FINGERPRINT_BYTES],
    entropy: Arc<dyn Entropy>,
}

impl DataKey {
    /// A fresh random key.
    pub(crate) fn draw(entropy: &Arc<dyn Entropy>) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        entropy.fill(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(bytes, entropy))
    }

    pub(crate) fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>, entropy: &Arc<dyn Entropy>) -> Self {
        let fingerprint = fingerprint(&bytes);
        Self {
            bytes,
            fingerprint,
            entropy: Arc::clone(entropy),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// What names the key in the head of everything that it sealed; says nothing of the key itself.
    pub const fn fingerprint(&self) -> &[u8; FINGERPRINT_BYTES] {
        &self.fingerprint
    }

    /// Seals bytes for one place: the same context opens them, no other does.
    ///
    /// Errors: [`Error::NoEntropy`].
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Sealed, Error> {
        let mut nonce = [0; NONCE_BYTES];
        self.entropy.fill(&mut nonce)?;
        let associated = associated(&self.fingerprint, context);
        let ciphertext = self
            .cipher()
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: plain,
                    aad: &associated,
                },
            )
            .map_err(|_| Error::UnexpectedContent)?;
        let mut sealed = Vec::with_capacity(HEAD_BYTES + NONCE_BYTES + ciphertext.len());
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.fingerprint);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(Sealed::from_bytes(sealed))
    }

    /// Opens what was sealed under this key for this context.
    ///
    /// Errors: [`Error::CannotOpen`].
    pub fn open(&self, context: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bytes = sealed.as_bytes();
        let Some((format, rest)) = bytes.split_first() else {
            return Err(Error::CannotOpen {
                expected: "at least a format byte",
            });
        };
        if *format != FORMAT {
            return Err(Error::CannotOpen { expected: "format 1" });
        }
        let parts = rest.split_first_chunk::<FINGERPRINT_BYTES>();
        let Some((fingerprint, (nonce, ciphertext))) =
            parts.and_then(|(head, rest)| Some((head, rest.split_first_chunk::<NONCE_BYTES>()?)))
        else {
            return Err(Error::CannotOpen {
                expected: "a key's fingerprint and a nonce",
            });
        };
        if !bool::from(fingerprint.ct_eq(&self.fingerprint)) {
            return Err(Error::CannotOpen {
                expected: "a value sealed under this key",
            });
        }
        self.cipher()
            .decrypt(
                &XNonce::from(*nonce),
                Payload {
                    msg: ciphertext,
                    aad: &associated(fingerprint, context),
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| Error::CannotOpen {
                expected: "unchanged bytes at the place they were sealed for",
            })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(redacted)")
    }
}

/// SHA-256("dek-fp/v1" ‖ HKDF-Expand(key, "fp", 32)); the expansion of one block is one HMAC (RFC 5869, section 2.3).
fn fingerprint(key: &[u8; KEY_BYTES]) -> [u8; FINGERPRINT_BYTES] {
    let expanded = crate::tokens::keyed(key)
        .chain_update(b"fp\x01")
        .finalize()
        .into_bytes();
    Sha256::new()
        .chain_update(b"dek-fp/v1")
        .chain_update(expanded)
        .finalize()
        .into()
}

fn associated(fingerprint: &[u8; FINGERPRINT_BYTES], context: &str) -> Vec<u8> {
    // All parts but the last have a fixed length, so no two pairs of head and context make the same bytes.
    [CONTEXT_PREFIX, &[FORMAT], fingerprint, context.as_bytes()].concat()
}

/// Seals a value as JSON.
///
/// Errors: [`Error::UnexpectedContent`] where it cannot be written as JSON, [`Error::NoEntropy`].
pub fn seal_json<T: Serialize + ?Sized>(key: &DataKey, context: &str, value: &T) -> Result<Sealed, Error> {
    let plain = Zeroizing::new(serde_json::to_vec(value).map_err(|_| Error::UnexpectedContent)?);
    key.seal(context, &plain)
}

/// Opens a value that was sealed as JSON.
///
/// Errors: [`Error::CannotOpen`], and [`Error::UnexpectedContent`] where it is another kind of value.
pub fn open_json<T: DeserializeOwned>(key: &DataKey, context: &str, sealed: &Sealed) -> Result<T, Error> {
    // serde_json's messages can quote content, so they go no further.
    serde_json::from_slice(&key.open(context, sealed)?).map_err(|_| Error::UnexpectedContent)
}

/// The context under which a record's secret is sealed.
pub fn record_context(record: RecordToken) -> String {
    format!("records/{}", record.to_hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    fn key(seed: u64) -> DataKey {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed));
        DataKey::draw(&entropy).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_at_its_place_only() {
        let (key, other) = (key(1), key(2));
        let sealed = key.seal("records/1", b"ada@example.org").unwrap();
        assert_eq!(
            key.open("records/1", &sealed).unwrap().as_slice(),
            b"ada@example.org"
        );
        assert!(matches!(
            key.open("records/2", &sealed),
            Err(Error::CannotOpen { .. })
        ));
        assert!(matches!(
            other.open("records/1", &sealed),
            Err(Error::CannotOpen { .. })
        ));
        assert!(!sealed.as_bytes().windows(3).any(|three| three == b"ada"));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let key = key(1);
        let sealed = key.seal("c", b"value").unwrap();
        for at in 0..sealed.as_bytes().len() {
            let mut changed = sealed.as_bytes().to_vec();
            changed[at] ^= 1;
            assert!(
                key.open("c", &Sealed::from_bytes(changed)).is_err(),
                "byte {at} flipped"
            );
            let cut = sealed.as_bytes()[..at].to_vec();
            assert!(key.open("c", &Sealed::from_bytes(cut)).is_err(), "cut at {at}");
        }
        let mut longer = sealed.as_bytes().to_vec();
        longer.push(0);
        assert!(key.open("c", &Sealed::from_bytes(longer)).is_err());
    }

    #[test]
    fn a_value_cannot_claim_another_keys_fingerprint() {
        let (one, two) = (key(1), key(2));
        let mut bytes = one.seal("c", b"value").unwrap().as_bytes().to_vec();
        bytes[1..33].copy_from_slice(two.fingerprint());
        assert!(two.open("c", &Sealed::from_bytes(bytes)).is_err());
    }

    #[test]
    fn no_two_sealings_look_alike() {
        let key = key(1);
        assert_ne!(key.seal("c", b"value").unwrap(), key.seal("c", b"value").unwrap());
    }

    #[test]
    fn json_reads_back_and_other_content_is_refused_without_being_quoted() {
        let key = key(1);
        let sealed = seal_json(&key, "c", &vec!["plantedword"]).unwrap();
        assert_eq!(
            open_json::<Vec<String>>(&key, "c", &sealed).unwrap(),
            ["plantedword"]
        );
        let error = open_json::<u64>(&key, "c", &sealed).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("plantedword"));
        assert_eq!(format!("{key:?}"), "DataKey(redacted)");
    }
}
