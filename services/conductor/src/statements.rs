//! What the ledger is asked to sign: the public plan, and the completion statement.

use lethe_casework::Case;
use lethe_journal::{EnvelopeBytes, Plan};
use lethe_terms::Timestamp;

use crate::Config;

/// Digest of what an envelope signs, `sha256:<hex>`.
pub(crate) fn envelope_digest(_envelope: &EnvelopeBytes) -> Option<String> {
    None
}

/// The public statement of a plan, as canonical JSON.
pub(crate) fn of_plan(_config: &Config, _plan: &Plan, _digest: &str, _nonce: [u8; 16]) -> Option<String> {
    None
}

/// The completion statement of a case, as canonical JSON.
pub(crate) fn of_completion(_config: &Config, _case: &Case, _certificate: [u8; 16], _nonce: [u8; 16], _now: Timestamp) -> Option<String> {
    None
}
