//! One broker of three is killed and started again, over and over, while systems are read and cases run.
//!
//! `LETHE_TEST_SOAK=1` reads more than a million records and runs a thousand cases.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lethe_journeys::company::{Company, LINES};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, SEVERAL, free_port, program};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::{Processes, all_is_in_order, every_case_is_completed_and_certified, kafka, seed};

/// How much there is to do.
struct Size {
    people: u32,
    cases: usize,
    /// How long everything may take.
    time_max: Duration,
}

/// A person has about six records.
const NORMAL: Size = Size {
    people: 200,
    cases: 12,
    time_max: Duration::from_secs(300),
};

const SOAK: Size = Size {
    people: 200_000,
    cases: 1_000,
    time_max: Duration::from_hours(2),
};

/// Cases that run side by side, each about somebody else.
const SIDE_BY_SIDE: usize = 4;

/// How long a broker is left alone before the next one is killed, and how long it stays away, in milliseconds: from before its absence is
/// noticed to after others lead in its place.
const PAUSE_MS: std::ops::Range<u64> = 1_000..12_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_three_may_be_killed_at_any_moment() {
    if kafka("kill").is_none() {
        return;
    }
    let size = if std::env::var_os("LETHE_TEST_SOAK").is_some() {
        SOAK
    } else {
        NORMAL
    };
    let seed = seed();
    println!("SEED={seed}");
    let (cluster, folder) = (Cluster::of(3), tempfile::tempdir().unwrap());
    let bootstrap = cluster.start();
    let company = Company::found(folder.path(), seed, size.people, LINES).await;
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
    let breaking = tokio::spawn(break_brokers(cluster, seed, stopped));
    let courses = tokio::time::timeout(size.time_max, work(&home, &company, seed, &size)).await;
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
    every_case_is_completed_and_certified(&Api::new(&home.url), &courses, folder.path()).await;
    processes.stop();
    let lifted = lifted(&company).into_iter().take(SIDE_BY_SIDE - 1);
    let lifted = lifted.chain([company.world.colleague_index()]);
    all_is_in_order(&courses, &company, lifted, &home, folder.path()).await;
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
async fn work(home: &Home, company: &Company, seed: u64, size: &Size) -> Vec<Course> {
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
            for number in (lane..size.cases.saturating_sub(1)).step_by(SIDE_BY_SIDE) {
                let mut course = Course::new("restriction", &email, format!("brokers-{seed}-{number}"));
                end(&api, &mut course).await;
                courses.push(course);
            }
            courses
        }
    });
    let done = futures::future::join_all(lanes).await;
    let mut courses: Vec<Course> = done.into_iter().flatten().collect();
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
async fn break_brokers(cluster: Cluster, seed: u64, mut stop: watch::Receiver<bool>) -> (Cluster, u32) {
    let (mut random, mut kills) = (StdRng::seed_from_u64(seed), 0);
    while !*stop.borrow() {
        pause(random.random_range(PAUSE_MS), &mut stop).await;
        cluster.kill(random.random_range(1..=3));
        kills += 1;
        pause(random.random_range(PAUSE_MS), &mut stop).await;
        cluster.start();
    }
    (cluster, kills)
}

/// Waits, but no longer than until `stop`.
async fn pause(ms: u64, stop: &mut watch::Receiver<bool>) {
    // That the time runs out is how it mostly ends.
    let _ = tokio::time::timeout(Duration::from_millis(ms), stop.wait_for(|stop| *stop)).await;
}
