//! What compaction reports.

/// What a compaction or an expiry of one stream did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Entries that stayed.
    pub kept_entries: u64,
    /// Entries that went: replaced ones, ended keys, tombstones that every reader has passed, expired ones.
    pub removed_entries: u64,
    /// Of those, tombstones that were the newest entry of their key.
    pub removed_tombstones: u64,
    /// Size of the stream's file before, in bytes; 0 where nothing lies in files.
    pub bytes_before: u64,
    /// Size of the stream's file after, in bytes; 0 where nothing lies in files.
    pub bytes_after: u64,
}
