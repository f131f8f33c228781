//! Sealing to a public key: one encapsulation a session (HPKE, RFC 9180), then each message symmetrically.
//!
//! The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. A session exports one key (RFC 9180, 5.3), and
//! message number `n` of it is sealed with ChaCha20-Poly1305 (RFC 8439) under the nonce `0 (4 bytes) ‖ n (8, big-endian)`. So no message
//! but the first of a session costs a curve operation, and every message opens by itself, in any order.
//!
//! A sealed message is: format (1 byte) ‖ id of the recipient's key (8) ‖ id of the sender's key (8, only in format 2) ‖ encapsulated
//! key (32) ‖ number (8, big-endian) ‖ ciphertext and tag. In format 1 the sender is nobody (HPKE's mode *base*), in format 2 it
//! has proven a key of its own (mode *auth*). A key's id is the beginning of its SHA-256.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hpke::kem::X25519HkdfSha256;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

use crate::Error;
use crate::keys::{KEY_BYTES, KeyId, PrivateKey, PublicKey};

/// Sessions that an [`Opener`] remembers: a publisher begins one a start, and one that was dropped costs two curve operations.
pub const SESSIONS_MAX: usize = 1_024;

/// What the exported key of a session is for (RFC 9180, 5.3).
const EXPORT_CONTEXT: &[u8] = b"lethe/session/v1";

const BASE: u8 = 1;
const AUTH: u8 = 2;

type Aead = hpke::aead::ChaCha20Poly1305;
type Kdf = hpke::kdf::HkdfSha256;

/// The key of a session and what stands in front of each of its messages.
struct Session {
    cipher: ChaCha20Poly1305,
}

impl Session {
    fn new(export: impl FnOnce(&[u8], &mut [u8]) -> Result<(), hpke::HpkeError>) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        export(EXPORT_CONTEXT, key.as_mut_slice()).map_err(|_| Error::CannotOpen)?;
        Ok(Self {
            cipher: ChaCha20Poly1305::new((&*key).into()),
        })
    }
}

/// Seals messages of one session.
///
/// A session lives in one program and is never stored: two messages under one number would give both away.
pub struct Sealer {
    session: Session,
    head: Vec<u8>,
    enc: [u8; KEY_BYTES],
    next: u64,
}

impl Sealer {
    /// Begins a session to whoever holds the private half of `recipient`. `info` says what the session is for; both sides have to name the
    /// same. With a `sender` its key is proven to the recipient. `random` must be drawn anew for every session.
    ///
    /// # Errors
    /// [`Error::Key`] where nothing can be sealed to this key.
    pub fn begin(
        recipient: &PublicKey,
        sender: Option<&PrivateKey>,
        info: &[u8],
        random: &Zeroizing<[u8; KEY_BYTES]>,
    ) -> Result<Self, Error> {
        let mode = sender.map_or(OpModeS::Base, |sender| {
            OpModeS::Auth((sender.private.clone(), sender.public.0.clone()))
        });
        let mut drawn = Drawn(random);
        let (enc, context) =
            hpke::setup_sender_with_rng::<Aead, Kdf, X25519HkdfSha256>(&mode, &recipient.0, info, &mut drawn)
                .map_err(|_| Error::Key)?;
        let enc: [u8; KEY_BYTES] = enc.to_bytes().into();
        let mut head = vec![if sender.is_some() { AUTH } else { BASE }];
        head.extend_from_slice(&recipient.id().0);
        if let Some(sender) = sender {
            head.extend_from_slice(&sender.public.id().0);
        }
        head.extend_from_slice(&enc);
        Ok(Self {
            session: Session::new(|about, key| context.export(about, key))?,
            head,
            enc,
            next: 0,
        })
    }

    /// The encapsulated key, which every message of the session carries.
    pub const fn enc(&self) -> &[u8; KEY_BYTES] {
        &self.enc
    }

    /// Seals the next message for one context: the same context opens it, no other does.
    ///
    /// # Errors
    /// [`Error::UsedUp`] after 2^64 - 1 messages.
    pub fn seal(&mut self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, Error> {
        let number = self.next;
        self.next = number.checked_add(1).ok_or(Error::UsedUp)?;
        let payload = Payload {
            msg: plain,
            aad: context,
        };
        let ciphertext = self
            .session
            .cipher
            .encrypt(&nonce(number), payload)
            .map_err(|_| Error::UsedUp)?;
        Ok([&self.head, number.to_be_bytes().as_slice(), &ciphertext].concat())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({} sealed)", self.next)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce.into()
}

/// A sealed message, taken apart. Who it says it is from is proven only once it is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedMessage<'a> {
    /// The key that it is sealed to.
    pub recipient: KeyId,
    /// The key whose holder sealed it; nobody in mode *base*.
    pub sender: Option<KeyId>,
    enc: [u8; KEY_BYTES],
    number: u64,
    ciphertext: &'a [u8],
}

impl<'a> SealedMessage<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let (format, rest) = bytes.split_first().ok_or(Error::Malformed {
            expected: "a format byte first",
        })?;
        let cut = || Error::Malformed {
            expected: "key ids, an encapsulated key and a number before the ciphertext",
        };
        let (recipient, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (sender, rest) = match *format {
            BASE => (None, rest),
            AUTH => {
                let (sender, rest) = rest.split_first_chunk().ok_or_else(cut)?;
                (Some(KeyId(*sender)), rest)
            }
            _ => {
                return Err(Error::Malformed {
                    expected: "format 1 or 2",
                });
            }
        };
        let (enc, rest) = rest.split_first_chunk().ok_or_else(cut)?;
        let (number, ciphertext) = rest.split_first_chunk().ok_or_else(cut)?;
        Ok(Self {
            recipient: KeyId(*recipient),
            sender,
            enc: *enc,
            number: u64::from_be_bytes(*number),
            ciphertext,
        })
    }
}

impl fmt::Debug for SealedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SealedMessage(to {}, {} B)",
            self.recipient,
            self.ciphertext.len()
        )
    }
}

/// What tells sessions apart: recipient, sender, encapsulated key.
type SessionName = (KeyId, Option<KeyId>, [u8; KEY_BYTES]);

/// Opens messages of many sessions under one `info`, and remembers the sessions that were right.
pub struct Opener {
    info: Vec<u8>,
    sessions: BTreeMap<SessionName, (u64, Session)>,
    /// Counts uses, so that the session that was not used for longest goes first.
    used: u64,
}

impl Opener {
    /// An opener of sessions that were begun with this `info`.
    pub fn new(info: &[u8]) -> Self {
        Self {
            info: info.to_vec(),
            sessions: BTreeMap::new(),
            used: 0,
        }
    }

    /// Opens a message. `recipient` is the private half of [`SealedMessage::recipient`], `sender` the public key of
    /// [`SealedMessage::sender`] where there is one: looking both up is the caller's work, and decides who may say what.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] and [`Error::UnknownSender`] where the keys are not those of the message, [`Error::CannotOpen`].
    pub fn open(
        &mut self,
        recipient: &PrivateKey,
        sender: Option<&PublicKey>,
        message: &SealedMessage<'_>,
        context: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        if recipient.public.id() != message.recipient {
            return Err(Error::UnknownKey {
                key: message.recipient,
            });
        }
        if sender.map(PublicKey::id) != message.sender {
            return Err(Error::UnknownSender);
        }
        let name = (message.recipient, message.sender, message.enc);
        self.used += 1;
        if let Some((used, session)) = self.sessions.get_mut(&name) {
            *used = self.used;
            return unseal(session, message, context);
        }
        let session = receive(recipient, sender, &message.enc, &self.info)?;
        let plain = unseal(&session, message, context)?;
        // Only now: made-up messages must not push out sessions that are in use.
        self.remember(name, session);
        Ok(plain)
    }

    fn remember(&mut self, name: SessionName, session: Session) {
        if self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.insert(name, (self.used, session));
    }

    /// Drops every session to a key that was destroyed.
    pub fn drop_key(&mut self, recipient: KeyId) {
        self.sessions.retain(|(to, ..), _| *to != recipient);
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener({} sessions)", self.sessions.len())
    }
}

fn receive(
    recipient: &PrivateKey,
    sender: Option<&PublicKey>,
    enc: &[u8; KEY_BYTES],
    info: &[u8],
) -> Result<Session, Error> {
    let mode = sender.map_or(OpModeR::Base, |sender| OpModeR::Auth(sender.0.clone()));
    let enc = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(enc).map_err(|_| Error::CannotOpen)?;
    let context = hpke::setup_receiver::<Aead, Kdf, X25519HkdfSha256>(&mode, &recipient.private, &enc, info)
        .map_err(|_| Error::CannotOpen)?;
    Session::new(|about, key| context.export(about, key))
}

fn unseal(
    session: &Session,
    message: &SealedMessage<'_>,
    context: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let payload = Payload {
        msg: message.ciphertext,
        aad: context,
    };
    session
        .cipher
        .decrypt(&nonce(message.number), payload)
        .map(Zeroizing::new)
        .map_err(|_| Error::CannotOpen)
}

/// The random bits that the caller drew, as HPKE's library asks for them.
struct Drawn<'a>(&'a Zeroizing<[u8; KEY_BYTES]>);

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        // One draw of 32 bytes is all that an encapsulation asks for (RFC 9180, 7.1.3).
        for (to, from) in into.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(seed: u8) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new([seed; KEY_BYTES])
    }

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::derive(&bits(seed))
    }

    fn open(
        opener: &mut Opener,
        to: &PrivateKey,
        from: Option<&PrivateKey>,
        sealed: &[u8],
        context: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let message = SealedMessage::parse(sealed)?;
        let plain = opener.open(to, from.map(PrivateKey::public), &message, context)?;
        Ok(plain.to_vec())
    }

    #[test]
    fn messages_of_a_session_open_in_any_order_and_again() {
        let (to, from) = (key(1), key(2));
        for sender in [None, Some(&from)] {
            let mut sealer = Sealer::begin(to.public(), sender, b"info", &bits(9)).unwrap();
            let sealed: Vec<_> = (0..4_u8).map(|n| sealer.seal(&[n], &[n, n]).unwrap()).collect();
            let mut opener = Opener::new(b"info");
            for n in [3, 0, 2, 2, 1_u8] {
                let opened = open(&mut opener, &to, sender, &sealed[usize::from(n)], &[n]);
                assert_eq!(opened, Ok(vec![n, n]));
            }
            assert_eq!(opener.sessions.len(), 1, "one encapsulation serves all");
        }
    }

    #[test]
    fn nothing_opens_elsewhere_for_others_or_changed() {
        let (to, from, other) = (key(1), key(2), key(3));
        let mut sealer = Sealer::begin(to.public(), Some(&from), b"info", &bits(9)).unwrap();
        let sealed = sealer.seal(b"here", b"ada@example.org").unwrap();
        let mut opener = Opener::new(b"info");
        assert!(open(&mut opener, &to, Some(&from), &sealed, b"here").is_ok());
        assert_eq!(
            open(&mut opener, &to, Some(&from), &sealed, b"there"),
            Err(Error::CannotOpen)
        );
        assert_eq!(
            open(&mut opener, &to, Some(&other), &sealed, b"here"),
            Err(Error::UnknownSender)
        );
        assert_eq!(
            open(&mut opener, &to, None, &sealed, b"here"),
            Err(Error::UnknownSender)
        );
        assert!(matches!(
            open(&mut opener, &other, Some(&from), &sealed, b"here"),
            Err(Error::UnknownKey { .. })
        ));
        let mut otherwise = Opener::new(b"other info");
        assert_eq!(
            open(&mut otherwise, &to, Some(&from), &sealed, b"here"),
            Err(Error::CannotOpen)
        );
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                open(&mut opener, &to, Some(&from), &changed, b"here").is_err(),
                "byte {at} flipped"
            );
            assert!(
                open(&mut opener, &to, Some(&from), &sealed[..at], b"here").is_err(),
                "cut at {at}"
            );
        }
        assert_eq!(
            opener.sessions.len(),
            1,
            "what does not open leaves nothing behind"
        );
    }

    #[test]
    fn a_sender_cannot_be_claimed() {
        let (to, from, thief) = (key(1), key(2), key(3));
        let mut sealer = Sealer::begin(to.public(), Some(&thief), b"info", &bits(9)).unwrap();
        let mut sealed = sealer.seal(b"", b"forged").unwrap();
        sealed[9..17].copy_from_slice(&from.public().id().0);
        assert_eq!(
            open(&mut Opener::new(b"info"), &to, Some(&from), &sealed, b""),
            Err(Error::CannotOpen)
        );
    }

    #[test]
    fn memory_for_sessions_is_bounded_and_ends_with_the_key() {
        let to = key(1);
        let mut opener = Opener::new(b"");
        for n in 0..=SESSIONS_MAX {
            let mut random = bits(0);
            random[..8].copy_from_slice(&n.to_be_bytes());
            let sealed = Sealer::begin(to.public(), None, b"", &random)
                .unwrap()
                .seal(b"", b"")
                .unwrap();
            open(&mut opener, &to, None, &sealed, b"").unwrap();
        }
        assert_eq!(opener.sessions.len(), SESSIONS_MAX);
        opener.drop_key(to.public().id());
        assert_eq!(opener.sessions.len(), 0);
    }

    #[test]
    fn nothing_is_sealed_to_a_key_of_no_use() {
        let useless = PublicKey::from_bytes(&[0; 32]).unwrap();
        assert!(Sealer::begin(&useless, None, b"", &bits(1)).is_err());
    }
}
