//! Reading: consumers that stand somewhere, and pages.
//!
//! A consumer is assigned a position by hand and joins no group. One that ended with a full page stays where it is, with what it has
//! fetched ahead, and serves the next page if that is asked for soon; the others wait, unassigned, for any place: one that stands at the end of
//! what there is asks the broker hundreds of times a second. A page ends at its limits, at the head, or where
//! Kafka says that nothing more is there: the positions up to the head are then control records, aborted entries, or entries of the log
//! itself. Kafka's word counts only from a consumer that was assigned after the head was asked for: an older one may speak of an older end. Where a
//! partition has replicas, so may a new leader: what it gives to readers ends, for a moment, before what the old one had given. It does not answer a
//! question for the head meanwhile (KIP-207). So the consumer itself, which may know another leader than others do, asks for the head once more, and the
//! word counts that comes after the answer. Both are taken twice: only a second change of leaders within milliseconds could come between each pair.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lethe_journal::{Place, Position};
use lethe_log::Error;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::channel::Channel;
use crate::clients::{Clients, Consumer, tend};
use crate::shared::ASK_ONCE_TIMEOUT;
use crate::told;
use crate::wire::{Read, decode, decode_foreign};

/// How long the cluster may keep a reader waiting for the next message: an election takes a few seconds.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(30);

/// How long one look at a consumer's queue lasts; only then the deadline is looked at.
const POLL: Duration = Duration::from_millis(100);

/// How often Kafka has to say that nothing more is there, each time after the leader said that the head is.
const WORDS_MIN: u32 = 2;

/// Consumers that are kept. Each has a few threads and connections, and up to 16 MiB that it fetched ahead.
const KEPT_MAX: usize = 24;

/// How long a consumer stands ready for the next page. Who reads on does so at once; who read one entry to look at it does not come back.
pub(crate) const STANDING: Duration = Duration::from_millis(500);

/// The consumers.
pub(crate) struct Readers {
    kept: Mutex<Vec<Reader>>,
}

struct Reader {
    consumer: Consumer,
    /// Where it stands; `None` where it is assigned nothing.
    stands: Option<(Place, Position)>,
    /// When it was used last.
    used: Instant,
}

impl Reader {
    fn assign(&mut self, channel: &Channel, from: Position) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(1);
        let offset = Offset::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        list.add_partition_offset(&channel.topic, channel.partition(), offset)
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| unread(&channel.at, &told(&error)))?;
        self.stands = Some((channel.at.clone(), from));
        Ok(())
    }

    /// Whether the leader from which it reads says now that the partition can be read up to a position.
    fn reaches(&self, channel: &Channel, to: Position) -> bool {
        let asked = self
            .consumer
            .fetch_watermarks(&channel.topic, channel.partition(), ASK_ONCE_TIMEOUT);
        asked.is_ok_and(|(_, high)| Position::try_from(high).is_ok_and(|high| high >= to))
    }
}

/// What the sink of a scan wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// The next message.
    More,
    /// No more after this one.
    Enough,
    /// This one was too much: it is to be read again.
    TooMuch,
}

impl Readers {
    pub(crate) const fn new() -> Self {
        Self {
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Reads what stands in `from..to`, where `to` is not past the head. Gives the position to read on from.
    pub(crate) fn scan(
        &self,
        clients: &Clients,
        channel: &Channel,
        from: Position,
        to: Position,
        sink: &mut dyn FnMut(Read) -> Want,
    ) -> Result<Position, Error> {
        if from >= to {
            return Ok(from);
        }
        let (mut reader, mut is_fresh) = self.take(clients, channel, from)?;
        // How often it is still to be said that nothing more is there.
        let words = if clients.has_one_replica() { 0 } else { WORDS_MIN };
        let mut left = words;
        let mut next = from;
        let mut deadline = Instant::now() + READ_DEADLINE;
        while next < to {
            match reader.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    deadline = Instant::now() + READ_DEADLINE;
                    left = words;
                    let position = Position::try_from(message.offset()).unwrap_or(0);
                    if position < next {
                        continue;
                    }
                    if position >= to {
                        reader.stands = None;
                        next = to;
                        break;
                    }
                    match sink(decoded(channel, position, &message)) {
                        Want::More => next = position + 1,
                        Want::Enough => {
                            next = position + 1;
                            break;
                        }
                        Want::TooMuch => {
                            reader.stands = None;
                            next = position;
                            break;
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) if is_fresh && left == 0 => {
                    reader.stands = None;
                    next = to;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    left = if is_fresh && reader.reaches(channel, to) {
                        left.saturating_sub(1)
                    } else {
                        words
                    };
                    reader.assign(channel, next)?;
                    is_fresh = true;
                }
                Some(Err(error)) => bear(&channel.at, &error)?,
                None => {}
            }
            if Instant::now() >= deadline {
                return Err(unread(&channel.at, "no answer came in time"));
            }
        }
        self.keep(reader, channel, next, to);
        Ok(next)
    }

    fn take(&self, clients: &Clients, channel: &Channel, from: Position) -> Result<(Reader, bool), Error> {
        let taken = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let stands_here = |reader: &Reader| {
                reader
                    .stands
                    .as_ref()
                    .is_some_and(|(place, position)| *place == channel.at && *position == from)
            };
            if let Some(index) = kept.iter().position(stands_here) {
                return Ok((kept.swap_remove(index), false));
            }
            let idle = kept.iter().position(|reader| reader.stands.is_none());
            let any = idle.or((kept.len() >= KEPT_MAX).then_some(0));
            any.map(|index| kept.remove(index))
        };
        let mut reader = match taken {
            Some(reader) => reader,
            None => Reader {
                consumer: clients
                    .consumer()
                    .map_err(|error| unread(&channel.at, &error.to_string()))?,
                stands: None,
                used: Instant::now(),
            },
        };
        reader.assign(channel, from)?;
        Ok((reader, true))
    }

    fn keep(&self, mut reader: Reader, channel: &Channel, next: Position, to: Position) {
        if reader.stands.is_some() && next < to {
            reader.stands = Some((channel.at.clone(), next));
            reader.used = Instant::now();
            self.put_away(reader);
        } else {
            self.rest(reader);
        }
    }

    /// Takes away what the consumer is assigned: it asks nothing any more.
    fn rest(&self, mut reader: Reader) {
        reader.stands = None;
        if reader.consumer.unassign().is_ok() {
            self.put_away(reader);
        }
    }

    fn put_away(&self, reader: Reader) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(reader);
        }
    }

    /// Answers what those that rest are told and asked: nobody else polls them.
    pub(crate) fn tend(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in kept.iter().filter(|reader| reader.stands.is_none()) {
            tend(&reader.consumer);
        }
    }

    /// Lets those rest that have stood ready for so long and to whom nobody came.
    pub(crate) fn rest_after(&self, standing: Duration) {
        let is_left = |reader: &mut Reader| reader.stands.is_some() && reader.used.elapsed() >= standing;
        let left: Vec<Reader> = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extract_if(.., is_left).collect()
        };
        for reader in left {
            self.rest(reader);
        }
    }
}

fn decoded(channel: &Channel, position: Position, message: &BorrowedMessage<'_>) -> Read {
    if channel.at.stream.is_foreign() {
        decode_foreign(position, message)
    } else {
        decode(position, message)
    }
}

/// The error of a place that cannot be read now.
pub(crate) fn unread(at: &Place, what: &str) -> Error {
    Error::NotStored(format!("{at} cannot be read: {what}"))
}

/// Bears what librdkafka repeats by itself, and ends on the rest.
fn bear(at: &Place, error: &KafkaError) -> Result<(), Error> {
    match error {
        KafkaError::MessageConsumptionFatal(_) => Err(unread(at, &told(error))),
        KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage) => Err(Error::Corrupt(format!(
            "a message in {at} does not have its checksum"
        ))),
        KafkaError::MessageConsumption(
            RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::Authentication,
        ) => Err(unread(at, &told(error))),
        other => {
            tracing::debug!(error = told(other), %at, "a reader goes on after an error");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use lethe_journal::Stream;

    use super::*;
    use crate::settings::KafkaSettings;

    /// What the kept consumers are assigned.
    fn assigned(readers: &Readers) -> Vec<usize> {
        let kept = readers.kept.lock().unwrap();
        kept.iter()
            .map(|reader| reader.consumer.assignment().unwrap().count())
            .collect()
    }

    #[test]
    fn who_reads_on_finds_the_consumer_where_it_stood_and_nobody_leaves_one_asking() {
        // Nobody answers there, and nobody has to: assignments are the client's own.
        let clients = Clients::new(&KafkaSettings::new("127.0.0.1:1")).unwrap();
        let (readers, at) = (Readers::new(), Place::new(Stream::Records, 3));
        let channel = Channel::new(at, "records".to_owned());
        let (reader, is_fresh) = readers.take(&clients, &channel, 0).unwrap();
        assert!(is_fresh);
        readers.keep(reader, &channel, 1, 9);

        readers.rest_after(STANDING * 1_000);
        assert_eq!(assigned(&readers), [1]);
        let (reader, is_fresh) = readers.take(&clients, &channel, 1).unwrap();
        assert!(!is_fresh, "the next page is read on");
        readers.keep(reader, &channel, 2, 9);

        readers.rest_after(Duration::ZERO);
        assert_eq!(assigned(&readers), [0], "it asks nothing of anybody");
        assert!(readers.take(&clients, &channel, 2).unwrap().1);
        assert_eq!(assigned(&readers), [] as [usize; 0], "it is used again");
    }
}
