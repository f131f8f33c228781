//! The command line: the client of a running server.
//!
//! `serve`, `verify`, `replay` and `doctor` need no server; the program's `main` carries them out. All others go through
//! [`run_client`]. Data goes to stdout, talk to stderr; the shapes of `--json` are on ops/cli.md.

mod args;
mod cases;
mod exit;
mod identifiers;
mod intake;
mod lineage;
mod log_args;
mod partitions;
mod quarantine;
mod systems;
mod talk;
mod topics;
mod wait;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use lethe_gateway::client::Client;

pub use self::args::{
    ApproveArgs, CaseArgs, CaseCommand, CertificateArgs, Cli, CloseArgs, Command, ConnectorArgs,
    ConnectorCommand, DEFAULT_SERVER, DoctorArgs, Global, IdentifierArgs, LiftArgs, LineageArgs, ListArgs,
    OpenArgs, OpeningArgs, OutArgs, ReplayArgs, ScanArgs, ServeArgs, ShowArgs, SystemArgs, SystemCommand,
    VerifyArgs, WaitArgs, WaitedArgs,
};
pub use self::exit::{Error, Exit};
pub use self::intake::{IntakeCommand, SenderArgs};
pub use self::log_args::{LogCommand, PartitionsArgs, PositionArgs, QuarantineCommand, QuarantineListArgs};
use self::talk::Talk;

/// Reads the command line. Ends the program where it is wrong (64) or only help was asked for (0).
pub fn parse() -> Cli {
    match parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err((exit, error)) => {
            // Nobody reads any more: then there is nothing to say either.
            let _ = error.print();
            std::process::exit(i32::from(exit.code()))
        }
    }
}

/// Reads a command line.
///
/// # Errors
/// The exit code and what to print: help and version too.
pub fn parse_from<I, T>(words: I) -> Result<Cli, (Exit, clap::Error)>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    Cli::try_parse_from(words).map_err(|error| {
        let exit = if error.use_stderr() {
            Exit::Usage
        } else {
            Exit::Yes
        };
        (exit, error)
    })
}

/// Carries out a command that talks to a server, on the terminal.
pub async fn run_client(cli: Cli) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr().lock();
    ExitCode::from(
        run_to(
            cli,
            &mut out,
            &mut err,
            std::io::IsTerminal::is_terminal(&std::io::stderr()),
        )
        .await
        .code(),
    )
}

/// Carries out a command that talks to a server, and writes to the given places. `lively` shows progress on the terminal.
pub async fn run_to(cli: Cli, out: &mut dyn Write, err: &mut dyn Write, lively: bool) -> Exit {
    let mut talk = Talk {
        out,
        err,
        json: cli.global.json,
        lively,
    };
    let ended = run(cli, &mut talk).await;
    // What is still held back for stdout counts as printed only when it is out.
    match ended.and_then(|exit| talk.flushed(exit)) {
        Ok(exit) => exit,
        // Who reads only the beginning has got what they wanted.
        Err(Error::Write { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => Exit::Yes,
        Err(error) => {
            let _ = writeln!(talk.err, "lethe: {error}");
            let _ = writeln!(talk.err, "       code {0}, see ops/errors/{0}.md", error.code());
            error.exit()
        }
    }
}

async fn run(cli: Cli, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let client = || client(&cli.global);
    match cli.command {
        Command::Case(command) => cases::run(&client()?, command, talk).await,
        Command::Lineage(args) => lineage::run(&client()?, args, talk).await,
        Command::System(command) => systems::run(&client()?, command, talk).await,
        Command::Log(LogCommand::Partitions(args)) => partitions::run(&client()?, &args, talk).await,
        Command::Log(LogCommand::Topics) => topics::run(&client()?, talk).await,
        Command::Log(LogCommand::Quarantine(command)) => quarantine::run(&client()?, command, talk).await,
        Command::Intake(IntakeCommand::Keys(args)) => intake::keys(&client()?, &args, talk).await,
        Command::Intake(IntakeCommand::Renew) => intake::renew(&client()?, talk).await,
        Command::Intake(IntakeCommand::Sender(args)) => intake::sender(&args, talk),
        Command::Connector(ConnectorCommand::Check(args)) => {
            systems::connector_check(&client()?, &args, talk).await
        }
        Command::Policy(args) => {
            let policy = client()?.policy().await?;
            talk.bytes(&policy, args.out.as_deref())?;
            Ok(Exit::Yes)
        }
        Command::Serve(_) | Command::Verify(_) | Command::Replay(_) | Command::Doctor(_) => {
            Err(Error::Usage {
                expected: "a command that talks to a server".to_owned(),
            })
        }
    }
}

fn unreadable(what: &str, path: &Path, source: std::io::Error) -> Error {
    Error::Read {
        what: talk::whole(what, path),
        source,
    }
}

/// The client that the options describe.
///
/// # Errors
/// Where the key file or the one of authorities cannot be read, or the address is none.
fn client(global: &Global) -> Result<Client, Error> {
    let key = match &global.key_file {
        None => None,
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|source| unreadable("key file", path, source))?;
            let key = text
                .lines()
                .map(str::trim)
                .find(|line| !line.is_empty() && !line.starts_with('#'));
            let key = key.ok_or_else(|| Error::Usage {
                expected: "a key file with the key on one line".to_owned(),
            })?;
            Some(key.to_owned())
        }
    };
    let authorities = global.ca_file.as_deref().map(|path| {
        std::fs::read(path).map_err(|source| unreadable("file of certificate authorities", path, source))
    });
    Ok(Client::new(
        &global.server,
        key,
        authorities.transpose()?.as_deref(),
    )?)
}
