//! For tests: an intake before any record was seen.

use std::collections::BTreeMap;

use async_trait::async_trait;
use lethe_intake::{Inputs, Known, KnownRecord};
use lethe_journal::Position;
use lethe_terms::{EntryId, RecordToken};

/// A fold that knows no record.
pub(crate) struct NothingKnown;

#[async_trait]
impl Known for NothingKnown {
    async fn known(
        &self,
        _: &[RecordToken],
    ) -> Result<BTreeMap<RecordToken, KnownRecord>, lethe_intake::Error> {
        Ok(BTreeMap::new())
    }

    async fn settled(&self) -> bool {
        true
    }
}

#[async_trait]
impl Inputs for NothingKnown {
    fn holds(&self, _: EntryId) -> bool {
        false
    }

    async fn parts_of(&self, _: &[RecordToken]) -> Result<Vec<Position>, lethe_intake::Error> {
        Ok(Vec::new())
    }
}
