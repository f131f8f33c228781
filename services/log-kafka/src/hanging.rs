//! Transactions that Kafka left open in a partition although their coordinator has done with them: nobody can read past one, and nothing of Kafka's
//! ends it (KIP-664). A broker that stood still for longer than its session leaves one now and then. The next transaction of the same producer in the same
//! partition ends it: an entry that nobody reads is enough.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use lethe_journal::StreamKind;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use crate::appending::send;
use crate::channel::Channel;
use crate::clients::{Clients, DELIVERY_TIMEOUT, Sender};
use crate::told;
use crate::wire::Content;

/// How long an entry that is committed may take to be readable until its producer commits another one: its marker is written within milliseconds, or
/// the broker that was to write it has gone.
pub(crate) const MARKER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a partition may stand still until whatever producers of this process may have left open there is ended: Kafka ends by itself what a
/// producer that died left open, within its time limit and ten seconds.
pub(crate) const HANGS_AFTER: Duration = Duration::from_secs(42);

/// Ends what producers of this process, in this run or an earlier one, may have left open in a partition. What was left was not acknowledged, so it
/// is given up. Begins with no other producer after `until`. A history has one writer, who ends what it left when it begins anew.
pub(crate) fn end(clients: &Clients, channel: &Channel, until: Instant) {
    if channel.at.stream.kind() == StreamKind::History {
        return;
    }
    tracing::warn!(at = %channel.at, "nobody can read past an open transaction: what this process may have left open is ended");
    for number in clients.numbers() {
        if Instant::now() >= until {
            return;
        }
        let Some(borrowed) = clients.borrow_number(number) else {
            continue;
        };
        let ended = borrowed.map(|borrowed| match touch(&borrowed.producer, channel) {
            Ok(()) => clients.give_back(borrowed),
            Err(error) => {
                tracing::debug!(number, error = told(&error), "a producer could not be used");
                clients.give_up(borrowed);
            }
        });
        if let Err(error) = ended {
            tracing::debug!(number, %error, "a producer could not be made");
        }
    }
}

/// A transaction that leaves nothing.
fn touch(producer: &Sender, channel: &Channel) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    let sent = send(producer, channel, &Content::Heartbeat.parts(None));
    let delivered = sent.and_then(|sent| match block_on(sent) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err((error, _))) => Err(error),
        Err(_) => Err(KafkaError::Canceled),
    });
    producer.abort_transaction(DELIVERY_TIMEOUT)?;
    delivered
}
