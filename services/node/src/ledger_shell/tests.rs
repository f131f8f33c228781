use std::path::Path;

use lethe_journal::EnvelopeBytes;
use lethe_ledger::EvidenceStore;
use lethe_log::MemoryLog;
use lethe_store::MemoryStore;
use lethe_terms::Outcome;
use lethe_vault::{MemoryVault, SeededEntropy};

use super::*;
use crate::lineage::{Lineage, Owners};
use crate::test_world::keys_on;

/// Name of the log in checkpoints.
const ORIGIN: &str = "example/lethe";

/// The ledger of an installation whose folder stays while its log may be exchanged.
struct Installation {
    folder: tempfile::TempDir,
    signing: Arc<Keys>,
}

impl Installation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signing = Keys::open(&folder.path().join("keys"), &[], Start::First).unwrap();
        Self {
            folder,
            signing: Arc::new(signing),
        }
    }

    fn path(&self, of: &str) -> std::path::PathBuf {
        self.folder.path().join(of)
    }

    fn ledger(&self) -> Ledger {
        let key = self.signing.checkpoint().key();
        Ledger::open(&self.path("tree"), &self.path("head"), ORIGIN, key, Start::First).unwrap()
    }

    /// A ledger that signed so many leaves, and stopped.
    fn that_signed(count: u64) -> Self {
        let this = Self::new();
        let mut ledger = this.ledger();
        ledger.append(&(0..count).map(leaf).collect::<Vec<_>>()).unwrap();
        ledger.sign_head().unwrap();
        this
    }

    fn shell(&self, log: &Arc<MemoryLog>) -> LedgerShell {
        let owners = Arc::new(Owners::none(&self.path("lineage")));
        let lineage = Arc::new(Lineage::new(Arc::clone(log) as _, owners, None));
        let vault = Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(1))).unwrap());
        let evidence = Evidence {
            store: EvidenceStore::open(&self.path("evidence")).unwrap(),
            controller: "example".into(),
            days: DAYS,
            policy: Vec::new(),
        };
        LedgerShell {
            log: Arc::clone(log) as _,
            answering: Arc::new(Answering::new(true)),
            keys: CaseKeys::new(vault, Arc::clone(log) as _, lineage),
            evidence: Arc::new(evidence),
            ledger: self.ledger(),
            signing: Arc::clone(&self.signing),
            store: Arc::new(MemoryStore::new()),
            stands: Stands::default(),
            compared: Compared::default(),
        }
    }

    /// How a start of the ledger on this log ends: nothing where it goes on until it is told to stop.
    async fn start(&self, log: &Arc<MemoryLog>) -> Option<&'static str> {
        let (stop, stopped) = watch::channel(false);
        let mut shell = self.shell(log);
        let followed = shell.follow_leaves().await;
        stop.send(followed.is_ok()).unwrap();
        let run = shell.run(stopped).await;
        let codes = [followed, run].map(|ended| ended.err().map(|error| error.code()));
        assert_eq!(codes[0], codes[1], "before it runs and while it does");
        codes[0]
    }

    fn signed(&self) -> u64 {
        self.ledger().signed().size
    }
}

fn leaf(number: u64) -> Leaf {
    Leaf::of(LeafKind::Receipt, &receipt(number)).unwrap()
}

/// A log whose stream holds these leaves, with a fence before each.
async fn log_of(numbers: impl IntoIterator<Item = u64>) -> Arc<MemoryLog> {
    let log = Arc::new(MemoryLog::new());
    for number in numbers {
        let entry = |value| Entry {
            id: shell::entry_id(),
            key: Vec::new(),
            value: Some(value),
        };
        let entries = vec![entry(Vec::new()), entry(leaf(number).as_bytes().to_vec())];
        log.append(&leaves(), None, entries).await.unwrap();
    }
    log
}

fn remove_tree(of: &Installation) {
    std::fs::remove_dir_all(of.path("tree")).unwrap();
}

#[tokio::test]
async fn a_log_that_lost_a_signed_leaf_stops_the_ledger_at_each_start() {
    for loses_tree in [false, true] {
        let installation = Installation::that_signed(12);
        let log = log_of(0..11).await;
        if loses_tree {
            remove_tree(&installation);
        }
        for _ in 0..2 {
            assert_eq!(installation.start(&log).await, Some("ledger-head-behind"));
        }
        // What came after the loss does not make up for it.
        let log = log_of((0..11).chain([20, 21, 22])).await;
        assert_eq!(installation.start(&log).await, Some("ledger-head-differs"));
        assert_eq!(installation.signed(), 12);
        // The newer copy of the log is back.
        assert_eq!(installation.start(&log_of(0..13).await).await, None);
        assert_eq!(installation.ledger().index_of(&leaf(12)), Some(12));
    }
}

#[tokio::test]
async fn a_log_with_another_leaf_in_the_place_of_a_signed_one_stops_the_ledger_and_an_empty_one_does() {
    for loses_tree in [false, true] {
        let installation = Installation::that_signed(12);
        if loses_tree {
            remove_tree(&installation);
        }
        let others = [
            ((0..5).chain([20]).chain(6..14).collect(), "ledger-head-differs"),
            ((0..5).chain([6, 5]).chain(7..12).collect(), "ledger-head-differs"),
            (Vec::new(), "ledger-head-behind"),
        ];
        for (numbers, expected) in others {
            let log = log_of(numbers).await;
            assert_eq!(installation.start(&log).await, Some(expected));
        }
        assert_eq!(installation.signed(), 12);
    }
}

#[tokio::test]
async fn a_log_that_continues_what_was_signed_makes_the_tree_whatever_that_was() {
    let whole = (0..14).chain([3, 13]);
    let spoil: [fn(&Path); 3] = [
        |_| {},
        |tree| std::fs::remove_dir_all(tree).unwrap(),
        // An old copy of the tree.
        |tree| {
            let lines = std::fs::read(tree.join("leaves")).unwrap();
            std::fs::write(tree.join("leaves"), &lines[..lines.len() / 2]).unwrap();
        },
    ];
    for spoil in spoil {
        let installation = Installation::that_signed(12);
        spoil(&installation.path("tree"));
        for _ in 0..2 {
            assert_eq!(installation.start(&log_of(whole.clone()).await).await, None);
        }
        let mut ledger = installation.ledger();
        assert_eq!((ledger.size(), ledger.index_of(&leaf(13))), (14, Some(13)));
        ledger.sign_head().unwrap();
    }
}

#[tokio::test]
async fn leaves_that_nobody_signed_and_the_log_lost_leave_the_tree() {
    let installation = Installation::that_signed(12);
    installation.ledger().append(&[leaf(12), leaf(13)]).unwrap();
    let log = log_of((0..12).chain([30])).await;
    assert_eq!(installation.start(&log).await, None);
    let ledger = installation.ledger();
    assert_eq!((ledger.size(), ledger.index_of(&leaf(30))), (13, Some(12)));
}

#[tokio::test]
async fn a_log_that_is_read_on_and_one_that_became_shorter_meanwhile_are_compared_too() {
    let installation = Installation::that_signed(12);
    let mut shell = installation.shell(&log_of(0..12).await);
    shell.follow_leaves().await.unwrap();
    shell.log = log_of(0..14).await;
    shell.follow_leaves().await.unwrap();
    assert_eq!((shell.ledger.size(), shell.compared.alike), (14, 14));
    shell.ledger.sign_head().unwrap();
    shell.log = log_of(0..13).await;
    let told = shell.follow_leaves().await.map_err(|error| error.code());
    assert_eq!(told, Err("ledger-head-behind"));
}

/// Days for which evidence is kept here, and one in milliseconds.
const DAYS: u32 = 30;
const DAY_MS: i64 = 86_400_000;

fn receipt(number: u64) -> Envelope {
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    Envelope::sign("test", &number, &key).unwrap()
}

/// Puts a report on the log that a case got so many days ago.
async fn reported(log: &MemoryLog, keys: &CaseKeys, number: u64, days_ago: i64) {
    let case = CaseId::from_bytes([7; 8]);
    if keys.get(case).await.is_err() {
        let drawn = keys.draw(case).unwrap();
        keys.keep(case, drawn.wrapped).await.unwrap();
    }
    let event = CaseEvent::Reported {
        step: 0,
        outcome: Outcome::Erased,
        records: 1,
        receipt: EnvelopeBytes(receipt(number).to_text().unwrap()),
    };
    let id = shell::entry_id();
    let event = Event {
        id,
        source: "/lethe/conductor",
        time: shell::now().plus_millis(-days_ago * DAY_MS),
        data: keys.seal_event(case, number, &event).await.unwrap(),
    };
    let entry = Entry {
        id,
        key: case.as_bytes().to_vec(),
        value: Some(event.encode().unwrap()),
    };
    let partition = partition_of(case.as_bytes(), Stream::Cases.partitions());
    log.append(&Place::new(Stream::Cases, partition), None, vec![entry])
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_takes_the_ledger_over_keeps_no_evidence_for_longer_than_the_one_before() {
    let installation = Installation::new();
    let log = Arc::new(MemoryLog::new());
    let (keys, _stop) = keys_on(&log, &installation.path("lineage"));
    for (number, days_ago) in [(1, 0), (2, 10), (3, 400)] {
        reported(&log, &keys, number, days_ago).await;
    }
    // Each start reads all histories: where it stood before nobody tells it.
    let takes_over = async || {
        let mut shell = installation.shell(&log);
        shell.keys = keys.clone();
        let epoch = shell.log.acquire(&leaves()).await.unwrap();
        shell.follow_leaves().await.unwrap();
        while shell.step(epoch).await.unwrap() {}
        let kept = shell.evidence.store.list().into_iter();
        kept.collect::<BTreeMap<_, _>>()
    };
    let name = |number| receipt(number).digest().unwrap().replace(':', "-");
    let first = takes_over().await;
    assert_eq!(first.len(), 3, "what is new is kept, however long it waited");
    assert_eq!(takes_over().await, first);

    // What is gone comes back until its day, and not after it.
    for file in std::fs::read_dir(installation.path("evidence")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    let again = takes_over().await;
    let days_left = |number| Some((again.get(&name(number))?.since(shell::now()) + DAY_MS / 2) / DAY_MS);
    assert_eq!([1, 2, 3].map(days_left), [Some(30), Some(20), None]);
}

#[tokio::test]
async fn what_has_not_the_form_of_a_leaf_or_of_a_case_is_passed_by() {
    let installation = Installation::that_signed(12);
    let log = log_of(0..12).await;
    let garbage = |key: &[u8], value: &[u8]| Entry {
        id: shell::entry_id(),
        key: key.to_vec(),
        value: Some(value.to_vec()),
    };
    let cases = Place::new(Stream::Cases, 0);
    for at in [leaves(), cases.clone()] {
        log.append(&at, None, vec![garbage(b"stray", b"no leaf, no event")])
            .await
            .unwrap();
    }
    assert_eq!(installation.start(&log).await, None);
    let mut shell = installation.shell(&log);
    shell.follow_leaves().await.unwrap();
    assert_eq!((shell.ledger.size(), shell.compared.alike), (12, 12));
    assert!(shell.step(1).await.unwrap());
    assert_eq!(shell.store.position(&position_of(0)).unwrap(), 1);
}
