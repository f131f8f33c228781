//! The offline verifier: a small program without network code.
