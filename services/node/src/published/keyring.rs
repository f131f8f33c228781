//! The intake keys as this process knows them, and sealing as the server itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_exchange::{EventName, KeyId, PublishedEvent, PublishedRecord, Publisher};
use lethe_gateway::events::{IntakeKeyList, IntakeKeyView};
use lethe_journal::Stream;
use lethe_log::{EventLog, GoneBy};
use lethe_vault::{IntakeKey, IntakeTimes, KeyVault};
use zeroize::Zeroizing;

use crate::{Error, shell};

/// How long publishers may go on with a key after a newer one was made: they fetch keys when they start, and programs are started once a week.
const OVERLAP: Duration = Duration::from_hours(7 * 24);

/// How long sealed events may wait in the embedded log, which keeps a queue until it was read: a server that is off for a week.
const EMBEDDED_WAIT: Duration = Duration::from_hours(7 * 24);

/// The intake keys, and a session that seals to the newest.
pub(crate) struct IntakeKeyring {
    vault: Arc<dyn KeyVault>,
    times: IntakeTimes,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: Vec<IntakeKey>,
    sealing: Option<(KeyId, Publisher)>,
}

impl IntakeKeyring {
    /// The keys of a vault, each of which serves so many days. There is at least one afterwards.
    pub(crate) fn open(vault: Arc<dyn KeyVault>, log: &dyn EventLog, days: u32) -> Result<Self, Error> {
        let waits = match log.gone_by(&Stream::Intake) {
            GoneBy::Within(time) => time,
            GoneBy::NextCompaction | GoneBy::KeyDestroyed => EMBEDDED_WAIT,
        };
        let ring = Self {
            vault,
            times: IntakeTimes {
                renew_after_ms: i64::from(days) * 86_400_000,
                overlap_ms: millis(OVERLAP),
                waits_ms: millis(waits),
            },
            known: Mutex::default(),
        };
        ring.tend(false)?;
        Ok(ring)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a key where one is due, or now where `anew` says so, and destroys those whose time is over, which are returned.
    pub(crate) fn tend(&self, anew: bool) -> Result<Vec<KeyId>, Error> {
        let keys = self.vault.tend_intake_keys(shell::now(), self.times, anew)?;
        let id = |key: &IntakeKey| key.key.public().id();
        let kept: BTreeSet<KeyId> = keys.iter().map(id).collect();
        let before = std::mem::replace(&mut self.known().keys, keys);
        Ok(before.iter().map(id).filter(|id| !kept.contains(id)).collect())
    }

    /// The key of this id, where it still opens something; another process may have made it.
    pub(crate) fn key(&self, id: KeyId) -> Result<Option<IntakeKey>, Error> {
        let find = |keys: &[IntakeKey]| keys.iter().find(|key| key.key.public().id() == id).cloned();
        if let Some(key) = find(&self.known().keys) {
            return Ok((key.open_until > shell::now()).then_some(key));
        }
        let keys = self.vault.intake_keys(shell::now())?;
        let found = find(&keys);
        if found.is_some() {
            self.known().keys = keys;
        }
        Ok(found)
    }

    /// Seals a record as the server itself.
    pub(crate) fn seal(&self, name: EventName, record: &PublishedRecord) -> Result<PublishedEvent, Error> {
        let mut known = self.known();
        let Known { keys, sealing } = &mut *known;
        let newest = &keys
            .first()
            .ok_or(Error::Stopped {
                what: "the intake keys",
            })?
            .key;
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
        let keys = self.vault.intake_keys(now)?;
        let serving = keys.iter().filter(|key| key.seal_until > now);
        let view = |key: &IntakeKey| IntakeKeyView {
            id: key.key.public().id(),
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

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
