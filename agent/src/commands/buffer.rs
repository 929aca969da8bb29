//! `buffer check`, `buffer repair` and `buffer export`: verifies, brings back, or writes out what the buffer holds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use edgetrail_disk::Medium;
use serde_json::Value;

use super::Output;
use crate::buffer::BufferError;
use crate::config::Config;
use crate::control::Request;

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
        after_help = "Examples:\n  edgetrail-agent buffer export > records.jsonl\n  edgetrail-agent buffer export --dir /mnt/old/edgetrail-agent\n  edgetrail-agent buffer export buffer.sqlite.damaged-1800000000000000000\n\nExit code 1 if records could not be read; they are counted on standard error."
    )]
    Export {
        /// A file that was put aside, read page by page
        file: Option<PathBuf>,
        /// The state directory to read, instead of the configured one
        #[arg(long, conflicts_with = "file")]
        dir: Option<PathBuf>,
    },
    /// Bring back what damaged files that were put aside still hold; deletes nothing, and may be repeated
    #[command(
        after_help = "Examples:\n  edgetrail-agent buffer repair\n  edgetrail-agent buffer repair -o json\n\nReads each buffer.sqlite.damaged-* in the state directory, in a running agent or without one. Sealed batches that are\nwhole go out as they were sealed; what the collector no longer takes is sealed again behind a report, and what is\nmissing becomes a gap, when the agent has asked the collector what it holds. The files are kept, as\nbuffer.sqlite.repaired-*.\n\nExit code 1 if something could not be brought back."
    )]
    Repair,
}

pub(super) fn execute(arguments: &Arguments, config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Export { file: Some(file), .. } => return export(|out| crate::buffer::export_file(file, out)),
        Command::Export { dir, .. } => {
            return export(|out| crate::buffer::export(dir.as_deref().unwrap_or(&config.state_dir), out));
        }
        Command::Repair => return repair(config, output),
        Command::Check => {}
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

type Export = std::io::BufWriter<std::io::StdoutLock<'static>>;

fn export(write: impl FnOnce(&mut Export) -> Result<(u64, u64), BufferError>) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (written, unreadable) = write(&mut out)?;
    out.flush()?;
    eprintln!("{written} records written, {unreadable} could not be read");
    Ok(if unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn repair(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let files = match ask(&config.control_socket)? {
        Some(answer) => answer,
        None => serde_json::to_value(crate::buffer::repair(&Medium::real(), &config.state_dir, &config.buffer)?)?,
    };
    let files = files.as_array().context("the running agent's answer can't be read")?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(files)?),
        Output::Text => files.iter().for_each(print),
    }
    if files.is_empty() && output == Output::Text {
        println!("no damaged file was put aside: nothing is to be repaired");
    }
    let all_back = files.iter().all(|file| file["findings"].as_array().is_some_and(Vec::is_empty));
    Ok(if all_back { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The running agent's repair, if one runs. It takes as long as it takes: no deadline.
fn ask(socket: &Path) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Ok(None) };
    writeln!(stream, "{}", serde_json::to_string(&Request::Repair)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("the running agent ended before it had answered: repair again")?;
    let answer: Value = serde_json::from_str(&line).context("the running agent ended before it had answered: repair again")?;
    if let Some(error) = answer["error"].as_str() {
        anyhow::bail!("the running agent could not repair: {error}");
    }
    Ok(Some(answer))
}

fn print(file: &Value) {
    let number = |name: &str| file[name].as_u64().unwrap_or(0);
    println!(
        "{}: {} streams, {} sealed batches with {} records, {} unsealed records brought back",
        file["file"].as_str().unwrap_or_default(),
        number("streams"),
        number("batches"),
        number("records"),
        number("unsealed"),
    );
    for finding in file["findings"].as_array().into_iter().flatten() {
        println!("  {}", finding.as_str().unwrap_or_default());
    }
    match file["kept_as"].as_str() {
        Some(name) => println!("  kept as {name}"),
        None => println!("  left as it is: what is readable of the rest, `edgetrail-agent buffer export FILE` writes"),
    }
}
