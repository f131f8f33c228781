//! A page on its way: what each observation becomes, before anything is appended.

use std::collections::BTreeSet;
use std::sync::Arc;

use lethe_journal::{
    Entry, Event, KeyWrapped, Kind, RecordObserved, RecordSecret, Stream, Token, partition_of,
};
use lethe_kit::{Observation, RecordName, Rejected};
use lethe_terms::{EntryId, Identifier, RecordToken, SystemName, Timestamp};
use lethe_vault::{DataKey, KeyVault, Normaliser, TokenKeys, record_context, related, seal_json};

use crate::Error;
use crate::inputs::Inputs;
use crate::outgoing::Outgoing;

/// Identifiers that are kept of one observation: people have a handful, and a record with more is not one person's.
pub const IDENTIFIERS_MAX: usize = 256;

/// Unreadable identifiers of one observation that become an input each: more of them have one cause, such as a wrong column, and tell nothing new.
pub const UNREADABLE_MAX: usize = 16;

/// Bytes that are kept of one input that could not be read; a longer one stays where it is, and its head tells what it was.
pub const INPUT_BYTES_MAX: usize = 1 << 20;

/// An observation with its identifiers normalised and its record named.
pub(crate) struct Read {
    pub(crate) observation: Observation,
    pub(crate) record: RecordToken,
    pub(crate) identifiers: Vec<Identifier>,
    /// Normalised identifiers that it holds beyond what is kept of it: what comes back among them is caught all the same.
    pub(crate) beyond: BTreeSet<Identifier>,
    pub(crate) digest: String,
}

/// What of an observation could not be taken in, and which of its identifiers that are.
pub(crate) struct Unread {
    pub(crate) numbers: Vec<usize>,
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
        of: Vec::new(),
    })
}

/// How identifiers become tokens.
pub(crate) struct Naming {
    pub(crate) keys: Arc<TokenKeys>,
    pub(crate) normaliser: Normaliser,
}

impl Naming {
    /// The token of a record.
    pub(crate) fn record(&self, system: &SystemName, name: &RecordName) -> RecordToken {
        let record = |key: &str| self.keys.record(system, &name.dataset, key);
        match &name.unit {
            Some(unit) => self.keys.part_of_unit(record(unit), &name.key),
            None => record(&name.key),
        }
    }
}

/// Reads an observation. Identifiers that are not of their kind go to quarantine; the record stands with the others, so that neither is lost.
/// However many there are, what comes of it is bounded: those beyond the limits are one input together.
pub(crate) fn read(observation: Observation, system: &SystemName, naming: &Naming) -> (Read, Vec<Unread>) {
    let (read, unread, _) = read_for(observation, system, naming, &BTreeSet::new());
    (read, unread)
}

/// The same for an observation that was sought by these identifiers: what the record keeps none of comes back as a part of it, a record of its own,
/// so that whoever is sought is found in a crowd, and the next feed does not take them out of it.
pub(crate) fn read_for(
    observation: Observation,
    system: &SystemName,
    naming: &Naming,
    sought: &BTreeSet<Identifier>,
) -> (Read, Vec<Unread>, Option<Read>) {
    let (mut identifiers, mut beyond) = (BTreeSet::new(), BTreeSet::new());
    let (mut unread, mut numbers) = (Vec::new(), Vec::new());
    // What decides the state besides the identifiers that were read: a change in it brings a new input.
    let mut others = Vec::new();
    for (number, identifier) in observation.identifiers.iter().enumerate() {
        match naming.normaliser.normalise(identifier) {
            Ok(normalised) if identifiers.len() < IDENTIFIERS_MAX || identifiers.contains(&normalised) => {
                identifiers.extend(related(&normalised));
                identifiers.insert(normalised);
                continue;
            }
            Err(error) if unread.len() < UNREADABLE_MAX => {
                unread.push(unreadable(&observation, number, &error))
            }
            Ok(normalised) => {
                numbers.push(number);
                beyond.insert(normalised);
            }
            Err(_) => numbers.push(number),
        }
        others.push(identifier);
    }
    if !numbers.is_empty() {
        unread.push(too_many(&observation, numbers));
    }
    let missed: BTreeSet<_> = beyond.intersection(sought).cloned().collect();
    let identifiers: Vec<Identifier> = identifiers.into_iter().collect();
    let record = naming.record(system, &observation.name());
    let state = naming
        .keys
        .state(record, &observation.handle, &identifiers, &others);
    let read = Read {
        record,
        identifiers,
        beyond,
        digest: state.to_hex(),
        observation,
    };
    let part = (!missed.is_empty()).then(|| part(&read, missed, naming));
    (read, unread, part)
}

/// What a record holds of these identifiers.
fn part(read: &Read, identifiers: BTreeSet<Identifier>, naming: &Naming) -> Read {
    let record = naming.keys.part(read.record, &identifiers);
    let identifiers: Vec<Identifier> = identifiers.into_iter().collect();
    let handle = &read.observation.handle;
    Read {
        digest: naming.keys.state(record, handle, &identifiers, &[]).to_hex(),
        observation: Observation {
            identifiers: identifiers.clone(),
            ..read.observation.clone()
        },
        record,
        identifiers,
        beyond: BTreeSet::new(),
    }
}

fn unreadable(observation: &Observation, number: usize, error: &lethe_vault::Error) -> Unread {
    Unread {
        numbers: vec![number],
        rejected: Rejected {
            position: format!("{} identifier {number}", observation.dataset),
            code: error.code(),
            expected: error.expected(),
            input: head(observation.identifiers[number].value.as_bytes()).to_vec(),
            of: Vec::new(),
        },
    }
}

/// Identifiers beyond the limits, one a line.
fn too_many(observation: &Observation, numbers: Vec<usize>) -> Unread {
    let mut input = Vec::new();
    for number in &numbers {
        input.extend_from_slice(observation.identifiers[*number].value.as_bytes());
        if input.len() >= INPUT_BYTES_MAX {
            break;
        }
        input.push(b'\n');
    }
    let expected = format!(
        "at most {IDENTIFIERS_MAX} identifiers, and at most {UNREADABLE_MAX} that cannot be read: {} are beyond that",
        numbers.len()
    );
    Unread {
        rejected: Rejected {
            position: format!("{} identifiers", observation.dataset),
            code: "intake-too-many-identifiers",
            expected,
            input: head(&input).to_vec(),
            of: Vec::new(),
        },
        numbers,
    }
}

/// What is kept of an input.
pub(crate) fn head(input: &[u8]) -> &[u8] {
    &input[..input.len().min(INPUT_BYTES_MAX)]
}

/// Makes entries; the shell's clock and randomness behind it.
pub(crate) struct Maker<'a> {
    pub(crate) vault: &'a dyn KeyVault,
    pub(crate) keys: &'a TokenKeys,
    pub(crate) inputs: &'a dyn Inputs,
    pub(crate) now: Timestamp,
    pub(crate) id: fn() -> EntryId,
}

impl Maker<'_> {
    pub(crate) fn entry<T: Kind>(&self, key: Vec<u8>, data: T) -> Result<Entry, Error> {
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

    pub(crate) fn ended(&self, key: Vec<u8>) -> Entry {
        Entry {
            id: (self.id)(),
            key,
            value: None,
        }
    }

    /// The entries of a new or changed record, whose data key comes back. `wrapped` is that key, where it has one already.
    pub(crate) fn observed(
        &self,
        read: &Read,
        system: &SystemName,
        wrapped: Option<KeyWrapped>,
        out: &mut Outgoing,
    ) -> Result<(DataKey, KeyWrapped), Error> {
        let partition = partition_of(read.record.as_bytes(), Stream::Records.partitions());
        let name = read.record.as_bytes().to_vec();
        let (key, wrapped) = match wrapped {
            Some(wrapped) => (self.vault.unwrap(&wrapped).map_err(Error::Vault)?, wrapped),
            None => {
                let (key, wrapped) = self.vault.create().map_err(Error::Vault)?;
                out.new_key(partition, self.entry(name.clone(), wrapped.clone())?);
                (key, wrapped)
            }
        };
        let entry = self.entry(name, self.record(read, system, &key)?)?;
        out.record(partition, entry);
        Ok((key, wrapped))
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
        out.ended(partition, record, self.ended(name.clone()));
        out.gone_key(partition, self.ended(name));
        Ok(())
    }
}
