//! `lethe system ...` and `lethe connector check`.

use std::time::{Duration, Instant};

use lethe_gateway::client::Client;
use lethe_gateway::views::{CheckView, MustResult, ScanState, ScanView};
use lethe_gateway::words;
use serde_json::json;

use super::args::{ConnectorArgs, ScanArgs, SystemArgs, SystemCommand};
use super::exit::{Error, Exit};
use super::talk::{Talk, table};

/// Pause between two looks at a running scan: often enough for a bar that moves.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// How long a host that is not heard of is waited for: another process that stands by for its systems opens them within seconds.
const TAKE_OVER_TIME_MAX: Duration = Duration::from_secs(15);

/// The code of a system whose connector the process that was asked does not host.
const HOSTED_ELSEWHERE: &str = "node-hosted-elsewhere";

/// Carries out a command on systems.
pub(super) async fn run(client: &Client, command: SystemCommand, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    match command {
        SystemCommand::List => list(client, talk).await,
        SystemCommand::Check(args) => check(client, &args, talk).await,
        SystemCommand::Scan(args) => scan(client, &args, talk).await,
    }
}

async fn names(client: &Client, args: &SystemArgs) -> Result<Vec<String>, Error> {
    match &args.name {
        Some(name) => Ok(vec![name.as_str().to_owned()]),
        None => Ok(client
            .systems()
            .await?
            .systems
            .into_iter()
            .map(|system| system.name)
            .collect()),
    }
}

async fn list(client: &Client, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let list = client.systems().await?;
    if talk.json {
        talk.data(&list)?;
        return Ok(Exit::Yes);
    }
    let mut rows = Vec::new();
    for system in &list.systems {
        let state = words::system_state(system.state).0;
        let lag = system.lag_ms.map_or_else(|| "not known".to_owned(), words::span);
        for (number, dataset) in system.datasets.iter().enumerate() {
            let first = |text: &str| {
                if number == 0 {
                    text.to_owned()
                } else {
                    String::new()
                }
            };
            let records = dataset.records.map_or_else(|| "-".to_owned(), words::grouped);
            rows.push(vec![
                first(&system.name),
                first(&system.kind),
                first(state),
                first(&lag),
                dataset.name.clone(),
                records,
            ]);
        }
    }
    talk.print(&table(
        &["system", "kind", "state", "behind", "dataset", "records"],
        &rows,
    ))?;
    for system in &list.systems {
        if system.quarantined > 0 {
            talk.say(&format!(
                "{}: {} in quarantine",
                system.name,
                words::counted(system.quarantined, "input")
            ));
        }
        for finding in system.findings.iter().filter(|finding| !finding.ok) {
            talk.say(&format!("{}: {}: {}", system.name, finding.what, finding.detail));
        }
    }
    Ok(Exit::Yes)
}

async fn check(client: &Client, args: &SystemArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let mut checks: Vec<CheckView> = Vec::new();
    let mut elsewhere: Vec<String> = Vec::new();
    for name in names(client, args).await? {
        match client.system_check(&name).await {
            Ok(check) => checks.push(check),
            // Of several systems those that can be looked at from here are.
            Err(error) if error.code() == HOSTED_ELSEWHERE && args.name.is_none() => elsewhere.push(name),
            Err(error) => return Err(error.into()),
        }
    }
    let all_well = checks.iter().all(|check| check.ok);
    if talk.json {
        talk.data(&json!({ "checks": checks }))?;
    } else {
        let rows: Vec<Vec<String>> = checks
            .iter()
            .flat_map(|check| check.findings.iter().map(|finding| (&check.system, finding)))
            .map(|(system, finding)| {
                let result = if finding.ok { "ok" } else { "not ok" };
                vec![
                    system.clone(),
                    finding.what.clone(),
                    result.to_owned(),
                    finding.detail.clone(),
                ]
            })
            .collect();
        talk.print(&table(&["system", "looked at", "result", "detail"], &rows))?;
    }
    if !elsewhere.is_empty() {
        talk.say(&format!(
            "not looked at: {}, hosted by another process; how to ask that one stands in ops/errors/{HOSTED_ELSEWHERE}.md",
            elsewhere.join(", ")
        ));
    }
    Ok(match (all_well, elsewhere.is_empty()) {
        (false, _) => Exit::No,
        (true, true) => Exit::Yes,
        (true, false) => Exit::Unknown,
    })
}

async fn scan(client: &Client, args: &ScanArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let still_max = Duration::from_secs(args.wait);
    let mut scans: Vec<ScanView> = Vec::new();
    for name in names(client, &args.system).await? {
        let scan = watch(client, &name, still_max, talk).await?;
        if let Some(hint) = standing_still(&scan, args.wait) {
            talk.say(&format!("{name}: {hint}"));
        }
        scans.push(scan);
    }
    if talk.json {
        talk.data(&json!({ "scans": scans }))?;
    } else {
        let rows: Vec<Vec<String>> = scans
            .iter()
            .map(|scan| {
                let code = scan
                    .code
                    .as_ref()
                    .map(|code| format!(" ({code})"))
                    .unwrap_or_default();
                let state = if is_unheard(scan) {
                    "waits"
                } else {
                    words::scan_state(scan.state)
                };
                vec![
                    scan.system.clone(),
                    format!("{state}{code}"),
                    format!("{} {}", words::grouped(scan.done), scan.unit),
                    words::grouped(scan.records),
                    words::grouped(scan.quarantined),
                ]
            })
            .collect();
        talk.print(&table(
            &["system", "scan", "read", "new or changed", "quarantined"],
            &rows,
        ))?;
    }
    Ok(scanned(&scans))
}

/// A failure is a no; what only stands still may yet come to its end.
fn scanned(scans: &[ScanView]) -> Exit {
    let is_any = |state| scans.iter().any(|scan| scan.state == state);
    if is_any(ScanState::Failed) || is_any(ScanState::NotStarted) {
        Exit::No
    } else if is_any(ScanState::Running) {
        Exit::Unknown
    } else {
        Exit::Yes
    }
}

/// Whether nobody is there who could begin the scan or go on with it.
fn is_unheard(scan: &ScanView) -> bool {
    scan.state == ScanState::Running && scan.code.as_deref() == Some(words::HOST_SILENT)
}

/// What a scan waits for that has not ended, and what to do.
fn standing_still(scan: &ScanView, waited_s: u64) -> Option<String> {
    if is_unheard(scan) {
        return Some("nothing is heard of the process that hosts it: start that process, and it reads the system without being asked again; /readyz of the server says which role has nobody".to_owned());
    }
    let name = &scan.system;
    (scan.state == ScanState::Running).then(|| {
        format!("the scan has not gone on for {waited_s} s; it goes on by itself once the system answers and its host lives, see: lethe system list, lethe system check {name}")
    })
}

/// Starts a scan and shows how far it is until it has ended or has not gone on for too long.
async fn watch(client: &Client, name: &str, still_max: Duration, talk: &Talk<'_>) -> Result<ScanView, Error> {
    let mut scan = client.start_scan(name).await?;
    let bar = talk.progress(scan.total);
    bar.set_prefix(name.to_owned());
    bar.set_message(scan.unit.clone());
    let mut moved_at = Instant::now();
    let patience = |scan: &ScanView| {
        if is_unheard(scan) {
            still_max.min(TAKE_OVER_TIME_MAX)
        } else {
            still_max
        }
    };
    while scan.state == ScanState::Running && moved_at.elapsed() <= patience(&scan) {
        bar.set_length(scan.total.unwrap_or(scan.done));
        bar.set_position(scan.done);
        tokio::time::sleep(LOOK_PAUSE).await;
        let next = client.scan(name).await?;
        if next != scan {
            moved_at = Instant::now();
        }
        scan = next;
    }
    bar.finish_and_clear();
    Ok(scan)
}

/// Runs the conformance suite against a live system.
pub(super) async fn connector_check(
    client: &Client,
    args: &ConnectorArgs,
    talk: &mut Talk<'_>,
) -> Result<Exit, Error> {
    let bar = talk.progress(None);
    bar.set_prefix(args.name.to_string());
    bar.set_message("the suite runs");
    bar.enable_steady_tick(LOOK_PAUSE);
    let report = client.connector_check(args.name.as_str()).await;
    bar.finish_and_clear();
    let report = report?;
    if talk.json {
        talk.data(&report)?;
    } else {
        let rows: Vec<Vec<String>> = report
            .musts
            .iter()
            .map(|must| {
                let result = match must.result {
                    MustResult::Kept => "kept",
                    MustResult::Broken => "BROKEN",
                    MustResult::NotTried => "not tried",
                };
                vec![
                    must.number.clone(),
                    result.to_owned(),
                    must.must.clone(),
                    must.detail.clone(),
                ]
            })
            .collect();
        talk.print(&table(&["must", "result", "what it says", "detail"], &rows))?;
        let not_tried = report
            .musts
            .iter()
            .filter(|must| must.result == MustResult::NotTried)
            .count();
        if not_tried > 0 {
            talk.say(&format!(
                "{not_tried} of {} were not tried: they would change the data of a live system",
                report.musts.len()
            ));
        }
    }
    Ok(if report.ok { Exit::Yes } else { Exit::No })
}
