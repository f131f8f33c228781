use std::collections::BTreeMap;

use super::*;

async fn follow(
    connector: &WeblogConnector,
    cursor: &mut Option<String>,
    limit: usize,
) -> (BTreeMap<String, u64>, Vec<Vec<u8>>) {
    let (mut counts, mut rejected) = (BTreeMap::new(), Vec::new());
    loop {
        let page = connector
            .feed(&"access".parse().unwrap(), cursor.as_deref(), limit)
            .await
            .unwrap();
        assert!(page.observations.len() + page.rejected.len() <= 2 * limit && page.cursor.len() <= 1024);
        counts.extend(page.observations.into_iter().map(|o| (o.key, o.count)));
        rejected.extend(page.rejected.into_iter().map(|r| r.input));
        *cursor = Some(page.cursor);
        if !page.more {
            return (counts, rejected);
        }
    }
}

async fn expected(connector: &WeblogConnector, words: &[&str]) -> u64 {
    let selector = person(words[0], words[1]);
    located(connector, &selector).await.iter().map(|o| o.count).sum()
}

#[tokio::test]
async fn every_line_is_counted_once_and_every_odd_line_goes_out_once_whatever_the_page() {
    let mut seen = Vec::new();
    for limit in [1, 7, 1000] {
        let bench = Bench::new("");
        bench.pack("access.log.2.gz", &history(0, 100));
        bench.write("access.log.1", &history(100, 200));
        bench.write("access.log", &history(200, 300));
        let connector = bench.open();
        let (counts, rejected) = follow(&connector, &mut None, limit).await;
        assert_eq!(
            rejected.len(),
            90,
            "torn, foreign and error lines; empty ones say nothing"
        );
        seen.push((counts, rejected));
    }
    assert!(seen[0] == seen[1] && seen[1] == seen[2]);
}

#[tokio::test]
async fn rotation_compression_and_a_copy_lose_and_double_nothing() {
    let bench = Bench::new("");
    bench.write("access.log", &history(0, 60));
    let connector = bench.open();
    let mut cursor = None;
    let (mut counts, mut rejected) = follow(&connector, &mut cursor, 10).await;
    // The server writes on into the renamed file before it reopens.
    let mut server = fs::File::options()
        .append(true)
        .open(bench.path("access.log"))
        .unwrap();
    fs::rename(bench.path("access.log"), bench.path("access.log.1")).unwrap();
    bench.write("access.log", &history(60, 80));
    let step = follow(&connector, &mut cursor, 10).await;
    counts.extend(step.0);
    rejected.extend(step.1);
    server.write_all(&history(80, 100)).unwrap();
    drop(server);
    let step = follow(&connector, &mut cursor, 10).await;
    counts.extend(step.0);
    rejected.extend(step.1);
    // Then it is packed, while the live file is copied and emptied in place.
    let packed = bench.content("access.log.1");
    bench.pack("access.log.2.gz", &packed);
    let copied = bench.content("access.log");
    bench.write("access.log.1", &copied);
    fs::File::options()
        .write(true)
        .open(bench.path("access.log"))
        .unwrap()
        .set_len(0)
        .unwrap();
    let step = follow(&connector, &mut cursor, 10).await;
    assert!(step.0.is_empty() && step.1.is_empty(), "nothing new came");
    fs::File::options()
        .append(true)
        .open(bench.path("access.log"))
        .unwrap()
        .write_all(&history(100, 120))
        .unwrap();
    drop(connector);
    let connector = bench.open();
    let step = follow(&connector, &mut cursor, 10).await;
    counts.extend(step.0);
    rejected.extend(step.1);
    assert_eq!(rejected.len(), 36, "each odd line once");
    let bob: u64 = counts
        .iter()
        .filter(|(key, _)| key.contains("usr_bob002"))
        .map(|(_, n)| n)
        .sum();
    assert_eq!(
        bob,
        expected(&connector, &["usr_bob002", "bada@example.org"]).await
    );
    assert_eq!(bob, 12);
}

#[tokio::test]
async fn a_line_without_its_end_waits() {
    let bench = Bench::new("");
    let (whole, half) = (line(1, "usr_bob002", "/a"), line(2, "usr_eve003", "/b"));
    bench.write(
        "access.log",
        [whole.as_bytes(), &half.as_bytes()[..40]].concat().as_slice(),
    );
    let connector = bench.open();
    let mut cursor = None;
    let (counts, rejected) = follow(&connector, &mut cursor, 10).await;
    assert_eq!((counts.len(), rejected.len()), (1, 0));
    bench.write(
        "access.log",
        [whole.as_bytes(), half.as_bytes()].concat().as_slice(),
    );
    let (counts, rejected) = follow(&connector, &mut cursor, 10).await;
    assert_eq!((counts.len(), rejected.len()), (1, 0));
    assert!(counts.keys().all(|k| k.contains("usr_eve003")));
}

#[tokio::test]
async fn a_cursor_from_before_an_erasure_and_a_restriction_goes_on_where_it_stood() {
    let bench = Bench::new("");
    bench.write("access.log.1", &history(0, 100));
    bench.write("access.log", &history(100, 200));
    let connector = bench.open();
    let page = connector
        .feed(&"access".parse().unwrap(), None, 55)
        .await
        .unwrap();
    let mut first: Vec<Vec<u8>> = page.rejected.into_iter().map(|r| r.input).collect();
    let mut cursor = Some(page.cursor);
    let ada = person("usr_ada001", "ada@example.org");
    done(&connector, &ask(1, Verb::Erase, &ada)).await;
    done(
        &connector,
        &ask(2, Verb::Restrict, &person("usr_bob002", "bada@example.org")),
    )
    .await;
    done(
        &connector,
        &ask(3, Verb::Lift, &person("usr_bob002", "bada@example.org")),
    )
    .await;
    drop(connector);
    let (_, rejected) = follow(&bench.open(), &mut cursor, 10).await;
    first.extend(rejected);
    let torn = first.iter().filter(|l| l.starts_with(b"\0\x01 torn")).count();
    let foreign = first.iter().filter(|l| l.starts_with(b"M\xfcller")).count();
    assert_eq!((torn, foreign), (20, 20), "each once");
}

#[tokio::test]
async fn the_counts_follow_every_rewrite_without_reading_the_files_again() {
    let bench = Bench::new("");
    bench.pack("access.log.2.gz", &history(0, 40));
    bench.write("access.log.1", &history(40, 100));
    // A day of which nobody is left would be counted anew.
    let eve = b"note <eve@example.org>\n".as_slice();
    bench.write("access.log", &[eve, &history(100, 200)].concat());
    let connector = bench.open();
    let mut cursor = None;
    follow(&connector, &mut cursor, 50).await;
    let bob = person("usr_bob002", "bada@example.org");
    for (id, verb, whom) in [
        (1, Verb::Restrict, &bob),
        (2, Verb::Erase, &person("usr_ada001", "ada@example.org")),
        (3, Verb::Lift, &bob),
    ] {
        done(&connector, &ask(id, verb, whom)).await;
        let kept = connector.counts(cursor.as_deref().unwrap(), true).unwrap();
        if id == 2 {
            // What comes meanwhile is counted on.
            let more = [bench.content("access.log"), history(200, 210)].concat();
            bench.write("access.log", &more);
            let (counts, _) = follow(&connector, &mut cursor, 50).await;
            assert!(counts.keys().any(|key| key.contains("usr_bob002")));
            continue;
        }
        let fresh = connector.counts(cursor.as_deref().unwrap(), false).unwrap();
        assert!(kept == fresh, "{verb}");
        follow(&connector, &mut cursor, 50).await;
    }
    let found = located(&connector, &bob).await;
    let late = line(203, "usr_bob002", "/login?email=bada@example.org");
    let more = [bench.content("access.log"), late.into_bytes()].concat();
    bench.write("access.log", &more);
    let (counts, _) = follow(&connector, &mut cursor, 50).await;
    assert_eq!(counts.len(), 1);
    for (key, count) in counts {
        let before = found.iter().find(|o| o.key == key).map_or(0, |o| o.count);
        assert_eq!(count, before + 1);
    }
}

#[tokio::test]
async fn a_damaged_archive_is_said_once_and_stops_nothing() {
    let bench = Bench::new("");
    bench.pack("access.log.2.gz", &history(0, 2000));
    let bytes = fs::read(bench.path("access.log.2.gz")).unwrap();
    bench.write("access.log.2.gz", &bytes[..bytes.len() / 2]);
    bench.write("access.log", line(1, "usr_eve003", "/").as_bytes());
    let connector = bench.open();
    let mut cursor = None;
    let mut codes = Vec::new();
    loop {
        let page = connector
            .feed(&"access".parse().unwrap(), cursor.as_deref(), 100)
            .await
            .unwrap();
        codes.extend(
            page.rejected
                .iter()
                .map(|r| r.code)
                .filter(|c| *c == "weblog-archive"),
        );
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    let again = connector
        .feed(&"access".parse().unwrap(), cursor.as_deref(), 100)
        .await
        .unwrap();
    assert!(codes.len() == 1 && again.rejected.is_empty() && again.observations.is_empty());
    for (user, expected) in [
        ("usr_ada001", lethe_terms::Observed::Present),
        ("usr_zoe009", lethe_terms::Observed::CannotTell),
    ] {
        let seen = observed(&connector, &person(user, "nobody@example.org")).await;
        assert_eq!(
            seen.observed, expected,
            "what cannot be read is no success, and what was read counts"
        );
    }
    assert!(
        connector
            .feed(&"access".parse().unwrap(), Some("nonsense"), 1)
            .await
            .is_err()
    );
}

/// The archive of these bytes.
fn packed(content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

/// What a check finds wrong.
async fn wrong(connector: &WeblogConnector) -> Vec<String> {
    let findings = connector.check().await.unwrap().into_iter();
    findings
        .filter(|f| !f.ok && f.what.starts_with("log "))
        .map(|f| f.what)
        .collect()
}

#[tokio::test]
async fn nobody_is_called_absent_while_a_file_of_the_log_is_a_link_to_elsewhere_or_packed_as_it_is_written() {
    let ada = person("usr_ada001", "ada@example.org");
    for what in ["files", "packing"] {
        let bench = Bench::new("");
        if what == "files" {
            bench.write("access.log", b"");
            bench.write("elsewhere", &history(0, 20));
            std::os::unix::fs::symlink(bench.path("elsewhere"), bench.path("access.log.1")).unwrap();
        } else {
            bench.write("access.log", &packed(&history(0, 20)));
        }
        let connector = bench.open();
        assert_eq!(wrong(&connector).await, [format!("log access, {what}")]);
        let search = connector.locate(&ada, Page(None)).await;
        assert_eq!(search.unwrap_err().code(), "weblog-file", "{what}");
        let erased = connector.perform(&ask(1, Verb::Erase, &ada)).await;
        assert_eq!(erased.unwrap_err().code(), "weblog-file", "{what}");
        let seen = observed(&connector, &ada).await.observed;
        assert_eq!(seen, lethe_terms::Observed::CannotTell, "{what}");
        // Once the file can be read the work goes on.
        if what == "files" {
            fs::rename(bench.path("elsewhere"), bench.path("access.log.1")).unwrap();
        } else {
            bench.write("access.log", &history(0, 20));
        }
        assert_eq!(
            done(&connector, &ask(1, Verb::Erase, &ada)).await.details["lines"],
            8,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_log_that_is_reached_by_a_link_has_its_rotated_files_on_both_sides() {
    let bench = Bench::new("");
    fs::create_dir(bench.path("data")).unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(bench.path(to), bench.path(name)).unwrap();
    bench.write("data/current.log", &history(0, 10));
    bench.write("data/current.log.1", &history(10, 20));
    bench.write("data/access.log-20261123", &history(20, 30));
    bench.write("access.log.1", &history(30, 40));
    link("data/current.log", "access.log");
    link("data/current.log.1", "access.log.2");
    let connector = bench.open();
    assert_eq!(wrong(&connector).await, Vec::<String>::new());
    let ada = person("usr_ada001", "ada@example.org");
    done(&connector, &ask(1, Verb::Erase, &ada)).await;
    for (name, from) in [
        ("data/current.log", 0),
        ("data/current.log.1", 10),
        ("data/access.log-20261123", 20),
        ("access.log.1", 30),
    ] {
        assert!(
            bench.content(name) == lines_without(&history(from, from + 10), &ADA),
            "{name}"
        );
    }
    assert_eq!(
        observed(&connector, &ada).await.observed,
        lethe_terms::Observed::Absent
    );
    assert!(
        fs::symlink_metadata(bench.path("access.log"))
            .unwrap()
            .is_symlink()
    );
}
