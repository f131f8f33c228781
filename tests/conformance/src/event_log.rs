//! The suite of the EventLog port.
