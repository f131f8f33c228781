//! From observations to sealed entries on the log: cursors, known-is-free, suppression, quarantine.
