//! The lethe program: one binary for the server and for everybody who talks to it.

use std::path::PathBuf;
use std::process::ExitCode;

use lethe_node::Kinds;
use lethe_node::cli::{self, Command};
use tracing_subscriber::EnvFilter;

/// The configuration where none is named.
const DEFAULT_CONFIG: &str = "lethe.toml";

/// Threads that wait for disks at a time: enough for every partition's fold, and each keeps memory of its own that it has freed.
const DISK_THREADS_MAX: usize = 16;

/// Exit code for what could not be told or done.
const COULD_NOT: u8 = 2;

/// Exit code for wrong usage.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    quiet_panics();
    let cli = cli::parse();
    let json = cli.global.json;
    match cli.command {
        Command::Serve(args) => {
            if !args.roles.is_empty() {
                eprintln!(
                    "lethe: --role is refused on the embedded log: only one process can have it open, so it runs every role"
                );
                return ExitCode::from(USAGE);
            }
            log_to_stderr();
            server(async {
                let told_to_stop = lethe_node::told_to_stop();
                lethe_node::serve(&config(args.config), &Kinds::shipped(), told_to_stop).await
            })
        }
        Command::Verify(args) => {
            let mut out = std::io::stdout().lock();
            ExitCode::from(lethe_verify::show(
                &args.file,
                args.policy.as_deref(),
                json,
                &mut out,
            ))
        }
        Command::Replay(args) => server(async move {
            let hash = lethe_node::replay(&config(args.config), &args.into).await?;
            println!("{hash}");
            Ok(())
        }),
        Command::Doctor(args) => doctor(config(args.config), json),
        _ => client(cli),
    }
}

/// A panic's message can quote what a library was working on, so only its place is told (design invariant I1).
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        eprintln!("lethe: a part stopped unexpectedly{place}");
    }));
}

fn config(named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG))
}

fn log_to_stderr() {
    let filter =
        EnvFilter::try_from_env("LETHE_LOG").unwrap_or_else(|_| EnvFilter::new("warn,lethe_node=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

fn server(work: impl Future<Output = Result<(), lethe_node::Error>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(DISK_THREADS_MAX)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lethe: {}", error.code());
            failed(&error)
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("lethe: {error}");
    let mut source = error.source();
    while let Some(inner) = source {
        eprintln!("  because: {inner}");
        source = inner.source();
    }
    ExitCode::from(COULD_NOT)
}

fn doctor(config: PathBuf, json: bool) -> ExitCode {
    let mut well = true;
    let code = server(async {
        let found = lethe_node::doctor(&config).await?;
        well = found.iter().all(|one| one.ok);
        if json {
            let rows: Vec<_> = found
                .iter()
                .map(|one| serde_json::json!({ "what": one.what, "ok": one.ok, "detail": one.detail }))
                .collect();
            println!("{}", serde_json::Value::Array(rows));
        } else {
            for one in found {
                println!(
                    "{} {}: {}",
                    if one.ok { "ok  " } else { "FAIL" },
                    one.what,
                    one.detail
                );
            }
        }
        Ok(())
    });
    if code == ExitCode::SUCCESS && !well {
        ExitCode::FAILURE
    } else {
        code
    }
}

/// A client waits for one answer at a time: one thread is enough.
fn client(cli: cli::Cli) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run_client(cli)),
        Err(error) => failed(&error),
    }
}
