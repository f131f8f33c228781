use std::path::Path;

use lethe_intake::Finding;
use lethe_journal::InputOrigin;
use lethe_terms::{CaseId, Identifier, IdentifierKind, RecordToken};

use super::fold::VIEWS_MAX;
use super::*;
use crate::nothing_known::NothingKnown;
use crate::test_world::World;

impl World {
    fn quarantine(&self) -> Arc<Quarantine> {
        Arc::new(Quarantine::new(
            Arc::clone(&self.log) as _,
            Arc::clone(&self.vault) as _,
            Arc::new(NothingKnown),
            BTreeMap::new(),
        ))
    }

    /// What takes inputs in again, with its files in a folder.
    fn retrier(&self, folder: &Path) -> Retrier {
        let intake = self.intake(Arc::new(NothingKnown));
        Retrier {
            systems: ["shop".parse().unwrap()].into(),
            taking: None,
            follow_ups: self.follow_ups(&intake, folder),
            intake,
        }
    }

    /// Puts so many inputs of a system there, of which intake kept enough or not.
    async fn put(&self, quarantine: &Quarantine, system: &str, count: usize, is_kept: bool) {
        let system: SystemName = system.parse().unwrap();
        for number in 0..count {
            let (key, wrapped) = self.vault.create().unwrap();
            let input = key.seal("quarantine", b"no number").unwrap();
            let records = Vec::new();
            let of = lethe_vault::seal_json(&key, "quarantine/of", &InputOrigin { records }).unwrap();
            let quarantined = Quarantined {
                system: Some(system.clone()),
                position: format!("accounts identifier {number}"),
                code: "vault-not-normalised".into(),
                expected: "a telephone number".into(),
                of: Some(of),
                again: is_kept.then(|| input.clone()),
                input,
                key: wrapped,
                stood: None,
            };
            quarantine
                .say(Some(&system), "/lethe/intake", quarantined)
                .await
                .unwrap();
        }
    }
}

async fn positions(quarantine: &Quarantine, before: Option<Position>, limit: usize) -> Vec<Position> {
    let list = quarantine.list(None, before, limit).await.unwrap();
    list.inputs.iter().map(|input| input.position).collect()
}

#[tokio::test]
async fn a_list_is_read_page_by_page_also_where_it_is_longer_than_what_memory_holds() {
    let world = World::new();
    let quarantine = world.quarantine();
    world.put(&quarantine, "shop", VIEWS_MAX + 3, true).await;
    world.put(&quarantine, "website", 2, false).await;
    quarantine.catch_up().await.unwrap();
    assert!(quarantine.fold().in_memory() <= VIEWS_MAX);
    let head = VIEWS_MAX as u64 + 5;
    assert_eq!(positions(&quarantine, None, 2).await, [head - 1, head - 2]);
    assert_eq!(positions(&quarantine, Some(4), 3).await, [3, 2, 1]);
    quarantine.drop_one(2).await.unwrap().unwrap();
    quarantine.catch_up().await.unwrap();
    assert_eq!(positions(&quarantine, Some(4), 3).await, [3, 1, 0]);
    let shop = "shop".parse().unwrap();
    let list = quarantine.list(Some(&shop), None, 1).await.unwrap();
    assert_eq!((list.total, list.inputs.len()), (VIEWS_MAX as u64 + 2, 1));
    assert_eq!(quarantine.fold().count_of(&shop, false), VIEWS_MAX as u64 + 2);
}

#[tokio::test]
async fn what_was_dropped_or_never_was_is_neither_shown_nor_dropped_nor_taken_in() {
    let world = World::new();
    let quarantine = world.quarantine();
    world.put(&quarantine, "shop", 3, true).await;
    quarantine.catch_up().await.unwrap();
    assert!(quarantine.show(1, |_| Ok(None)).await.unwrap().is_some());
    quarantine.drop_one(1).await.unwrap().unwrap();
    quarantine.catch_up().await.unwrap();
    for position in [1, 3, 999] {
        assert!(
            quarantine.show(position, |_| Ok(None)).await.unwrap().is_none(),
            "{position}"
        );
    }
    for position in [1, 999] {
        let head = world.log.head(&place()).await.unwrap();
        assert!(
            quarantine.drop_one(position).await.unwrap().is_none(),
            "{position}"
        );
        let retried = quarantine.retry(position).await.unwrap();
        assert!(matches!(retried, Retry::NoSuchInput), "{position}");
        assert_eq!(
            world.log.head(&place()).await.unwrap(),
            head,
            "nothing is asked of anybody"
        );
    }
    assert!(quarantine.show(2, |_| Ok(None)).await.unwrap().is_some());
}

#[tokio::test]
async fn an_input_is_one_however_often_its_source_tells_it_and_ends_with_the_first_of_its_records() {
    let world = World::new();
    let quarantine = world.quarantine();
    let intake = world.intake(Arc::clone(&quarantine) as _);
    let shop: SystemName = "shop".parse().unwrap();
    let seen = |key: &str| lethe_kit::Observation {
        dataset: "access".parse().unwrap(),
        key: key.into(),
        handle: key.into(),
        identifiers: vec![Identifier::new(
            IdentifierKind::Email,
            format!("{key}@example.org"),
        )],
        unit: None,
        count: 1,
        gone: false,
    };
    let line = |of: &[&str], byte: u64| lethe_kit::Rejected {
        position: format!("byte {byte}"),
        code: "weblog-line",
        expected: "a line".into(),
        input: format!("a line of {of:?}").into_bytes(),
        of: of.iter().map(|key| seen(key).name()).collect(),
    };
    for byte in [0, 1_000] {
        let page = lethe_kit::FeedPage {
            observations: ["ada", "bob", "eve"].map(seen).into(),
            rejected: vec![
                line(&["ada"], byte),
                line(&["ada", "bob"], byte),
                line(&["eve"], byte),
                line(&[], byte),
            ],
            cursor: byte.to_string(),
            ..lethe_kit::FeedPage::default()
        };
        intake.publish(&shop, intake.mark(&shop), &page).await.unwrap();
        quarantine.catch_up().await.unwrap();
        assert_eq!(quarantine.fold().count_of(&shop, false), 4);
    }
    let record = |key: &str| {
        let dataset = "access".parse().unwrap();
        intake.tokens().record(&shop, &dataset, key)
    };
    for (key, left) in [("bob", 3), ("ada", 2)] {
        intake.gone_records(&shop, &[record(key)]).await.unwrap();
        quarantine.catch_up().await.unwrap();
        assert_eq!(quarantine.fold().count_of(&shop, false), left, "{key}");
    }
    let left = positions(&quarantine, None, 9).await;
    assert!(
        quarantine.show(left[0], |_| Ok(None)).await.unwrap().is_some(),
        "it is nobody's"
    );
    for position in 0..left[1] {
        assert!(
            quarantine.show(position, |_| Ok(None)).await.unwrap().is_none(),
            "{position}"
        );
    }
}

#[tokio::test]
async fn an_input_leaves_when_it_was_taken_in_and_stays_with_its_new_reason_otherwise() {
    let world = World::new();
    let (gateway, host) = (world.quarantine(), world.quarantine());
    world.put(&gateway, "shop", 2, true).await;
    world.put(&gateway, "website", 1, false).await;
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(Arc::clone(&gateway).follow(None, stopped));
    let answers = async {
        let outcomes = [
            None,
            Some(InputStays {
                code: "intake-changed-since".into(),
                expected: "as it was".into(),
            }),
        ];
        for (position, stays) in [(0, outcomes[0].clone()), (1, outcomes[1].clone())] {
            while !host.fold().is_asked(position) {
                let next = host.fold().next;
                world.log.wait(&place(), next, IDLE).await.unwrap();
                host.catch_up().await.unwrap();
            }
            let retried = InputRetried {
                system: None,
                position,
                stays,
            };
            host.say(None, "/lethe/intake", retried).await.unwrap();
        }
    };
    let asks = async {
        let mut done = Vec::new();
        for position in [0, 1] {
            match gateway.retry(position).await.unwrap() {
                Retry::Done(view) => done.push(view),
                _ => panic!("the input {position} was tried"),
            }
        }
        done
    };
    let (done, ()) = tokio::join!(asks, answers);
    assert!(done[0].taken_in && !done[1].taken_in);
    assert_eq!(done[1].about.code, "intake-changed-since");
    assert!(
        matches!(gateway.retry(2).await.unwrap(), Retry::Impossible(refused) if refused.code == "intake-source-only")
    );
    assert!(
        matches!(gateway.retry(3).await.unwrap(), Retry::NoSuchInput),
        "an answer is no input"
    );
    assert_eq!(positions(&gateway, None, 9).await, [2, 1]);
    host.catch_up().await.unwrap();
    assert!(
        !host.fold().is_asked(0) && !host.fold().is_asked(1),
        "nothing is left to be tried"
    );
    assert_eq!(
        gateway.show(1, |_| Ok(None)).await.unwrap().unwrap().about.code,
        "intake-changed-since"
    );
    stop.send(true).unwrap();
    following.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_input_that_is_dropped_while_somebody_waits_for_it_was_not_taken_in() {
    let world = World::new();
    let (gateway, other) = (world.quarantine(), world.quarantine());
    world.put(&gateway, "shop", 1, true).await;
    let following = tokio::spawn(Arc::clone(&gateway).follow(None, world.stopped.clone()));
    let drops = async {
        while !other.fold().is_asked(0) {
            let next = other.fold().next;
            world.log.wait(&place(), next, IDLE).await.unwrap();
            other.catch_up().await.unwrap();
        }
        other.drop_one(0).await.unwrap().unwrap();
    };
    let (retried, ()) = tokio::join!(gateway.retry(0), drops);
    assert!(matches!(retried.unwrap(), Retry::NoSuchInput));
    world.stop.send(true).unwrap();
    following.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_input_that_fails_for_good_stays_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let (gateway, host) = (world.quarantine(), world.quarantine());
    // What is kept of each was sealed for another place, so that intake cannot open it.
    world.put(&gateway, "shop", 2, true).await;
    let (stop, stopped) = watch::channel(false);
    let retrier = world.retrier(folder.path());
    let following = [
        tokio::spawn(Arc::clone(&gateway).follow(None, stopped.clone())),
        tokio::spawn(Arc::clone(&host).follow(Some(retrier), stopped)),
    ];
    let (first, second) = tokio::join!(gateway.retry(0), gateway.retry(1));
    for outcome in [first.unwrap(), second.unwrap()] {
        let Retry::Done(view) = outcome else {
            panic!("each was tried");
        };
        assert_eq!(
            (view.taken_in, view.about.code.as_str()),
            (false, "vault-cannot-open")
        );
    }
    stop.send(true).unwrap();
    for following in following {
        following.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_lies_before_the_first_input_that_counts_is_passed() {
    let world = World::new();
    let quarantine = world.quarantine();
    assert_eq!(quarantine.passed(), 0);
    world.put(&quarantine, "shop", 3, true).await;
    quarantine.catch_up().await.unwrap();
    for (dropped, passed) in [(1, 0), (0, 2), (2, 6)] {
        quarantine.drop_one(dropped).await.unwrap().unwrap();
        quarantine.catch_up().await.unwrap();
        assert_eq!(quarantine.passed(), passed, "after {dropped} was dropped");
    }
}

#[tokio::test]
async fn a_follow_up_holds_up_no_stop() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let follow_ups = world.retrier(folder.path()).follow_ups;
    let finding = Finding {
        system: "shop".parse().unwrap(),
        dataset: "people".parse().unwrap(),
        of: CaseId::from_bytes([1; 8]),
        record: RecordToken::from_bytes([2; 16]),
        identifiers: vec![Identifier::new(IdentifierKind::Email, "ada@example.org")],
    };
    world.stop.send(true).unwrap();
    let opened = follow_ups.open(finding).await;
    assert_eq!(opened.unwrap_err().code(), "node-stopped");
    let commands = Place::new(Stream::Commands, 0);
    assert_eq!(world.log.head(&commands).await.unwrap(), 0);
}

#[tokio::test]
async fn what_can_be_no_entry_is_put_away_once_and_hides_nobody() {
    let world = World::new();
    let quarantine = world.quarantine();
    let intake = world.intake(Arc::clone(&quarantine) as _);
    let at = Place::new(Stream::Answers, 0);
    let poison = [3, 7].map(|position| lethe_intake::Poison {
        position,
        system: None,
        is_anybodys: false,
        code: "log-stray",
        expected: "an entry".into(),
        value: b"anything".to_vec(),
    });
    assert_eq!(intake.put_away(&at, &poison).await.unwrap(), 2);
    assert_eq!(intake.put_away(&at, &poison).await.unwrap(), 0, "read again");
    // Two processes that read it in the same moment.
    for _ in 0..2 {
        let other = world.intake(Arc::new(NothingKnown));
        assert_eq!(other.put_away(&at, &poison).await.unwrap(), 2);
    }
    quarantine.catch_up().await.unwrap();
    let list = quarantine.list(None, None, 9).await.unwrap();
    let places: Vec<_> = list.inputs.iter().map(|input| input.place.as_str()).collect();
    assert_eq!(places, ["answers/0 at 7", "answers/0 at 3"]);
    assert_eq!((list.total, quarantine.put_away_count()), (2, 2));
    let website = "website".parse().unwrap();
    let hides = (
        quarantine.count().await,
        quarantine.fold().count_of(&website, true),
    );
    assert_eq!(hides, (Some(0), 0), "it is nobody's input");

    let newest = list.inputs[0].position;
    let shown = quarantine.show(newest, |_| Ok(None)).await.unwrap().unwrap();
    assert_eq!(shown.input, STANDARD.encode("anything"));
    assert!(matches!(
        quarantine.retry(newest).await.unwrap(),
        Retry::Impossible(refused) if refused.code == "intake-no-input"
    ));
    for input in list.inputs {
        quarantine.drop_one(input.position).await.unwrap().unwrap();
    }
    let other = world.intake(Arc::new(NothingKnown));
    assert_eq!(other.put_away(&at, &poison).await.unwrap(), 2);
    quarantine.catch_up().await.unwrap();
    assert_eq!(quarantine.put_away_count(), 0, "what was dropped stays so");
}

/// What took the place of a record of this system, or of one that nobody knew.
fn displacing(position: Position, system: Option<&str>) -> lethe_intake::Poison {
    lethe_intake::Poison {
        position,
        system: system.map(|name| name.parse().unwrap()),
        is_anybodys: system.is_none(),
        code: "log-stray",
        expected: "an entry".into(),
        value: b"anything".to_vec(),
    }
}

#[tokio::test]
async fn what_took_the_place_of_nothing_that_was_known_may_hide_somebody_of_any_system() {
    let world = World::new();
    let quarantine = world.quarantine();
    let intake = world.intake(Arc::clone(&quarantine) as _);
    let at = Place::new(Stream::Keys, 3);
    intake.put_away(&at, &[displacing(7, None)]).await.unwrap();
    let hides = |system: &str, is_published| {
        let system = system.parse().unwrap();
        quarantine.fold().count_of(&system, is_published)
    };
    assert_eq!(
        (hides("shop", false), hides("crm", true)),
        (1, 1),
        "by the time that it is put away"
    );
    assert_eq!(quarantine.count().await, Some(1));
    let behind = quarantine.put_away_behind();
    let newest = quarantine.list(None, None, 9).await.unwrap().inputs[0].position;
    quarantine.drop_one(newest).await.unwrap().unwrap();
    intake.put_away(&at, &[displacing(9, None)]).await.unwrap();
    assert_eq!(hides("shop", false), 1);
    assert!(
        quarantine.put_away_behind() > behind,
        "although as many count as before"
    );
}

#[tokio::test]
async fn a_record_ends_in_the_log_although_its_place_was_taken_and_nothing_of_it_is_known() {
    let world = World::new();
    let quarantine = world.quarantine();
    let intake = world.intake(Arc::clone(&quarantine) as _);
    let (shop, record) = ("shop".parse().unwrap(), RecordToken::from_bytes([7; 16]));
    let partition = lethe_journal::partition_of(record.as_bytes(), Stream::Records.partitions());
    let places = [Stream::Records, Stream::Keys].map(|stream| Place::new(stream, partition));
    intake.gone_records(&shop, &[record]).await.unwrap();
    for at in &places {
        assert_eq!(world.log.head(at).await.unwrap(), 0, "nothing stands there");
    }
    let taken = displacing(7, Some("shop"));
    intake.put_away(&places[0], &[taken]).await.unwrap();
    let newest = quarantine.list(None, None, 9).await.unwrap().inputs[0].position;
    quarantine.drop_one(newest).await.unwrap().unwrap();
    quarantine.catch_up().await.unwrap();
    intake.gone_records(&shop, &[record]).await.unwrap();
    for at in &places {
        let page = world.log.read(at, 0, 9).await.unwrap();
        let entries: Vec<_> = page.entries.iter().map(|stored| &stored.entry).collect();
        let [ended] = entries[..] else {
            panic!("{entries:?}")
        };
        assert_eq!((&*ended.key, &ended.value), (&record.as_bytes()[..], &None));
    }
}

#[tokio::test]
async fn what_took_the_place_of_a_record_hides_somebody_of_its_system() {
    let world = World::new();
    let quarantine = world.quarantine();
    let intake = world.intake(Arc::clone(&quarantine) as _);
    let at = Place::new(Stream::Records, 3);
    let poison = [displacing(7, Some("shop"))];
    assert_eq!(intake.put_away(&at, &poison).await.unwrap(), 1);
    quarantine.catch_up().await.unwrap();
    let hides = |system: &str| {
        let system = system.parse().unwrap();
        quarantine.fold().count_of(&system, true)
    };
    assert_eq!((hides("shop"), hides("website")), (1, 0));
    assert_eq!(
        (quarantine.count().await, quarantine.put_away_count()),
        (Some(1), 1)
    );

    let list = quarantine.list(None, None, 9).await.unwrap();
    quarantine
        .drop_one(list.inputs[0].position)
        .await
        .unwrap()
        .unwrap();
    quarantine.catch_up().await.unwrap();
    assert_eq!((hides("shop"), quarantine.count().await), (0, Some(0)));
    assert_eq!(quarantine.passed(), 0, "whoever begins anew has to find it");
    for _ in 0..2 {
        quarantine.say_again().await.unwrap();
        assert_eq!(quarantine.passed(), 2, "that is said again, once");
    }
    let before = std::collections::BTreeMap::from([(0, quarantine.passed())]);
    world.log.expire(&Stream::Quarantine, &before).await.unwrap();
    let late = world.quarantine();
    let intake = world.intake(Arc::clone(&late) as _);
    assert_eq!(intake.put_away(&at, &poison).await.unwrap(), 0, "it was dropped");
}

#[tokio::test]
async fn what_can_be_no_entry_of_the_quarantine_is_passed_by() {
    let world = World::new();
    let quarantine = world.quarantine();
    let entry = lethe_journal::Entry {
        id: crate::shell::entry_id(),
        key: Vec::new(),
        value: Some(b"{}".to_vec()),
    };
    publish::append(&*world.log, &place(), vec![entry], "quarantine")
        .await
        .unwrap();
    world.put(&quarantine, "shop", 1, true).await;
    quarantine.catch_up().await.unwrap();
    assert_eq!(positions(&quarantine, None, 9).await, [1]);
    assert!(quarantine.drop_one(0).await.unwrap().is_none());
}

#[tokio::test]
async fn an_input_that_no_key_of_this_vault_opens_counts_and_ends_nobody() {
    let world = World::new();
    let quarantine = world.quarantine();
    let (key, _) = world.vault.create().unwrap();
    let (_, other) = world.vault.create().unwrap();
    let sealed = key.seal("quarantine", b"no number").unwrap();
    let quarantined = Quarantined {
        system: Some("shop".parse().unwrap()),
        position: "accounts".into(),
        code: "vault-not-normalised".into(),
        expected: "a telephone number".into(),
        of: Some(sealed.clone()),
        again: None,
        input: sealed,
        key: other,
        stood: None,
    };
    quarantine.say(None, "/lethe/intake", quarantined).await.unwrap();
    quarantine.catch_up().await.unwrap();
    assert_eq!(quarantine.count().await, Some(1));
}

#[tokio::test]
async fn who_reads_late_counts_nothing_that_was_decided_and_dropped_meanwhile() {
    let world = World::new();
    let (host, late) = (world.quarantine(), world.quarantine());
    world.put(&host, "shop", 3, true).await;
    late.catch_up().await.unwrap();
    assert_eq!(late.count().await, Some(3));
    for position in 0..3 {
        host.drop_one(position).await.unwrap().unwrap();
    }
    world.put(&host, "shop", 1, true).await;
    host.catch_up().await.unwrap();
    let before = BTreeMap::from([(0, host.passed())]);
    world.log.expire(&Stream::Quarantine, &before).await.unwrap();
    late.catch_up().await.unwrap();
    assert_eq!(positions(&late, None, 9).await, [6]);
    assert_eq!((late.count().await, host.count().await), (Some(1), Some(1)));
}
