//! The lethe program: one binary for the server and for everybody who talks to it.

use std::io::Write as _;
use std::panic::{PanicHookInfo, UnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lethe_node::cli::{self, Command, Exit};
use lethe_node::{Diagnosis, Kinds, Roles};
use tracing_subscriber::EnvFilter;

/// The configuration where none is named.
const DEFAULT_CONFIG: &str = "lethe.toml";

/// Threads that wait for disks at a time: enough for every partition's fold, and each keeps memory of its own that it has freed.
const DISK_THREADS_MAX: usize = 16;

/// How long may be waited for what is left once the work is done.
const LEFT_TIME_MAX: Duration = Duration::from_secs(1);

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
            let roles = match Roles::named(&args.roles, &args.systems) {
                Ok(roles) => roles,
                Err(message) => {
                    eprintln!("lethe: {message}");
                    return ExitCode::from(USAGE);
                }
            };
            log_to_stderr();
            server(async {
                let told_to_stop = lethe_node::told_to_stop();
                lethe_node::serve(&config(args.config), roles, &Kinds::shipped(), told_to_stop).await
            })
        }
        Command::Verify(args) => {
            let mut out = std::io::stdout().lock();
            ExitCode::from(lethe_verify::answer(
                &args.ask(json),
                &mut out,
                &mut std::io::stderr(),
            ))
        }
        Command::Replay(args) => contained(|| replay(&config(args.config), &args.into, json)),
        Command::Doctor(args) => contained(|| doctor(&config(args.config), json)),
        _ => client(cli),
    }
}

/// A panic's message can quote what a library was working on, so only its place is told (design invariant I1).
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", place_of(panic))));
}

fn place_of(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or_else(String::new, |at| {
        // The folder is that of the machine that built the program.
        let file = at.file().rsplit('/').next().unwrap_or_default();
        format!(" at {file}:{}", at.line())
    });
    format!("lethe: a part stopped unexpectedly{place}")
}

/// Does work on files that may be damaged. What a library panics at in them is part of the answer, and no line before it; a panic that ends the
/// work is told with its place.
fn contained(work: impl FnOnce() -> ExitCode + UnwindSafe) -> ExitCode {
    let last = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&last);
    std::panic::set_hook(Box::new(move |panic| {
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = place_of(panic);
    }));
    std::panic::catch_unwind(work).unwrap_or_else(|_| {
        eprintln!("{}", last.lock().unwrap_or_else(PoisonError::into_inner));
        ExitCode::from(COULD_NOT)
    })
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
    run(work).map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

/// Does work of the server's; the exit code where it failed.
fn run<T>(work: impl Future<Output = Result<T, lethe_node::Error>>) -> Result<T, ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(DISK_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    let done = runtime.block_on(work);
    // What still asks a broker that does not answer changes nothing any more.
    runtime.shutdown_timeout(LEFT_TIME_MAX);
    done.map_err(|error| {
        let code = failed(&error);
        eprintln!("       code {0}, see ops/errors/{0}.md", error.code());
        if matches!(
            error,
            lethe_node::Error::Roles { .. }
                | lethe_node::Error::UnknownSystem { .. }
                | lethe_node::Error::Occupied { .. }
        ) {
            ExitCode::from(USAGE)
        } else {
            code
        }
    })
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

fn replay(config: &Path, into: &Path, json: bool) -> ExitCode {
    match run(lethe_node::replay(config, into)) {
        Ok(hash) if json => printed(&serde_json::json!({ "state_hash": hash }).to_string(), Exit::Yes),
        Ok(hash) => printed(&hash, Exit::Yes),
        Err(code) => code,
    }
}

fn doctor(config: &Path, json: bool) -> ExitCode {
    let found = match run(async { Ok(lethe_node::doctor(config).await) }) {
        Ok(found) => found,
        Err(code) => return code,
    };
    let exit = Diagnosis::exit_of(&found);
    if json {
        return printed(&serde_json::json!(found).to_string(), exit);
    }
    let lines: Vec<String> = found.iter().map(line).collect();
    printed(&lines.join("\n"), exit)
}

fn line(found: &Diagnosis) -> String {
    let mark = match found.ok {
        Some(true) => "ok  ",
        Some(false) => "FAIL",
        None => "?   ",
    };
    let code = found.code.map_or_else(String::new, |code| format!(" ({code})"));
    format!("{mark} {}: {}{code}", found.what, found.detail)
}

/// Prints a result. What nobody could read did not end well, but for a reader that has enough.
fn printed(text: &str, exit: Exit) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            let error = cli::Error::Write {
                what: "result".to_owned(),
                source,
            };
            eprintln!("lethe: {}", error.code());
            failed(&error)
        }
        _ => ExitCode::from(exit.code()),
    }
}

/// A client waits for one answer at a time: one thread is enough.
fn client(cli: cli::Cli) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run_client(cli)),
        Err(error) => failed(&error),
    }
}
