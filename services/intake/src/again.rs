//! Input of the quarantine that is taken in again, after a normaliser or a mapping was mended.
//!
//! What intake itself refused was one identifier of an observation, and the observation is kept beside it, sealed. It is taken in only while
//! the record stands as it stood then: an older observation never replaces a newer one, and never brings back what is gone.

use std::collections::BTreeMap;

use lethe_journal::{Quarantined, Sealed};
use lethe_kit::{Observation, Rejected};
use lethe_terms::{DatasetName, Identifier, SystemName};
use lethe_vault::{DataKey, open_json, seal_json};
use serde::{Deserialize, Serialize};

use crate::intake::{Published, last_of};
use crate::page::{INPUT_BYTES_MAX, Outgoing, Read, read};
use crate::{Error, Finding, Intake};

/// Bytes of identifiers of an observation that is kept: every unreadable identifier of it carries a copy.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What the observation is sealed for, so that it opens as nothing else.
const CONTEXT: &str = "quarantine/observation";

/// The observation that an input was a part of, as it is kept beside the input.
#[derive(Serialize, Deserialize)]
struct Kept {
    dataset: DatasetName,
    key: String,
    handle: String,
    identifiers: Vec<Identifier>,
    count: u64,
    /// Which of the identifiers the input is.
    number: usize,
    /// The state in which the record was appended without it.
    digest: String,
}

/// Seals the observation of an input; nothing where it is too large to be kept.
pub(crate) fn keep(key: &DataKey, read: &Read, number: usize) -> Result<Option<Sealed>, Error> {
    let observation = &read.observation;
    let bytes: usize = observation
        .identifiers
        .iter()
        .map(|identifier| identifier.value.len())
        .sum();
    if bytes > KEPT_BYTES_MAX {
        return Ok(None);
    }
    let kept = Kept {
        dataset: observation.dataset.clone(),
        key: observation.key.clone(),
        handle: observation.handle.clone(),
        identifiers: observation.identifiers.clone(),
        count: observation.count,
        number,
        digest: read.digest.clone(),
    };
    seal_json(key, CONTEXT, &kept).map(Some).map_err(Error::Vault)
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
        let (digest, number) = (kept.digest.clone(), kept.number);
        let (read, unread) = read(observation(kept), system, &self.naming);
        if let Some(still) = unread.into_iter().find(|unread| unread.number == number) {
            let Rejected { code, expected, .. } = still.rejected;
            return Ok(Again::Stays(Refused { code, expected }));
        }
        self.take_while_unchanged(system, &read, &digest).await
    }

    async fn take_while_unchanged(
        &self,
        system: &SystemName,
        read: &Read,
        digest: &str,
    ) -> Result<Again, Error> {
        let mut recent = self.recent.lock().await;
        self.be_sure(&mut recent, 1).await?;
        let mut staged = BTreeMap::new();
        let known = self.known_of(&recent, &[read.record]).await?;
        let last = last_of(&recent, &staged, &known, read.record);
        if !last
            .as_ref()
            .is_some_and(|(known, _)| known == digest || *known == read.digest)
        {
            return Ok(Again::Stays(Refused {
                code: "intake-changed-since",
                expected: "a record that is as it was: its source has told since how it is now".to_owned(),
            }));
        }
        let (mut out, mut published) = (Outgoing::default(), Published::default());
        let maker = self.maker();
        self.take_one(&maker, system, read, last, &mut staged, &mut out, &mut published)?;
        self.send(out, &mut recent, staged).await?;
        self.count(&published);
        Ok(Again::Taken(published.findings))
    }
}

fn observation(kept: Kept) -> Observation {
    Observation {
        dataset: kept.dataset,
        key: kept.key,
        handle: kept.handle,
        identifiers: kept.identifiers,
        count: kept.count,
        gone: false,
    }
}
