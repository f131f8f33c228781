//! The connector contract, its host, and the conformance suite.
