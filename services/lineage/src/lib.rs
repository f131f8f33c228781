//! Where each person's data lives: the fold of records, the walk, and the company graph. Pure.
//!
//! The fold is handed a reader of rows ([`Rows`]) and gives back changes; it never learns where rows live. A person is what a
//! [`Walk`] reaches at request time: nothing here merges people. A walk asks the owners of all partitions at once
//! ([`Ask`]), each of which answers from its own rows ([`answer`]).
//!
//! Rows of one partition: `r` + record token -> the record; `i` + identifier token + record token -> nothing (the local index);
//! `k` + record token or case id -> the wrapped data key.

mod alone;
mod company;
mod error;
mod fold;
mod graph;
mod hash;
mod picture;
mod query;
mod reached;
mod row;
mod walk;

pub use company::{Dependency, company_graph, layers, must_precede};
pub use error::Error;
pub use fold::{CHUNK_CHANGES_MAX, Chunk, Displaced, Folded, Stretch, fold};
pub use graph::{LineageEdge, LineageNode, lineage_graph};
pub use hash::{StateHash, state_hash};
pub use picture::{Picture, PictureEdge, PictureNode, PictureWhat, dot, picture};
pub use query::{
    Ask, Held, PartAnswer, Seen, answer, known_digest, record, records_by_dataset, records_of, wrapped_key,
};
pub use reached::{
    Bound, ByIdAlone, Candidate, Hop, Link, Reached, ReachedIdentifier, ReachedRecord, Standing,
};
pub use row::{Change, RowPair, Rows};
pub use walk::{Limits, Next, Walk};
