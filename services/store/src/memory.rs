//! The store in memory: what the others are compared with, and what tests and simulations run on.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lethe_journal::{Position, Stream};

use crate::{Batch, Error, Row, Store};

/// Rows and positions in memory. Share it through an [`std::sync::Arc`]; it lives as long as the last handle.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    positions: BTreeMap<Stream, Position>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change is ever half applied while the lock is held, so a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({} rows)", self.state().rows.len())
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.state().rows.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, Error> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let state = self.state();
        let rows = state.rows.range::<[u8], _>((start, Bound::Unbounded));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, stream: &Stream, from: Position, to: Position, batch: &Batch) -> Result<(), Error> {
        let mut state = self.state();
        batch.check(from, to, state.positions.get(stream).copied().unwrap_or(0))?;
        for (key, value) in batch.changes() {
            match value {
                Some(value) => state.rows.insert(key.clone(), value.clone()),
                None => state.rows.remove(key),
            };
        }
        state.positions.insert(stream.clone(), to);
        Ok(())
    }

    fn position(&self, stream: &Stream) -> Result<Position, Error> {
        Ok(self.state().positions.get(stream).copied().unwrap_or(0))
    }

    fn wipe(&self) -> Result<(), Error> {
        *self.state() = State::default();
        Ok(())
    }
}
