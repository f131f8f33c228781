//! Columns that hold an e-mail address among other things.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Connector, Selected, Selector};
use lethe_terms::{IdentifierKind, Observed, Outcome, Verb};

const UNIT: &str = "[[units]]\nname = \"people\"\ntable = \"people\"\ncategories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"
    identifiers = {email = \"email\"}\nerase = \"row\"
    [[units.children]]\ntable = \"contacts\"\nlink = {person = \"id\"}\nidentifiers = {mail = \"email\"}\nerase = \"row\"";

/// Each in a row of its own, Ada's first.
const ADAS: [&str; 13] = [
    "ada@example.org",
    "Ada L <Ada@Example.org>",
    "mailto:ada@example.org",
    "b@example.org,ada@example.org",
    "\"Lovelace, Ada\" <ada@example.org>; b@example.org",
    "\u{a0}ADA@example.org\u{a0}",
    "'ada@example.org'",
    "see ada@example.org.",
    "c@example.org|ada@example.org",
    "\u{201e}ada@example.org\u{201c}",
    "\u{feff}ada@example.org",
    "ada@exam\u{200b}ple.org",
    "mailto:ADA@example.org?cc=b@example.org",
];
const OTHERS: [&str; 5] = [
    "Bada <bada@example.org>",
    "Ada <ada@example.organic>",
    "ada@example.org@example.com, c@example.org",
    "x.ada@example.org;ada@example.org.example",
    "ask ada at example.org",
];

async fn people(target: &Target) {
    target
        .run(
            "create table people (id integer primary key, email text);
            create table contacts (id integer primary key, person integer not null, mail varchar(200));
            insert into people values (100, null), (101, 'd@example.org');
            insert into contacts values (1, 100, 'Ada <ada@example.org>'), (2, 101, 'Dora <d@example.org>')",
        )
        .await;
    for (n, value) in ADAS.iter().chain(&OTHERS).enumerate() {
        let value = value.replace('\'', "''");
        target
            .run(&format!("insert into people values ({n}, '{value}')"))
            .await;
    }
}

fn person(address: &str) -> Selector {
    by_identifiers(&[email(address)])
}

async fn keys(connector: &lethe_sql::SqlConnector, address: &str) -> Vec<String> {
    let mut found: Vec<String> = located(connector, &[email(address)])
        .await
        .into_iter()
        .map(|(_, handle)| handle)
        .collect();
    found.sort();
    found
}

on_both!(
    a_person_is_found_seen_and_erased_in_whatever_surrounds_the_address,
    |target| {
        people(&target).await;
        let connector = connect(&target, UNIT).await;
        let mut expected: Vec<String> = (0..ADAS.len())
            .chain([100])
            .map(|n| format!("[\"{n}\"]"))
            .collect();
        expected.sort();
        assert_eq!(keys(&connector, "ada@example.org").await, expected);
        assert_eq!(
            keys(&connector, "b@example.org").await,
            ["[\"12\"]", "[\"3\"]", "[\"4\"]"]
        );
        let dataset = "people".parse().unwrap();
        let seen = connector
            .observe(&dataset, &person("ada@example.org"))
            .await
            .unwrap();
        assert_eq!(
            (seen.observed, seen.records),
            (Observed::Present, expected.len() as u64)
        );

        let mut selector = person("ada@example.org");
        selector.records = expected
            .iter()
            .map(|handle| Selected {
                handle: handle.clone(),
            })
            .collect();
        let receipt = done(
            connector
                .perform(&ask(1, (1, 0), "people", Verb::Erase, &selector))
                .await
                .unwrap(),
        );
        assert_eq!(
            (receipt.outcome, receipt.records),
            (Outcome::Erased, expected.len() as u64)
        );
        let seen = connector.observe(&dataset, &selector).await.unwrap();
        assert_eq!((seen.observed, seen.records), (Observed::Absent, 0));
        assert_eq!(
            target
                .dump("people", &["email"], "email <> 'd@example.org'")
                .await
                .len(),
            OTHERS.len()
        );
        connector.close().await;
    }
);

on_both!(a_row_that_its_root_left_behind_is_found_and_erased, |target| {
    people(&target).await;
    target
        .run("delete from contacts; insert into contacts values (3, 999, 'E <e@example.org>')")
        .await;
    let connector = connect(&target, UNIT).await;
    let dataset = "people".parse().unwrap();
    assert_eq!(keys(&connector, "e@example.org").await, ["[\"999\"]"]);
    let mut selector = person("e@example.org");
    let seen = connector.observe(&dataset, &selector).await.unwrap();
    assert_eq!((seen.observed, seen.records), (Observed::Present, 1));
    selector.records = by_handle("[\"999\"]").records;
    let receipt = done(
        connector
            .perform(&ask(1, (1, 0), "people", Verb::Erase, &selector))
            .await
            .unwrap(),
    );
    assert_eq!(
        (receipt.outcome, receipt.details["contacts"]),
        (Outcome::Erased, 1)
    );
    let seen = connector.observe(&dataset, &selector).await.unwrap();
    assert_eq!(seen.observed, Observed::Absent);
    assert_eq!(target.count("contacts").await, 0);
    connector.close().await;
});

on_both!(
    the_feed_names_each_address_and_keeps_what_it_cannot_read,
    |target| {
        people(&target).await;
        let connector = connect(&target, UNIT).await;
        let (mut cursor, mut named) = (None, std::collections::BTreeMap::new());
        loop {
            let page = connector
                .feed(&"people".parse().unwrap(), cursor.as_deref(), 1_000)
                .await
                .unwrap();
            for observation in page.observations {
                let values: Vec<String> = observation
                    .identifiers
                    .into_iter()
                    .map(|i| {
                        assert_eq!(i.kind, IdentifierKind::Email);
                        i.value
                    })
                    .collect();
                named.insert(observation.key, values);
            }
            cursor = Some(page.cursor);
            if !page.more {
                break;
            }
        }
        assert_eq!(named["[\"1\"]"], ["Ada@Example.org"]);
        assert_eq!(named["[\"3\"]"], ["ada@example.org", "b@example.org"]);
        assert_eq!(
            named["[\"12\"]"],
            ["ADA@example.org", "b@example.org"],
            "the rest of the link"
        );
        assert_eq!(named["[\"15\"]"], [OTHERS[2], "c@example.org"], "not an address");
        assert_eq!(
            named["[\"17\"]"],
            [OTHERS[4]],
            "for intake to put into quarantine"
        );
        connector.close().await;
    }
);

on_both!(
    an_address_with_letters_beyond_ascii_is_one_in_every_spelling,
    |target| {
        people(&target).await;
        let spellings = [
            "ida@m\u{fc}nchen.example",
            "Ida <IDA@mu\u{308}nchen.example>",
            "ida@xn--mnchen-3ya.example",
        ];
        for (n, value) in (200..).zip(spellings) {
            target
                .run(&format!("insert into people values ({n}, '{value}')"))
                .await;
        }
        let connector = connect(&target, UNIT).await;
        for address in ["ida@xn--mnchen-3ya.example", "ida@m\u{fc}nchen.example"] {
            assert_eq!(
                keys(&connector, address).await.len(),
                spellings.len(),
                "{address}"
            );
        }
        let seen = connector
            .observe(&"people".parse().unwrap(), &person("ida@xn--mnchen-3ya.example"))
            .await
            .unwrap();
        assert_eq!((seen.observed, seen.records), (Observed::Present, 3));
        connector.close().await;
    }
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_text_goes_out_so_that_it_is_kept_for_a_person() {
    let target = Target::sqlite().await;
    people(&target).await;
    target
        .run(
            "delete from people; insert into people values (1, cast(x'6dfc6c6c6572406578616d706c652e6f7267' as text)),
                (2, 'Hal \\u003chal@example.org\\u003e')",
        )
        .await;
    let connector = connect(&target, UNIT).await;
    let page = connector
        .feed(&"people".parse().unwrap(), None, 10)
        .await
        .unwrap();
    let named: Vec<&str> = page
        .observations
        .iter()
        .flat_map(|o| o.identifiers.iter().map(|i| i.value.as_str()))
        .collect();
    assert!(
        named.contains(&"m\\xfcller@example.org") && named.contains(&"hal@example.org"),
        "{named:?}"
    );
    assert!(!named.contains(&"xfcller@example.org"), "{named:?}");
    assert_eq!(keys(&connector, "hal@example.org").await, ["[\"2\"]"]);
    connector.close().await;
    target.end().await;
}
