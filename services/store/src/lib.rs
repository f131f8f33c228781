//! The Store port for derived state, and the memory store.
