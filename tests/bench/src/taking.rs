//! Taking observations in: the whole durable path beside bare decoding and beside bare writing of the same observations.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use lethe_intake::{Inputs, Intake, Known, KnownRecord, Shell};
use lethe_journal::{Position, Stream};
use lethe_kit::{FeedPage, Observation};
use lethe_log::{EmbeddedLog, EventLog, OpenOptions};
use lethe_terms::{
    DatasetName, EntryId, Identifier, IdentifierKind, RecordToken, ShardName, SystemName, Timestamp,
};
use lethe_vault::{FileVault, FirstStart, Normaliser, Openers, OsEntropy};
use serde::{Deserialize, Serialize};

use crate::{Failure, per_s};

/// Observations in a page: what the node asks a connector for at a time.
const PAGE_OBSERVATIONS: u32 = 2_000;

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Taking {
    pub(crate) events: u32,
    /// Observations a second that were sealed, appended, synced, and their cursor moved.
    pub(crate) per_s: f64,
    /// Observations a second that were decoded from JSON and nothing else.
    pub(crate) decoded_per_s: f64,
    /// Observations a second whose JSON was written to a file and synced, page by page, and nothing else.
    pub(crate) written_per_s: f64,
    /// Speed as a share of decoding.
    pub(crate) of_decoding: f64,
    /// Speed as a share of writing.
    pub(crate) of_writing: f64,
}

/// An observation as JSON.
#[derive(Serialize, Deserialize)]
struct Wire {
    dataset: DatasetName,
    key: String,
    handle: String,
    identifiers: Vec<Identifier>,
    count: u64,
    gone: bool,
}

impl From<Wire> for Observation {
    fn from(wire: Wire) -> Self {
        Self {
            dataset: wire.dataset,
            key: wire.key,
            unit: None,
            handle: wire.handle,
            identifiers: wire.identifiers,
            count: wire.count,
            gone: wire.gone,
        }
    }
}

/// Nothing was seen before: every observation has to be written.
struct Unknown;

#[async_trait]
impl Inputs for Unknown {
    fn holds(&self, _: EntryId) -> bool {
        false
    }

    async fn parts_of(&self, _: &[RecordToken]) -> Result<Vec<Position>, lethe_intake::Error> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Known for Unknown {
    async fn known(
        &self,
        _: &[RecordToken],
    ) -> Result<BTreeMap<RecordToken, KnownRecord>, lethe_intake::Error> {
        Ok(BTreeMap::new())
    }

    async fn settled(&self) -> bool {
        true
    }
}

/// Takes made-up observations in, in a folder of its own.
pub(crate) async fn measure(folder: &Path, events: u32) -> Result<Taking, Failure> {
    std::fs::create_dir_all(folder)?;
    let log = EmbeddedLog::open(&folder.join("log"), &Stream::FIXED, OpenOptions::default())?;
    let intake = intake_on(folder, Arc::new(log))?;
    intake.recover().await?;
    let mut file = File::create(folder.join("bare"))?;
    let system: SystemName = "shop".parse()?;
    let shard: ShardName = "accounts".parse()?;
    let (mut took, mut decoded, mut written) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut from = 0;
    while from < events {
        let to = events.min(from + PAGE_OBSERVATIONS);
        let observations = (from..to).map(observation).collect::<Result<Vec<_>, _>>()?;
        let lines = lines(&observations)?;

        let began = Instant::now();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            std::hint::black_box(serde_json::from_slice::<Wire>(line)?);
        }
        decoded += began.elapsed();

        let began = Instant::now();
        file.write_all(&lines)?;
        file.sync_data()?;
        written += began.elapsed();

        let page = FeedPage {
            observations,
            cursor: to.to_string(),
            ..FeedPage::default()
        };
        let began = Instant::now();
        let published = intake.publish(&system, intake.mark(&system), &page).await?;
        intake.advance(&system, &shard, &page.cursor).await?;
        took += began.elapsed();
        if published.appended != page.observations.len() || published.quarantined > 0 {
            return Err(format!("not every observation was taken in: {published:?}").into());
        }
        from = to;
    }
    let (rate, decoded_per_s, written_per_s) = (
        per_s(events, took),
        per_s(events, decoded),
        per_s(events, written),
    );
    Ok(Taking {
        events,
        per_s: rate,
        decoded_per_s,
        written_per_s,
        of_decoding: rate / decoded_per_s,
        of_writing: rate / written_per_s,
    })
}

/// An intake that writes to a log, with a vault in a folder.
fn intake_on(folder: &Path, log: Arc<dyn EventLog>) -> Result<Intake, Failure> {
    let vault = FileVault::open(
        &folder.join("vault"),
        Openers::One,
        FirstStart::Allowed,
        Arc::new(OsEntropy),
    )?;
    Ok(Intake::new(
        log,
        Arc::new(vault),
        Normaliser::new("DE")?,
        Arc::new(Unknown),
        Arc::new(Unknown),
        Shell { now, id },
    ))
}

pub(crate) fn observation(n: u32) -> Result<Observation, Failure> {
    Ok(Observation {
        dataset: "accounts".parse()?,
        key: n.to_string(),
        unit: None,
        handle: format!("[\"{n}\"]"),
        identifiers: vec![
            Identifier::new(IdentifierKind::UserId, format!("usr_{n:08}")),
            Identifier::new(IdentifierKind::Email, format!("Person.{n}@mail.example.org")),
            Identifier::new(IdentifierKind::Phone, format!("+49 30 23{n:06}")),
        ],
        count: 3,
        gone: false,
    })
}

fn wire(observation: &Observation) -> Wire {
    Wire {
        dataset: observation.dataset.clone(),
        key: observation.key.clone(),
        handle: observation.handle.clone(),
        identifiers: observation.identifiers.clone(),
        count: observation.count,
        gone: observation.gone,
    }
}

fn lines(observations: &[Observation]) -> Result<Vec<u8>, Failure> {
    let mut lines = Vec::new();
    for observation in observations {
        serde_json::to_writer(&mut lines, &wire(observation))?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn id() -> EntryId {
    let mut bytes = [0; 16];
    // An id that repeats would be taken for a repeat of its entry, so the count of what was appended would not come out.
    let _ = getrandom::fill(&mut bytes);
    EntryId::from_bytes(bytes)
}
