//! StartLogging and StopLogging, read from the collector's own stream.
//!
//! A call takes effect at the ledger_index of its own record, so that what is delivered follows from the ledger alone:
//! a trail that reads it again stops and starts at the same records. Only the internal stream is believed.

use edgetrail_proto::facets::Facets;

use crate::control::TrailConfig;
use crate::ledger::{Entry, EntryRecord};

/// Where the collector's own records of API calls come from. Source: CloudTrail's eventSource for its own calls.
const SOURCE: &str = "cloudtrail.amazonaws.com";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Start,
    Stop,
}

/// The part of a call's record that names the trail.
#[derive(serde::Deserialize)]
struct Call {
    #[serde(rename = "requestParameters")]
    parameters: Option<Parameters>,
}

#[derive(serde::Deserialize)]
struct Parameters {
    /// The trail's name or ARN.
    name: String,
}

/// What a batch says to this trail, in order.
pub(super) fn commands(entry: &Entry, trail: &TrailConfig) -> Vec<Command> {
    if !entry.stream.internal {
        return Vec::new();
    }
    let to_this_trail = |record: &EntryRecord| {
        let command = command(record.facets.as_ref().ok()?)?;
        let call: Call = serde_json::from_slice(&record.bytes).ok()?;
        let name = call.parameters?.name;
        (name == trail.arn || name == trail.name).then_some(command)
    };
    entry.records.iter().filter_map(to_this_trail).collect()
}

fn command(facets: &Facets) -> Option<Command> {
    if facets.source != SOURCE || facets.error.is_some() {
        return None;
    }
    match facets.name.as_str() {
        "StartLogging" => Some(Command::Start),
        "StopLogging" => Some(Command::Stop),
        _ => None,
    }
}
