//! The person in a certificate: a hiding commitment, which only who has the random opening and the identifier can check.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use lethe_terms::{Identifier, IdentifierKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::Error;

/// How the commitment is made: HMAC-SHA256 under 32 random bytes of this one request, over length-prefixed controller, kind and value.
pub const SUBJECT_SCHEME: &str = "lethe-subject/v1";

/// Commits to an identifier. The random bytes go to the person and to an erasable place; a key of fixed length makes it binding.
pub fn commit(random: &[u8; 32], controller: &str, kind: &str, value: &str) -> String {
    // HMAC pads a shorter key with zeros to the block length; done here, so that no length can be wrong.
    let mut key = [0; 64];
    key[..32].copy_from_slice(random);
    let mut mac = Hmac::<Sha256>::new(&key.into());
    for part in [SUBJECT_SCHEME, controller, kind, value] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part.as_bytes());
    }
    hex::encode(mac.finalize().into_bytes())
}

/// Whether an opening and an identifier are those behind a commitment.
pub fn check_commitment(
    commitment: &str,
    random: &[u8; 32],
    controller: &str,
    kind: &str,
    value: &str,
) -> bool {
    commit(random, controller, kind, value) == commitment
}

/// Largest opening file, in bytes: a real one has less than 300.
pub const OPENING_BYTES_MAX: usize = 4_096;

/// What opens the commitment to a person, without the identifier itself. Who has it and the certificate can try identifiers, so it goes to the
/// person and to whoever may check for them; `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectOpening {
    /// `lethe-subject/v1`.
    pub scheme: String,
    /// Id of the controller.
    pub controller: String,
    /// Kind of the identifier that was committed to: the first that the person gave.
    pub kind: IdentifierKind,
    /// The 32 random bytes, hexadecimal.
    pub random: String,
}

impl fmt::Debug for SubjectOpening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectOpening({}, redacted)", self.kind)
    }
}

impl SubjectOpening {
    /// The opening of a commitment that is made under these random bytes.
    pub fn new(random: &[u8; 32], controller: &str, kind: IdentifierKind) -> Self {
        Self {
            scheme: SUBJECT_SCHEME.to_owned(),
            controller: controller.to_owned(),
            kind,
            random: hex::encode(random),
        }
    }

    /// The opening as a file that people can read.
    ///
    /// # Errors
    /// Never for an opening that was built here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|_| Error::malformed("opening", "has no JSON form"))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads an opening file, in any JSON layout.
    ///
    /// # Errors
    /// Where it is too large, not an opening, or of another scheme. No error quotes it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |reason| Error::malformed("opening", reason);
        if bytes.len() > OPENING_BYTES_MAX {
            return Err(wrong("too large"));
        }
        let opening: Self = serde_json::from_slice(bytes)
            .map_err(|_| wrong("expected JSON with scheme, controller, kind and random"))?;
        if opening.scheme != SUBJECT_SCHEME {
            return Err(wrong("of an unknown scheme: expected lethe-subject/v1"));
        }
        opening
            .bytes()
            .ok_or_else(|| wrong("random is not 64 hexadecimal digits"))?;
        Ok(opening)
    }

    /// Whether this and an identifier, in the spelling that it was committed to, are those behind a commitment.
    pub fn opens(&self, commitment: &str, identifier: &Identifier) -> bool {
        identifier.kind == self.kind
            && self.bytes().is_some_and(|random| {
                let kind = identifier.name();
                check_commitment(commitment, &random, &self.controller, &kind, &identifier.value)
            })
    }

    fn bytes(&self) -> Option<[u8; 32]> {
        let mut random = [0; 32];
        hex::decode_to_slice(&self.random, &mut random).ok()?;
        Some(random)
    }
}
