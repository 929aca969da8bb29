//! `edgetrail-verify stream`: one agent's streams.

use anyhow::bail;
use edgetrail_verify::page::StreamPage;

use super::{Output, Source, Span, print, verdicts};

pub(crate) const HELP: &str = "\
Examples:
  edgetrail-verify stream web-1 --dir trail --keys keys.json --ca ca.pem
  edgetrail-verify stream 0190b2a4-0000-7000-8000-000000000001 --dir trail --keys keys.json --as-of 2026-01-31T09:00:00Z

All accounts and regions of the trail are read; what is wrong with the trail as a whole is named too, since it may hide
something of this agent.

Exit status: 0 nothing of it was altered, is missing or is dated wrongly, 1 something, 2 the trail could not be read or has
no such agent.";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Agent id, host name, or the id of one of its streams
    #[arg(value_name = "AGENT|HOST|STREAM")]
    name: String,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    span: Span,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<bool> {
    let report = args.source.open()?.report(&args.span)?;
    let ids: Vec<_> = report.accounts.of_agent(&args.name).into_iter().map(|(id, _)| id).collect();
    if ids.is_empty() {
        let mut hosts: Vec<String> = report.accounts.hosts().into_keys().map(|(host, _)| host).collect();
        hosts.dedup();
        bail!("no stream of `{}` is in the trail; it has streams of: {}", args.name, hosts.join(", "));
    }
    let report = report.about(&ids);
    let streams = report.accounts.of_agent(&args.name);
    print(args.output, StreamPage { report: &report, streams: &streams }, &verdicts(&report))?;
    Ok(report.is_good())
}
