//! The real programs on real servers, end to end.
