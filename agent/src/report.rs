//! The agent's own records: gaps and reports. They skip selection and count as `own`.
//!
//! A gap says that events are missing and bounds what is missing; every trail takes it whatever it selects. A report
//! says what the agent did with its own store or sources. Neither is ever redacted: nothing of an event is in them.

use edgetrail_proto::chain::{Hash, event_id};
use edgetrail_proto::identity::StreamId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::normalize::{Host, report};
use crate::observation::{Loss, SourceName};

/// Makes the agent's own records.
#[derive(Clone, Debug)]
pub struct Reporter {
    host: Host,
}

/// Records of sealed batches that were sealed again in a successor stream. docs/protocol.md §8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehomed {
    pub stream: StreamId,
    /// First and last batch that were dissolved, or may have been sealed; absent where only unsealed records moved.
    pub from_k: Option<u64>,
    pub to_k: Option<u64>,
    /// Heads of those two, where known.
    pub from_head: Option<Hash>,
    pub to_head: Option<Hash>,
    /// How many records moved.
    pub records: u64,
}

impl Reporter {
    pub fn new(host: Host) -> Self {
        Self { host }
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    /// `ReportGap`: events are missing here.
    pub fn gap(&self, loss: &Loss, now: u64) -> Vec<u8> {
        report::gap(&self.host, None, self.event_id(), now, loss).to_fitted_json()
    }

    /// `ReportRehomed`: what follows was sealed before, or may have been, in another stream.
    pub fn rehomed(&self, rehomed: &Rehomed, now: u64) -> Vec<u8> {
        let Rehomed { stream, from_k, to_k, from_head, to_head, records } = rehomed;
        let hex = |head: &Option<Hash>| head.map(|head| head.to_hex());
        self.record(
            "ReportRehomed",
            now,
            json!({
                "stream": stream.to_string(), "fromBatch": from_k, "toBatch": to_k,
                "fromHead": hex(from_head), "toHead": hex(to_head), "records": records,
            }),
        )
    }

    /// `ReportSource`: a source started, could not start, or ended.
    pub fn source(&self, source: SourceName, state: &str, reason: Option<&str>, now: u64) -> Vec<u8> {
        self.record("ReportSource", now, json!({ "source": source.as_str(), "state": state, "reason": reason }))
    }

    fn record(&self, name: &str, now: u64, parameters: Value) -> Vec<u8> {
        report::own(&self.host, None, name, self.event_id(), now, parameters).to_fitted_json()
    }

    /// What is reported happens once: a random position is never read again.
    fn event_id(&self) -> Uuid {
        event_id(self.host.agent, "agent", &Uuid::new_v4().to_string(), 0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use edgetrail_proto::record::Record;

    use super::*;
    use crate::observation::GapCause;

    pub(crate) fn host() -> Host {
        Host {
            agent: "0190b2a4-0000-7000-8000-000000000001".parse().unwrap(),
            name: "web-1".to_owned(),
            account: "123456789012".parse().unwrap(),
            region: "dc-tokyo-1".parse().unwrap(),
            partition: "aws".to_owned(),
            keep_raw: false,
        }
    }

    #[test]
    fn a_gap_without_a_bound_has_a_null_count() {
        let loss = Loss {
            cause: GapCause::UncleanRestart,
            count: None,
            exact: false,
            evidence: "no orderly stop".to_owned(),
            from: 1_000_000_000,
            to: 2_000_000_000,
        };
        let record = Record::from_json(&Reporter::new(host()).gap(&loss, 2_000_000_000)).unwrap();
        let parameters = record.request_parameters.unwrap();
        assert_eq!(parameters["count"], Value::Null);
        assert_eq!(parameters["from"], "1970-01-01T00:00:01Z");
        assert_eq!((record.event_source.as_str(), record.event_name.as_str()), ("agent.edgetrail", "ReportGap"));
    }
}
