//! What the pure core is handed: the clock and randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use lethe_conductor::Moment;
use lethe_terms::{EntryId, Timestamp};

/// Now, in UTC. A clock before 1970 counts as 1970.
pub(crate) fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Random bytes of the operating system.
///
/// # Panics
/// Where the operating system has no randomness: nothing that Lethe promises would hold without it.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[allow(clippy::expect_used)]
    getrandom::fill(&mut bytes).expect("the operating system's randomness");
    bytes
}

/// The present moment for the conductor.
pub(crate) fn moment() -> Moment {
    Moment {
        now: now(),
        nonce: random(),
    }
}

/// A fresh entry id.
pub(crate) fn entry_id() -> EntryId {
    EntryId::from_bytes(random())
}
