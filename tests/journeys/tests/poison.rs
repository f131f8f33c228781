//! Somebody writes to the topics of Lethe what is no entry of Lethe: no role ends, nothing follows from it, and it is in quarantine, with its place, once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_journeys::company::{Company, LINES, PEOPLE};
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, SEVERAL, Server, free_port, kafka, program};
use lethe_node::cli::{Exit, parse_from, run_to};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

/// How long a case, a scan or a reader may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often something is looked at that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Queues that somebody of Lethe reads alone.
const QUEUES: [&str; 4] = ["commands", "answers", "instructions.shop", "instructions.website"];

/// So many stand on one page of a list, with the inputs that are there anyway.
const DISPLACED_MAX: usize = 20;

/// Streams whose readers pass by what is no entry. What has not the headers of one is put away, too.
const FOLLOWED: [&str; 5] = ["systems", "owners", "erased", "cursors", "quarantine"];

/// Tables that somebody of Lethe folds alone, by partition.
const FOLDED: [&str; 2] = ["records", "keys"];

/// Somebody who may write to the topics.
struct Stranger {
    producer: FutureProducer,
    bootstrap: String,
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
            bootstrap: value("bootstrap"),
            prefix: value("topic_prefix"),
        }
    }

    /// Where it stands then.
    async fn write(&self, stream: &str, value: &str, headers: Option<OwnedHeaders>) -> String {
        self.write_under(b"stray", stream, value, headers).await
    }

    async fn write_under(
        &self,
        key: &[u8],
        stream: &str,
        value: &str,
        headers: Option<OwnedHeaders>,
    ) -> String {
        let topic = format!("{}{stream}", self.prefix);
        let record = FutureRecord::to(&topic).key(key).payload(value).partition(0);
        let record = FutureRecord { headers, ..record };
        let sent = self.producer.send(record, PATIENCE).await.unwrap();
        format!("{stream}/0 at {}", sent.offset)
    }

    /// Keys of the first partition of a table.
    fn keys(&self, stream: &str) -> BTreeSet<Vec<u8>> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.bootstrap);
        settings
            .set("group.id", "stranger")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = settings.create().unwrap();
        let mut partition = TopicPartitionList::new();
        let topic = format!("{}{stream}", self.prefix);
        partition
            .add_partition_offset(&topic, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&partition).unwrap();
        let mut keys = BTreeSet::new();
        loop {
            match consumer.poll(PATIENCE).expect("the partition has an end") {
                Ok(message) => keys.extend(message.key().map(<[u8]>::to_vec)),
                Err(KafkaError::PartitionEOF(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        keys
    }

    /// Takes the place of records, or of data keys, of the first partition.
    async fn displace(&self, stream: &str) -> Places {
        let (keys, mut displaced) = (self.keys(stream), Places::new());
        for key in keys.iter().filter(|key| key.len() == 16).take(DISPLACED_MAX) {
            let place = self.write_under(key, stream, "no headers", None).await;
            displaced.insert(place, "log-stray".to_owned());
        }
        displaced
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
            let place = self.write(stream, "no headers", None).await;
            at_once.insert(place, "log-stray".to_owned());
            self.write(stream, "no event", Some(id())).await;
        }
        for stream in FOLDED {
            let place = self.write(stream, "no headers", None).await;
            at_once.insert(place, "log-stray".to_owned());
            let place = self.write(stream, "no event", Some(id())).await;
            at_once.insert(place, "lineage-key-mismatch".to_owned());
        }
        let place = self.write("leaves", "no headers", None).await;
        at_once.insert(place, "log-stray".to_owned());
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

    async fn scan(&self) {
        for system in ["shop", "website"] {
            let scan = tokio::time::timeout(PATIENCE, self.api.scan(system)).await;
            scan.expect("the scan ends").unwrap();
        }
    }

    async fn drop_all(&self, numbers: &[u64]) {
        let words: Vec<_> = numbers.iter().map(u64::to_string).collect();
        self.quarantine(&format!("drop {}", words.join(" "))).await;
        self.until_listed(&Places::new()).await;
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
    office.scan().await;
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
    office.drop_all(&all).await;
    office.stop();
    office.start().await;
    office.until_listed(&later).await;
    office.company.audit().await;
    office.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_place_was_taken_is_said_to_be_missing_and_told_anew_by_a_scan() {
    let Some(setting) = kafka("displaced") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut office = Office::found(folder.path(), &setting).await;
    office.scan().await;
    let stranger = Stranger::new(&setting);
    let records = stranger.displace("records").await;
    assert!(records.len() > 2, "the partition has records");
    office.until_listed(&records).await;
    let (_, list) = office.quarantine("list --limit 100").await;
    let missing = |system: &str| {
        let all = list["inputs"].as_array().unwrap();
        all.iter()
            .filter(|input| input["code"] == "log-stray" && input["system"] == system)
            .count()
    };
    assert_eq!(missing("shop") + missing("website"), records.len(), "{list:#}");
    office.scan().await;
    let mut expected = records;
    expected.extend(stranger.displace("keys").await);
    let numbers = office.until_listed(&expected).await;
    office.scan().await;
    office.drop_all(&numbers).await;

    office
        .whole("erasure", &office.company.world.subject().email)
        .await;
    office.company.audit().await;
    office.stop();
}
