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
    /// Those identifiers of the record that are the erased person's, normalised. A record may name others, who asked for nothing.
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

    /// Those of the identifiers that are of erased people, by the case that had erased them. Only strong ones count: a shared address is
    /// nobody's.
    pub(crate) fn erased<'a>(
        &self,
        identifiers: impl IntoIterator<Item = &'a Identifier>,
        keys: &TokenKeys,
        now: Timestamp,
    ) -> BTreeMap<CaseId, Vec<Identifier>> {
        let mut erased: BTreeMap<CaseId, Vec<Identifier>> = BTreeMap::new();
        if self.marks.is_empty() {
            return erased;
        }
        for identifier in identifiers {
            if identifier.kind.strength() != Strength::Strong {
                continue;
            }
            let mark = self.marks.get(&keys.suppression(identifier));
            if let Some(mark) = mark.filter(|mark| mark.until > now) {
                erased.entry(mark.case).or_default().push(identifier.clone());
            }
        }
        erased
    }
}
