//! `buffer check`: verifies every batch that the buffer holds, as a collector would.

use std::process::ExitCode;

use super::Output;
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Verify every batch against its root, seal and predecessor; changes nothing, also beside a running agent
    #[command(
        after_help = "Examples:\n  edgetrail-agent buffer check\n  edgetrail-agent buffer check -o json\n\nExit code 1 if anything is damaged. A running agent repairs by itself: what can't be sent becomes a gap."
    )]
    Check,
}

pub(super) fn execute(arguments: &Arguments, config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let Command::Check = arguments.command;
    let report = crate::buffer::check(&config.state_dir)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Text => {
            println!("{} streams, {} batches and {} records checked", report.streams, report.batches, report.records);
            for finding in &report.findings {
                println!("damaged: {finding}");
            }
            if report.findings.is_empty() {
                println!("no damage");
            } else {
                println!("keep the file: a running agent reports each hole with its exact place and goes on");
            }
        }
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
