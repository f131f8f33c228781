//! One broker of three is killed and started again, over and over, while systems are read and cases run. For the soak: more than a million
//! entries and a thousand cases, or as many as `LETHE_TEST_PEOPLE` (a person has three or four records, each with an entry for its key) and
//! `LETHE_TEST_CASES` say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lethe_journeys::company::{Company, LINES};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, SEVERAL, free_port, program};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::{Processes, all_is_in_order, every_case_is_completed_and_certified, seed};

/// People whose records are read.
const PEOPLE: u32 = 200_000;

/// Cases that are carried out meanwhile.
const CASES: u32 = 1_000;

/// How long everything may take.
const TIME_MAX: Duration = Duration::from_hours(3);

/// Cases that run side by side, each about somebody else: most of the time each waits for brokers.
const SIDE_BY_SIDE: usize = 48;

/// How long a broker is left alone before the next one is killed, and how long it stays away, in milliseconds: from before its absence is
/// noticed to after others lead in its place.
const PAUSE_MS: std::ops::Range<u64> = 500..8_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_three_may_be_killed_at_any_moment() {
    if std::env::var_os("LETHE_TEST_SOAK").is_none() {
        println!("left to the soak: LETHE_TEST_SOAK is not set");
        return;
    }
    let (people, cases) = (
        asked("LETHE_TEST_PEOPLE", PEOPLE),
        asked("LETHE_TEST_CASES", CASES),
    );
    let seed = seed();
    println!("SEED={seed}");
    let (cluster, folder) = (Cluster::of(3), tempfile::tempdir().unwrap());
    let bootstrap = cluster.start();
    let company = Company::found(folder.path(), seed, people, LINES).await;
    let port = free_port();
    let log = format!("kafka = {{ bootstrap = \"{bootstrap}\", instance = \"one\" }}");
    let home = Home {
        program: program(),
        config: company.configure(port, &format!("compact_after_s = 2\nfeed_every_ms = 500\n{log}")),
        output: folder.path().join("lethe").join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    std::fs::create_dir(folder.path().join("lethe")).unwrap();
    let mut processes = Processes::new(&home, SEVERAL);
    processes.start();
    processes.are_ready().await;

    let (stop, stopped) = watch::channel(false);
    let began = Instant::now();
    let done = Arc::new(AtomicU32::new(0));
    let breaking = tokio::spawn(break_brokers(cluster, seed, Arc::clone(&done), stopped));
    let courses = tokio::time::timeout(TIME_MAX, work(&home, &company, seed, cases, &done)).await;
    let courses = courses.unwrap_or_else(|_| panic!("the work does not end:\n{}", home.last_words()));
    stop.send(true).unwrap();
    let (_cluster, kills) = breaking.await.unwrap();
    println!(
        "{} cases and {} records in {:?}, a broker killed {} times",
        courses.len(),
        Api::new(&home.url).records("shop").await.unwrap(),
        began.elapsed(),
        kills
    );
    processes.none_ended();
    let api = Api::new(&home.url);
    every_case_is_completed_and_certified(&api, &courses, folder.path()).await;
    let live = api.state_hash().await.unwrap();
    processes.stop();
    let lifted = lifted(&company).into_iter().take(SIDE_BY_SIDE - 1);
    let lifted = lifted.chain([company.world.colleague_index()]);
    let replayed = all_is_in_order(&courses, &company, lifted, &home, folder.path()).await;
    if live != replayed {
        // Which rows differ can be seen there: below `lethe/processes` and `replayed`.
        let kept = folder.keep();
        panic!(
            "{live} live and {replayed} replayed, with all files in {}",
            kept.display()
        );
    }
}

/// How many the environment asks for.
fn asked(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().expect("a number"))
}

/// People whom nothing else is about.
fn lifted(company: &Company) -> Vec<u32> {
    let world = &company.world;
    let cast = BTreeSet::from([
        world.subject_index(),
        world.namesake_index(),
        world.colleague_index(),
    ]);
    (0..world.people).filter(|index| !cast.contains(index)).collect()
}

/// Reads both systems, and meanwhile has cases done: of each lane the same person is restricted and released again and again; one case erases.
async fn work(home: &Home, company: &Company, seed: u64, cases: u32, done: &AtomicU32) -> Vec<Course> {
    let api = Api::new(&home.url);
    for system in ["website", "shop"] {
        while api.scan(system).await.is_err() {}
    }
    let bystanders = lifted(company).into_iter();
    let others = bystanders.map(|index| company.world.person(index).email);
    let people = std::iter::once(company.world.colleague().email).chain(others);
    let lanes = people.take(SIDE_BY_SIDE).enumerate().map(|(lane, email)| {
        let api = Api::new(&home.url);
        async move {
            let mut courses = Vec::new();
            for number in (lane..cases as usize - 1).step_by(SIDE_BY_SIDE) {
                let mut course = Course::new("restriction", &email, format!("brokers-{seed}-{number}"));
                end(&api, &mut course).await;
                done.fetch_add(1, Ordering::Relaxed);
                courses.push(course);
            }
            courses
        }
    });
    let lanes = futures::future::join_all(lanes).await;
    let mut courses: Vec<Course> = lanes.into_iter().flatten().collect();
    let mut erasure = Course::new(
        "erasure",
        &company.world.subject().email,
        format!("brokers-{seed}-erasure"),
    );
    end(&api, &mut erasure).await;
    courses.push(erasure);
    courses
}

async fn end(api: &Api, course: &mut Course) {
    while !course.done {
        // It is asked again, whatever could not be told.
        let _ = course.go_on(api).await;
        tokio::task::yield_now().await;
    }
}

/// Kills a broker and starts it again until `stop`; how often. In the end all run.
async fn break_brokers(
    cluster: Cluster,
    seed: u64,
    done: Arc<AtomicU32>,
    mut stop: watch::Receiver<bool>,
) -> (Cluster, u32) {
    let (mut random, mut kills) = (StdRng::seed_from_u64(seed), 0);
    let began = Instant::now();
    while !*stop.borrow() {
        pause(random.random_range(PAUSE_MS), &mut stop).await;
        let broker = random.random_range(1..=3);
        cluster.kill(broker);
        kills += 1;
        let killed = began.elapsed();
        pause(random.random_range(PAUSE_MS), &mut stop).await;
        let away = began.elapsed();
        cluster.start();
        println!(
            "kill {kills} of broker {broker} at {killed:.1?}, started again at {away:.1?}, there at {:.1?}: {} cases done",
            began.elapsed(),
            done.load(Ordering::Relaxed)
        );
    }
    (cluster, kills)
}

/// Waits, but no longer than until `stop`.
async fn pause(ms: u64, stop: &mut watch::Receiver<bool>) {
    // That the time runs out is how it mostly ends.
    let _ = tokio::time::timeout(Duration::from_millis(ms), stop.wait_for(|stop| *stop)).await;
}
