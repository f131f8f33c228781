//! Published events that could not be taken: each is kept whole, with what decides whether it may still be taken once something was mended.

use lethe_journal::{Position, Quarantined};
use lethe_kit::Rejected;
use lethe_terms::SystemName;
use lethe_vault::{DataKey, KeyVault, open_json, seal_json};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::inputs::Beside;
use crate::outgoing::Outgoing;
use crate::{Error, Intake, Published, open_input};

/// What the note beside an event is sealed for, so that it opens as nothing else.
const CONTEXT: &str = "quarantine/event";

/// An event that could not be taken.
#[derive(Debug)]
pub struct KeptEvent {
    /// Why, and the event.
    pub rejected: Rejected,
    /// What is to be known of it.
    pub note: EventNote,
}

/// What is kept beside an event, under the input's key: nobody else can have written it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventNote {
    /// Where it stood on the intake stream.
    pub position: Position,
    /// What of its shard had been taken when it came.
    pub before: Before,
    /// Who had sealed it, where it was opened: then it is kept as it says, and no intake key is needed to read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// What of a shard had been taken at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Nothing.
    Nothing,
    /// This sequence, and none above it.
    UpTo(u64),
    /// Nobody knows, since the event's name could not be read.
    Unknown,
}

/// Whose event it is proven to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The server's own: it came in order over HTTP.
    Server,
    /// Of the holder of this key, by its id.
    Sender(String),
}

/// An event as it is kept, and what is to be known of it.
pub type OpenedEvent = (Zeroizing<Vec<u8>>, EventNote);

/// Whether an input is a published event that was kept whole: it is no record's, and yet there is something to take in again.
pub const fn is_event(input: &Quarantined) -> bool {
    input.again.is_some() && input.of.is_none()
}

/// Opens an event; nothing where the input is none.
///
/// # Errors
/// Where its own key does not open it.
pub fn open_event(
    vault: &dyn KeyVault,
    input: &Quarantined,
) -> Result<Option<OpenedEvent>, lethe_vault::Error> {
    let Some(sealed) = input.again.as_ref().filter(|_| is_event(input)) else {
        return Ok(None);
    };
    let note = open_json(&vault.unwrap(&input.key)?, CONTEXT, sealed)?;
    Ok(open_input(vault, input, None)?.map(|event| (event, note)))
}

/// Seals the note of an event. `key` is the input's.
pub(crate) fn seal_note(key: &DataKey, note: &EventNote) -> Result<lethe_journal::Sealed, Error> {
    seal_json(key, CONTEXT, note).map_err(Error::Vault)
}

impl Intake {
    /// Puts away events that could not be taken; of no system where none is known.
    ///
    /// # Errors
    /// As [`Intake::publish`].
    pub async fn put_away_events(
        &self,
        system: Option<&SystemName>,
        events: &[KeptEvent],
    ) -> Result<(), Error> {
        let (maker, mut out) = (self.maker(), Outgoing::default());
        let mut quarantined = 0;
        for KeptEvent { rejected, note } in events {
            let is_new = maker.quarantined(rejected, None, Beside::Event(note), system, &mut out)?;
            quarantined += usize::from(is_new);
            self.send_inputs_if_much(&mut out).await?;
        }
        self.send_inputs(&mut out).await?;
        let published = Published {
            quarantined,
            ..Published::default()
        };
        self.counted(&published).await?;
        self.count(&published);
        Ok(())
    }
}
