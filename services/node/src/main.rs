//! The lethe program: one binary for the server and for everybody who talks to it.

use std::process::ExitCode;

use lethe_node::cli::{self, Command};

fn main() -> ExitCode {
    let cli = cli::parse();
    let json = cli.global.json;
    match cli.command {
        Command::Serve(_) => not_built("serve"),
        Command::Verify(args) => {
            let _ = (args, json);
            not_built("verify")
        }
        Command::Replay(_) => not_built("replay"),
        Command::Doctor(_) => not_built("doctor"),
        _ => client(cli),
    }
}

fn not_built(command: &str) -> ExitCode {
    eprintln!("lethe: {command} is not built yet");
    ExitCode::from(2)
}

/// A client waits for one answer at a time: one thread is enough.
fn client(cli: cli::Cli) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run_client(cli)),
        Err(error) => {
            eprintln!("lethe: cannot start: {error}");
            ExitCode::from(2)
        }
    }
}
