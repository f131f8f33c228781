//! One of two conductors hangs in the middle of cases. The other carries them to their end, whoever watches sees them wait until then, and when
//! the first one goes on both share the cases again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lethe_journeys::server::Server;

use crate::conducting::{
    GO_ON_TIME_MAX, LOOK_EVERY, answered, approve, beside, bystanders, carried, carried_to_its_end,
    completed, open_in,
};
use crate::office::Office;

/// Until the cases of a conductor that hangs are carried by another: it is missed (after 10 s, or 30 s where its membership lives on), its locks
/// are waited for (15 s), and all histories are read.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(75);

/// An age at which nobody takes what waits for work under way.
const OLD_S: f64 = 5.0;

/// How often conductors may become the writer of a partition in this course: at the start, for each move of it, and where one finds out late.
const EPOCHS_MAX: u64 = 10;

/// How long the oldest command waits, as a conductor tells.
fn oldest_s(metrics: &str, process: &str) -> Option<f64> {
    let labels = [
        "lethe_log_oldest_unread_age_seconds".to_owned(),
        format!("process=\"{process}\""),
        "reader=\"conductor\"".to_owned(),
        "stream=\"commands\"".to_owned(),
    ];
    let line = metrics
        .lines()
        .find(|line| labels.iter().all(|label| line.contains(label)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Waits until a conductor tells that a command waits for long.
async fn is_seen_to_wait(office: &Office, process: &str) {
    let seen = async {
        loop {
            let metrics = office.api.get("/metrics").await.unwrap();
            let oldest = oldest_s(&String::from_utf8(metrics).unwrap(), process);
            if oldest.is_some_and(|oldest| oldest > OLD_S) {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(GO_ON_TIME_MAX, seen)
        .await
        .expect("a command that nobody works off shows");
}

/// Where conductors write down how far they are.
fn cases(folder: &Path) -> PathBuf {
    folder.join("lethe/roles/cases")
}

/// The epoch of each partition's writer.
fn epochs(folder: &Path) -> BTreeMap<u64, u64> {
    let mut epochs = BTreeMap::new();
    for file in std::fs::read_dir(cases(folder)).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let (partition, epoch) = name.split_once('.').unwrap();
        if let Ok(epoch) = epoch.parse::<u64>() {
            let newest = epochs.entry(partition.parse().unwrap()).or_insert(epoch);
            *newest = epoch.max(*newest);
        }
    }
    epochs
}

/// How a conductor hangs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hang {
    /// `kill -STOP`: nothing of it goes on.
    Process,
    /// The folder where it writes down how far it is does not answer; its membership of the group lives on.
    Disk,
}

impl Hang {
    /// What stands in for a file of the folder that takes no write: one for each partition.
    fn pipes(office: &Office, partitions: &BTreeSet<u64>) -> Vec<PathBuf> {
        let folder = cases(office.folder.path());
        let epochs = epochs(office.folder.path());
        let pipe = |partition: &u64| folder.join(format!("{partition}.{}.new", epochs[partition]));
        partitions.iter().map(pipe).collect()
    }

    /// Has a conductor hang that carries these partitions; gives what is to be read so that it goes on.
    fn begin(self, office: &Office, server: &Server, partitions: &BTreeSet<u64>) -> Vec<PathBuf> {
        if self == Self::Process {
            server.hang();
            return Vec::new();
        }
        let pipes = Self::pipes(office, partitions);
        let made = Command::new("mkfifo").args(&pipes).status().unwrap();
        assert!(made.success());
        pipes
    }

    async fn end(self, server: &Server, pipes: Vec<PathBuf>) {
        if self == Self::Process {
            return server.wake();
        }
        let reading = tokio::task::spawn_blocking(move || {
            for pipe in pipes {
                std::fs::read(pipe).unwrap();
            }
        });
        tokio::time::timeout(GO_ON_TIME_MAX, reading)
            .await
            .expect("the conductor hung in the middle of a write")
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conductor_that_is_stopped_loses_its_cases_to_the_other_and_shares_them_again_when_it_goes_on() {
    hangs_and_goes_on(Hang::Process, 53).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conductor_whose_disk_does_not_answer_loses_its_cases_to_the_other_and_shares_them_again() {
    hangs_and_goes_on(Hang::Disk, 59).await;
}

async fn hangs_and_goes_on(hang: Hang, seed: u64) {
    let Some(office) = Office::found("hung", seed).await else {
        return;
    };
    let (api, company) = (&office.api, &office.company);
    let (others, first, second) = office.with_two_conductors().await;
    let shares = carried(&office, &["conductor-1", "conductor-2"]).await;
    let subject = company.world.subject().email;
    let erasure = open_in(api, "erasure", &subject, &shares["conductor-1"]).await;
    answered(async || api.case_in(&erasure, "awaiting_approval").await).await;

    let began = Instant::now();
    let pipes = hang.begin(&office, &first, &shares["conductor-1"]);
    let (restrictions, (), ()) = tokio::join!(
        beside(&office),
        async {
            approve(api, &erasure).await;
            println!("a command was worked off after {:?}", began.elapsed());
            assert!(began.elapsed() < TAKEN_OVER_MAX, "{}", office.home.last_words());
        },
        is_seen_to_wait(&office, "conductor-2"),
    );
    completed(api, &erasure).await;
    let mut courses = Vec::new();
    for course in restrictions {
        courses.push(course.await.unwrap());
    }
    println!("all cases were completed after {:?}", began.elapsed());

    hang.end(&first, pipes).await;
    let shares = carried(&office, &["conductor-1", "conductor-2"]).await;
    let (colleague, namesake) = (company.world.colleague(), company.world.namesake());
    let mut ids = vec![
        erasure,
        carried_to_its_end(&office, &colleague.email, &shares["conductor-1"]).await,
        carried_to_its_end(&office, &namesake.email, &shares["conductor-2"]).await,
    ];
    let before = epochs(office.folder.path());
    println!("{before:?}");
    for (conductor, (_, email)) in ["conductor-1", "conductor-2"].iter().zip(bystanders(company)) {
        ids.push(carried_to_its_end(&office, &email, &shares[conductor]).await);
    }
    assert_eq!(
        before,
        epochs(office.folder.path()),
        "nobody takes anything back any more"
    );
    assert!(before.values().all(|epoch| *epoch <= EPOCHS_MAX), "{before:?}");

    office.verify(&courses).await;
    office.verify_cases(ids.iter().map(String::as_str)).await;
    // Whoever is asked about lineage goes last.
    office.stop([first, second].into_iter().chain(others.into_iter().rev()));
    let lifted = bystanders(company).into_iter().map(|(index, _)| index);
    let cast = [company.world.colleague_index(), company.world.namesake_index()];
    company.audit_after(lifted.chain(cast)).await;
    company.instructions().await;
}
