//! What Lethe writes down: streams, entries, events and instructions as CloudEvents.
