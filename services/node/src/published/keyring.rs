//! The intake keys as this process knows them, and sealing as the server itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_exchange::{EventName, KeyId, PublishedEvent, PublishedRecord, Publisher};
use lethe_gateway::events::{IntakeKeyList, IntakeKeyView};
use lethe_journal::Stream;
use lethe_log::{EventLog, GoneBy};
use lethe_terms::Timestamp;
use lethe_vault::{IntakeKey, IntakeLook, IntakeTimes, KeyVault};
use zeroize::Zeroizing;

use crate::{Error, shell};

/// How long publishers may go on with a key after a newer one was made: they fetch keys when they start, and programs are started once a week.
const OVERLAP: Duration = Duration::from_hours(7 * 24);

/// How long sealed events may wait in the embedded log, which keeps a queue until it was read: a server that is off for a week.
const EMBEDDED_WAIT: Duration = Duration::from_hours(7 * 24);

/// How often the keys are looked after wherever they are used, in milliseconds: they live for days, and another process may have made one.
const TEND_EVERY_MS: i64 = 60_000;

/// The intake keys, and a session that seals to the newest.
pub(crate) struct IntakeKeyring {
    vault: Arc<dyn KeyVault>,
    times: IntakeTimes,
    /// Whether what is sealed waits until it was read, however long that takes; otherwise it is gone by itself.
    waits_for_reader: bool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: Vec<IntakeKey>,
    sealing: Option<(KeyId, Publisher)>,
    tended_at: Option<Timestamp>,
    /// Everything that was sealed before has been read by this process.
    read_up_to: Option<Timestamp>,
    /// Keys that were destroyed and that whoever opens has not dropped yet.
    destroyed: Vec<KeyId>,
}

impl IntakeKeyring {
    /// The keys of a vault, each of which serves so many days. There is at least one afterwards.
    pub(crate) fn open(vault: Arc<dyn KeyVault>, log: &dyn EventLog, days: u32) -> Result<Self, Error> {
        let ring = Self::new(vault, &log.gone_by(&Stream::Intake), days);
        ring.tend(false)?;
        Ok(ring)
    }

    fn new(vault: Arc<dyn KeyVault>, gone_by: &GoneBy, days: u32) -> Self {
        let (waits, waits_for_reader) = match gone_by {
            GoneBy::Within(time) => (*time, false),
            GoneBy::NextCompaction | GoneBy::KeyDestroyed => (EMBEDDED_WAIT, true),
        };
        Self {
            vault,
            times: IntakeTimes {
                renew_after_ms: i64::from(days) * 86_400_000,
                overlap_ms: millis(OVERLAP),
                waits_ms: millis(waits),
            },
            waits_for_reader,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after the keys now: makes one where one is due, or where `anew` says so, and destroys those whose time is over.
    pub(crate) fn tend(&self, anew: bool) -> Result<(), Error> {
        self.tend_at(shell::now(), anew)
    }

    /// Notes that everything which stood on the intake stream at a moment has been read.
    pub(crate) fn read_up_to(&self, moment: Timestamp) {
        self.known().read_up_to = Some(moment);
    }

    /// Looks after the keys where that is due, and gives those that were destroyed since this was asked last.
    pub(crate) fn destroyed(&self) -> Result<Vec<KeyId>, Error> {
        self.look(shell::now())?;
        Ok(std::mem::take(&mut self.known().destroyed))
    }

    /// Looks after the keys once a minute, and where the newest has served its time or the clock went back.
    fn look(&self, now: Timestamp) -> Result<(), Error> {
        let is_due = {
            let known = self.known();
            let is_fresh = |at: Timestamp| (0..TEND_EVERY_MS).contains(&now.since(at));
            let serves = |key: &IntakeKey| now.since(key.made_at) < self.times.renew_after_ms;
            !known.tended_at.is_some_and(is_fresh) || !known.keys.first().is_some_and(serves)
        };
        if is_due { self.tend_at(now, false) } else { Ok(()) }
    }

    fn tend_at(&self, now: Timestamp, anew: bool) -> Result<(), Error> {
        let mut known = self.known();
        let read_up_to = if self.waits_for_reader {
            known.read_up_to.unwrap_or(Timestamp::from_millis(0))
        } else {
            now
        };
        let look = IntakeLook {
            now,
            read_up_to,
            anew,
        };
        let keys = match self.vault.tend_intake_keys(self.times, look) {
            // Those that there are serve on until their own ends.
            Err(lethe_vault::Error::TooManyIntakeKeys) if !anew => self.vault.intake_keys()?,
            tended => tended?,
        };
        let kept: BTreeSet<KeyId> = keys.iter().map(id_of).collect();
        let before = std::mem::replace(&mut known.keys, keys);
        let destroyed = before.iter().map(id_of).filter(|id| !kept.contains(id));
        known.destroyed.extend(destroyed);
        known.tended_at = Some(now);
        Ok(())
    }

    /// The key of this id, where it was not destroyed; another process may have made it.
    pub(crate) fn key(&self, id: KeyId) -> Result<Option<IntakeKey>, Error> {
        let find = |keys: &[IntakeKey]| keys.iter().find(|key| id_of(key) == id).cloned();
        if let Some(key) = find(&self.known().keys) {
            return Ok(Some(key));
        }
        let keys = self.vault.intake_keys()?;
        let found = find(&keys);
        if found.is_some() {
            self.known().keys = keys;
        }
        Ok(found)
    }

    /// Whether what is sealed to this key now will still be opened: past its `seal_until` it may be destroyed before it is read.
    pub(crate) fn takes(&self, id: KeyId) -> Result<bool, Error> {
        let now = shell::now();
        self.look(now)?;
        Ok(self.key(id)?.is_some_and(|key| key.seal_until > now))
    }

    /// Seals a record as the server itself.
    ///
    /// # Errors
    /// Of the vault, and where no key may be sealed to any more.
    pub(crate) fn seal(&self, name: EventName, record: &PublishedRecord) -> Result<PublishedEvent, Error> {
        self.seal_at(shell::now(), name, record)
    }

    fn seal_at(
        &self,
        now: Timestamp,
        name: EventName,
        record: &PublishedRecord,
    ) -> Result<PublishedEvent, Error> {
        self.look(now)?;
        let mut known = self.known();
        let Known { keys, sealing, .. } = &mut *known;
        let newest = &sealed_to(keys, now)?.key;
        let id = newest.public().id();
        if sealing.as_ref().is_none_or(|(sealed_to, _)| *sealed_to != id) {
            let random = Zeroizing::new(shell::random());
            *sealing = Some((id, Publisher::new(newest.public(), newest, &random)?));
        }
        match sealing {
            Some((_, publisher)) => Ok(publisher.event(name, record)?),
            None => Err(Error::Stopped {
                what: "the sealing of events",
            }),
        }
    }

    /// What publishers are told.
    pub(crate) fn list(&self) -> Result<IntakeKeyList, Error> {
        let now = shell::now();
        self.look(now)?;
        let keys = self.vault.intake_keys()?;
        let serving = keys.iter().filter(|key| key.seal_until > now);
        let view = |key: &IntakeKey| IntakeKeyView {
            id: id_of(key),
            public_key: key.key.public().clone(),
            made_at: key.made_at,
            seal_until: key.seal_until,
        };
        Ok(IntakeKeyList {
            info: String::from_utf8_lossy(lethe_exchange::INTAKE_INFO).into_owned(),
            keys: serving.map(view).collect(),
        })
    }
}

fn id_of(key: &IntakeKey) -> KeyId {
    key.key.public().id()
}

/// The key to seal to, the newest. What is sealed past its `seal_until` may wait for longer than the key lives, so it is not accepted.
fn sealed_to(keys: &[IntakeKey], now: Timestamp) -> Result<&IntakeKey, Error> {
    let newest = keys.first().filter(|key| key.seal_until > now);
    newest.ok_or(Error::Stopped {
        what: "the making of intake keys",
    })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use lethe_exchange::{EventData, SealedMessage, Sequence};
    use lethe_terms::{Identifier, IdentifierKind};
    use lethe_vault::{MemoryVault, NOTICE_MS, SeededEntropy};

    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const KAFKA: GoneBy = GoneBy::Within(Duration::from_hours(7 * 24));

    fn day(day: i64) -> Timestamp {
        Timestamp::from_millis(day * DAY_MS)
    }

    fn vault() -> Arc<dyn KeyVault> {
        Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(1))).unwrap())
    }

    fn ring(vault: &Arc<dyn KeyVault>, gone_by: GoneBy) -> IntakeKeyring {
        let ring = IntakeKeyring::new(Arc::clone(vault), &gone_by, 30);
        ring.tend_at(day(0), false).unwrap();
        ring
    }

    /// The key that the server seals to at a moment.
    fn recipient(ring: &IntakeKeyring, now: Timestamp) -> KeyId {
        let name = EventName {
            system: "crm".parse().unwrap(),
            shard: "main".parse().unwrap(),
            sequence: Sequence(1),
        };
        let record = PublishedRecord {
            dataset: "contacts".parse().unwrap(),
            key: "1".to_owned(),
            handle: None,
            identifiers: vec![Identifier::new(IdentifierKind::Email, "ada@example.org")],
            count: 1,
            gone: false,
        };
        let EventData::Sealed(sealed) = ring.seal_at(now, name, &record).unwrap().data else {
            panic!("not sealed");
        };
        SealedMessage::parse(&sealed).unwrap().recipient
    }

    #[test]
    fn a_process_that_only_seals_goes_over_to_the_newest_key() {
        let vault = vault();
        let (gateway, other) = (ring(&vault, KAFKA), ring(&vault, KAFKA));
        let first = recipient(&gateway, day(1));
        assert_eq!(recipient(&gateway, day(29)), first);
        let second = recipient(&gateway, day(30));
        assert_ne!(second, first, "the first has served its time");

        other.tend_at(day(31), true).unwrap();
        let third = recipient(&gateway, day(31).plus_millis(TEND_EVERY_MS));
        assert!(third != first && third != second, "somebody renewed it by hand");

        let end = day(30 + 7 + 7);
        recipient(&gateway, end);
        recipient(&gateway, end.plus_millis(NOTICE_MS));
        assert_eq!(std::mem::take(&mut gateway.known().destroyed), [first]);
    }

    #[test]
    fn nothing_is_sealed_to_a_key_past_its_end() {
        let vault = vault();
        let keys = {
            ring(&vault, KAFKA);
            vault.intake_keys().unwrap()
        };
        let before = keys[0].seal_until.plus_millis(-1);
        assert!(sealed_to(&keys, before).is_ok());
        let refused = sealed_to(&keys, keys[0].seal_until).unwrap_err();
        assert_eq!(refused.to_string(), "the making of intake keys has stopped");
        assert!(sealed_to(&[], before).is_err());
    }

    #[test]
    fn on_the_embedded_log_a_key_waits_for_the_reader() {
        let vault = vault();
        let ring = ring(&vault, GoneBy::KeyDestroyed);
        let holds = |at: Timestamp| {
            ring.tend_at(at, false).unwrap();
            ring.known().keys.iter().any(|key| key.made_at == day(0))
        };
        assert!(
            holds(day(30)) && holds(day(100)) && holds(day(102)),
            "nothing was read"
        );
        ring.read_up_to(day(43));
        assert!(holds(day(103)), "the reader stands before the end of the key");
        ring.read_up_to(day(44));
        assert!(!holds(day(104)));
    }
}
