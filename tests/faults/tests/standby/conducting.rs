//! Two conductors share the cases. Cases of both that meet on one record wait for each other, and one conductor carries all when the other is
//! killed, until another comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::{Duration, Instant};

use lethe_journeys::company::Company;
use lethe_journeys::course::{Api, Away, Course};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::office::{Office, restrict_and_lift};

/// How often is looked at what cannot be waited for.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long partitions may take to move: a group that misses a member, and a word of each process every ten seconds.
const MOVE_TIME_MAX: Duration = Duration::from_secs(90);

/// How long one answer of a case may take although its conductor was killed.
pub(crate) const GO_ON_TIME_MAX: Duration = Duration::from_secs(120);

/// Restrictions that are in the middle when the conductor is killed.
const CASES_BESIDE: usize = 6;

/// Partitions of the case histories by the conductor that carries them: each follows what it does not carry. Waits until these two share all.
pub(crate) async fn carried(
    office: &Office,
    conductors: &[&'static str; 2],
) -> BTreeMap<&'static str, BTreeSet<u64>> {
    let waited = tokio::time::timeout(MOVE_TIME_MAX, async {
        loop {
            let metrics = office.api.get("/metrics").await.unwrap();
            let followed = followed(&String::from_utf8(metrics).unwrap());
            let of = |name: &str| followed.get(name).cloned().unwrap_or_default();
            let [first, second] = conductors.map(of);
            // Each follows what the other carries.
            if first.len() == 2 && second.len() == 2 && first.is_disjoint(&second) {
                return [(conductors[0], second), (conductors[1], first)].into();
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    match waited.await {
        Ok(carried) => carried,
        Err(_) => panic!("the cases are not shared:\n{}", office.home.last_words()),
    }
}

/// What each conductor follows, as its lags tell.
fn followed(metrics: &str) -> BTreeMap<String, BTreeSet<u64>> {
    let mut followed: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for line in metrics.lines().filter(|line| {
        line.starts_with("lethe_log_lag_entries")
            && line.contains("reader=\"conductor\"")
            && line.contains("stream=\"cases\"")
    }) {
        let label = |name: &str| {
            let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0
        };
        let partition = label("partition").parse().unwrap();
        followed
            .entry(label("process").to_owned())
            .or_default()
            .insert(partition);
    }
    followed
}

fn partition_of(case: &str) -> u64 {
    u64::from_str_radix(case.strip_prefix("case-").unwrap(), 16).unwrap() % 4
}

/// Asks again until there is an answer.
pub(crate) async fn answered<T>(ask: impl AsyncFn() -> Result<T, Away>) -> T {
    let asking = async {
        loop {
            if let Ok(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(GO_ON_TIME_MAX, asking)
        .await
        .expect("the case goes on")
}

/// Opens a case in one of these partitions; those that came to lie in another are taken back.
pub(crate) async fn open_in(api: &Api, right: &str, email: &str, partitions: &BTreeSet<u64>) -> String {
    for number in 0.. {
        let ask = json!({ "right": right, "identifiers": [{ "kind": "email", "value": email }] });
        let key = format!("{right}-{email}-{number}");
        let accepted = answered(async || api.post("/v1/cases", &key, &ask).await).await;
        let case = accepted["case"].as_str().unwrap().to_owned();
        if partitions.contains(&partition_of(&case)) {
            return case;
        }
        let path = format!("/v1/cases/{case}/withdraw");
        answered(async || api.post(&path, &format!("{key}-withdraw"), &json!({})).await).await;
    }
    unreachable!()
}

/// How many cases there are.
async fn total(api: &Api) -> Result<u64, Away> {
    let page: Value = serde_json::from_slice(&api.get("/v1/cases").await?).unwrap();
    Ok(page["total"].as_u64().unwrap())
}

pub(crate) async fn approve(api: &Api, case: &str) {
    let planned = answered(async || api.case_in(case, "awaiting_approval").await).await;
    let digest = planned["plan_digest"].as_str().unwrap();
    let path = format!("/v1/cases/{case}/approve");
    answered(async || {
        api.post(
            &path,
            &format!("approve-{digest}"),
            &json!({ "plan_digest": digest }),
        )
        .await
    })
    .await;
}

async fn lift(api: &Api, case: &str) {
    let received = answered(async || api.case(case).await).await["received_at"].clone();
    let path = format!("/v1/cases/{case}/lift");
    answered(async || {
        api.post(
            &path,
            &format!("lift-{case}"),
            &json!({ "notified_at": received }),
        )
        .await
    })
    .await;
}

/// Waits until a step of the case waits for another case.
async fn waits_for_another(api: &Api, case: &str) -> Value {
    let waiting = async {
        loop {
            let shown = answered(async || api.case(case).await).await;
            let mut steps = shown["steps"].as_array().unwrap().iter();
            if steps.any(|step| step["blocked_by"] == "hold") {
                return shown;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(GO_ON_TIME_MAX, waiting)
        .await
        .expect("the erasure waits for the restriction")
}

/// A line of the log that names both people: one record of both.
fn name_both(office: &Office, company: &Company) {
    let (subject, colleague) = (company.world.subject().email, company.world.colleague().email);
    let log = office.folder.path().join("logs/access.log");
    let mut log = OpenOptions::new().append(true).open(log).unwrap();
    writeln!(
        log,
        "203.0.113.9 - - [24/Nov/2026:11:40:00 +0000] \"GET /share?from={subject}&to={colleague} HTTP/1.1\" 200 5 \"-\" \"curl\""
    )
    .unwrap();
}

/// People whom nothing else is about, with their index.
pub(crate) fn bystanders(company: &Company) -> Vec<(u32, String)> {
    let world = &company.world;
    let cast = [
        world.subject_index(),
        world.namesake_index(),
        world.colleague_index(),
    ];
    let others = (0..world.people).filter(|index| !cast.contains(index));
    others
        .take(CASES_BESIDE)
        .map(|index| (index, world.person(index).email))
        .collect()
}

/// A restriction in one of the first partitions holds up an erasure in one of the second: they meet on one line.
async fn meet(office: &Office, first: &BTreeSet<u64>, second: &BTreeSet<u64>) -> (String, String) {
    let (api, world) = (&office.api, &office.company.world);
    let restriction = open_in(api, "restriction", &world.colleague().email, first).await;
    approve(api, &restriction).await;
    completed(api, &restriction).await;
    let erasure = open_in(api, "erasure", &world.subject().email, second).await;
    approve(api, &erasure).await;
    let waits = waits_for_another(api, &erasure).await;
    assert_eq!(waits["state"], "acting", "{waits:#}");
    (restriction, erasure)
}

pub(crate) async fn completed(api: &Api, case: &str) {
    answered(async || api.case_in(case, "completed").await).await;
}

/// Restrictions of other people, each lifted in the end; returns when all are opened.
pub(crate) async fn beside(office: &Office) -> Vec<JoinHandle<Course>> {
    let opened = answered(async || total(&office.api).await).await;
    let beside: Vec<_> = bystanders(&office.company)
        .into_iter()
        .map(|(index, email)| {
            let url = office.home.url.clone();
            let key = format!("beside-{index}");
            tokio::spawn(async move { restrict_and_lift(&Api::new(&url), &email, &key).await })
        })
        .collect();
    while answered(async || total(&office.api).await).await < opened + CASES_BESIDE as u64 {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    beside
}

/// A restriction that the conductor of these partitions carries to its end, and its lift.
pub(crate) async fn carried_to_its_end(office: &Office, email: &str, partitions: &BTreeSet<u64>) -> String {
    let api = &office.api;
    let case = open_in(api, "restriction", email, partitions).await;
    approve(api, &case).await;
    completed(api, &case).await;
    lift(api, &case).await;
    completed(api, &case).await;
    case
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conductors_share_the_cases_and_one_carries_all_when_the_other_is_killed() {
    let Some(office) = Office::found("conducting", 47).await else {
        return;
    };
    let (api, company) = (&office.api, &office.company);
    name_both(&office, company);
    let (others, first, second) = office.with_two_conductors().await;
    let shares = carried(&office, &["conductor-1", "conductor-2"]).await;
    println!("{shares:?}");
    let (restriction, erasure) = meet(&office, &shares["conductor-1"], &shares["conductor-2"]).await;

    let beside = beside(&office).await;
    let began = Instant::now();
    first.kill();
    lift(api, &restriction).await;
    completed(api, &restriction).await;
    println!(
        "a case whose conductor was killed went on after {:?}",
        began.elapsed()
    );
    // What was lifted after the erasure was planned has overtaken its plan; the same plan again needs no other approval.
    completed(api, &erasure).await;
    let mut courses = Vec::new();
    for course in beside {
        courses.push(course.await.unwrap());
    }

    // Another one comes and takes its share.
    let mut third = office.home.start_as("conductor-3", &["conductor"]);
    office.listen([&mut third]).await;
    let shares = carried(&office, &["conductor-2", "conductor-3"]).await;
    let last = carried_to_its_end(&office, &company.world.namesake().email, &shares["conductor-3"]).await;

    office.verify(&courses).await;
    let ids = [&restriction, &erasure, &last];
    office.verify_cases(ids.into_iter().map(String::as_str)).await;
    // Whoever is asked about lineage goes last.
    office.stop([third, second].into_iter().chain(others.into_iter().rev()));
    let lifted = bystanders(company).into_iter().map(|(index, _)| index);
    let cast = [company.world.colleague_index(), company.world.namesake_index()];
    company.audit_after(lifted.chain(cast)).await;
    company.instructions().await;
}
