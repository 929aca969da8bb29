//! The commands a user types.
//!
//! Exit codes: 0 done, 1 a finding or a failure, 2 wrong usage. Errors say what to do next; `-o json` where a command
//! prints data.

mod buffer;
mod check;
mod join;
mod parse;
mod run;
mod status;
mod tap;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::Config;

/// Captures who did what on this host, keeps it durably and streams it, sealed, to a collector.
#[derive(Debug, Parser)]
#[command(name = "edgetrail-agent", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    /// The configuration [default: /etc/edgetrail/agent.toml, where it exists]
    #[arg(long, value_name = "FILE", global = true, env = "EDGETRAIL_CONFIG")]
    config: Option<PathBuf>,
    /// How data is printed
    #[arg(short, long, value_name = "FORMAT", global = true, default_value = "text")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture until stopped
    Run(run::Arguments),
    /// Join a collector with a token
    Join(join::Arguments),
    /// Validate the configuration and what this host offers
    Check,
    /// Depth, head, lag, gaps, certificate, and each source on or off
    Status,
    /// Watch records live
    Tap(tap::Arguments),
    /// Print every record that some input would make; touches nothing
    Parse(parse::Arguments),
    /// Look at the buffer
    Buffer(buffer::Arguments),
    /// Print shell completions
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

const EXAMPLES: &str = "\
Examples:
  edgetrail-agent join https://collector:8443 --token T --ca-pin sha256:…
  edgetrail-agent check
  edgetrail-agent run --config /etc/edgetrail/agent.toml
  edgetrail-agent tap --name RunCommand
  edgetrail-agent parse --source audit /var/log/audit/audit.log

Exit codes: 0 done, 1 a finding or a failure, 2 wrong usage.";

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Fails only if another provider was installed before, which nothing does.
    drop(rustls::crypto::ring::default_provider().install_default());
    match arguments.execute() {
        Ok(code) => code,
        Err(error) => {
            // The chain once, at the edge.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let Self { config, output, command } = self;
        let load = || Config::load(config.as_deref());
        match command {
            Command::Run(arguments) => run::execute(&arguments, load()?),
            Command::Join(arguments) => join::execute(&arguments, load()?, output),
            Command::Check => check::execute(load(), output),
            Command::Status => status::execute(&load()?, output),
            Command::Tap(arguments) => tap::execute(&arguments, &load()?),
            Command::Parse(arguments) => parse::execute(&arguments, load()?),
            Command::Buffer(arguments) => buffer::execute(&arguments, &load()?, output),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "edgetrail-agent", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
