//! Lineage as the other roles see it: sixteen partitions, each folded here or by another process, that answer questions once they have read
//! far enough. What could not be asked is unknown, never absent.

mod assignment;
mod departed;
mod directory;
mod owner;
mod owners;
mod peers;
mod question;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::future::try_join_all;
use futures::stream::FuturesUnordered;
use lethe_intake::KnownRecord;
use lethe_journal::{DatasetRef, KeyWrapped, Position, RecordObserved, TABLE_PARTITIONS, partition_of};
use lethe_lineage::{Ask, PartAnswer, StateHash};
use lethe_log::EventLog;
use lethe_terms::RecordToken;
use tokio::sync::watch;

use crate::Error;
use crate::error::spans;

pub(crate) use assignment::Assignment;
pub(crate) use departed::Departed;
pub(crate) use directory::{Told, follow};
pub(crate) use owners::Owners;
use peers::Unanswered;
pub(crate) use peers::{Peers, serve};
use question::{Counts, Folded, Hash, Key, Known, Question, Stand, WalkRound, Whole};

/// How long intake waits for the folds when it has run far ahead of them.
const SETTLE: Duration = Duration::from_secs(120);

/// How long one look at an owner here may take before is looked whether another has the partition now.
const LOOK_HERE: Duration = Duration::from_secs(1);

/// Wait before an owner that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How far every partition had read, by its number.
pub(crate) type ReadUpTo = Vec<Folded>;

/// All partitions, wherever they are folded.
pub(crate) struct Lineage {
    log: Arc<dyn EventLog>,
    here: Arc<Owners>,
    elsewhere: Option<Elsewhere>,
    /// How far the partitions had read when intake last waited for them.
    settled: Mutex<ReadUpTo>,
}

/// Owners in other processes.
pub(crate) struct Elsewhere {
    pub(crate) told: watch::Receiver<Told>,
    pub(crate) peers: Peers,
    /// Name of this process.
    pub(crate) instance: String,
}

impl Lineage {
    /// Of these owners, and of those elsewhere where there are any.
    pub(crate) fn new(log: Arc<dyn EventLog>, here: Arc<Owners>, elsewhere: Option<Elsewhere>) -> Self {
        Self {
            log,
            here,
            elsewhere,
            settled: Mutex::default(),
        }
    }

    /// The partitions that this process folds.
    pub(crate) fn here(&self) -> &Arc<Owners> {
        &self.here
    }

    /// Where the log ends now, by partition.
    pub(crate) async fn heads(&self) -> Result<ReadUpTo, Error> {
        try_join_all((0..TABLE_PARTITIONS).map(|partition| assignment::head(&*self.log, partition))).await
    }

    /// Returns once every partition has read what the log held when this was called, and how far that is.
    ///
    /// # Errors
    /// [`Error::Lagging`] where one did not come that far in time, or nobody has it.
    pub(crate) async fn caught_up(&self, patience: Duration) -> Result<ReadUpTo, Error> {
        let heads = self.heads().await?;
        self.ask_all(&heads, patience, |_| Key(Vec::new())).await?;
        Ok(heads)
    }

    /// As [`Self::caught_up`], for a process that starts; `say` hears again and again who has not answered yet.
    pub(crate) async fn come_up(&self, patience: Duration, say: impl Fn(String)) -> Result<(), Error> {
        let heads = self.heads().await?;
        let mut missing: BTreeSet<u16> = (0..TABLE_PARTITIONS).collect();
        let asked = missing.iter().map(|partition| {
            let (partition, at_least) = (*partition, at(&heads, *partition));
            async move {
                self.ask(partition, at_least, patience, Key(Vec::new())).await?;
                Ok::<_, Error>(partition)
            }
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        loop {
            say(self.unanswered(&missing));
            tokio::select! {
                answered = asked.next() => match answered {
                    Some(partition) => drop(missing.remove(&partition?)),
                    None => return Ok(()),
                },
                () = tokio::time::sleep(LOOK_HERE) => {}
            }
        }
    }

    /// Who does not answer for these partitions yet, in words.
    fn unanswered(&self, missing: &BTreeSet<u16>) -> String {
        let mut whose: BTreeMap<String, Vec<u16>> = BTreeMap::new();
        for partition in missing {
            let is_other = |instance: &String| {
                let elsewhere = self.elsewhere.as_ref();
                elsewhere.is_some_and(|elsewhere| elsewhere.instance != *instance)
            };
            let elsewhere = self.instance_at(*partition).filter(is_other);
            let who = match (self.here.get(*partition), elsewhere) {
                (Some(_), _) => "this process still reads".to_owned(),
                (None, Some(instance)) => format!("{instance} does not answer yet for"),
                (None, None) => "nobody answers for".to_owned(),
            };
            whose.entry(who).or_default().push(*partition);
        }
        let words = whose
            .iter()
            .map(|(who, partitions)| format!("{who} lineage partitions {}", spans(partitions)));
        words.collect::<Vec<_>>().join("; ")
    }

    /// One round of a walk, of partitions that have read so far.
    pub(crate) async fn walk(
        &self,
        ask: Ask,
        read_up_to: &ReadUpTo,
        patience: Duration,
    ) -> Result<Vec<PartAnswer>, Error> {
        let round = WalkRound::from(ask);
        let parts = self.ask_all(read_up_to, patience, |_| round.clone()).await?;
        Ok(parts.into_iter().map(PartAnswer::from).collect())
    }

    /// Records, whole, each with its wrapped key; nothing for one that is not there.
    pub(crate) async fn records(
        &self,
        records: &[RecordToken],
        read_up_to: &ReadUpTo,
        patience: Duration,
    ) -> Result<BTreeMap<RecordToken, (RecordObserved, Option<KeyWrapped>)>, Error> {
        let found = self.of_each(records, read_up_to, patience, Whole).await?;
        Ok(found
            .into_iter()
            .filter_map(|(record, row)| Some((record, row?)))
            .collect())
    }

    /// The wrapped key of a record or a case by the bytes of its id, as far as it is folded; with `wait`, of everything that the log holds now.
    pub(crate) async fn wrapped_key(
        &self,
        id: &[u8],
        wait: bool,
        patience: Duration,
    ) -> Result<Option<KeyWrapped>, Error> {
        let partition = partition_of(id, TABLE_PARTITIONS);
        let at_least = if wait {
            assignment::head(&*self.log, partition).await?
        } else {
            Folded::default()
        };
        self.ask(partition, at_least, patience, Key(id.to_vec())).await
    }

    /// How many records of each dataset there are, as far as they are folded.
    pub(crate) async fn records_by_dataset(
        &self,
        patience: Duration,
    ) -> Result<BTreeMap<DatasetRef, u64>, Error> {
        let mut sum = BTreeMap::new();
        for part in self.ask_all(&ReadUpTo::new(), patience, |_| Counts).await? {
            for (place, count) in part {
                *sum.entry(place).or_default() += count;
            }
        }
        Ok(sum)
    }

    /// Every partition: who answers for it, and how many positions its folds are behind; nothing where nobody answers.
    pub(crate) async fn partitions(
        &self,
        patience: Duration,
    ) -> Result<Vec<(Option<String>, Option<u64>)>, Error> {
        let heads = self.heads().await?;
        let stands =
            (0..TABLE_PARTITIONS).map(|partition| self.ask(partition, Folded::default(), patience, Stand));
        let stands = futures::future::join_all(stands).await;
        let behind = |(head, stand): (&Folded, Result<Folded, Error>)| {
            let stand = stand.ok()?;
            Some(
                head.iter()
                    .zip(stand)
                    .map(|(head, at)| head.saturating_sub(at))
                    .sum(),
            )
        };
        let behind = heads.iter().zip(stands).map(behind);
        Ok((0..TABLE_PARTITIONS)
            .map(|partition| self.instance_at(partition))
            .zip(behind)
            .collect())
    }

    fn instance_at(&self, partition: u16) -> Option<String> {
        let elsewhere = self.elsewhere.as_ref()?;
        let told = elsewhere.told.borrow();
        told.get(&partition).map(|owned| owned.instance.clone())
    }

    /// Hash of all live rows of partitions that have read what the log holds now. One partition after the other: each reads all of its rows, and owners
    /// have other work.
    pub(crate) async fn state_hash(&self) -> Result<StateHash, Error> {
        let heads = self.heads().await?;
        let mut sum = StateHash::default();
        for partition in 0..TABLE_PARTITIONS {
            let part = self.ask(partition, at(&heads, partition), Hash::TIME_MAX, Hash);
            sum.add(&StateHash::from_bytes(part.await?));
        }
        Ok(sum)
    }

    /// Asks about each of these records where it is folded.
    async fn of_each<Q: Question<Answer = Vec<A>>, A>(
        &self,
        records: &[RecordToken],
        read_up_to: &ReadUpTo,
        patience: Duration,
        question: impl Fn(Vec<RecordToken>) -> Q,
    ) -> Result<Vec<(RecordToken, A)>, Error> {
        let mut parts: BTreeMap<u16, Vec<RecordToken>> = BTreeMap::new();
        for record in records {
            let partition = partition_of(record.as_bytes(), TABLE_PARTITIONS);
            parts.entry(partition).or_default().push(*record);
        }
        let asked = parts.into_iter().map(|(partition, records)| {
            let question = question(records.clone());
            let at_least = at(read_up_to, partition);
            async move {
                let answers = self.ask(partition, at_least, patience, question).await?;
                Ok::<_, Error>(records.into_iter().zip(answers))
            }
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().collect())
    }

    async fn ask_all<Q: Question>(
        &self,
        read_up_to: &ReadUpTo,
        patience: Duration,
        question: impl Fn(u16) -> Q,
    ) -> Result<Vec<Q::Answer>, Error> {
        let asked = (0..TABLE_PARTITIONS).map(|partition| {
            let at_least = at(read_up_to, partition);
            self.ask(partition, at_least, patience, question(partition))
        });
        try_join_all(asked).await
    }

    /// Asks whoever folds a partition, until somebody has read so far and answers.
    async fn ask<Q: Question>(
        &self,
        partition: u16,
        at_least: Folded,
        patience: Duration,
        question: Q,
    ) -> Result<Q::Answer, Error> {
        let question = Arc::new(question);
        let answered = async {
            loop {
                match self.ask_once(partition, at_least, &question).await {
                    Err(Error::Lagging) => tokio::time::sleep(ASK_AGAIN).await,
                    answered => return answered,
                }
            }
        };
        tokio::time::timeout(patience, answered)
            .await
            .map_err(|_| Error::Lagging)?
    }

    async fn ask_once<Q: Question>(
        &self,
        partition: u16,
        at_least: Folded,
        question: &Arc<Q>,
    ) -> Result<Q::Answer, Error> {
        let here = self.here.get(partition);
        let told = self
            .elsewhere
            .as_ref()
            .and_then(|elsewhere| elsewhere.of(partition));
        match (here, told) {
            // One that still catches up leaves the answer to the one before it.
            (Some(owner), Some((elsewhere, address)))
                if owner.caught_up(at_least, Duration::ZERO).await.is_err() =>
            {
                elsewhere.ask(&address, partition, at_least, &**question).await
            }
            (Some(owner), _) => owner.answer(Arc::clone(question), at_least, LOOK_HERE).await,
            (None, Some((elsewhere, address))) => {
                elsewhere.ask(&address, partition, at_least, &**question).await
            }
            (None, None) => Err(Error::Lagging),
        }
    }
}

fn at(read_up_to: &ReadUpTo, partition: u16) -> Folded {
    read_up_to
        .get(usize::from(partition))
        .copied()
        .unwrap_or_default()
}

/// How far the records of every partition were read, as a plan says it.
pub(crate) fn records_read(read_up_to: &ReadUpTo) -> Vec<Position> {
    read_up_to.iter().map(|[_, records]| *records).collect()
}

impl Elsewhere {
    /// Where another process is told to fold a partition.
    fn of(&self, partition: u16) -> Option<(&Self, String)> {
        let told = self.told.borrow();
        let owned = told
            .get(&partition)
            .filter(|owned| owned.instance != self.instance)?;
        Some((self, owned.address.clone()))
    }

    async fn ask<Q: Question>(
        &self,
        address: &str,
        partition: u16,
        at_least: Folded,
        question: &Q,
    ) -> Result<Q::Answer, Error> {
        match self.peers.ask(address, partition, at_least, question).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::NotNow) => Err(Error::Lagging),
            Err(Unanswered::Untrusted) => {
                tracing::warn!(
                    partition,
                    address,
                    "an owner elsewhere and this process do not trust each other: look at cluster.tls of both, and at the names and ends of the certificates"
                );
                Err(Error::Lagging)
            }
            Err(Unanswered::Never(status)) => {
                tracing::warn!(partition, %status, "an owner elsewhere gave no usable answer: expected one of this installation and version");
                Err(Error::Lagging)
            }
        }
    }
}

#[async_trait]
impl lethe_intake::Known for Lineage {
    async fn known(
        &self,
        records: &[RecordToken],
    ) -> Result<BTreeMap<RecordToken, KnownRecord>, lethe_intake::Error> {
        let settled = self
            .settled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let found = self
            .of_each(records, &settled, SETTLE, Known)
            .await
            .map_err(|error| match error {
                Error::Lagging => lethe_intake::Error::Lagging,
                other => lethe_intake::Error::Known(lethe_store::Error::Damaged(other.to_string())),
            })?;
        Ok(found
            .into_iter()
            .filter_map(|(record, known)| known.map(|(digest, key)| (record, KnownRecord { digest, key })))
            .collect())
    }

    async fn settled(&self) -> bool {
        match self.caught_up(SETTLE).await {
            Ok(read_up_to) => {
                *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = read_up_to;
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use lethe_log::MemoryLog;

    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_yet_is_told_by_partition() {
        let folder = tempfile::tempdir().unwrap();
        let owners = Owners::none(folder.path());
        for partition in [3, 4, 5, 9] {
            owners.take(partition).unwrap();
        }
        let log = Arc::new(MemoryLog::new());
        let lineage = Lineage::new(log, Arc::new(owners), None);
        let said = Mutex::default();
        let coming = lineage.come_up(2 * LOOK_HERE, |words| *said.lock().unwrap() = words);
        assert!(matches!(coming.await, Err(Error::Lagging)), "most have nobody");
        assert_eq!(
            *said.lock().unwrap(),
            "nobody answers for lineage partitions 0-2, 6-8, 10-15"
        );
        let all = (0..TABLE_PARTITIONS).collect();
        assert_eq!(
            lineage.unanswered(&all),
            "nobody answers for lineage partitions 0-2, 6-8, 10-15; this process still reads lineage partitions 3-5, 9"
        );
    }
}
