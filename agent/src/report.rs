//! The agent's own records: gaps and reports. They skip selection and count as `own`.
//!
//! A gap says that events are missing and bounds what is missing; every trail takes it whatever it selects. A report
//! says what the agent did with its own store or sources. Neither is ever redacted: nothing of an event is in them.

use edgetrail_proto::chain::{Hash, event_id};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::record::{EventCategory, EventType, Record, UserIdentity, format_time};
use serde_json::{Map, Value, json};

use crate::normalize::Host;
use crate::observation::{Loss, SourceName};

/// The source of every record that is made here.
pub const EVENT_SOURCE: &str = "agent.edgetrail";

/// Makes the agent's own records.
#[derive(Clone, Debug)]
pub struct Reporter {
    host: Host,
}

/// Records of sealed batches that were sealed again in a successor stream. CHAIN §2.
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
        let Loss { cause, count, exact, evidence, from, to } = loss;
        self.record(
            "ReportGap",
            now,
            json!({ "cause": cause, "count": count, "exact": exact, "evidence": evidence, "from": format_time(*from), "to": format_time(*to) }),
        )
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
        let Host { agent, name: host, account, region, .. } = &self.host;
        let mut place = Map::new();
        place.insert("agent".to_owned(), agent.to_string().into());
        place.insert("host".to_owned(), host.as_str().into());
        place.insert("source".to_owned(), "agent".into());
        // Its own position: what is reported happens once, so a random one is never read again.
        let position = uuid::Uuid::new_v4().to_string();
        let mut record = Record {
            user_identity: UserIdentity {
                kind: Some("AWSService".to_owned()),
                invoked_by: Some(EVENT_SOURCE.to_owned()),
                ..UserIdentity::default()
            },
            event_time: format_time(now),
            event_source: EVENT_SOURCE.to_owned(),
            event_name: name.to_owned(),
            aws_region: region.to_string(),
            source_ip_address: host.clone(),
            user_agent: Some("edgetrail-agent".to_owned()),
            request_parameters: Some(parameters),
            additional_event_data: Some(Map::from_iter([("edgetrail".to_owned(), Value::Object(place))])),
            event_id: event_id(*agent, "agent", &position, 0),
            read_only: Some(false),
            event_type: EventType::AwsServiceEvent,
            management_event: Some(true),
            recipient_account_id: account.to_string(),
            event_category: EventCategory::Management,
            ..Record::default()
        };
        record.fit();
        record.to_json()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

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
            cause: "unclean-restart",
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
