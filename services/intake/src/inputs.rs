//! Inputs that could not be read: how they are sealed, and how long they are kept.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use lethe_journal::{
    Entry, InputEnded, InputOrigin, KeyWrapped, Place, Position, Quarantined, Sealed, Stood, Stream,
};
use lethe_kit::Rejected;
use lethe_terms::{EntryId, RecordToken, SystemName};
use lethe_vault::{DataKey, KeyVault, open_json, seal_json};
use zeroize::Zeroizing;

use crate::again::{self, PartOf};
use crate::events::{self, EventNote};
use crate::intake::Last;
use crate::outgoing::Outgoing;
use crate::page::{Maker, head};
use crate::{Error, Intake, Published};

/// What an input is sealed for.
const CONTEXT: &str = "quarantine";
/// What is said of its records is sealed for this.
const OF_CONTEXT: &str = "quarantine/of";

/// What is known of the inputs that stand in quarantine: the fold of its stream.
#[async_trait]
pub trait Inputs: Send + Sync {
    /// Whether the input stands there. One that was put away a moment ago may be missing: twice does no harm.
    fn holds(&self, input: EntryId) -> bool;

    /// Returns once everything that was put away before is counted: whoever hears that a source was read to its end counts on that.
    ///
    /// # Errors
    /// As [`Inputs::parts_of`].
    async fn counted(&self) -> Result<(), Error> {
        Ok(())
    }

    /// How many inputs count that came from no source.
    fn put_away_count(&self) -> u64 {
        0
    }

    /// Where those stand that came from no source: behind the newest that there ever was. It only grows.
    fn put_away_behind(&self) -> Position {
        0
    }

    /// Whether anything was ever put away that may have taken the place of a record.
    fn may_have_displaced(&self) -> bool {
        false
    }

    /// The position of a place of the log before which everything is put away that can be no entry.
    ///
    /// # Errors
    /// As [`Inputs::parts_of`].
    async fn put_away_before(&self, _at: &Place) -> Result<Position, Error> {
        Ok(0)
    }

    /// Where those stand that are a part of the units of these records.
    ///
    /// # Errors
    /// Of the log, and where its fold cannot be brought up to date.
    async fn parts_of(&self, records: &[RecordToken]) -> Result<Vec<Position>, Error>;
}

impl Intake {
    /// Returns once what was put away counts, where anything was.
    pub(crate) async fn counted(&self, published: &Published) -> Result<(), Error> {
        if published.quarantined == 0 {
            return Ok(());
        }
        self.inputs.counted().await
    }
}

/// Records that an input is a part of, the first with its data key.
pub(crate) struct Origin {
    pub(crate) records: Vec<RecordToken>,
    pub(crate) key: DataKey,
    /// Whether the first was not known before: if that was tried before and failed half-way, what was put away then opens under no key that stands.
    pub(crate) is_new: bool,
}

/// What is kept beside an input, so that it can be taken in again.
pub(crate) enum Beside<'a> {
    /// Nothing: only its source has the whole of it.
    Nothing,
    /// The observation that it is a part of.
    Observation(PartOf<'a>),
    /// What is to be known of a published event.
    Event(&'a EventNote),
}

impl Maker<'_> {
    /// The entry of an input that could not be read, with what it was a part of; whether it is a new one.
    pub(crate) fn quarantined(
        &self,
        rejected: &Rejected,
        origin: Option<&Origin>,
        beside: Beside<'_>,
        system: Option<&SystemName>,
        out: &mut Outgoing,
    ) -> Result<bool, Error> {
        let name = system.map_or("", SystemName::as_str).as_bytes().to_vec();
        let records = origin.map_or(&[] as &[_], |origin| &origin.records);
        let id = self.input_id(&name, rejected, records);
        let is_new = origin.is_some_and(|origin| origin.is_new);
        if !is_new && self.inputs.holds(id) {
            return Ok(false);
        }
        let (key, wrapped) = self.vault.create().map_err(Error::Vault)?;
        let (input, of) = seal(&key, origin, head(&rejected.input)).map_err(Error::Vault)?;
        let again = match beside {
            Beside::Observation(part_of) => again::keep(&key, &part_of)?,
            Beside::Event(note) => Some(events::seal_note(&key, note)?),
            Beside::Nothing => None,
        };
        let quarantined = Quarantined {
            system: system.cloned(),
            position: rejected.position.clone(),
            code: rejected.code.to_owned(),
            expected: rejected.expected.clone(),
            input,
            key: wrapped,
            of,
            again,
            stood: None,
        };
        let Entry { value, .. } = self.entry(Vec::new(), quarantined)?;
        out.quarantined(Entry { id, key: name, value });
        Ok(true)
    }

    /// What makes an input the same when its source tells it again: its bytes and its records, not its place, which moves as the source is rewritten.
    fn input_id(&self, system: &[u8], rejected: &Rejected, records: &[RecordToken]) -> EntryId {
        let place: &[u8] = if rejected.input.is_empty() {
            rejected.position.as_bytes()
        } else {
            &[]
        };
        let mut content = vec![
            b"input/v1".as_slice(),
            system,
            rejected.code.as_bytes(),
            place,
            &rejected.input,
        ];
        content.extend(records.iter().map(|record| record.as_bytes().as_slice()));
        self.keys.entry_id(content)
    }
}

/// What stands among Lethe's own entries and can be none: nobody of Lethe has written it, or it was damaged before it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Poison {
    /// Where it stands.
    pub position: Position,
    /// Of which system it took the place of a record: something of that is not known any more.
    pub system: Option<SystemName>,
    /// Whether it may have taken the place of a record of any system.
    pub is_anybodys: bool,
    /// Why it can be no entry; see ops/errors.
    pub code: &'static str,
    /// What was expected, without personal data.
    pub expected: String,
    /// The bytes.
    pub value: Vec<u8>,
}

/// What was read of an entry; nothing where it can be no entry, which is told: who follows a stream passes that by.
///
/// # Errors
/// Where it is of a newer version.
pub fn unless_of_nobody<T>(
    read: Result<T, lethe_journal::Error>,
    stream: &Stream,
    position: Position,
) -> Result<Option<T>, lethe_journal::Error> {
    match read {
        Err(error) if error.is_of_nobody() => {
            let code = error.code();
            tracing::warn!(code, %stream, position, "what can be no entry is passed by");
            Ok(None)
        }
        Err(error) => {
            let code = error.code();
            tracing::error!(code, %stream, position, "a reader ends at an entry");
            Err(error)
        }
        Ok(read) => Ok(Some(read)),
    }
}

impl fmt::Debug for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Poison({} at {}, {} B)",
            self.code,
            self.position,
            self.value.len()
        )
    }
}

impl Maker<'_> {
    fn put_away(&self, at: &Place, poison: &Poison) -> Result<Entry, Error> {
        let stood = Stood {
            stream: at.stream.to_string(),
            partition: at.partition,
            position: poison.position,
            hides: poison.is_anybodys,
        };
        let (key, wrapped) = self.vault.create().map_err(Error::Vault)?;
        let (input, of) = seal(&key, None, head(&poison.value)).map_err(Error::Vault)?;
        let place = stood.to_string();
        let quarantined = Quarantined {
            system: poison.system.clone(),
            position: place.clone(),
            code: poison.code.to_owned(),
            expected: poison.expected.clone(),
            input,
            key: wrapped,
            of,
            again: None,
            stood: Some(stood),
        };
        let Entry { key, value, .. } = self.entry(Vec::new(), quarantined)?;
        let id = self
            .keys
            .entry_id(vec![b"poison/v1".as_slice(), place.as_bytes()]);
        Ok(Entry { id, key, value })
    }
}

impl Intake {
    /// Puts away what stands at a place of the log and can be no entry, by position; how many of them were not before. Each is put away once, however
    /// often it is read.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn put_away(&self, at: &Place, poison: &[Poison]) -> Result<usize, Error> {
        if poison.is_empty() {
            return Ok(0);
        }
        let (maker, before) = (self.maker(), self.inputs.put_away_before(at).await?);
        let (mut out, mut new) = (Outgoing::default(), 0);
        for one in poison.iter().filter(|one| one.position >= before) {
            new += 1;
            tracing::error!(code = one.code, %at, position = one.position, "what can be no entry goes to quarantine");
            out.quarantined(maker.put_away(at, one)?);
            self.send_inputs_if_much(&mut out).await?;
        }
        self.send_inputs(&mut out).await?;
        if new > 0 {
            // Who reads on behind it answers without what it took the place of: by then it counts.
            self.inputs.counted().await?;
        }
        Ok(new)
    }

    /// Puts away as one what was lost of a place before it was read; whether that was not said before.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn put_away_lost(&self, at: &Place, lost: &Poison) -> Result<bool, Error> {
        self.inputs.put_away_before(at).await?;
        let entry = self.maker().put_away(at, lost)?;
        if self.inputs.holds(entry.id) {
            return Ok(false);
        }
        let mut out = Outgoing::default();
        out.quarantined(entry);
        self.send_inputs(&mut out).await?;
        Ok(true)
    }

    /// How many of them count.
    pub fn put_away_count(&self) -> u64 {
        self.inputs.put_away_count()
    }

    /// Ends the inputs that are a part of these records, which are about to end.
    pub(crate) async fn end_inputs(&self, system: &SystemName, records: &[RecordToken]) -> Result<(), Error> {
        let (maker, parts) = (self.maker(), self.inputs.parts_of(records).await?);
        let ended = parts.into_iter().map(|position| {
            let system = system.clone();
            let name = system.as_str().as_bytes().to_vec();
            maker.entry(name, InputEnded { system, position })
        });
        self.append_inputs(ended.collect::<Result<_, _>>()?).await
    }

    /// The records of the page that an input is a part of, as they were last appended; nothing where there is none with a key.
    pub(crate) fn origin(
        &self,
        system: &SystemName,
        rejected: &Rejected,
        new: &BTreeSet<RecordToken>,
        last: impl Fn(RecordToken) -> Last,
    ) -> Result<Option<Origin>, Error> {
        let named = rejected.of.iter();
        let records = named.map(|name| self.naming.record(system, name));
        let keyed: Vec<_> = records
            .filter_map(|record| Some((record, last(record)?.1?)))
            .collect();
        let Some((first, wrapped)) = keyed.first() else {
            return Ok(None);
        };
        Ok(Some(Origin {
            is_new: new.contains(first),
            key: self.vault.unwrap(wrapped).map_err(Error::Vault)?,
            records: keyed.into_iter().map(|(record, _)| record).collect(),
        }))
    }
}

fn seal(
    key: &DataKey,
    origin: Option<&Origin>,
    input: &[u8],
) -> Result<(Sealed, Option<Sealed>), lethe_vault::Error> {
    let Some((origin, first)) = origin.and_then(|origin| Some((origin, origin.records.first()?))) else {
        return Ok((key.seal(CONTEXT, input)?, None));
    };
    let inner = origin.key.seal(&context_of(*first), input)?;
    let of = InputOrigin {
        records: origin.records.clone(),
    };
    Ok((
        key.seal(CONTEXT, inner.as_bytes())?,
        Some(seal_json(key, OF_CONTEXT, &of)?),
    ))
}

fn context_of(record: RecordToken) -> String {
    format!("{CONTEXT}/{}", record.to_hex())
}

/// The records that an input is a part of; none where it is no record's.
///
/// # Errors
/// Where its key does not open it.
pub fn records_of(vault: &dyn KeyVault, input: &Quarantined) -> Result<Vec<RecordToken>, lethe_vault::Error> {
    let Some(of) = &input.of else {
        return Ok(Vec::new());
    };
    let origin: InputOrigin = open_json(&vault.unwrap(&input.key)?, OF_CONTEXT, of)?;
    Ok(origin.records)
}

/// The input itself, with the key of the first of its records where it is a part of any; nothing where that was ended.
///
/// # Errors
/// Where its own key does not open it.
pub fn open_input(
    vault: &dyn KeyVault,
    input: &Quarantined,
    first: Option<(RecordToken, Option<&KeyWrapped>)>,
) -> Result<Option<Zeroizing<Vec<u8>>>, lethe_vault::Error> {
    let plain = vault.unwrap(&input.key)?.open(CONTEXT, &input.input)?;
    let Some((record, wrapped)) = first else {
        return Ok(Some(plain));
    };
    let Some(wrapped) = wrapped else {
        return Ok(None);
    };
    let inner = Sealed::from_bytes(plain.to_vec());
    match vault.unwrap(wrapped)?.open(&context_of(record), &inner) {
        Ok(plain) => Ok(Some(plain)),
        // Its bytes are whole: they were authenticated by the key around them. So the record ended and came back under another key.
        Err(lethe_vault::Error::CannotOpen { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
