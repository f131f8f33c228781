//! The configuration: one TOML file, overridden by `LETHE_` environment variables. Unknown keys are refused with the
//! nearest known one.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use lethe_casework::Land;
use lethe_journal::{DatasetRef, Stream};
use lethe_log_kafka::KafkaSettings;
use lethe_terms::SystemName;
use serde::Deserialize;

use crate::{Error, connect};

pub(crate) use self::told::{refused, whole, with_nearest, with_unit};

mod told;

/// Where the API listens unless told otherwise: loopback.
const LISTEN: &str = "127.0.0.1:7380";

/// How often a system's feed is read when nothing is known to wait, in milliseconds.
const FEED_EVERY_MS: u64 = 1_000;

/// How long an ended record may wait for the compaction of log and stores, in seconds.
const COMPACT_AFTER_S: u64 = 600;

/// How long an erased person's suppression lasts, in days: a year of backups and a month to restore one.
const SUPPRESSION_DAYS: u32 = 400;

/// How long evidence payloads are kept, in days: three years, the regular limitation period (BGB § 195), and the rest of a year.
const EVIDENCE_DAYS: u32 = 1_461;

/// How often a feed may be read, in milliseconds. Without a pause a quiet system would be asked without end; beyond a day an erased
/// person's return would be found too late to answer within the month of GDPR Art. 12(3).
const FEED_EVERY_MS_RANGE: RangeInclusive<u64> = 10..=86_400_000;

/// How long an ended record may wait for compaction, in seconds: at most 30 days, for what is still in the log then is not erased
/// within the month of GDPR Art. 12(3).
const COMPACT_AFTER_S_RANGE: RangeInclusive<u64> = 0..=2_592_000;

/// How long suppression may last, in days. Ten years is the longest that books and their backups are kept (AO § 147), and the rest
/// of a year; suppression itself is about a person, so it ends (GDPR Art. 5(1)(e)).
const SUPPRESSION_DAYS_RANGE: RangeInclusive<u32> = 1..=4_018;

/// How long evidence may be kept, in days: up to the longest limitation period of thirty years (BGB § 197), and the rest of a year.
const EVIDENCE_DAYS_RANGE: RangeInclusive<u32> = 1..=11_323;

/// How long publishers seal to one intake key unless told otherwise, in days: what one lost key opens is a month's events at most.
const INTAKE_KEY_DAYS: u32 = 30;

/// How long publishers may seal to one intake key, in days. Keys are kept while something waits that was sealed to them, so many a
/// day would fill the vault; beyond a year one lost key opens too much.
const INTAKE_KEY_DAYS_RANGE: RangeInclusive<u32> = 1..=366;

/// How long things may stay in Kafka, in milliseconds: at once is never, and beyond a century the numbers of Kafka end.
const RETENTION_MS_RANGE: RangeInclusive<u64> = 1..=3_155_760_000_000;

/// Longest legal name, in bytes: a statement takes no longer one, and none could be signed.
const NAME_BYTES_MAX: usize = 200;

/// Environment variables of the command line, of the tests and of `ops/kafka`, which are no settings.
const NOT_SETTINGS: [&str; 6] = [
    "LETHE_SERVER",
    "LETHE_KEY_FILE",
    "LETHE_CA_FILE",
    "LETHE_LOG",
    "LETHE_SHARED",
    "LETHE_KAFKA_JARS",
];

/// Everything that the server is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whole path of the file that it stands in.
    #[serde(skip)]
    pub file: String,
    /// Folder of all state.
    pub data_dir: PathBuf,
    /// Address of the API.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// File with API keys.
    pub api_keys_file: Option<PathBuf>,
    /// TLS of the API.
    pub tls: Option<Tls>,
    /// The Kafka that carries the log; without it the log is in files below `data_dir`.
    pub kafka: Option<KafkaSettings>,
    /// How processes of one installation ask one another.
    #[serde(default)]
    pub cluster: ClusterSettings,
    /// Who is responsible.
    pub controller: Controller,
    /// Where national telephone numbers are from, ISO 3166.
    #[serde(default = "region")]
    pub region: String,
    /// Whose public holidays count.
    #[serde(default)]
    pub land: LandSetting,
    /// How often feeds are read, in milliseconds.
    #[serde(default = "feed_every_ms")]
    pub feed_every_ms: u64,
    /// How long an ended record may wait for compaction, in seconds.
    #[serde(default = "compact_after_s")]
    pub compact_after_s: u64,
    /// How long suppression lasts, in days.
    #[serde(default = "suppression_days")]
    pub suppression_days: u32,
    /// How long evidence is kept, in days.
    #[serde(default = "evidence_days")]
    pub evidence_days: u32,
    /// How long publishers seal to one intake key, in days.
    #[serde(default = "intake_key_days")]
    pub intake_key_days: u32,
    /// The systems.
    #[serde(default)]
    pub systems: Vec<SystemSettings>,
    /// Flows between datasets, as `system.dataset`.
    #[serde(default)]
    pub flows: Vec<Flow>,
}

/// Certificate and key of the API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
}

/// Where a process that folds partitions of lineage answers the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Address to listen on; any free port of loopback unless told otherwise.
    #[serde(default = "cluster_listen")]
    pub listen: SocketAddr,
    /// `host:port` under which the others reach it, where that is not what it listens on.
    pub address: Option<String>,
    /// Mutual TLS; needed elsewhere than on loopback.
    pub tls: Option<ClusterTls>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            listen: cluster_listen(),
            address: None,
            tls: None,
        }
    }
}

/// Certificate and key of a process, and the authority of all of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterTls {
    /// PEM file with the certificate chain, for serving and for asking.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// PEM file with the authority that signed the certificates of all processes.
    pub ca_file: PathBuf,
}

const fn cluster_listen() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))
}

/// The controller (GDPR Art. 4(7)).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// Short id, used in names of logs and keys.
    pub id: String,
    /// Legal name.
    pub name: String,
}

/// The Land whose holidays count.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum LandSetting {
    /// Only the holidays of all of Germany.
    #[default]
    Nationwide,
    /// Saxony.
    Saxony,
}

impl TryFrom<String> for LandSetting {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "nationwide" => Ok(Self::Nationwide),
            "saxony" => Ok(Self::Saxony),
            _ => Err("land: expected nationwide or saxony".into()),
        }
    }
}

impl From<LandSetting> for Land {
    fn from(land: LandSetting) -> Self {
        match land {
            LandSetting::Nationwide => Self::Nationwide,
            LandSetting::Saxony => Self::Saxony,
        }
    }
}

/// One system: its name, its kind, and what its connector is told.
#[derive(Debug, Clone, Deserialize)]
pub struct SystemSettings {
    /// Whole path of the file that it stands in.
    #[serde(skip)]
    pub file: String,
    /// Its name.
    pub name: SystemName,
    /// Kind of its connector.
    pub kind: String,
    /// The connector's own settings.
    #[serde(flatten)]
    pub connector: BTreeMap<String, serde_json::Value>,
}

/// A flow: the first dataset is copied to the second.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// Where the data comes from, `system.dataset`.
    pub from: String,
    /// Where it goes to, `system.dataset`.
    pub to: String,
}

fn listen() -> SocketAddr {
    SocketAddr::from((
        [127, 0, 0, 1],
        LISTEN
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok())
            .unwrap_or(0),
    ))
}

fn region() -> String {
    "DE".into()
}

const fn feed_every_ms() -> u64 {
    FEED_EVERY_MS
}

const fn compact_after_s() -> u64 {
    COMPACT_AFTER_S
}

const fn suppression_days() -> u32 {
    SUPPRESSION_DAYS
}

const fn evidence_days() -> u32 {
    EVIDENCE_DAYS
}

const fn intake_key_days() -> u32 {
    INTAKE_KEY_DAYS
}

impl Settings {
    /// Reads the file and the environment.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let environment = settings_of_environment();
        Self::read(file, environment.clone()).map_err(|error| blamed(file, &environment, error))
    }

    fn read(file: &Path, environment: Environment) -> Result<Self, Error> {
        let environment = config::Environment::with_prefix("LETHE")
            .prefix_separator("_")
            .separator("__")
            .source(Some(environment));
        let mut settings: Self = config::Config::builder()
            .add_source(config::File::from(file).format(config::FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| refused(file, &error.to_string()))?;
        settings.file = whole(file);
        for system in &mut settings.systems {
            system.file.clone_from(&settings.file);
        }
        settings.checked(file)
    }

    fn checked(self, file: &Path) -> Result<Self, Error> {
        self.check_limits().map_err(|wrong| refused(file, &wrong))?;
        let mut names: Vec<_> = self.systems.iter().map(|system| &system.name).collect();
        names.sort();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(refused(
                file,
                &format!("system {} stands twice: expected each name once", twice[0]),
            ));
        }
        let over_kafka = self.systems.iter().find(|system| connect::is_over_kafka(system));
        if let (Some(system), None) = (over_kafka, &self.kafka) {
            return Err(refused(
                file,
                &format!(
                    "system {} has over = \"kafka\": expected a table [kafka], since nobody else can read the embedded log",
                    system.name
                ),
            ));
        }
        if self.controller.id.parse::<SystemName>().is_err() {
            return Err(refused(
                file,
                "controller.id: expected a short name of a-z, 0-9, '-', '_' and '.'",
            ));
        }
        self.flow_refs(file)?;
        Ok(self)
    }

    /// Refuses values without sense, naming what was expected.
    fn check_limits(&self) -> Result<(), String> {
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir: expected the path of a folder".into());
        }
        let name = &self.controller.name;
        if name.trim().is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(format!(
                "controller.name: expected a legal name on one line, of 1 to {NAME_BYTES_MAX} bytes"
            ));
        }
        if let Some(kafka) = &self.kafka {
            let kept = &kafka.retention;
            for (name, value) in [
                ("compaction_lag_max_ms", kept.compaction_lag_max_ms),
                ("tombstone_ms", kept.tombstone_ms),
                ("segment_ms", kept.segment_ms),
                ("queue_ms", kept.queue_ms),
                ("heartbeat_ms", kept.heartbeat_ms),
            ] {
                within(&format!("kafka.retention.{name}"), value, &RETENTION_MS_RANGE)?;
            }
        }
        within("feed_every_ms", self.feed_every_ms, &FEED_EVERY_MS_RANGE)?;
        within("compact_after_s", self.compact_after_s, &COMPACT_AFTER_S_RANGE)?;
        within("suppression_days", self.suppression_days, &SUPPRESSION_DAYS_RANGE)?;
        within("intake_key_days", self.intake_key_days, &INTAKE_KEY_DAYS_RANGE)?;
        within("evidence_days", self.evidence_days, &EVIDENCE_DAYS_RANGE)
    }

    /// The flows as references to datasets.
    pub fn flow_refs(&self, file: &Path) -> Result<Vec<(DatasetRef, DatasetRef)>, Error> {
        self.flows
            .iter()
            .map(|flow| Ok((dataset_ref(file, &flow.from)?, dataset_ref(file, &flow.to)?)))
            .collect()
    }

    /// Every stream that these settings need.
    pub fn streams(&self) -> Vec<Stream> {
        let of_system = |system: &SystemSettings| {
            let mut streams = vec![Stream::Instructions(system.name.clone())];
            if connect::is_over_kafka(system) {
                streams.push(Stream::Requests(system.name.clone()));
                streams.push(Stream::Replies(system.name.clone()));
            }
            streams
        };
        let of_systems = self.systems.iter().flat_map(of_system);
        Stream::FIXED.into_iter().chain(of_systems).collect()
    }
}

fn within<T: PartialOrd + Display>(name: &str, value: T, range: &RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "{name} is {value}: expected {} to {}",
        range.start(),
        range.end()
    ))
}

fn dataset_ref(file: &Path, text: &str) -> Result<DatasetRef, Error> {
    text.split_once('.')
        .and_then(|(system, dataset)| {
            Some(DatasetRef {
                system: system.parse().ok()?,
                dataset: dataset.parse().ok()?,
            })
        })
        .ok_or_else(|| refused(file, &format!("flow end {text}: expected system.dataset")))
}

/// Variables of the environment that are settings, with their values.
type Environment = std::collections::HashMap<String, String>;

/// The error, with the variable of the environment in place of the file where the file alone is not refused like that.
fn blamed(file: &Path, environment: &Environment, error: Error) -> Error {
    let said = error.to_string();
    let is_refused =
        |given: Environment| Settings::read(file, given).is_err_and(|other| other.to_string() == said);
    if environment.is_empty() || is_refused(Environment::new()) {
        return error;
    }
    let alone = |(name, value): &(&String, &String)| {
        is_refused(Environment::from([((*name).clone(), (*value).clone())]))
    };
    match (environment.iter().find(alone), error) {
        (Some((name, _)), Error::Settings { message, .. }) => Error::Settings {
            file: format!("variable {name} of the environment"),
            message,
        },
        (_, error) => error,
    }
}

fn settings_of_environment() -> Environment {
    std::env::vars()
        .filter(|(name, _)| {
            name.starts_with("LETHE_")
                && !NOT_SETTINGS.contains(&name.as_str())
                && !name.starts_with("LETHE_TEST_")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, Error> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lethe.toml");
        std::fs::write(&file, text).unwrap();
        Settings::load(&file)
    }

    const LEAST: &str = "data_dir = \"d\"\n[controller]\nid = \"acme\"\nname = \"Acme GmbH\"\n";

    #[test]
    fn the_least_configuration_listens_on_loopback() {
        let settings = load(LEAST).unwrap();
        assert!(settings.listen.ip().is_loopback());
        assert_eq!(settings.listen.port(), 7380);
    }

    #[test]
    fn compose_names_only_settings_that_there_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/compose");
        let compose = std::fs::read_to_string(folder.join("compose.yaml")).unwrap();
        let variables = compose.lines().filter_map(|line| {
            line.trim()
                .split_once(": ")
                .filter(|(name, _)| name.starts_with("LETHE_"))
        });
        let mut settings = config::Config::builder()
            .add_source(config::File::from(folder.join("lethe.toml")).format(config::FileFormat::Toml));
        let mut names = Vec::new();
        for (name, value) in variables.filter(|(name, _)| !NOT_SETTINGS.contains(name)) {
            let key = name["LETHE_".len()..].to_lowercase().replace("__", ".");
            settings = settings.set_override(key, value).unwrap();
            names.push(name);
        }
        let named = names.iter().filter(|name| **name == "LETHE_KAFKA__INSTANCE");
        assert_eq!(named.count(), 3, "each process has its name");
        let settings: Settings = settings.build().unwrap().try_deserialize().unwrap();
        let settings = settings.checked(&folder.join("lethe.toml")).unwrap();
        assert!(
            settings.tls.is_some() && settings.api_keys_file.is_some(),
            "it listens beyond loopback"
        );
        assert_eq!(settings.systems.len(), 2);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = load(&format!("data_dri = \"x\"\n{LEAST}"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("data_dri") && error.contains("data_dir"),
            "{error}"
        );
        assert!(error.contains("lethe.toml"), "{error}");
    }

    #[test]
    fn settings_without_sense_are_refused_with_what_was_expected() {
        for (setting, expected) in [
            ("evidence_days = 0", "evidence_days is 0: expected 1 to 11323"),
            ("evidence_days = 4000000000", "expected 1 to 11323"),
            (
                "suppression_days = 0",
                "suppression_days is 0: expected 1 to 4018",
            ),
            ("suppression_days = 4000000000", "expected 1 to 4018"),
            ("feed_every_ms = 0", "feed_every_ms is 0: expected 10 to 86400000"),
            ("feed_every_ms = 9000000000000000000", "expected 10 to 86400000"),
            ("compact_after_s = 9000000000000000000", "expected 0 to 2592000"),
            ("land = \"mars\"", "land: expected nationwide or saxony"),
        ] {
            let error = load(&format!("{setting}\n{LEAST}")).unwrap_err();
            assert_eq!(error.code(), "node-settings");
            assert!(error.to_string().contains(expected), "{setting}: {error}");
        }
        for (given, instead, expected) in [
            (
                "\"d\"",
                "\"\"".to_owned(),
                "data_dir: expected the path of a folder",
            ),
            (
                "Acme GmbH",
                " ".to_owned(),
                "controller.name: expected a legal name",
            ),
            ("Acme GmbH", "A".repeat(201), "1 to 200 bytes"),
        ] {
            let error = load(&LEAST.replace(given, &instead)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let saxony = load(&format!("land = \"saxony\"\ncompact_after_s = 0\n{LEAST}")).unwrap();
        assert!(matches!(saxony.land, LandSetting::Saxony));
    }

    #[test]
    fn what_is_wrong_with_a_number_says_its_unit_and_its_key() {
        for (setting, key, unit) in [
            ("feed_every_ms = 0", "feed_every_ms", "milliseconds"),
            ("feed_every_ms = \"1s\"", "feed_every_ms", "milliseconds"),
            ("compact_after_s = -1", "compact_after_s", "seconds"),
            ("evidence_days = 1.5e9", "evidence_days", "days"),
        ] {
            let error = load(&format!("{setting}\n{LEAST}")).unwrap_err().to_string();
            let said = format!("({key} is a whole number of {unit})");
            assert!(error.contains(&said), "{setting}: {error}");
        }
        let kafka = format!("{LEAST}[kafka]\nbootstrap = \"b:1\"\n[kafka.retention]\nsegment_ms = 0\n");
        let error = load(&kafka).unwrap_err().to_string();
        assert!(
            error.contains("kafka.retention.segment_ms is 0") && error.contains("of milliseconds"),
            "{error}"
        );
        assert_eq!(
            with_unit("name: expected a word"),
            "name: expected a word",
            "no number"
        );
    }

    #[test]
    fn a_system_over_kafka_needs_a_log_that_its_program_can_read() {
        let system = "[[systems]]\nname = \"crm\"\nkind = \"remote\"\nover = \"kafka\"\n";
        let error = load(&format!("{LEAST}{system}")).unwrap_err().to_string();
        assert!(error.contains("crm") && error.contains("[kafka]"), "{error}");
        let kafka = "[kafka]\nbootstrap = \"b:1\"\n";
        let streams = load(&format!("{LEAST}{system}{kafka}")).unwrap().streams();
        let crm = || "crm".parse().unwrap();
        assert!(streams.contains(&Stream::Requests(crm())) && streams.contains(&Stream::Replies(crm())));
    }

    #[test]
    fn a_flow_names_system_and_dataset() {
        let error = load(&format!("{LEAST}[[flows]]\nfrom = \"shop\"\nto = \"a.b\"\n"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("expected system.dataset"), "{error}");
    }
}
