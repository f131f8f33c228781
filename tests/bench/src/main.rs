//! Speed and memory as ratios against something real in the same run: a ratio holds on another machine, a speed does not.

mod erasing;
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    /// `release`, or `debug`, whose numbers say nothing.
    build: &'static str,
    taking: taking::Taking,
    erasing: erasing::Erasing,
    /// Largest resident memory of this run, in bytes, after taking in and after erasing; nothing where the system does not tell.
    peak_bytes_taking: Option<u64>,
    peak_bytes: Option<u64>,
    /// What this run does not say.
    not_measured: [&'static str; 1],
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let folder = tempfile::tempdir()?;
    let taking = taking::measure(&folder.path().join("lethe"), options.events).await?;
    let peak_bytes_taking = peak_bytes();
    let erasing = erasing::measure(folder.path(), options.people, options.erasures).await?;
    let measured = Measured {
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        taking,
        erasing,
        peak_bytes_taking,
        peak_bytes: peak_bytes(),
        not_measured: [
            "one erasure on an idle system, from the request to the certificate, over the real server",
        ],
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print!("{}", text(&measured));
    }
    Ok(())
}

fn text(measured: &Measured) -> String {
    let mib = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |b| format!("{} MiB", b >> 20));
    let (taking, erasing) = (&measured.taking, &measured.erasing);
    format!(
        "{} build\n\
         taking in   {:>10.0} observations/s, sealed, on the log and synced, of {}\n\
         \x20 beside    {:>10.0} observations/s only decoded from JSON: {:.4} of that speed\n\
         \x20 beside    {:>10.0} observations/s only written to a file and synced, page by page: {:.4} of that speed\n\
         erasing     {:>10.1} people/s with receipts, of {} in {} (SQLite)\n\
         \x20 beside    {:>10.1} people/s by the same statements by hand: {:.4} of that speed\n\
         memory      {} at most while taking in, {} at most in all\n\
         not measured: {}\n",
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
        mib(measured.peak_bytes_taking),
        mib(measured.peak_bytes),
        measured.not_measured.join("; "),
    )
}

/// How many a second.
fn per_s(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64().max(f64::EPSILON)
}

/// The largest resident memory of this program so far, in bytes, as Linux tells it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
