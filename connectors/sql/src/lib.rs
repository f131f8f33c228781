//! PostgreSQL and SQLite behind a declarative mapping.
