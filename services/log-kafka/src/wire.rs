//! An entry as a Kafka message.
//!
//! Key and value are the message's own. Headers hold `id` (16 bytes), `epoch` (8 bytes, big-endian; only of a writer that acquired the
//! partition) and, in entries of the log itself, `own`: `fence` or `heartbeat`. Readers never see the log's own entries: they are gaps. A message
//! without these headers is a stray: whoever may write to the topic can have put it there, and it is never handed on as an entry.
//!
//! In a topic to which others write ([`Stream::is_foreign`](lethe_journal::Stream::is_foreign)) no header counts: nobody there has an
//! epoch, and whatever is no heartbeat is an entry, named by its position.

use lethe_journal::{Entry, Epoch, Position};
use lethe_terms::{EntryId, Timestamp};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureRecord};

use crate::clients::Sender;

/// Before the keys of the log's own entries; nobody else's key may begin so.
pub(crate) const OWN_KEY_PREFIX: &[u8] = b"\0lethe.";

const ID: &str = "id";
const EPOCH: &str = "epoch";
const OWN: &str = "own";
const FENCE: &[u8] = b"fence";
const HEARTBEAT: &[u8] = b"heartbeat";

/// What is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// An entry of the port.
    Entry(Entry),
    /// The beginning of an epoch.
    Fence,
    /// An entry that only lets segments close.
    Heartbeat,
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    /// Where it stands.
    pub(crate) position: Position,
    /// When the broker took it; nothing where only its writer says when.
    pub(crate) taken_at: Option<Timestamp>,
    /// The epoch of its writer.
    pub(crate) epoch: Option<Epoch>,
    /// What it is.
    pub(crate) found: Found,
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Appended by this log.
    Ours(Content),
    /// Written by somebody else.
    Stray {
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
}

/// Key, value and headers of what is appended.
pub(crate) struct Parts<'a> {
    pub(crate) key: std::borrow::Cow<'a, [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: OwnedHeaders,
}

impl Parts<'_> {
    /// Hands the message to a producer; how it ends comes later.
    pub(crate) fn send(
        &self,
        producer: &Sender,
        topic: &str,
        partition: i32,
    ) -> Result<DeliveryFuture, KafkaError> {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic)
            .partition(partition)
            .key(&self.key)
            .headers(self.headers.clone());
        record.payload = self.value;
        producer.send_result(record).map_err(|(error, _)| error)
    }
}

impl Content {
    /// The message of this content, written under an epoch.
    pub(crate) fn parts(&self, epoch: Option<Epoch>) -> Parts<'_> {
        let mut headers = OwnedHeaders::new_with_capacity(2);
        if let Some(epoch) = epoch {
            headers = with(headers, EPOCH, &epoch.to_be_bytes());
        }
        match self {
            Self::Entry(entry) => Parts {
                key: entry.key.as_slice().into(),
                value: entry.value.as_deref(),
                headers: with(headers, ID, entry.id.as_bytes()),
            },
            // Each fence has a key of its own, so that compaction keeps every one: a reader must know all of them.
            Self::Fence => Parts {
                key: own_key(FENCE, &epoch.unwrap_or_default().to_be_bytes()).into(),
                value: Some(&[]),
                headers: with(headers, OWN, FENCE),
            },
            Self::Heartbeat => Parts {
                key: own_key(HEARTBEAT, &[]).into(),
                value: Some(&[]),
                headers: with(headers, OWN, HEARTBEAT),
            },
        }
    }

    /// Bytes of key and value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Entry(entry) => entry.key.len() + entry.value.as_ref().map_or(0, Vec::len),
            Self::Fence | Self::Heartbeat => 0,
        }
    }
}

fn with(headers: OwnedHeaders, key: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header {
        key,
        value: Some(value),
    })
}

fn own_key(kind: &[u8], rest: &[u8]) -> Vec<u8> {
    [OWN_KEY_PREFIX, kind, b".", rest].concat()
}

/// Reads a message of a topic to which others write: it can be anything, and is an entry all the same.
pub(crate) fn decode_foreign(position: Position, message: &BorrowedMessage<'_>) -> Read {
    let key = message.key().unwrap_or_default();
    let value = message.payload();
    // Anybody can write one; they then hide nothing but a message of their own without content.
    let is_heartbeat = key == own_key(HEARTBEAT, &[]) && value.is_none_or(<[u8]>::is_empty);
    let mut id = [0; 16];
    id[8..].copy_from_slice(&position.to_be_bytes());
    let content = if is_heartbeat {
        Content::Heartbeat
    } else {
        Content::Entry(Entry {
            id: EntryId::from_bytes(id),
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
        })
    };
    Read {
        position,
        taken_at: taken_at(message),
        epoch: None,
        found: Found::Ours(content),
    }
}

/// Reads a message.
pub(crate) fn decode(position: Position, message: &BorrowedMessage<'_>) -> Read {
    match ours(message) {
        Some((epoch, content)) => Read {
            position,
            taken_at: taken_at(message),
            epoch,
            found: Found::Ours(content),
        },
        None => Read {
            position,
            taken_at: taken_at(message),
            epoch: None,
            found: Found::Stray {
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().unwrap_or_default().to_vec(),
            },
        },
    }
}

/// When the broker took a message: a time that its writer set says nothing.
fn taken_at(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    match message.timestamp() {
        rdkafka::Timestamp::LogAppendTime(ms) => Some(Timestamp::from_millis(ms)),
        rdkafka::Timestamp::CreateTime(_) | rdkafka::Timestamp::NotAvailable => None,
    }
}

/// What this log appended, with its writer's epoch; nothing where the headers are not its own.
fn ours(message: &BorrowedMessage<'_>) -> Option<(Option<Epoch>, Content)> {
    let headers = message.headers()?;
    let (mut id, mut epoch, mut own) = (None, None, None);
    for header in headers.iter() {
        match header.key {
            ID => id = header.value,
            EPOCH => epoch = Some(Epoch::from_be_bytes(header.value?.try_into().ok()?)),
            OWN => own = header.value,
            // A newer version or a tool of the company may add some.
            _ => {}
        }
    }
    // Under another key it would end what stands there, and say nothing of it.
    let stands_as = |kind: &[u8], rest: &[u8]| {
        let is_void = message.payload().is_none_or(<[u8]>::is_empty);
        is_void && message.key() == Some(&own_key(kind, rest))
    };
    let content = match own {
        Some(FENCE) if stands_as(FENCE, &epoch?.to_be_bytes()) => Content::Fence,
        Some(HEARTBEAT) if stands_as(HEARTBEAT, &[]) => Content::Heartbeat,
        Some(_) => return None,
        None => Content::Entry(Entry {
            id: EntryId::from_bytes(id?.try_into().ok()?),
            key: message.key()?.to_vec(),
            value: message.payload().map(<[u8]>::to_vec),
        }),
    };
    Some((epoch, content))
}
