//! Whether partitions can be read to their end.
//!
//! Who appends to a partition sees that it cannot, and helps (`hanging.rs`). Where a transaction is left open by a process that appends there no
//! more, nobody would: so it is looked for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{Place, Position};
use rdkafka::topic_partition_list::Offset;

use crate::appending::Look;
use crate::channel::Channel;
use crate::shared::{Shared, ask, past};
use crate::{Error, Finding, KafkaLog, hanging, off_thread};

/// How long something may stand in a partition until it is readable: Kafka ends by itself what a producer that died left open, within
/// [`TRANSACTION_TIMEOUT`](crate::TRANSACTION_TIMEOUT) and ten seconds. The rest is for a broker's clock that is not this machine's.
const CLOSED_AFTER: Duration = Duration::from_secs(60);

impl KafkaLog {
    /// Partitions that nobody can read to their end. Those `without_leader` are not looked at.
    ///
    /// Errors: [`Error::Unreachable`] where the cluster does not answer.
    pub(crate) async fn not_readable(&self, without_leader: &BTreeSet<Place>) -> Result<Vec<Finding>, Error> {
        let channels: Vec<Arc<Channel>> = self
            .shared
            .channels
            .values()
            .filter(|channel| !without_leader.contains(&channel.at))
            .map(Arc::clone)
            .collect();
        let shared = Arc::clone(&self.shared);
        off_thread(move || closed(&shared, &channels))
            .await
            .unwrap_or_else(|| Err("the program is ending".to_owned()))
            .map_err(Error::Unreachable)
    }

    /// Ends what keeps readers from a partition, as far as producers of this process or of an earlier run of it left it. Whoever has this name of an
    /// [`instance`](crate::KafkaSettings::instance) can: so every process is to try.
    pub async fn end_hanging(&self, finding: &Finding) {
        let Finding::NotReadable { at, from } = finding else {
            return;
        };
        let (Ok(channel), from) = (self.shared.channel(at).map(Arc::clone), *from) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let _ = off_thread(move || {
            let is_closed = || shared.look_at(&channel, from) == Look::Closed;
            hanging::end(&shared.clients, &channel, is_closed);
        })
        .await;
    }
}

fn closed(shared: &Shared, channels: &[Arc<Channel>]) -> Result<Vec<Finding>, String> {
    let everything = shared
        .clients
        .reader_of_everything()
        .map_err(|error| error.to_string())?;
    let places = channels.iter().map(Arc::as_ref);
    // In this order: what is appended in between is none of it.
    let ends = ask(&everything, places.clone(), Offset::End)?;
    let readable = ask(&shared.clients.asking, places.clone(), Offset::End)?;
    let young = ask(&everything, places, past(CLOSED_AFTER))?;
    let seen = ends.into_iter().zip(readable).zip(young);
    let findings = channels
        .iter()
        .zip(seen)
        .filter_map(|(channel, ((end, readable), young))| {
            let from = readable?;
            is_closed(from, end?, young).then(|| Finding::NotReadable {
                at: channel.at.clone(),
                from,
            })
        });
    Ok(findings.collect())
}

/// Whether what cannot be read stands there for too long; `young` is the first entry that does not.
fn is_closed(from: Position, end: Position, young: Option<Position>) -> bool {
    from < end && young.is_none_or(|young| from < young)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_just_appended_closes_nothing() {
        assert!(!is_closed(7, 7, None), "all is old, and read");
        assert!(!is_closed(7, 9, Some(7)), "a transaction is under way");
        assert!(!is_closed(7, 7, Some(7)));
        assert!(is_closed(7, 9, None), "it stands there for long");
        assert!(is_closed(7, 9, Some(8)), "and others came after it");
    }
}
