//! What every published event has to be, however it came: of a known system and shard, from somebody who may speak for the system, and of
//! one of its datasets.

use std::sync::{Arc, Mutex, PoisonError};

use lethe_exchange::{
    EVENT_BYTES_MAX, EventData, EventName, INTAKE_INFO, KeyId, Opener, PublicKey, PublishedEvent,
    PublishedRecord, Refused, SealedMessage,
};
use lethe_intake::{Intake, Proof};
use lethe_terms::{Identifier, SystemName};
use zeroize::Zeroizing;

use super::{IntakeKeyring, PublishedSettings, PublishedSystems};
use crate::Error;

/// An event that is in order.
pub(crate) struct Checked {
    pub(crate) name: EventName,
    pub(crate) record: PublishedRecord,
    /// The event as it is to stand on the log and what it says, where it came sealed.
    pub(crate) sealed: Option<(PublishedEvent, Opened)>,
}

/// What a sealed event says.
pub(crate) struct Opened {
    plain: Zeroizing<Vec<u8>>,
    /// Who has sealed it.
    pub(crate) by: Proof,
}

/// Why an event is not taken.
pub(crate) struct Rejection {
    pub(crate) refused: Refused,
    /// Its name, where one can be read. It is proven only where the event was opened.
    pub(crate) name: Option<EventName>,
    /// Whether whoever may speak for a shard has said so: then its sequence is used up.
    pub(crate) is_proven: bool,
    /// What it says, where it came sealed and was opened.
    pub(crate) opened: Option<Opened>,
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

    /// Whether programs publish what this system holds.
    pub(crate) fn knows(&self, system: &SystemName) -> bool {
        self.systems.contains_key(system)
    }

    /// Checks one event; a look at the vault that failed is an error, and says nothing of the event.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<Result<Checked, Rejection>, Error> {
        let event = match PublishedEvent::read(bytes) {
            Ok(event) => event,
            Err(refused) => return Ok(Err(unproven(refused, None, None))),
        };
        let name = event.name.clone();
        let Some(system) = self.systems.get(&name.system) else {
            return Ok(Err(unproven(self.unknown_system(), Some(name), None)));
        };
        let (record, sealed) = match event.data {
            EventData::Clear(record) => (Ok(record), None),
            EventData::Sealed(ref message) => match self.opened(system, &name, message)? {
                Ok(opened) => (PublishedRecord::read(&opened.plain), Some((event, opened))),
                Err(error) => {
                    let refused = if system.shards.contains(&name.shard) {
                        refuse(error.code(), "data_base64", error.expected())
                    } else {
                        unknown_shard(system)
                    };
                    return Ok(Err(unproven(refused, Some(name), None)));
                }
            },
        };
        if !system.shards.contains(&name.shard) {
            let opened = sealed.map(|(_, opened)| opened);
            return Ok(Err(unproven(unknown_shard(system), Some(name), opened)));
        }
        let is_declared = |record: &PublishedRecord| {
            let mut declared = system.datasets.iter();
            declared.any(|dataset| dataset.name == record.dataset)
        };
        Ok(match record {
            Ok(record) if is_declared(&record) => Ok(Checked { name, record, sealed }),
            wrong => Err(Rejection {
                refused: wrong.err().unwrap_or_else(|| unknown_dataset(system)),
                name: Some(name),
                is_proven: sealed.is_some(),
                opened: sealed.map(|(_, opened)| opened),
            }),
        })
    }

    /// Checks an event as it was kept. Whoever had sealed it must still be allowed to speak for its system.
    pub(crate) fn check_kept(
        &self,
        bytes: &[u8],
        proof: Option<&Proof>,
    ) -> Result<Result<(EventName, PublishedRecord), Refused>, Error> {
        let Checked { name, record, sealed } = match self.check(bytes)? {
            Ok(checked) => checked,
            Err(Rejection { refused, .. }) => return Ok(Err(refused)),
        };
        let may_speak = match proof {
            Some(Proof::Server) => true,
            Some(Proof::Sender(id)) => self.systems.get(&name.system).is_some_and(|system| {
                let mut declared = system.senders.iter();
                declared.any(|sender| sender.id().to_string() == *id)
            }),
            None if sealed.is_some() => true,
            None => return Ok(Err(not_sealed())),
        };
        if !may_speak {
            let error = lethe_exchange::Error::UnknownSender;
            return Ok(Err(refuse(error.code(), "data_base64", error.expected())));
        }
        Ok(Ok((name, record)))
    }

    /// An event as whoever may look at it reads it: with what it says, where that can still be opened. It may be nobody's.
    pub(crate) fn readable(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let Ok(PublishedEvent {
            name,
            data: EventData::Sealed(message),
        }) = PublishedEvent::read(bytes)
        else {
            return Ok(None);
        };
        let Ok(message) = SealedMessage::parse(&message) else {
            return Ok(None);
        };
        let Some(recipient) = self.keys.key(message.recipient)? else {
            return Ok(None);
        };
        let system = self.systems.get(&name.system);
        let sender = match message.sender {
            None => None,
            Some(id) => match self.sender(system, id)? {
                Some((sender, _)) => Some(sender),
                None => return Ok(None),
            },
        };
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opener.open(&recipient.key, sender.as_ref(), &message, &name.context());
        Ok(opened.ok().and_then(|plain| with_data(bytes, &plain)))
    }

    fn unknown_system(&self) -> Refused {
        let known = self.systems.keys().map(ToString::to_string).collect::<Vec<_>>();
        let expected = format!("a published system: {}", listed(&known));
        refuse("event-unknown-system", "source", expected)
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
    ) -> Result<Result<Opened, lethe_exchange::Error>, Error> {
        let message = match SealedMessage::parse(sealed) {
            Ok(message) => message,
            Err(error) => return Ok(Err(error)),
        };
        let Some(recipient) = self.keys.key(message.recipient)? else {
            return Ok(Err(lethe_exchange::Error::UnknownKey {
                key: message.recipient,
            }));
        };
        let found = match message.sender {
            Some(id) => self.sender(Some(system), id)?,
            None => None,
        };
        let Some((sender, by)) = found else {
            return Ok(Err(lethe_exchange::Error::UnknownSender));
        };
        let mut opener = self.opener.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = opener.open(&recipient.key, Some(&sender), &message, &name.context());
        Ok(plain.map(|plain| Opened { plain, by }))
    }

    /// The key of whoever may speak for the system on the topic: one of its own senders, or the server itself.
    fn sender(
        &self,
        system: Option<&PublishedSettings>,
        id: KeyId,
    ) -> Result<Option<(PublicKey, Proof)>, Error> {
        let mut declared = system.into_iter().flat_map(|system| &system.senders);
        if let Some(declared) = declared.find(|sender| sender.id() == id) {
            return Ok(Some((declared.clone(), Proof::Sender(id.to_string()))));
        }
        let own = self.keys.key(id)?;
        Ok(own.map(|own| (own.key.public().clone(), Proof::Server)))
    }
}

impl Opened {
    /// The event with what it says; nothing where that is too long to be kept.
    pub(crate) fn readable(&self, event: &[u8]) -> Option<Vec<u8>> {
        with_data(event, &self.plain)
    }
}

/// A sealed event with what it says instead, word for word, so that it reads as one that came in the clear.
fn with_data(event: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(event).ok()?;
    for sealed in ["data_base64", "datacontenttype"] {
        object.remove(sealed);
    }
    let mut bytes = serde_json::to_vec(&object).ok()?;
    // An event has more attributes than these two.
    bytes.pop();
    bytes.extend_from_slice(b",\"data\":");
    match serde_json::from_slice::<serde::de::IgnoredAny>(plain) {
        Ok(_) => bytes.extend_from_slice(plain),
        Err(_) => bytes.extend(serde_json::to_vec(&String::from_utf8_lossy(plain)).ok()?),
    }
    bytes.push(b'}');
    (bytes.len() <= EVENT_BYTES_MAX).then_some(bytes)
}

fn unknown_shard(system: &PublishedSettings) -> Refused {
    let known = system.shards.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = format!("a shard that is declared: {}", listed(&known));
    refuse("event-unknown-shard", "shard", expected)
}

fn unknown_dataset(system: &PublishedSettings) -> Refused {
    let known = system
        .datasets
        .iter()
        .map(|dataset| dataset.name.to_string())
        .collect::<Vec<_>>();
    let expected = format!("a dataset that is declared: {}", listed(&known));
    refuse("event-unknown-dataset", "data.dataset", expected)
}

/// An event that came in the clear where it may not.
pub(crate) fn not_sealed() -> Refused {
    refuse("event-not-sealed", "data", "data_base64 with a sealed record")
}

fn unproven(refused: Refused, name: Option<EventName>, opened: Option<Opened>) -> Rejection {
    Rejection {
        refused,
        name,
        is_proven: false,
        opened,
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "there is none".to_owned();
    }
    names.join(", ")
}
