//! A process that starts and must wait lives, says for whom, and ends when it is told to; one that stands by hides nobody who is gone, and does
//! meanwhile what nobody is in the way of.

use std::process::Command;
use std::time::{Duration, Instant};

use lethe_journeys::server::Server;

use crate::office::{Office, restrict_and_lift};

/// How often is looked at what cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long somebody may take to notice: a process is missed after 35 s, and its lags are told every ten.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(90);

/// How long a process that waits may take to end.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Waits until a page of the server is so, whatever its status.
async fn until(office: &Office, path: &str, is_so: impl Fn(u16, &str) -> bool) -> String {
    let mut last = String::new();
    let looking = async {
        loop {
            if let Ok((status, text)) = office.api.any(path).await {
                if is_so(status, &text) {
                    return text;
                }
                last = text;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(NOTICE_TIME_MAX, looking).await {
        Ok(text) => text,
        Err(_) => panic!("{path} is not as expected: {last}\n{}", office.home.last_words()),
    }
}

fn signal(server: &Server, signal: &str) {
    let id = server.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &id])
            .status()
            .unwrap()
            .success()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_owners_of_lineage_lives_says_what_it_waits_for_and_can_be_stopped() {
    let Some(office) = Office::found("starting", 53).await else {
        return;
    };
    let gateway = office.home.start_as("lineage", &["gateway", "conductor"]);
    let nobody = "nobody answers for lineage partitions 0-15";
    until(&office, "/readyz", |status, text| {
        status == 503 && text.contains(nobody)
    })
    .await;
    assert_eq!(office.api.any("/healthz").await.unwrap().0, 200);
    let (status, refused) = office.api.any("/v1/cases").await.unwrap();
    assert!(status == 503 && refused.contains("gateway-starting"), "{refused}");
    let said = format!("lethe: waits: {nobody}");
    let saying = async {
        while !office.home.last_words().contains(&said) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(NOTICE_TIME_MAX, saying)
        .await
        .expect("it says so");

    // Another process of its name is refused, and disturbs it in nothing.
    let mut twin = office.home.start_as("lineage", &["ledger"]);
    assert!(!twin.listens().await);
    assert_eq!(twin.end_code(), Some(2));
    assert!(
        office
            .home
            .last_words()
            .contains("another process named lineage runs")
    );
    let began = Instant::now();
    office.stop([gateway]);
    assert!(began.elapsed() < STOP_TIME_MAX, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stands_by_has_no_lag_and_hides_no_writer_that_hangs() {
    let Some(office) = Office::found("hidden", 59).await else {
        return;
    };
    let (others, first, second) = office.with_two_ledgers().await;
    office.case_beside("case").await.unwrap();
    let reads = |process: &str| format!("process=\"{process}\",reader=\"ledger\"");
    let metrics = until(&office, "/metrics", |_, text| text.contains(&reads("ledger-1"))).await;
    assert!(!metrics.contains(&reads("ledger-2")), "{metrics}");
    until(&office, "/readyz", |status, _| status == 200).await;

    signal(&first, "-STOP");
    let gone = |status: u16, text: &str| {
        status == 503 && text.contains("nobody is ledger: ledger-1 was last heard of")
    };
    let words = until(&office, "/readyz", gone).await;
    assert!(words.contains("(ledger-2 stands by)"), "{words}");
    first.kill();
    until(&office, "/readyz", |status, _| status == 200).await;
    until(&office, "/metrics", |_, text| text.contains(&reads("ledger-2"))).await;
    // Whoever is asked about lineage goes last.
    office.stop([second].into_iter().chain(others.into_iter().rev()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_systems_another_one_hosts_does_the_rest_until_it_takes_them_over() {
    let Some(office) = Office::found("apart", 61).await else {
        return;
    };
    let mut owner = office.home.start_as("owner", &["lineage"]);
    let mut first = office.home.start_as("first", &["connectors", "intake"]);
    office.listen([&mut owner, &mut first]).await;
    let all_but_lineage = ["gateway", "conductor", "ledger", "connectors", "intake"];
    let mut second = office.home.start_as("second", &all_but_lineage);
    office.listen([&mut second]).await;
    until(&office, "/readyz", |status, _| status == 200).await;
    office.scan().await;

    first.kill();
    let email = office.company.world.colleague().email;
    let course = restrict_and_lift(&office.api, &email, "apart").await;
    office.verify(&[course]).await;
    office.stop([second, owner]);
}
