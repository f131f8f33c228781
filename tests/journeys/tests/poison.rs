//! Somebody writes to the topics of Lethe what is no entry of Lethe: no role ends, nothing follows from it, and what stood in a queue or a history
//! is in quarantine, with its place, once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, SEVERAL, Server, free_port, kafka, program};
use lethe_node::cli::{Exit, parse_from, run_to};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;

/// How long a case, a scan or a reader may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Queues that somebody of Lethe reads alone.
const QUEUES: [&str; 4] = ["commands", "answers", "instructions.shop", "instructions.website"];

/// Streams whose readers pass by what is no entry, with or without the headers of one.
const FOLLOWED: [&str; 5] = ["systems", "owners", "erased", "cursors", "quarantine"];

/// Streams whose readers pass by what has not the headers of an entry.
const FOLDED: [&str; 3] = ["records", "keys", "leaves"];

/// Somebody who may write to the topics.
struct Stranger {
    producer: FutureProducer,
    prefix: String,
}

impl Stranger {
    fn new(setting: &str) -> Self {
        let value = |name: &str| {
            let (_, rest) = setting.split_once(&format!("{name} = \"")).unwrap();
            rest.split_once('"').unwrap().0.to_owned()
        };
        let producer = ClientConfig::new()
            .set("bootstrap.servers", value("bootstrap"))
            .create()
            .unwrap();
        Self {
            producer,
            prefix: value("topic_prefix"),
        }
    }

    /// Where it stands then.
    async fn write(&self, stream: &str, value: &str, headers: Option<OwnedHeaders>) -> String {
        let topic = format!("{}{stream}", self.prefix);
        let record = FutureRecord::to(&topic).key("stray").payload(value).partition(0);
        let record = FutureRecord { headers, ..record };
        let sent = self.producer.send(record, PATIENCE).await.unwrap();
        format!("{stream}/0 at {}", sent.offset)
    }

    /// Writes to every stream; what is to be put away, by its place: at once, and when the histories are read again.
    async fn write_everywhere(&self) -> (Places, Places) {
        let id = || {
            OwnedHeaders::new().insert(Header {
                key: "id",
                value: Some([7; 16].as_slice()),
            })
        };
        let mut at_once = Places::new();
        for stream in QUEUES {
            let place = self.write(stream, "no headers", None).await;
            at_once.insert(place, "log-stray".to_owned());
            let place = self.write(stream, "no event", Some(id())).await;
            at_once.insert(place, "journal-malformed".to_owned());
        }
        for stream in FOLLOWED {
            self.write(stream, "no headers", None).await;
            self.write(stream, "no event", Some(id())).await;
        }
        for stream in FOLDED {
            self.write(stream, "no headers", None).await;
        }
        let place = self.write("cases", "no headers", None).await;
        (at_once, [(place, "log-stray".to_owned())].into())
    }
}

/// Codes by place.
type Places = BTreeMap<String, String>;

/// A company whose server is several processes.
struct Office {
    company: Company,
    home: Home,
    api: Api,
    servers: Vec<Server>,
}

impl Office {
    async fn found(folder: &Path, setting: &str) -> Self {
        let company = Company::found(folder, 23, PEOPLE, LINES).await;
        let port = free_port();
        let home = Home {
            program: program(),
            config: company.configure(port, &format!("feed_every_ms = 200\n{setting}")),
            output: folder.join("output"),
            url: format!("http://127.0.0.1:{port}"),
        };
        std::fs::create_dir(folder.join("lethe")).unwrap();
        let mut office = Self {
            company,
            api: Api::new(&home.url),
            home,
            servers: Vec::new(),
        };
        office.start().await;
        office
    }

    async fn start(&mut self) {
        let start = |(instance, roles): &(&str, &[&str])| self.home.start_as(instance, roles);
        self.servers = SEVERAL.iter().map(start).collect();
        for server in &mut self.servers {
            assert!(server.listens().await, "{}", self.home.last_words());
        }
    }

    /// Ends what runs; a role that ended before is a failure.
    fn stop(&mut self) {
        for mut server in self.servers.drain(..) {
            assert!(!server.ended(), "{}", self.home.last_words());
            assert!(server.stop().success(), "{}", self.home.last_words());
        }
    }

    async fn whole(&self, right: &'static str, email: &str) {
        let mut course = Course::new(right, email, format!("{right}-{email}"));
        let whole = async {
            while !course.done {
                let _ = course.go_on(&self.api).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, whole).await;
        assert!(
            ended.is_ok(),
            "the case stands still:\n{}",
            self.home.last_words()
        );
    }

    /// Runs a command on the quarantine.
    async fn quarantine(&self, words: &str) -> (Exit, Value) {
        let mut line = vec!["lethe", "log", "quarantine"];
        line.extend(words.split(' '));
        line.extend(["--json", "--server", &self.home.url]);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run_to(parse_from(line).unwrap(), &mut out, &mut err, false).await;
        let said = String::from_utf8_lossy(&err);
        (exit, serde_json::from_slice(&out).expect(&said))
    }

    /// What stands in quarantine: the code by place, and the numbers.
    async fn listed(&self) -> (Places, Vec<u64>) {
        let (_, list) = self.quarantine("list --limit 100").await;
        let all = list["inputs"].as_array().unwrap();
        // The company's logs have lines of their own that cannot be read.
        let inputs: Vec<_> = all
            .iter()
            .filter(|input| input["code"] != "weblog-line")
            .collect();
        let word = |input: &Value, name: &str| input[name].as_str().unwrap().to_owned();
        let places: Places = inputs
            .iter()
            .map(|input| (word(input, "place"), word(input, "code")))
            .collect();
        assert_eq!(inputs.len(), places.len(), "each stands there once: {list:#}");
        let numbers = inputs.iter().map(|input| input["position"].as_u64().unwrap());
        (places, numbers.collect())
    }

    /// The numbers once this is what stands there.
    async fn until_listed(&self, expected: &Places) -> Vec<u64> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut last = (Places::new(), Vec::new());
        let listed = async {
            while last.0 != *expected {
                looks.tick().await;
                last = self.listed().await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, listed).await;
        let said = self.home.last_words();
        assert!(came.is_ok(), "{:#?}\nexpected {expected:#?}\n{said}", last.0);
        last.1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_entry_ends_no_role_and_stands_in_quarantine_once() {
    let Some(setting) = kafka("poison") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut office = Office::found(folder.path(), &setting).await;
    for system in ["shop", "website"] {
        let scan = tokio::time::timeout(PATIENCE, office.api.scan(system)).await;
        scan.expect("the scan ends").unwrap();
    }
    let stranger = Stranger::new(&setting);
    let (mut expected, later) = stranger.write_everywhere().await;
    office
        .whole("restriction", &office.company.world.colleague().email)
        .await;
    office.until_listed(&expected).await;
    expected.extend(later);

    office.stop();
    office.start().await;
    let numbers = office.until_listed(&expected).await;
    let (more, later) = stranger.write_everywhere().await;
    expected.extend(more);
    office
        .whole("erasure", &office.company.world.subject().email)
        .await;
    let all = office.until_listed(&expected).await;
    assert_eq!(
        all[all.len() - numbers.len()..],
        numbers,
        "nothing was put away anew"
    );
    let metrics = String::from_utf8(office.api.get("/metrics").await.unwrap()).unwrap();
    let counted = format!("lethe_quarantined_entries {}\n", all.len());
    assert!(metrics.contains(&counted), "{metrics}");

    let newest = all[0].to_string();
    let (_, shown) = office.quarantine(&format!("show {newest}")).await;
    let clear = STANDARD.decode(shown["input"].as_str().unwrap()).unwrap();
    assert!(clear == b"no event" || clear == b"no headers");
    let words: Vec<_> = all.iter().map(u64::to_string).collect();
    office.quarantine(&format!("drop {}", words.join(" "))).await;
    office.until_listed(&Places::new()).await;
    office.stop();
    office.start().await;
    office.until_listed(&later).await;
    office.company.audit().await;
    office.stop();
}
