//! One log file at a time: there, whole, hashing to what its digest says; its records as the exact bytes that were sealed.

use edgetrail_proto::chain::Hash;
use edgetrail_proto::digest::DigestLogFile;
use edgetrail_proto::facets::Facets;
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_proto::record::format_time;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gzip::unpack;
use crate::report::{Check, Report};
use crate::store::{Object, Place};

/// What follows from a log file's records.
#[derive(Debug, Default)]
pub struct LogFile {
    /// One for each record, in order.
    pub leaves: Vec<Hash>,
    /// Whether a record says that logging of a trail was stopped, and which.
    pub stopped: Vec<String>,
    /// Gaps and reports that agents delivered, for the completeness verdict.
    pub reports: Vec<AgentReport>,
}

/// What an agent's own record says is missing or was sealed again.
#[derive(Debug)]
pub struct AgentReport {
    pub index: usize,
    pub rehomed: bool,
    pub detail: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<&'a RawValue>,
}

/// The members of a report that the verdict names.
#[derive(Deserialize)]
struct ReportRecord {
    #[serde(rename = "eventTime", default)]
    time: String,
    #[serde(rename = "requestParameters", default)]
    parameters: serde_json::Map<String, serde_json::Value>,
}

/// Checks one listed log file. `None` when it is missing or can't be read.
pub fn check(place: &Place, object: &Object, listed: &DigestLogFile, digest: &Place, report: &mut Report) -> Option<LogFile> {
    let unpacked = match unpack(&object.bytes) {
        Ok(unpacked) => unpacked,
        Err(error) => {
            report.find(Check::LogFormat, place, error);
            return None;
        }
    };
    if unpacked.trailing > 0 {
        report.find(Check::LogTrailing, place, format_args!("{} bytes", unpacked.trailing));
    }
    if Hash::of(&unpacked.bytes).to_hex() != listed.hash_value {
        report.find(Check::LogHash, place, format_args!("listed by {digest}"));
    }
    let envelope: Envelope<'_> = match serde_json::from_slice(&unpacked.bytes) {
        Ok(envelope) => envelope,
        Err(error) => {
            report.find(Check::LogFormat, place, error);
            return None;
        }
    };
    let mut file = LogFile::default();
    let mut times: Option<(u64, u64)> = None;
    for (index, record) in envelope.records.iter().enumerate() {
        let bytes = record.get().as_bytes();
        file.leaves.push(leaf_hash(bytes));
        let Ok(facets) = Facets::parse(bytes) else { continue };
        times =
            Some(times.map_or((facets.time, facets.time), |(oldest, newest)| (oldest.min(facets.time), newest.max(facets.time))));
        note_own_words(index, bytes, &facets, &mut file);
    }
    check_times(place, listed, times, report);
    report.seen.records += file.leaves.len() as u64;
    Some(file)
}

fn note_own_words(index: usize, bytes: &[u8], facets: &Facets, file: &mut LogFile) {
    let interesting = matches!(
        (facets.source.as_str(), facets.name.as_str()),
        ("agent.edgetrail", "ReportGap" | "ReportRehomed") | ("cloudtrail.amazonaws.com", "StopLogging" | "DeleteTrail")
    );
    if !interesting {
        return;
    }
    let Ok(record) = serde_json::from_slice::<ReportRecord>(bytes) else { return };
    let parameter = |name: &str| record.parameters.get(name).map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
    if facets.source == "cloudtrail.amazonaws.com" {
        if facets.error.is_none() {
            file.stopped.extend(parameter("name"));
        }
        return;
    }
    let [cause, count, from, to] =
        ["cause", "count", "from", "to"].map(|name| parameter(name).unwrap_or_else(|| "unknown".to_owned()));
    let detail = format!("{}: cause {cause}, count {count}, from {from} to {to}", record.time);
    file.reports.push(AgentReport { index, rehomed: facets.name == "ReportRehomed" || cause == "rehomed", detail });
}

fn check_times(place: &Place, listed: &DigestLogFile, times: Option<(u64, u64)>, report: &mut Report) {
    let Some((oldest, newest)) = times else { return };
    const NS_PER_S: u64 = 1_000_000_000;
    let found = (format_time(oldest * NS_PER_S), format_time(newest * NS_PER_S));
    if found != (listed.oldest_event_time.clone(), listed.newest_event_time.clone()) {
        report.find(Check::LogTimes, place, format_args!("its records are from {} to {}", found.0, found.1));
    }
}
