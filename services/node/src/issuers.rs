//! Issuers of ids that a request names: whether some system has ids of theirs.

use lethe_gateway::backend::BackendError;
use lethe_journal::Inventory;
use lethe_terms::{Identifier, IssuedKind};

/// Kinds that a refusal names: enough to find the one that was meant, few enough to read.
const NAMED_MAX: usize = 5;

/// Refuses ids by an issuer of whom no system has any: nothing would be looked for by one that was mistyped. Where a system does not say by what it
/// can be searched, it may have them.
///
/// # Errors
/// Names the ids that systems have, the most alike first.
pub(crate) fn check(identifiers: &[Identifier], inventory: &Inventory) -> Result<(), BackendError> {
    let says = inventory
        .systems
        .iter()
        .all(|system| !system.locates_by.is_empty());
    let kinds = identifiers.iter().map(Identifier::issued_kind);
    let mut issued = kinds.filter(|kind| kind.issuer().is_some());
    let Some(unknown) = issued.find(|kind| says && !inventory.is_searchable_by(kind)) else {
        return Ok(());
    };
    Err(BackendError::Invalid {
        code: "node-unknown-issuer".into(),
        message: format!("no system has ids of the kind {unknown}"),
        expected: expected(&unknown.to_string(), inventory),
    })
}

fn expected(unknown: &str, inventory: &Inventory) -> String {
    let systems = inventory.systems.iter();
    let mut known: Vec<String> = systems
        .flat_map(|system| &system.locates_by)
        .filter(|known| known.kind().is_issued())
        .map(IssuedKind::to_string)
        .collect();
    known.sort_by_cached_key(|known| (strsim::damerau_levenshtein(known, unknown), known.clone()));
    known.dedup();
    known.truncate(NAMED_MAX);
    if known.is_empty() {
        return "an identifier that is no id: no system can be searched by ids".into();
    }
    known.join(", or ")
}
