//! The suite of the EventLog port catches every deliberately wrong log, by the check that is meant for it.

use std::sync::Arc;

use lethe_conformance::event_log;

#[tokio::test]
async fn every_wrong_log_is_caught_by_its_check() {
    for (name, factory, expected) in event_log::mutants::all() {
        let (_, check) = event_log::all()
            .iter()
            .find(|(check, _)| *check == expected)
            .expect("the check exists");
        let factory = Arc::clone(&factory);
        let caught = tokio::spawn(async move { check(&*factory).await }).await;
        assert!(
            caught.is_err_and(|error| error.is_panic()),
            "the log that {name} passes {expected}"
        );
    }
}
