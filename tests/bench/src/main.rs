//! Speed and memory as ratios against something real in the same run: a ratio holds on another machine, a speed does not.

mod erasing;
mod kafka;
mod rewriting;
mod server;
mod taking;

use std::time::Duration;

use clap::Parser;
use serde::Serialize;

/// What goes wrong here ends the run, with its own message.
type Failure = Box<dyn std::error::Error>;

/// Measures Lethe beside something real in the same run.
#[derive(Parser)]
#[command(name = "lethe-bench")]
struct Options {
    /// Observations to take in.
    #[arg(long, default_value_t = 20_000)]
    events: u32,
    /// People in the database.
    #[arg(long, default_value_t = 2_000)]
    people: u32,
    /// People of them to erase.
    #[arg(long, default_value_t = 200)]
    erasures: u32,
    /// Lines in a log to erase a person from, and in the logs of the real server's company.
    #[arg(long, default_value_t = 20_000)]
    lines: u32,
    /// People to erase one by one on the idle server.
    #[arg(long, default_value_t = 100)]
    idle_erasures: u32,
    /// Only have a real server take published events in, over the Kafka at this address.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `release`, or `debug`, whose numbers say nothing.
const BUILD: &str = if cfg!(debug_assertions) {
    "debug"
} else {
    "release"
};

#[derive(Serialize)]
struct Measured {
    build: &'static str,
    taking: taking::Taking,
    erasing: erasing::Erasing,
    rewriting: rewriting::Rewriting,
    serving: server::Serving,
    /// Largest resident memory of this run, in bytes, after taking in and after erasing; nothing where the system does not tell.
    peak_bytes_taking: Option<u64>,
    peak_bytes: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    if let Some(bootstrap) = &options.kafka {
        let ingest = kafka::measure(folder.path(), bootstrap, options.events).await?;
        if options.json {
            println!("{}", serde_json::to_string_pretty(&ingest)?);
        } else {
            print!("{}", ingest_text(&ingest));
        }
        return Ok(());
    }
    let taking = taking::measure(&folder.path().join("lethe"), options.events).await?;
    let peak_bytes_taking = peak_bytes();
    let erasing = erasing::measure(folder.path(), options.people, options.erasures).await?;
    let rewriting = rewriting::measure(&folder.path().join("logs"), options.lines).await?;
    let peak = peak_bytes();
    let serving = server::measure(
        &folder.path().join("company"),
        options.people,
        options.lines.into(),
        options.idle_erasures,
    )
    .await?;
    let measured = Measured {
        build: BUILD,
        taking,
        erasing,
        rewriting,
        serving,
        peak_bytes_taking,
        peak_bytes: peak,
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print!("{}", text(&measured));
    }
    Ok(())
}

fn ingest_text(ingest: &kafka::Ingest) -> String {
    format!(
        "{BUILD} build\n\
         over Kafka  {:>10.0} events/s of the whole path, of {}: from when all stood on the intake topic, sealed, until lineage knew all\n\
         \x20                      records. Consumed, checked, opened, looked up, sealed, appended to records and keys, and folded\n\
         \x20 beside    {:>10.0} events/s of the same topic only consumed and decoded (JSON, base64), not opened: {:.4} of that speed\n",
        ingest.per_s, ingest.events, ingest.bare_per_s, ingest.of_bare,
    )
}

fn text(measured: &Measured) -> String {
    let mib = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |b| format!("{} MiB", b >> 20));
    let (taking, erasing, serving) = (&measured.taking, &measured.erasing, &measured.serving);
    let rewriting = &measured.rewriting;
    let by_hand_ms = 1_000.0 / erasing.by_hand_per_s;
    format!(
        "{} build\n\
         taking in   {:>10.0} observations/s, sealed, on the log and synced, of {}\n\
         \x20 beside    {:>10.0} observations/s only decoded from JSON: {:.4} of that speed\n\
         \x20 beside    {:>10.0} observations/s only written to a file and synced, page by page: {:.4} of that speed\n\
         erasing     {:>10.1} people/s with receipts, of {} in {} (SQLite)\n\
         \x20 beside    {:>10.1} people/s by the same statements by hand: {:.4} of that speed\n\
         rewriting   {:>10.0} lines of logs/s for a person with {} of {}, found, erased and looked for again\n\
         \x20 beside    {:>10.0} lines of logs/s by one rewrite by hand: {:.4} of that speed\n\
         memory      {} at most while taking in, {} at most in all\n\
         server      {:>10.0} records/s of {}, from the start on: {} people in SQLite, {} lines of logs\n\
         \x20 memory    {} at most when all was scanned, {} at most in all\n\
         idle        {:>10.1} ms p50, {:.1} ms p99 from the request to the certificate, {} erasures one by one\n\
         \x20 beside    {:>10.1} ms for the same statements by hand: {:.1} times as long\n",
        measured.build,
        taking.per_s,
        taking.events,
        taking.decoded_per_s,
        taking.of_decoding,
        taking.written_per_s,
        taking.of_writing,
        erasing.per_s,
        erasing.erased,
        erasing.people,
        erasing.by_hand_per_s,
        erasing.of_by_hand,
        rewriting.per_s,
        rewriting.erased,
        rewriting.lines,
        rewriting.by_hand_per_s,
        rewriting.of_by_hand,
        mib(measured.peak_bytes_taking),
        mib(measured.peak_bytes),
        serving.records_per_s,
        serving.records,
        serving.people,
        serving.lines,
        mib(serving.peak_bytes_scanned),
        mib(serving.peak_bytes),
        serving.p50_ms,
        serving.p99_ms,
        serving.erasures,
        by_hand_ms,
        serving.p50_ms / by_hand_ms,
    )
}

/// How many a second.
fn per_s(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64().max(f64::EPSILON)
}

/// The largest resident memory of this program so far, in bytes, as Linux tells it.
fn peak_bytes() -> Option<u64> {
    peak_bytes_of("self")
}

/// The largest resident memory of a process so far, in bytes.
fn peak_bytes_of(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
