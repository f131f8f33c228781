//! DSSE envelopes: a signature over the type and the bytes of a payload.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature as Ed25519, Signer as _, SigningKey, VerifyingKey};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Statement, parse_canonical, to_canonical};

/// Largest payload, in bytes: a plan of thousands of steps fits, a hostile file does not fill memory.
const PAYLOAD_BYTES_MAX: usize = 2 << 20;

/// A signed payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// Media type of the payload.
    pub payload_type: String,
    /// The payload, standard base64.
    pub payload: String,
    /// Exactly one signature.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Digest of the public key, `sha256:<hex>`.
    pub keyid: String,
    /// The Ed25519 signature, standard base64.
    pub sig: String,
}

/// The bytes that a signature is over (DSSE v1 pre-authentication encoding).
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Id of a key: digest of its public bytes, `sha256:<hex>`.
pub fn key_id(key: &VerifyingKey) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(key.as_bytes())))
}

impl Envelope {
    /// Signs a value as canonical JSON.
    ///
    /// # Errors
    /// Where the value has no JSON form.
    pub fn sign<T: Serialize>(payload_type: &str, value: &T, key: &SigningKey) -> Result<Self, Error> {
        Ok(Self::sign_bytes(
            payload_type,
            &to_canonical("statement", value)?,
            key,
        ))
    }

    /// Signs a statement that somebody else wrote as canonical JSON, after reading it: nothing is signed that the verifier would not read.
    ///
    /// # Errors
    /// Where the text is not such a statement in its one form.
    pub fn sign_text<T: Statement>(text: &str, key: &SigningKey) -> Result<Self, Error> {
        parse_canonical::<T>(T::WHAT, text.as_bytes())?.check_form()?;
        Ok(Self::sign_bytes(T::PAYLOAD_TYPE, text.as_bytes(), key))
    }

    /// Signs a statement.
    ///
    /// # Errors
    /// Where a field does not have its form.
    pub fn sign_statement<T: Statement>(statement: &T, key: &SigningKey) -> Result<Self, Error> {
        statement.check_form()?;
        Self::sign(T::PAYLOAD_TYPE, statement, key)
    }

    /// Signs bytes that are canonical JSON already. Nobody looks at them: see [`Envelope::sign_text`].
    pub fn sign_bytes(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let signature = key.sign(&pae(payload_type, payload));
        Self {
            payload_type: payload_type.to_owned(),
            payload: STANDARD.encode(payload),
            signatures: vec![Signature {
                keyid: key_id(&key.verifying_key()),
                sig: STANDARD.encode(signature.to_bytes()),
            }],
        }
    }

    /// The envelope as canonical JSON text.
    ///
    /// # Errors
    /// Never for an envelope that was built here.
    pub fn to_text(&self) -> Result<String, Error> {
        String::from_utf8(to_canonical("envelope", self)?)
            .map_err(|_| Error::malformed("envelope", "not UTF-8"))
    }

    /// Reads an envelope from its canonical JSON text.
    ///
    /// # Errors
    /// Where the text is anything else.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        parse_canonical("envelope", text.as_bytes())
    }

    /// Digest of what is signed, `sha256:<hex>`: what a leaf and other statements quote.
    ///
    /// # Errors
    /// Where the payload is not base64.
    pub fn digest(&self) -> Result<String, Error> {
        let payload = self.payload_bytes("envelope")?;
        Ok(format!(
            "sha256:{}",
            hex::encode(Sha256::digest(pae(&self.payload_type, &payload)))
        ))
    }

    fn payload_bytes(&self, what: &'static str) -> Result<Vec<u8>, Error> {
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(Error::malformed(
                what,
                format!("payload above {PAYLOAD_BYTES_MAX} bytes"),
            ));
        }
        STANDARD
            .decode(&self.payload)
            .map_err(|_| Error::malformed(what, "payload is not base64"))
    }

    /// Checks type, signature and form of a statement.
    ///
    /// # Errors
    /// As [`Envelope::open`].
    pub fn open_statement<T: Statement>(&self, key: &VerifyingKey) -> Result<T, Error> {
        let statement: T = self.open(T::WHAT, T::PAYLOAD_TYPE, key)?;
        statement.check_form()?;
        Ok(statement)
    }

    /// Checks type and signature, then reads the same bytes as a value.
    ///
    /// # Errors
    /// [`Error::Signature`] where the key did not sign this, [`Error::Malformed`] where it is not of the expected form.
    pub fn open<T: DeserializeOwned + Serialize>(
        &self,
        what: &'static str,
        payload_type: &str,
        key: &VerifyingKey,
    ) -> Result<T, Error> {
        if self.payload_type != payload_type {
            return Err(Error::malformed(
                what,
                format!("expected payload type {payload_type}"),
            ));
        }
        let [signature] = self.signatures.as_slice() else {
            return Err(Error::malformed(what, "expected exactly one signature"));
        };
        if signature.keyid != key_id(key) {
            return Err(Error::Signature { what });
        }
        let payload = self.payload_bytes(what)?;
        let bytes = STANDARD
            .decode(&signature.sig)
            .map_err(|_| Error::malformed(what, "signature is not base64"))?;
        let bytes =
            Ed25519::from_slice(&bytes).map_err(|_| Error::malformed(what, "signature is not 64 bytes"))?;
        // Strict: a key of small order or a second form of a signature would let one signature stand for several statements.
        key.verify_strict(&pae(payload_type, &payload), &bytes)
            .map_err(|_| Error::Signature { what })?;
        parse_canonical(what, &payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pre_authentication_encoding_is_that_of_the_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn only_the_signing_key_opens_an_envelope_and_only_as_its_type() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let other = SigningKey::from_bytes(&[2; 32]);
        let envelope = Envelope::sign("a/b", &"x", &key).unwrap();
        assert_eq!(
            envelope.open::<String>("test", "a/b", &key.verifying_key()),
            Ok("x".into())
        );
        let wrong_key = envelope.open::<String>("test", "a/b", &other.verifying_key());
        assert_eq!(wrong_key, Err(Error::Signature { what: "test" }));
        assert!(matches!(
            envelope.open::<String>("test", "a/c", &key.verifying_key()),
            Err(Error::Malformed { .. })
        ));
    }
}
