//! Two gateways, which both take on what somebody sends again because the first one has not answered yet.

use lethe_journeys::course::Api;
use lethe_journeys::server::{Home, free_port};
use serde_json::json;

use crate::conducting::{answered, approve, completed};
use crate::office::Office;

/// Cases that are asked for.
const CASES: u32 = 8;

/// The same server over another port.
fn elsewhere(home: &Home) -> Home {
    let port = free_port();
    let first = home.url.strip_prefix("http://").unwrap();
    let config = std::fs::read_to_string(&home.config).unwrap();
    let other = home.config.with_file_name("elsewhere.toml");
    std::fs::write(&other, config.replace(first, &format!("127.0.0.1:{port}"))).unwrap();
    Home {
        program: home.program.clone(),
        config: other,
        output: home.output.clone(),
        url: format!("http://127.0.0.1:{port}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_that_are_asked_for_one_case_at_once_open_it_once_and_it_stays() {
    let Some(office) = Office::found("gateways", 59).await else {
        return;
    };
    let (home, api) = (&office.home, &office.api);
    let mut others = vec![
        home.start_as("hosts", &["connectors", "intake", "lineage"]),
        home.start_as("gateway-1", &["gateway"]),
    ];
    let (second, mut core) = (elsewhere(home), home.start_as("core", &["conductor", "ledger"]));
    others.push(second.start_as("gateway-2", &["gateway"]));
    office.listen(others.iter_mut().chain([&mut core])).await;
    office.scan().await;
    let (other, email) = (Api::new(&second.url), office.company.world.colleague().email);
    let ask = json!({ "right": "restriction", "identifiers": [{ "kind": "email", "value": email }] });
    let mut cases = Vec::new();
    for number in 0..CASES {
        let key = format!("twice-{number}");
        let (one, two) = tokio::join!(
            api.post("/v1/cases", &key, &ask),
            other.post("/v1/cases", &key, &ask)
        );
        let (one, two) = (one.expect("an answer"), two.expect("an answer"));
        assert_eq!(one, two);
        cases.push(one["case"].as_str().unwrap().to_owned());
    }
    // Whoever comes next reads all of it from the log.
    core.kill();
    let mut core = home.start_as("core", &["conductor", "ledger"]);
    office.listen([&mut core]).await;
    for case in &cases {
        for gateway in [api, &other] {
            answered(async || gateway.case_in(case, "awaiting_approval").await).await;
        }
    }
    let first = &cases[0];
    approve(&other, first).await;
    completed(api, first).await;
    office.verify_cases([first.as_str()].into_iter()).await;
    office.stop([core].into_iter().chain(others.into_iter().rev()));
}
