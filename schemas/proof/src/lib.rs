//! Statements, receipts and certificates: how they are built and how they are verified, without I/O.
