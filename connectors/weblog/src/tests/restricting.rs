use lethe_terms::{Observed, Outcome};

use super::*;

#[tokio::test]
async fn a_restriction_moves_lines_out_and_a_lift_puts_them_back_where_they_stood() {
    let bench = Bench::new("");
    let (old, new) = (history(0, 100), history(100, 200));
    bench.pack("access.log.1.gz", &old);
    bench.write("access.log", &new);
    let ada = person("usr_ada001", "ada@example.org");
    let connector = bench.open();
    let restricted = done(&connector, &ask(1, Verb::Restrict, &ada)).await;
    assert_eq!(
        (restricted.outcome, restricted.details["lines"]),
        (Outcome::Restricted, 80)
    );
    assert!(bench.content("access.log.1.gz") == lines_without(&old, &ADA));
    let seen = observed(&connector, &ada).await;
    assert_eq!(
        (seen.observed, seen.records),
        (Observed::Restricted, restricted.records)
    );
    assert_eq!(
        located(&connector, &ada)
            .await
            .iter()
            .map(|o| o.count)
            .sum::<u64>(),
        80,
        "still found"
    );
    drop(connector);

    // Rotation and other cases come in between.
    fs::rename(bench.path("access.log.1.gz"), bench.path("access.log.2.gz")).unwrap();
    fs::rename(bench.path("access.log"), bench.path("access.log.1")).unwrap();
    bench.write("access.log", &history(200, 210));
    let connector = bench.open();
    let bob = person("usr_bob002", "bada@example.org");
    done(&connector, &ask(2, Verb::Restrict, &bob)).await;
    let lifted = done(&connector, &ask(3, Verb::Lift, &ada)).await;
    assert_eq!((lifted.outcome, lifted.details["lines"]), (Outcome::Lifted, 80));
    assert!(bench.content("access.log.2.gz") == lines_without(&old, &["bada@"]));
    done(&connector, &ask(4, Verb::Lift, &bob)).await;
    assert!(bench.content("access.log.2.gz") == old && bench.content("access.log.1") == new);
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Present);
}

#[tokio::test]
async fn an_erasure_takes_restricted_lines_too_and_leaves_those_of_others() {
    let bench = Bench::new("");
    let log = history(0, 100);
    bench.write("access.log", &log);
    let (ada, bob) = (
        person("usr_ada001", "ada@example.org"),
        person("usr_bob002", "bada@example.org"),
    );
    let connector = bench.open();
    done(&connector, &ask(1, Verb::Restrict, &ada)).await;
    done(&connector, &ask(2, Verb::Restrict, &bob)).await;
    let erased = done(&connector, &ask(3, Verb::Erase, &ada)).await;
    assert_eq!((erased.outcome, erased.details["lines"]), (Outcome::Erased, 40));
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
    assert_eq!(
        done(&connector, &ask(4, Verb::Lift, &ada)).await.outcome,
        Outcome::NotFound
    );
    done(&connector, &ask(5, Verb::Lift, &bob)).await;
    assert!(bench.content("access.log") == lines_without(&log, &ADA));
}

#[tokio::test]
async fn a_log_of_one_person_alone_empties_and_fills_again() {
    let bench = Bench::new("");
    let log = [line(0, "usr_ada001", "/a"), line(1, "usr_ada001", "/b")].concat();
    bench.write("access.log", log.as_bytes());
    let ada = person("usr_ada001", "ada@example.org");
    done(&bench.open(), &ask(1, Verb::Restrict, &ada)).await;
    assert!(bench.content("access.log").is_empty());
    let other = line(2, "usr_bob002", "/c");
    fs::File::options()
        .append(true)
        .open(bench.path("access.log"))
        .unwrap()
        .write_all(other.as_bytes())
        .unwrap();
    done(&bench.open(), &ask(2, Verb::Lift, &ada)).await;
    assert_eq!(
        String::from_utf8(bench.content("access.log")).unwrap(),
        log + &other
    );
}

#[tokio::test]
async fn lines_whose_file_is_gone_stay_in_the_side_file_and_the_lift_says_so() {
    let bench = Bench::new("");
    bench.write("access.log.1", &history(0, 20));
    bench.write("access.log", b"");
    let ada = person("usr_ada001", "ada@example.org");
    let connector = bench.open();
    done(&connector, &ask(1, Verb::Restrict, &ada)).await;
    fs::remove_file(bench.path("access.log.1")).unwrap();
    let error = connector.perform(&ask(2, Verb::Lift, &ada)).await.unwrap_err();
    assert_eq!(error.code(), "weblog-place-gone");
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Restricted);
}
