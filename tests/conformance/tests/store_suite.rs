//! The suite of the Store port on every implementation, and on the mutants.

#![allow(clippy::unwrap_used, clippy::redundant_closure)]

use std::sync::Arc;

use lethe_conformance::store::mutants::{Fault, MUTANTS, MutantSite};
use lethe_conformance::store::{Site, broken};
use lethe_conformance::store_suite;
use lethe_store::{MemoryStore, Store};
use lethe_store_sled::{Condition, SledStore};

/// The memory store lives as long as its site.
#[derive(Default)]
struct MemorySite(Arc<MemoryStore>);

impl Site for MemorySite {
    fn open(&self) -> Box<dyn Store> {
        Box::new(Arc::clone(&self.0))
    }
}

struct SledSite(tempfile::TempDir);

impl SledSite {
    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Site for SledSite {
    fn open(&self) -> Box<dyn Store> {
        let opened = SledStore::open(self.0.path()).unwrap();
        assert!(
            !matches!(opened.condition, Condition::Rebuild { .. }),
            "{:?}",
            opened.condition
        );
        Box::new(opened.store)
    }
}

/// A sled store that is compacted whenever it is opened: its rows are those of the copy.
struct CompactedSite(SledSite);

impl Site for CompactedSite {
    fn open(&self) -> Box<dyn Store> {
        let opened = SledStore::open(self.0.0.path()).unwrap();
        opened.store.compact().unwrap();
        Box::new(opened.store)
    }
}

store_suite!(memory, || MemorySite::default());
store_suite!(sled, || SledSite::fresh());
store_suite!(sled_compacted, || CompactedSite(SledSite::fresh()));
store_suite!(mutant_without_fault, || MutantSite::new(Fault::None));

#[test]
fn each_mutant_is_caught_by_its_check() {
    for (fault, check) in MUTANTS {
        let broken = broken(|| Box::new(MutantSite::new(*fault)));
        assert!(
            broken.contains(check),
            "{fault:?} is not caught by {check}, only by {broken:?}"
        );
    }
}
