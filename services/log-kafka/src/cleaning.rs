//! Whether Kafka's cleaner keeps up.
//!
//! Kafka tells that to its own tools only. But a heartbeat replaces the one before, as any entry of a table does: one that is still there when a
//! pass of the cleaner was due after it was replaced shows that nobody removes what erasure ends there. A process knows of the heartbeats that it
//! wrote since it started.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lethe_journal::{Place, Position, StreamKind};

use crate::channel::Channel;
use crate::reading::Want;
use crate::shared::Shared;
use crate::wire::{Content, Found, Read};
use crate::{Error, Finding, KafkaLog, off_thread, topics};

/// Heartbeats of a partition that are remembered. In a pass there are two dozen of the declared ones; where a cleaner stands still, the oldest says so.
const BEATS_MAX: usize = 256;

/// A heartbeat that was appended.
#[derive(Debug, Clone, Copy)]
struct Beat {
    position: Position,
    at: Instant,
}

/// Heartbeats of tables that were not seen to be gone, oldest first.
#[derive(Default)]
pub(crate) struct Beats(Mutex<BTreeMap<Place, VecDeque<Beat>>>);

impl Beats {
    fn known(&self) -> MutexGuard<'_, BTreeMap<Place, VecDeque<Beat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, at: &Place, position: Position) {
        if at.stream.kind() != StreamKind::Table {
            return;
        }
        let mut known = self.known();
        let beats = known.entry(at.clone()).or_default();
        if beats.len() < BEATS_MAX {
            beats.push_back(Beat {
                position,
                at: Instant::now(),
            });
        }
    }

    /// The oldest of each partition, where it was replaced longer ago than a pass takes.
    fn due(&self, pass: Duration) -> Vec<(Place, Position)> {
        let known = self.known();
        let due = known.iter().filter_map(|(at, beats)| {
            let (oldest, next) = (beats.front()?, beats.get(1)?);
            (next.at.elapsed() > pass).then(|| (at.clone(), oldest.position))
        });
        due.collect()
    }

    fn is_gone(&self, at: &Place, position: Position) {
        if let Some(beats) = self.known().get_mut(at)
            && beats.front().is_some_and(|beat| beat.position == position)
        {
            beats.pop_front();
        }
    }
}

impl KafkaLog {
    /// Partitions in which something stands that a pass of the cleaner should have removed.
    pub(crate) async fn not_cleaned(&self) -> Result<Vec<Finding>, Error> {
        let pass = topics::pass(&self.shared.settings.retention);
        let mut late = Vec::new();
        loop {
            let due = self.shared.beats.due(pass);
            let mut due = due.into_iter().filter(|(at, _)| !late.contains(at));
            let Some((at, position)) = due.next() else { break };
            let channel = self.shared.channel(&at).map(Arc::clone);
            let shared = Arc::clone(&self.shared);
            let looked = off_thread(move || is_there(&shared, &*channel?, position)).await;
            match looked {
                Some(Ok(true)) => late.push(at),
                Some(Ok(false)) => self.shared.beats.is_gone(&at, position),
                Some(Err(error)) => return Err(Error::Unreachable(error.to_string())),
                None => return Err(Error::Unreachable("the program is ending".to_owned())),
            }
        }
        Ok(late.into_iter().map(Finding::NotCleaned).collect())
    }
}

/// Whether the heartbeat of this position is still there.
fn is_there(shared: &Shared, channel: &Channel, position: Position) -> Result<bool, lethe_log::Error> {
    let mut found = false;
    let mut look = |read: Read| {
        found |= read.position == position && read.found == Found::Ours(Content::Heartbeat);
        Want::Enough
    };
    shared
        .readers
        .scan(&shared.clients, channel, position, position + 1, &mut look)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use lethe_journal::Stream;

    use super::*;

    #[test]
    fn a_heartbeat_is_due_to_go_a_pass_after_it_was_replaced() {
        let (beats, at) = (Beats::default(), Place::new(Stream::Records, 0));
        beats.note(&at, 3);
        assert_eq!(beats.due(Duration::ZERO), [], "it is the newest");
        beats.note(&at, 7);
        beats.note(&Place::new(Stream::Commands, 0), 1);
        beats.note(&Place::new(Stream::Commands, 0), 2);
        assert_eq!(beats.due(Duration::from_secs(60)), []);
        assert_eq!(
            beats.due(Duration::ZERO),
            [(at.clone(), 3)],
            "a queue is not compacted"
        );
        beats.is_gone(&at, 3);
        assert_eq!(beats.due(Duration::ZERO), []);
    }
}
