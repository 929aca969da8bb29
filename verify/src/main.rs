//! `edgetrail-verify`: the command line.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use command::{fork, record, stream, trail};

/// Both verdicts hold, no date is contradicted; the record, or the fork, is proven.
const EXIT_HOLDS: u8 = 0;
/// Something was altered, is missing or is dated wrongly; the record, or the fork, is not proven.
const EXIT_FINDINGS: u8 = 1;
/// The trail, the keys or the arguments could not be read: nothing was verified.
const EXIT_UNREADABLE: u8 = 2;

/// Verifies an Edgetrail trail offline: that nothing was altered, and that nothing is missing.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A whole trail, from a directory or from S3
    #[command(after_help = trail::HELP)]
    Trail(trail::Args),
    /// One agent's streams: how each began, went on and ended, and what is missing hour by hour
    #[command(after_help = stream::HELP)]
    Stream(stream::Args),
    /// One record of a log file, followed back to the host that sealed it
    #[command(after_help = record::HELP)]
    Record(record::Args),
    /// Exported evidence that two parties held one agent's state
    #[command(after_help = fork::HELP)]
    Fork(fork::Args),
    /// Shell completion, on standard output
    #[command(hide = true)]
    Completion { shell: clap_complete::Shell },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::from(EXIT_HOLDS),
        Ok(false) => ExitCode::from(EXIT_FINDINGS),
        Err(error) => {
            eprintln!("edgetrail-verify: {error:#}");
            ExitCode::from(EXIT_UNREADABLE)
        }
    }
}

/// Whether all that was asked for holds.
fn run(cli: Cli) -> anyhow::Result<bool> {
    match cli.command {
        Command::Completion { shell } => {
            use clap::CommandFactory;
            clap_complete::generate(shell, &mut Cli::command(), "edgetrail-verify", &mut std::io::stdout());
            Ok(true)
        }
        Command::Trail(args) => trail::run(&args),
        Command::Stream(args) => stream::run(&args),
        Command::Record(args) => record::run(&args),
        Command::Fork(args) => fork::run(&args),
    }
}
