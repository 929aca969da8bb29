//! `edgetrail-verify record`: from one record back to its host.

use edgetrail_verify::trace::{Wanted, trace};

use super::{Output, Source, print};

pub(crate) const HELP: &str = "\
Examples:
  edgetrail-verify record 'trail/edgetrail/AWSLogs/…/111122223333_CloudTrail_dc-local-1_20260131T0900Z_ABC.json.gz#4' \\
      --dir trail --keys keys.json --ca ca.pem
  edgetrail-verify record 0190b2a4-0000-8000-8000-000000000001 --dir trail --keys keys.json --ca ca.pem

Reads the digests and proofs of the record's account and region up to its own, nothing else: `trail` tells whether anything
is missing.

Exit status: 0 the record is proven, 1 it is not, 2 there is no such record or the trail could not be read.";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A log file and the record's number in it from 0, or an eventID
    #[arg(value_name = "FILE#N|EVENTID")]
    record: String,
    #[command(flatten)]
    source: Source,
    /// How to print the steps
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<bool> {
    let wanted: Wanted = args.record.parse()?;
    let opened = args.source.open()?;
    let trace = opened.runtime.block_on(trace(&opened.store, &opened.keys, &wanted))?;
    let proven = trace.origin.is_some();
    let json = serde_json::json!({ "proven": proven, "trace": &trace });
    print(args.output, &trace, &json)?;
    Ok(proven)
}
