//! `buffer check` and `buffer export`: verifies, or writes out, what the buffer holds.

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
    /// Write every record without a receipt as a JSON line with its stream, seq and state; changes nothing
    #[command(
        after_help = "Examples:\n  edgetrail-agent buffer export > records.jsonl\n  edgetrail-agent buffer export --dir /mnt/old/edgetrail-agent\n\nExit code 1 if records could not be read; they are counted on standard error."
    )]
    Export {
        /// The state directory to read, instead of the configured one
        #[arg(long)]
        dir: Option<std::path::PathBuf>,
    },
}

pub(super) fn execute(arguments: &Arguments, config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    if let Command::Export { dir } = &arguments.command {
        return export(dir.as_deref().unwrap_or(&config.state_dir));
    }
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

fn export(dir: &std::path::Path) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (written, unreadable) = crate::buffer::export(dir, &mut out)?;
    std::io::Write::flush(&mut out)?;
    eprintln!("{written} records written, {unreadable} could not be read");
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
