//! Appending: one turn at a time in each partition, whatever waits together in one transaction.
//!
//! A single entry without an epoch goes alone, by an idempotent producer: it is one message, stored or not (0.3 ms). Everything else is a
//! transaction (4 ms, for one entry or a thousand), and counts as stored when it can be read. A writer's entries carry its epoch, so that a reader
//! can tell what a fenced writer wrote even where Kafka's own fencing failed.

use std::time::{Duration, Instant};

use futures::executor::block_on;
use lethe_journal::{Epoch, Place, Position};
use lethe_log::rules::{self, Standing};
use lethe_log::{Appended, Error};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::producer::future_producer::Delivery;
use tokio::sync::oneshot;

use crate::channel::{Append, Channel, Held, Turn};
use crate::clients::{Clients, DELIVERY_TIMEOUT, Sender, TRANSACTION_TIMEOUT};
use crate::hanging::{self, HANGS_AFTER, MARKER_PATIENCE};
use crate::shared::Shared;
use crate::wire::{Content, Found};
use crate::{reading, told};

/// How long a commit is repeated before its outcome is looked for in the partition.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the outcome of a transaction may stay open: until the broker has ended it by itself, and some more.
const OUTCOME_TIMEOUT: Duration = TRANSACTION_TIMEOUT.saturating_add(DELIVERY_TIMEOUT);

/// Pause between two looks whether a transaction can be read: its marker is written within a millisecond or three.
const LOOK_PAUSE: Duration = Duration::from_micros(500);

/// How long it is looked so often: a busy broker writes a marker within that.
const LOOK_OFTEN_FOR: Duration = Duration::from_millis(200);

/// Pause after that: what stands still is not looked at thousands of times a second.
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(25);

/// Pause between two looks whether the reports of all entries are put away: that takes microseconds.
const REPORT_PAUSE: Duration = Duration::from_micros(50);

/// How often a fence is set again where another one came in between.
const ACQUIRE_ATTEMPTS_MAX: u32 = 5;

/// Why a transaction was not simply stored.
enum Failure {
    /// A newer writer came; nothing was committed.
    Fenced,
    /// It was given up before its commit was asked for.
    NotStored(String),
    /// Its commit was asked for: what became of it stands in the partition, at these positions.
    Open { positions: Vec<Position>, why: String },
    /// Its commit was not asked for, but that it was given up is not sure.
    Unknown(String),
}

/// What became of the entries of a turn.
enum Outcome {
    /// They stand at these positions.
    At(Vec<Position>),
    /// A newer writer owns the partition.
    Stale(Epoch),
}

/// Serves the queue of a partition until it is empty.
pub(crate) fn serve(shared: &Shared, channel: &Channel) {
    /// Drops what waits if a turn ends by a panic.
    struct Guard<'a>(&'a Channel, bool);
    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            if !self.1 {
                self.0.abandon();
            }
        }
    }
    let mut guard = Guard(channel, false);
    while let Some(turn) = channel.next_turn() {
        match turn {
            Turn::Append(appends) => append(shared, channel, appends),
            Turn::Acquire(reply) => {
                // Whoever asked may be gone; the epoch is taken all the same.
                let _ = reply.send(acquire(shared, channel));
            }
        }
    }
    guard.1 = true;
}

/// Becomes the writer: fences off earlier producers, reads the newest epoch, and sets a fence with the next one.
///
/// The fence is read back: where another one of its epoch stands before it, Kafka's fencing failed, and a higher epoch is taken.
fn acquire(shared: &Shared, channel: &Channel) -> Result<Epoch, Error> {
    channel.writer().held = None;
    let mut known = None;
    for _ in 0..ACQUIRE_ATTEMPTS_MAX {
        let producer = shared
            .clients
            .writer(&channel.at)
            .map_err(|error| not_acquired(&channel.at, &error.to_string()))?;
        let (low, high) = shared.span(channel)?;
        let newest = match known {
            Some((epoch, seen)) => shared.newest_fence(channel, seen, high)?.max(epoch),
            None => shared.fence_before(channel, low, high)?,
        };
        let epoch = newest.checked_add(1).ok_or_else(|| used_up(&channel.at))?;
        let set = transact(&producer, channel, Some(epoch), &[&Content::Fence]);
        let position = match set {
            Ok(positions) => last_of(&positions),
            Err(Failure::Fenced) => {
                return Err(not_acquired(&channel.at, "another writer took over meanwhile"));
            }
            Err(Failure::NotStored(why)) => return Err(not_acquired(&channel.at, &why)),
            Err(Failure::Open { why, .. } | Failure::Unknown(why)) => return Err(Error::Unknown(why)),
        };
        shared.await_readable(channel, position)?;
        let between = shared.newest_fence(channel, high, position)?;
        if between < epoch {
            let next = after(position);
            channel.writer().held = Some(Held {
                producer,
                epoch,
                next,
            });
            return Ok(epoch);
        }
        tracing::warn!(at = %channel.at, epoch, "two writers set a fence of one epoch: taking a higher one");
        known = Some((between, position));
    }
    Err(not_acquired(&channel.at, "other writers kept taking over"))
}

/// Nobody gets there by counting: whoever may write to the topic forged the fence.
fn used_up(at: &Place) -> Error {
    Error::Corrupt(format!(
        "a fence in {at} has the last epoch there is: no writer can follow it"
    ))
}

fn not_acquired(at: &Place, why: &str) -> Error {
    Error::NotStored(format!("nobody became the writer of {at}: {why}"))
}

fn append(shared: &Shared, channel: &Channel, appends: Vec<Append>) {
    let contents: Vec<&Content> = appends.iter().flat_map(|append| &append.contents).collect();
    let outcome = match appends.first().and_then(|append| append.writer) {
        Some(epoch) => append_fenced(shared, channel, epoch, &contents),
        None if contents.len() == 1 => append_single(shared, channel, contents[0]),
        None => append_shared(shared, channel, &contents),
    };
    let positions = match outcome {
        Ok(Outcome::At(positions)) => positions,
        Ok(Outcome::Stale(current)) => return answer(appends, || Ok(Appended::StaleEpoch { current })),
        Err(error) => return answer(appends, || Err(error.clone())),
    };
    let mut rest = positions.as_slice();
    for append in appends {
        let (own, others) = rest.split_at(append.contents.len().min(rest.len()));
        rest = others;
        let appended = match (own.first(), own.last()) {
            (Some(first), Some(last)) => Ok(Appended::At {
                first: *first,
                next: last + 1,
            }),
            _ => Err(unknown(
                channel,
                "Kafka told fewer positions than entries were sent",
            )),
        };
        let _ = append.reply.send(appended);
    }
}

fn answer(appends: Vec<Append>, outcome: impl Fn() -> Result<Appended, Error>) {
    for append in appends {
        let _: Result<(), _> = oneshot::Sender::send(append.reply, outcome());
    }
}

fn append_fenced(
    shared: &Shared,
    channel: &Channel,
    epoch: Epoch,
    contents: &[&Content],
) -> Result<Outcome, Error> {
    let mut writer = channel.writer();
    let held = writer.held.as_mut().filter(|held| held.epoch == epoch);
    let Some(held) = held else {
        drop(writer);
        return not_held(shared, channel, epoch);
    };
    let failure = match transact(&held.producer, channel, Some(epoch), contents) {
        Ok(positions) => {
            let last = last_of(&positions);
            let until = Instant::now() + MARKER_PATIENCE;
            // What a newer writer wrote in between makes readers leave these entries out: it may stand before the last marker already.
            let is_newest = || {
                let between = || shared.newest_fence(channel, held.next.saturating_sub(1), last);
                is_unbroken(held.next, &positions) || between().is_ok_and(|newest| newest <= epoch)
            };
            if shared.wait_for(channel, last, until) == Look::Readable && is_newest() {
                held.next = after(last);
                return Ok(Outcome::At(positions));
            }
            Failure::Open {
                positions,
                why: "it was committed, and could not be read, or a newer writer came before it".to_owned(),
            }
        }
        Err(failure) => failure,
    };
    // Whatever came in between: this producer's order of things is over.
    writer.held = None;
    drop(writer);
    match failure {
        Failure::Fenced => not_held(shared, channel, epoch),
        failure => settle(shared, channel, contents, Some(epoch), failure),
    }
}

/// What an epoch means whose producer is not here (any more).
fn not_held(shared: &Shared, channel: &Channel, epoch: Epoch) -> Result<Outcome, Error> {
    let (low, high) = shared.span(channel)?;
    let current = shared.fence_before(channel, low, high)?;
    match rules::standing(Some(epoch), current) {
        Standing::Stale => Ok(Outcome::Stale(current)),
        Standing::Unheard => Err(rules::unheard(&channel.at, current)),
        Standing::Current => Err(Error::NotStored(format!(
            "the writer of {} was given up, or is another process: acquire the partition again",
            channel.at
        ))),
    }
}

fn append_single(shared: &Shared, channel: &Channel, content: &Content) -> Result<Outcome, Error> {
    let parts = content.parts(None);
    let single = shared
        .clients
        .single()
        .map_err(|error| not_stored(channel, &error.to_string()))?;
    let sent = parts
        .send(&single, &channel.topic, channel.partition())
        .map_err(|error| not_stored(channel, &told(&error)))?;
    match block_on(sent) {
        Ok(Ok(delivery)) => {
            let first = told_position(&delivery)
                .ok_or_else(|| unknown(channel, "Kafka did not tell where it stands"))?;
            shared.await_readable(channel, first)?;
            Ok(Outcome::At(vec![first]))
        }
        Ok(Err((error, _))) if never_left(&error) => Err(not_stored(channel, &told(&error))),
        Ok(Err((error, _))) => Err(unknown(channel, &told(&error))),
        Err(_) => Err(unknown(channel, "the producer ended")),
    }
}

/// Errors of which it is sure that no broker stored the message.
fn never_left(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::QueueFull
        )
    )
}

fn append_shared(shared: &Shared, channel: &Channel, contents: &[&Content]) -> Result<Outcome, Error> {
    let clients: &Clients = &shared.clients;
    let mut borrowed = clients
        .borrow()
        .map_err(|error| not_stored(channel, &error.to_string()))?;
    if let Err(error) = clients.clean(&mut borrowed, channel) {
        clients.give_up(borrowed, channel);
        return Err(not_stored(channel, &told(&error)));
    }
    match transact(&borrowed.producer, channel, None, contents) {
        Ok(positions) => {
            let looked = shared.wait_for(channel, last_of(&positions), Instant::now() + MARKER_PATIENCE);
            if looked == Look::Readable {
                clients.give_back(borrowed);
                return Ok(Outcome::At(positions));
            }
            // Where its marker was lost, the marker of its next transaction stands for both.
            if looked == Look::Closed
                && transact(&borrowed.producer, channel, None, &[&Content::Heartbeat]).is_err()
            {
                clients.give_up(borrowed, channel);
            } else {
                clients.give_back(borrowed);
            }
            // From here on what opens the partition again may have given up the entries as well: only a look at them tells.
            let why = "it was committed, and could not be read".to_owned();
            settle(shared, channel, contents, None, Failure::Open { positions, why })
        }
        Err(failure) => {
            clients.give_up(borrowed, channel);
            settle(shared, channel, contents, None, failure)
        }
    }
}

fn not_stored(channel: &Channel, why: &str) -> Error {
    Error::NotStored(format!("an append to {}: {why}", channel.at))
}

fn unknown(channel: &Channel, why: &str) -> Error {
    Error::Unknown(format!("an append to {}: {why}", channel.at))
}

/// What became of a transaction that did not simply end: looks where it would stand, once nobody can change it any more.
fn settle(
    shared: &Shared,
    channel: &Channel,
    contents: &[&Content],
    epoch: Option<Epoch>,
    failure: Failure,
) -> Result<Outcome, Error> {
    let (positions, why) = match failure {
        Failure::Fenced => {
            return Err(not_stored(
                channel,
                "another process has this one's instance name",
            ));
        }
        Failure::NotStored(why) => return Err(not_stored(channel, &why)),
        Failure::Unknown(why) => return Err(unknown(channel, &why)),
        Failure::Open { positions, why } => (positions, why),
    };
    let (first, last) = (first_of(&positions), last_of(&positions));
    let is_foreign = channel.at.stream.is_foreign();
    let is_same = |read: &Found, sent: &Content| match (read, sent) {
        // Nothing there keeps its id.
        (Found::Ours(Content::Entry(read)), Content::Entry(sent)) if is_foreign => {
            (&read.key, &read.value) == (&sent.key, &sent.value)
        }
        (Found::Ours(read), sent) => read == sent,
        _ => false,
    };
    let (mut found, mut among) = (0_usize, None);
    let looked = shared.await_readable(channel, last).and_then(|()| {
        shared
            .readers
            .scan(&shared.clients, channel, first, last + 1, &mut |read| {
                let is_next = contents
                    .get(found)
                    .is_some_and(|content| is_same(&read.found, content));
                found += usize::from(is_next && read.epoch == epoch);
                if read.found == Found::Ours(Content::Fence) {
                    among = among.max(read.epoch);
                }
                reading::Want::More
            })
    });
    match (looked, epoch) {
        (Ok(_), None) if found == contents.len() => Ok(Outcome::At(positions)),
        (Ok(_), Some(epoch)) if found == contents.len() => {
            let before = shared
                .span(channel)
                .and_then(|(low, _)| shared.fence_before(channel, low, first));
            match before {
                Ok(newest) if newest > epoch => Ok(Outcome::Stale(newest)),
                Ok(_) if among > Some(epoch) => {
                    Err(unknown(channel, "a newer writer came among its entries"))
                }
                Ok(_) => Ok(Outcome::At(positions)),
                Err(error) => Err(unknown(channel, &error.to_string())),
            }
        }
        (Ok(_), Some(epoch)) if found == 0 => not_held(shared, channel, epoch),
        (Ok(_), None) if found == 0 => Err(not_stored(channel, &why)),
        _ => Err(unknown(channel, &why)),
    }
}

fn first_of(positions: &[Position]) -> Position {
    positions.iter().min().copied().unwrap_or(0)
}

/// Whether nobody wrote before these entries, from where the next one was to stand, nor among them.
fn is_unbroken(next: Position, positions: &[Position]) -> bool {
    let expected = (next..).take(positions.len());
    positions.iter().copied().eq(expected)
}

/// Where the next transaction begins after an entry that ends one, and its marker.
const fn after(last: Position) -> Position {
    last.saturating_add(2)
}

/// The position that a broker told. Of what it had stored already when it was sent again it does not tell it.
fn told_position(delivery: &Delivery) -> Option<Position> {
    Position::try_from(delivery.offset).ok()
}

fn last_of(positions: &[Position]) -> Position {
    positions.iter().max().copied().unwrap_or(0)
}

/// Writes a transaction: gives the positions of its entries.
fn transact(
    producer: &Sender,
    channel: &Channel,
    epoch: Option<Epoch>,
    contents: &[&Content],
) -> Result<Vec<Position>, Failure> {
    producer.begin_transaction().map_err(|error| before(&error))?;
    let delivered = deliver(producer, channel, epoch, contents);
    let positions = match delivered {
        Ok(positions) => positions,
        Err(error) => return Err(given_up(producer, &error)),
    };
    if !positions.is_sorted() {
        return Err(given_up(producer, &KafkaError::Canceled));
    }
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    // The library counts a message as under way until its report is put away; a commit that meets one such waits 100 ms.
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        std::thread::sleep(REPORT_PAUSE);
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match producer.commit_transaction(left) {
            Ok(()) => return Ok(positions),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && !left.is_zero() => {}
            Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                return Err(given_up(producer, &KafkaError::Transaction(error)));
            }
            Err(error) => {
                return Err(Failure::Open {
                    positions,
                    why: told(&error),
                });
            }
        }
    }
}

/// Sends all and waits for all; gives their positions.
fn deliver(
    producer: &Sender,
    channel: &Channel,
    epoch: Option<Epoch>,
    contents: &[&Content],
) -> Result<Vec<Position>, KafkaError> {
    let mut under_way = Vec::with_capacity(contents.len());
    for content in contents {
        let parts = content.parts(epoch);
        under_way.push(parts.send(producer, &channel.topic, channel.partition())?);
    }
    let mut positions = Vec::with_capacity(contents.len());
    for sent in under_way {
        match block_on(sent) {
            Ok(Ok(delivery)) => positions.push(told_position(&delivery).ok_or(KafkaError::Canceled)?),
            Ok(Err((error, _))) => return Err(error),
            Err(_) => return Err(KafkaError::Canceled),
        }
    }
    Ok(positions)
}

/// The failure of a transaction that did not begin.
fn before(error: &KafkaError) -> Failure {
    if is_fenced(error) {
        Failure::Fenced
    } else {
        Failure::NotStored(told(error))
    }
}

/// Gives a transaction up whose commit was not asked for.
fn given_up(producer: &Sender, error: &KafkaError) -> Failure {
    if is_fenced(error) {
        return Failure::Fenced;
    }
    match producer.abort_transaction(COMMIT_TIMEOUT) {
        Ok(()) => Failure::NotStored(told(error)),
        Err(abort) if is_fenced(&abort) => Failure::Fenced,
        Err(abort) => Failure::Unknown(format!(
            "{}, and it could not be given up: {}",
            told(error),
            told(&abort)
        )),
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        )
    )
}

impl Shared {
    /// Returns when everything up to and with `last` can be read.
    ///
    /// A committed transaction is stored before its marker stands in the partition, and only then can it be read. An append
    /// is acknowledged only here: so whoever reads up to the head finds all that was acknowledged, also after a broker broke down. What is a part of a
    /// transaction of this process may have been given up meanwhile where it was waited for longer than for a marker.
    fn await_readable(&self, channel: &Channel, last: Position) -> Result<(), Error> {
        let began = Instant::now();
        let mut looked = self.wait_for(channel, last, began + HANGS_AFTER);
        if looked == Look::Closed {
            let is_closed = || self.look_at(channel, last) == Look::Closed;
            hanging::end(&self.clients, channel, is_closed);
            looked = self.wait_for(channel, last, began + OUTCOME_TIMEOUT);
        }
        match looked {
            Look::Readable => Ok(()),
            Look::Closed => Err(unknown(
                channel,
                "it cannot be read yet: an older transaction in the partition is still open",
            )),
            Look::Unanswered(why) => Err(unknown(channel, &format!("it cannot be read yet: {why}"))),
        }
    }

    /// Looks whether everything up to and with `last` can be read.
    pub(crate) fn look_at(&self, channel: &Channel, last: Position) -> Look {
        match self.span(channel) {
            Ok((_, high)) if high > last => {
                channel.raise(high);
                Look::Readable
            }
            Ok(_) => Look::Closed,
            Err(error) => Look::Unanswered(error.to_string()),
        }
    }

    /// Looks whether everything up to and with `last` can be read, until it can or the time is over; then what was seen last.
    fn wait_for(&self, channel: &Channel, last: Position, until: Instant) -> Look {
        let began = Instant::now();
        loop {
            let seen = self.look_at(channel, last);
            if seen == Look::Readable || Instant::now() >= until {
                return seen;
            }
            std::thread::sleep(if began.elapsed() < LOOK_OFTEN_FOR {
                LOOK_PAUSE
            } else {
                LOOK_PAUSE_MAX
            });
        }
    }
}

/// What was seen of a partition that somebody waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It can be read that far.
    Readable,
    /// It answers, and an open transaction stands in the way.
    Closed,
    /// It does not answer.
    Unanswered(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_before_or_among_the_entries_of_a_writer_is_looked_at() {
        assert!(is_unbroken(10, &[10]));
        assert!(is_unbroken(10, &[10, 11, 12]));
        for broken in [[11, 12, 13], [10, 12, 13], [10, 11, 13]] {
            assert!(!is_unbroken(10, &broken), "{broken:?}");
        }
        let next = after(12);
        assert!(!is_unbroken(next, &[15]), "somebody wrote before the marker");
    }
}
