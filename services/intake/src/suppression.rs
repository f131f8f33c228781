//! What comes back is caught: the fold of `erased`, and the check of new observations against it.

use std::collections::BTreeMap;

use lethe_journal::ErasedMark;
use lethe_terms::{
    CaseId, DatasetName, Identifier, RecordToken, Strength, SuppressionToken, SystemName, Timestamp,
};
use lethe_vault::TokenKeys;

/// Data of an erased person was observed again: recorded all the same, and told.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub system: SystemName,
    /// In which dataset.
    pub dataset: DatasetName,
    /// The case that had erased it.
    pub of: CaseId,
    /// The record.
    pub record: RecordToken,
    /// The identifiers of the record, normalised.
    pub identifiers: Vec<Identifier>,
}

impl std::fmt::Debug for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Finding({} {}, of {})", self.system, self.dataset, self.of)
    }
}

/// The marks that stand.
#[derive(Default)]
pub(crate) struct Suppressed {
    marks: BTreeMap<SuppressionToken, ErasedMark>,
}

impl Suppressed {
    pub(crate) fn set(&mut self, token: SuppressionToken, mark: Option<ErasedMark>) {
        match mark {
            Some(mark) => self.marks.insert(token, mark),
            None => self.marks.remove(&token),
        };
    }

    /// The case that had erased the person behind any of these identifiers. Only strong ones count: a shared address is nobody's.
    pub(crate) fn case_of(
        &self,
        identifiers: &[Identifier],
        keys: &TokenKeys,
        now: Timestamp,
    ) -> Option<CaseId> {
        if self.marks.is_empty() {
            return None;
        }
        identifiers
            .iter()
            .filter(|identifier| identifier.kind.strength() == Strength::Strong)
            .find_map(|identifier| {
                self.marks
                    .get(&keys.suppression(identifier))
                    .filter(|mark| mark.until > now)
            })
            .map(|mark| mark.case)
    }
}
