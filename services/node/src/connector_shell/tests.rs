use async_trait::async_trait;
use lethe_journal::{EnvelopeBytes, Generation, Sealed};
use lethe_kit::memory::MemoryConnector;
use lethe_kit::{Connector, FeedPage, Finding, Located, Manifest};
use lethe_ledger::{Keys, Start};
use lethe_proof::{Envelope, ObservationStatement};
use lethe_store::MemoryStore;
use lethe_terms::{CaseId, DatasetName, InstructionId, ShardName, Timestamp};

use super::*;
use crate::nothing_known::NothingKnown;
use crate::test_world::{NothingToPutAway, Silent, World, keys_on};

/// Looks at once, and answers later.
struct Slow {
    connector: MemoryConnector,
    looked_at: Mutex<Option<Timestamp>>,
}

#[async_trait]
impl Connector for Slow {
    fn manifest(&self) -> &Manifest {
        self.connector.manifest()
    }

    async fn check(&self) -> Result<Vec<Finding>, CallError> {
        self.connector.check().await
    }

    async fn feed(
        &self,
        shard: &ShardName,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<FeedPage, CallError> {
        self.connector.feed(shard, cursor, limit).await
    }

    async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, CallError> {
        self.connector.locate(selector, page).await
    }

    async fn perform(&self, ask: &Ask) -> Result<Performed, CallError> {
        self.connector.perform(ask).await
    }

    async fn poll(&self, ask: &Ask, ticket: &str) -> Result<Performed, CallError> {
        self.connector.poll(ask, ticket).await
    }

    async fn observe(
        &self,
        dataset: &DatasetName,
        selector: &Selector,
    ) -> Result<lethe_kit::Observed, CallError> {
        let seen = self.connector.observe(dataset, selector).await?;
        let looked_at = shell::now();
        *self.looked_at.lock().unwrap() = Some(looked_at);
        while shell::now() <= looked_at {
            tokio::task::yield_now().await;
        }
        Ok(seen)
    }

    async fn export(
        &self,
        selector: &Selector,
        page: Page,
    ) -> Result<(Vec<serde_json::Value>, Page), CallError> {
        self.connector.export(selector, page).await
    }
}

fn shell_of(world: &World, folder: &std::path::Path, connector: Arc<dyn Connector>) -> ConnectorShell {
    let intake = world.intake(Arc::new(NothingKnown));
    let follow_ups = world.follow_ups(&intake, folder);
    let system: SystemName = "crm".parse().unwrap();
    let keys = Keys::open(&folder.join("keys"), std::slice::from_ref(&system), Start::First).unwrap();
    ConnectorShell {
        away: Arc::new(NothingToPutAway),
        log: Arc::clone(&world.log) as _,
        answering: Arc::new(Answering::new(true)),
        keys: follow_ups.keys.clone(),
        intake,
        host: Arc::new(Host::new(connector)),
        signers: Arc::new(Signers {
            keys: Arc::new(keys),
            system: system.clone(),
        }),
        store: Arc::new(MemoryStore::new()),
        follow_ups,
        system,
    }
}

#[tokio::test]
async fn an_observation_is_of_no_later_moment_than_the_look_however_long_the_answer_took() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let slow = Arc::new(Slow {
        connector: MemoryConnector::new("crm").unwrap(),
        looked_at: Mutex::default(),
    });
    let shell = shell_of(&world, folder.path(), Arc::clone(&slow) as _);
    let planned = Planned {
        digest: format!("sha256:{}", "0".repeat(64)),
        head: String::new(),
        generation: Generation {
            plan_index: 0,
            step: 0,
        },
        dataset: "contacts".parse().unwrap(),
        step_verb: Verb::Erase,
        receipt: Some(format!("sha256:{}", "0".repeat(64))),
        not_before: None,
    };
    let instruction = Instruction {
        id: InstructionId::from_bytes([1; 16]),
        case: CaseId::from_bytes([1; 8]),
        system: shell.system.clone(),
        verb: Verb::Observe,
        selectors: Sealed::from_bytes(Vec::new()),
        planned: None,
        round: 0,
        ticket: None,
        asks_about: None,
    };
    let answer = shell.observe(&instruction, &planned, &Selectors::default()).await;
    let Answer::Observed {
        observation: EnvelopeBytes(text),
        ..
    } = answer.unwrap()
    else {
        panic!("it answers");
    };
    let key = shell.signers.keys.observes(&shell.system).unwrap().public();
    let signed = Envelope::from_text(&text).unwrap();
    let statement: ObservationStatement = signed.open_statement(&key).unwrap();
    let looked_at = slow.looked_at.lock().unwrap().unwrap();
    assert!(statement.at <= looked_at, "{} > {looked_at}", statement.at);
}

/// Instructions to search a system, sealed for one case.
async fn put_searches(world: &World, keys: &CaseKeys, system: &SystemName, count: u8) {
    let case = CaseId::from_bytes([1; 8]);
    let drawn = keys.draw(case).unwrap();
    keys.keep(case, drawn.wrapped).await.unwrap();
    let selectors = keys.seal_selectors(case, Selectors::default()).await.unwrap();
    let order = |number: u8| Instruction {
        id: InstructionId::from_bytes([number; 16]),
        case,
        system: system.clone(),
        verb: Verb::Locate,
        selectors: selectors.clone(),
        planned: None,
        round: 1,
        ticket: None,
        asks_about: None,
    };
    let entry = |number| publish::entry(case.as_bytes(), "/lethe/conductor", order(number)).unwrap();
    let at = Place::new(Stream::Instructions(system.clone()), 0);
    let entries = (0..count).map(entry).collect();
    publish::append(&*world.log, &at, entries, "instructions")
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_stops_waits_for_no_instruction_and_leaves_it_to_the_next_host() {
    let (world, folder, crm) = (World::new(), tempfile::tempdir().unwrap(), "crm".parse().unwrap());
    let (keys, _folds) = keys_on(&world.log, &folder.path().join("lineage"));
    put_searches(&world, &keys, &crm, 65).await;
    let (silent, store) = (Arc::new(Silent::new()), Arc::new(MemoryStore::new()));
    let shell = Arc::new(ConnectorShell {
        keys,
        store: Arc::clone(&store) as _,
        ..shell_of(&world, folder.path(), Arc::clone(&silent) as _)
    });
    let running = tokio::spawn(shell.run(world.stopped.clone()));
    let most = u32::try_from(AT_ONCE_MAX).unwrap();
    silent.asked(most).await;
    world.stop.send_replace(true);
    let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
    ended
        .expect("it waits for a system that does not answer")
        .unwrap()
        .unwrap();
    assert_eq!(silent.calls(), most, "one more was begun");
    let answers = world.log.head(&Place::new(Stream::Answers, 0)).await.unwrap();
    let position = store.position(&Stream::Instructions(crm)).unwrap();
    assert_eq!((answers, position), (0, 0), "nothing was done");
}
