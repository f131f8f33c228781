//! The EventLog port, the memory log and the embedded durable log.
