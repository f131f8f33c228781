//! Rows that the database would erase along with a person's.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Connector, Performed};
use lethe_terms::{Outcome, Verb};

const HEAD: &str = "categories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"\nerase = \"row\"\n";

async fn threads(target: &Target) {
    target
        .run(
            "create table threads (id integer primary key, email text);
            create table replies (id integer primary key, thread integer not null references threads (id) on delete cascade, email text);
            create table stars (id integer primary key, thread integer references threads (id) on delete set null);
            insert into threads values (1, 'ada@example.org'), (2, 'bob@example.org'), (3, 'ada@example.org');
            insert into replies values (1, 1, 'bob@example.org'), (2, 2, 'ada@example.org'), (3, 3, 'ada@example.org');
            insert into stars values (1, 3);",
        )
        .await;
}

fn unit(name: &str, rest: &str) -> String {
    format!(
        "[[units]]\nname = \"{name}\"\ntable = \"{name}\"\n{HEAD}identifiers = {{email = \"email\"}}\n{rest}\n"
    )
}

on_both!(
    a_table_that_would_go_along_unnamed_is_refused_at_start,
    |target| {
        threads(&target).await;
        let found = problems(&target, &unit("threads", "")).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].contains("threads (replies.thread)")
                && found[0].contains("would erase rows of replies along")
                && found[0].contains("sql-would-dangle"),
            "{found:#?}"
        );
        assert_eq!(target.count("replies").await, 3);
    }
);

on_both!(replies_of_others_are_not_erased_along_with_the_thread, |target| {
    threads(&target).await;
    let mapping = unit("threads", "after = [\"replies\"]") + &unit("replies", "");
    let connector = connect(&target, &mapping).await;
    assert!(connector.check().await.unwrap().iter().all(|finding| finding.ok));
    let erase = |id: u8, dataset: &str, key: &str| {
        ask(
            id,
            (u64::from(id), 0),
            dataset,
            Verb::Erase,
            &by_handle(&format!("[\"{key}\"]")),
        )
    };
    // Bob has answered in Ada's thread.
    match connector.perform(&erase(1, "threads", "1")).await.unwrap() {
        Performed::Refused { code, reason } => {
            assert!(
                code == "sql-would-dangle" && reason.contains("table replies"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        (target.count("threads").await, target.count("replies").await),
        (3, 3)
    );
    // In the other one only she has, and that went before.
    for (id, dataset) in [(2, "replies"), (3, "threads")] {
        let receipt = done(connector.perform(&erase(id, dataset, "3")).await.unwrap());
        assert_eq!(
            (receipt.outcome, receipt.records),
            (Outcome::Erased, 1),
            "{dataset}"
        );
    }
    let stars = target.dump("stars", &["id", "thread"], "1 = 1").await;
    assert_eq!(stars, ["1|\u{2205}"], "what is set to null stays");
    connector.close().await;
});

on_both!(a_child_goes_before_its_parent_and_is_counted, |target| {
    threads(&target).await;
    let child = "[[units.children]]\ntable = \"replies\"\nlink = {thread = \"id\"}\nerase = \"row\"";
    let connector = connect(&target, &unit("threads", child)).await;
    let erase = ask(1, (1, 0), "threads", Verb::Erase, &by_handle("[\"1\"]"));
    let receipt = done(connector.perform(&erase).await.unwrap());
    assert_eq!((receipt.details["threads"], receipt.details["replies"]), (1, 1));
    assert_eq!(
        (target.count("threads").await, target.count("replies").await),
        (2, 2)
    );
    connector.close().await;
});
