//! Where each person's data lives: the fold of records, the walk, and the company graph. Pure.
