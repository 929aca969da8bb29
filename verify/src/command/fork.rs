//! `edgetrail-verify fork`: exported evidence, offline.

use std::path::PathBuf;

use anyhow::Context;
use edgetrail_proto::evidence::Evidence;
use edgetrail_proto::record::format_time;
use edgetrail_verify::fork::check;
use edgetrail_verify::keys::Keys;

use super::{Output, print, read};

pub(crate) const HELP: &str = "\
Examples:
  edgetrail-collector evidence export STREAM -o fork.json
  edgetrail-verify fork fork.json --ca ca.pem

Exit status: 0 the evidence proves that two parties held the agent's state, 1 it does not, 2 it could not be read.";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What `edgetrail-collector evidence export` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The collector's CA certificates, PEM: the agent's certificates must lead to one of them
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How to print the steps
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<bool> {
    let evidence = Evidence::from_json(&read(&args.file)?).with_context(|| format!("{} is of no use", args.file.display()))?;
    let mut keys = Keys::default();
    if let Some(ca) = &args.ca {
        keys.add_roots_pem(&read(ca)?).context("the file given with --ca is of no use")?;
    }
    let steps = check(&evidence, &keys.roots);
    let proven = steps.hold();
    let verdict = if proven { "PROVEN" } else { "NOT PROVEN: see what FAILED" };
    let page = format!("Fork of agent {}, seen {}\n\n{steps}\n{verdict}\n", evidence.agent_id, format_time(evidence.t_seen));
    print(args.output, page, &serde_json::json!({ "proven": proven, "agent": evidence.agent_id, "steps": steps }))?;
    Ok(proven)
}
