//! What could not be read: bounded, kept no longer than its record, and taken in again.

use std::sync::Arc;

use lethe_intake::{Again, IDENTIFIERS_MAX, INPUT_BYTES_MAX, UNREADABLE_MAX};
use lethe_journal::{KeyWrapped, Place, Quarantined, RecordObserved, Sealed, Stream};
use lethe_kit::{FeedPage, Observation, Rejected};
use lethe_log::{EventLog as _, MemoryLog};
use lethe_terms::{Identifier, IdentifierKind};
use lethe_vault::{KeyVault as _, MemoryVault, SeededEntropy};

use crate::world::{
    NEVER, World, inputs, newest, observation, page, plain_input, plain_inputs, records, take, world,
    world_on,
};

/// A number that is too short where it is read as an American one.
fn with_phone(key: &str) -> Observation {
    let mut seen = observation(key, "ada@example.org");
    seen.identifiers
        .push(Identifier::new(IdentifierKind::Phone, "12345"));
    seen
}

#[tokio::test]
async fn an_input_is_taken_in_again_once_its_normaliser_was_mended_and_only_while_its_record_is_as_it_was() {
    let vault = Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(7))).unwrap());
    let wrong = world_on(MemoryLog::new(), Arc::clone(&vault), "US", (NEVER, false)).await;
    let system = "shop".parse().unwrap();
    let published = take(&wrong, &page(["1", "2", "3"].map(with_phone).into(), "c1"))
        .await
        .unwrap();
    assert_eq!((published.appended, published.quarantined), (3, 3));
    let kept = inputs(&wrong).await;
    let again = wrong.intake.take_again(&system, &kept[0]).await.unwrap();
    assert!(
        matches!(&again, Again::Stays(refused) if refused.code == kept[0].code),
        "nothing was mended: {again:?}"
    );
    take(&wrong, &page(vec![observation("2", "bob@example.org")], "c2"))
        .await
        .unwrap();
    let third = records(&wrong).await.len();
    let gone = Observation {
        gone: true,
        ..with_phone("3")
    };
    take(&wrong, &page(vec![gone], "c3")).await.unwrap();
    assert_eq!(records(&wrong).await.len(), third - 1);

    let mended = world_on(wrong.log.clone(), vault, "DE", (NEVER, false)).await;
    let before = records(&mended).await;
    let outcomes = [
        mended.intake.take_again(&system, &kept[0]).await.unwrap(),
        mended.intake.take_again(&system, &kept[1]).await.unwrap(),
        mended.intake.take_again(&system, &kept[2]).await.unwrap(),
        mended.intake.take_again(&system, &kept[0]).await.unwrap(),
    ];
    assert_eq!(
        [&outcomes[0], &outcomes[3]],
        [&Again::Taken(Vec::new()); 2],
        "once, and again"
    );
    for (outcome, code) in [
        (&outcomes[1], "intake-changed-since"),
        (&outcomes[2], "intake-key-gone"),
    ] {
        assert!(
            matches!(outcome, Again::Stays(refused) if refused.code == code),
            "{outcome:?}"
        );
    }
    let after = records(&mended).await;
    assert_eq!(after.len(), before.len(), "nothing came back");
    assert_eq!(
        after.iter().filter(|record| !before.contains(record)).count(),
        1,
        "one record has its telephone number now, and no other changed"
    );
    assert_eq!(
        take(&mended, &page(vec![with_phone("1")], "c4"))
            .await
            .unwrap()
            .known,
        1,
        "it is as its source tells it"
    );
}

#[tokio::test]
async fn what_was_not_kept_whole_says_what_to_do_instead() {
    let world = world(NEVER, false).await;
    let rejected = |bytes| Rejected {
        position: "access.log byte 7".into(),
        code: "weblog-line",
        expected: "a line".into(),
        input: vec![b'x'; bytes],
        of: Vec::new(),
    };
    let unread = FeedPage {
        rejected: vec![rejected(9), rejected(lethe_intake::INPUT_BYTES_MAX + 1)],
        ..page(Vec::new(), "c1")
    };
    take(&world, &unread).await.unwrap();
    let mut codes = Vec::new();
    for input in inputs(&world).await {
        match world
            .intake
            .take_again(&"shop".parse().unwrap(), &input)
            .await
            .unwrap()
        {
            Again::Stays(refused) => codes.push(refused.code),
            Again::Taken(_) => panic!("there is nothing to be taken in"),
        }
    }
    assert_eq!(codes, ["intake-source-only", "intake-cut-off"]);
}

/// Bytes that stand in quarantine.
async fn bytes(world: &World) -> usize {
    let at = Place::new(Stream::Quarantine, 0);
    let read = world.log.read(&at, 0, 4_096).await.unwrap();
    let values = read
        .entries
        .iter()
        .filter_map(|stored| stored.entry.value.as_ref());
    values.map(Vec::len).sum()
}

fn with_identifiers(key: &str, identifiers: Vec<Identifier>) -> Observation {
    Observation {
        identifiers,
        ..observation(key, "ada@example.org")
    }
}

#[tokio::test]
async fn one_record_with_any_number_of_identifiers_costs_a_bounded_number_of_small_inputs() {
    let addresses = |count: usize, kind: IdentifierKind| {
        let address = |number| Identifier::new(kind, format!("10.0.{}.{}", number / 250, number % 250));
        (0..count).map(address).collect::<Vec<_>>()
    };
    let many = [
        addresses(1_700, IdentifierKind::Ip),
        addresses(1_700, IdentifierKind::Email),
    ]
    .concat();
    let world = world(NEVER, false).await;
    let published = take(&world, &page(vec![with_identifiers("1", many.clone())], "c1"))
        .await
        .unwrap();
    assert_eq!(
        (published.appended, published.quarantined),
        (1, UNREADABLE_MAX + 1)
    );
    let size = bytes(&world).await;
    assert!(size < 256 << 10, "{size} bytes for {} identifiers", many.len());
    let put_away = plain_inputs(&world).await;
    let (_, _, beyond) = put_away
        .iter()
        .find(|(_, code, _)| code == "intake-too-many-identifiers")
        .unwrap();
    let beyond: Vec<&[u8]> = beyond
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .collect();
    assert!(beyond.len() > 3_000 - IDENTIFIERS_MAX && beyond.contains(&many[3_399].value.as_bytes()));
    let said = inputs(&world).await;
    let count = format!(": {} are beyond that", beyond.len());
    assert!(
        said.iter().any(|input| input.expected.ends_with(&count)),
        "{count}"
    );

    let mut other = many;
    other[3_399].value = "another".into();
    let changed = take(&world, &page(vec![with_identifiers("1", other)], "c2"))
        .await
        .unwrap();
    assert_eq!(changed.appended, 1, "a change beyond the limits is told, too");
}

#[tokio::test]
async fn whoever_is_sought_is_found_in_a_record_of_any_number_of_identifiers_and_no_feed_loses_them() {
    let world = world(NEVER, false).await;
    let system = "shop".parse().unwrap();
    let address = |number: usize| Identifier::new(IdentifierKind::Email, format!("p{number}@example.org"));
    let crowd = with_identifiers("1", (0..2_000).map(address).collect());
    take(&world, &page(vec![crowd.clone()], "c1")).await.unwrap();
    let holders = async |number: usize| {
        let token = world.intake.tokens().identifier(&address(number));
        let rows = newest::<RecordObserved>(&world.log, &Stream::Records).await;
        let holds = |row: &RecordObserved| row.tokens.iter().any(|held| held.token == token);
        rows.into_values()
            .filter(holds)
            .map(|row| row.record)
            .collect::<Vec<_>>()
    };
    assert!(holders(1_700).await.is_empty());
    let locate = async |number: usize| {
        let found = vec![crowd.clone()];
        let sought = [address(number)];
        let located = world
            .intake
            .publish_located(&system, &sought, found)
            .await
            .unwrap();
        located.records.into_iter().filter(|(_, known)| !known).count()
    };
    assert_eq!(
        (locate(1_700).await, locate(1_800).await),
        (1, 1),
        "new to lineage"
    );
    assert_eq!((locate(1_700).await, locate(7).await), (0, 0), "nothing new");
    take(&world, &page(vec![crowd.clone()], "c2")).await.unwrap();
    let (one, other) = (holders(1_700).await, holders(1_800).await);
    assert_eq!((one.len(), other.len()), (1, 1));
    world.intake.gone_records(&system, &one).await.unwrap();
    assert!(holders(1_700).await.is_empty() && holders(1_800).await == other);

    let unnamed = Observation {
        handle: "x".repeat(65 << 10),
        ..crowd.clone()
    };
    let refused = world.intake.publish_located(&system, &[], vec![unnamed]).await;
    assert_eq!(refused.unwrap_err().code(), "intake-oversize");
}

#[tokio::test]
async fn one_address_said_often_is_one_identifier() {
    let often = vec![Identifier::new(IdentifierKind::Email, "ada@example.org"); 2 * IDENTIFIERS_MAX];
    let world = world(NEVER, false).await;
    let published = take(&world, &page(vec![with_identifiers("1", often)], "c1"))
        .await
        .unwrap();
    assert_eq!((published.appended, published.quarantined), (1, 0));
}

#[tokio::test]
async fn what_a_page_becomes_is_appended_before_it_is_much() {
    let world = world(NEVER, false).await;
    let rejected = (0..14).map(|number| Rejected {
        position: format!("access.log byte {number}"),
        code: "weblog-line",
        expected: "a line".into(),
        input: vec![b'x'; INPUT_BYTES_MAX],
        of: Vec::new(),
    });
    let unread = FeedPage {
        rejected: rejected.collect(),
        ..page(vec![observation("1", "ada@example.org")], "c1")
    };
    let published = take(&world, &unread).await.unwrap();
    assert_eq!((published.appended, published.quarantined), (1, 14));
    let head = world.log.head(&Place::new(Stream::Quarantine, 0)).await.unwrap();
    assert_eq!(head, 14);
    let order = world.port.order.lock().unwrap().clone();
    assert_eq!(order, ["keys", "quarantine", "records", "quarantine", "cursors"]);
}

/// Everything that opens with a key, one seal in another.
fn opened(input: &Quarantined, keys: &[KeyWrapped], vault: &MemoryVault) -> Vec<u8> {
    let contexts = |record: Option<&str>| match record {
        None => "quarantine/observation".to_owned(),
        Some(record) => format!("quarantine/observation/{record}"),
    };
    let outer = vault.unwrap(&input.key).unwrap();
    let kept = outer
        .open(&contexts(None), input.again.as_ref().unwrap())
        .unwrap();
    let mut plain = kept.to_vec();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    let Some(observation) = kept.get("observation") else {
        return plain;
    };
    let sealed: Sealed = serde_json::from_value(observation.clone()).unwrap();
    let record = kept["record"].as_str().unwrap();
    for wrapped in keys {
        let key = vault.unwrap(wrapped).unwrap();
        if let Ok(inner) = key.open(&contexts(Some(record)), &sealed) {
            plain.extend_from_slice(&inner);
        }
    }
    plain
}

#[tokio::test]
async fn what_is_kept_of_an_observation_ends_with_its_record() {
    let world = world_on(
        MemoryLog::new(),
        Arc::new(MemoryVault::new(Arc::new(SeededEntropy::new(7))).unwrap()),
        "US",
        (NEVER, false),
    )
    .await;
    let system = "shop".parse().unwrap();
    take(&world, &page(vec![with_phone("1")], "c1")).await.unwrap();
    let kept = inputs(&world).await.remove(0);
    let names_ada = |keys: &[KeyWrapped]| {
        let plain = opened(&kept, keys, &world.vault);
        plain.windows(15).any(|window| window == b"ada@example.org")
    };
    let keys = async || {
        let keys = newest::<KeyWrapped>(&world.log, &Stream::Keys).await;
        keys.into_values().collect::<Vec<_>>()
    };
    assert!(
        names_ada(&keys().await),
        "the record is there, and its key opens it"
    );
    let ended: Vec<_> = records(&world)
        .await
        .into_iter()
        .map(|(record, _)| record)
        .collect();
    world.intake.gone_records(&system, &ended).await.unwrap();
    assert!(
        !names_ada(&keys().await),
        "no key that is left opens what the erased record held"
    );

    let stays = |again: Again| matches!(again, Again::Stays(refused) if refused.code == "intake-key-gone");
    assert!(stays(world.intake.take_again(&system, &kept).await.unwrap()));
    take(&world, &page(vec![with_phone("1")], "c2")).await.unwrap();
    assert!(
        stays(world.intake.take_again(&system, &kept).await.unwrap()),
        "the record came back under another key"
    );
}

/// A line that fits no format, of the record that was read from it.
fn line_of(seen: &Observation, byte: u64) -> Rejected {
    Rejected {
        position: format!("access.log byte {byte}"),
        code: "weblog-line",
        expected: "a line".into(),
        input: b"ada@example.org was here".to_vec(),
        of: vec![seen.name()],
    }
}

#[tokio::test]
async fn an_input_opens_no_more_once_its_record_is_gone_and_ends_before_it() {
    let world = world(NEVER, false).await;
    let system = "shop".parse().unwrap();
    let (ada, bob) = (
        observation("1", "ada@example.org"),
        observation("2", "bob@example.org"),
    );
    let read = FeedPage {
        rejected: vec![line_of(&ada, 7), line_of(&bob, 70)],
        ..page(vec![ada.clone(), bob], "c1")
    };
    take(&world, &read).await.unwrap();
    let kept = inputs(&world).await;
    for input in &kept {
        assert!(plain_input(&world, input).await.is_some());
    }
    let record = world.intake.tokens().record(&system, &ada.dataset, &ada.key);
    world.intake.gone_records(&system, &[record]).await.unwrap();
    assert_eq!(*world.ended.0.lock().unwrap(), [record]);
    assert!(plain_input(&world, &kept[0]).await.is_none());
    assert!(plain_input(&world, &kept[1]).await.is_some());
    // The record comes back: what was kept of the old one stays shut.
    take(&world, &page(vec![ada.clone()], "c2")).await.unwrap();
    assert!(plain_input(&world, &kept[0]).await.is_none());
    // The source says by itself that it is gone.
    let gone = Observation { gone: true, ..ada };
    take(&world, &page(vec![gone], "c3")).await.unwrap();
    assert_eq!(*world.ended.0.lock().unwrap(), [record, record]);
}

#[tokio::test]
async fn an_input_is_the_same_wherever_its_source_tells_it_again() {
    let world = world(NEVER, false).await;
    let ada = observation("1", "ada@example.org");
    let again = |byte| FeedPage {
        rejected: vec![line_of(&ada, byte)],
        ..page(vec![ada.clone()], "c1")
    };
    for byte in [7, 70] {
        take(&world, &again(byte)).await.unwrap();
    }
    let other = FeedPage {
        rejected: vec![Rejected {
            input: b"another".to_vec(),
            ..line_of(&ada, 7)
        }],
        ..page(vec![ada.clone()], "c1")
    };
    take(&world, &other).await.unwrap();
    let read = world.log.read(&Place::new(Stream::Quarantine, 0), 0, 9).await;
    let ids: Vec<_> = read
        .unwrap()
        .entries
        .iter()
        .map(|stored| stored.entry.id)
        .collect();
    assert!(ids[0] == ids[1] && ids[0] != ids[2]);
}
