//! `waiting`: streams that stand still, behind batches that another collector has and this one lacks.

use anyhow::{Context, bail};
use edgetrail_disk::Medium;
use serde_json::json;

use super::{Of, Output, state};
use crate::ledger::{Waiting, waiting_in};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) const EXAMPLES: &str = "Examples:
  edgetrail-collector waiting
  edgetrail-collector waiting -o json

A stream waits where its sender shows another collector's receipt for batches that never came here:
that collector is to bring them. Until then the agent keeps what follows, and nothing is lost.

Exit codes: 0 done, 1 it failed.";

pub(super) fn run(of: &Of, arguments: &Arguments) -> anyhow::Result<()> {
    let config = state::config(of)?;
    let dir = config.state_dir.join("ledger");
    if !dir.join("ledger.sqlite").exists() {
        bail!("no collector has run on {}: name its configuration with --config", config.state_dir.display());
    }
    let waiting =
        waiting_in(&Medium::real(), &dir).context("the ledger can't be read; run this as the collector's user or root")?;
    print(&waiting, arguments.output)
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn print(waiting: &[Waiting], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let row = |waiting: &Waiting| {
            json!({
                "agent": waiting.info.agent.to_string(), "host": waiting.info.binding.host(), "stream": waiting.info.stream.to_string(),
                "head": waiting.head.k, "fromBatch": waiting.from, "toBatch": waiting.to, "signer": waiting.signer.to_hex(),
            })
        };
        println!("{}", serde_json::to_string_pretty(&waiting.iter().map(row).collect::<Vec<_>>())?);
        return Ok(());
    }
    if waiting.is_empty() {
        println!("no stream waits");
    }
    for Waiting { info, from, to, signer, .. } in waiting {
        println!("stream {} of {}, agent {}: batches {from} to {to} are missing", info.stream, info.binding.host(), info.agent);
        println!("  the collector whose receipt key is {signer} has them");
    }
    Ok(())
}
