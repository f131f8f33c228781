//! Putting events on the log where no single writer is needed.

use lethe_journal::{Answer, Command, Entry, Event, Kind, Place, Stream};
use lethe_log::{Appended, EventLog};

use crate::{Error, shell};

/// An event of this moment as an entry.
pub(crate) fn entry<T: Kind>(
    key: &[u8],
    source: &'static str,
    data: T,
) -> Result<Entry, lethe_journal::Error> {
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

/// Puts a command on the log.
pub(crate) async fn command(log: &dyn EventLog, source: &'static str, command: Command) -> Result<(), Error> {
    let case = command.case();
    let entry = entry(case.as_bytes(), source, command)?;
    append(log, &Place::new(Stream::Commands, 0), vec![entry], "commands").await
}

/// Puts answers on the log, all or none.
pub(crate) async fn answers(
    log: &dyn EventLog,
    source: &'static str,
    answers: Vec<Answer>,
) -> Result<(), Error> {
    let entries = answers
        .into_iter()
        .map(|answer| {
            let case = answer.case();
            entry(case.as_bytes(), source, answer)
        })
        .collect::<Result<Vec<_>, _>>()?;
    append(log, &Place::new(Stream::Answers, 0), entries, "answers").await
}
