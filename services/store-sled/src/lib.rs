//! Derived state on sled 0.34, contained: damage is detected and the store rebuilt from the log.
//!
//! What sled does not promise, and what stands here instead (each was measured):
//!
//! | sled 0.34 | here |
//! |---|---|
//! | `flush` is `sync_file_range`, not fsync | `sync_all` on a handle of our own before a position counts |
//! | opening a damaged file panics, or loses a tail or a whole tree in silence | every call is contained; rows are counted and summed in the batch that changes them, a manifest outside sled names the totals, and all rows are read and compared at open |
//! | removed values stay in its files | [`SledStore::compact`] copies what lives into a new folder and removes the old one |
//! | batches of 10,000 rows cost 25 times the memory | the Store port refuses more than 1,000 |
//!
//! Layout of a folder: `lock`, `manifest` (two slots, written in turn), and one folder `rows-<generation>` that sled owns.

mod engine;
mod manifest;
mod store;
mod totals;

pub use store::{Condition, Opened, SledStore};
