//! A page on its way: what each observation becomes, before anything is appended.

use std::collections::BTreeMap;
use std::sync::Arc;

use lethe_journal::{
    Entry, Event, KeyWrapped, Kind, Quarantined, RecordObserved, RecordSecret, Stream, Token, partition_of,
};
use lethe_kit::{Observation, Rejected};
use lethe_terms::{EntryId, Identifier, RecordToken, SystemName, Timestamp};
use lethe_vault::{DataKey, KeyVault, Normaliser, TokenKeys, record_context, related, seal_json};

use crate::{Error, again};

/// Identifiers that are kept of one observation: people have a handful, and a record with more is not one person's.
pub const IDENTIFIERS_MAX: usize = 256;

/// Bytes that are kept of one input that could not be read; a longer one stays where it is, and its head tells what it was.
pub const INPUT_BYTES_MAX: usize = 1 << 20;

/// An observation with its identifiers normalised and its record named.
pub(crate) struct Read {
    pub(crate) observation: Observation,
    pub(crate) record: RecordToken,
    pub(crate) identifiers: Vec<Identifier>,
    pub(crate) digest: String,
}

/// An identifier that could not be read, and which one of its observation it is.
pub(crate) struct Unread {
    pub(crate) number: usize,
    pub(crate) rejected: Rejected,
}

/// Bytes of a record's key and of its handle: both are names, not contents.
const NAME_BYTES_MAX: usize = 64 << 10;

/// An observation that is too large to be one record's, as quarantine takes it.
pub(crate) fn oversize(observation: &Observation) -> Option<Rejected> {
    (observation.key.len() > NAME_BYTES_MAX || observation.handle.len() > NAME_BYTES_MAX).then(|| Rejected {
        position: format!("{} record", observation.dataset),
        code: "intake-oversize",
        expected: "a key and a handle of at most 64 KiB".into(),
        input: observation.key.as_bytes().to_vec(),
    })
}

/// How identifiers become tokens.
pub(crate) struct Naming {
    pub(crate) keys: Arc<TokenKeys>,
    pub(crate) normaliser: Normaliser,
}

/// Reads an observation. Identifiers that are not of their kind go to quarantine; the record stands with the others, so that neither is lost.
pub(crate) fn read(observation: Observation, system: &SystemName, naming: &Naming) -> (Read, Vec<Unread>) {
    let (mut rejected, mut unreadable) = (Vec::new(), Vec::new());
    let mut identifiers = Vec::new();
    for (number, identifier) in observation.identifiers.iter().enumerate() {
        match naming.normaliser.normalise(identifier) {
            Ok(normalised) if identifiers.len() < IDENTIFIERS_MAX => {
                identifiers.extend(related(&normalised));
                identifiers.push(normalised);
            }
            Ok(_) => rejected.push(refused(
                &observation,
                number,
                "intake-too-many-identifiers",
                "at most 256 identifiers",
            )),
            Err(error) => {
                unreadable.push((identifier.kind, identifier.value.as_str()));
                rejected.push(refused(&observation, number, error.code(), &error.to_string()));
            }
        }
    }
    identifiers.sort();
    identifiers.dedup();
    let record = naming.keys.record(system, &observation.dataset, &observation.key);
    let digest = naming
        .keys
        .state(record, &observation.handle, &identifiers, &unreadable)
        .to_hex();
    (
        Read {
            record,
            identifiers,
            digest,
            observation,
        },
        rejected,
    )
}

fn refused(observation: &Observation, number: usize, code: &'static str, expected: &str) -> Unread {
    Unread {
        number,
        rejected: Rejected {
            position: format!("{} identifier {number}", observation.dataset),
            code,
            expected: expected.to_owned(),
            input: observation.identifiers[number].value.as_bytes().to_vec(),
        },
    }
}

/// Entries by stream and partition, in order.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) new_keys: BTreeMap<u16, Vec<Entry>>,
    pub(crate) records: BTreeMap<u16, Vec<Entry>>,
    pub(crate) gone_keys: BTreeMap<u16, Vec<Entry>>,
    pub(crate) quarantine: Vec<Entry>,
}

/// Makes entries; the shell's clock and randomness behind it.
pub(crate) struct Maker<'a> {
    pub(crate) vault: &'a dyn KeyVault,
    pub(crate) keys: &'a TokenKeys,
    pub(crate) now: Timestamp,
    pub(crate) id: fn() -> EntryId,
}

impl Maker<'_> {
    fn entry<T: Kind>(&self, key: Vec<u8>, data: T) -> Result<Entry, Error> {
        let id = (self.id)();
        let event = Event {
            id,
            source: "/lethe/intake",
            time: self.now,
            data,
        };
        Ok(Entry {
            id,
            key,
            value: Some(event.encode().map_err(Error::Journal)?),
        })
    }

    fn ended(&self, key: Vec<u8>) -> Entry {
        Entry {
            id: (self.id)(),
            key,
            value: None,
        }
    }

    /// The entries of a new or changed record. `wrapped` is its data key, where it has one.
    pub(crate) fn observed(
        &self,
        read: &Read,
        system: &SystemName,
        wrapped: Option<KeyWrapped>,
        out: &mut Outgoing,
    ) -> Result<KeyWrapped, Error> {
        let partition = partition_of(read.record.as_bytes(), Stream::Records.partitions());
        let name = read.record.as_bytes().to_vec();
        let (key, wrapped) = match wrapped {
            Some(wrapped) => (self.vault.unwrap(&wrapped).map_err(Error::Vault)?, wrapped),
            None => {
                let (key, wrapped) = self.vault.create().map_err(Error::Vault)?;
                out.new_keys
                    .entry(partition)
                    .or_default()
                    .push(self.entry(name.clone(), wrapped.clone())?);
                (key, wrapped)
            }
        };
        let entry = self.entry(name, self.record(read, system, &key)?)?;
        out.records.entry(partition).or_default().push(entry);
        Ok(wrapped)
    }

    fn record(&self, read: &Read, system: &SystemName, key: &DataKey) -> Result<RecordObserved, Error> {
        let secret = RecordSecret {
            handle: read.observation.handle.clone(),
            identifiers: read.identifiers.clone(),
        };
        let mut tokens: Vec<Token> = read
            .identifiers
            .iter()
            .map(|identifier| Token {
                kind: identifier.kind,
                token: self.keys.identifier(identifier),
            })
            .collect();
        tokens.sort();
        Ok(RecordObserved {
            record: read.record,
            system: system.clone(),
            dataset: read.observation.dataset.clone(),
            tokens,
            secret: seal_json(key, &record_context(read.record), &secret).map_err(Error::Vault)?,
            digest: read.digest.clone(),
            count: read.observation.count,
        })
    }

    /// The entries that end a record: the record first, then the key that opens it.
    pub(crate) fn gone(
        &self,
        record: RecordToken,
        key: Option<&KeyWrapped>,
        out: &mut Outgoing,
    ) -> Result<(), Error> {
        if let Some(key) = key {
            self.vault.destroy(key).map_err(Error::Vault)?;
        }
        let partition = partition_of(record.as_bytes(), Stream::Records.partitions());
        let name = record.as_bytes().to_vec();
        out.records
            .entry(partition)
            .or_default()
            .push(self.ended(name.clone()));
        out.gone_keys.entry(partition).or_default().push(self.ended(name));
        Ok(())
    }

    /// The entry of an input that could not be read, with the observation that it was a part of, where it was one.
    pub(crate) fn quarantined(
        &self,
        rejected: &Rejected,
        part_of: Option<(&Read, usize)>,
        system: Option<&SystemName>,
        out: &mut Outgoing,
    ) -> Result<(), Error> {
        let (key, wrapped) = self.vault.create().map_err(Error::Vault)?;
        let again = match part_of {
            Some((read, number)) => again::keep(&key, read, number)?,
            None => None,
        };
        let head = &rejected.input[..rejected.input.len().min(INPUT_BYTES_MAX)];
        let quarantined = Quarantined {
            system: system.cloned(),
            position: rejected.position.clone(),
            code: rejected.code.to_owned(),
            expected: rejected.expected.clone(),
            input: key.seal("quarantine", head).map_err(Error::Vault)?,
            key: wrapped,
            again,
        };
        out.quarantine.push(self.entry(
            system.map_or("", SystemName::as_str).as_bytes().to_vec(),
            quarantined,
        )?);
        Ok(())
    }
}
