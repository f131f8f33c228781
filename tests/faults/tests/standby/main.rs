//! The ledger's writer, a system's host, or one of two conductors is killed in the middle of a case, or hangs, and another goes on where it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conducting;
mod gateways;
mod hung;
mod office;
mod starting;

use std::time::Instant;

use crate::office::Office;

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_stands_by_takes_over_and_every_certificate_is_in_one_log() {
    let Some(office) = Office::found("standby", 41).await else {
        return;
    };
    let (others, first, second) = office.with_two_ledgers().await;
    let mut courses = vec![office.case_beside("before").await.unwrap()];
    let during = office.case_beside("during");
    let began = Instant::now();
    first.kill();
    courses.push(during.await.unwrap());
    println!("a case whose ledger was killed took {:?}", began.elapsed());
    courses.push(office.case_beside("after").await.unwrap());
    office.verify(&courses).await;
    // Whoever is asked about lineage goes last.
    office.stop([second].into_iter().chain(others.into_iter().rev()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_system_has_a_host_of_its_own_and_another_one_takes_it_over() {
    let Some(office) = Office::found("hosts", 43).await else {
        return;
    };
    let home = &office.home;
    let mut others = vec![
        home.start_hosting("website", &["connectors", "lineage"], &["website"]),
        home.start_as("core", &["conductor", "gateway", "ledger"]),
    ];
    let mut first = home.start_hosting("shop-1", &["connectors"], &["shop"]);
    office.listen(others.iter_mut().chain([&mut first])).await;
    office.scan().await;
    let second = home.start_hosting("shop-2", &["connectors"], &["shop"]);
    let mut courses = vec![office.case_beside("before").await.unwrap()];
    let during = office.case_beside("during");
    let began = Instant::now();
    first.kill();
    courses.push(during.await.unwrap());
    println!("a case one of whose hosts was killed took {:?}", began.elapsed());
    courses.push(office.case_beside("after").await.unwrap());
    office.verify(&courses).await;
    // Whoever is asked about lineage goes last.
    office.stop([second].into_iter().chain(others.into_iter().rev()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_was_asked_for_while_its_host_was_down_is_done_once_and_told_as_done_ever_after() {
    let Some(office) = Office::found("scans", 47).await else {
        return;
    };
    let host = || office.home.start_as("host", &["connectors", "lineage"]);
    let mut core = office.home.start_as("core", &["conductor", "gateway", "ledger"]);
    let mut first = host();
    office.listen([&mut core, &mut first]).await;
    office.scan().await;
    first.kill();
    office.api.ask_for_scan("shop").await.unwrap();
    let mut second = host();
    office.listen([&mut second]).await;
    office.scan().await;
    second.kill();
    let mut third = host();
    office.listen([&mut third]).await;
    office.scan().await;
    office.stop([third, core]);
}
