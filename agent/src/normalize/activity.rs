//! Audit events of a channel: the record of CloudTrail Lake's integrations around an eventData's own bytes.
//!
//! The eventData says who acted, and is taken as it is; who put it there is proven, and said beside it.

use edgetrail_proto::record::{EVENT_VERSION, format_time};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Host;
use crate::observation::SourceName;
use crate::sources::api::audit_events::AuditEvent;

/// The record, in the order in which Lake shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Activity<'a> {
    event_version: &'a str,
    event_category: &'a str,
    event_type: &'a str,
    #[serde(rename = "eventID")]
    event_id: Uuid,
    event_time: String,
    aws_region: &'a str,
    recipient_account_id: &'a str,
    metadata: Metadata<'a>,
    event_data: &'a RawValue,
    additional_event_data: Additional<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    ingestion_time: String,
    #[serde(rename = "channelARN")]
    channel_arn: &'a str,
}

#[derive(Serialize)]
struct Additional<'a> {
    edgetrail: Origin<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Origin<'a> {
    agent: String,
    host: &'a str,
    source: &'a str,
    signer: Signer<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Signer<'a> {
    principal: &'a str,
    access_key_id: &'a str,
    #[serde(rename = "sourceIPAddress")]
    source_ip_address: String,
}

/// A record's bytes; `time` is its eventTime, Unix nanoseconds. An error says what is wrong with its eventData.
pub(super) fn record(host: &Host, event_id: Uuid, time: u64, event: &AuditEvent) -> Result<Vec<u8>, String> {
    let AuditEvent { event_data, channel, signer, received } = event;
    let event_data: &RawValue = serde_json::from_slice(event_data).map_err(|error| error.to_string())?;
    let activity = Activity {
        event_version: EVENT_VERSION,
        event_category: "ActivityAuditLog",
        event_type: "ActivityLog",
        event_id,
        event_time: format_time(time),
        aws_region: channel.arn.region().as_str(),
        recipient_account_id: channel.arn.account().as_str(),
        metadata: Metadata { ingestion_time: format_time(*received), channel_arn: channel.arn.text() },
        event_data,
        additional_event_data: Additional {
            edgetrail: Origin {
                agent: host.agent.to_string(),
                host: &host.name,
                source: SourceName::Api.as_str(),
                signer: Signer {
                    principal: &signer.principal,
                    access_key_id: &signer.access_key_id,
                    source_ip_address: signer.address.to_canonical().to_string(),
                },
            },
        },
    };
    serde_json::to_vec(&activity).map_err(|error| error.to_string())
}
