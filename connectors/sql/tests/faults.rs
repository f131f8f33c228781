//! What happens when the connection, the rights or the peace are lost.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Connector, Error, Performed, Selector};
use lethe_terms::{Independence, Observed, Verb};

fn ticket() -> Selector {
    by_handle("[\"51\"]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_before_the_commit_leaves_everything_as_it_was() {
    let Some(target) = Target::postgres().await else {
        return;
    };
    shop(&target).await;
    let wire = wire(&target).await;
    let connector = connect_through(&wire, &target, &shop_mapping()).await;
    let erase = ask(1, (1, 0), "tickets", Verb::Erase, &ticket());
    wire.cut_before_next_commit();
    // The connector cannot know whether the COMMIT arrived.
    assert!(matches!(
        connector.perform(&erase).await,
        Err(Error::Unknown {
            code: "sql-commit-unanswered",
            ..
        })
    ));
    assert_eq!(target.count("tickets where id = 51").await, 1);
    let asked = connector.poll(&erase, "").await;
    assert!(
        matches!(
            asked,
            Err(Error::Transient {
                code: "sql-not-performed",
                ..
            })
        ),
        "{asked:?}"
    );
    assert_eq!(done(connector.perform(&erase).await.unwrap()).records, 1);
    connector.close().await;
    target.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_after_the_commit_is_answered_when_it_is_asked_again() {
    let Some(target) = Target::postgres().await else {
        return;
    };
    shop(&target).await;
    let wire = wire(&target).await;
    let connector = connect_through(&wire, &target, &shop_mapping()).await;
    let erase = ask(1, (1, 0), "tickets", Verb::Erase, &ticket());
    wire.cut_after_next_commit();
    assert!(matches!(
        connector.perform(&erase).await,
        Err(Error::Unknown {
            code: "sql-commit-unanswered",
            ..
        })
    ));
    assert_eq!(target.count("tickets where id = 51").await, 0);
    assert_eq!(done(connector.poll(&erase, "").await.unwrap()).records, 1);
    assert_eq!(done(connector.perform(&erase).await.unwrap()).records, 1);
    connector.close().await;
    target.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_the_session_in_the_middle_of_the_work_undoes_it() {
    let Some(target) = Target::postgres().await else {
        return;
    };
    shop(&target).await;
    // The work itself ends its own session after it has removed the row.
    target.run(
        "create function cut() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(1); return old; end $$;
        create trigger cut after delete on tickets for each row execute function cut();",
    ).await;
    let connector = connect(&target, &shop_mapping()).await;
    let erase = ask(1, (1, 0), "tickets", Verb::Erase, &ticket());
    let answer = connector.perform(&erase).await;
    assert!(
        matches!(
            answer,
            Err(Error::Transient {
                code: "sql-unreachable",
                ..
            })
        ),
        "{answer:?}"
    );
    assert_eq!(target.count("tickets where id = 51").await, 1);
    target.run("drop trigger cut on tickets").await;
    assert_eq!(done(connector.perform(&erase).await.unwrap()).records, 1);
    connector.close().await;
    target.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_with_a_credential_of_its_own_is_independent_and_needs_no_right_to_write() {
    let Some(target) = Target::postgres().await else {
        return;
    };
    shop(&target).await;
    let role = format!("observer_{}", target.url.rsplit_once('/').unwrap().1);
    target
        .run(&format!(
            "create role {role} login; grant select on all tables in schema public to {role}"
        ))
        .await;
    let (_, tail) = target.url.split_once('@').unwrap();
    let mut config = config(&target, &shop_mapping());
    config.observe_url = Some(lethe_sql::Url(format!("postgres://{role}@{tail}")));
    let connector = lethe_sql::connect("shop".parse().unwrap(), config).await.unwrap();
    assert_eq!(
        connector.manifest().independence,
        Independence::SeparateCredential
    );
    let seen = connector
        .observe(&"tickets".parse().unwrap(), &ticket())
        .await
        .unwrap();
    assert_eq!(
        (seen.observed, seen.independence),
        (Observed::Present, Independence::SeparateCredential)
    );
    target.run(&format!("revoke select on tickets from {role}")).await;
    let blind = connector.observe(&"tickets".parse().unwrap(), &ticket()).await;
    assert!(
        matches!(
            blind,
            Err(Error::Permanent {
                code: "sql-not-allowed",
                ..
            })
        ),
        "who cannot look never says absent"
    );
    assert!(
        connector
            .check()
            .await
            .unwrap()
            .iter()
            .any(|f| !f.ok && f.detail.contains("sql-not-allowed"))
    );
    connector.close().await;
    target
        .run(&format!("drop owned by {role}; drop role {role}"))
        .await;
    target.end().await;
}

on_both!(without_tables_of_its_own_the_manifest_says_so, |target| {
    shop(&target).await;
    let mut config = config(&target, &shop_mapping());
    config.own_tables = false;
    let connector = lethe_sql::connect("shop".parse().unwrap(), config).await.unwrap();
    assert!(!connector.manifest().detects_repeats);
    let erase = ask(1, (1, 0), "tickets", Verb::Erase, &ticket());
    assert_eq!(done(connector.perform(&erase).await.unwrap()).records, 1);
    assert!(matches!(
        connector.poll(&erase, "").await,
        Err(Error::Unknown { .. })
    ));
    assert!(
        connector
            .check()
            .await
            .unwrap()
            .iter()
            .any(|f| !f.ok && f.what.contains("lethe_"))
    );
    connector.close().await;
});

on_both!(a_rule_of_the_database_refuses_without_quoting_anybody, |target| {
    shop(&target).await;
    target.run(if target.is_postgres() {
        "create function no() returns trigger language plpgsql as $$ begin raise exception 'mail %', old.email using errcode = '23514'; end $$;
        create trigger no before delete on tickets for each row execute function no();"
    } else {
        "create trigger no before delete on tickets begin select raise(abort, 'mail ada@example.org'); end;"
    }).await;
    let connector = connect(&target, &shop_mapping()).await;
    let refused = connector
        .perform(&ask(1, (1, 0), "tickets", Verb::Erase, &ticket()))
        .await
        .unwrap();
    match refused {
        Performed::Refused { code, reason } => {
            assert!(code == "sql-rule-violated" && !reason.contains('@'), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(target.count("tickets where id = 51").await, 1);
    connector.close().await;
});

on_both!(the_same_id_at_the_same_time_has_one_effect, |target| {
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let erase = ask(1, (1, 0), "tickets", Verb::Erase, &ticket());
    let answers = futures::future::join_all((0..8).map(|_| connector.perform(&erase))).await;
    for answer in answers {
        assert_eq!(done(answer.unwrap()).records, 1);
    }
    connector.close().await;
});

on_both!(no_table_of_lethe_holds_an_identifier_or_a_key, |target| {
    shop(&target).await;
    target.run("create table people (email text not null primary key, name text); insert into people values ('ada@example.org', 'Ada')").await;
    let unit = "[[units]]\nname = \"people\"\ntable = \"people\"\ncategories = [\"name\"]\npurpose = \"marketing\"\nbasis = \"6-1-a\"
        identifiers = {email = \"email\"}\nerase = \"row\"";
    let connector = connect(&target, unit).await;
    done(
        connector
            .perform(&ask(
                1,
                (1, 0),
                "people",
                Verb::Erase,
                &by_handle("[\"ada@example.org\"]"),
            ))
            .await
            .unwrap(),
    );
    for (table, columns) in [
        ("lethe_instructions", ["id", "receipt", "dataset"]),
        ("lethe_records", ["dataset", "record", "marked"]),
    ] {
        let lines = target.dump(table, &columns, "1 = 1").await;
        assert!(
            !lines.is_empty() && lines.iter().all(|l| !l.contains("ada@") && !l.contains("Ada")),
            "{lines:?}"
        );
    }
    connector.close().await;
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_took_the_place_of_the_opened_one_is_not_answered_for() {
    let target = Target::sqlite().await;
    shop(&target).await;
    let connector = connect(&target, &shop_mapping()).await;
    let shard = "tickets".parse().unwrap();
    let scanned = connector.feed(&shard, None, 100).await.unwrap();
    // A restored backup, in which somebody else stands, whose row is older than what was read.
    let path = target.url.strip_prefix("sqlite:").unwrap();
    let fresh = format!("{path}.fresh");
    target.run(&format!("vacuum into '{fresh}'")).await;
    target.run("pragma wal_checkpoint(truncate)").await;
    let restored = sqlx::SqlitePool::connect(&format!("sqlite:{fresh}"))
        .await
        .unwrap();
    sqlx::query("insert into tickets (id, email, subject_line, body, opened_at, updated_at) values (60, 'eve@example.org', 's', 'b', '2026-01-04', '2026-01-04')")
        .execute(&restored)
        .await
        .unwrap();
    restored.close().await;
    std::fs::rename(&fresh, path).unwrap();

    let eve = by_identifiers(&[email("eve@example.org")]);
    let erase = ask(1, (1, 0), "tickets", Verb::Erase, &ticket());
    let answers = [
        connector.locate(&eve, lethe_kit::Page::default()).await.err(),
        connector.observe(&"tickets".parse().unwrap(), &eve).await.err(),
        connector.feed(&shard, None, 10).await.err(),
        connector.perform(&erase).await.err(),
        connector.check().await.err(),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        assert!(
            matches!(
                answer,
                Some(Error::Transient {
                    code: "sql-file-replaced",
                    ..
                })
            ),
            "{n}: {answer:?}"
        );
    }
    connector.close().await;
    let connector = connect(&target, &shop_mapping()).await;
    assert_eq!(located(&connector, &eve.identifiers).await.len(), 1);
    let page = connector.feed(&shard, Some(&scanned.cursor), 100).await.unwrap();
    assert!(
        page.observations.iter().any(|o| o.key == "[\"60\"]"),
        "it is scanned anew"
    );
    connector.close().await;
    target.end().await;
}
