//! The gaps that a ledger holds, each once, and what each covers.

use std::collections::{BTreeMap, BTreeSet};

use edgetrail_proto::identity::StreamId;
use edgetrail_proto::record::parse_time;
use serde_json::Value;

use crate::collector::Collector;

/// What a `ReportGap` says.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    pub(crate) cause: String,
    /// `None` where nobody can know.
    pub(crate) count: Option<u64>,
    /// Whole seconds.
    from: u64,
    to: u64,
    /// Stream, first and last batch, where it names them.
    range: Option<(StreamId, u64, u64)>,
}

impl Gap {
    fn read(record: &Value) -> Self {
        let said = &record["requestParameters"];
        let time = |member: &str| said[member].as_str().and_then(parse_time).unwrap_or(0) / 1_000_000_000;
        let stream = said["stream"].as_str().and_then(|stream| stream.parse().ok());
        let batches = said["fromBatch"].as_u64().zip(said["toBatch"].as_u64());
        Self {
            cause: said["cause"].as_str().unwrap().to_owned(),
            count: said["count"].as_u64(),
            from: time("from"),
            to: time("to"),
            range: stream.zip(batches).map(|(stream, (from, to))| (stream, from, to)),
        }
    }

    pub(crate) fn covers_time(&self, second: u64) -> bool {
        (self.from..=self.to).contains(&second)
    }

    /// Whether it names batches, as a collector's do.
    pub(crate) fn is_of_batches(&self) -> bool {
        self.range.is_some()
    }

    pub(crate) fn covers_batch(&self, stream: StreamId, k: u64) -> bool {
        self.range.is_some_and(|(of, from, to)| of == stream && (from..=to).contains(&k))
    }
}

/// All of them. One that was sealed twice has one eventID.
pub(crate) fn gaps(collector: &Collector) -> Vec<Gap> {
    let mut told = BTreeMap::new();
    for entry in collector.entries() {
        for record in entry.records.iter().filter(|record| record.facets.as_ref().unwrap().is_gap()) {
            let record: Value = serde_json::from_slice(&record.bytes).unwrap();
            told.insert(record["eventID"].as_str().unwrap().to_owned(), Gap::read(&record));
        }
    }
    told.into_values().collect()
}

/// Those of these causes.
pub(crate) fn of<'a>(gaps: &'a [Gap], causes: &BTreeSet<&str>) -> Vec<&'a Gap> {
    gaps.iter().filter(|gap| causes.contains(gap.cause.as_str())).collect()
}
