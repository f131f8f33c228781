//! `lethe-world`: makes the world of the demo and the tests, keeps it busy, and audits it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lethe_world::seed::Database;
use lethe_world::traffic::Traffic;
use lethe_world::{Error, World, audit, logs, seed, traffic};

/// A software company's customers, orders and traffic, made up.
#[derive(Parser)]
#[command(name = "lethe-world", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create and fill the registration database.
    Seed {
        /// postgres://… or sqlite:…
        #[arg(long)]
        database: String,
        /// How many people register.
        #[arg(long, default_value_t = 2000)]
        people: u32,
        /// Seed: the same number makes the same people.
        #[arg(long, default_value_t = 20_180_525)]
        seed: u64,
        /// End of the made-up past, in seconds since 1970; now by default.
        #[arg(long)]
        ends: Option<i64>,
        /// Where to write who is who.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write three weeks of web-server logs: access.log, access.log.1, access.log.2.gz.
    Logs {
        /// World file that `seed` wrote; gets the number of lines.
        #[arg(long)]
        world: PathBuf,
        /// Folder of the logs.
        #[arg(long)]
        dir: PathBuf,
        /// How many lines.
        #[arg(long, default_value_t = 20_000)]
        lines: u64,
    },
    /// Send requests to a web server until stopped.
    Traffic {
        /// World file.
        #[arg(long)]
        world: PathBuf,
        /// The server, as http://HOST:PORT.
        #[arg(long)]
        target: String,
        /// Requests a second.
        #[arg(long, default_value_t = 20)]
        rate: u32,
        /// The subject sends nothing any more once this file is there.
        #[arg(long)]
        until_file: Option<PathBuf>,
        /// Write the number of each answered request of the others here.
        #[arg(long)]
        answered: Option<PathBuf>,
        /// End after so many requests; 0 for never.
        #[arg(long, default_value_t = 0)]
        count: u64,
    },
    /// Compare database and logs with the world: is the subject gone, and is everybody else as they were? Exit 1 where not.
    Audit(Audit),
}

#[derive(Args)]
struct Audit {
    /// World file.
    #[arg(long)]
    world: PathBuf,
    /// The database.
    #[arg(long)]
    database: Option<String>,
    /// Log files, oldest first.
    #[arg(long, num_args = 1..)]
    logs: Vec<PathBuf>,
    /// What `traffic --answered` wrote.
    #[arg(long)]
    answered: Option<PathBuf>,
    /// The subject may still be there: look at the others only.
    #[arg(long)]
    subject_present: bool,
    /// What the subject bought and paid must still be in the books.
    #[arg(long)]
    amounts_kept: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            eprintln!("lethe-world: {text}");
            ExitCode::from(2)
        }
    }
}

async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Seed {
            database,
            people,
            seed,
            ends,
            out,
        } => {
            let world = World::new(
                seed,
                people,
                ends.unwrap_or_else(|| jiff::Timestamp::now().as_second()),
            )?;
            fill(&world, &database, &out).await?;
        }
        Command::Logs {
            world: path,
            dir,
            lines,
        } => {
            let world = World {
                log_lines: lines,
                ..World::read(&path)?
            };
            logs::write(&world, &dir)?;
            world.write(&path)?;
        }
        Command::Traffic {
            world,
            target,
            rate,
            until_file,
            answered,
            count,
        } => {
            let host = target
                .strip_prefix("http://")
                .unwrap_or(&target)
                .trim_end_matches('/')
                .to_owned();
            traffic::send(
                &World::read(&world)?,
                &Traffic {
                    host,
                    rate,
                    until_file,
                    answered,
                    count,
                },
            )
            .await?;
        }
        Command::Audit(audit) => return Ok(print(&audit.run().await?)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn fill(world: &World, database: &str, out: &Path) -> Result<(), Error> {
    let counts = seed::seed(world, &mut Database::connect(database).await?).await?;
    world.write(out)?;
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, rows)| format!("{rows} {name}"))
        .collect();
    println!("{}", counts.join(", "));
    Ok(())
}

impl Audit {
    async fn run(self) -> Result<audit::Report, Error> {
        let world = World::read(&self.world)?;
        let mut report = audit::Report::default();
        if let Some(url) = &self.database {
            let mut database = Database::connect(url).await?;
            audit::database(&world, &mut database, !self.subject_present, &mut report).await?;
            if self.amounts_kept {
                audit::amounts(&world, &mut database, &mut report).await?;
            }
        }
        if !self.logs.is_empty() {
            audit::logs(
                &world,
                &self.logs,
                self.answered.as_deref(),
                !self.subject_present,
                &mut report,
            )?;
        }
        Ok(report)
    }
}

fn print(report: &audit::Report) -> ExitCode {
    let rows: Vec<String> = report
        .rows
        .iter()
        .map(|(table, rows)| format!("{rows} {table}"))
        .collect();
    if !rows.is_empty() {
        println!("rows of others as they were: {}", rows.join(", "));
    }
    if report.lines > 0 {
        println!(
            "lines of others as they were: {} of the past, {} written since",
            report.lines, report.live_lines
        );
    }
    if report.kept > 0 {
        println!(
            "rows of the subject that stay for the books, without a name: {}",
            report.kept
        );
    }
    for finding in &report.findings {
        println!("WRONG: {finding}");
    }
    if report.more > 0 {
        println!("WRONG: and {} more", report.more);
    }
    if report.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
