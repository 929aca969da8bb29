//! `evidence`: forks that this collector has seen, and what proves them.

use std::path::PathBuf;

use anyhow::{Context, bail};
use edgetrail_disk::Medium;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::record::format_time;
use serde_json::json;

use super::{Of, Output, state};
use crate::config::Config;
use crate::ledger::{Committed, Fork, Forks};
use crate::pki::{AuthorityOptions, receipt_keys_of};
use crate::run::proof_receipt_key;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the forks that this collector has seen
    #[command(after_help = LIST_EXAMPLES)]
    List {
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Writes what proves a fork as one JSON file, which `edgetrail-verify fork` checks
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// The stream that forked, or its agent's id
        stream: String,
        /// Where to write it; `-` is standard output
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
}

const LIST_EXAMPLES: &str = "Examples:
  edgetrail-collector evidence list
  edgetrail-collector evidence list -o json

Exit codes: 0 done, 1 it failed.";

const EXPORT_EXAMPLES: &str = "Examples:
  edgetrail-collector evidence export 0190b2a4-0000-7000-8000-000000000001 -o fork.json
  edgetrail-verify fork fork.json

Exit codes: 0 done, 1 it failed, or nothing is kept of that stream.";

pub(super) fn run(of: &Of, command: Command) -> anyhow::Result<()> {
    let config = state::config(of)?;
    let dir = config.state_dir.join("ledger");
    if !dir.join("ledger.sqlite").exists() {
        bail!("no collector has run on {}: name its configuration with --config", config.state_dir.display());
    }
    let forks =
        Forks::open(&Medium::real(), &dir).context("the ledger can't be read; run this as the collector's user or root")?;
    match command {
        Command::List { output } => list(&forks.list()?, output),
        Command::Export { stream, output } => export(&config, &forks, &stream, &output),
    }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn list(forks: &[Fork], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        let rows: Vec<_> = (forks.iter())
            .map(|fork| {
                json!({
                    "agent": fork.agent.to_string(), "stream": fork.stream.map(|stream| stream.to_string()), "batch": fork.k,
                    "branches": fork.branches, "batches": fork.batches, "opens": fork.opens,
                    "beyond": fork.beyond, "seen": format_time(fork.t_seen),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    for fork in forks {
        let at = match (fork.stream, fork.k) {
            (Some(stream), Some(k)) => format!("stream {stream} at batch {k}"),
            _ => "at an open".to_owned(),
        };
        let Fork { agent, batches, opens, beyond, t_seen, .. } = fork;
        let beyond = if *beyond > 0 { format!(", {beyond} more came than are kept") } else { String::new() };
        println!("{}  agent {agent}  {at}  {batches} later batches and {opens} opens kept{beyond}", format_time(*t_seen));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn export(config: &Config, forks: &Forks, id: &str, output: &std::path::Path) -> anyhow::Result<()> {
    let stream: StreamId = id.parse().with_context(|| format!("`{id}` is no stream's id: `evidence list` shows them"))?;
    let agent = forks.agent_of(stream)?.unwrap_or_else(|| AgentId::from_bytes(*stream.as_bytes()));
    let options = AuthorityOptions {
        trust_domain: config.home.trust_domain.clone(),
        certificate_life: config.pki.certificate_life,
        foreign: config.pki.foreign.clone(),
    };
    let keys = receipt_keys_of(&config.state_dir.join("pki"), options).context("the receipt keys can't be read")?;
    // A key signs nothing for a time in which it is not valid: what a restored collector committed before stands without.
    let sign = |committed: &Committed| {
        let Committed { stream, k, hash, index, t_received } = *committed;
        let (signer, stated) = keys.as_ref()?;
        let is_valid = |key: &ReceiptKey| key.public_key == signer.public_key() && key.not_before <= t_received;
        stated.iter().any(is_valid).then(|| signer.sign(stream, k, hash, index, t_received))
    };
    let Some(mut evidence) = forks.export(agent, sign)? else {
        bail!("nothing is kept of `{id}`: `edgetrail-collector evidence list` shows what is");
    };
    evidence.receipt_keys = keys.into_iter().flat_map(|(_, stated)| stated).map(proof_receipt_key).collect();
    let json = evidence.to_json();
    if output.as_os_str() == "-" {
        println!("{}", String::from_utf8_lossy(&json));
        return Ok(());
    }
    std::fs::write(output, json).with_context(|| format!("{} can't be written", output.display()))
}
