//! Stops at every stage, as a crash would, under a writer that goes on appending through its old descriptor until it is told to reopen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::*;

/// A server: appends numbered lines, each in one call, and reopens its log when the sign is there.
struct Server {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
    written: Arc<AtomicUsize>,
}

impl Server {
    fn start(bench: &Bench, worker: usize) -> Self {
        let (log, sign) = (bench.path("access.log"), bench.path(&format!("reopen-{worker}")));
        let ends = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let (stop, count) = (ends.clone(), written.clone());
        let open = move || fs::File::options().append(true).create(true).open(&log).unwrap();
        let mut file = open();
        let thread = std::thread::spawn(move || {
            let mut others = Vec::new();
            let mut n = worker * 1_000_000;
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let text = match n % 3 {
                    0 => line(n, "usr_ada001", "/live"),
                    _ => line(n, "usr_bob002", "/live"),
                };
                file.write_all(text.as_bytes()).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                if !n.is_multiple_of(3) {
                    others.push(text);
                }
                if fs::remove_file(&sign).is_ok() {
                    file = open();
                }
                // A busy site's pace: some thousand lines a second.
                std::thread::sleep(std::time::Duration::from_micros(300));
            }
            others
        });
        Self {
            ends,
            thread,
            written,
        }
    }

    fn end(self) -> Vec<String> {
        self.ends.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn audit(bench: &Bench, old: &[u8], others: &[String], names: &[&str]) {
    let all: Vec<u8> = names.iter().flat_map(|n| bench.content(n)).collect();
    let mut counts: std::collections::BTreeMap<&[u8], usize> = Default::default();
    for line in all.split_inclusive(|b| *b == b'\n') {
        *counts.entry(line).or_default() += 1;
    }
    for other in others {
        assert_eq!(counts.get(other.as_bytes()), Some(&1), "{other}");
    }
    let live = others.len();
    assert!(all.starts_with(old), "the history stands as it stood, in order");
    let lines = all.split_inclusive(|b| *b == b'\n').count() - old.split_inclusive(|b| *b == b'\n').count();
    assert_eq!(lines, live, "no other line came or went");
    let place = |line: &str| all.windows(line.len()).position(|w| w == line.as_bytes());
    let (first, last) = (place(&others[0]), place(&others[others.len() - 1]));
    assert!(first < last);
}

async fn stopped_at(stage: usize, verb: Verb) -> bool {
    let bench = Bench::new("");
    let sign = |n: usize| bench.path(&format!("reopen-{n}")).display().to_string();
    let bench = Bench {
        extra: format!(r#","reopen":["/usr/bin/touch",{:?},{:?}]"#, sign(1), sign(2)),
        ..bench
    };
    let old = history(0, 200);
    bench.write("access.log", &old);
    let servers = [Server::start(&bench, 1), Server::start(&bench, 2)];
    while servers.iter().any(|s| s.written.load(Ordering::SeqCst) < 30) {
        std::thread::yield_now();
    }
    let ada = person("usr_ada001", "ada@example.org");
    let order = ask(1, verb, &ada);
    let connector = bench.open();
    connector.stop_after(Some(stage));
    let mut stopped = false;
    loop {
        match connector.perform(&order).await {
            Ok(Performed::Done(_)) => break,
            Ok(Performed::Accepted { .. }) => {}
            Ok(other) => panic!("{other:?}"),
            Err(e) => {
                assert_eq!(e.code(), "weblog-stopped", "{e}");
                stopped = true;
                break;
            }
        }
    }
    drop(connector);
    let connector = bench.open();
    // A feed and a search in between must be able to live with what they find.
    connector
        .feed(&"access".parse().unwrap(), None, 10_000)
        .await
        .unwrap();
    assert!(
        !stopped
            || verb == Verb::Restrict
            || observed(&connector, &ada).await.observed == lethe_terms::Observed::Present
    );
    done(&connector, &order).await;
    let [first, second] = servers.map(Server::end);
    // What the person sent after the work ended is their new lines; a second erasure takes those.
    done(&connector, &ask(2, verb, &ada)).await;
    let others: Vec<String> = first.into_iter().chain(second).collect();
    audit(&bench, &lines_without(&old, &ADA), &others, &["access.log"]);
    let names: Vec<String> = bench
        .names()
        .into_iter()
        .filter(|n| !n.starts_with("reopen"))
        .collect();
    assert_eq!(names, ["access.log"]);
    stopped
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_any_stage_of_an_erasure_under_traffic_loses_and_doubles_no_line() {
    let mut stage = 0;
    while stopped_at(stage, Verb::Erase).await {
        stage += 1;
    }
    assert!(stage > 12, "{stage} stages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_any_stage_of_a_restriction_under_traffic_loses_and_doubles_no_line() {
    let mut stage = 0;
    while stopped_at(stage, Verb::Restrict).await {
        stage += 1;
    }
    assert!(stage > 12, "{stage} stages");
}

#[tokio::test]
async fn a_stop_at_any_stage_of_restricting_lifting_and_erasing_resumes_with_the_same_result_and_counts() {
    let old = history(0, 60);
    for (verb, first) in [
        (Verb::Erase, false),
        (Verb::Restrict, false),
        (Verb::Lift, true),
        (Verb::Erase, true),
    ] {
        for stage in 0.. {
            let bench = Bench::new("");
            bench.pack("access.log.1.gz", &old);
            bench.write("access.log", &old);
            let ada = person("usr_ada001", "ada@example.org");
            if first {
                done(&bench.open(), &ask(1, Verb::Restrict, &ada)).await;
            }
            let order = ask(2, verb, &ada);
            let connector = bench.open();
            connector.stop_after(Some(stage));
            let ended = connector.perform(&order).await.is_ok();
            let left = connector.stages_left();
            drop(connector);
            let receipt = done(&bench.open(), &order).await;
            let expected = if verb == Verb::Lift {
                old.clone()
            } else {
                lines_without(&old, &ADA)
            };
            for name in ["access.log.1.gz", "access.log"] {
                assert!(
                    bench.content(name) == expected,
                    "{verb} stopped at {stage}: {name}"
                );
            }
            assert_eq!(receipt.details["lines"], 48, "{verb} stopped at {stage}");
            assert_eq!(bench.names(), ["access.log", "access.log.1.gz"]);
            if ended && left != Some(0) {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_copy_that_a_crash_left_before_it_was_journaled_is_gone_after_the_start_or_the_next_work() {
    let bench = Bench::new("");
    let log = history(0, 40);
    bench.write("access.log", &log);
    for stray in [
        ".access.log.lethe-1",
        ".access.log.2.gz.lethe-12",
        ".access.log.1.lethe-3-old",
    ] {
        bench.write(stray, &log);
    }
    let strangers = [".access.log.lethe-x", ".error.log.lethe-1", "access.log.lethe-1"];
    for stranger in strangers {
        bench.write(stranger, b"x");
    }
    let connector = bench.open();
    let mut left: Vec<&str> = strangers.to_vec();
    left.push("access.log");
    left.sort_unstable();
    assert_eq!(bench.names(), left);
    bench.write(".access.log.1.lethe-9", &log);
    // One that cannot be taken away, since it is a folder, is nobody's copy.
    fs::create_dir(bench.path(".access.log.lethe-10")).unwrap();
    left.insert(0, ".access.log.lethe-10");
    done(
        &connector,
        &ask(1, Verb::Erase, &person("usr_ada001", "ada@example.org")),
    )
    .await;
    assert_eq!(bench.names(), left);
}
