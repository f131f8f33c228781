use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, SystemTime};

use lethe_terms::{Awaited, Observed, Outcome};

use super::*;

#[tokio::test]
async fn an_erasure_takes_the_persons_lines_out_of_every_file_and_leaves_every_other_byte() {
    let bench = Bench::new("");
    let (old, middle, new) = (history(0, 100), history(100, 200), history(200, 300));
    bench.pack("access.log.2.gz", &old);
    bench.write("access.log.1", &middle);
    bench.write("access.log", &new);
    let age = SystemTime::now() - Duration::from_secs(86_400);
    let rotated = fs::File::options()
        .append(true)
        .open(bench.path("access.log.1"))
        .unwrap();
    rotated.set_modified(age).unwrap();
    rotated
        .set_permissions(fs::Permissions::from_mode(0o640))
        .unwrap();
    drop(rotated);
    let connector = bench.open();
    let ada = person("usr_ada001", "ada@example.org");
    let found = located(&connector, &ada).await;
    assert_eq!(found.iter().map(|o| o.count).sum::<u64>(), 120);
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Present);

    let mut selector = by_handle(&found);
    selector.identifiers = ada.identifiers.clone();
    let receipt = done(&connector, &ask(1, Verb::Erase, &selector)).await;
    assert_eq!(
        (receipt.outcome, receipt.records, receipt.details["lines"]),
        (Outcome::Erased, found.len() as u64, 120)
    );
    for (name, before) in [
        ("access.log.2.gz", &old),
        ("access.log.1", &middle),
        ("access.log", &new),
    ] {
        assert!(bench.content(name) == lines_without(before, &ADA), "{name}");
    }
    let meta = fs::metadata(bench.path("access.log.1")).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o640);
    assert_eq!(meta.modified().unwrap(), age);
    assert_eq!(bench.names(), ["access.log", "access.log.1", "access.log.2.gz"]);
    let seen = observed(&connector, &selector).await;
    assert_eq!(
        (seen.observed, seen.records, seen.gone.len()),
        (Observed::Absent, 0, found.len())
    );
    assert!(located(&connector, &ada).await.is_empty());
    assert_eq!(
        located(&connector, &person("usr_bob002", "bada@example.org"))
            .await
            .iter()
            .map(|o| o.count)
            .sum::<u64>(),
        30
    );
}

#[tokio::test]
async fn the_same_instruction_twice_has_one_effect_and_one_receipt_and_a_stale_one_is_refused() {
    let bench = Bench::new("");
    bench.write("access.log", &history(0, 50));
    let ada = person("usr_ada001", "ada@example.org");
    let erase = ask(5, Verb::Erase, &ada);
    let receipt = done(&bench.open(), &erase).await;
    let after = [
        bench.content("access.log"),
        line(1, "usr_ada001", "/again").into_bytes(),
    ]
    .concat();
    bench.write("access.log", &after);
    assert_eq!(done(&bench.open(), &erase).await, receipt, "after a restart, too");
    assert!(bench.content("access.log") == after, "a repeat touches nothing");
    let stale = bench.open().perform(&ask(4, Verb::Restrict, &ada)).await.unwrap();
    assert!(
        matches!(
            stale,
            Performed::Refused {
                code: "weblog-stale-generation",
                ..
            }
        ),
        "{stale:?}"
    );
    let nobody = done(
        &bench.open(),
        &ask(6, Verb::Erase, &person("usr_nobody9", "nobody@example.org")),
    )
    .await;
    assert_eq!((nobody.outcome, nobody.records), (Outcome::NotFound, 0));
}

#[tokio::test]
async fn a_shared_address_selects_nothing_by_itself_and_short_ids_count_only_in_their_fields() {
    let bench = Bench::new("");
    let log = [
        line(0, "42", "/42/items?size=42"),
        line(1, "-", "/x?uid=42"),
        line(0, "-", "/42"),
        line(2, "-", "/42?q=42"),
    ]
    .concat();
    bench.write("access.log", log.as_bytes());
    let connector = bench.open();
    let ip = Identifier::new(IdentifierKind::Ip, "203.0.113.1");
    let mut selector = Selector {
        records: Vec::new(),
        identifiers: vec![Identifier::new(IdentifierKind::UserId, "42"), ip.clone()],
    };
    assert_eq!(located(&connector, &selector).await.len(), 2);
    done(&connector, &ask(1, Verb::Erase, &selector)).await;
    assert_eq!(
        bench.content("access.log"),
        [line(0, "-", "/42"), line(2, "-", "/42?q=42")]
            .concat()
            .as_bytes()
    );
    assert_eq!(observed(&connector, &selector).await.observed, Observed::Absent);

    selector.identifiers = vec![ip];
    let candidates = located(&connector, &selector).await;
    assert_eq!(candidates.len(), 1, "candidates where nothing else is known");
    assert_eq!(
        done(&connector, &ask(2, Verb::Erase, &selector)).await.outcome,
        Outcome::NotFound
    );
    assert_eq!(
        done(&connector, &ask(3, Verb::Erase, &by_handle(&candidates)))
            .await
            .records,
        1,
        "a selected record counts"
    );
    assert_eq!(bench.content("access.log"), line(2, "-", "/42?q=42").as_bytes());
}

#[tokio::test]
async fn fields_can_be_cleared_instead_and_the_line_stays() {
    let bench = Bench::new(r#","erase":"fields""#);
    let log = [
        line(0, "usr_ada001", "/a?email=ada@example.org&x=1"),
        line(1, "usr_bob002", "/b"),
        "garbage ada@example.org\n".to_owned(),
        // nginx's own `main` format, behind a proxy.
        line(3, "usr_ada001", "/c")
            .replace("\"-\"", "\"https://intra.example/lovelace\"")
            .replace("\n", " \"203.0.113.99, 10.0.0.1\" 0.02 \"a\\\"b\" \"\"\n"),
        "203.0.113.7 lovelace usr_ada001 [10/Nov/2026:11:40:00 +0000] \"GET /d HTTP/1.1\" 200 5 x\n"
            .to_owned(),
        line(2, "-", "/people/usr_ada001/items").replace(
            "\"-\"",
            "\"https://h.example/?next=%2Fq%3Femail%3Dada%2540example.org&k=v\"",
        ),
    ];
    bench.write("access.log", log.concat().as_bytes());
    let connector = bench.open();
    let ada = person("usr_ada001", "ada@example.org");
    let receipt = done(&connector, &ask(1, Verb::Erase, &ada)).await;
    assert_eq!(receipt.outcome, Outcome::Anonymised);
    assert_eq!(
        (
            receipt.details["lines"],
            receipt.details["lines_kept_without_fields"]
        ),
        (5, 4)
    );
    let text = String::from_utf8(bench.content("access.log")).unwrap();
    let expected = [
        "- - - [10/Nov/2026:11:40:00 +0000] \"GET /a?email=-&x=1&n=0 HTTP/1.1\" 200 5 \"-\" \"-\"\n"
            .to_owned(),
        log[1].clone(),
        "- - - [10/Nov/2026:11:40:00 +0000] \"GET /c?n=3 HTTP/1.1\" 200 5 \"-\" \"-\" \"-\" - \"-\" \"-\"\n"
            .to_owned(),
        "- - - [10/Nov/2026:11:40:00 +0000] \"GET /d HTTP/1.1\" 200 5 -\n".to_owned(),
        "- - - [12/Nov/2026:11:40:00 +0000] \"GET /people/-/items?n=2 HTTP/1.1\" 200 5 \"-\" \"-\"\n"
            .to_owned(),
    ];
    assert_eq!(text, expected.concat());
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
}

#[tokio::test]
async fn a_live_file_without_a_reopen_command_waits_for_rotation() {
    let bench = Bench::new("");
    let log = history(0, 20);
    bench.write("access.log", &log);
    let mut server = fs::File::options()
        .append(true)
        .open(bench.path("access.log"))
        .unwrap();
    let connector = bench.open();
    let ada = person("usr_ada001", "ada@example.org");
    let erase = ask(1, Verb::Erase, &ada);
    let Performed::Accepted { ticket, awaits, .. } = connector.perform(&erase).await.unwrap() else {
        panic!("not accepted")
    };
    assert_eq!(awaits, Some(Awaited::Rotation));
    assert!(
        bench.content("access.log") == log,
        "not a byte is touched under its writer"
    );
    fs::rename(bench.path("access.log"), bench.path("access.log.1")).unwrap();
    server
        .write_all(line(77, "usr_ada001", "/late").as_bytes())
        .unwrap();
    assert!(matches!(
        connector.poll(&erase, &ticket).await.unwrap(),
        Performed::Accepted { .. }
    ));
    drop(server);
    bench.write("access.log", b"");
    assert!(matches!(
        connector.poll(&erase, &ticket).await.unwrap(),
        Performed::Done(_)
    ));
    assert!(bench.content("access.log.1") == lines_without(&log, &ADA));
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
}

#[tokio::test]
async fn nothing_of_a_person_stands_in_the_state_folder_in_the_clear() {
    let bench = Bench::new("");
    bench.write("access.log", &history(0, 40));
    let connector = bench.open();
    let page = connector
        .feed(&"access".parse().unwrap(), None, 1000)
        .await
        .unwrap();
    done(
        &connector,
        &ask(1, Verb::Restrict, &person("usr_ada001", "ada@example.org")),
    )
    .await;
    let mut all = page.cursor.into_bytes();
    for entry in fs::read_dir(bench.path("state")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0, "{path:?}");
        all.extend(fs::read(path).unwrap());
    }
    for word in ["usr_ada001", "ada@example", "203.0.113", "Mozilla"] {
        assert!(!all.windows(word.len()).any(|w| w == word.as_bytes()), "{word}");
    }
}

#[tokio::test]
async fn a_check_names_what_does_not_work() {
    let mut bench = Bench::new("");
    let server = bench.path("nginx");
    bench.write("nginx", b"");
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    bench.extra = format!(r#","reopen":[{server:?}]"#);
    let connector = bench.open();
    fs::remove_file(server).unwrap();
    let wrong = |findings: Vec<lethe_kit::Finding>| {
        findings
            .into_iter()
            .filter(|f| !f.ok)
            .map(|f| f.what)
            .collect::<Vec<_>>()
    };
    assert!(wrong(connector.check().await.unwrap()).contains(&"log access, live file".to_owned()));
    bench.write("access.log", b"");
    assert_eq!(wrong(connector.check().await.unwrap()), ["reopen command"]);
}

#[test]
fn backups_for_longer_than_anybody_keeps_them_are_refused() {
    let config = serde_json::json!({
        "logs": [{ "name": "access", "path": "/var/log/access.log" }],
        "state_dir": "/nowhere",
        "backup_days": 4_000_000_000_u32,
    });
    let error = crate::open("web".parse().unwrap(), serde_json::from_value(config).unwrap()).unwrap_err();
    assert!(
        error.to_string().contains("backup_days: expected 0 to 4018"),
        "{error}"
    );
}

#[test]
fn a_reopen_command_that_cannot_be_run_is_refused_at_the_start() {
    let bench = Bench::new("");
    bench.write("text", b"no program");
    for program in [
        "/nonexistent",
        "lethe-no-such-program",
        "",
        "/",
        bench.path("text").to_str().unwrap(),
    ] {
        let config = serde_json::json!({
            "logs": [{ "name": "access", "path": bench.path("access.log") }],
            "state_dir": bench.path("state"),
            "reopen": [program, "-s", "reopen"],
        });
        let error = crate::open("web".parse().unwrap(), serde_json::from_value(config).unwrap()).unwrap_err();
        assert_eq!(error.code(), "weblog-config", "{program}");
        assert!(
            error
                .to_string()
                .contains("expected a program that makes the server reopen its logs"),
            "{error}"
        );
        assert!(!bench.path("state").exists(), "nothing is touched");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_unknown_and_never_absent() {
    let ada = person("usr_ada001", "ada@example.org");
    let wide: Vec<u8> = "192.0.2.7 - usr_ada001 [26/Nov/2026:10:00:00 +0000]\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let away: [(&str, &[u8]); 4] = [
        ("access.log.1", b""),
        ("access.log.2.xz", b"packed"),
        ("access.log.3", b"\x28\xb5\x2f\xfdpacked"),
        ("access.log", &wide),
    ];
    for (name, content) in away {
        let bench = Bench::new("");
        if name != "access.log.1" {
            bench.write("access.log", b"");
        }
        bench.write(name, content);
        let connector = bench.open();
        assert_eq!(
            observed(&connector, &ada).await.observed,
            Observed::CannotTell,
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_archive_that_is_not_named_so_is_read_as_one() {
    let bench = Bench::new("");
    bench.write("access.log", b"");
    bench.pack("access.log.1", &history(0, 40));
    let connector = bench.open();
    let ada = person("usr_ada001", "ada@example.org");
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Present);
    assert_eq!(
        done(&connector, &ask(1, Verb::Erase, &ada)).await.outcome,
        Outcome::Erased
    );
    fs::rename(bench.path("access.log.1"), bench.path("access.log.1.gz")).unwrap();
    assert!(bench.content("access.log.1.gz") == lines_without(&history(0, 40), &ADA));
}

#[tokio::test]
async fn an_archive_that_cannot_be_read_holds_up_the_end_of_an_erasure_and_not_its_work() {
    let bench = Bench::new("");
    let log = history(0, 40);
    bench.write("access.log", &log);
    bench.write("access.log.1.xz", b"packed");
    let connector = bench.open();
    let (ada, bob) = (
        person("usr_ada001", "ada@example.org"),
        person("usr_bob002", "bada@example.org"),
    );
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Present);
    let erase = ask(1, Verb::Erase, &ada);
    for _ in 0..2 {
        let error = connector.perform(&erase).await.unwrap_err();
        assert_eq!(error.code(), "weblog-file");
        assert!(bench.content("access.log") == lines_without(&log, &ADA));
        assert_eq!(observed(&connector, &ada).await.observed, Observed::CannotTell);
        assert_eq!(observed(&connector, &bob).await.observed, Observed::Present);
    }
    // The archive is unpacked: then it is looked through, too.
    fs::remove_file(bench.path("access.log.1.xz")).unwrap();
    bench.pack("access.log.1.gz", &history(100, 120));
    let receipt = done(&connector, &erase).await;
    assert_eq!((receipt.outcome, receipt.details["lines"]), (Outcome::Erased, 24));
    assert!(bench.content("access.log.1.gz") == lines_without(&history(100, 120), &ADA));
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
}

#[tokio::test]
async fn addresses_of_unusual_letters_are_their_own_peoples_and_nobody_elses() {
    let of = |n, email: &str| line(n, "-", &format!("/l?email={email}"));
    let free = line(9, "-", "/l/anna%26co%40example.org");
    let lines = [
        of(1, "anna%26co%40example.org"),
        of(2, "co@example.org"),
        of(3, "-ada@example.org"),
        of(4, "ada@example.org"),
        of(5, "o!neil@example.org"),
        of(6, "neil@example.org"),
        free,
    ];
    let mail = |email: &str| Selector {
        records: Vec::new(),
        identifiers: vec![Identifier::new(IdentifierKind::Email, email)],
    };
    for (email, theirs) in [
        ("anna&co@example.org", vec![0, 6]),
        ("-ada@example.org", vec![2]),
        ("ada@example.org", vec![3]),
        ("o!neil@example.org", vec![4]),
        ("neil@example.org", vec![5]),
    ] {
        let bench = Bench::new("");
        bench.write("access.log", lines.concat().as_bytes());
        let connector = bench.open();
        let who = mail(email);
        let found: u64 = located(&connector, &who).await.iter().map(|o| o.count).sum();
        assert_eq!(found, theirs.len() as u64, "{email}");
        let receipt = done(&connector, &ask(1, Verb::Erase, &who)).await;
        assert_eq!(receipt.details["lines"], theirs.len() as u64, "{email}");
        let left: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(n, _)| !theirs.contains(n))
            .map(|(_, line)| line.as_str())
            .collect();
        assert_eq!(
            String::from_utf8(bench.content("access.log")).unwrap(),
            left.concat(),
            "{email}"
        );
        assert_eq!(
            observed(&connector, &who).await.observed,
            Observed::Absent,
            "{email}"
        );
    }
}

#[tokio::test]
async fn an_identifier_that_no_line_can_be_searched_for_is_not_said_to_be_absent() {
    let bench = Bench::new("");
    bench.write("access.log", &history(0, 20));
    let connector = bench.open();
    let who = person(&"x".repeat(300), "ada@example.org");
    let code = |error: lethe_kit::Error| error.code();
    assert_eq!(
        connector
            .locate(&who, Page(None))
            .await
            .map_err(code)
            .unwrap_err(),
        "weblog-identifier"
    );
    let erase = ask(1, Verb::Erase, &who);
    assert_eq!(
        connector.perform(&erase).await.map_err(code).unwrap_err(),
        "weblog-identifier"
    );
    let seen = connector.observe(&"access".parse().unwrap(), &who).await;
    assert_eq!(seen.map_err(code).unwrap_err(), "weblog-identifier");
    assert!(bench.content("access.log") == history(0, 20));
}

#[tokio::test]
async fn an_address_within_escapes_of_json_or_many_times_over_is_found_seen_and_erased() {
    let bench = Bench::new("");
    let deep = |n: usize| format!("/x?q=ada%{}40example.org", "25".repeat(n));
    let lines = [
        line(
            1,
            "-",
            "/e?payload=%7B%22to%22:%22%5Cu003cada%40example.org%5Cu003e%22%7D",
        ),
        line(2, "-", "/e?text=Hello%5Cnada%40example.org"),
        line(3, "-", "/e?text=ada%5Cu0040example.org"),
        line(4, "-", &deep(4)),
        line(5, "-", &deep(12)),
        line(6, "-", "/e?user=ada%00@example.org"),
    ];
    let other = line(7, "-", "/e?text=Hello%5Cnobody%40example.org");
    bench.write("access.log", [lines.concat(), other.clone()].concat().as_bytes());
    let ada = person("usr_ada001", "ada@example.org");
    let connector = bench.open();
    for one in &lines[..5] {
        let seen = Bench::new("");
        seen.write("access.log", one.as_bytes());
        assert_eq!(
            observed(&seen.open(), &ada).await.observed,
            Observed::Present,
            "{one}"
        );
    }
    let receipt = done(&connector, &ask(1, Verb::Erase, &ada)).await;
    assert_eq!(receipt.details["lines"], 6);
    assert_eq!(bench.content("access.log"), other.into_bytes());
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
}
