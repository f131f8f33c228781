//! What every published event has to be, however it came: of a known system and shard, from somebody who may speak for the system, and of
//! one of its datasets.

use std::sync::{Arc, Mutex, PoisonError};

use lethe_exchange::{
    EventData, EventName, INTAKE_INFO, KeyId, Opener, PublicKey, PublishedEvent, PublishedRecord, Refused,
    SealedMessage,
};
use lethe_intake::Intake;
use lethe_terms::{Identifier, SystemName};

use super::{IntakeKeyring, PublishedSettings, PublishedSystems};
use crate::Error;

/// An event that is in order.
pub(crate) struct Checked {
    pub(crate) name: EventName,
    pub(crate) record: PublishedRecord,
    /// The event as it is to stand on the log, where it came sealed.
    pub(crate) sealed: Option<PublishedEvent>,
}

/// Why an event is not taken.
pub(crate) struct Rejection {
    pub(crate) refused: Refused,
    /// Its name, where one can be read and its system is known. It is proven only where the event was opened.
    pub(crate) name: Option<EventName>,
    /// Whether whoever may speak for the system has said so: then its sequence is used up.
    pub(crate) is_proven: bool,
}

/// Checks events.
pub(crate) struct Checker {
    systems: PublishedSystems,
    pub(crate) keys: Arc<IntakeKeyring>,
    pub(crate) intake: Arc<Intake>,
    opener: Mutex<Opener>,
}

fn refuse(code: &'static str, place: &str, expected: impl Into<String>) -> Refused {
    Refused {
        code,
        place: place.to_owned(),
        expected: expected.into(),
    }
}

impl Checker {
    pub(crate) fn new(systems: PublishedSystems, keys: Arc<IntakeKeyring>, intake: Arc<Intake>) -> Self {
        Self {
            systems,
            keys,
            intake,
            opener: Mutex::new(Opener::new(INTAKE_INFO)),
        }
    }

    /// Looks after the intake keys, and drops what sessions to destroyed ones were opened with.
    pub(crate) fn tend(&self) -> Result<(), Error> {
        let destroyed = self.keys.destroyed()?;
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        destroyed.into_iter().for_each(|key| opener.drop_key(key));
        Ok(())
    }

    /// Whether this API key may publish to the system; without keys everybody who reaches the server may.
    pub(crate) fn may(&self, caller: Option<&str>, system: &SystemName) -> bool {
        let declared = self.systems.get(system).map(|system| &system.api_keys);
        declared.is_some_and(|keys| caller.is_none_or(|caller| keys.contains(caller)))
    }

    /// Checks one event; a look at the vault that failed is an error, and says nothing of the event.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<Result<Checked, Rejection>, Error> {
        let event = match PublishedEvent::read(bytes) {
            Ok(event) => event,
            Err(refused) => return Ok(Err(unnamed(refused))),
        };
        let name = event.name.clone();
        let Some(system) = self.systems.get(&name.system) else {
            let known = self.systems.keys().map(ToString::to_string).collect::<Vec<_>>();
            let expected = format!("a published system: {}", listed(&known));
            return Ok(Err(unnamed(refuse("event-unknown-system", "source", expected))));
        };
        if !system.shards.contains(&name.shard) {
            let known = system.shards.iter().map(ToString::to_string).collect::<Vec<_>>();
            let expected = format!("a shard that is declared: {}", listed(&known));
            return Ok(Err(named(
                refuse("event-unknown-shard", "shard", expected),
                name,
                false,
            )));
        }
        let (record, sealed) = match event.data {
            EventData::Clear(record) => (record, None),
            EventData::Sealed(ref sealed) => match self.opened(system, &name, sealed)? {
                Ok(plain) => match PublishedRecord::read(&plain) {
                    Ok(record) => (record, Some(event)),
                    Err(refused) => return Ok(Err(named(refused, name, true))),
                },
                Err(error) => {
                    let refused = refuse(error.code(), "data_base64", error.to_string());
                    return Ok(Err(named(refused, name, false)));
                }
            },
        };
        if system
            .datasets
            .iter()
            .all(|dataset| dataset.name != record.dataset)
        {
            let known = system
                .datasets
                .iter()
                .map(|dataset| dataset.name.to_string())
                .collect::<Vec<_>>();
            let expected = format!("a dataset that is declared: {}", listed(&known));
            let refused = refuse("event-unknown-dataset", "data.dataset", expected);
            return Ok(Err(named(refused, name, sealed.is_some())));
        }
        Ok(Ok(Checked { name, record, sealed }))
    }

    /// The first identifier of a record that is not of its kind.
    pub(crate) fn unreadable(&self, record: &PublishedRecord) -> Option<Refused> {
        let wrong = |(at, identifier): (usize, &Identifier)| {
            let error = self.intake.normalised(identifier).err()?;
            let place = format!("data.identifiers[{at}].value");
            let expected = match &error {
                lethe_intake::Error::Vault(lethe_vault::Error::NotNormalised { expected, .. }) => {
                    (*expected).to_owned()
                }
                other => other.to_string(),
            };
            Some(refuse(error.code(), &place, expected))
        };
        record.identifiers.iter().enumerate().find_map(wrong)
    }

    fn opened(
        &self,
        system: &PublishedSettings,
        name: &EventName,
        sealed: &[u8],
    ) -> Result<Result<zeroize::Zeroizing<Vec<u8>>, lethe_exchange::Error>, Error> {
        let message = match SealedMessage::parse(sealed) {
            Ok(message) => message,
            Err(error) => return Ok(Err(error)),
        };
        let Some(recipient) = self.keys.key(message.recipient)? else {
            return Ok(Err(lethe_exchange::Error::UnknownKey {
                key: message.recipient,
            }));
        };
        let Some(sender) = self.sender(system, message.sender)? else {
            return Ok(Err(lethe_exchange::Error::UnknownSender));
        };
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(opener.open(&recipient.key, Some(&sender), &message, &name.context()))
    }

    /// The key of whoever may speak for the system on the topic: one of its own senders, or the server itself.
    fn sender(&self, system: &PublishedSettings, id: Option<KeyId>) -> Result<Option<PublicKey>, Error> {
        let Some(id) = id else { return Ok(None) };
        if let Some(declared) = system.senders.iter().find(|sender| sender.id() == id) {
            return Ok(Some(declared.clone()));
        }
        Ok(self.keys.key(id)?.map(|own| own.key.public().clone()))
    }
}

fn unnamed(refused: Refused) -> Rejection {
    Rejection {
        refused,
        name: None,
        is_proven: false,
    }
}

fn named(refused: Refused, name: EventName, is_proven: bool) -> Rejection {
    Rejection {
        refused,
        name: Some(name),
        is_proven,
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "there is none".to_owned();
    }
    names.join(", ")
}
