//! How far the readers of this process are behind the heads of what they read: measured now and then, since asking for heads costs a broker
//! something, and kept for whoever looks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_journal::{LagTold, Place, Position, time_of};
use lethe_log::EventLog;
use lethe_log_kafka::KafkaLog;
use tokio::sync::watch;

use crate::{Error, shell};

/// How often lags are measured: an alert looks at minutes.
const MEASURE_EVERY: Duration = Duration::from_secs(5);

/// Where a reader stands, as it notes by itself.
pub(crate) type Stands = Arc<Mutex<Vec<(Place, Position)>>>;

/// Where the parts of a reader stand.
type Positions = Box<dyn Fn() -> Vec<(Place, Position)> + Send + Sync>;

/// The readers of this process.
pub(crate) struct Lags {
    log: Arc<dyn EventLog>,
    readers: Vec<(&'static str, Positions)>,
    measured: Mutex<Vec<LagTold>>,
}

impl Lags {
    pub(crate) const fn new(log: Arc<dyn EventLog>) -> Self {
        Self {
            log,
            readers: Vec::new(),
            measured: Mutex::new(Vec::new()),
        }
    }

    /// Adds a reader by its name in metrics. What it says it has read it has worked off.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        positions: impl Fn() -> Vec<(Place, Position)> + Send + Sync + 'static,
    ) {
        self.readers.push((name, Box::new(positions)));
    }

    /// What was measured last.
    pub(crate) fn measured(&self) -> Vec<LagTold> {
        self.measured
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Where the slowest reader of each place stands.
    fn slowest(&self) -> BTreeMap<Place, Position> {
        let mut slowest = BTreeMap::new();
        for (at, position) in self.readers.iter().flat_map(|(_, positions)| positions()) {
            let known = slowest.entry(at).or_insert(position);
            *known = position.min(*known);
        }
        slowest
    }

    /// Measures until `stop`, and shows Kafka's tools where readers stand. While the log does not answer, what was measured last stays.
    pub(crate) async fn run(
        self: Arc<Self>,
        kafka: Option<Arc<KafkaLog>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        while !*stop.borrow() {
            if let Some(kafka) = &kafka {
                kafka.show_positions(&self.slowest());
            }
            if let Err(error) = self.measure().await {
                tracing::debug!(code = error.code(), "lags could not be measured");
            }
            tokio::select! {
                () = tokio::time::sleep(MEASURE_EVERY) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    async fn measure(&self) -> Result<(), Error> {
        let mut measured = Vec::new();
        for (reader, positions) in &self.readers {
            for (at, position) in positions() {
                let (entries, oldest_ms) = self.lag(&at, position).await?;
                measured.push(LagTold {
                    reader: (*reader).to_owned(),
                    stream: at.stream.to_string(),
                    partition: at.partition,
                    entries,
                    oldest_ms,
                });
            }
        }
        *self.measured.lock().unwrap_or_else(PoisonError::into_inner) = measured;
        Ok(())
    }

    async fn lag(&self, at: &Place, position: Position) -> Result<(Position, Option<u64>), Error> {
        let head = self.log.head(at).await?;
        if head <= position {
            return Ok((0, None));
        }
        let page = self.log.read(at, position, 1).await?;
        let Some(oldest) = page.entries.first() else {
            // What is left is nobody's to read, such as a heartbeat, unless somebody wrote what is no entry.
            let age = page.strays.is_empty().then_some(0);
            return Ok((page.head.saturating_sub(page.next), age));
        };
        // What others write on a broker may bear any time, so the broker's own comes first.
        let own = || oldest.entry.value.as_deref().and_then(time_of);
        let age = oldest
            .taken_at
            .or_else(own)
            .map(|time| u64::try_from(shell::now().since(time)).unwrap_or(0));
        Ok((page.head.saturating_sub(oldest.position), age))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use lethe_journal::{Entry, Epoch, Stream};
    use lethe_log::{Appended, GoneBy, MemoryLog, Page};
    use lethe_terms::{EntryId, Timestamp};

    use super::*;
    use crate::publish;

    #[tokio::test]
    async fn a_reader_lags_by_what_it_has_not_read_and_for_as_long_as_the_oldest_of_it_waits() {
        let log = Arc::new(MemoryLog::new());
        let at = Place::new(Stream::Commands, 0);
        let leaf = Entry {
            id: EntryId::from_bytes([0; 16]),
            key: Vec::new(),
            value: Some(vec![7; 32]),
        };
        log.append(&at, None, vec![leaf]).await.unwrap();
        for _ in 0..3 {
            let told = lethe_journal::InputDropped {
                system: None,
                position: 1,
            };
            let entry = publish::entry(b"", "/lethe/gateway", told).unwrap();
            log.append(&at, None, vec![entry]).await.unwrap();
        }
        let lag_at = async |position| {
            let mut lags = Lags::new(Arc::clone(&log) as _);
            let stands = at.clone();
            lags.add("conductor", move || vec![(stands.clone(), position)]);
            lags.measure().await.unwrap();
            let measured = lags.measured();
            (measured[0].entries, measured[0].oldest_ms)
        };
        assert_eq!(lag_at(4).await, (0, None));
        assert_eq!(lag_at(0).await, (4, None), "a leaf bears no time");
        let (entries, age) = lag_at(1).await;
        assert!(entries == 3 && age.is_some_and(|age| age < 60_000), "{age:?}");
    }

    /// A log whose broker took everything at one moment.
    struct Broker(MemoryLog, Timestamp);

    #[async_trait]
    impl EventLog for Broker {
        async fn acquire(&self, at: &Place) -> Result<Epoch, lethe_log::Error> {
            self.0.acquire(at).await
        }
        async fn append(
            &self,
            at: &Place,
            writer: Option<Epoch>,
            entries: Vec<Entry>,
        ) -> Result<Appended, lethe_log::Error> {
            self.0.append(at, writer, entries).await
        }
        async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, lethe_log::Error> {
            let mut page = self.0.read(at, from, limit).await?;
            for stored in &mut page.entries {
                stored.taken_at = Some(self.1);
            }
            Ok(page)
        }
        async fn head(&self, at: &Place) -> Result<Position, lethe_log::Error> {
            self.0.head(at).await
        }
        async fn wait(&self, at: &Place, next: Position, patience: Duration) -> Result<(), lethe_log::Error> {
            self.0.wait(at, next, patience).await
        }
        fn gone_by(&self, stream: &Stream) -> GoneBy {
            self.0.gone_by(stream)
        }
        async fn check(&self) -> Result<(), lethe_log::Error> {
            self.0.check().await
        }
    }

    #[tokio::test]
    async fn on_a_broker_its_own_clock_says_how_long_an_event_waits_whatever_its_publisher_says() {
        let hour_ms = 3_600_000;
        let log = Arc::new(Broker(MemoryLog::new(), shell::now().plus_millis(-hour_ms)));
        let at = Place::new(Stream::Intake, 0);
        let soon = format!("{{\"time\":\"{}\"}}", shell::now().plus_millis(hour_ms));
        let entries = [soon.as_str(), "no event"].map(|value| Entry {
            id: EntryId::from_bytes([0; 16]),
            key: Vec::new(),
            value: Some(value.as_bytes().to_vec()),
        });
        log.append(&at, None, entries.into()).await.unwrap();
        for position in [0, 1] {
            let mut lags = Lags::new(Arc::clone(&log) as _);
            let stands = at.clone();
            lags.add("intake", move || vec![(stands.clone(), position)]);
            lags.measure().await.unwrap();
            let age_ms = lags.measured()[0].oldest_ms.unwrap();
            assert!((3_600_000..3_660_000).contains(&age_ms), "{position}: {age_ms}");
        }
    }
}
