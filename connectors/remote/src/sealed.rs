//! Messages over topics: sealed under a secret that both sides share, since whoever may read a topic must not read about people, and whoever
//! may write to it must not speak for the program.
//!
//! ```text
//! value = 1 ‖ salt (32 bytes) ‖ ChaCha20-Poly1305(key, nonce 0, plain)
//! key   = HMAC-SHA256(secret, "lethe remote connector v1\n" direction "\n" system "\n" id "\n" salt)
//! plain = seconds since 1970, in decimal ‖ "\n" ‖ the message, JSON
//! ```
//!
//! The direction is `requests` or `replies`, the id is the entry's key. So a message opens as what it is only: none is taken for another
//! direction's, another system's, or the answer to another request. Each message has a key of its own, so that the nonce never repeats.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use hmac::Mac;
use lethe_terms::SystemName;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::error::Lost;
use crate::webhook::{self, Keys, TOLERANCE_S};
use crate::wire::{Wire, now_s};

/// Largest request, in bytes: 10,000 handles of the longest sort, with room.
pub const REQUEST_BYTES_MAX: usize = 12 << 20;

/// Version of the sealing, the first byte of every value.
const VERSION: u8 = 1;
/// Bytes of the salt of a message's key: as many as the key has, so that two are never the same.
const SALT_BYTES: usize = 32;
/// What the key of a message is for.
const PURPOSE: &str = "lethe remote connector v1";

/// Why a request was not put on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCarried {
    /// It did not happen.
    NotStored,
}

/// Carries sealed requests to where the program reads them, and brings what was written back.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Puts a request out under its id. What comes back under the same id arrives in the receiver: anybody may have written it.
    /// Where nobody knows whether the request is out, it is waited for as if it were.
    ///
    /// # Errors
    /// Where it is certain that the request is not out.
    async fn send(&self, id: &str, request: Vec<u8>) -> Result<mpsc::Receiver<Vec<u8>>, NotCarried>;
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Replies => "replies",
        }
    }
}

/// The secrets that both sides have: the first seals, any of them opens.
pub(crate) struct Sealing(Vec<Zeroizing<Vec<u8>>>);

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealing(redacted)")
    }
}

impl Sealing {
    /// With the shared secrets of a key file; nothing where it has none.
    pub(crate) fn new(keys: &Keys) -> Option<Self> {
        let shared = keys.shared();
        (!shared.is_empty()).then(|| Self(shared.to_vec()))
    }

    fn seal(
        &self,
        context: &Context<'_>,
        salt: [u8; SALT_BYTES],
        sent_s: u64,
        body: &[u8],
    ) -> Option<Vec<u8>> {
        let plain = Zeroizing::new([sent_s.to_string().as_bytes(), b"\n", body].concat());
        let cipher = context.cipher(self.0.first()?, &salt)?;
        let sealed = cipher.encrypt(&Nonce::default(), plain.as_slice()).ok()?;
        Some([&[VERSION], salt.as_slice(), &sealed].concat())
    }

    /// What stands in a message that was sealed under one of the secrets about `now_s`.
    fn open(&self, context: &Context<'_>, now_s: u64, value: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = value.split_first()?;
        let (salt, sealed) = rest.split_at_checked(SALT_BYTES)?;
        if *version != VERSION {
            return None;
        }
        let opened = self.0.iter().find_map(|secret| {
            let cipher = context.cipher(secret, salt)?;
            cipher.decrypt(&Nonce::default(), sealed).ok()
        });
        let plain = Zeroizing::new(opened?);
        let end = plain.iter().position(|byte| *byte == b'\n')?;
        let (sent, body) = (plain.get(..end)?, plain.get(end + 1..)?);
        let sent_s: u64 = std::str::from_utf8(sent).ok()?.parse().ok()?;
        (sent_s.abs_diff(now_s) <= TOLERANCE_S).then(|| body.to_vec())
    }
}

/// Of which message one key is.
struct Context<'a> {
    direction: Direction,
    system: &'a SystemName,
    id: &'a str,
}

impl Context<'_> {
    fn cipher(&self, secret: &[u8], salt: &[u8]) -> Option<ChaCha20Poly1305> {
        let (direction, system, id) = (self.direction.name(), self.system, self.id);
        let context = format!("{PURPOSE}\n{direction}\n{system}\n{id}\n");
        let key = webhook::mac(secret, &[context.as_bytes(), salt].concat())?;
        let key = Zeroizing::new(<[u8; 32]>::from(key.finalize().into_bytes()));
        ChaCha20Poly1305::new_from_slice(key.as_slice()).ok()
    }
}

/// The program at the other end of two topics.
pub(crate) struct SealedTopics {
    system: SystemName,
    sealing: Sealing,
    carrier: Arc<dyn Carrier>,
    time: Duration,
}

impl SealedTopics {
    pub(crate) fn new(
        system: SystemName,
        sealing: Sealing,
        carrier: Arc<dyn Carrier>,
        time: Duration,
    ) -> Self {
        Self {
            system,
            sealing,
            carrier,
            time,
        }
    }

    fn context<'a>(&'a self, direction: Direction, id: &'a str) -> Context<'a> {
        Context {
            direction,
            system: &self.system,
            id,
        }
    }

    async fn reply(&self, id: &str, request: Vec<u8>) -> Result<Vec<u8>, Lost> {
        let mut replies = self
            .carrier
            .send(id, request)
            .await
            .map_err(|NotCarried::NotStored| Lost::NotOnLog)?;
        let context = self.context(Direction::Replies, id);
        while let Some(reply) = replies.recv().await {
            // What does not open may be anybody's, and must not end a call that the program still answers.
            if let Some(body) = self.sealing.open(&context, now_s(), &reply) {
                return Ok(body);
            }
        }
        Err(Lost::NoAnswer)
    }
}

#[async_trait]
impl Wire for SealedTopics {
    async fn exchange(&self, id: &str, body: Vec<u8>) -> Result<Vec<u8>, Lost> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| Lost::NotOnLog)?;
        let sealed = self
            .sealing
            .seal(&self.context(Direction::Requests, id), salt, now_s(), &body)
            .filter(|sealed| sealed.len() <= REQUEST_BYTES_MAX)
            .ok_or(Lost::NotOnLog)?;
        tokio::time::timeout(self.time, self.reply(id, sealed))
            .await
            .unwrap_or(Err(Lost::NoAnswer))
    }
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
