//! Transactions that Kafka left open in a partition although their coordinator has done with them: nobody can read past one, and nothing of Kafka's
//! ends it (KIP-664). A broker that stood still for longer than its session leaves one now and then. The next transaction of the same producer in the same
//! partition ends it: an entry that nobody reads is enough.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use lethe_journal::StreamKind;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::channel::Channel;
use crate::clients::{Clients, DELIVERY_TIMEOUT, Sender};
use crate::wire::Content;
use crate::{Error, told};

/// How long an entry that is committed may take to be readable until its producer commits another one: its marker is written within milliseconds, or
/// the broker that was to write it has gone.
pub(crate) const MARKER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a partition may stand still until whatever producers of this process may have left open there is ended: Kafka ends by itself what a
/// producer that died left open, within its time limit and ten seconds.
pub(crate) const HANGS_AFTER: Duration = Duration::from_secs(42);

/// How long producers are tried one after the other: to make one takes half a second, and there are about twenty.
const END_TIME_MAX: Duration = Duration::from_secs(20);

/// Pause until those are tried that others used.
const PAUSE: Duration = Duration::from_millis(100);

/// Ends what producers of this process, in this run or an earlier one, may have left open in a partition, for as long as that is closed to readers.
/// It is given up, also where it was committed: whoever waits for it looks what is there. A history has one writer, who ends what it left when it
/// begins anew.
pub(crate) fn end(clients: &Clients, channel: &Channel, is_closed: impl Fn() -> bool) {
    if channel.at.stream.kind() == StreamKind::History {
        return;
    }
    tracing::warn!(at = %channel.at, "nobody can read past an open transaction: what this process may have left open is ended");
    let until = Instant::now() + END_TIME_MAX;
    let mut left: Vec<u32> = clients.numbers().collect();
    loop {
        let mut used = Vec::new();
        for number in left {
            if Instant::now() >= until || !is_closed() {
                return;
            }
            if !end_of(clients, channel, number) {
                used.push(number);
            }
        }
        if used.is_empty() {
            return;
        }
        left = used;
        std::thread::sleep(PAUSE);
    }
}

/// Ends what the producer of this number left open; false where somebody uses it.
fn end_of(clients: &Clients, channel: &Channel, number: u32) -> bool {
    let ended = match clients.borrow_number(number) {
        None => return false,
        Some(Err(error)) => Err(error),
        Some(Ok(borrowed)) => match touch(&borrowed.producer, &channel.topic, channel.partition()) {
            Ok(()) => {
                clients.give_back(borrowed);
                Ok(())
            }
            Err(error) => {
                clients.give_up(borrowed, channel);
                Err(Error::Unreachable(told(&error)))
            }
        },
    };
    if let Err(error) = ended {
        tracing::debug!(number, %error, "what a producer left open could not be ended");
    }
    true
}

/// A transaction that leaves nothing: its marker ends whatever the producer had open in the partition.
pub(crate) fn touch(producer: &Sender, topic: &str, partition: i32) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    let sent = Content::Heartbeat.parts(None).send(producer, topic, partition);
    let delivered = sent.and_then(|sent| match block_on(sent) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(KafkaError::Canceled),
    });
    producer.abort_transaction(DELIVERY_TIMEOUT)?;
    delivered
}
