//! A syslog message as a record: what a program said, an event where the mapping knows it as one.
//!
//! A message names its own host and program; over a network nobody vouches for either. Messages of the facilities `auth`,
//! `authpriv` and `audit` are Management, all others Data.

use edgetrail_proto::record::{EventCategory, EventType, Record};
use serde_json::{Map, Value, json};

use super::{LOG_MESSAGE, Place, identity, mapped, set_category, source_name};
use crate::observation::SourceName;
use crate::sources::inlet;
use crate::sources::lines::address;
use crate::sources::lines::mapping::Mapping;
use crate::sources::lines::syslog::{self, Message};

/// Facilities whose messages are about who may do what.
const SECURITY: &[&str] = &["auth", "authpriv", "audit"];

pub(super) fn record(place: &Place<'_>, mapping: &Mapping, text: &str) -> Record {
    let message = syslog::parse(text, place.time);
    let fields = fields(&message);
    let peer = peer(place);
    if mapping.events.iter().any(|event| mapped::fits(event, &fields)) {
        let mut record = mapped::record(place, mapping, &fields);
        if let (Some(peer), true) = (peer, record.source_ip_address == place.host.name) {
            record.source_ip_address = peer.to_owned();
        }
        return record;
    }
    let mut record = place.blank(message.time);
    let program = message.program.and_then(source_name).unwrap_or_else(|| "unknown".to_owned());
    record.event_source = format!("{program}.syslog");
    record.event_name = LOG_MESSAGE.to_owned();
    record.user_identity = identity::service(place.host, &record.event_source);
    if let Some(host) = message.host.or(peer) {
        record.source_ip_address = host.to_owned();
    }
    record.event_type = EventType::AwsServiceEvent;
    let facility = message.priority.map(syslog::facility);
    let is_security = facility.is_some_and(|facility| SECURITY.contains(&facility));
    set_category(&mut record, if is_security { EventCategory::Management } else { EventCategory::Data });
    record.request_parameters = Some(Value::Object(fields));
    record
}

/// The address of who sent it over a network.
fn peer<'a>(place: &Place<'a>) -> Option<&'a str> {
    let path = place.path.filter(|_| place.source == SourceName::Syslog)?;
    let (scheme, address) = inlet::peer(path).0.split_once("://")?;
    matches!(scheme, "udp" | "tcp" | "tls").then(|| address::host(address))
}

/// The message's parts by name.
fn fields(message: &Message<'_>) -> Map<String, Value> {
    let text = |text: Option<&str>| text.map(Value::from);
    super::object([
        ("facility", message.priority.map(|priority| json!(syslog::facility(priority)))),
        ("severity", message.priority.map(|priority| json!(syslog::severity(priority)))),
        ("time", message.time.map(Value::from)),
        ("host", text(message.host)),
        ("program", text(message.program)),
        ("process", text(message.process)),
        ("id", text(message.id)),
        ("data", text(message.data)),
        ("message", text(Some(message.text))),
    ])
}
