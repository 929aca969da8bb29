//! The agent's own reports as records: events that are missing, and input that could not be understood.
//!
//! Never nothing: what a source could not parse is kept as text, up to [`UNPARSED_BYTES_MAX`], with its size and hash.

use edgetrail_proto::record::{EventCategory, EventType, Record, UserIdentity, format_time};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Host;
use crate::observation::{Loss, SourceName, Unparsed};

/// eventSource of the agent's own records.
pub const EVENT_SOURCE: &str = "agent.edgetrail";

/// eventName of a gap: events are missing.
pub const REPORT_GAP: &str = "ReportGap";

/// eventName of input that is not what its source promises.
pub const UNPARSED_OBSERVATION: &str = "UnparsedObservation";

/// Text kept of unparsed input, in bytes: a third of requestParameters' limit, for escapes may triple it.
const UNPARSED_BYTES_MAX: usize = 32 * 1024;

/// The gap of a loss.
pub fn gap(host: &Host, source: Option<SourceName>, event_id: Uuid, time: u64, loss: &Loss) -> Record {
    let parameters = json!({
        "cause": loss.cause.as_str(),
        "count": loss.count,
        "exact": loss.exact,
        "evidence": loss.evidence,
        "from": format_time(loss.from),
        "to": format_time(loss.to),
    });
    own(host, source, REPORT_GAP, event_id, time, parameters)
}

/// The record of input that could not be understood; the reason is its errorMessage.
pub fn unparsed(host: &Host, source: SourceName, event_id: Uuid, time: u64, unparsed: &Unparsed) -> Record {
    let kept = unparsed.bytes.get(..UNPARSED_BYTES_MAX).unwrap_or(&unparsed.bytes);
    let parameters = json!({
        "bytes": unparsed.bytes.len(),
        "sha256": hex::encode(Sha256::digest(&unparsed.bytes)),
        "text": String::from_utf8_lossy(kept),
        "truncated": kept.len() < unparsed.bytes.len(),
    });
    let mut record = own(host, Some(source), UNPARSED_OBSERVATION, event_id, time, parameters);
    record.error_code = Some("Unparseable".to_owned());
    record.error_message = Some(unparsed.reason.clone());
    record.fit();
    record
}

/// A record of the agent itself.
pub fn own(host: &Host, source: Option<SourceName>, name: &str, event_id: Uuid, time: u64, parameters: Value) -> Record {
    let user_identity = UserIdentity {
        kind: Some("AWSService".to_owned()),
        account_id: Some(host.account.to_string()),
        invoked_by: Some(EVENT_SOURCE.to_owned()),
        ..UserIdentity::default()
    };
    let mut record = blank(host, source, event_id, time);
    record.user_identity = user_identity;
    record.event_source = EVENT_SOURCE.to_owned();
    record.event_name = name.to_owned();
    record.user_agent = Some(concat!("edgetrail-agent/", env!("CARGO_PKG_VERSION")).to_owned());
    record.request_parameters = Some(parameters);
    record.event_type = EventType::AwsServiceEvent;
    record
}

/// A Management record of this host with all that does not depend on the act; the rest is empty.
pub fn blank(host: &Host, source: Option<SourceName>, event_id: Uuid, time: u64) -> Record {
    let mut mark = Map::new();
    mark.insert("agent".to_owned(), host.agent.to_string().into());
    mark.insert("host".to_owned(), host.name.clone().into());
    if let Some(source) = source {
        mark.insert("source".to_owned(), source.as_str().into());
    }
    Record {
        event_version: edgetrail_proto::record::EVENT_VERSION.to_owned(),
        user_identity: UserIdentity::default(),
        event_time: format_time(time),
        event_source: String::new(),
        event_name: String::new(),
        aws_region: host.region.to_string(),
        source_ip_address: host.name.clone(),
        user_agent: None,
        error_code: None,
        error_message: None,
        request_parameters: None,
        response_elements: None,
        additional_event_data: Some(Map::from_iter([("edgetrail".to_owned(), Value::Object(mark))])),
        request_id: None,
        event_id,
        read_only: Some(false),
        resources: None,
        event_type: EventType::AwsApiCall,
        api_version: None,
        management_event: Some(true),
        recipient_account_id: host.account.to_string(),
        service_event_details: None,
        shared_event_id: None,
        vpc_endpoint_id: None,
        vpc_endpoint_account_id: None,
        event_category: EventCategory::Management,
        addendum: None,
        edge_device_details: None,
        tls_details: None,
        session_credential_from_console: None,
        event_context: None,
        unknown: edgetrail_proto::record::Unknown::default(),
    }
}
