//! The person in a certificate: a hiding commitment, which only who has the random opening and the identifier can check.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

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
