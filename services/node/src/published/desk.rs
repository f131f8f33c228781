//! The desk: takes batches of events over HTTP, seals what came in the clear, and puts all that is in order on the log at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use lethe_exchange::{EventData, EventName, PublishedEvent, Refused, SealedMessage};
use lethe_gateway::BackendError;
use lethe_gateway::events::EventResult;
use lethe_intake::{Taken, Turn};
use lethe_journal::{Entry, Place, Stream};
use lethe_log::EventLog;
use tokio::sync::OwnedMutexGuard;

use super::Checker;
use super::checking::Rejection;
use crate::backend::unavailable;
use crate::{Error, publish, shell};

/// What was accepted of a shard, by this process; nothing where that has to be looked up.
type Shard = Arc<tokio::sync::Mutex<Option<Taken>>>;

/// System and shard, as they stand in the key of an entry.
type ShardKey = String;

/// Where events over HTTP arrive.
pub(crate) struct Desk {
    log: Arc<dyn EventLog>,
    checker: Arc<Checker>,
    /// By shard: as many as are declared.
    shards: Mutex<BTreeMap<ShardKey, Shard>>,
}

/// An event that is in order and sealed, or why it is not.
type Prepared = Result<(EventName, Vec<u8>), Refused>;

impl Desk {
    pub(crate) fn new(log: Arc<dyn EventLog>, checker: Arc<Checker>) -> Self {
        Self {
            log,
            checker,
            shards: Mutex::default(),
        }
    }

    /// Takes a batch. What is accepted stands durably on the log when this returns.
    ///
    /// # Errors
    /// Of the vault and the log: then nothing is known of the whole batch, and the same again has the effect of once.
    pub(crate) async fn take(
        &self,
        caller: Option<&str>,
        events: Vec<Vec<u8>>,
    ) -> Result<Vec<EventResult>, Error> {
        let (checker, caller) = (Arc::clone(&self.checker), caller.map(str::to_owned));
        let prepared = tokio::task::spawn_blocking(move || {
            checker.tend()?;
            let one = |event: &Vec<u8>| prepare(&checker, caller.as_deref(), event);
            events.iter().map(one).collect::<Result<Vec<Prepared>, Error>>()
        });
        let prepared = prepared.await.map_err(|_| Error::Stopped {
            what: "the check of events",
        })??;
        let mut shards = self.locked(&prepared).await?;
        let (mut results, mut entries) = (Vec::new(), Vec::new());
        let mut accepted: BTreeMap<ShardKey, Taken> = BTreeMap::new();
        for event in prepared {
            let (name, value) = match event {
                Ok(event) => event,
                Err(refused) => {
                    results.push(told(refused));
                    continue;
                }
            };
            let key = name.key();
            let known = shards.get(&key).and_then(|shard| (**shard).clone());
            let taken = accepted
                .entry(key.clone())
                .or_insert_with(|| known.unwrap_or_default());
            results.push(match taken.turn(name.sequence.0) {
                Turn::Next => {
                    taken.take(name.sequence.0);
                    entries.push(Entry {
                        id: shell::entry_id(),
                        key: key.into_bytes(),
                        value: Some(value),
                    });
                    EventResult::Accepted
                }
                Turn::Repeated => EventResult::Repeated,
                Turn::Late => told(late(taken)),
                Turn::Unknown => told(unknown(taken)),
            });
        }
        if !entries.is_empty() {
            // Until it is certain what is stored, nothing is known of the shards.
            shards.values_mut().for_each(|shard| **shard = None);
            publish::append(
                &*self.log,
                &Place::new(Stream::Intake, 0),
                entries,
                "published events",
            )
            .await?;
        }
        for (key, taken) in accepted {
            if let Some(shard) = shards.get_mut(&key) {
                **shard = Some(taken);
            }
        }
        Ok(results)
    }

    /// The shards of a batch, held in one order by everybody, so that the log has their events in the order in which they were judged.
    async fn locked(
        &self,
        prepared: &[Prepared],
    ) -> Result<BTreeMap<ShardKey, OwnedMutexGuard<Option<Taken>>>, Error> {
        let names: BTreeSet<&EventName> = prepared.iter().flatten().map(|(name, _)| name).collect();
        let mut named: BTreeMap<ShardKey, &EventName> = BTreeMap::new();
        for name in names {
            named.entry(name.key()).or_insert(name);
        }
        let mut locked = BTreeMap::new();
        for (key, name) in named {
            let shard = {
                let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(shards.entry(key.clone()).or_default())
            };
            let mut shard = shard.lock_owned().await;
            if shard.is_none() {
                *shard = Some(taken_of(&self.checker, name)?);
            }
            locked.insert(key, shard);
        }
        Ok(locked)
    }
}

/// Checks an event, and seals it where it came in the clear.
fn prepare(checker: &Checker, caller: Option<&str>, event: &[u8]) -> Result<Prepared, Error> {
    let checked = match checker.check(event)? {
        Ok(checked) => checked,
        Err(Rejection { refused, name, .. }) => {
            // Who may not publish to a system learns nothing of it.
            let theirs =
                name.is_none_or(|name| !checker.knows(&name.system) || checker.may(caller, &name.system));
            return Ok(Err(if theirs { refused } else { not_yours() }));
        }
    };
    if !checker.may(caller, &checked.name.system) {
        return Ok(Err(not_yours()));
    }
    if let Some(refused) = checker.unreadable(&checked.record) {
        return Ok(Err(refused));
    }
    let sealed: PublishedEvent = match checked.sealed {
        Some((sealed, _)) if is_sealed_too_late(checker, &sealed)? => return Ok(Err(sealed_too_late())),
        Some((sealed, _)) => sealed,
        None => checker.keys.seal(checked.name.clone(), &checked.record)?,
    };
    // Nobody but the desk writes to a log without a broker: there its moment tells how long the event waits.
    let value = sealed.write_at(shell::now()).map_err(|_| Error::Stopped {
        what: "the writing of events",
    })?;
    Ok(Ok((checked.name, value)))
}

/// Whether an event is sealed to a key whose time to seal is over: it could outlive the key on the log.
fn is_sealed_too_late(checker: &Checker, event: &PublishedEvent) -> Result<bool, Error> {
    let EventData::Sealed(sealed) = &event.data else {
        return Ok(false);
    };
    let Ok(message) = SealedMessage::parse(sealed) else {
        return Ok(true);
    };
    Ok(!checker.keys.takes(message.recipient)?)
}

fn sealed_too_late() -> Refused {
    Refused {
        code: "exchange-unknown-key",
        place: "data_base64".to_owned(),
        expected: "a record sealed to a key that GET /v1/intake-keys lists".to_owned(),
    }
}

fn not_yours() -> Refused {
    Refused {
        code: "event-not-yours",
        place: "source".to_owned(),
        expected: "a system whose api_keys name the key that was shown".to_owned(),
    }
}

/// An event that comes after a later one of its shard.
pub(super) fn late(taken: &Taken) -> Refused {
    let above = taken.highest().unwrap_or_default();
    Refused {
        code: "event-late",
        place: "sequence".to_owned(),
        expected: format!("a sequence above {above}: publish the record again as it is now"),
    }
}

/// An event that lies so far below the others of its shard that nobody knows whether it was taken.
pub(super) fn unknown(taken: &Taken) -> Refused {
    let above = taken.highest().unwrap_or_default();
    Refused {
        code: "event-late",
        place: "sequence".to_owned(),
        expected: format!(
            "a sequence above {above}: this one is older than what is remembered and may have been taken or not; publish the record again as it is now"
        ),
    }
}

/// What was taken of a shard, as its cursor says; one that cannot be read says nothing, not even that nothing was taken.
pub(super) fn taken_of(checker: &Checker, name: &EventName) -> Result<Taken, Error> {
    let Some(cursor) = checker.intake.cursor(&name.system, &name.shard)? else {
        return Ok(Taken::default());
    };
    read_cursor(&cursor)
}

fn read_cursor(cursor: &str) -> Result<Taken, Error> {
    cursor.parse().map_err(|_| Error::Stopped {
        what: "the reading of a published shard, whose cursor on the log cannot be understood,",
    })
}

/// What the sender of a batch is told of an error. The same batch again has the effect of once, whatever became of this one.
pub(crate) fn not_taken(error: &Error) -> BackendError {
    match error {
        Error::Log(lethe_log::Error::Unknown(_)) => BackendError::Unknown {
            code: error.code().to_owned(),
            message: "whether the batch is on the log is unknown: send the same again".to_owned(),
        },
        error => unavailable(error),
    }
}

fn told(refused: Refused) -> EventResult {
    EventResult::Refused {
        code: refused.code.to_owned(),
        place: refused.place,
        expected: refused.expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_event_below_the_window_it_is_not_said_that_it_was_accepted() {
        let mut taken = Taken::default();
        (1..=1_000).for_each(|n| taken.take(n * 10));
        assert_eq!(taken.turn(5), Turn::Unknown);
        let refused = unknown(&taken);
        assert_eq!(refused.code, "event-late");
        assert!(
            refused.expected.starts_with("a sequence above 10000: "),
            "{}",
            refused.expected
        );
    }

    #[test]
    fn a_cursor_that_cannot_be_read_does_not_say_that_nothing_was_taken() {
        assert_eq!(read_cursor("@7,1-5").unwrap().highest(), Some(5));
        for wrong in ["", "1-5", "@7,5-1"] {
            assert_eq!(read_cursor(wrong).unwrap_err().code(), "node-stopped", "{wrong}");
        }
    }
}
