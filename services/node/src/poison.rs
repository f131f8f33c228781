//! What stands among Lethe's own entries and can be none: written by somebody else, or damaged before it was written. No reader stops at it and
//! none acts on it. Who reads a queue alone puts it away ([`lethe_intake::Intake::put_away`]); everybody else passes it by. An entry of a newer version is no
//! such thing: whoever meets one stops, and goes on as that version.

use std::sync::Arc;

use async_trait::async_trait;
use lethe_intake::{Intake, Poison, unless_of_nobody};
use lethe_journal::{Event, Kind, Place, Position, Stored, Stream};
use lethe_log::{Page, Stray};
use tokio::sync::{SetOnce, watch};

use crate::Error;
use crate::patience::{Answering, Pauses};

/// The code of entries that a queue lost before they were read.
pub(crate) const FELL_OFF: &str = "node-fell-off";

/// What a page of a queue holds, by position.
pub(crate) struct Sorted<T> {
    /// The events.
    pub(crate) events: Vec<(Position, Event<T>)>,
    /// What is none.
    pub(crate) poison: Vec<Poison>,
}

/// Sorts a page of a queue.
///
/// # Errors
/// Where an entry is of a newer version.
pub(crate) fn sorted<T: Kind>(page: Page) -> Result<Sorted<T>, Error> {
    let mut events = Vec::with_capacity(page.entries.len());
    let mut poison: Vec<_> = page.strays.into_iter().map(of_stray).collect();
    for Stored { position, entry, .. } in page.entries {
        let Some(value) = entry.value else { continue };
        match Event::decode(&value) {
            Ok(event) => events.push((position, event)),
            Err(error) if error.is_of_nobody() => poison.push(of_nobody(position, value, &error)),
            Err(error) => return Err(error.into()),
        }
    }
    poison.sort_by_key(|one| one.position);
    Ok(Sorted { events, poison })
}

/// What is put away of an entry that no Lethe can read.
pub(crate) fn of_nobody(position: Position, value: Vec<u8>, error: &lethe_journal::Error) -> Poison {
    Poison {
        position,
        system: None,
        is_anybodys: false,
        code: error.code(),
        expected: format!("an entry that Lethe wrote: {error}"),
        value,
    }
}

/// What is put away of a stray.
pub(crate) fn of_stray(Stray { position, value, .. }: Stray) -> Poison {
    Poison {
        position,
        system: None,
        is_anybodys: false,
        code: Stray::CODE,
        expected: "an entry that Lethe appended: this has not the headers of one".to_owned(),
        value,
    }
}

/// Where a reader puts what can be no entry, before it goes on.
#[async_trait]
pub(crate) trait PutsAway: Send + Sync {
    /// Puts away what stands at a place of the log, as often as a log that may be well again does not take it. Whether the reader goes on behind it: not where `stop` comes first.
    ///
    /// # Errors
    /// Of the vault, and of a log that will not be well again.
    async fn put_away(
        &self,
        at: &Place,
        poison: &[Poison],
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error>;
}

/// The quarantine, as soon as this process has opened it: lineage is read before.
pub(crate) struct ToQuarantine {
    intake: SetOnce<Arc<Intake>>,
    answering: Arc<Answering>,
}

impl ToQuarantine {
    pub(crate) fn new(answering: Arc<Answering>) -> Self {
        Self {
            intake: SetOnce::new(),
            answering,
        }
    }

    /// From now on this intake puts away what waits for it.
    pub(crate) fn opened(&self, intake: &Arc<Intake>) {
        // It is opened once.
        let _ = self.intake.set(Arc::clone(intake));
    }
}

#[async_trait]
impl PutsAway for ToQuarantine {
    async fn put_away(
        &self,
        at: &Place,
        poison: &[Poison],
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let intake = tokio::select! {
            intake = self.intake.wait() => intake,
            _ = stop.wait_for(|stop| *stop) => return Ok(false),
        };
        let mut pauses = Pauses::new();
        loop {
            match intake.put_away(at, poison).await.map_err(Error::from) {
                Ok(_) => return Ok(true),
                Err(error) if !self.answering.passes(&error) => return Err(error),
                Err(_) if *stop.borrow() => return Ok(false),
                Err(_) => pauses.rest(stop).await,
            }
        }
    }
}

/// Says that a reader's position fell off the start of its queue, and stops the reader. What it missed is put away as a place without content, so
/// that it stands in the quarantine until an operator drops it; the next start finds it said and goes on with what is left.
///
/// # Errors
/// [`Error::Stopped`] where it was not said before.
pub(crate) async fn fell_off(
    intake: &Intake,
    (at, from): (&Place, Position),
    page: &Page,
    what: &'static str,
) -> Result<(), Error> {
    let entry = page.entries.first().map(|stored| stored.position);
    let stray = page.strays.first().map(|stray| stray.position);
    let left = entry.into_iter().chain(stray).min().unwrap_or(page.next);
    tracing::error!(code = FELL_OFF, %at, from, left, "entries of a queue were dropped before they were read");
    let missed = Poison {
        position: left.saturating_sub(1),
        system: None,
        is_anybodys: false,
        code: FELL_OFF,
        expected: format!("what stood there from {from} on: it was dropped before it was read"),
        value: Vec::new(),
    };
    if intake.put_away_lost(at, &missed).await? {
        return Err(Error::Stopped { what });
    }
    Ok(())
}

/// The event of an entry; nothing where it ends a key, and where it can be none, which is told.
///
/// # Errors
/// Where it is of a newer version.
pub(crate) fn event_of<T: Kind>(stream: &Stream, stored: &Stored) -> Result<Option<Event<T>>, Error> {
    let Some(value) = &stored.entry.value else {
        return Ok(None);
    };
    Ok(unless_of_nobody(Event::decode(value), stream, stored.position)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use lethe_journal::{Answer, CaseEntry, Entry, FailureCode, Inventory, ScanAsked, SystemTold};
    use lethe_log::EventLog;
    use lethe_terms::{CaseId, FailureClass, InstructionId};

    use super::*;
    use crate::board::{Board, silent, tell_one};
    use crate::cases::{self, Cases, Fold};
    use crate::nothing_known::NothingKnown;
    use crate::test_world::{World, config};
    use crate::{publish, scans, shell};

    fn garbage(key: &[u8], value: &[u8]) -> Entry {
        Entry {
            id: shell::entry_id(),
            key: key.to_vec(),
            value: Some(value.to_vec()),
        }
    }

    async fn put(world: &World, stream: Stream, entries: Vec<Entry>) -> Place {
        let at = Place::new(stream, 0);
        publish::append(&*world.log, &at, entries, "a test")
            .await
            .unwrap();
        at
    }

    fn answer() -> Answer {
        Answer::Failed {
            case: CaseId::from_bytes([1; 8]),
            instruction: InstructionId::from_bytes([2; 16]),
            class: FailureClass::Final,
            code: FailureCode("test".into()),
        }
    }

    #[tokio::test]
    async fn a_queue_gives_its_events_and_by_position_what_is_none() {
        let world = World::new();
        publish::answers(&*world.log, "/lethe/ledger", vec![answer()])
            .await
            .unwrap();
        let asked = ScanAsked {
            system: "shop".parse().unwrap(),
        };
        let other = publish::entry(b"k", "/lethe/gateway", asked).unwrap();
        let at = put(
            &world,
            Stream::Answers,
            vec![garbage(b"k", b"no event"), other, garbage(b"k", b"")],
        )
        .await;
        let mut page = world.log.read(&at, 0, 9).await.unwrap();
        page.strays.push(Stray {
            position: 2,
            key: Vec::new(),
            value: b"forged".to_vec(),
        });
        page.entries.remove(2);
        let sorted = sorted::<Answer>(page).unwrap();
        assert!(matches!(&sorted.events[..], [(0, event)] if event.data == answer()));
        let poison: Vec<_> = sorted.poison.iter().map(|one| (one.position, one.code)).collect();
        let malformed = "journal-malformed";
        assert_eq!(poison, [(1, malformed), (2, "log-stray"), (3, malformed)]);
    }

    #[tokio::test]
    async fn an_entry_of_a_newer_version_is_no_poison() {
        let world = World::new();
        let mut entry = publish::entry(b"k", "/lethe/ledger", answer()).unwrap();
        let text = String::from_utf8(entry.value.unwrap()).unwrap();
        entry.value = Some(text.replace("answer.v1", "answer.v2").into_bytes());
        let at = put(&world, Stream::Answers, vec![entry]).await;
        let page = world.log.read(&at, 0, 9).await.unwrap();
        let error = sorted::<Answer>(page).err().unwrap();
        assert_eq!(error.code(), "journal-newer-version");
    }

    #[tokio::test]
    async fn a_reader_that_fell_off_its_queue_stops_once_and_goes_on_at_the_next_start() {
        let world = World::new();
        let quarantine = Arc::new(crate::quarantine::Quarantine::new(
            Arc::clone(&world.log) as _,
            Arc::clone(&world.vault) as _,
            Arc::new(NothingKnown),
            BTreeMap::new(),
        ));
        let intake = world.intake(Arc::clone(&quarantine) as _);
        let at = put(&world, Stream::Commands, vec![garbage(b"k", b"x"); 5]).await;
        let before = BTreeMap::from([(0, 4)]);
        world.log.expire(&Stream::Commands, &before).await.unwrap();
        let page = world.log.read(&at, 1, 9).await.unwrap();
        assert!(page.fell_behind);
        let fell = fell_off(&intake, (&at, 1), &page, "a reader").await;
        assert_eq!(fell.unwrap_err().code(), "node-stopped");
        fell_off(&intake, (&at, 1), &page, "a reader").await.unwrap();
        quarantine.catch_up().await.unwrap();
        let list = quarantine.list(None, None, 9).await.unwrap();
        let told: Vec<_> = list.inputs.iter().map(|one| (&*one.place, &*one.code)).collect();
        assert_eq!(told, [("commands/0 at 3", FELL_OFF)]);
        assert!(list.inputs[0].expected.contains("from 1 on"), "{list:?}");
    }

    #[tokio::test]
    async fn who_follows_what_systems_tell_passes_by_what_is_no_entry() {
        let world = World::new();
        let shop = "shop".parse().unwrap();
        put(
            &world,
            Stream::Systems,
            vec![garbage(b"shop", b"no event"), garbage(b"scan:shop", b"no event")],
        )
        .await;
        tell_one(&*world.log, &shop, &silent(shop.clone(), "sql".into()))
            .await
            .unwrap();
        let board = Arc::new(Board::new(&[], Vec::new(), BTreeMap::new()));
        let mut changes = board.changes();
        let following =
            tokio::spawn(Arc::clone(&board).follow(Arc::clone(&world.log) as _, world.stopped.clone()));
        let told = changes.wait_for(|told| told.contains_key(&shop));
        drop(told.await.expect("what stands behind it is heard"));
        world.stop.send(true).unwrap();
        following.await.unwrap().unwrap();
        let recalled = scans::recall(&BTreeMap::new(), &*world.log).await;
        assert_eq!(recalled.unwrap(), 3);
        let told: Option<Event<SystemTold>> = event_of(
            &Stream::Systems,
            &world
                .log
                .read(&Place::new(Stream::Systems, 0), 2, 1)
                .await
                .unwrap()
                .entries[0],
        )
        .unwrap();
        assert!(told.is_some());
    }

    #[tokio::test]
    async fn what_can_be_no_entry_stops_the_case_whose_key_it_bears_and_no_other() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let intake = world.intake(Arc::new(NothingKnown));
        let keys = world.follow_ups(&intake, folder.path()).keys.clone();
        let inventory = Inventory {
            systems: Vec::new(),
            flows: Vec::new(),
        };
        let cases = Cases::of(lethe_conductor::Conductor::new(config(), inventory));
        let case = CaseId::from_bytes([7; 8]);
        let opened = lethe_journal::CaseEvent::Opened {
            command: lethe_terms::CommandId::from_bytes([1; 16]),
            opening: lethe_journal::Opening {
                right: lethe_terms::Right::Erasure,
                erasure_ground: Some(lethe_terms::ErasureGround::NotNecessary),
                restriction_ground: None,
                received_at: shell::now(),
                origin: lethe_journal::CaseOrigin::Requested,
                supersedes: None,
                given: lethe_journal::Sealed::from_bytes(Vec::new()),
                commitment: String::new(),
            },
            tokens: Vec::new(),
            due: shell::now(),
        };
        cases.look().replay(case, 0, &opened, shell::now()).unwrap();
        let entries = vec![
            garbage(case.as_bytes(), b"no event"),
            garbage(CaseId::from_bytes([8; 8]).as_bytes(), b"no event"),
            garbage(b"stray", b"no event"),
        ];
        let at = put(&world, Stream::Cases, entries).await;
        for stored in world.log.read(&at, 0, 9).await.unwrap().entries {
            assert!(Event::<CaseEntry>::decode(stored.entry.value.as_ref().unwrap()).is_err());
            cases::fold(&keys, &cases, &stored, Fold::Beginning)
                .await
                .unwrap();
        }
        let stopped: Vec<_> = cases.look().damaged().map(lethe_conductor::Error::case).collect();
        assert_eq!(stopped, [case]);
    }
}
