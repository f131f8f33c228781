//! Two tables that number their people each for itself: the same number is two people.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Host, Page};
use lethe_terms::{Identifier, IssuedKind, Observed, Verb};

const HEAD: &str = "categories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"\nerase = \"row\"\n";

fn id(kind: &str, value: &str) -> Identifier {
    kind.parse::<IssuedKind>().unwrap().with(value)
}

on_both!(
    an_id_finds_the_rows_of_its_own_issuer_and_whoever_shares_it,
    |target| {
        target
            .run(
                "create table accounts (id bigint not null primary key); insert into accounts values (1);
                create table members (id bigint not null primary key); insert into members values (1);
                create table posts (id bigint not null primary key, member bigint); insert into posts values (9, 1);",
            )
            .await;
        let unit = |table: &str, identifiers: &str| {
            format!(
                "[[units]]\nname = \"{table}\"\ntable = \"{table}\"\nidentifiers = {{ {identifiers} }}\n{HEAD}"
            )
        };
        let units = [
            unit("accounts", "id = \"user_id\""),
            unit("members", "id = \"user_id@forum\""),
            unit("posts", "member = \"user_id@forum\""),
        ];
        let connector = std::sync::Arc::new(connect(&target, &units.concat()).await);
        let host = Host::new(connector.clone());
        let found = async |identifier: Identifier| {
            let selector = by_identifiers(&[identifier]);
            let located = host.locate(&selector, Page(None)).await.unwrap();
            let datasets = located.observations.into_iter().map(|one| {
                let names: Vec<String> = one.identifiers.iter().map(Identifier::name).collect();
                (one.dataset.to_string(), names.concat())
            });
            datasets.collect::<Vec<_>>()
        };
        let named = |rows: &[(&str, &str)]| {
            let rows = rows
                .iter()
                .map(|(dataset, kind)| ((*dataset).to_owned(), (*kind).to_owned()));
            rows.collect::<Vec<_>>()
        };
        assert_eq!(found(id("user_id", "1")).await, named(&[("accounts", "user_id")]));
        let forum = named(&[("members", "user_id@forum"), ("posts", "user_id@forum")]);
        assert_eq!(found(id("user_id@forum", "1")).await, forum);
        assert!(found(id("user_id@chat", "1")).await.is_empty());

        // A record of the forum holds none of the ids of this person: it is somebody else's.
        let mut selector = by_handle("[\"1\"]");
        selector.identifiers = vec![id("user_id", "1")];
        let refused = host
            .perform(&ask(1, (1, 0), "members", Verb::Erase, &selector))
            .await;
        assert!(format!("{:?}", refused.unwrap()).contains("sql-not-theirs"));
        done(
            host.perform(&ask(2, (1, 1), "accounts", Verb::Erase, &selector))
                .await
                .unwrap(),
        );
        for (dataset, expected) in [("accounts", Observed::Absent), ("members", Observed::Present)] {
            let mut whom = by_identifiers(&[id("user_id", "1")]);
            if dataset == "members" {
                whom = by_identifiers(&[id("user_id@forum", "1")]);
            }
            let seen = host.observe(&dataset.parse().unwrap(), &whom).await.unwrap();
            assert_eq!(seen.observed, expected, "{dataset}");
        }
        connector.close().await;
    }
);
