//! The words of the command line. Parsing only validates; nothing is done here.

use std::fmt;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use lethe_terms::{CaseId, CaseState, Right, SystemName, Timestamp};

use super::intake::IntakeCommand;
use super::log_args::LogCommand;

/// Where the server is where nothing is said: the address that `lethe serve` listens on by default.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7380";

const EXIT_CODES: &str =
    "Exit codes: 0 yes, 1 no, 2 could not tell, 64 wrong usage. Data goes to stdout, talk to stderr.";

const EXAMPLE: &str = "\
Exit codes: 0 yes, 1 no, 2 could not tell, 64 wrong usage. Data goes to stdout, talk to stderr.

Example: find a person, have their data erased, keep the proof

    lethe lineage --identifier email=ada@example.org
    lethe case open --right erasure --identifier email=ada@example.org --wait
    lethe case plan case-0123456789abcdef
    lethe case approve case-0123456789abcdef --plan sha256:... --wait
    lethe case certificate case-0123456789abcdef --out certificate.json
    lethe verify certificate.json --policy lethe.policy";

/// Finds a person's data in every system, has it erased or restricted, and proves it.
#[derive(Debug, Parser)]
#[command(name = "lethe", version, after_help = EXIT_CODES, after_long_help = EXAMPLE)]
#[command(
    max_term_width = 100,
    disable_help_subcommand = true,
    propagate_version = true
)]
pub struct Cli {
    /// Where the server is and how to talk to it.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server and output")]
pub struct Global {
    /// Address of the server
    #[arg(long, global = true, value_name = "URL", env = "LETHE_SERVER", hide_env = true, default_value = DEFAULT_SERVER)]
    pub server: String,
    /// File with the API key, on one line
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LETHE_KEY_FILE",
        hide_env = true
    )]
    pub key_file: Option<PathBuf>,
    /// PEM file with the authority of the server's certificate, where it is the company's own
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "LETHE_CA_FILE",
        hide_env = true
    )]
    pub ca_file: Option<PathBuf>,
    /// Print JSON, in the shape of ops/cli.md
    #[arg(long, global = true)]
    pub json: bool,
}

/// Options that every command takes and that mean nothing to one without a server: taken, and not shown.
#[derive(Debug, Clone, Default, Args)]
pub struct NoServer {
    #[arg(long, id = "server", hide = true)]
    server: Option<String>,
    #[arg(long, id = "key_file", hide = true)]
    key_file: Option<PathBuf>,
    #[arg(long, id = "ca_file", hide = true)]
    ca_file: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    #[command(after_long_help = "Example:\n\n    lethe serve --config lethe.toml")]
    Serve(ServeArgs),
    /// Open cases and see them through
    #[command(subcommand, arg_required_else_help = true)]
    Case(CaseCommand),
    /// Show where a person's data is, and why it is theirs
    #[command(
        after_help = "Exit codes: 0 records found, 1 none, 2 could not tell (a part of lineage did not answer, or none found and inputs in quarantine may hide some)."
    )]
    #[command(after_long_help = "\
Exit codes: 0 records found, 1 none, 2 could not tell (a part of lineage did not answer, or none found and inputs in quarantine may hide some).

Example: keep the identifier out of the shell's history, and get a picture

    lethe lineage --identifier - --svg ada.svg
    email=ada@example.org")]
    Lineage(LineageArgs),
    /// List, check and scan the systems
    #[command(subcommand, arg_required_else_help = true)]
    System(SystemCommand),
    /// Look into the log
    #[command(subcommand, arg_required_else_help = true)]
    Log(LogCommand),
    /// The keys of programs that publish events
    #[command(subcommand, arg_required_else_help = true)]
    Intake(IntakeCommand),
    /// Try a connector against the contract
    #[command(subcommand, arg_required_else_help = true)]
    Connector(ConnectorCommand),
    /// Verify a certificate, offline
    #[command(after_help = VERIFY_CODES)]
    #[command(after_long_help = VERIFY_EXAMPLE)]
    Verify(VerifyArgs),
    /// Print the policy that verifiers need
    #[command(after_long_help = "\
Hand the policy to verifiers by another way than the certificate: who trusts a key inside a certificate trusts its forger.

Example:

    lethe policy --out lethe.policy")]
    Policy(OutArgs),
    /// Rebuild derived state from the log of a stopped server
    #[command(after_long_help = "Example:\n\n    lethe replay --into /tmp/rebuilt")]
    Replay(ReplayArgs),
    /// Look at the files of a stopped server, or of stopped processes on Kafka, and say what is wrong
    #[command(after_help = DOCTOR_CODES)]
    #[command(after_long_help = "\
Exit codes: 0 in order, 1 something is not, 2 could not tell (the server runs).

Example:

    lethe doctor --config lethe.toml")]
    Doctor(DoctorArgs),
}

const VERIFY_CODES: &str = "Exit codes: 0 complete, 1 complete with exceptions, 2 no policy given or report not written, 3 invalid or \
    about somebody else, 4 malformed or unreadable, 5 a valid statement that the case was not completed, 64 wrong usage.";

const DOCTOR_CODES: &str = "Exit codes: 0 in order, 1 something is not, 2 could not tell (the server runs).";

const VERIFY_EXAMPLE: &str = "\
Exit codes: 0 complete, 1 complete with exceptions, 2 no policy given or report not written, 3 invalid or about somebody
else, 4 malformed or unreadable, 5 a valid statement that the case was not completed, 64 wrong usage. Needs no server and no
network; the files must be regular ones.

Example:

    lethe verify certificate.json --policy lethe.policy

Whom it is about shows with the opening that the controller hands out with it (`lethe case opening`):

    lethe verify certificate.json --policy lethe.policy --subject email=ada@example.org --opening opening.json";

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The configuration, lethe.toml where none is named; LETHE_ variables of the environment come on top
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run this role only: gateway, lineage, conductor, ledger, intake or connectors; may be given again. Without it: everything
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
    /// With the role connectors, host this system only; may be given again. Without it: every one that does not publish by itself
    #[arg(long = "system", value_name = "NAME")]
    pub systems: Vec<SystemName>,
    /// What it has no use for.
    #[command(flatten)]
    pub no_server: NoServer,
}

/// Options of `verify`. `Debug` shows no identifier.
#[derive(Clone, Args)]
pub struct VerifyArgs {
    /// The certificate or statement
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The policy that you were given beforehand
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Whom it has to be about: KIND=VALUE such as email=ada@example.org, @FILE with one a line, or - for stdin
    #[arg(
        long,
        value_name = "KIND=VALUE",
        requires = "opening",
        allow_hyphen_values = true
    )]
    pub subject: Option<String>,
    /// What opens the certificate's commitment to that person
    #[arg(long, value_name = "FILE", requires = "subject")]
    pub opening: Option<PathBuf>,
    /// What it has no use for.
    #[command(flatten)]
    pub no_server: NoServer,
}

impl fmt::Debug for VerifyArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyArgs({})", self.file.display())
    }
}

impl VerifyArgs {
    /// What the verifier is asked.
    pub fn ask(self, json: bool) -> lethe_verify::Ask {
        let subject = self.subject.zip(self.opening);
        lethe_verify::Ask {
            file: self.file,
            policy: self.policy,
            subject: subject.map(|(identifier, opening)| lethe_verify::Subject { identifier, opening }),
            json,
        }
    }
}

/// Options of `replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Folder for the rebuilt state; must be empty or not there
    #[arg(long, value_name = "DIR")]
    pub into: PathBuf,
    /// The configuration of the stopped server
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What it has no use for.
    #[command(flatten)]
    pub no_server: NoServer,
}

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// The configuration of the stopped server
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What it has no use for.
    #[command(flatten)]
    pub no_server: NoServer,
}

/// Where to write.
#[derive(Debug, Clone, Args)]
pub struct OutArgs {
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What to do with cases.
#[derive(Debug, Subcommand)]
pub enum CaseCommand {
    /// Open a case for a person's request
    #[command(after_long_help = "\
Example: restrict first, and stay until the plan waits for approval

    lethe case open --right restriction --ground 18-1-a --identifier email=ada@example.org --wait

Identifiers from a file, one KIND=VALUE a line, stay out of the shell's history:

    lethe case open --right erasure --identifier @ada.txt")]
    Open(OpenArgs),
    /// List cases, newest first
    #[command(after_long_help = "Example:\n\n    lethe case list --state needs_attention --json")]
    List(ListArgs),
    /// Show a case
    #[command(after_long_help = "Example:\n\n    lethe case show case-0123456789abcdef --wait")]
    Show(ShowArgs),
    /// Show the plan of a case
    #[command(after_long_help = "Example:\n\n    lethe case plan case-0123456789abcdef")]
    Plan(CaseArgs),
    /// Approve a plan that was read, by its digest
    #[command(
        after_long_help = "Example:\n\n    lethe case approve case-0123456789abcdef --plan sha256:... --wait"
    )]
    Approve(ApproveArgs),
    /// The person takes the request back
    #[command(after_long_help = "Example:\n\n    lethe case withdraw case-0123456789abcdef")]
    Withdraw(WaitedArgs),
    /// End a restriction, after the person was told
    #[command(after_long_help = "\
GDPR Art. 18(3): the person is told before the restriction ends.

Example:

    lethe case lift case-0123456789abcdef --notified-at 2026-11-24T12:00:00Z --wait")]
    Lift(LiftArgs),
    /// Make a new plan for a case that needs attention
    #[command(after_long_help = "Example:\n\n    lethe case replan case-0123456789abcdef --wait")]
    Replan(WaitedArgs),
    /// Close a case as not completed, with a signed statement
    #[command(
        after_long_help = "Example:\n\n    lethe case close case-0123456789abcdef --reason contradicted"
    )]
    Close(CloseArgs),
    /// Fetch a certificate or statement of a case: the newest, or an earlier one
    #[command(after_long_help = "\
Example:

    lethe case certificate case-0123456789abcdef --out certificate.json

After a lift the certificate of the restriction is still there, under the id that `lethe case show` lists:

    lethe case certificate case-0123456789abcdef --certificate 00112233445566778899aabbccddeeff --out restriction.json")]
    Certificate(CertificateArgs),
    /// Fetch what shows whom the certificates of a case are about
    #[command(after_long_help = "\
A certificate holds a commitment to the person and no identifier. Who has the opening beside it can try identifiers: give it to the person, and to
whoever may check for them. A file is written for you alone.

Example:

    lethe case opening case-0123456789abcdef --out opening.json
    lethe verify certificate.json --policy lethe.policy --subject email=ada@example.org --opening opening.json")]
    Opening(OpeningArgs),
}

/// Whom it is about. `Debug` shows no value.
#[derive(Clone, Args)]
pub struct IdentifierArgs {
    /// KIND=VALUE such as email=ada@example.org, KIND@ISSUER=VALUE such as user_id@forum=17, @FILE with one a line, or - for stdin; may be given again
    #[arg(
        long = "identifier",
        value_name = "KIND=VALUE",
        required = true,
        allow_hyphen_values = true
    )]
    pub given: Vec<String>,
}

impl fmt::Debug for IdentifierArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentifierArgs({})", self.given.len())
    }
}

/// Whether and how long to wait.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// Return when the case has ended or waits for a person
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after so many seconds (exit code 2)
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub timeout: u64,
}

/// Options of `case open`.
#[derive(Debug, Clone, Args)]
pub struct OpenArgs {
    /// The right that the person exercises
    #[arg(long, value_parser = PossibleValuesParser::new(Right::CODES))]
    pub right: String,
    /// Whom it is about.
    #[command(flatten)]
    pub identifiers: IdentifierArgs,
    /// Why: 17-1-a to 17-1-f for an erasure (default 17-1-a), 18-1-a to 18-1-d for a restriction (default 18-1-a)
    #[arg(long)]
    pub ground: Option<String>,
    /// The person's own earlier restriction, which they give up for this erasure
    #[arg(long, value_name = "CASE")]
    pub supersedes: Option<CaseId>,
    /// When the request arrived, where that was earlier, at most 1461 days ago: the time to answer runs from then
    #[arg(long, value_name = "TIME")]
    pub received_at: Option<Timestamp>,
    /// Whether and how long to wait.
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// Options of `case list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// Only cases in this state
    #[arg(long, value_parser = PossibleValuesParser::new(CaseState::CODES), hide_possible_values = true)]
    pub state: Option<String>,
    /// Only cases of this right
    #[arg(long, value_parser = PossibleValuesParser::new(Right::CODES))]
    pub right: Option<String>,
    /// Only cases whose answer is overdue
    #[arg(long)]
    pub overdue: bool,
    /// Only cases that wait for a person
    #[arg(long)]
    pub waiting: bool,
    /// Most cases
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: Option<u32>,
    /// Go on where an earlier list ended
    #[arg(long)]
    pub page: Option<String>,
}

/// A case.
#[derive(Debug, Clone, Args)]
pub struct CaseArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
}

/// Options of `case show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// Whether and how long to wait.
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// A case, and whether to wait for it.
#[derive(Debug, Clone, Args)]
pub struct WaitedArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// Whether and how long to wait.
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// Options of `case approve`.
#[derive(Debug, Clone, Args)]
pub struct ApproveArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// Digest of the plan that you read, as `lethe case plan` shows it
    #[arg(long, value_name = "DIGEST")]
    pub plan: String,
    /// Whether and how long to wait.
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// Options of `case lift`.
#[derive(Debug, Clone, Args)]
pub struct LiftArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// When the person was told, such as 2026-11-24T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub notified_at: Timestamp,
    /// Whether and how long to wait.
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// Options of `case close`.
#[derive(Debug, Clone, Args)]
pub struct CloseArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// Why
    #[arg(long, value_parser = PossibleValuesParser::new(["system_failed", "system_unreachable", "contradicted"]))]
    pub reason: String,
    /// Whether and how long to wait.
    #[command(flatten)]
    pub waiting: WaitArgs,
}

/// Options of `case certificate`.
#[derive(Debug, Clone, Args)]
pub struct CertificateArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// Which one, by its id as `lethe case show` lists it; without it the newest
    #[arg(long, value_name = "CERTIFICATE")]
    pub certificate: Option<String>,
    /// Where to write.
    #[command(flatten)]
    pub out: OutArgs,
}

/// Options of `case opening`.
#[derive(Debug, Clone, Args)]
pub struct OpeningArgs {
    /// The case, such as case-0123456789abcdef
    #[arg(value_name = "ID")]
    pub id: CaseId,
    /// Where to write.
    #[command(flatten)]
    pub out: OutArgs,
}

/// Options of `lineage`.
#[derive(Debug, Clone, Args)]
pub struct LineageArgs {
    /// Whom it is about.
    #[command(flatten)]
    pub identifiers: IdentifierArgs,
    /// Print the graph for Graphviz
    #[arg(long, conflicts_with = "svg")]
    pub dot: bool,
    /// Write the picture to this file, or - for stdout
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// What to do with systems.
#[derive(Debug, Subcommand)]
pub enum SystemCommand {
    /// List the systems and how they stand
    #[command(after_long_help = "Example:\n\n    lethe system list")]
    List,
    /// Check that systems can be reached and allow what they declare
    #[command(after_long_help = "Example:\n\n    lethe system check shop")]
    Check(SystemArgs),
    /// Read what the systems hold, for the first time or again
    #[command(after_long_help = "\
Exit codes: 0 read to the end, 1 a scan failed, 2 it did not go on for --wait seconds, such as of a system that is down: it goes on by itself.

Example:

    lethe system scan shop")]
    Scan(ScanArgs),
}

/// A system, or all.
#[derive(Debug, Clone, Args)]
pub struct SystemArgs {
    /// The system; without it all
    #[arg(value_name = "NAME")]
    pub name: Option<SystemName>,
}

/// Longest wait for a scan that does not go on, in seconds: a page of the largest table takes less, and a system that is down takes for ever.
const SCAN_STILL_SECONDS: u64 = 120;

/// Options of `system scan`.
#[derive(Debug, Clone, Args)]
pub struct ScanArgs {
    /// Which system.
    #[command(flatten)]
    pub system: SystemArgs,
    /// Give up on a scan that has not gone on for so many seconds (exit code 2)
    #[arg(long, value_name = "SECONDS", default_value_t = SCAN_STILL_SECONDS)]
    pub wait: u64,
}

/// What to do with connectors.
#[derive(Debug, Subcommand)]
pub enum ConnectorCommand {
    /// Run the conformance suite against a live system, with made-up people only
    #[command(after_long_help = "Example:\n\n    lethe connector check shop")]
    Check(ConnectorArgs),
}

/// A connector.
#[derive(Debug, Clone, Args)]
pub struct ConnectorArgs {
    /// The system whose connector is tried
    #[arg(value_name = "NAME")]
    pub name: SystemName,
}
