//! The only broker is away for longer than every time limit of a client, while cases run: the processes outlive it, say so, and go on.

use std::process::Command;
use std::time::{Duration, Instant};

use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::Api;
use lethe_journeys::server::{Home, SEVERAL, free_port, program};

use crate::cluster::Cluster;
use crate::{Operator, Processes, all_ends_well, kafka, seed};

/// How long the broker is away: an append is given up after a minute, a read after 30 s, and becoming the writer after 30 s.
const AWAY_S: f64 = 90.0;

/// How long cases may run until the broker goes: by then the first one is under way.
const BEFORE: Duration = Duration::from_secs(12);

/// How often a broker is frozen in the soak: of a hundred clients few are lost by one time that nobody helps.
const TIMES_SOAK: u32 = 8;

/// How often is looked at what cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long everything may take once the broker is back: it first ends the transactions that it finds, which may take a minute.
const REST_TIME_MAX: Duration = Duration::from_secs(300);

/// How long all processes may take to find that the broker is back: one of them may have begun a connection that nobody took, which it gives up
/// after 10 s; whoever becomes a writer or a member again asks twice.
const BACK_TIME_MAX: Duration = Duration::from_secs(30);

/// How the broker goes.
enum Going {
    /// `kill -9`.
    Killed,
    /// `kill -STOP`: its connections stay, and nobody answers on them.
    Frozen,
}

impl Going {
    fn goes(&self, cluster: &Cluster) {
        match self {
            Self::Killed => cluster.kill(1),
            Self::Frozen => cluster.signal("-STOP"),
        }
    }

    fn comes_back(&self, cluster: &Cluster) {
        match self {
            Self::Killed => drop(cluster.start()),
            Self::Frozen => cluster.signal("-CONT"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_outlive_a_broker_that_is_frozen_for_longer_than_every_time_limit() {
    if kafka("kill").is_some() {
        let is_soak = std::env::var_os("LETHE_TEST_SOAK").is_some();
        the_broker_goes(&Going::Frozen, if is_soak { TIMES_SOAK } else { 1 }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_outlive_a_broker_that_is_away_for_longer_than_every_time_limit() {
    if std::env::var_os("LETHE_TEST_SOAK").is_none() {
        println!("left to the soak: LETHE_TEST_SOAK is not set");
    } else if kafka("kill").is_some() {
        the_broker_goes(&Going::Killed, 1).await;
    }
}

async fn the_broker_goes(going: &Going, times: u32) {
    let seed = seed();
    println!("SEED={seed}");
    let cluster = Cluster::of(1);
    let bootstrap = cluster.start();
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), seed, PEOPLE, LINES).await;
    let port = free_port();
    let log =
        format!("kafka = {{ bootstrap = \"{bootstrap}\", replication_factor = 1, instance = \"one\" }}");
    let home = Home {
        program: program(),
        config: company.configure(port, &format!("compact_after_s = 2\nfeed_every_ms = 200\n{log}")),
        output: folder.path().join("lethe").join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    std::fs::create_dir(folder.path().join("lethe")).unwrap();
    let mut operator = Operator::new(&home.url, seed, &company);
    let mut processes = Processes::new(&home, SEVERAL);
    processes.start();
    processes.are_ready().await;
    for _ in 0..times {
        // The time runs out on purpose: the broker goes in the middle of the work.
        let _ = tokio::time::timeout(BEFORE, operator.work_with(&mut processes, false)).await;
        goes_and_comes_back((going, &cluster), &home, (&mut operator, &mut processes)).await;
    }
    all_ends_well(
        &mut operator,
        &company,
        &home,
        (folder.path(), REST_TIME_MAX),
        processes,
    )
    .await;
}

async fn goes_and_comes_back(
    (going, cluster): (&Going, &Cluster),
    home: &Home,
    (operator, processes): (&mut Operator, &mut Processes<'_>),
) {
    going.goes(cluster);
    let silent = silent_for(&home.url, AWAY_S);
    let working = operator.work_with(processes, false);
    tokio::select! {
        () = silent => {}
        () = working => panic!("work that needs the log ended without it"),
    }
    processes.none_ended();
    let (status, words) = ready(&home.url).await;
    assert!(
        status == 503 && words.contains("has not answered for"),
        "{status} {words}"
    );
    nobody_claims_to_know_the_cases(home).await;

    going.comes_back(cluster);
    let (back, hears) = (Instant::now(), is_ready_again(home));
    tokio::time::timeout(BACK_TIME_MAX, hears)
        .await
        .unwrap_or_else(|_| panic!("the broker is back, and not everybody: {}", home.last_words()));
    println!(
        "everybody is ready {:?} after the broker was back",
        back.elapsed()
    );
}

/// Returns once the server has been without its log for so many seconds.
async fn silent_for(url: &str, seconds: f64) {
    let api = Api::new(url);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let Ok(text) = api.get("/metrics").await else {
            continue;
        };
        let text = String::from_utf8(text).unwrap();
        let silent = text
            .lines()
            .find_map(|line| line.strip_prefix("lethe_log_silent_seconds "))
            .expect("the metric is there");
        if silent.parse::<f64>().unwrap() >= seconds {
            return;
        }
    }
}

/// Returns once every process is heard of and nothing is in the way of work.
async fn is_ready_again(home: &Home) {
    while ready(&home.url).await.0 != 200 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a server knows that is cut off from its log is shown, and is no answer; nor is it said that what it does not know is not there.
async fn nobody_claims_to_know_the_cases(home: &Home) {
    let (status, words) = Api::new(&home.url)
        .any("/v1/cases/case-0123456789abcdef")
        .await
        .unwrap();
    assert!(
        status == 503 && words.contains("node-cases-not-read"),
        "{status} {words}"
    );
    let list = Command::new(&home.program)
        .args(["case", "list", "--server", &home.url])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&list.stderr);
    assert!(
        list.status.code() == Some(2) && said.contains("cases are shown as they were"),
        "{said}"
    );
}

/// What the server answers to whoever asks whether it can take work, once it answers.
async fn ready(url: &str) -> (u16, String) {
    let api = Api::new(url);
    api.any("/readyz").await.expect("the server itself answers")
}
