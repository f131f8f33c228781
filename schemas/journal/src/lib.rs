//! What Lethe writes down: streams, entries, and the events, commands, instructions and answers that travel in them.
//!
//! Pure: no I/O, no clock. Every value on the log is one CloudEvents 1.0 object; its `type` carries a version, and
//! an older version is read by upcasting ([`event`]). An entry of a newer version stops the fold of its stream.

mod answer;
mod case;
mod command;
mod entry;
mod event;
mod instruction;
mod plan;
mod process;
mod record;
mod sealed;
mod stream;
mod system;

pub use answer::{Answer, AnswerEvent, EnvelopeBytes, Found, LeafKind, RefusedAs};
pub use case::{CaseEntry, CaseEvent, CaseOrigin, CloseReason, FailureCode, LiftRequest, Opening, Person};
pub use command::{Command, CommandEvent};
pub use entry::{Entry, Epoch, Place, Position, Stored};
pub use event::{Error, Event, Kind, VALUE_BYTES_MAX, check, time_of};
pub use instruction::{Generation, Instruction, Order, Planned, Selectors, SelectorsWire};
pub use plan::{
    DatasetRef, Held, HoldingRef, Inventory, InventoryDataset, InventorySystem, Plan, PlannedException,
    Remark, RemarkCode, Step,
};
pub use process::{LagTold, ProcessTold};
pub use record::{
    CursorAdvanced, ErasedMark, InputDropped, InputEnded, InputOrigin, InputRetried, InputRetryAsked,
    InputStays, KeyWrapped, PlaceCleared, Quarantined, RecordObserved, RecordSecret, Stood, Token,
};
pub use sealed::Sealed;
pub use stream::{Stream, StreamKind, TABLE_PARTITIONS, partition_of};
pub use system::{LookAsked, PartitionOwned, ScanAsked, SystemTold};
