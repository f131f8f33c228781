//! The real server is killed at random moments while cases run, and nothing that it accepted is lost or done twice.
//!
//! `SEED=n` plays the same moments again; `LETHE_TEST_SOAK=1` kills 200 times.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod away;
mod brokers;
mod cluster;

use std::path::Path;
use std::time::Duration;

use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Away, Course};
use lethe_journeys::server::{Home, SEVERAL, Server, Shape, free_port, kafka, program};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Kills in the normal run: it has to stay below three minutes.
const KILLS: u32 = 12;

/// Kills in the soak.
const KILLS_SOAK: u32 = 200;

/// Latest moment of a kill after the start, in milliseconds: some hit the start itself, some hit work well under way.
const KILL_AFTER_MS_MAX: u64 = 4_000;

/// The same on Kafka, where a start reads everything over the wire.
const KILL_AFTER_MS_MAX_KAFKA: u64 = 8_000;

/// How long everything that is left may take once nobody kills any more.
const REST_TIME_MAX: Duration = Duration::from_secs(120);

struct Operator {
    api: Api,
    seed: u64,
    person_restricted: String,
    person_erased: String,
    scanned: Vec<&'static str>,
    courses: Vec<Course>,
}

impl Operator {
    fn new(url: &str, seed: u64, company: &Company) -> Self {
        Self {
            api: Api::new(url),
            seed,
            person_restricted: company.world.colleague().email,
            person_erased: company.world.subject().email,
            scanned: Vec::new(),
            courses: Vec::new(),
        }
    }

    /// Works until `enough`: first restriction, lift and erasure, then restrictions of the same person again and again.
    async fn work(&mut self, enough: bool) -> Result<(), Away> {
        for system in ["shop", "website"] {
            if !self.scanned.contains(&system) {
                self.api.scan(system).await?;
                self.scanned.push(system);
            }
        }
        loop {
            let open = self.courses.iter_mut().find(|course| !course.done);
            if let Some(course) = open {
                course.go_on(&self.api).await?;
            } else if enough && self.courses.len() >= 2 {
                return Ok(());
            } else {
                let number = self.courses.len();
                let key = format!("kill-{}-{number}", self.seed);
                self.courses.push(match number {
                    1 => Course::new("erasure", &self.person_erased, key),
                    _ => Course::new("restriction", &self.person_restricted, key),
                });
            }
        }
    }

    /// Works with the running processes until the time is over. One that ends by itself ends the test.
    async fn work_with(&mut self, processes: &mut Processes<'_>, enough: bool) {
        processes.are_ready().await;
        while self.work(enough).await.is_err() {
            processes.none_ended();
            tokio::task::yield_now().await;
        }
    }
}

/// Everything in one process.
const ONE: Shape = &[("", &[])];

/// The processes of one server.
struct Processes<'a> {
    home: &'a Home,
    shape: Shape,
    running: Vec<Option<Server>>,
}

impl<'a> Processes<'a> {
    fn new(home: &'a Home, shape: Shape) -> Self {
        Self {
            home,
            shape,
            running: shape.iter().map(|_| None).collect(),
        }
    }

    /// Starts those that do not run.
    fn start(&mut self) {
        for ((name, roles), running) in self.shape.iter().zip(&mut self.running) {
            if running.is_none() {
                *running = Some(self.home.start_as(name, roles));
            }
        }
    }

    async fn are_ready(&mut self) {
        for server in self.running.iter_mut().flatten() {
            assert!(
                server.listens().await,
                "the server does not start:\n{}",
                self.home.last_words()
            );
        }
    }

    fn none_ended(&mut self) {
        for server in self.running.iter_mut().flatten() {
            assert!(
                !server.ended(),
                "the server ended by itself:\n{}",
                self.home.last_words()
            );
        }
    }

    /// Kills one of them; its name.
    fn kill_one(&mut self, random: &mut StdRng) -> &'static str {
        let number = random.random_range(0..self.running.len());
        self.running[number].take().unwrap().kill();
        self.shape[number].0
    }

    fn stop(self) {
        for server in self.running.into_iter().flatten() {
            assert!(
                server.stop().success(),
                "the server did not stop in order:\n{}",
                self.home.last_words()
            );
        }
    }
}

fn seed() -> u64 {
    std::env::var("SEED")
        .ok()
        .map_or_else(rand::random::<u64>, |seed| {
            seed.parse().expect("SEED is a number")
        })
}

fn kills() -> u32 {
    if std::env::var_os("LETHE_TEST_SOAK").is_some() {
        KILLS_SOAK
    } else {
        KILLS
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_moment_loses_no_case_and_does_nothing_twice() {
    killed("", KILL_AFTER_MS_MAX, ONE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_a_server_killed_at_any_moment_loses_no_case_and_does_nothing_twice() {
    if let Some(kafka) = kafka("kill") {
        killed(&kafka, KILL_AFTER_MS_MAX_KAFKA, ONE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_processes_any_one_may_be_killed_at_any_moment() {
    if let Some(kafka) = kafka("kill") {
        killed(&kafka, KILL_AFTER_MS_MAX_KAFKA, SEVERAL).await;
    }
}

async fn killed(log: &str, kill_after_ms_max: u64, shape: Shape) {
    let seed = seed();
    println!("SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), seed, PEOPLE, LINES).await;
    let port = free_port();
    let home = Home {
        program: program(),
        // Compaction follows at once, so that kills hit it as well.
        config: company.configure(port, &format!("compact_after_s = 2\nfeed_every_ms = 200\n{log}")),
        output: folder.path().join("lethe").join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    std::fs::create_dir(folder.path().join("lethe")).unwrap();
    let mut operator = Operator::new(&home.url, seed, &company);
    let mut random = StdRng::seed_from_u64(seed);
    let mut processes = Processes::new(&home, shape);
    for number in 1..=kills() {
        let moment = Duration::from_millis(random.random_range(0..kill_after_ms_max));
        processes.start();
        // The time runs out on purpose: the work never ends before it.
        let _ = tokio::time::timeout(moment, operator.work_with(&mut processes, false)).await;
        let name = processes.kill_one(&mut random);
        let done = operator.courses.iter().filter(|course| course.done).count();
        println!(
            "kill {number} {name} after {moment:?}: {done} of {} cases done",
            operator.courses.len()
        );
    }
    processes.start();
    all_ends_well(
        &mut operator,
        &company,
        &home,
        (folder.path(), REST_TIME_MAX),
        processes,
    )
    .await;
}

/// Works on until every case has ended, within a time; then all is well.
async fn all_ends_well(
    operator: &mut Operator,
    company: &Company,
    home: &Home,
    (folder, time_max): (&Path, Duration),
    mut processes: Processes<'_>,
) {
    let rest = tokio::time::timeout(time_max, operator.work_with(&mut processes, true)).await;
    assert!(
        rest.is_ok(),
        "the cases do not end: {:?}\n{}",
        operator.courses.last(),
        home.last_words()
    );
    all_is_well(operator, company, home, folder, processes).await;
}

/// Every case is completed once, nothing was done twice, nothing personal stands anywhere, and the files are in order.
async fn all_is_well(
    operator: &Operator,
    company: &Company,
    home: &Home,
    folder: &Path,
    processes: Processes<'_>,
) {
    every_case_is_completed_and_certified(&operator.api, &operator.courses, folder).await;
    processes.stop();
    let lifted = [company.world.colleague_index()];
    all_is_in_order(&operator.courses, company, lifted, home, folder).await;
}

/// What is to be seen once no process runs any more; the state hash of the log folded anew.
async fn all_is_in_order(
    courses: &[Course],
    company: &Company,
    lifted: impl IntoIterator<Item = u32>,
    home: &Home,
    folder: &Path,
) -> String {
    let steps: u64 = courses.iter().map(|course| course.steps).sum();
    assert_eq!(
        company.instructions().await,
        steps,
        "instructions that had effect, and steps of the plans"
    );
    company.audit_after(lifted).await;
    assert!(
        !company.leaks(&folder.join("logs")).is_empty() && !company.leaks(&folder.join("shop.db")).is_empty()
    );
    assert_eq!(
        company.leaks(&folder.join("lethe")),
        Vec::<std::path::PathBuf>::new(),
        "files with a person's values"
    );
    the_files_are_in_order(home, folder)
}

async fn every_case_is_completed_and_certified(api: &Api, courses: &[Course], folder: &Path) {
    let policy = folder.join("policy");
    std::fs::write(&policy, api.get("/v1/policy").await.unwrap()).unwrap();
    for course in courses {
        let id = course.id.as_deref().unwrap();
        let case = api.case(id).await.unwrap();
        assert_eq!(case["state"], "completed", "{case:#}");
        let certificate = folder.join(format!("certificate-{id}"));
        std::fs::write(
            &certificate,
            api.get(&format!("/v1/cases/{id}/certificate")).await.unwrap(),
        )
        .unwrap();
        let mut page = Vec::new();
        let code = lethe_verify::show(&certificate, Some(&policy), false, &mut page);
        assert_eq!(code, 0, "{}", String::from_utf8_lossy(&page));
    }
    let all: serde_json::Value = serde_json::from_slice(&api.get("/v1/cases").await.unwrap()).unwrap();
    assert_eq!(
        all["total"],
        courses.len(),
        "a command that was sent twice opened two cases"
    );
}

/// The doctor finds nothing, and the log folded anew is what the server's stores hold.
fn the_files_are_in_order(home: &Home, folder: &Path) -> String {
    let doctor = home.run(&["doctor", "--json"]);
    let seen = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        doctor.status.success(),
        "{seen}\n{}",
        String::from_utf8_lossy(&doctor.stderr)
    );
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    let lineage = seen
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["what"] == "lineage")
        .unwrap();
    let replayed = home.run(&["replay", "--into", folder.join("replayed").to_str().unwrap()]);
    assert!(
        replayed.status.success(),
        "{}",
        String::from_utf8_lossy(&replayed.stderr)
    );
    let data = folder.join("lethe");
    assert!(
        !data.join("processes").exists() || !data.join("lineage").exists(),
        "a copy of the rows that nobody keeps current"
    );
    let hash = String::from_utf8(replayed.stdout).unwrap().trim().to_owned();
    assert_eq!(lineage["detail"], format!("state hash {hash}"));
    hash
}
