//! One log file at a time: there, whole, hashing to what its digest says; its records as the exact bytes that were sealed.

use edgetrail_proto::chain::Hash;
use edgetrail_proto::digest::DigestLogFile;
use edgetrail_proto::facets::Facets;
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::merkle::leaf_hash;
use edgetrail_proto::record::{format_time, parse_time};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::gzip::unpack;
use crate::report::{Check, Report};
use crate::store::{Object, Place};

const NS_PER_S: u64 = 1_000_000_000;

/// The cause of a gap that a collector reports of batches that another collector held. docs/protocol.md §6.
pub(crate) const COLLECTOR_LOST: &str = "collector-lost";

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

/// What an agent's or the collector's own record says is missing or was sealed again.
#[derive(Debug)]
pub struct AgentReport {
    pub index: usize,
    pub what: Reported,
    /// Unix nanoseconds, as the record says.
    pub from: u64,
    pub to: u64,
    pub detail: String,
}

#[derive(Debug)]
pub enum Reported {
    Rehomed {
        records: u64,
    },
    /// `count` is `None` where nobody can bound it.
    Gap {
        cause: String,
        count: Option<u64>,
    },
    /// Batches of another stream, inclusive, that went with the collector that held them.
    CollectorLost {
        stream: StreamId,
        from_batch: u64,
        to_batch: u64,
    },
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

/// The exact bytes of a log file's records, in order.
pub fn records_of(unpacked: &[u8]) -> Result<Vec<Vec<u8>>, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_slice(unpacked)?;
    Ok(envelope.records.iter().map(|record| record.get().as_bytes().to_vec()).collect())
}

fn note_own_words(index: usize, bytes: &[u8], facets: &Facets, file: &mut LogFile) {
    let interesting = matches!(
        (facets.source.as_str(), facets.name.as_str()),
        ("agent.edgetrail" | "collector.edgetrail", "ReportGap" | "ReportRehomed")
            | ("cloudtrail.amazonaws.com", "StopLogging" | "DeleteTrail")
    );
    if !interesting {
        return;
    }
    let Ok(record) = serde_json::from_slice::<ReportRecord>(bytes) else { return };
    if facets.source == "cloudtrail.amazonaws.com" {
        if facets.error.is_none() {
            file.stopped.extend(record.text("name"));
        }
        return;
    }
    let time = |name: &str| record.text(name).and_then(|text| parse_time(&text));
    let (from, to) = (time("from"), time("to"));
    let own = facets.time.saturating_mul(NS_PER_S);
    let (from, to) = (from.or(to).unwrap_or(own), to.or(from).unwrap_or(own));
    let (what, detail) = record.reported(facets.name == "ReportRehomed");
    file.reports.push(AgentReport { index, what, from, to, detail: format!("{}: {detail}", record.time) });
}

impl ReportRecord {
    fn text(&self, name: &str) -> Option<String> {
        self.parameters
            .get(name)
            .filter(|value| !value.is_null())
            .map(|value| value.as_str().map_or(value.to_string(), str::to_owned))
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.parameters.get(name).and_then(serde_json::Value::as_u64)
    }

    /// What is reported, and in words.
    fn reported(&self, rehomed: bool) -> (Reported, String) {
        let said = |name: &str| self.text(name).unwrap_or_else(|| "unknown".to_owned());
        if rehomed {
            let detail = format!(
                "{} records of batches {} to {} of stream {}",
                said("records"),
                said("fromBatch"),
                said("toBatch"),
                said("stream")
            );
            return (Reported::Rehomed { records: self.number("records").unwrap_or(0) }, detail);
        }
        let (cause, count) = (said("cause"), self.number("count"));
        let exact = if self.parameters.get("exact") == Some(&serde_json::Value::Bool(true)) { "exactly" } else { "at most" };
        let events = count.map_or("an unknown number of events".to_owned(), |count| format!("{exact} {count} events"));
        let detail = format!("{events}, cause {cause}, from {} to {}; evidence: {}", said("from"), said("to"), said("evidence"));
        let range = (self.text("stream").and_then(|id| id.parse().ok()), self.number("fromBatch"), self.number("toBatch"));
        match range {
            (Some(stream), Some(from_batch), Some(to_batch)) if cause == COLLECTOR_LOST => {
                (Reported::CollectorLost { stream, from_batch, to_batch }, detail)
            }
            _ => (Reported::Gap { cause, count }, detail),
        }
    }
}

fn check_times(place: &Place, listed: &DigestLogFile, times: Option<(u64, u64)>, report: &mut Report) {
    let Some((oldest, newest)) = times else { return };
    let found = (format_time(oldest * NS_PER_S), format_time(newest * NS_PER_S));
    if found != (listed.oldest_event_time.clone(), listed.newest_event_time.clone()) {
        report.find(Check::LogTimes, place, format_args!("its records are from {} to {}", found.0, found.1));
    }
}
