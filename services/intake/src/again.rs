//! Input of the quarantine that is taken in again, after the settings or a mapping were mended.
//!
//! What intake itself refused was a part of an observation, and the observation is kept beside it, under the key of its record: it ends with
//! the record. It is taken in only while the record stands as it stood then: an older observation never replaces a newer one, and never brings back
//! what is gone.

use std::collections::BTreeMap;

use lethe_journal::{KeyWrapped, Quarantined, Sealed};
use lethe_kit::{Observation, Rejected};
use lethe_terms::{DatasetName, Identifier, RecordToken, SystemName};
use lethe_vault::{DataKey, open_json, seal_json};
use serde::{Deserialize, Serialize};

use crate::intake::last_of;
use crate::outgoing::Batch;
use crate::page::{INPUT_BYTES_MAX, Read, Unread, read};
use crate::{Error, Finding, Intake};

/// Bytes of an observation that is kept, since each unreadable identifier of it carries a copy: what a record of one person has is a fraction.
const KEPT_BYTES_MAX: usize = 8 << 10;

/// What the place of the observation is sealed for, so that it opens as nothing else.
const CONTEXT: &str = "quarantine/observation";

/// What is kept beside an input, under the input's key.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The record that the input was a part of.
    record: RecordToken,
    /// The observation, under the record's own data key: what ends the record ends this copy of it (Art. 17).
    observation: Sealed,
}

/// The observation that an input was a part of.
#[derive(Serialize, Deserialize)]
struct Whole {
    dataset: DatasetName,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    handle: String,
    identifiers: Vec<Identifier>,
    count: u64,
    /// Which of the identifiers the input is.
    numbers: Vec<usize>,
    /// The state in which the record was appended without them.
    digest: String,
}

/// What an input was a part of: some identifiers of an observation, with the record's data key.
pub(crate) struct PartOf<'a> {
    pub(crate) read: &'a Read,
    pub(crate) numbers: &'a [usize],
    pub(crate) key: &'a DataKey,
}

/// Seals the observation of an input; nothing where it is too large to be kept. `key` is the input's.
pub(crate) fn keep(key: &DataKey, part_of: &PartOf<'_>) -> Result<Option<Sealed>, Error> {
    let read = part_of.read;
    let observation = &read.observation;
    if bytes_of(observation) > KEPT_BYTES_MAX {
        return Ok(None);
    }
    let whole = Whole {
        dataset: observation.dataset.clone(),
        key: observation.key.clone(),
        unit: observation.unit.clone(),
        handle: observation.handle.clone(),
        identifiers: observation.identifiers.clone(),
        count: observation.count,
        numbers: part_of.numbers.to_vec(),
        digest: read.digest.clone(),
    };
    let kept = Kept {
        record: read.record,
        observation: seal_json(part_of.key, &context_of(read.record), &whole).map_err(Error::Vault)?,
    };
    seal_json(key, CONTEXT, &kept).map(Some).map_err(Error::Vault)
}

fn bytes_of(observation: &Observation) -> usize {
    let identifiers = observation.identifiers.iter();
    let values: usize = identifiers.map(|identifier| identifier.value.len()).sum();
    observation.key.len() + observation.handle.len() + values
}

/// What the observation of a record is sealed for.
fn context_of(record: RecordToken) -> String {
    format!("{CONTEXT}/{}", record.to_hex())
}

/// Why an input stays in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stable code, with a page in ops/errors.
    pub code: &'static str,
    /// What was expected, without personal data.
    pub expected: String,
}

/// What became of an input that was taken in again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// Its record holds it now. Findings are handed on before the input leaves the quarantine.
    Taken(Vec<Finding>),
    /// It stays.
    Stays(Refused),
}

/// Whether what was kept of an input is enough to take it in again; otherwise what has to be done instead.
pub fn can_be_taken_again(input: &Quarantined) -> Result<(), Refused> {
    if input.again.is_some() {
        return Ok(());
    }
    if input.stood.is_some() {
        return Err(no_input());
    }
    let is_cut_off = input.input.as_bytes().len() >= INPUT_BYTES_MAX || input.code == "intake-oversize";
    let (code, expected) = if is_cut_off {
        (
            "intake-cut-off",
            "a whole input: this one is longer than what is kept, so mend its source and scan the system again",
        )
    } else {
        (
            "intake-source-only",
            "a whole record: what was kept is none, so mend the connector's configuration and scan the system again",
        )
    };
    Err(Refused {
        code,
        expected: expected.to_owned(),
    })
}

impl Intake {
    /// Takes an input of the quarantine in again.
    ///
    /// # Errors
    /// As [`Intake::publish`]: again changes nothing.
    pub async fn take_again(&self, system: &SystemName, input: &Quarantined) -> Result<Again, Error> {
        let sealed = match (can_be_taken_again(input), &input.again) {
            (Ok(()), Some(sealed)) => sealed,
            (Err(refused), _) => return Ok(Again::Stays(refused)),
            (Ok(()), None) => return Err(Error::Vault(lethe_vault::Error::UnexpectedContent)),
        };
        let key = self.vault.unwrap(&input.key).map_err(Error::Vault)?;
        let kept: Kept = open_json(&key, CONTEXT, sealed).map_err(Error::Vault)?;
        let mut recent = self.recent.lock().await;
        self.be_sure(&mut recent, 1).await?;
        let known = self.known_of(&recent, &[kept.record]).await?;
        let last = last_of(&recent, &BTreeMap::new(), &known, kept.record);
        let Some(whole) = self.open_kept(&kept, last.as_ref())? else {
            return Ok(Again::Stays(key_gone()));
        };
        let (digest, numbers) = (whole.digest.clone(), whole.numbers.clone());
        let (read, unread) = read(observation(whole), system, &self.naming);
        let is_still = |unread: &Unread| unread.numbers.iter().any(|number| numbers.contains(number));
        if let Some(still) = unread.into_iter().find(is_still) {
            let Rejected { code, expected, .. } = still.rejected;
            return Ok(Again::Stays(Refused { code, expected }));
        }
        let is_as_it_was = |known: &str| known == digest || known == read.digest;
        if !last.as_ref().is_some_and(|(known, _)| is_as_it_was(known)) {
            return Ok(Again::Stays(changed_since()));
        }
        let mut batch = Batch::default();
        self.take_one(&self.maker(), system, &read, last, &mut batch)?;
        self.send(system, &mut batch, &mut recent).await?;
        self.count(&batch.published);
        Ok(Again::Taken(batch.published.findings))
    }

    /// Opens the observation with the key that its record has now; nothing where that is another one, or none.
    fn open_kept(
        &self,
        kept: &Kept,
        last: Option<&(String, Option<KeyWrapped>)>,
    ) -> Result<Option<Whole>, Error> {
        let Some((_, Some(wrapped))) = last else {
            return Ok(None);
        };
        let key = self.vault.unwrap(wrapped).map_err(Error::Vault)?;
        match open_json(&key, &context_of(kept.record), &kept.observation) {
            Ok(whole) => Ok(Some(whole)),
            // Its bytes are whole: they were authenticated with the place around them. So the key is another.
            Err(lethe_vault::Error::CannotOpen { .. }) => Ok(None),
            Err(error) => Err(Error::Vault(error)),
        }
    }
}

fn no_input() -> Refused {
    Refused {
        code: "intake-no-input",
        expected: "what a source told: this stood among Lethe's own entries and can be none, so find out who wrote it, then drop it"
            .to_owned(),
    }
}

fn key_gone() -> Refused {
    Refused {
        code: "intake-key-gone",
        expected:
            "a record that still has the key it had: its key was ended, and what was kept opens no more"
                .to_owned(),
    }
}

/// Of an input whose record was told since.
pub fn changed_since() -> Refused {
    Refused {
        code: "intake-changed-since",
        expected: "a record that is as it was: its source has told since how it is now".to_owned(),
    }
}

fn observation(whole: Whole) -> Observation {
    Observation {
        dataset: whole.dataset,
        key: whole.key,
        unit: whole.unit,
        handle: whole.handle,
        identifiers: whole.identifiers,
        count: whole.count,
        gone: false,
    }
}
