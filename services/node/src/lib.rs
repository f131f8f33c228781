//! Roles, wiring and the lethe program.
