//! The real server on a company of a size: its memory while it takes everything in, and one erasure after the other on the idle system.

use std::path::{Path, PathBuf};
use std::time::Instant;

use lethe_journeys::company::Company;
use lethe_journeys::course::{Api, Course};
use lethe_journeys::server::{Home, Server, free_port};
use serde::Serialize;

use crate::{Failure, per_s};

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Serving {
    pub(crate) people: u32,
    pub(crate) lines: u64,
    /// Records that the scans published, a second: rows and lines read, sealed, logged, synced and folded into lineage.
    pub(crate) records_per_s: f64,
    pub(crate) records: u64,
    /// Largest resident memory of the server when everything was taken in, in bytes; nothing where the system does not tell.
    pub(crate) peak_bytes_scanned: Option<u64>,
    /// The same after the erasures.
    pub(crate) peak_bytes: Option<u64>,
    /// Erasures that were measured.
    pub(crate) erasures: u32,
    /// From the request to the certificate, in milliseconds, approved at once.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Founds a company of a size in `folder`, has it scanned, and erases people one by one.
pub(crate) async fn measure(
    folder: &Path,
    people: u32,
    lines: u64,
    erasures: u32,
) -> Result<Serving, Failure> {
    if erasures == 0 || erasures >= people {
        return Err("--idle-erasures is at least 1 and less than --people".into());
    }
    std::fs::create_dir_all(folder.join("lethe"))?;
    let company = Company::found(folder, 7, people, lines).await;
    let port = free_port();
    let home = Home {
        program: beside_this()?,
        config: company.configure(port, ""),
        output: folder.join("output"),
        url: format!("http://127.0.0.1:{port}"),
    };
    let api = Api::new(&home.url);
    let mut server = home.start();
    let began = Instant::now();
    if !server.listens().await {
        return Err(format!("the server does not start: {}", home.last_words()).into());
    }
    let mut records = 0;
    for system in ["shop", "website"] {
        api.scan(system).await.map_err(|_| "the server went away")?;
        records += api.records(system).await.map_err(|_| "the server went away")?;
    }
    let scanned = began.elapsed();
    let peak_bytes_scanned = peak_bytes(&server);
    let mut took = Vec::new();
    for index in 0..erasures {
        let person = company.world.person(index);
        let mut course = Course::new("erasure", &person.email, format!("bench-{index}"));
        let began = Instant::now();
        course.go_on(&api).await.map_err(|_| "the server went away")?;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    let measured = Serving {
        people,
        lines,
        records_per_s: per_s(u32::try_from(records)?, scanned),
        records,
        peak_bytes_scanned,
        peak_bytes: peak_bytes(&server),
        erasures,
        p50_ms: quantile(&took, 50),
        p99_ms: quantile(&took, 99),
    };
    if !server.stop().success() {
        return Err("the server did not stop in order".into());
    }
    Ok(measured)
}

/// The program of the same build; `LETHE_TEST_PROGRAM` names another one.
pub(crate) fn beside_this() -> Result<PathBuf, Failure> {
    if let Some(program) = std::env::var_os("LETHE_TEST_PROGRAM") {
        return Ok(program.into());
    }
    let program = std::env::current_exe()?.with_file_name("lethe");
    if program.exists() {
        return Ok(program);
    }
    Err(format!("{} is not built", program.display()).into())
}

fn peak_bytes(server: &Server) -> Option<u64> {
    crate::peak_bytes_of(&server.id().to_string())
}

/// The smallest value that at least `percent` of all do not exceed.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}
