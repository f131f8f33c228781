//! Whether Kafka's cleaner keeps up.
//!
//! Kafka tells that to its own tools only. But a heartbeat replaces the one before, as any entry of a table does: one that is still there when a
//! pass of the cleaner was due after it was replaced shows that nobody removes what erasure ends there. A process knows of the heartbeats that it
//! wrote since it started.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lethe_journal::{Place, Position, StreamKind};

use crate::channel::Channel;
use crate::reading::Want;
use crate::shared::Shared;
use crate::wire::{Content, Found, Read};
use crate::{Finding, KafkaLog, off_thread, topics};

/// Heartbeats of a partition that are remembered. In a pass there are two dozen of the declared ones; where a cleaner stands still, the oldest says so.
const BEATS_MAX: usize = 256;

/// How long all partitions together may be looked at: in order, one takes milliseconds.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);

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

    /// The newest of each partition that was replaced longer ago than a pass takes.
    fn due(&self, pass: Duration) -> Vec<(Place, Position)> {
        let known = self.known();
        let due = known.iter().filter_map(|(at, beats)| {
            let replaced = beats.iter().zip(beats.iter().skip(1));
            let due = replaced.take_while(|(_, next)| next.at.elapsed() > pass);
            due.last().map(|(beat, _)| (at.clone(), beat.position))
        });
        due.collect()
    }

    /// This one is gone, and so is what it had replaced.
    fn is_gone(&self, at: &Place, position: Position) {
        if let Some(beats) = self.known().get_mut(at) {
            beats.retain(|beat| beat.position > position);
        }
    }
}

impl KafkaLog {
    /// Partitions in which something stands that a pass of the cleaner should have removed. Those `without_leader` are not looked at, and what cannot
    /// be looked at in time is looked at the next time: other findings must not wait for it.
    pub(crate) async fn not_cleaned(&self, without_leader: &BTreeSet<Place>) -> Vec<Finding> {
        let until = Instant::now() + LOOK_TIME_MAX;
        let mut late = Vec::new();
        for (at, position) in self
            .shared
            .beats
            .due(topics::pass(&self.shared.settings.retention))
        {
            let Ok(channel) = self.shared.channel(&at).map(Arc::clone) else {
                continue;
            };
            if without_leader.contains(&at) || Instant::now() > until {
                continue;
            }
            let shared = Arc::clone(&self.shared);
            match off_thread(move || is_there(&shared, &channel, position)).await {
                Some(Ok(true)) => late.push(Finding::NotCleaned(at)),
                Some(Ok(false)) => self.shared.beats.is_gone(&at, position),
                Some(Err(error)) => {
                    tracing::debug!(%error, %at, "whether the cleaner was there is not known")
                }
                None => break,
            }
        }
        late
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
        beats.note(&at, 9);
        beats.note(&Place::new(Stream::Commands, 0), 1);
        beats.note(&Place::new(Stream::Commands, 0), 2);
        assert_eq!(beats.due(Duration::from_secs(60)), []);
        assert_eq!(
            beats.due(Duration::ZERO),
            [(at.clone(), 7)],
            "a queue is not compacted"
        );
        beats.is_gone(&at, 7);
        assert_eq!(beats.due(Duration::ZERO), []);
    }
}
