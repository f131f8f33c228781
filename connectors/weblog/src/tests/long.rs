//! Lines that are too long to hold.

use lethe_terms::{Observed, Outcome};

use super::*;
use crate::files::LINE_BYTES_MAX;

const TIME: &str = "[24/Nov/2026:11:40:00 +0000]";

/// A line with so many bytes before and behind a word in its request.
fn long(user: &str, before: usize, filler: char, word: &str, behind: usize) -> String {
    let fill = |n: usize| filler.to_string().repeat(n);
    format!(
        "203.0.113.9 - {user} {TIME} \"GET /a?n=1{}{word}&{} HTTP/1.1\" 414 5 \"-\" \"Mozilla/5.0\"\n",
        fill(before),
        fill(behind)
    )
}

#[tokio::test]
async fn an_overlong_line_is_found_seen_and_erased_whole_wherever_the_person_stands_in_it() {
    let (ada, one) = (person("usr_ada001", "ada@example.org"), LINE_BYTES_MAX);
    let theirs = [
        long("-", one, 'x', "&email=ada@example.org", 100),
        long("-", 2 * one, '&', "q=%2541DA%2540example.org", one),
        long("usr_ada001", one, 'x', "", one),
        long("-", one - 40, 'x', "/usr_ada001/", 3 * one),
        long("-", one, '.', "&uid=usr_ada001", one),
        format!("{}<ada@example.org>\n", "garbage ".repeat(one / 4)),
        format!("ada@example.org{}\n", " x".repeat(one)),
    ];
    let others = [
        long("usr_bob002", one, 'x', "&email=bada@example.org", one),
        long("-", one, 'x', "xada@example.org", 9),
        format!("{}\n", "x".repeat(3 * one)),
        line(1, "usr_bob002", "/"),
    ];
    for theirs in theirs {
        let shown = &theirs[..60];
        let bench = Bench::new("");
        let content = [&others[0], &theirs, &others[1], &others[2], &others[3]]
            .map(String::as_str)
            .concat();
        bench.pack("access.log.1.gz", content.as_bytes());
        bench.write("access.log", b"");
        let connector = bench.open();
        let found = located(&connector, &ada).await;
        assert_eq!(found.iter().map(|o| o.count).sum::<u64>(), 1, "{shown}");
        assert_eq!(
            observed(&connector, &ada).await.observed,
            Observed::Present,
            "{shown}"
        );
        // Also by its record alone.
        let receipt = done(&connector, &ask(1, Verb::Erase, &by_handle(&found))).await;
        assert_eq!(
            (receipt.outcome, receipt.details["lines"]),
            (Outcome::Erased, 1),
            "{shown}"
        );
        assert!(
            bench.content("access.log.1.gz") == others.concat().as_bytes(),
            "{shown}"
        );
        assert_eq!(
            observed(&connector, &ada).await.observed,
            Observed::Absent,
            "{shown}"
        );
    }
}

#[tokio::test]
async fn no_place_where_an_overlong_line_is_cut_hides_or_makes_up_a_person() {
    // Without a place to cut at, right around the ends of the first two pieces.
    let overlap = 1 << 17;
    let cuts = [LINE_BYTES_MAX + 2 - overlap, LINE_BYTES_MAX + 2];
    for cut in cuts {
        for shift in [1, 5, 11, 15, 16] {
            let bench = Bench::new("");
            let before = |word: &str| "/".repeat(cut - shift) + word;
            let ada = before("ada@example.org") + &"/".repeat(150_000) + "\n";
            let bada = before("bada@example.org") + &"/".repeat(150_000) + "\n";
            let longer = before("ada@example.organ") + &"/".repeat(150_000) + "\n";
            bench.write(
                "access.log",
                [ada, bada.clone(), longer.clone()].concat().as_bytes(),
            );
            let connector = bench.open();
            let selector = person("usr_ada001", "ada@example.org");
            let receipt = done(&connector, &ask(1, Verb::Erase, &selector)).await;
            assert_eq!(receipt.details["lines"], 1, "{cut} - {shift}");
            assert!(
                bench.content("access.log") == [bada, longer].concat().as_bytes(),
                "{cut} - {shift}"
            );
            assert_eq!(
                observed(&connector, &selector).await.observed,
                Observed::Absent,
                "{cut} - {shift}"
            );
        }
    }
}

#[tokio::test]
async fn an_overlong_line_is_one_record_for_feed_and_search_and_comes_back_from_a_restriction() {
    let bench = Bench::new("");
    let content = [
        line(1, "usr_bob002", "/"),
        long(
            "usr_ada001",
            LINE_BYTES_MAX,
            'x',
            "&email=ada@example.org",
            2 * LINE_BYTES_MAX,
        ),
        line(2, "usr_bob002", "/"),
    ]
    .concat();
    bench.write("access.log", content.as_bytes());
    let connector = bench.open();
    let page = connector
        .feed(&"access".parse().unwrap(), None, 100)
        .await
        .unwrap();
    assert!(!page.more && page.rejected.is_empty());
    let ada = person("usr_ada001", "ada@example.org");
    let found = located(&connector, &ada).await;
    assert!(found.len() == 1 && page.observations.iter().any(|o| o.key == found[0].key));
    assert!(
        found[0]
            .identifiers
            .contains(&Identifier::new(IdentifierKind::Ip, "203.0.113.9"))
    );
    let (lines, _) = connector.export(&ada, Page(None)).await.unwrap();
    assert!(lines.len() == 1 && lines[0]["address"] == "203.0.113.9");
    done(&connector, &ask(1, Verb::Restrict, &ada)).await;
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Restricted);
    assert!(bench.content("access.log").len() < 1_000);
    done(&connector, &ask(2, Verb::Lift, &ada)).await;
    assert!(bench.content("access.log") == content.as_bytes());
}

#[tokio::test]
async fn late_lines_of_any_length_go_whole_or_stay_whole() {
    let bench = Bench::new(r#","reopen":["/bin/true"]"#);
    bench.write("access.log", &history(0, 20));
    let mut server = fs::File::options()
        .append(true)
        .open(bench.path("access.log"))
        .unwrap();
    let connector = bench.open();
    let ada = person("usr_ada001", "ada@example.org");
    let erase = ask(1, Verb::Erase, &ada);
    assert!(matches!(
        connector.perform(&erase).await.unwrap(),
        Performed::Accepted { .. }
    ));
    let other = long(
        "usr_bob002",
        5 * LINE_BYTES_MAX,
        'x',
        "&email=bada@example.org",
        LINE_BYTES_MAX,
    );
    for late in [
        long("usr_ada001", 5 * LINE_BYTES_MAX, 'x', "", 0),
        other.clone(),
        long(
            "-",
            4 * LINE_BYTES_MAX,
            '&',
            "email=ada@example.org",
            5 * LINE_BYTES_MAX,
        ),
        line(1, "usr_bob002", "/late"),
        long("-", LINE_BYTES_MAX, 'x', "&email=ada@example.org", LINE_BYTES_MAX),
    ] {
        server.write_all(late.as_bytes()).unwrap();
    }
    drop(server);
    done(&connector, &erase).await;
    let expected = [
        lines_without(&history(0, 20), &ADA),
        other.into_bytes(),
        line(1, "usr_bob002", "/late").into_bytes(),
    ];
    assert!(bench.content("access.log") == expected.concat());
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
}

#[tokio::test]
async fn a_line_that_nearly_holds_the_person_ten_thousands_of_times_takes_no_more_for_each_of_them() {
    const TIMES: u32 = 16;
    let bench = Bench::new("");
    let mut took = Vec::new();
    for times in [7_500, 7_500 * TIMES] {
        let nearly = "+ada@example.orgx".repeat(times as usize) + "\n";
        bench.write("access.log", nearly.as_bytes());
        let connector = bench.open();
        let began = std::time::Instant::now();
        let seen = observed(&connector, &person("usr_ada001", "ada@example.org")).await;
        assert_eq!(seen.observed, Observed::Absent);
        took.push(began.elapsed());
    }
    // In proportion it is 16 times as much; where each is compared with the whole line it is 256 times.
    assert!(took[1] < took[0] * TIMES * 6, "{took:?}");
}
