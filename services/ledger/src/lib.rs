//! The RFC 6962 tree on disk, its signed checkpoint, and the evidence store.
