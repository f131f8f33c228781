use std::sync::Mutex;

use async_trait::async_trait;
use lethe_intake::Shell;
use lethe_journal::{Entry, Epoch};
use lethe_log::{Appended, GoneBy, MemoryLog, Page};
use lethe_vault::{MemoryVault, Normaliser, SeededEntropy};

use super::*;
use crate::nothing_known::NothingKnown;

/// A log in memory that notes how many entries each append to it held.
#[derive(Default)]
struct Counting {
    log: MemoryLog,
    appends: Mutex<Vec<(Stream, usize)>>,
}

#[async_trait]
impl EventLog for Counting {
    async fn acquire(&self, at: &Place) -> Result<Epoch, lethe_log::Error> {
        self.log.acquire(at).await
    }

    async fn append(
        &self,
        at: &Place,
        writer: Option<Epoch>,
        entries: Vec<Entry>,
    ) -> Result<Appended, lethe_log::Error> {
        let append = (at.stream.clone(), entries.len());
        self.appends.lock().unwrap().push(append);
        self.log.append(at, writer, entries).await
    }

    async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, lethe_log::Error> {
        self.log.read(at, from, limit).await
    }

    async fn head(&self, at: &Place) -> Result<Position, lethe_log::Error> {
        self.log.head(at).await
    }

    async fn wait(&self, at: &Place, position: Position, patience: Duration) -> Result<(), lethe_log::Error> {
        self.log.wait(at, position, patience).await
    }

    fn gone_by(&self, stream: &Stream) -> GoneBy {
        self.log.gone_by(stream)
    }

    async fn check(&self) -> Result<(), lethe_log::Error> {
        self.log.check().await
    }
}

#[tokio::test]
async fn a_page_of_garbage_is_one_append_for_each_system_that_it_names() {
    let log = Arc::new(Counting::default());
    let intake = Intake::new(
        Arc::clone(&log) as _,
        Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(1))).unwrap()),
        Normaliser::new("DE").unwrap(),
        Arc::new(NothingKnown),
        Arc::new(NothingKnown),
        Shell {
            now: shell::now,
            id: shell::entry_id,
        },
    );
    intake.recover().await.unwrap();
    let refused = Refused {
        code: "event-malformed",
        place: "event".to_owned(),
        expected: "well-formed JSON".to_owned(),
    };
    let mut sorted = Sorted::default();
    for position in 0..900 {
        let system = (position % 3 == 0).then(|| "crm".parse().unwrap());
        let stands = Stands {
            position,
            bytes: b"garbage",
            opened: None,
        };
        sorted.reject(system, stands.kept(&refused, Before::Unknown));
    }
    set_aside(&intake, &sorted.rejected).await.unwrap();
    let appends = log.appends.lock().unwrap().clone();
    assert_eq!(appends, [(Stream::Quarantine, 600), (Stream::Quarantine, 300)]);
}

#[test]
fn an_event_below_the_window_is_a_repeat_only_where_it_was_read_before() {
    let mut taken = Taken::default();
    for number in 0..100 {
        assert_eq!(judged(&mut taken, number, Sequence(number * 10 + 10)), Turn::Next);
    }
    // A crash has the page read again, from a cursor that knows of it.
    let mut again: Taken = taken.to_string().parse().unwrap();
    for number in 0..100 {
        let turn = judged(&mut again, number, Sequence(number * 10 + 10));
        assert_eq!(turn, Turn::Repeated, "{number}");
    }
    assert_eq!(again, taken);
    let new = judged(&mut taken, 100, Sequence(5));
    assert_eq!(new, Turn::Unknown, "it was never taken");
    assert_eq!(judged(&mut taken, 100, Sequence(5)), Turn::Repeated);
}
