//! Signatures as in Standard Webhooks 1.0.0: `v1` (HMAC-SHA256) and `v1a` (Ed25519) over `id.timestamp.body`.
//!
//! One file holds the keys of one system, one a line: `whsec_…` signs and verifies, `whsk_…` signs, `whpk_…` verifies. Two lines of a sort
//! are a rotation: everything is signed with each, and any one of them is enough to verify.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Header with the id of a message.
pub const ID: &str = "webhook-id";
/// Header with the time at which it was sent, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with its signatures, separated by blanks.
pub const SIGNATURE: &str = "webhook-signature";

/// How far the time of a message may be from this machine's, in seconds: clocks differ, and an old message is a repeated one.
pub const TOLERANCE_S: u64 = 300;
/// Longest id of a message, in characters.
const ID_CHARS_MAX: usize = 63;
/// Signatures that are looked at: each costs work, and a rotation needs two.
const SIGNATURES_MAX: usize = 8;
/// Lines of a key file: two sorts in rotation on either side.
const KEYS_MAX: usize = 8;
/// What a shared secret must have, in bytes, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What is wrong with a key file, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: expected {expected}")]
pub struct KeyProblem {
    /// The line, from 1; 0 where it is the file as a whole.
    pub line: usize,
    /// What would have been right.
    pub expected: &'static str,
}

/// Why a message is not taken for the other side's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// A header is missing, there twice, or malformed.
    #[error("{0} is missing, there twice, or malformed")]
    Header(&'static str),
    /// It is about another message.
    #[error("webhook-id is another one than the request's")]
    Id,
    /// Its time is too far away.
    #[error("webhook-timestamp is more than 300 s away from this machine's clock")]
    Stale,
    /// No signature fits any key.
    #[error("no signature fits a key of the secret file")]
    Signature,
}

/// Headers of a message that say who sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
}

/// The keys that one system and Lethe have of each other.
pub struct Keys {
    shared: Vec<Zeroizing<Vec<u8>>>,
    signing: Vec<SigningKey>,
    verifying: Vec<VerifyingKey>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(redacted)")
    }
}

impl Keys {
    /// Reads the text of a key file. Blank lines and lines that begin with `#` do not count.
    ///
    /// # Errors
    /// Where a line is no key, or the file cannot both sign and verify.
    pub fn parse(text: &str) -> Result<Self, KeyProblem> {
        let mut keys = Self {
            shared: Vec::new(),
            signing: Vec::new(),
            verifying: Vec::new(),
        };
        let lines = (1..).zip(text.lines().map(str::trim));
        let lines = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
        for (count, (line, text)) in (1..).zip(lines) {
            let wrong = |expected| KeyProblem { line, expected };
            if count > KEYS_MAX {
                return Err(wrong("at most 8 keys"));
            }
            keys.add(text).map_err(wrong)?;
        }
        let whole = |expected| KeyProblem { line: 0, expected };
        if keys.shared.is_empty() && keys.signing.is_empty() {
            return Err(whole("a key that signs: whsec_… or whsk_…"));
        }
        if keys.shared.is_empty() && keys.verifying.is_empty() {
            return Err(whole("a key that verifies: whsec_… or the program's whpk_…"));
        }
        Ok(keys)
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        const FORM: &str = "whsec_, whsk_ or whpk_ and base64";
        let (sort, key) = text.split_once('_').ok_or(FORM)?;
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(key).map_err(|_| FORM)?);
        match sort {
            "whsec" if SECRET_BYTES.contains(&bytes.len()) => self.shared.push(bytes),
            "whsec" => return Err("whsec_ and base64 of 24 to 64 random bytes"),
            "whsk" => self.signing.push(signing_key(&bytes)?),
            "whpk" => {
                const PUBLIC: &str = "whpk_ and base64 of an Ed25519 public key of 32 bytes";
                let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| PUBLIC)?;
                self.verifying
                    .push(VerifyingKey::from_bytes(bytes).map_err(|_| PUBLIC)?);
            }
            _ => return Err(FORM),
        }
        Ok(())
    }

    /// The secrets that both sides have, the one that is in use first.
    pub(crate) fn shared(&self) -> &[Zeroizing<Vec<u8>>] {
        &self.shared
    }

    /// Headers for a message that is sent at `now_s`, in seconds since 1970.
    pub fn sign(&self, id: &str, now_s: u64, body: &[u8]) -> Headers {
        let timestamp = now_s.to_string();
        let content = content(id, &timestamp, body);
        let shared = self
            .shared
            .iter()
            .filter_map(|secret| mac(secret, &content))
            .map(|mac| format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())));
        let own = self
            .signing
            .iter()
            .map(|key| format!("v1a,{}", BASE64_STANDARD.encode(key.sign(&content).to_bytes())));
        Headers {
            id: id.to_owned(),
            signature: shared.chain(own).collect::<Vec<_>>().join(" "),
            timestamp,
        }
    }

    /// Whether a message is the other side's, was sent about `now_s`, and has this id.
    ///
    /// # Errors
    /// Why it is not taken for theirs.
    pub fn verify(&self, headers: &Headers, id: &str, now_s: u64, body: &[u8]) -> Result<(), Unsigned> {
        if !is_id(&headers.id) {
            return Err(Unsigned::Header(ID));
        }
        let is_number = headers.timestamp.bytes().all(|b| b.is_ascii_digit());
        let sent_s: u64 = headers
            .timestamp
            .parse()
            .ok()
            .filter(|_| is_number)
            .ok_or(Unsigned::Header(TIMESTAMP))?;
        let content = content(&headers.id, &headers.timestamp, body);
        let signatures = headers.signature.split(' ').take(SIGNATURES_MAX);
        let mut given = signatures.filter_map(|signature| signature.split_once(','));
        if !given.any(|(version, signature)| self.fits(version, signature, &content)) {
            return Err(Unsigned::Signature);
        }
        if sent_s.abs_diff(now_s) > TOLERANCE_S {
            return Err(Unsigned::Stale);
        }
        if headers.id != id {
            return Err(Unsigned::Id);
        }
        Ok(())
    }

    /// Compares in constant time.
    fn fits(&self, version: &str, signature: &str, content: &[u8]) -> bool {
        let Ok(signature) = BASE64_STANDARD.decode(signature) else {
            return false;
        };
        match version {
            "v1" => self
                .shared
                .iter()
                .filter_map(|secret| mac(secret, content))
                .any(|mac| mac.verify_slice(&signature).is_ok()),
            "v1a" => Signature::from_slice(&signature).is_ok_and(|signature| {
                self.verifying
                    .iter()
                    .any(|key| key.verify_strict(content, &signature).is_ok())
            }),
            _ => false,
        }
    }
}

/// A seed of 32 bytes, or the pair of seed and public key.
fn signing_key(bytes: &[u8]) -> Result<SigningKey, &'static str> {
    const PRIVATE: &str = "whsk_ and base64 of an Ed25519 key of 32 bytes, or of 64 with its public key";
    if let Ok(seed) = <&[u8; 32]>::try_from(bytes) {
        return Ok(SigningKey::from_bytes(seed));
    }
    let pair: &[u8; 64] = bytes.try_into().map_err(|_| PRIVATE)?;
    SigningKey::from_keypair_bytes(pair).map_err(|_| PRIVATE)
}

pub(crate) fn mac(secret: &[u8], content: &[u8]) -> Option<Hmac<Sha256>> {
    // A key of any length is taken; the length was checked where it was read.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(content);
    Some(mac)
}

/// Without a full stop in the id, what is signed can be taken apart in one way only.
fn is_id(id: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn content(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
