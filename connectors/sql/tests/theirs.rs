//! A key that the database gave to another row after the plan was made.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Connector, Performed, Selector};
use lethe_terms::{Identifier, IdentifierKind, Outcome, Verb};

const HEAD: &str = "categories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"\n";

fn selected(key: &str, identifiers: &[Identifier]) -> Selector {
    Selector {
        identifiers: identifiers.to_vec(),
        ..by_handle(&format!("[\"{key}\"]"))
    }
}

fn user(value: &str) -> Identifier {
    Identifier::new(IdentifierKind::UserId, value)
}

async fn refused(connector: &lethe_sql::SqlConnector, ask: &lethe_kit::Ask) {
    match connector.perform(ask).await.unwrap() {
        Performed::Refused { code, reason } => {
            assert_eq!(code, "sql-not-theirs");
            assert!(!reason.contains("carol") && !reason.contains("ada"), "{reason}");
        }
        other => panic!("expected a refusal, not {other:?}"),
    }
}

on_both!(
    whoever_got_the_key_of_a_removed_row_is_left_alone_by_every_verb,
    |target| {
        shop(&target).await;
        let connector = connect(&target, &shop_mapping()).await;
        let ada = [email("ada@example.org"), user("usr_1")];
        let account = selected("1", &ada);
        done(
            connector
                .perform(&ask(1, (1, 0), "accounts", Verb::Restrict, &account))
                .await
                .unwrap(),
        );
        // The company removes Ada's row, and Carol's comes with her key and a mark that the company set.
        target
            .run(
                "delete from tickets where account_id = 1; update orders set account_id = null where account_id = 1;
                delete from registrations where account_id = 1; delete from addresses where account_id = 1; delete from accounts where id = 1;
                insert into accounts (id, user_id, email, full_name, processing_restricted_at)
                    values (1, 'usr_9', 'carol@example.org', 'Carol', '2026-01-01');
                insert into addresses (id, account_id, kind, street, postcode, city) values (91, 1, 'billing', 'S 9', '1', 'H');",
            )
            .await;
        let columns = [
            "id",
            "email",
            "full_name",
            "processing_restricted_at",
            "updated_at",
        ];
        let before = target.dump("accounts", &columns, "1 = 1").await;
        for (n, verb) in [Verb::Lift, Verb::Erase, Verb::Restrict].into_iter().enumerate() {
            let n = u8::try_from(n).unwrap();
            refused(
                &connector,
                &ask(2 + n, (2 + u64::from(n), 0), "accounts", verb, &account),
            )
            .await;
        }
        // One strange record among the person's own: none is touched.
        let mut both = selected("3", &[email("ada@example.com")]);
        both.records.extend(account.records);
        refused(&connector, &ask(9, (9, 0), "accounts", Verb::Erase, &both)).await;
        assert_eq!(target.dump("accounts", &columns, "1 = 1").await, before);
        assert_eq!(target.count("addresses where account_id = 1").await, 1);
        connector.close().await;
    }
);

on_both!(
    a_record_that_is_the_persons_by_something_else_is_erased,
    |target| {
        target
            .run(
                "create table people (id integer primary key, email text, phone text);
                create table visits (id integer primary key, person integer not null references people (id), device text, mail text);
                create table notes (id integer primary key, person integer, author text);
                insert into people values (1, 'other@example.org', '030 901820 ext. 5'), (2, null, 'unknown'), (3, 'see profile', null),
                    (4, 'Ada <ADA@example.org>', null), (5, null, null);
                insert into visits values (1, 2, null, 'ada@example.org'), (2, 3, 'd1', null);
                insert into notes values (1, 4, 'somebody'), (2, 6, 'nobody');",
            )
            .await;
        let mapping = format!(
            "[[units]]\nname = \"people\"\ntable = \"people\"\n{HEAD}identifiers = {{email = \"email\", phone = \"phone\"}}\nerase = \"row\"
            [[units.children]]\ntable = \"visits\"\nlink = {{person = \"id\"}}\nidentifiers = {{device = \"device_id\", mail = \"email\"}}\nerase = \"row\"
            [[units]]\nname = \"notes\"\ntable = \"notes\"\n{HEAD}identifiers = {{author = \"user_id\"}}\ncolumns = {{author = \"replace:nobody\"}}
            [[units.children]]\ntable = \"people\"\nlink = {{id = \"person\"}}\nidentifiers = {{email = \"email\"}}\nlookup = true"
        );
        let connector = connect(&target, &mapping).await;
        let ada = [
            email("ada@example.org"),
            Identifier::new(IdentifierKind::Phone, "+4930901820"),
            Identifier::new(IdentifierKind::DeviceId, "d1"),
        ];
        // By a row that it points to; and one that was erased before, as a new plan may name it.
        for (n, key) in [(1, "1"), (2, "2")] {
            let receipt = done(
                connector
                    .perform(&ask(
                        n,
                        (u64::from(n), 0),
                        "notes",
                        Verb::Erase,
                        &selected(key, &ada),
                    ))
                    .await
                    .unwrap(),
            );
            assert_eq!(
                (receipt.outcome, receipt.records),
                (Outcome::Anonymised, 1),
                "{key}"
            );
        }
        // By a telephone number, an address of a child, a device, an address among other things; and one that names nobody.
        for n in 1..=5_u8 {
            let receipt = done(
                connector
                    .perform(&ask(
                        10 + n,
                        (10, u32::from(n)),
                        "people",
                        Verb::Erase,
                        &selected(&n.to_string(), &ada),
                    ))
                    .await
                    .unwrap(),
            );
            assert_eq!(receipt.outcome, Outcome::Erased, "{n}");
        }
        assert_eq!(target.count("people").await, 0);
        connector.close().await;
    }
);

on_both!(
    what_a_removed_row_left_behind_does_not_make_the_next_one_theirs,
    |target| {
        target
            .run(
                "create table people (id integer primary key, email text);
                create table mails (id integer primary key, person integer not null, address text);
                insert into people values (1, 'carol@example.org'); insert into mails values (1, 1, 'ada@example.org');",
            )
            .await;
        let mapping = format!(
            "[[units]]\nname = \"people\"\ntable = \"people\"\n{HEAD}identifiers = {{email = \"email\"}}\nerase = \"row\"
            [[units.children]]\ntable = \"mails\"\nlink = {{person = \"id\"}}\nidentifiers = {{address = \"email\"}}\nerase = \"row\""
        );
        let connector = connect(&target, &mapping).await;
        let ada = selected("1", &[email("ada@example.org")]);
        refused(&connector, &ask(1, (1, 0), "people", Verb::Erase, &ada)).await;
        assert_eq!(target.count("people").await, 1);
        connector.close().await;
    }
);

on_both!(
    the_feed_tells_whose_record_it_is_now_without_a_time_of_change,
    |target| {
        target
            .run("create table people (id integer primary key, email text); insert into people values (1, 'ada@example.org')")
            .await;
        let mapping = format!(
            "[[units]]\nname = \"people\"\ntable = \"people\"\n{HEAD}identifiers = {{email = \"email\"}}\nerase = \"row\""
        );
        let connector = connect(&target, &mapping).await;
        let shard = "people".parse().unwrap();
        let scanned = connector.feed(&shard, None, 10).await.unwrap();
        assert!(!scanned.more && scanned.observations.len() == 1);
        target
            .run("delete from people; insert into people values (1, 'carol@example.org')")
            .await;
        let read = connector.feed(&shard, Some(&scanned.cursor), 10).await.unwrap();
        assert_eq!(read.observations, [], "the table cannot tell");
        let ada = selected("1", &[email("ada@example.org")]);
        refused(&connector, &ask(1, (1, 0), "people", Verb::Erase, &ada)).await;
        // Twice, since nobody may have taken in the first.
        for _ in 0..2 {
            let read = connector.feed(&shard, Some(&scanned.cursor), 10).await.unwrap();
            let [record] = read.observations.as_slice() else {
                panic!("{:?}", read.observations)
            };
            assert_eq!(record.key, "[\"1\"]");
            assert_eq!(record.identifiers, [email("carol@example.org")]);
        }
        connector.close().await;
    }
);
