//! The words of `lethe log`.

use clap::{Args, Subcommand};

/// What to look at in the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Input that could not be read
    #[command(subcommand, arg_required_else_help = true)]
    Quarantine(QuarantineCommand),
    /// Show who folds each partition of lineage, and how far behind
    #[command(
        after_help = "Exit codes: 0 all have folded what the log holds, 2 one is behind or nobody answers for it."
    )]
    #[command(after_long_help = "\
Exit codes: 0 all have folded what the log holds, 2 one is behind or nobody answers for it.

Example:

    lethe log partitions")]
    Partitions(PartitionsArgs),
    /// Show how long what was ended may still stand in each topic, and what is not as declared
    #[command(
        after_help = "Exit codes: 0 all topics are as declared, 1 something is not, 2 nobody could look."
    )]
    #[command(after_long_help = "\
Exit codes: 0 all topics are as declared, 1 something is not, 2 nobody could look.

Example:

    lethe log topics")]
    Topics,
}

/// Options of `log partitions`.
#[derive(Debug, Clone, Args)]
pub struct PartitionsArgs {
    /// Also the hash of all rows, as `lethe replay` prints it
    #[arg(long)]
    pub hash: bool,
}

/// What to do with input that could not be read.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List it, newest first
    #[command(after_long_help = "Example:\n\n    lethe log quarantine list --system website")]
    List(QuarantineListArgs),
    /// Print what it is; it may name people
    #[command(after_long_help = "Example:\n\n    lethe log quarantine show 7")]
    Show(PositionArgs),
    /// Take it out of the count, since it hides nobody: plans do not remark on it any more
    #[command(after_long_help = "Example:\n\n    lethe log quarantine drop 7 9")]
    Drop(PositionArgs),
    /// Take it in again, after the settings or a mapping were mended
    #[command(after_long_help = "Example:\n\n    lethe log quarantine retry 7 9")]
    Retry(PositionArgs),
}

/// Options of `log quarantine list`.
#[derive(Debug, Clone, Args)]
pub struct QuarantineListArgs {
    /// Only input of this system
    #[arg(long, value_name = "NAME")]
    pub system: Option<lethe_terms::SystemName>,
    /// Only input that is older than the one of this number
    #[arg(long, value_name = "NUMBER")]
    pub before: Option<u64>,
    /// Most inputs
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=500))]
    pub limit: Option<u32>,
}

/// Inputs in the quarantine.
#[derive(Debug, Clone, Args)]
pub struct PositionArgs {
    /// Their numbers, as the list shows them
    #[arg(value_name = "NUMBER", required = true)]
    pub positions: Vec<u64>,
}
