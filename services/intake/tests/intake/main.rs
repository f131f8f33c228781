//! Intake on a log in memory: pages, repeats, and what comes back.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod quarantine;
mod world;

use lethe_intake::Error;
use lethe_journal::{Entry, KeyWrapped, Place, RecordObserved, Stream};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::EventLog as _;
use lethe_terms::{CaseId, EntryId, Identifier, IdentifierKind, Timestamp};

use world::{NEVER, newest, observation, page, plain_inputs, records, take, token, world};

#[tokio::test]
async fn known_is_free_changed_is_appended_and_gone_leaves_nothing() {
    let world = world(NEVER, false).await;
    let first = page(
        vec![
            observation("1", "ada@example.org"),
            observation("2", "bob@example.org"),
        ],
        "c1",
    );
    assert_eq!(take(&world, &first).await.unwrap().appended, 2);
    let again = take(&world, &first).await.unwrap();
    assert_eq!((again.appended, again.known), (0, 2));
    let changed = take(&world, &page(vec![observation("1", "ada@new.example")], "c2"))
        .await
        .unwrap();
    assert_eq!(changed.appended, 1);
    let gone = Observation {
        gone: true,
        ..observation("1", "ada@new.example")
    };
    assert_eq!(take(&world, &page(vec![gone], "c3")).await.unwrap().gone, 1);
    assert_eq!(records(&world).await.len(), 1);
    assert_eq!(newest::<KeyWrapped>(&world.log, &Stream::Keys).await.len(), 1);
}

#[tokio::test]
async fn keys_come_before_records_and_the_cursor_last() {
    let world = world(NEVER, false).await;
    take(&world, &page(vec![observation("1", "ada@example.org")], "c1"))
        .await
        .unwrap();
    assert_eq!(*world.port.order.lock().unwrap(), ["keys", "records", "cursors"]);
}

#[tokio::test]
async fn a_page_that_failed_anywhere_comes_out_the_same_when_it_is_taken_again() {
    let unreadable = |email: &str| {
        let mut seen = observation("1", email);
        let phone = format!("no number of {email}");
        seen.identifiers
            .push(Identifier::new(IdentifierKind::Phone, phone));
        seen
    };
    let pages = [
        page(
            vec![unreadable("ada@example.org"), observation("2", "bob@example.org")],
            "c1",
        ),
        page(
            vec![
                unreadable("ada@new.example"),
                Observation {
                    gone: true,
                    ..observation("2", "b@c.example")
                },
            ],
            "c2",
        ),
    ];
    let faultless = world(NEVER, false).await;
    for page in &pages {
        take(&faultless, page).await.unwrap();
    }
    let expected = records(&faultless).await;
    let expected_inputs = plain_inputs(&faultless).await;
    assert_eq!(expected_inputs.len(), 2);
    for fails_at in 0..16 {
        for took_effect in [false, true] {
            let world = world(fails_at, took_effect).await;
            for page in &pages {
                while take(&world, page).await.is_err() {}
            }
            assert_eq!(
                records(&world).await,
                expected,
                "append {fails_at}, took effect: {took_effect}"
            );
            assert_eq!(
                plain_inputs(&world).await,
                expected_inputs,
                "no input is lost; append {fails_at}, took effect: {took_effect}"
            );
            let keys = newest::<KeyWrapped>(&world.log, &Stream::Keys).await;
            for (record, row) in newest::<RecordObserved>(&world.log, &Stream::Records).await {
                world
                    .intake
                    .open_record(token(&record), &keys[&record], &row.secret)
                    .unwrap();
            }
        }
    }
}

#[tokio::test]
async fn nothing_personal_stands_in_the_clear_behind_intake() {
    let world = world(NEVER, false).await;
    let canary = "canary-5e1f";
    let seen = Observation {
        handle: format!("handle-{canary}"),
        identifiers: vec![
            Identifier::new(IdentifierKind::Email, format!("{canary}@example.org")),
            Identifier::new(IdentifierKind::Email, format!("no address {canary}")),
            Identifier::new(IdentifierKind::UserId, canary),
        ],
        ..observation(canary, "x@y.example")
    };
    let rejected = Rejected {
        position: "access.log byte 7".into(),
        code: "weblog-line",
        expected: "a line".into(),
        input: canary.as_bytes().to_vec(),
        of: Vec::new(),
    };
    let page = FeedPage {
        rejected: vec![rejected],
        ..page(vec![seen], "c1")
    };
    let published = take(&world, &page).await.unwrap();
    assert_eq!((published.appended, published.quarantined), (1, 2));
    let shown = format!("{page:?} {published:?}");
    assert!(!shown.contains(canary), "{shown}");
    for stream in Stream::FIXED {
        for at in Place::all(&stream) {
            for stored in world.log.read(&at, 0, 4_096).await.unwrap().entries {
                let bytes = [stored.entry.key, stored.entry.value.unwrap_or_default()].concat();
                assert!(
                    !bytes
                        .windows(canary.len())
                        .any(|window| window == canary.as_bytes()),
                    "{at}"
                );
            }
        }
    }
}

#[tokio::test]
async fn what_comes_back_of_an_erased_person_is_recorded_and_told() {
    let world = world(NEVER, false).await;
    let ada = world
        .intake
        .normalised(&Identifier::new(IdentifierKind::Email, "Ada@Example.org"))
        .unwrap();
    let case = CaseId::from_bytes([3; 8]);
    world
        .intake
        .mark_erased(case, &[ada], Timestamp::MAX)
        .await
        .unwrap();
    let published = take(&world, &page(vec![observation("1", "ada@example.org")], "c1"))
        .await
        .unwrap();
    assert_eq!(published.appended, 1);
    assert_eq!(
        published
            .findings
            .iter()
            .map(|finding| finding.of)
            .collect::<Vec<_>>(),
        [case]
    );
    let others = take(&world, &page(vec![observation("2", "bob@example.org")], "c2"))
        .await
        .unwrap();
    assert!(others.findings.is_empty(), "a shared address alone is nobody's");
    let found = vec![observation("3", "ada@example.org")];
    let located = world
        .intake
        .publish_located(&"shop".parse().unwrap(), &[], found)
        .await
        .unwrap();
    let of: Vec<_> = located.findings.iter().map(|finding| finding.of).collect();
    assert_eq!(of, [case], "a search finds it as a feed does");
}

#[tokio::test]
async fn a_finding_names_the_erased_person_and_nobody_else_of_the_record() {
    let world = world(NEVER, false).await;
    let (ada, bob) = (CaseId::from_bytes([3; 8]), CaseId::from_bytes([4; 8]));
    let email = |address: &str| Identifier::new(IdentifierKind::Email, address);
    for (case, address) in [(ada, "ada@example.org"), (bob, "bob@example.org")] {
        let erased = [email(address)];
        world
            .intake
            .mark_erased(case, &erased, Timestamp::MAX)
            .await
            .unwrap();
    }
    let mut line = observation("1", "ada@example.org");
    line.identifiers
        .extend([email("chief@example.org"), email("bob@example.org")]);
    let published = take(&world, &page(vec![line], "c1")).await.unwrap();
    let found: Vec<_> = published
        .findings
        .into_iter()
        .map(|finding| (finding.of, finding.identifiers))
        .collect();
    assert_eq!(
        found,
        [
            (ada, vec![email("ada@example.org")]),
            (bob, vec![email("bob@example.org")])
        ]
    );
}

#[tokio::test]
async fn a_page_that_was_read_before_a_record_ended_does_not_bring_it_back() {
    let world = world(NEVER, false).await;
    let system = "shop".parse().unwrap();
    let first = page(vec![observation("1", "ada@example.org")], "c1");
    take(&world, &first).await.unwrap();
    let mark = world.intake.mark(&system);
    let ended: Vec<_> = records(&world)
        .await
        .into_iter()
        .map(|(record, _)| record)
        .collect();
    world.intake.gone_records(&system, &ended).await.unwrap();
    assert!(matches!(
        world.intake.publish(&system, mark, &first).await,
        Err(Error::Stale)
    ));
    assert!(records(&world).await.is_empty());
}

/// Where the feed of accounts stands.
fn cursor(world: &world::World) -> Option<String> {
    let (shop, accounts) = ("shop".parse().unwrap(), "accounts".parse().unwrap());
    world.intake.cursor(&shop, &accounts).unwrap()
}

#[tokio::test]
async fn the_cursor_survives_a_restart() {
    let world = world(NEVER, false).await;
    take(&world, &page(vec![], "c9")).await.unwrap();
    world.intake.recover().await.unwrap();
    assert_eq!(cursor(&world).as_deref(), Some("c9"));
}

#[tokio::test]
async fn what_can_be_no_entry_of_a_table_is_passed_by() {
    let world = world(NEVER, false).await;
    let garbage = || Entry {
        id: EntryId::from_bytes([7; 16]),
        key: vec![1; 16],
        value: Some(b"no event".to_vec()),
    };
    for stream in [Stream::Cursors, Stream::Erased] {
        let at = Place::new(stream, 0);
        world.log.append(&at, None, vec![garbage()]).await.unwrap();
    }
    take(&world, &page(vec![], "c9")).await.unwrap();
    world.intake.recover().await.unwrap();
    assert_eq!(cursor(&world).as_deref(), Some("c9"));
    assert_eq!(world.intake.followed(), 1);
}
