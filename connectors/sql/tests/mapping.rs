//! A mapping that does not fit is refused at start, with place, expectation and code.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::*;
use lethe_kit::{Connector, Page, Performed};
use lethe_terms::{Identifier, IdentifierKind, Observed, Verb};

const HEAD: &str = "categories = [\"name\"]\npurpose = \"customer_support\"\nbasis = \"6-1-f\"\n";

fn unit(rest: &str) -> String {
    format!("[[units]]\nname = \"people\"\n{HEAD}{rest}")
}

const SCHEMA: &str = "
    create table people (id integer primary key, email varchar(20) not null unique, nick varchar(5), note text not null, boss integer,
        kind text not null check (kind in ('a', 'b')), born date, active boolean not null);
    create table visits (id integer primary key, person integer not null references people (id), ip text);
    create table keyless (email text);
    insert into people values (1, 'a@x.example', 'ada', 'n', null, 'a', null, true);";

async fn expect(target: &Target, rest: &str, wanted: &[&str]) {
    let found = problems(target, &unit(rest)).await;
    for part in wanted {
        assert!(
            found.iter().any(|p| p.contains(part)),
            "{rest}\n{found:#?} lacks {part:?}"
        );
    }
}

on_both!(names_that_are_not_there_are_told_with_the_nearest, |target| {
    target.run(SCHEMA).await;
    expect(
        &target,
        "table = \"poeple\"\nerase = \"row\"\nidentifiers = {email = \"email\"}",
        &["people: poeple", "sql-unknown-table", "nearest is people"],
    )
    .await;
    expect(
        &target,
        "table = \"people\"\nerase = \"row\"\nidentifiers = {emial = \"email\"}",
        &["people.emial", "sql-unknown-column", "nearest is email"],
    )
    .await;
});

on_both!(verbs_that_a_column_cannot_take_are_refused, |target| {
    target.run(SCHEMA).await;
    let children = "[[units.children]]\ntable = \"visits\"\nlink = {person = \"id\"}\nerase = \"row\"";
    let with = |columns: &str| {
        format!(
            "table = \"people\"\nidentifiers = {{email = \"email\"}}\ncolumns = {{{columns}}}\n{children}"
        )
    };
    expect(
        &target,
        &with("email = \"null\""),
        &["people.email", "NOT NULL", "sql-verb-not-possible"],
    )
    .await;
    expect(&target, &with("email = \"replace:x\""), &["is unique"]).await;
    expect(
        &target,
        &with("email = \"random\", id = \"null\""),
        &["people.id", "primary key"],
    )
    .await;
    expect(&target, &with("email = \"keep\""), &["sql-identifier-kept"]).await;
    expect(&target, &with("email = \"shred\""), &["is no verb"]).await;
    expect(
        &target,
        &with("email = \"null\", boss = \"replace:nobody\""),
        &["people.boss", "a number"],
    )
    .await;
    if target.is_postgres() {
        expect(&target, &with("email = \"random\""), &["holds 20 characters"]).await;
        expect(
            &target,
            &with("email = \"null\", nick = \"replace:erased\""),
            &["people.nick", "holds 5 characters"],
        )
        .await;
        expect(
            &target,
            &with("email = \"keep\", kind = \"replace:c\""),
            &["people.kind", "people_kind_check"],
        )
        .await;
    }
});

on_both!(a_foreign_key_that_would_dangle_is_refused, |target| {
    target.run(SCHEMA).await;
    let unmapped = "table = \"people\"\nerase = \"row\"\nidentifiers = {email = \"email\"}";
    expect(
        &target,
        unmapped,
        &[
            "visits.person",
            "sql-would-dangle",
            "the mapping does not name visits",
        ],
    )
    .await;
    let kept = format!(
        "{unmapped}\n[[units.children]]\ntable = \"visits\"\nlink = {{person = \"id\"}}\ncolumns = {{ip = \"null\"}}"
    );
    expect(
        &target,
        &kept,
        &["visits.person", "would go on naming an erased row"],
    )
    .await;
});

on_both!(a_child_whose_rows_may_hang_on_nothing_is_refused, |target| {
    target
        .run(
            "create table people (id integer primary key, email text unique, mail text);
            create table visits (id integer primary key, person integer references people (id), mail text, ip text);
            create table letters (id integer primary key, mail text not null);
            create table posts (id integer primary key, mail text not null references people (email));",
        )
        .await;
    let with = |table: &str, link: &str, identifiers: &str| {
        format!(
            "table = \"people\"\nerase = \"row\"\nidentifiers = {{email = \"email\"}}
            [[units.children]]\ntable = \"{table}\"\nlink = {{{link}}}\nidentifiers = {{{identifiers}}}\nerase = \"row\""
        )
    };
    let mail = "mail = \"email\"";
    expect(
        &target,
        &with("visits", "person = \"id\"", mail),
        &[
            "unit people: visits.person: may be null",
            "visits as a unit of its own",
            "sql-loose-rows",
        ],
    )
    .await;
    expect(
        &target,
        &with("letters", "mail = \"email\"", mail),
        &[
            "unit people: letters.mail: may name no row of the parent",
            "sql-loose-rows",
        ],
    )
    .await;
    // A foreign key holds them, and whoever shares an address is nobody in particular.
    for fits in [
        with("posts", "mail = \"email\"", mail),
        with("visits", "person = \"id\"", "ip = \"ip\""),
    ] {
        let both = lethe_sql::connect("shop".parse().unwrap(), config(&target, &unit(&fits))).await;
        let told = both.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!told.contains("sql-loose-rows"), "{told}");
    }
});

on_both!(settings_that_do_not_fit_together_are_refused, |target| {
    target.run(SCHEMA).await;
    expect(
        &target,
        "table = \"keyless\"\nerase = \"row\"\nidentifiers = {email = \"email\"}",
        &["no primary key"],
    )
    .await;
    let children = "[[units.children]]\ntable = \"visits\"\nlink = {person = \"id\"}\nerase = \"row\"";
    let with =
        |rest: &str| format!("table = \"people\"\nidentifiers = {{email = \"email\"}}\n{rest}\n{children}");
    expect(&target, &with(""), &["erase = \"row\" or columns"]).await;
    expect(
        &target,
        &with("erase = \"row\"\nrestrict = {column = \"note\"}"),
        &["people.note", "sql-restrict-column"],
    )
    .await;
    expect(
        &target,
        &with("erase = \"row\"\nupdated_at = \"nick\"").replace("nick", "boss"),
        &["sql-updated-at"],
    )
    .await;
    expect(
        &target,
        &with("erase = \"row\"\nkey = [\"note\"]"),
        &["no primary key or unique index"],
    )
    .await;
    expect(
        &target,
        &with("erase = \"row\"\nafter = [\"orders\"]"),
        &["no other unit is named orders"],
    )
    .await;
    let unknown = toml::from_str::<lethe_sql::Config>("url = \"sqlite:x\"\nunits = []\nurll = \"y\"");
    assert!(unknown.unwrap_err().to_string().contains("urll"));
});

on_both!(
    a_restriction_can_be_marked_by_a_boolean_that_is_not_null,
    |target| {
        target.run(SCHEMA).await;
        let rest = "table = \"people\"\nerase = \"row\"\nidentifiers = {email = \"email\"}\nrestrict = {column = \"active\"}
        [[units.children]]\ntable = \"visits\"\nlink = {person = \"id\"}\nerase = \"row\"";
        target.run("update people set active = false").await;
        let connector = connect(&target, &unit(rest)).await;
        let selector = by_handle("[\"1\"]");
        let name = "people".parse().unwrap();
        done(
            connector
                .perform(&ask(1, (1, 0), "people", Verb::Restrict, &selector))
                .await
                .unwrap(),
        );
        assert_eq!(
            connector.observe(&name, &selector).await.unwrap().observed,
            Observed::Restricted
        );
        done(
            connector
                .perform(&ask(2, (2, 0), "people", Verb::Lift, &selector))
                .await
                .unwrap(),
        );
        assert_eq!(
            connector.observe(&name, &selector).await.unwrap().observed,
            Observed::Present
        );
        connector.close().await;
    }
);

on_both!(names_and_keys_of_any_form_work, |target| {
    target.run(
        "create table \"Weird \"\"Table\" (\"Tenant\" text not null, \"select\" integer not null, \"E-Mail\" text, primary key (\"Tenant\", \"select\"));
        create table \"Child\" (\"Id\" integer primary key, \"T\" text not null, \"S\" integer not null, \"Phone Nr\" text,
            foreign key (\"T\", \"S\") references \"Weird \"\"Table\" (\"Tenant\", \"select\"));
        create table \"Leaf\" (\"Id\" integer primary key, \"Of\" integer not null references \"Child\" (\"Id\"), \"Device\" text);
        insert into \"Weird \"\"Table\" values ('a''; drop table \"Leaf\"; --', 1, 'Ada@x.example'), ('a', 1, 'bob@x.example'), ('a', 2, 'eve@x.example');
        insert into \"Child\" values (1, 'a''; drop table \"Leaf\"; --', 1, '+49 30 1'), (2, 'a', 1, '+49 30 2');
        insert into \"Leaf\" values (1, 1, 'd1'), (2, 2, 'd2');",
    ).await;
    let mapping = unit(
        "table = 'Weird \"Table'\nerase = \"row\"\nidentifiers = {'E-Mail' = \"email\"}
        [[units.children]]\ntable = \"Child\"\nlink = {T = \"Tenant\", S = \"select\"}\nidentifiers = {'Phone Nr' = \"phone\"}\nerase = \"row\"
        [[units.children]]\ntable = \"Leaf\"\nparent = \"Child\"\nlink = {Of = \"Id\"}\nidentifiers = {Device = \"device_id\"}\nerase = \"row\"",
    );
    let connector = connect(&target, &mapping).await;
    for by in [
        email("ada@x.example"),
        Identifier::new(IdentifierKind::Phone, "+49301"),
        Identifier::new(IdentifierKind::DeviceId, "d1"),
    ] {
        let found = connector
            .locate(&by_identifiers(&[by]), Page::default())
            .await
            .unwrap();
        assert_eq!(found.observations.len(), 1);
        assert_eq!(
            (
                found.observations[0].identifiers.len(),
                found.observations[0].count
            ),
            (3, 3)
        );
    }
    let found = located(&connector, &[email("ada@x.example")]).await;
    let selector = by_handle(&found[0].1);
    let receipt = done(
        connector
            .perform(&ask(1, (1, 0), "people", Verb::Erase, &selector))
            .await
            .unwrap(),
    );
    assert_eq!(receipt.details.values().sum::<u64>(), 3);
    assert_eq!(
        connector
            .observe(&"people".parse().unwrap(), &selector)
            .await
            .unwrap()
            .observed,
        Observed::Absent
    );
    assert_eq!(target.count("\"Leaf\"").await, 1);
    assert_eq!(target.count("\"Weird \"\"Table\"").await, 2);
    connector.close().await;
});

on_both!(keys_of_every_type_are_found_again, |target| {
    let uuid = if target.is_postgres() { "uuid" } else { "text" };
    target.run(&format!(
        "create table by_time (at timestamp not null primary key, email text); insert into by_time values ('2026-01-02 03:04:05', 'a@x.example');
        create table by_uuid (id {uuid} not null primary key, email text);
        insert into by_uuid values ('0f8fad5b-d9cb-469f-a165-70867728950e', 'a@x.example');",
    )).await;
    for table in ["by_time", "by_uuid"] {
        let mapping = unit(&format!(
            "table = \"{table}\"\nerase = \"row\"\nidentifiers = {{email = \"email\"}}"
        ));
        let connector = connect(&target, &mapping).await;
        let nonsense = connector
            .perform(&ask(
                9,
                (1, 0),
                "people",
                Verb::Erase,
                &by_handle("[\"nonsense\"]"),
            ))
            .await;
        assert_eq!(
            done(nonsense.unwrap()).outcome,
            lethe_terms::Outcome::NotFound,
            "{table}"
        );
        let found = located(&connector, &[email("a@x.example")]).await;
        let ask = ask(
            table.len() as u8,
            (1, 0),
            "people",
            Verb::Erase,
            &by_handle(&found[0].1),
        );
        assert!(
            matches!(connector.perform(&ask).await, Ok(Performed::Done(r)) if r.records == 1),
            "{table}"
        );
        assert_eq!(target.count(table).await, 0);
        connector.close().await;
        if target.is_postgres() {
            target.run("truncate lethe_instructions, lethe_records").await;
        } else {
            target
                .run("delete from lethe_instructions; delete from lethe_records")
                .await;
        }
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_key_of_sqlite_that_takes_null_is_refused() {
    let target = Target::sqlite().await;
    target
        .run(
            "create table text_key (id text primary key, email text); create table int_key (id int primary key, email text);
            create table named (id text not null primary key, email text); create table numbered (id integer primary key, email text);
            insert into text_key values (null, 'ada@x.example');",
        )
        .await;
    let with =
        |table: &str| format!("table = \"{table}\"\nerase = \"row\"\nidentifiers = {{email = \"email\"}}");
    for table in ["text_key", "int_key"] {
        expect(
            &target,
            &with(table),
            &[&format!("{table}.id: may be null"), "sql-key"],
        )
        .await;
    }
    for table in ["named", "numbered"] {
        connect(&target, &unit(&with(table))).await.close().await;
    }
    target.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_in_a_key_of_numbers_is_a_key_like_any_other() {
    let target = Target::sqlite().await;
    target
        .run(
            "create table notes (id int not null primary key, author text);
            create table lines (note int not null, at text not null, mail text, primary key (note, at));
            insert into notes values ('A17', 'u-1'), (17, 'u-2'), ('0x11', 'u-3');
            insert into lines values ('A17', 'a', 'eve@x.example'), (17, 'a', 'bob@x.example');",
        )
        .await;
    let mapping = unit(
        "table = \"notes\"\nerase = \"row\"\nidentifiers = {author = \"user_id\"}
        [[units.children]]\ntable = \"lines\"\nlink = {note = \"id\"}\nidentifiers = {mail = \"email\"}\nerase = \"row\"",
    );
    let connector = connect(&target, &mapping).await;
    let (dataset, mut eve) = (
        "people".parse().unwrap(),
        by_identifiers(&[
            email("eve@x.example"),
            Identifier::new(IdentifierKind::UserId, "u-1"),
        ]),
    );
    assert_eq!(
        located(&connector, &eve.identifiers).await,
        [("people".to_owned(), "[\"A17\"]".to_owned())]
    );
    eve.records = by_handle("[\"A17\"]").records;
    assert_eq!(
        connector.observe(&dataset, &eve).await.unwrap().observed,
        Observed::Present
    );
    // What SQLite takes for a number has one spelling.
    for other in ["017", "17.0", " 17", "1.7e1"] {
        let erase = ask(
            other.len() as u8,
            (1, 0),
            "people",
            Verb::Erase,
            &by_handle(&format!("[\"{other}\"]")),
        );
        assert_eq!(
            done(connector.perform(&erase).await.unwrap()).records,
            0,
            "{other}"
        );
    }
    let receipt = done(
        connector
            .perform(&ask(9, (1, 0), "people", Verb::Erase, &eve))
            .await
            .unwrap(),
    );
    assert_eq!((receipt.records, receipt.details["lines"]), (1, 1));
    assert_eq!(
        connector.observe(&dataset, &eve).await.unwrap().observed,
        Observed::Absent
    );
    assert_eq!(target.dump("notes", &["id"], "1 = 1").await, ["0x11", "17"]);
    connector.close().await;
    target.end().await;
}

#[tokio::test]
async fn a_database_that_is_not_known_is_refused_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "mysql://lethe:secret@127.0.0.1/shop\n").unwrap();
    let by_file = format!("url_file = {:?}", file.display().to_string());
    for (setting, named) in [
        ("url = \"mysql://lethe:secret@127.0.0.1/shop\"", "url:"),
        ("url = \"/srv/secret/shop.db\"", "url:"),
        ("url = \"postgres:secret\"", "url:"),
        (&by_file, "url_file:"),
        (
            "url = \"sqlite:/nowhere/shop.db\"\nobserve_url = \"mysql://secret@127.0.0.1/shop\"",
            "observe_url:",
        ),
    ] {
        let config = toml::from_str(&format!("{setting}\nunits = []")).unwrap();
        let error = lethe_sql::connect("shop".parse().unwrap(), config)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "sql-config", "{setting}: {error}");
        let error = error.to_string();
        assert!(
            error.starts_with(named) && error.contains("a URL that begins with postgres:// or sqlite:"),
            "{setting}: {error}"
        );
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn numbers_without_sense_are_refused_with_what_was_expected() {
    for (setting, expected) in [
        ("concurrency_max = 0", "concurrency_max: expected 1 to 90"),
        ("concurrency_max = 9000000000000000000", "expected 1 to 90"),
        ("timeout_ms = 0", "timeout_ms: expected 1 to 3600000"),
        ("pace_ms = 9000000000000000000", "pace_ms: expected 0 to 3600000"),
        ("late_ms = 9000000000000000000", "late_ms: expected 0 to 86400000"),
        ("remember_days = 0", "remember_days: expected 1 to 366"),
        ("backup_days = 4000000000", "backup_days: expected 0 to 4018"),
    ] {
        let config = toml::from_str(&format!(
            "url = \"sqlite:/nowhere/shop.db\"\n{setting}\nunits = []"
        ));
        let error = lethe_sql::connect("shop".parse().unwrap(), config.unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "sql-config", "{setting}: {error}");
        assert!(error.to_string().contains(expected), "{setting}: {error}");
    }
}
