//! The reference mapping on the shop's schema: found, restricted, lifted, erased, observed, followed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Connector, Page, Selector};
use lethe_terms::{IdentifierKind, Observed, Outcome, Verb};

const OTHERS: [(&str, &[&str], &str); 6] = [
    (
        "accounts",
        &[
            "id",
            "user_id",
            "email",
            "full_name",
            "phone",
            "updated_at",
            "processing_restricted_at",
        ],
        "id <> 1",
    ),
    (
        "registrations",
        &["id", "account_id", "ip", "updated_at"],
        "id <> 11",
    ),
    (
        "addresses",
        &["id", "account_id", "street", "updated_at"],
        "id not in (21, 22)",
    ),
    (
        "orders",
        &[
            "id",
            "account_id",
            "buyer_name",
            "buyer_email",
            "line_total_cents",
            "updated_at",
        ],
        "id <> 31",
    ),
    (
        "payments",
        &[
            "id",
            "order_id",
            "payer_name",
            "iban",
            "amount_cents",
            "updated_at",
        ],
        "id <> 41",
    ),
    (
        "tickets",
        &[
            "id",
            "account_id",
            "email",
            "body",
            "updated_at",
            "processing_restricted_at",
        ],
        "id not in (51, 52)",
    ),
];

async fn others(target: &Target) -> Vec<String> {
    let mut all = Vec::new();
    for (table, columns, condition) in OTHERS {
        all.extend(target.dump(table, columns, condition).await);
    }
    all
}

fn ada() -> Selector {
    by_identifiers(&[
        email("ada@example.org"),
        lethe_terms::Identifier::new(IdentifierKind::UserId, "usr_1"),
    ])
}

/// Everything of Ada's in a dataset.
async fn adas(connector: &lethe_sql::SqlConnector, dataset: &str) -> Selector {
    let mut selector = ada();
    let found = connector.locate(&selector, Page::default()).await.unwrap();
    assert!(found.next.is_none());
    for observation in found
        .observations
        .into_iter()
        .filter(|o| o.dataset.as_str() == dataset)
    {
        selector.records.push(lethe_kit::Selected {
            handle: observation.handle,
        });
    }
    selector
}

on_both!(a_person_is_found_whatever_the_spelling, |target| {
    shop(&target).await;
    // A guest's ticket, which no account leads to, as forms leave it.
    target
        .run("update tickets set email = '\t ADA@example.org \r\n' where id = 52")
        .await;
    let connector = connect(&target, &shop_mapping()).await;
    let mut found = located(&connector, &ada().identifiers).await;
    found.sort();
    let expected = [
        ("accounts", "[\"1\"]"),
        ("orders", "[\"31\"]"),
        ("tickets", "[\"51\"]"),
        ("tickets", "[\"52\"]"),
    ];
    assert_eq!(found, expected.map(|(d, h)| (d.to_owned(), h.to_owned())));
    for number in ["+493023125001", "+493023125002"] {
        let found = located(
            &connector,
            &[lethe_terms::Identifier::new(IdentifierKind::Phone, number)],
        )
        .await;
        assert_eq!(found.len(), 1, "{number}");
    }
    let shared = located(
        &connector,
        &[lethe_terms::Identifier::new(IdentifierKind::Ip, "203.0.113.7")],
    )
    .await;
    assert_eq!(shared, [], "an office's address finds nobody in particular");
    assert_eq!(
        located(&connector, &[]).await,
        [],
        "no identifier finds nobody, not everybody"
    );
    connector.close().await;
});

on_both!(an_observation_names_every_identifier_of_the_aggregate, |target| {
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let found = connector.locate(&ada(), Page::default()).await.unwrap();
    let account = found
        .observations
        .iter()
        .find(|o| o.dataset.as_str() == "accounts")
        .unwrap();
    let mut kinds: Vec<_> = account
        .identifiers
        .iter()
        .map(|i| (i.kind, i.value.as_str()))
        .collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [
            (IdentifierKind::Email, "Ada@Example.org"),
            (IdentifierKind::Phone, "+49 30 23125001"),
            (IdentifierKind::UserId, "usr_1"),
            (IdentifierKind::Ip, "203.0.113.7"),
        ]
    );
    assert_eq!(account.count, 4, "one account, one registration, two addresses");
    connector.close().await;
});

on_both!(an_erased_person_is_gone_and_nobody_else_is_touched, |target| {
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let before = others(&target).await;
    for (n, dataset) in ["tickets", "orders", "accounts"].into_iter().enumerate() {
        let selector = adas(&connector, dataset).await;
        let seen = connector
            .observe(&dataset.parse().unwrap(), &selector)
            .await
            .unwrap();
        assert_eq!(seen.observed, Observed::Present, "{dataset}");
        let ask = ask(n as u8, (7, n as u32), dataset, Verb::Erase, &selector);
        let receipt = done(connector.perform(&ask).await.unwrap());
        assert_eq!(
            receipt.outcome,
            if dataset == "orders" {
                Outcome::Anonymised
            } else {
                Outcome::Erased
            }
        );
        assert_eq!(receipt.records, selector.records.len() as u64);
        let seen = connector
            .observe(&dataset.parse().unwrap(), &selector)
            .await
            .unwrap();
        assert_eq!((seen.observed, seen.records), (Observed::Absent, 0), "{dataset}");
        assert_eq!(seen.gone.len(), selector.records.len());
        // The same id again: the same receipt, and nothing happens.
        assert_eq!(done(connector.perform(&ask).await.unwrap()), receipt);
    }
    assert_eq!(others(&target).await, before);
    assert_eq!(target.count("accounts where id = 1").await, 0);
    assert_eq!(
        target
            .count("tickets where lower(email) = 'ada@example.org'")
            .await,
        0
    );
    let order = target
        .dump(
            "orders",
            &["account_id", "buyer_name", "buyer_email", "line_total_cents"],
            "id = 31",
        )
        .await;
    assert_eq!(order, ["∅|erased|∅|5"]);
    assert_eq!(located(&connector, &ada().identifiers).await, []);
    connector.close().await;
});

on_both!(
    an_account_whose_ticket_is_left_is_refused_and_nothing_is_done,
    |target| {
        shop(&target).await;
        let connector = connect(&target, &shop_mapping()).await;
        let selector = adas(&connector, "accounts").await;
        let refused = connector
            .perform(&ask(1, (7, 0), "accounts", Verb::Erase, &selector))
            .await
            .unwrap();
        assert!(
            matches!(
                refused,
                lethe_kit::Performed::Refused {
                    code: "sql-would-dangle",
                    ..
                }
            ),
            "{refused:?}"
        );
        assert_eq!(target.count("registrations where account_id = 1").await, 1);
        connector.close().await;
    }
);

on_both!(
    a_restriction_marks_in_place_and_lifting_takes_the_mark_off,
    |target| {
        shop(&target).await;
        let connector = connect(&target, &shop_mapping()).await;
        for dataset in ["accounts", "orders", "tickets"] {
            let selector = adas(&connector, dataset).await;
            let name = dataset.parse().unwrap();
            let restrict = ask(dataset.len() as u8, (3, 0), dataset, Verb::Restrict, &selector);
            assert_eq!(
                done(connector.perform(&restrict).await.unwrap()).outcome,
                Outcome::Restricted
            );
            assert_eq!(
                connector.observe(&name, &selector).await.unwrap().observed,
                Observed::Restricted
            );
            let stale = ask(100, (2, 9), dataset, Verb::Lift, &selector);
            let refused = connector.perform(&stale).await.unwrap();
            assert!(matches!(
                refused,
                lethe_kit::Performed::Refused {
                    code: "sql-stale-generation",
                    ..
                }
            ));
            assert_eq!(
                connector.observe(&name, &selector).await.unwrap().observed,
                Observed::Restricted
            );
            let lift = ask(dataset.len() as u8 + 50, (4, 0), dataset, Verb::Lift, &selector);
            assert_eq!(
                done(connector.perform(&lift).await.unwrap()).outcome,
                Outcome::Lifted
            );
            assert_eq!(
                connector.observe(&name, &selector).await.unwrap().observed,
                Observed::Present
            );
        }
        connector.close().await;
    }
);

on_both!(a_mark_that_the_company_set_is_not_lifted, |target| {
    shop(&target).await;
    target
        .run("update accounts set processing_restricted_at = '2026-01-01' where id = 1")
        .await;
    let connector = connect(&target, &shop_mapping()).await;
    let selector = adas(&connector, "accounts").await;
    done(
        connector
            .perform(&ask(1, (3, 0), "accounts", Verb::Restrict, &selector))
            .await
            .unwrap(),
    );
    let receipt = done(
        connector
            .perform(&ask(2, (4, 0), "accounts", Verb::Lift, &selector))
            .await
            .unwrap(),
    );
    assert_eq!(receipt.records, 1, "found, as when it was restricted");
    assert_eq!(receipt.details["accounts"], 0, "and no mark was taken off");
    let seen = connector
        .observe(&"accounts".parse().unwrap(), &selector)
        .await
        .unwrap();
    assert_eq!(seen.observed, Observed::Restricted);
    connector.close().await;
});

on_both!(the_feed_scans_and_then_follows, |target| {
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let shard = "accounts".parse().unwrap();
    let (mut cursor, mut seen) = (None::<String>, Vec::new());
    loop {
        let page = connector.feed(&shard, cursor.as_deref(), 2).await.unwrap();
        assert!(page.cursor.len() <= 1024 && !page.cursor.contains("usr_") && !page.cursor.contains('@'));
        seen.extend(page.observations.into_iter().map(|o| o.key));
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["[\"1\"]", "[\"2\"]", "[\"3\"]"]);
    // A change of a child shows the whole aggregate again.
    target
        .run("update addresses set street = 'S 2' where id = 23")
        .await;
    let page = connector.feed(&shard, cursor.as_deref(), 100).await.unwrap();
    assert!(
        page.observations
            .iter()
            .any(|o| o.key == "[\"2\"]" && o.identifiers.len() == 4),
        "{:?}",
        page.observations
    );
    connector.close().await;
});

on_both!(a_check_touches_nothing_and_finds_nothing_wrong, |target| {
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let findings = connector.check().await.unwrap();
    assert!(findings.iter().all(|f| f.ok), "{findings:?}");
    assert_eq!(target.count("accounts").await, 3);
    connector.close().await;
});

on_both!(an_export_hands_out_whole_rows, |target| {
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let (values, next) = connector.export(&ada(), Page::default()).await.unwrap();
    assert!(next.0.is_none());
    let account = values.iter().find(|v| v["dataset"] == "accounts").unwrap();
    assert_eq!(account["tables"]["accounts"][0]["full_name"], "Ada L");
    assert_eq!(account["tables"]["addresses"].as_array().unwrap().len(), 2);
    connector.close().await;
});
