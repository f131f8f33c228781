//! CloudEvents 1.0, structured mode: how every value on the log is framed, versioned and read back.

use lethe_terms::{EntryId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Stream;

/// Largest value that is read from the log, in bytes: an entry above it is refused before it is parsed.
pub const VALUE_BYTES_MAX: usize = 4 << 20;

/// Prefix of every event type.
const TYPE_PREFIX: &str = "org.lethe.";

/// Why a value could not be read or written. Nothing is guessed from such an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a CloudEvents object of the expected shape.
    #[error("malformed {expected} event: {reason}")]
    Malformed {
        /// Type that was expected.
        expected: &'static str,
        /// What is wrong, without the content.
        reason: String,
    },
    /// Another type of event than the stream holds.
    #[error("unexpected event type: expected {expected}")]
    UnexpectedType {
        /// Type that was expected.
        expected: &'static str,
    },
    /// A version from the future, or a type, a field or a word of one.
    #[error(
        "{expected} event of a newer version: this program reads up to version {newest}, as far as it knows that"
    )]
    NewerVersion {
        /// Type that was expected.
        expected: &'static str,
        /// Newest version that is known here.
        newest: u32,
    },
    /// Larger than any event may be.
    #[error("event larger than {VALUE_BYTES_MAX} bytes")]
    TooLarge,
}

impl Error {
    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "journal-malformed",
            Self::UnexpectedType { .. } => "journal-unexpected-type",
            Self::NewerVersion { .. } => "journal-newer-version",
            Self::TooLarge => "journal-too-large",
        }
    }

    /// Whether no Lethe can read it, so that waiting for another version is of no use: a reader passes it by.
    pub const fn is_of_nobody(&self) -> bool {
        !matches!(self, Self::NewerVersion { .. })
    }
}

/// What can be the data of an event: a type name, a version, and how older versions become the present one.
pub trait Kind: Serialize + DeserializeOwned {
    /// Name of the type, without prefix and version, such as `record.observed`.
    const NAME: &'static str;
    /// Present version, from 1.
    const VERSION: u32 = 1;

    /// Turns the data of an older version into that of the present one.
    fn upcast(_version: u32, data: serde_json::Value) -> serde_json::Value {
        data
    }
}

/// One event: what happened, when, and where it was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<T> {
    /// Same as the id of the entry.
    pub id: EntryId,
    /// Who noticed it, as a URI reference such as `/lethe/intake`.
    pub source: &'static str,
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub data: T,
}

#[derive(Serialize)]
struct Frame<'a, T> {
    specversion: &'static str,
    id: EntryId,
    source: &'a str,
    r#type: String,
    time: Timestamp,
    datacontenttype: &'static str,
    data: &'a T,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadFrame<'a> {
    specversion: &'a str,
    id: EntryId,
    #[serde(borrow)]
    source: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
    time: Timestamp,
    datacontenttype: &'a str,
    #[serde(borrow)]
    data: &'a serde_json::value::RawValue,
}

/// Prefix of every source.
const SOURCE_PREFIX: &str = "/lethe/";

/// Sources that write events; a closed list, so that a source is a `'static` name.
const SOURCES: [&str; 6] = [
    "/lethe/intake",
    "/lethe/lineage",
    "/lethe/conductor",
    "/lethe/connectors",
    "/lethe/ledger",
    "/lethe/gateway",
];

impl<T: Kind> Event<T> {
    /// The full type name, such as `org.lethe.record.observed.v1`.
    pub fn type_name() -> String {
        format!("{TYPE_PREFIX}{}.v{}", T::NAME, T::VERSION)
    }

    /// The event as one JSON object.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let frame = Frame {
            specversion: "1.0",
            id: self.id,
            source: self.source,
            r#type: Self::type_name(),
            time: self.time,
            datacontenttype: "application/json",
            data: &self.data,
        };
        serde_json::to_vec(&frame).map_err(|error| malformed::<T>(&error))
    }

    /// Reads an event, upcasting older versions.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        let frame: ReadFrame<'_> = serde_json::from_slice(bytes).map_err(|error| {
            if is_of_lethe(bytes) {
                unread::<T>(&error)
            } else {
                malformed::<T>(&error)
            }
        })?;
        if frame.specversion != "1.0" || frame.datacontenttype != "application/json" {
            return Err(Error::Malformed {
                expected: T::NAME,
                reason: "not CloudEvents 1.0 with JSON data".into(),
            });
        }
        let source = SOURCES
            .into_iter()
            .find(|known| *known == frame.source)
            .ok_or_else(|| unknown_source::<T>(&frame.source))?;
        let data = read_data::<T>(&frame.r#type, frame.data.get())?;
        Ok(Self {
            id: frame.id,
            source,
            time: frame.time,
            data,
        })
    }
}

/// What tells an event of whatever version.
#[derive(Deserialize)]
struct Marks<'a> {
    #[serde(borrow, default)]
    source: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    r#type: std::borrow::Cow<'a, str>,
}

/// Whether something bears the marks of an event of Lethe, of whatever version: what does not is nobody's of a newer one either.
fn is_of_lethe(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Marks<'_>>(bytes)
        .is_ok_and(|marks| marks.source.starts_with(SOURCE_PREFIX) && marks.r#type.starts_with(TYPE_PREFIX))
}

/// A newer program may have a role that writes and is not known here.
fn unknown_source<T: Kind>(source: &str) -> Error {
    if source.starts_with(SOURCE_PREFIX) {
        return newer::<T>();
    }
    Error::Malformed {
        expected: T::NAME,
        reason: "unknown source".into(),
    }
}

/// Reads an entry of a stream, to see whether it can be read there; nothing where the stream holds no events, or sealed ones.
///
/// Errors: as [`Event::decode`].
pub fn check(stream: &Stream, value: &[u8]) -> Option<Result<(), Error>> {
    let kinds = kinds_in(stream);
    let marks = serde_json::from_slice::<Marks<'_>>(value).ok();
    let bears = |kind: &&&str| {
        let name = marks
            .as_ref()
            .and_then(|marks| marks.r#type.strip_prefix(TYPE_PREFIX));
        name.and_then(|name| name.rsplit_once(".v"))
            .is_some_and(|(name, _)| name == **kind)
    };
    // What bears no name that belongs there is read as the first: it then says what is wrong with it.
    let kind = kinds.iter().find(bears).or(kinds.first())?;
    Some(check_as(kind, value))
}

/// Names of the types that stand in a stream.
const fn kinds_in(stream: &Stream) -> &'static [&'static str] {
    match stream {
        Stream::Records => &["record.observed"],
        Stream::Keys => &["key.wrapped"],
        Stream::Cursors => &["cursor.advanced"],
        Stream::Erased => &["erased.marked"],
        Stream::Systems => &["system.told", "scan.asked", "look.asked", "process.told"],
        Stream::Owners => &["partition.owned"],
        Stream::Cases => &["case.entry"],
        Stream::Commands => &["command"],
        Stream::Instructions(_) => &["instruction"],
        Stream::Answers => &["answer"],
        Stream::Quarantine => &[
            "input.quarantined",
            "input.dropped",
            "input.ended",
            "input.retry_asked",
            "input.retried",
            "place.cleared",
        ],
        Stream::Leaves | Stream::Intake | Stream::Requests(_) | Stream::Replies(_) => &[],
    }
}

/// When an entry was made, whatever its kind; nothing where it is no event, such as a leaf.
pub fn time_of(value: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Time {
        time: Timestamp,
    }
    let event: Time = serde_json::from_slice(value).ok()?;
    Some(event.time)
}

fn read_data<T: Kind>(type_name: &str, data: &str) -> Result<T, Error> {
    let unexpected = Error::UnexpectedType { expected: T::NAME };
    let Some((name, version)) = type_name
        .strip_prefix(TYPE_PREFIX)
        .and_then(|rest| rest.rsplit_once(".v"))
        .and_then(|(name, version)| Some((name, version.parse::<u32>().ok()?)))
    else {
        return Err(unexpected);
    };
    if name != T::NAME {
        let is_known = KNOWN.contains(&name);
        return Err(if is_known { unexpected } else { newer::<T>() });
    }
    if version == T::VERSION {
        return serde_json::from_str(data).map_err(|error| unread::<T>(&error));
    }
    if version > T::VERSION || version == 0 {
        return Err(newer::<T>());
    }
    let old = serde_json::from_str(data).map_err(|error| malformed::<T>(&error))?;
    serde_json::from_value(T::upcast(version, old)).map_err(|error| malformed::<T>(&error))
}

const fn newer<T: Kind>() -> Error {
    Error::NewerVersion {
        expected: T::NAME,
        newest: T::VERSION,
    }
}

/// Whether there is a field or a word that nobody knows here: a newer program may add one without another version, and to pass its entry by would lose it.
fn is_of_the_future(error: &serde_json::Error) -> bool {
    let text = error.to_string();
    text.starts_with("unknown field ") || text.starts_with("unknown variant ")
}

fn unread<T: Kind>(error: &serde_json::Error) -> Error {
    if is_of_the_future(error) {
        newer::<T>()
    } else {
        malformed::<T>(error)
    }
}

/// serde_json's messages can quote content, so only the kind of the fault and its place go on.
fn malformed<T: Kind>(error: &serde_json::Error) -> Error {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "could not be read",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "a field is missing, unknown or of another type",
        serde_json::error::Category::Eof => "cut off",
    };
    Error::Malformed {
        expected: T::NAME,
        reason: format!("{kind} at line {} column {}", error.line(), error.column()),
    }
}

macro_rules! kinds {
    ($($type:ty = $name:literal),+ $(,)?) => {
        $( impl Kind for $type { const NAME: &'static str = $name; } )+

        /// Names of all types that this version knows; another one is of a newer version.
        const KNOWN: &[&str] = &[$( $name ),+];

        fn check_as(name: &str, value: &[u8]) -> Result<(), Error> {
            match name {
                $( $name => Event::<$type>::decode(value).map(drop), )+
                _ => Event::<crate::CaseEntry>::decode(value).map(drop),
            }
        }
    };
}

kinds! {
    crate::RecordObserved = "record.observed",
    crate::KeyWrapped = "key.wrapped",
    crate::CursorAdvanced = "cursor.advanced",
    crate::ErasedMark = "erased.marked",
    crate::Quarantined = "input.quarantined",
    crate::InputDropped = "input.dropped",
    crate::InputEnded = "input.ended",
    crate::InputRetryAsked = "input.retry_asked",
    crate::InputRetried = "input.retried",
    crate::PlaceCleared = "place.cleared",
    crate::CaseEntry = "case.entry",
    crate::Command = "command",
    crate::Instruction = "instruction",
    crate::Answer = "answer",
    crate::SystemTold = "system.told",
    crate::ScanAsked = "scan.asked",
    crate::LookAsked = "look.asked",
    crate::PartitionOwned = "partition.owned",
    crate::ProcessTold = "process.told",
}
