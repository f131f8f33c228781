//! Keys of X25519 and their names.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, Serializable as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::Error;

/// Bytes of every key, and of the random bits that a key or session is made of.
pub const KEY_BYTES: usize = 32;

/// Bytes of a key's id.
const ID_BYTES: usize = 8;

/// Names a public key: the first eight bytes of its SHA-256, 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; ID_BYTES]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id).map_err(|_| Error::Key)?;
        Ok(Self(id))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for KeyId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{16}$" })
    }
}

/// A public key of X25519. Base64 on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(pub(crate) <X25519HkdfSha256 as Kem>::PublicKey);

impl PublicKey {
    /// The key made of these bytes.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| Error::Key)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; KEY_BYTES] {
        self.0.to_bytes().into()
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(self.to_bytes()).into();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        KeyId(id)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_bytes(&STANDARD.decode(text).map_err(|_| Error::Key)?)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for PublicKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublicKey".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "contentEncoding": "base64", "minLength": 44, "maxLength": 44 })
    }
}

/// A private key of X25519 with its public half.
#[derive(Clone)]
pub struct PrivateKey {
    pub(crate) private: <X25519HkdfSha256 as Kem>::PrivateKey,
    pub(crate) public: PublicKey,
}

impl PrivateKey {
    /// The key that follows from random bits (RFC 9180, 7.1.3).
    pub fn derive(random: &Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let (private, public) = X25519HkdfSha256::derive_keypair(random.as_slice());
        Self {
            private,
            public: PublicKey(public),
        }
    }

    /// The key made of these bytes.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let private = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(bytes).map_err(|_| Error::Key)?;
        let public = PublicKey(X25519HkdfSha256::sk_to_pk(&private));
        Ok(Self { private, public })
    }

    /// Its bytes, for whoever keeps it.
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(self.private.to_bytes().into())
    }

    /// Its public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(redacted, {})", self.public.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_show_nothing() {
        let key = PrivateKey::derive(&Zeroizing::new([1; KEY_BYTES]));
        let again = PrivateKey::from_bytes(&*key.to_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        let text = serde_json::to_string(key.public()).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&text).unwrap(), *key.public());
        assert_eq!(key.public().id().to_string().parse(), Ok(key.public().id()));
        assert_eq!("AAAA".parse::<PublicKey>(), Err(Error::Key));
        assert!(format!("{key:?}").starts_with("PrivateKey(redacted"));
    }
}
