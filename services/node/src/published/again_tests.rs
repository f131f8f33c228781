//! Events of the quarantine, taken again once the settings were mended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_exchange::{PrivateKey, Publisher};
use lethe_journal::{Entry, Event, RecordObserved};
use lethe_store::MemoryStore;
use lethe_terms::{Identifier, IdentifierKind};
use serde_json::json;
use zeroize::Zeroizing;

use super::*;
use crate::nothing_known::NothingKnown;
use crate::published::{IntakeKeyring, PublishedSettings};
use crate::quarantine::{Retrier, Retry};
use crate::test_world::World;

/// A publisher whose system a server knows less of at first than it should.
struct Company {
    world: World,
    store: Arc<dyn Store>,
    folder: tempfile::TempDir,
    sender: PrivateKey,
    publisher: Publisher,
}

/// A server with some settings, up to its end.
struct Server {
    taking: Arc<Taking>,
    quarantine: Arc<Quarantine>,
    checker: Arc<Checker>,
    stop: watch::Sender<bool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where nobody follows any more there is nobody to stop.
        let _ = self.stop.send(true);
    }
}

impl Company {
    fn new() -> Self {
        let world = World::new();
        let keys = IntakeKeyring::open(Arc::clone(&world.vault) as _, &*world.log, 30).unwrap();
        let intake = keys.list().unwrap().keys[0].public_key.clone();
        let sender = PrivateKey::derive(&Zeroizing::new([1; 32]));
        Self {
            publisher: Publisher::new(&intake, &sender, &Zeroizing::new([2; 32])).unwrap(),
            store: Arc::new(MemoryStore::new()),
            folder: tempfile::tempdir().unwrap(),
            sender,
            world,
        }
    }

    /// The server is started with this dataset of its system, and with or without the sender.
    async fn start(&self, dataset: &str, knows_sender: bool) -> Server {
        let senders = knows_sender.then(|| STANDARD.encode(self.sender.public().to_bytes()));
        let settings = json!({
            "senders": senders.into_iter().collect::<Vec<_>>(),
            "datasets": [{"name": dataset, "unit": "a contact", "categories": ["email_address"],
                "purpose": "customer_support", "basis": "6-1-f"}],
        });
        let systems = BTreeMap::from([("crm".parse().unwrap(), PublishedSettings::of(settings).unwrap())]);
        let (log, vault) = (Arc::clone(&self.world.log), Arc::clone(&self.world.vault));
        let quarantine = Arc::new(Quarantine::new(
            Arc::clone(&log) as _,
            Arc::clone(&vault) as _,
            Arc::new(NothingKnown),
            BTreeMap::new(),
        ));
        let intake = self.world.intake(Arc::clone(&quarantine) as _);
        intake.recover().await.unwrap();
        quarantine.catch_up().await.unwrap();
        let keys = Arc::new(IntakeKeyring::open(vault, &*log, 30).unwrap());
        let checker = Arc::new(Checker::new(systems, keys, Arc::clone(&intake)));
        let follow_ups = self.world.follow_ups(&intake, self.folder.path());
        let taking = Arc::new(Taking::new(Needs {
            log,
            checker: Arc::clone(&checker),
            follow_ups: Arc::clone(&follow_ups),
            store: Arc::clone(&self.store),
            quarantine: Arc::clone(&quarantine),
            systems: BTreeMap::new(),
            every: Duration::from_secs(1),
        }));
        let retrier = Retrier {
            systems: std::collections::BTreeSet::new(),
            taking: Some(Arc::clone(&taking)),
            intake,
            follow_ups,
        };
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Arc::clone(&quarantine).follow(Some(retrier), stopped));
        Server {
            taking,
            quarantine,
            checker,
            stop,
        }
    }

    /// Puts an event on the stream; nobody is in the record where it is gone.
    async fn publish(&mut self, sequence: u64, key: &str, email: Option<&str>) {
        let name = EventName {
            system: "crm".parse().unwrap(),
            shard: "main".parse().unwrap(),
            sequence: Sequence(sequence),
        };
        let record = PublishedRecord {
            dataset: "contacts".parse().unwrap(),
            key: key.to_owned(),
            handle: None,
            identifiers: email
                .map(|email| Identifier::new(IdentifierKind::Email, email))
                .into_iter()
                .collect(),
            count: 1,
            gone: email.is_none(),
        };
        let event = self.publisher.event(name, &record).unwrap();
        let entry = Entry {
            id: shell::entry_id(),
            key: b"crm/main".to_vec(),
            value: Some(event.write().unwrap()),
        };
        self.world.log.append(&place(), None, vec![entry]).await.unwrap();
    }
}

impl Server {
    /// Takes everything that stands on the stream.
    async fn take_all(&self) {
        let mut from = self.taking.needs.store.position(&Stream::Intake).unwrap();
        loop {
            let (next, head) = self.taking.step(from).await.unwrap();
            from = next;
            if from >= head {
                break;
            }
        }
    }

    /// The number and the code of each input, oldest first.
    async fn inputs(&self) -> Vec<(Position, String)> {
        self.quarantine.catch_up().await.unwrap();
        let list = self.quarantine.list(None, None, 99).await.unwrap();
        let inputs = list.inputs.into_iter().rev();
        inputs.map(|input| (input.position, input.code)).collect()
    }

    /// What an operator sees of an input.
    async fn shown(&self, position: Position) -> String {
        let shown = self
            .quarantine
            .show(position, |event| self.checker.readable(event))
            .await
            .unwrap();
        String::from_utf8(STANDARD.decode(shown.unwrap().input).unwrap()).unwrap()
    }

    /// Whether it was taken, or why it stays.
    async fn retry(&self, position: Position) -> Result<(), String> {
        match self.quarantine.retry(position).await.unwrap() {
            Retry::Done(view) if view.taken_in => Ok(()),
            Retry::Done(view) => Err(view.about.code),
            Retry::Impossible(refused) => Err(refused.code.to_owned()),
            Retry::NoSuchInput | Retry::Unsettled => panic!("it was not tried"),
        }
    }

    /// Whether any record that is known has this address.
    async fn knows(&self, email: &str) -> bool {
        let intake = &self.taking.needs.checker.intake;
        let address = Identifier::new(IdentifierKind::Email, email);
        let token = intake.tokens().identifier(&intake.normalised(&address).unwrap());
        let mut rows = BTreeMap::new();
        for at in Place::all(&Stream::Records) {
            let page = self.taking.needs.log.read(&at, 0, 999).await.unwrap();
            for Stored { entry, .. } in page.entries {
                rows.insert(entry.key, entry.value);
            }
        }
        let mut records = rows.into_values().flatten();
        records.any(|value| {
            let record = Event::<RecordObserved>::decode(&value).unwrap().data;
            record.tokens.iter().any(|held| held.token == token)
        })
    }
}

fn stays(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

#[tokio::test]
async fn once_its_dataset_is_declared_an_event_is_taken_again_and_replaces_nothing_newer() {
    let mut company = Company::new();
    for (sequence, key, email) in [
        (1, "1", "ada@example.org"),
        (2, "2", "bob@example.org"),
        (3, "2", "bob-new@example.org"),
        (4, "3", "eve@example.org"),
        (5, "4", "kim@example.org"),
    ] {
        company.publish(sequence, key, Some(email)).await;
    }
    let wrong = company.start("orders", true).await;
    wrong.take_all().await;
    let kept = wrong.inputs().await;
    let codes: Vec<&str> = kept.iter().map(|(_, code)| &**code).collect();
    assert_eq!(codes, ["event-unknown-dataset"; 5]);
    let [ada, bob, bob_new, eve, kim] = [0, 1, 2, 3, 4].map(|at| kept[at].0);
    assert!(wrong.shown(ada).await.contains("ada@example.org"));
    assert_eq!(wrong.retry(ada).await, stays("event-unknown-dataset"));
    drop(wrong);

    let mended = company.start("contacts", true).await;
    company.publish(6, "3", None).await;
    company.publish(7, "4", Some("kim-new@example.org")).await;
    mended.take_all().await;
    // The newest first, as the list has them.
    assert_eq!(mended.retry(kim).await, stays("intake-changed-since"));
    assert_eq!(mended.retry(eve).await, stays("intake-changed-since"));
    assert_eq!(mended.retry(bob_new).await, Ok(()));
    assert_eq!(mended.retry(bob).await, stays("intake-changed-since"));
    assert_eq!(mended.retry(ada).await, Ok(()));
    for (email, is_known) in [
        ("ada@example.org", true),
        ("bob-new@example.org", true),
        ("bob@example.org", false),
        ("eve@example.org", false),
        ("kim-new@example.org", true),
        ("kim@example.org", false),
    ] {
        assert_eq!(mended.knows(email).await, is_known, "{email}");
    }
    let left: Vec<_> = mended.inputs().await.into_iter().map(|(at, _)| at).collect();
    assert_eq!(left, [bob, eve, kim]);

    // With the last of them goes what was kept of the records.
    for at in left {
        mended.quarantine.drop_one(at).await.unwrap().unwrap();
    }
    mended.quarantine.catch_up().await.unwrap();
    mended.take_all().await;
    assert!(!mended.taking.told.is_kept().unwrap());
}

#[tokio::test]
async fn once_its_sender_is_declared_an_event_is_read_and_taken_again() {
    let mut company = Company::new();
    company.publish(1, "1", Some("ada@example.org")).await;
    company.publish(2, "2", Some("bob@example.org")).await;
    let wrong = company.start("contacts", false).await;
    wrong.take_all().await;
    let kept = wrong.inputs().await;
    let [(ada, code), (bob, _)] = &kept[..] else {
        panic!("{kept:?}");
    };
    assert_eq!(code, "exchange-unknown-sender");
    let list = wrong.quarantine.list(None, None, 1).await.unwrap();
    let expected = "a session in mode auth with a key that was declared";
    assert_eq!(list.inputs[0].expected, expected);
    assert!(!wrong.shown(*ada).await.contains("ada@example.org"));
    assert_eq!(wrong.retry(*ada).await, stays("exchange-unknown-sender"));
    drop(wrong);

    let mended = company.start("contacts", true).await;
    company.publish(3, "3", Some("eve@example.org")).await;
    mended.take_all().await;
    assert!(mended.shown(*ada).await.contains("ada@example.org"));
    assert_eq!(
        (mended.retry(*bob).await, mended.retry(*ada).await),
        (Ok(()), Ok(()))
    );
    assert!(mended.knows("ada@example.org").await && mended.knows("bob@example.org").await);
    assert!(mended.inputs().await.is_empty());
}

#[tokio::test]
async fn an_event_that_came_late_is_not_taken_again_nor_one_of_which_nobody_remembers_what_came_since() {
    let mut company = Company::new();
    company.publish(5, "1", Some("new@example.org")).await;
    company.publish(4, "1", Some("old@example.org")).await;
    let server = company.start("contacts", true).await;
    server.take_all().await;
    let kept = server.inputs().await;
    assert_eq!(kept[0].1, "event-late");
    assert!(server.shown(kept[0].0).await.contains("old@example.org"));
    assert_eq!(server.retry(kept[0].0).await, stays("event-late"));
    drop(server);

    let wrong = company.start("orders", true).await;
    company.publish(6, "2", Some("bob@example.org")).await;
    wrong.take_all().await;
    let (bob, _) = wrong.inputs().await.pop().unwrap();
    drop(wrong);
    company.store = Arc::new(MemoryStore::new());
    let mended = company.start("contacts", true).await;
    assert_eq!(mended.retry(bob).await, stays("event-late"));
}

#[tokio::test]
async fn what_a_sender_had_sealed_is_not_taken_again_once_it_may_not_speak_any_more() {
    let mut company = Company::new();
    company.publish(1, "1", Some("ada@example.org")).await;
    let wrong = company.start("orders", true).await;
    wrong.take_all().await;
    let (ada, _) = wrong.inputs().await.remove(0);
    drop(wrong);
    let without = company.start("contacts", false).await;
    assert_eq!(without.retry(ada).await, stays("exchange-unknown-sender"));
}
