//! Putting events on the log where no single writer is needed.

use lethe_journal::{Entry, Event, Kind, Place};
use lethe_log::{Appended, EventLog};

use crate::{Error, shell};

/// An event of this moment as an entry.
pub(crate) fn entry<T: Kind>(key: &[u8], source: &'static str, data: T) -> Result<Entry, Error> {
    let id = shell::entry_id();
    let event = Event {
        id,
        source,
        time: shell::now(),
        data,
    };
    Ok(Entry {
        id,
        key: key.to_vec(),
        value: Some(event.encode()?),
    })
}

/// Appends entries; `what` names them where somebody else owns the partition.
pub(crate) async fn append(
    log: &dyn EventLog,
    at: &Place,
    entries: Vec<Entry>,
    what: &'static str,
) -> Result<(), Error> {
    match log.append(at, None, entries).await? {
        Appended::At { .. } => Ok(()),
        Appended::StaleEpoch { .. } => Err(Error::Fenced { what }),
    }
}
