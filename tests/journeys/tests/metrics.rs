//! ops/monitoring.md lists every metric that a server serves, with its type and labels, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use lethe_journeys::company::Company;
use lethe_journeys::course::Api;
use lethe_journeys::server::{Home, free_port, program};

/// How long a server may take until it has measured everything once.
const PATIENCE: Duration = Duration::from_secs(60);

/// Type and labels by name.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented() -> Metrics {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/monitoring.md");
    let text = std::fs::read_to_string(page).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `lethe_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[4]
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (
            cells[1].trim_matches('`').to_owned(),
            (cells[2].to_owned(), labels),
        )
    })
    .collect()
}

fn served(text: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            metrics.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((series, _)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let labels = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| series.strip_suffix(end));
            let name = family
                .filter(|name| metrics.contains_key(*name))
                .unwrap_or(series);
            let names = labels.split(',').map(|label| label.split_once('=').unwrap().0);
            // The histogram's own label.
            let names = names.filter(|name| *name != "le").map(str::to_owned);
            metrics.get_mut(name).expect("a type comes first").1.extend(names);
        }
    }
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let company = Company::found(folder.path(), 1, 20, 50).await;
    let port = free_port();
    let home = Home {
        program: program(),
        config: company.configure(port, "feed_every_ms = 200"),
        output: folder.path().join("lethe").join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    std::fs::create_dir(folder.path().join("lethe")).unwrap();
    let mut server = home.start();
    assert!(server.listens().await, "{}", home.last_words());
    let api = Api::new(&home.url);
    let expected = documented();
    let mut last = Metrics::new();
    let all = async {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        while last != expected {
            looks.tick().await;
            last = served(&String::from_utf8(api.get("/metrics").await.unwrap()).unwrap());
        }
    };
    let came = tokio::time::timeout(PATIENCE, all).await;
    assert!(came.is_ok(), "served: {last:#?}\ndocumented: {expected:#?}");
    let (status, words) = api.any("/readyz").await.unwrap();
    assert_eq!(status, 200, "{words}");
    assert!(
        !words.contains("roles"),
        "a process that does everything needs nobody: {words}"
    );
    assert!(server.stop().success(), "{}", home.last_words());
}
