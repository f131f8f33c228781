//! Lineage partitions move between processes while people are searched for and cases run: every question is answered right, and the rows are
//! those of one process that never moved.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, Server, free_port, kafka, program};
use serde_json::Value;
use tokio::sync::watch;

/// How often is looked whether the partitions are where they belong.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long partitions may take to move: a group that changes, and some thousand rows that are folded again.
const MOVE_TIME_MAX: Duration = Duration::from_secs(120);

/// Partitions by the process that answers for each; nothing where one is behind or nobody answers.
async fn places(api: &Api) -> Option<BTreeMap<u64, String>> {
    let list: Value = serde_json::from_slice(&api.get("/v1/partitions").await.ok()?).unwrap();
    let partitions = list["partitions"].as_array().unwrap().iter();
    partitions
        .map(|one| {
            (one["behind"] == 0).then(|| {
                let process = one["process"].as_str().unwrap_or_default();
                (one["partition"].as_u64().unwrap(), process.to_owned())
            })
        })
        .collect()
}

/// Waits until exactly these processes share the partitions, with no more than one of difference.
async fn shared_by(api: &Api, processes: &[&str], home: &Home) -> BTreeMap<u64, String> {
    let wanted: BTreeSet<&str> = processes.iter().copied().collect();
    let waited = tokio::time::timeout(MOVE_TIME_MAX, async {
        loop {
            if let Some(places) = places(api).await {
                let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
                for process in places.values() {
                    *shares.entry(process).or_default() += 1;
                }
                let fair = shares.values().max().unwrap() - shares.values().min().unwrap() <= 1;
                if fair && shares.keys().copied().collect::<BTreeSet<_>>() == wanted {
                    return places;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    match waited.await {
        Ok(places) => places,
        Err(_) => panic!(
            "the partitions do not come to {processes:?}:\n{}",
            home.last_words()
        ),
    }
}

async fn start(home: &Home, name: &str, roles: &[&str]) -> Server {
    let mut server = home.start_as(name, roles);
    assert!(server.listens().await, "{name}: {}", home.last_words());
    server
}

/// Restrictions of one person, each lifted, until told to stop; the number of those that are done.
async fn work(url: String, email: String, stop: watch::Receiver<bool>) -> usize {
    let api = Api::new(&url);
    let mut done = 0;
    while !*stop.borrow() {
        let mut course = Course::new("restriction", &email, format!("moving-{done}"));
        let began = Instant::now();
        while !course.done {
            // What a move makes unknown is asked again.
            let _ = course.go_on(&api).await;
        }
        done += 1;
        println!("case {done} in {:?}", began.elapsed());
    }
    done
}

/// Reads the list of cases all the while, which no move may hold up; how often.
async fn read(url: String, mut stop: watch::Receiver<bool>) -> u32 {
    let (api, mut reads) = (Api::new(&url), 0);
    while !*stop.borrow() {
        api.get("/v1/cases")
            .await
            .expect("the list of cases is answered throughout");
        reads += 1;
        let _ = tokio::time::timeout(LOOK_EVERY, stop.changed()).await;
    }
    reads
}

fn folders(lethe: &Path, process: &str) -> BTreeSet<u64> {
    let lineage = lethe.join("processes").join(process).join("lineage");
    let entries = std::fs::read_dir(lineage).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().parse().unwrap())
        .collect()
}

async fn folders_are(lethe: &Path, process: &str, places: &BTreeMap<u64, String>) {
    let wanted: BTreeSet<u64> = places
        .iter()
        .filter(|(_, owner)| *owner == process)
        .map(|(partition, _)| *partition)
        .collect();
    let waited = tokio::time::timeout(MOVE_TIME_MAX, async {
        while folders(lethe, process) != wanted {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    assert!(
        waited.await.is_ok(),
        "{process} keeps {:?}, not {wanted:?}",
        folders(lethe, process)
    );
}

/// A server on a topic prefix of its own.
fn home(company: &Company, folder: &Path, kafka: &str) -> Home {
    let port = free_port();
    std::fs::create_dir(folder.join("lethe")).unwrap();
    Home {
        program: program(),
        config: company.configure(port, &format!("feed_every_ms = 200\n{kafka}")),
        output: folder.join("output"),
        url: format!("http://127.0.0.1:{port}"),
    }
}

/// Three owners instead of two, and then one.
async fn move_all(api: &Api, home: &Home, lethe: &Path, second: Server) {
    let before = shared_by(api, &["lineage-1", "lineage-2"], home).await;
    let third = home.start_as("lineage-3", &["lineage"]);
    let three = shared_by(api, &["lineage-1", "lineage-2", "lineage-3"], home).await;
    let moved: Vec<_> = three
        .iter()
        .filter(|(number, process)| before[number] != **process)
        .collect();
    assert!(
        moved.iter().all(|(_, process)| *process == "lineage-3"),
        "only what the newcomer gets moves: {moved:?}"
    );
    for process in ["lineage-1", "lineage-2", "lineage-3"] {
        folders_are(lethe, process, &three).await;
    }
    let stopped = third.stop().success() && second.stop().success();
    assert!(stopped, "{}", home.last_words());
    let one = shared_by(api, &["lineage-1"], home).await;
    folders_are(lethe, "lineage-1", &one).await;
}

/// The hash of a fold of the whole log by one process.
fn replayed(home: &Home, into: &Path) -> String {
    let replayed = home.run(&["replay", "--into", into.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&replayed.stderr);
    assert!(replayed.status.success(), "{said}");
    String::from_utf8(replayed.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_become_three_and_one_under_load_with_the_rows_of_one_that_never_moved() {
    let Some(kafka) = kafka("moving") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), 31, PEOPLE, LINES).await;
    let home = home(&company, folder.path(), &kafka);
    let api = Api::new(&home.url);
    let (first, second) = (
        home.start_as("lineage-1", &["lineage"]),
        home.start_as("lineage-2", &["lineage"]),
    );
    let connectors = start(&home, "connectors", &["connectors"]).await;
    let core = start(&home, "core", &["conductor", "ledger"]).await;
    let gateway = start(&home, "gateway", &["gateway"]).await;
    for system in ["shop", "website"] {
        api.scan(system).await.unwrap();
    }
    let (stop, stopped) = watch::channel(false);
    let email = company.world.colleague().email;
    let cases = tokio::spawn(work(home.url.clone(), email, stopped.clone()));
    let reads = tokio::spawn(read(home.url.clone(), stopped));

    move_all(&api, &home, &folder.path().join("lethe"), second).await;

    stop.send_replace(true);
    let (done, reads) = (cases.await.unwrap(), reads.await.unwrap());
    println!("{done} cases and {reads} reads while partitions moved");
    assert!(done > 0);
    let live = api.state_hash().await.unwrap();
    for server in [gateway, core, connectors, first] {
        assert!(server.stop().success(), "{}", home.last_words());
    }
    assert_eq!(live, replayed(&home, &folder.path().join("replayed")));
}
