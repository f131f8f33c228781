//! The owners of the lineage partitions: each folds its partition of `records` and `keys` into a store of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lethe_intake::Known;
use lethe_journal::{DatasetRef, KeyWrapped, Place, Position, Stream, TABLE_PARTITIONS, partition_of};
use lethe_lineage::{
    Change, Chunk, RowPair, Rows, StateHash, fold, known_digest, records_by_dataset, state_hash, wrapped_key,
};
use lethe_log::EventLog;
use lethe_store::{Batch, Store};
use lethe_store_sled::{Condition, SledStore};
use lethe_terms::RecordToken;
use tokio::sync::watch;

use crate::Error;

/// Longest wait before an owner looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// How long intake waits for the fold when it has run far ahead of it.
const SETTLE: Duration = Duration::from_secs(120);

/// Entries that a fold takes at a time: all partitions hold such a page at once, decoded, and one flush carries it.
const FOLD_ENTRIES_MAX: usize = 256;

/// The streams that an owner folds. Keys first: a record is of no use without the key that opens it.
const FOLDED: [Stream; 2] = [Stream::Keys, Stream::Records];

/// One partition.
pub(crate) struct Owner {
    partition: u16,
    store: SledStore,
    /// Where the folds of keys and records stand.
    folded: watch::Sender<[Position; 2]>,
    /// How many records the fold has seen end since the start.
    ended: AtomicU64,
    /// Records by dataset: counted at the start, then as the fold changes them. Reading all rows again would keep all of them in memory.
    counts: Mutex<BTreeMap<DatasetRef, u64>>,
}

/// All partitions of this process.
pub(crate) struct Owners {
    log: Arc<dyn EventLog>,
    owners: Vec<Arc<Owner>>,
}

/// A store as the pure fold sees it.
pub(crate) struct StoreRows<'a>(pub(crate) &'a dyn Store);

impl Rows for StoreRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, lethe_lineage::Error> {
        self.0
            .get(key)
            .map_err(|error| lethe_lineage::Error::RowsUnavailable(error.to_string()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RowPair>, lethe_lineage::Error> {
        self.0
            .scan(prefix, after, limit)
            .map_err(|error| lethe_lineage::Error::RowsUnavailable(error.to_string()))
    }
}

impl Owners {
    /// Opens the stores of all partitions below a folder. A damaged one is empty afterwards, and its fold starts again.
    pub(crate) fn open(log: Arc<dyn EventLog>, dir: &Path) -> Result<Self, Error> {
        let mut owners = Vec::new();
        for partition in 0..TABLE_PARTITIONS {
            let opened = SledStore::open(&dir.join(format!("{partition:02}")))?;
            if let Condition::Rebuild { why } = &opened.condition {
                tracing::warn!(partition, why, "a store was damaged and is rebuilt from the log");
            }
            let at = [
                opened.store.position(&FOLDED[0])?,
                opened.store.position(&FOLDED[1])?,
            ];
            owners.push(Arc::new(Owner {
                partition,
                counts: Mutex::new(records_by_dataset(&StoreRows(&opened.store))?),
                store: opened.store,
                folded: watch::Sender::new(at),
                ended: AtomicU64::new(0),
            }));
        }
        Ok(Self { log, owners })
    }

    /// The partitions.
    pub(crate) fn all(&self) -> &[Arc<Owner>] {
        &self.owners
    }

    /// Records of a dataset, as far as they are folded.
    pub(crate) fn records_in(&self, place: &DatasetRef) -> u64 {
        let of_one = |owner: &Arc<Owner>| owner.counts().get(place).copied().unwrap_or(0);
        self.owners.iter().map(of_one).sum()
    }

    /// How many records were ended since the start.
    pub(crate) fn ended(&self) -> u64 {
        self.owners
            .iter()
            .map(|owner| owner.ended.load(Ordering::Relaxed))
            .sum()
    }

    fn owner_of(&self, key: &[u8]) -> &Arc<Owner> {
        &self.owners[usize::from(partition_of(key, TABLE_PARTITIONS))]
    }

    /// The wrapped key of a record or case, as far as it is folded.
    pub(crate) async fn wrapped_key(&self, id: &[u8]) -> Result<Option<KeyWrapped>, Error> {
        Ok(wrapped_key(&StoreRows(&self.owner_of(id).store), id)?)
    }

    /// Returns once every partition has folded what the stream held when this was called.
    pub(crate) async fn caught_up(
        &self,
        stream: &Stream,
        patience: Duration,
    ) -> Result<Vec<Position>, Error> {
        let mut heads = Vec::new();
        for owner in &self.owners {
            heads.push(
                self.log
                    .head(&Place::new(stream.clone(), owner.partition))
                    .await?,
            );
        }
        let slot = usize::from(*stream == FOLDED[1]);
        let all = async {
            for (owner, head) in self.owners.iter().zip(&heads) {
                let mut folded = owner.folded.subscribe();
                folded
                    .wait_for(|at| at[slot] >= *head)
                    .await
                    .map_err(|_| Error::Stopped { what: "an owner" })?;
            }
            Ok::<(), Error>(())
        };
        tokio::time::timeout(patience, all)
            .await
            .map_err(|_| Error::Lagging)??;
        Ok(heads)
    }

    /// Where the folds of a stream stand, by partition.
    pub(crate) fn positions(&self, stream: &Stream) -> Result<BTreeMap<u16, Position>, Error> {
        self.owners
            .iter()
            .map(|owner| Ok((owner.partition, owner.store.position(stream)?)))
            .collect()
    }

    /// Copies every store into a fresh one, so that nothing of a removed row is left.
    pub(crate) async fn compact(&self) -> Result<(), Error> {
        for owner in &self.owners {
            let owner = Arc::clone(owner);
            tokio::task::spawn_blocking(move || owner.store.compact())
                .await
                .map_err(|_| Error::Stopped { what: "a compaction" })??;
        }
        Ok(())
    }

    /// Hash of all live rows.
    pub(crate) fn state_hash(&self) -> Result<StateHash, Error> {
        let rows: Vec<_> = self.owners.iter().map(|owner| StoreRows(&owner.store)).collect();
        Ok(state_hash(rows.iter().map(|rows| rows as &dyn Rows))?)
    }

    /// Folds everything that the log holds, once.
    pub(crate) async fn fold_all(&self) -> Result<(), Error> {
        for owner in &self.owners {
            while owner.step(&self.log).await? {}
        }
        Ok(())
    }
}

impl Owner {
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<DatasetRef, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        log: Arc<dyn EventLog>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            if self.step(&log).await? {
                continue;
            }
            let at = *self.folded.borrow();
            let places = FOLDED.map(|stream| Place::new(stream, self.partition));
            tokio::select! {
                woken = log.wait(&places[0], at[0], IDLE) => woken?,
                woken = log.wait(&places[1], at[1], IDLE) => woken?,
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Folds a page of each stream; whether there was anything.
    async fn step(self: &Arc<Self>, log: &Arc<dyn EventLog>) -> Result<bool, Error> {
        let mut moved = false;
        for (slot, stream) in FOLDED.iter().enumerate() {
            let from = self.folded.borrow()[slot];
            let page = log
                .read(
                    &Place::new(stream.clone(), self.partition),
                    from,
                    FOLD_ENTRIES_MAX,
                )
                .await?;
            if page.fell_behind {
                tracing::warn!(
                    partition = self.partition,
                    "a fold slept through a compaction and is rebuilt from the log"
                );
                self.store.wipe()?;
                self.counts().clear();
                self.folded.send_replace([0, 0]);
                return Ok(true);
            }
            if page.next == from {
                continue;
            }
            let (owner, stream, next) = (Arc::clone(self), stream.clone(), page.next);
            tokio::task::spawn_blocking(move || owner.fold_page(&stream, from, &page.entries, page.next))
                .await
                .map_err(|_| Error::Stopped { what: "a fold" })??;
            self.folded.send_modify(|at| at[slot] = next);
            moved = true;
        }
        Ok(moved)
    }

    fn fold_page(
        &self,
        stream: &Stream,
        from: Position,
        entries: &[lethe_journal::Stored],
        next: Position,
    ) -> Result<(), Error> {
        for chunk in fold(&StoreRows(&self.store), stream, from, entries, next)? {
            self.commit(stream, chunk)?;
        }
        // An empty entry with a key ends a record; one without is a fence or a heartbeat.
        if *stream == Stream::Records {
            let ended = entries
                .iter()
                .filter(|stored| stored.entry.value.is_none() && !stored.entry.key.is_empty());
            self.ended.fetch_add(
                u64::try_from(ended.count()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
        Ok(())
    }

    fn commit(&self, stream: &Stream, chunk: Chunk) -> Result<(), Error> {
        let mut batch = Batch::default();
        for change in chunk.changes {
            match change {
                Change::Put(key, value) => batch.put(key, value),
                Change::Remove(key) => batch.remove(key),
            }
        }
        self.store.commit(stream, chunk.from, chunk.to, &batch)?;
        let mut counts = self.counts();
        for (place, by) in chunk.counts {
            let count = counts.entry(place).or_default();
            *count = count.saturating_add_signed(by);
        }
        Ok(())
    }
}

#[async_trait]
impl Known for Owners {
    fn digest(&self, record: RecordToken) -> Result<Option<String>, lethe_store::Error> {
        known_digest(&StoreRows(&self.owner_of(record.as_bytes()).store), record).map_err(as_store_error)
    }

    fn wrapped_key(&self, record: RecordToken) -> Result<Option<KeyWrapped>, lethe_store::Error> {
        wrapped_key(
            &StoreRows(&self.owner_of(record.as_bytes()).store),
            record.as_bytes(),
        )
        .map_err(as_store_error)
    }

    async fn settled(&self) -> bool {
        self.caught_up(&Stream::Keys, SETTLE).await.is_ok()
            && self.caught_up(&Stream::Records, SETTLE).await.is_ok()
    }
}

fn as_store_error(error: lethe_lineage::Error) -> lethe_store::Error {
    lethe_store::Error::Damaged(error.to_string())
}
