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

fn both(n: usize) -> String {
    line(n, "usr_bob002", "/invite?email=ada@example.org")
}

/// What a plan would name: the person's records as they are now, and the person.
async fn planned(connector: &WeblogConnector, person: &lethe_kit::Selector) -> lethe_kit::Selector {
    let mut planned = by_handle(&located(connector, person).await);
    planned.identifiers = person.identifiers.clone();
    planned
}

#[tokio::test]
async fn a_line_of_two_people_comes_back_when_neither_restriction_holds_it_any_more() {
    let bench = Bench::new("");
    let old = [line(0, "usr_ada001", "/a"), line(1, "usr_bob002", "/b")].concat();
    bench.write("access.log", old.as_bytes());
    let (ada, bob) = (
        person("usr_ada001", "ada@example.org"),
        person("usr_bob002", "bob@example.org"),
    );
    let connector = bench.open();
    let ada_planned = planned(&connector, &ada).await;
    done(&connector, &ask(1, Verb::Restrict, &ada_planned)).await;
    // One line comes before Bob's plan, and names Ada, too; one comes after it.
    let log = [bench.content("access.log"), both(2).into_bytes()].concat();
    bench.write("access.log", &log);
    let bob_planned = planned(&connector, &bob).await;
    bench.write("access.log", &[log, both(3).into_bytes()].concat());
    done(&connector, &ask(2, Verb::Restrict, &bob_planned)).await;
    assert!(bench.content("access.log").is_empty());

    let lifted = done(&connector, &ask(3, Verb::Lift, &ada_planned)).await;
    assert_eq!((lifted.outcome, lifted.details["lines"]), (Outcome::Lifted, 1));
    assert_eq!(
        bench.content("access.log"),
        line(0, "usr_ada001", "/a").into_bytes()
    );
    assert_eq!(observed(&connector, &bob).await.observed, Observed::Restricted);
    let lifted = done(&connector, &ask(4, Verb::Lift, &bob_planned)).await;
    assert_eq!((lifted.outcome, lifted.details["lines"]), (Outcome::Lifted, 3));
    assert_eq!(
        bench.content("access.log"),
        [old, both(2), both(3)].concat().into_bytes()
    );
}

#[tokio::test]
async fn a_line_that_two_restrictions_hold_outlives_the_first_lift_and_every_erasure_of_one_of_them() {
    let bench = Bench::new("");
    let log = [line(0, "usr_ada001", "/a"), both(1), line(2, "usr_bob002", "/b")].concat();
    bench.write("access.log", log.as_bytes());
    let (ada, bob) = (
        person("usr_ada001", "ada@example.org"),
        person("usr_bob002", "bob@example.org"),
    );
    let connector = bench.open();
    let first = done(&connector, &ask(1, Verb::Restrict, &ada)).await;
    done(&connector, &ask(2, Verb::Restrict, &bob)).await;
    drop(connector);
    let connector = bench.open();
    let lifted = done(&connector, &ask(3, Verb::Lift, &ada)).await;
    assert_eq!(
        (lifted.records, lifted.details["lines"]),
        (first.records, 1),
        "nothing was lost: one record is still held for somebody else"
    );
    let erased = done(&connector, &ask(4, Verb::Erase, &ada)).await;
    assert_eq!((erased.outcome, erased.details["lines"]), (Outcome::Erased, 1));
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Restricted);
    done(&connector, &ask(5, Verb::Lift, &bob)).await;
    assert_eq!(
        bench.content("access.log"),
        [both(1), line(2, "usr_bob002", "/b")].concat().into_bytes()
    );
}

#[tokio::test]
async fn nothing_that_the_state_does_not_name_outlives_a_crash_in_its_folder() {
    let bench = Bench::new("");
    bench.write("access.log", &history(0, 20));
    let ada = person("usr_ada001", "ada@example.org");
    let connector = bench.open();
    done(&connector, &ask(1, Verb::Restrict, &ada)).await;
    let sides = || {
        let mut names: Vec<String> = fs::read_dir(bench.path("state"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains(".side.") || name.ends_with(".new"))
            .collect();
        names.sort();
        names
    };
    let [before] = <[String; 1]>::try_from(sides()).unwrap();
    let kept = fs::read(bench.path("state").join(&before)).unwrap();
    done(&connector, &ask(2, Verb::Erase, &ada)).await;
    let [after] = <[String; 1]>::try_from(sides()).unwrap();
    assert_ne!(before, after);
    drop(connector);
    // A crash after the newer one became valid, and one while the next was written.
    fs::write(bench.path("state").join(&before), &kept).unwrap();
    fs::write(bench.path("state").join("access.side.9.new"), &kept).unwrap();
    let connector = bench.open();
    assert_eq!(sides(), [after]);
    assert_eq!(observed(&connector, &ada).await.observed, Observed::Absent);
}

#[tokio::test]
async fn what_was_done_long_ago_is_remembered_no_longer() {
    use crate::history::{History, Told};
    let bench = Bench::new("");
    bench.write("access.log", &history(0, 20));
    drop(bench.open());
    let size = || {
        fs::metadata(bench.path("state").join("access.history"))
            .unwrap()
            .len()
    };
    {
        let dir = crate::state::StateDir::open(&bench.path("state")).unwrap();
        let mut told = History::open(&dir, &"access".parse().unwrap()).unwrap();
        let seen = Told::Seen {
            digests: ["digest".to_owned()].into(),
            generation: (1, 0),
            day: 1,
        };
        told.tell(&dir, seen).unwrap();
    }
    assert!(size() > 0);
    let connector = bench.open();
    assert_eq!(size(), 0);
    let ada = person("usr_ada001", "ada@example.org");
    let receipt = done(&connector, &ask(1, Verb::Erase, &ada)).await;
    drop(connector);
    assert!(done(&bench.open(), &ask(1, Verb::Erase, &ada)).await == receipt && size() > 0);
}
