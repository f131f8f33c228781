//! Who folds which partition: what owners tell on the `owners` table.

use std::collections::BTreeMap;
use std::sync::Arc;

use lethe_journal::{PartitionOwned, Place, Stored, Stream};
use lethe_log::EventLog;
use tokio::sync::watch;

use crate::{Error, following, poison, publish};

/// Owners that have caught up, by partition.
pub(crate) type Told = BTreeMap<u16, PartitionOwned>;

/// Reads what owners tell, until `stop`.
pub(crate) async fn follow(
    log: Arc<dyn EventLog>,
    told: watch::Sender<Told>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let take = |entries: &[Stored]| {
        let mut news = Told::new();
        for stored in entries {
            if let Some(event) = poison::event_of::<PartitionOwned>(&Stream::Owners, stored)? {
                news.insert(event.data.partition, event.data);
            }
        }
        if !news.is_empty() {
            told.send_modify(|known| known.extend(news));
        }
        Ok(())
    };
    following::follow(log, Stream::Owners, take, stop).await
}

/// Tells that a partition is folded here, up to what the log held a moment ago.
pub(crate) async fn tell(log: &dyn EventLog, owned: PartitionOwned) -> Result<(), Error> {
    let key = owned.partition.to_string();
    let entry = publish::entry(key.as_bytes(), "/lethe/lineage", owned)?;
    publish::append(log, &Place::new(Stream::Owners, 0), vec![entry], "owners").await
}
