//! The commands a user types.
//!
//! Exit codes: 0 done, 1 it failed or `check` found something, 2 usage. What a command prints for use goes to standard
//! output, everything else to standard error. Commands that change settings write to control.sqlite themselves; a
//! running collector notices within seconds.

mod access_key;
mod agents;
mod ca;
mod check;
mod evidence;
mod principal;
mod print;
mod quickstart;
mod relay;
mod relay_join;
mod serve;
mod state;
mod token;
mod waiting;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Verifies what agents send, keeps it, delivers it as CloudTrail log files, answers CloudTrail's API.
#[derive(Debug, Parser)]
#[command(name = "edgetrail-collector", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    of: Of,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  edgetrail-collector quickstart                        try it on this machine, no configuration
  edgetrail-collector serve                             run by /etc/edgetrail/collector.toml
  edgetrail-collector token create --account 111122223333 --region dc-tokyo-1
  edgetrail-collector access-key create --name ops

Exit codes: 0 done, 1 it failed, 2 usage.
EDGETRAIL_LOG sets what is logged, such as `info,edgetrail_collector=debug`.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs collector and agent on this machine, loopback only, no configuration
    Quickstart(quickstart::Arguments),
    /// Runs the collector
    #[command(after_help = serve::EXAMPLES)]
    Serve,
    /// Makes tokens, with which agents join
    #[command(subcommand)]
    Token(token::Command),
    /// Shows agents, or revokes one
    #[command(subcommand)]
    Agents(agents::Command),
    /// Shows or replaces the root of the certificate authority
    #[command(subcommand)]
    Ca(ca::Command),
    /// Makes, lists or deletes the keys with which clients sign calls
    #[command(subcommand)]
    AccessKey(access_key::Command),
    /// Shows who may call, and sets what each may do
    #[command(subcommand)]
    Principal(principal::Command),
    /// Shows relays, forgets or revokes one
    #[command(subcommand)]
    Relay(relay::Command),
    /// Lists forks, or exports what proves one
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// Shows streams that stand still until another collector brings what it has
    #[command(after_help = waiting::EXAMPLES)]
    Waiting(waiting::Arguments),
    /// Checks configuration, state, ports and the trail's sink
    Check(check::Arguments),
    /// Prints a completion script
    Completion { shell: clap_complete::Shell },
}

/// Which collector a command is about.
#[derive(Debug, clap::Args)]
struct Of {
    /// The collector's configuration file; quickstart's is DIR/collector.toml [default: /etc/edgetrail/collector.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs what the command line asks for.
pub fn run(cli: Cli) -> ExitCode {
    // Cannot fail: nothing has installed a provider before.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let done = match cli.command {
        Command::Quickstart(arguments) => {
            start_log("warn");
            quickstart::run(arguments)
        }
        Command::Serve => {
            start_log("info");
            serve::run(&cli.of)
        }
        Command::Token(command) => token::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Agents(command) => agents::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Relay(command) => relay::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Ca(command) => ca::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Evidence(command) => evidence::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Waiting(arguments) => waiting::run(&cli.of, &arguments).map(|()| ExitCode::SUCCESS),
        Command::AccessKey(command) => access_key::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Principal(command) => principal::run(&cli.of, command).map(|()| ExitCode::SUCCESS),
        Command::Check(arguments) => check::run(&cli.of, &arguments),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "edgetrail-collector", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        // The causes, each once, behind the sentence that says what failed.
        eprintln!("edgetrail-collector: {error:#}");
        ExitCode::FAILURE
    })
}

/// To standard error; without a terminal, as under systemd, in plain text without colours.
fn start_log(default: &str) {
    let filter = std::env::var("EDGETRAIL_LOG").unwrap_or_else(|_unset| default.to_owned());
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    log.with_target(false).init();
}
