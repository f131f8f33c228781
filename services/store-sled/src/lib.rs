//! Derived state on sled, contained: damage is detected and the store rebuilt from the log.
