//! Erasing a person from a web server's log: the connector's search, rewrite and second look beside one rewrite of the same file by hand.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use lethe_kit::{Ask, Connector, Page, Performed, Selected, Selector};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Observed, ShardName, Verb};
use lethe_weblog::WeblogConnector;
use serde::Serialize;

use crate::{Failure, per_s};

/// One line in so many is the person's.
const EVERY: u32 = 1_000;

const USER: &str = "usr_ada0001";
const EMAIL: &str = "ada@example.org";

/// Entries asked for at once.
const PAGE: usize = 1_000;

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Rewriting {
    pub(crate) lines: u32,
    pub(crate) erased: u32,
    /// Lines a second by the connector: located, erased with a receipt, and looked for again.
    pub(crate) per_s: f64,
    /// Lines a second by hand: all other lines written to a new file, which is synced and takes the old one's place.
    pub(crate) by_hand_per_s: f64,
    /// Speed as a share of by hand.
    pub(crate) of_by_hand: f64,
}

/// Erases a person twice from a log of so many lines: by the connector and by hand.
pub(crate) async fn measure(folder: &Path, lines: u32) -> Result<Rewriting, Failure> {
    let (ours, theirs) = (folder.join("connector"), folder.join("by-hand"));
    for folder in [&ours, &theirs] {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("access.log"), log(lines)?)?;
    }
    let by_connector = by_connector(&ours, lines.div_ceil(EVERY)).await?;
    let by_hand = by_hand(&theirs)?;
    if fs::read(ours.join("access.log"))? != fs::read(theirs.join("access.log"))? {
        return Err("the two logs differ afterwards".into());
    }
    let (rate, by_hand_per_s) = (per_s(lines, by_connector), per_s(lines, by_hand));
    Ok(Rewriting {
        lines,
        erased: lines.div_ceil(EVERY),
        per_s: rate,
        by_hand_per_s,
        of_by_hand: rate / by_hand_per_s,
    })
}

fn log(lines: u32) -> Result<String, Failure> {
    let mut log = String::new();
    for n in 0..lines {
        let user = if n % EVERY == 0 {
            USER.to_owned()
        } else {
            format!("usr_{:07}", 1_000_000 + n % 2_000)
        };
        let (day, ip) = (1 + n * 20 / lines, format!("10.0.{}.{}", n % 250, n % 199));
        writeln!(
            log,
            "{ip} - {user} [{day:02}/Nov/2026:11:40:00 +0000] \"GET /app/items?page={n}&email=p{n}%40example.org HTTP/1.1\" \
             200 5120 \"https://shop.example/\" \"Mozilla/5.0 (X11; Linux x86_64)\""
        )?;
    }
    Ok(log)
}

/// How long the steps of one case take, the log having been read once before, as it is where Lethe runs.
async fn by_connector(folder: &Path, theirs: u32) -> Result<Duration, Failure> {
    let config = serde_json::json!({
        "logs": [{ "name": "access", "path": folder.join("access.log") }],
        "state_dir": folder.join("state"),
    });
    let connector = lethe_weblog::open("web".parse()?, serde_json::from_value(config)?)?;
    read_to_the_end(&connector, &"access".parse()?).await?;
    let began = Instant::now();
    let mut selector = Selector {
        records: Vec::new(),
        identifiers: vec![
            Identifier::new(IdentifierKind::UserId, USER),
            Identifier::new(IdentifierKind::Email, EMAIL),
        ],
    };
    let found = connector.locate(&selector, Page(None)).await?.observations;
    selector.records = found.into_iter().map(|o| Selected { handle: o.handle }).collect();
    let ask = Ask {
        id: InstructionId::from_bytes([1; 16]),
        generation: (1, 0),
        dataset: "access".parse()?,
        verb: Verb::Erase,
        selector,
    };
    match connector.perform(&ask).await? {
        Performed::Done(receipt) if receipt.records == u64::from(theirs) => {}
        other => return Err(format!("expected a receipt for {theirs} lines, not {other:?}").into()),
    }
    let seen = connector.observe(&ask.dataset, &ask.selector).await?;
    if seen.observed != Observed::Absent {
        return Err(format!("expected no line of the person, not {seen:?}").into());
    }
    Ok(began.elapsed())
}

async fn read_to_the_end(connector: &WeblogConnector, shard: &ShardName) -> Result<(), Failure> {
    let mut cursor = None;
    loop {
        let page = connector.feed(shard, cursor.as_deref(), PAGE).await?;
        cursor = Some(page.cursor);
        if !page.more {
            return Ok(());
        }
    }
}

fn by_hand(folder: &Path) -> Result<Duration, Failure> {
    let (old, new) = (folder.join("access.log"), folder.join("access.log.new"));
    let began = Instant::now();
    let text = fs::read_to_string(&old)?;
    let mut file = std::io::BufWriter::new(fs::File::create(&new)?);
    for line in text.split_inclusive('\n') {
        if !line.contains(USER) && !line.contains(EMAIL) {
            file.write_all(line.as_bytes())?;
        }
    }
    file.into_inner()?.sync_all()?;
    fs::rename(&new, &old)?;
    Ok(began.elapsed())
}
