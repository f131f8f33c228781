//! Published events: what a program says about the records of its own system, as CloudEvents 1.0 in structured JSON.
//!
//! The attributes are in the clear and hold names and numbers only; the record is the event's data, sealed or, over TLS, in the clear. An
//! event is named by system, shard and sequence; its sealed data is bound to that name.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_terms::{DatasetName, Identifier, ShardName, SystemName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::read::{Refused, malformed, read_json};
use crate::{Error, PublicKey, Sealer};

/// What every session for published events is begun with (HPKE's `info`).
pub const INTAKE_INFO: &[u8] = b"lethe/intake/v1";

/// The present version of the format, as an event's `type` says it.
pub const EVENT_TYPE: &str = "org.lethe.record.published.v1";

/// What an event's type begins with in every version.
const EVENT_TYPE_PREFIX: &str = "org.lethe.record.published.";

/// Media type of sealed data.
pub const SEALED_MEDIA_TYPE: &str = "application/vnd.lethe.sealed";

/// Longest event, in bytes of JSON: [`IDENTIFIERS_MAX`] identifiers of 1 KiB fit, sealed and in base64, once over.
pub const EVENT_BYTES_MAX: usize = 512 << 10;

/// Identifiers of one record: a record with more is a crowd's.
pub const IDENTIFIERS_MAX: usize = 256;

/// Longest value of an identifier, in bytes: an e-mail address has at most 254.
pub const VALUE_BYTES_MAX: usize = 1_024;

/// Longest key and handle, in bytes: both are names, not contents.
pub const NAME_BYTES_MAX: usize = 4_096;

/// Longest `time`, in bytes: RFC 3339 with nanoseconds and offset has 35.
const TIME_BYTES_MAX: usize = 40;

const SOURCE_PREFIX: &str = "/lethe/systems/";
const SEQUENCE_DIGITS: usize = 20;

/// Greatest sequence: what counts rows or microseconds does not come near it, and every language has a number for it.
const SEQUENCE_MAX: u64 = i64::MAX as u64;

/// Number of an event within its shard, below 2^63: grows with every event, gaps are fine. On the wire 20 digits, so that it sorts as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}", self.0)
    }
}

impl FromStr for Sequence {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str =
            "malformed sequence: expected 20 digits, zeros in front, at most 9223372036854775807";
        if text.len() != SEQUENCE_DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(EXPECTED);
        }
        match text.parse() {
            Ok(number) if number <= SEQUENCE_MAX => Ok(Self(number)),
            _ => Err(EXPECTED),
        }
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Sequence {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sequence".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^0[0-9]{19}$",
            "description": "Number of the event within its shard, below 2^63: grows with every event, gaps are fine. Zeros in front."
        })
    }
}

/// A record as its system holds it now, whole: what an event says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a record: an object with `dataset`, `key`, `identifiers` or `gone`"
)]
pub struct PublishedRecord {
    /// The dataset, one of those that the settings declare for the system.
    pub dataset: DatasetName,
    /// Stable key of the record within the dataset, 1 to 4096 bytes.
    pub key: String,
    /// How the system finds the record again; the key where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Every identifier that the record holds, at most 256 of at most 1024 bytes each. None only where the record is gone.
    #[serde(default)]
    pub identifiers: Vec<Identifier>,
    /// How many rows or lines it stands for.
    #[serde(default = "one")]
    pub count: u64,
    /// Whether the record is gone from the system.
    #[serde(default)]
    pub gone: bool,
}

const fn one() -> u64 {
    1
}

impl fmt::Debug for PublishedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublishedRecord({}, {} identifiers)",
            self.dataset,
            self.identifiers.len()
        )
    }
}

impl PublishedRecord {
    /// Reads a record from JSON and checks its sizes.
    ///
    /// # Errors
    /// Where it is not one, naming the place and never the value.
    pub fn read(bytes: &[u8]) -> Result<Self, Refused> {
        let record: Self = read_json(bytes, "data")?;
        record.checked()
    }

    pub(crate) fn checked(self) -> Result<Self, Refused> {
        let is_name = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
        let long = |identifier: &Identifier| !(1..=VALUE_BYTES_MAX).contains(&identifier.value.len());
        let wrong = if !is_name(&self.key) {
            Some(("data.key".to_owned(), format!("1 to {NAME_BYTES_MAX} bytes")))
        } else if self.handle.as_deref().is_some_and(|handle| !is_name(handle)) {
            Some(("data.handle".to_owned(), format!("1 to {NAME_BYTES_MAX} bytes")))
        } else if self.identifiers.len() > IDENTIFIERS_MAX {
            Some((
                "data.identifiers".to_owned(),
                format!("at most {IDENTIFIERS_MAX}"),
            ))
        } else if self.identifiers.is_empty() && !self.gone {
            Some((
                "data.identifiers".to_owned(),
                "at least one, or gone: true".to_owned(),
            ))
        } else {
            let at = self.identifiers.iter().position(long);
            at.map(|at| {
                (
                    format!("data.identifiers[{at}].value"),
                    format!("1 to {VALUE_BYTES_MAX} bytes"),
                )
            })
        };
        wrong.map_or(Ok(self), |(place, expected)| Err(malformed(place, expected)))
    }
}

/// Names an event: no two of a server's events share system, shard and sequence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventName {
    /// The system whose record it is about.
    pub system: SystemName,
    /// The shard of the system.
    pub shard: ShardName,
    /// The number within the shard.
    pub sequence: Sequence,
}

impl EventName {
    /// What sealed data is bound to: type, source, shard and sequence, each on a line.
    pub fn context(&self) -> Vec<u8> {
        format!(
            "{EVENT_TYPE}\n{SOURCE_PREFIX}{}\n{}\n{}",
            self.system, self.shard, self.sequence
        )
        .into_bytes()
    }

    /// Key of the event on a topic: events of a shard stay in one partition, in order.
    pub fn key(&self) -> String {
        format!("{}/{}", self.system, self.shard)
    }
}

/// The data of an event.
#[derive(Clone, PartialEq, Eq)]
pub enum EventData {
    /// A record in the clear: over TLS only, never at rest.
    Clear(PublishedRecord),
    /// A sealed message that holds a record.
    Sealed(Vec<u8>),
}

impl fmt::Debug for EventData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(record) => record.fmt(f),
            Self::Sealed(bytes) => write!(f, "Sealed({} B)", bytes.len()),
        }
    }
}

/// One published event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedEvent {
    /// Its name.
    pub name: EventName,
    /// What it says.
    pub data: EventData,
}

/// A published event as it travels: CloudEvents 1.0, structured JSON. Exactly one of `data` and `data_base64` is there.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    rename = "PublishedEvent",
    expecting = "a published event: an object of CloudEvents 1.0"
)]
pub struct EventWire {
    /// `1.0`.
    specversion: String,
    /// The shard, `/` and the sequence.
    id: String,
    /// `/lethe/systems/` and the name of the system.
    source: String,
    /// `org.lethe.record.published.v1`.
    r#type: String,
    /// The shard, one of those that the settings declare for the system.
    shard: ShardName,
    /// The number within the shard.
    sequence: Sequence,
    /// When it happened, RFC 3339; nothing rests on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// `application/json` with `data`, `application/vnd.lethe.sealed` with `data_base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<String>,
    /// The record in the clear: to `POST /v1/events` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<PublishedRecord>,
    /// The sealed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

impl PublishedEvent {
    /// Reads an event.
    ///
    /// # Errors
    /// Where it is not one, naming the place and never the value.
    pub fn read(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() > EVENT_BYTES_MAX {
            return Err(Refused {
                code: "event-oversize",
                place: "event".to_owned(),
                expected: format!("at most {EVENT_BYTES_MAX} bytes"),
            });
        }
        let wire: EventWire = read_json(bytes, "")?;
        if let Some(version) = wire.r#type.strip_prefix(EVENT_TYPE_PREFIX)
            && wire.r#type != EVENT_TYPE
            && version
                .strip_prefix('v')
                .is_some_and(|digits| digits.parse::<u32>().is_ok())
        {
            return Err(Refused {
                code: "event-newer-version",
                place: "type".to_owned(),
                expected: EVENT_TYPE.to_owned(),
            });
        }
        let name = wire.name()?;
        Ok(Self {
            data: wire.data()?,
            name,
        })
    }

    /// The event as JSON.
    ///
    /// # Errors
    /// Where the library cannot write it, which it always can.
    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        self.write_with(None)
    }

    /// The event as JSON, with the moment at which it was taken over.
    ///
    /// # Errors
    /// As [`PublishedEvent::write`].
    pub fn write_at(&self, moment: Timestamp) -> Result<Vec<u8>, serde_json::Error> {
        self.write_with(Some(moment.to_string()))
    }

    fn write_with(&self, time: Option<String>) -> Result<Vec<u8>, serde_json::Error> {
        let (data, sealed, kind) = match &self.data {
            EventData::Clear(record) => (Some(record.clone()), None, "application/json"),
            EventData::Sealed(bytes) => (None, Some(STANDARD.encode(bytes)), SEALED_MEDIA_TYPE),
        };
        serde_json::to_vec(&EventWire {
            specversion: "1.0".to_owned(),
            id: self.name.id(),
            source: format!("{SOURCE_PREFIX}{}", self.name.system),
            r#type: EVENT_TYPE.to_owned(),
            shard: self.name.shard.clone(),
            sequence: self.name.sequence,
            time,
            datacontenttype: Some(kind.to_owned()),
            data,
            data_base64: sealed,
        })
    }
}

impl EventName {
    fn id(&self) -> String {
        format!("{}/{}", self.shard, self.sequence)
    }
}

impl EventWire {
    fn name(&self) -> Result<EventName, Refused> {
        let system = self
            .source
            .strip_prefix(SOURCE_PREFIX)
            .and_then(|name| name.parse().ok());
        let name = EventName {
            system: system
                .ok_or_else(|| malformed("source", format!("{SOURCE_PREFIX} and the name of a system")))?,
            shard: self.shard.clone(),
            sequence: self.sequence,
        };
        let is_time = |text: &String| {
            text.len() <= TIME_BYTES_MAX
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_digit() || b"-:.+TZtz ".contains(&byte))
        };
        for (is_right, place, expected) in [
            (self.specversion == "1.0", "specversion", "1.0".to_owned()),
            (self.r#type == EVENT_TYPE, "type", EVENT_TYPE.to_owned()),
            (
                self.id == name.id(),
                "id",
                "the shard, a slash and the sequence".to_owned(),
            ),
            (
                self.time.as_ref().is_none_or(is_time),
                "time",
                "a moment as in RFC 3339".to_owned(),
            ),
        ] {
            if !is_right {
                return Err(malformed(place, expected));
            }
        }
        Ok(name)
    }

    fn data(self) -> Result<EventData, Refused> {
        let kind = self.datacontenttype.as_deref();
        match (self.data, self.data_base64) {
            (Some(record), None) if kind.is_none_or(|kind| kind == "application/json") => {
                record.checked().map(EventData::Clear)
            }
            (None, Some(text)) if kind == Some(SEALED_MEDIA_TYPE) => STANDARD
                .decode(text)
                .map(EventData::Sealed)
                .map_err(|_| malformed("data_base64", "base64 with padding")),
            (Some(_), None) => Err(malformed("datacontenttype", "application/json with data")),
            (None, Some(_)) => Err(malformed(
                "datacontenttype",
                format!("{SEALED_MEDIA_TYPE} with data_base64"),
            )),
            _ => Err(malformed("event", "either data or data_base64")),
        }
    }
}

/// Seals the events of one program: one session, for as long as the program runs.
#[derive(Debug)]
pub struct Publisher {
    sealer: Sealer,
}

impl Publisher {
    /// A publisher whose events only the holder of the intake key can read; `sender` proves whose they are.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn new(
        intake: &PublicKey,
        sender: &crate::PrivateKey,
        random: &Zeroizing<[u8; crate::KEY_BYTES]>,
    ) -> Result<Self, Error> {
        Ok(Self {
            sealer: Sealer::begin(intake, Some(sender), INTAKE_INFO, random)?,
        })
    }

    /// Seals one event.
    ///
    /// # Errors
    /// [`Error::UsedUp`].
    pub fn event(&mut self, name: EventName, record: &PublishedRecord) -> Result<PublishedEvent, Error> {
        // A record is text, numbers and lists: the library can always write it.
        let plain = Zeroizing::new(serde_json::to_vec(record).map_err(|_| Error::UsedUp)?);
        let sealed = self.sealer.seal(&name.context(), &plain)?;
        Ok(PublishedEvent {
            name,
            data: EventData::Sealed(sealed),
        })
    }
}
