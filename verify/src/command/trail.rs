//! `edgetrail-verify trail`: everything, with both verdicts.

use edgetrail_verify::page::TrailPage;

use super::{Output, Source, Span, print, verdicts};

pub(crate) const HELP: &str = "\
Examples:
  edgetrail-verify trail --dir /var/lib/edgetrail-collector/trail --keys keys.json --ca ca.pem
  edgetrail-verify trail --dir trail --keys https://collector:8443/v1/keys --ca ca.pem --as-of 2026-01-31T09:00:00Z
  edgetrail-verify trail --s3 s3://audit-bucket --keys keys.json --to 2026-01-01T00:00:00Z
  aws cloudtrail list-public-keys --start-time 2025-01-01 > keys.json

Exit status: 0 both verdicts hold and no date is contradicted, 1 something was altered, is missing or is dated wrongly,
2 the trail could not be read.";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    span: Span,
    /// Show every hour of every host, not only those in which something is missing
    #[arg(long)]
    hours: bool,
    /// How to print the report
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<bool> {
    let report = args.source.open()?.report(&args.span)?;
    print(args.output, TrailPage { report: &report, all_hours: args.hours }, &verdicts(&report))?;
    Ok(report.is_good())
}
