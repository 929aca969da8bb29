//! One call as it is recorded.

use edgetrail_proto::record::{EventCategory, EventType, Record, Resource, UserIdentity};
use http::request::Parts;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::ApiParts;
use super::caller::{Caller, Peer};
use super::fault::Fault;

/// What a service says of a call: the part of its record that only the service knows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// CloudTrail's eventSource, such as `cloudtrail.amazonaws.com`.
    pub source: &'static str,
    pub name: String,
    pub read_only: bool,
    /// Of an object rather than of the service.
    pub data: bool,
    pub parameters: Option<Value>,
    pub resources: Vec<Resource>,
}

/// What the connection and the request's head say.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub parts: &'a ApiParts,
    pub head: &'a Parts,
    pub peer: &'a Peer,
    pub request_id: Uuid,
}

impl Event {
    pub(super) fn new(source: &'static str, name: &str, read_only: bool) -> Self {
        Self { source, name: name.to_owned(), read_only, data: false, parameters: None, resources: Vec::new() }
    }

    /// `claimed_key` is what a refused caller said of itself.
    pub(super) fn into_record(
        self,
        context: &Context<'_>,
        caller: Option<&Caller>,
        claimed_key: Option<&str>,
        fault: Option<&Fault>,
    ) -> Record {
        let ApiParts { home_account, home_region, .. } = context.parts;
        let host = host_of(context.head);
        Record {
            user_identity: caller.map_or_else(|| unproven(claimed_key), Caller::identity),
            event_source: self.source.to_owned(),
            event_name: self.name,
            aws_region: caller.map_or(home_region, |caller| &caller.region).to_string(),
            source_ip_address: context.peer.address.ip().to_canonical().to_string(),
            user_agent: context
                .head
                .headers
                .get("user-agent")
                .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
            error_code: fault.map(|fault| fault.code.to_owned()),
            error_message: fault.map(|fault| fault.message.clone()),
            request_parameters: self.parameters.map(lower_camel),
            request_id: Some(context.request_id.to_string()),
            read_only: Some(self.read_only),
            resources: (!self.resources.is_empty()).then_some(self.resources),
            event_type: EventType::AwsApiCall,
            management_event: Some(!self.data),
            recipient_account_id: caller.map_or(home_account, |caller| &caller.account).to_string(),
            event_category: if self.data { EventCategory::Data } else { EventCategory::Management },
            tls_details: context.peer.tls.as_ref().map(|tls| tls.details(host.as_deref())),
            ..Record::default()
        }
    }
}

/// A caller whose signature was not verified is never named as the key's holder.
fn unproven(claimed_key: Option<&str>) -> UserIdentity {
    UserIdentity { kind: Some("Unknown".to_owned()), access_key_id: claimed_key.map(str::to_owned), ..UserIdentity::default() }
}

pub(super) fn host_of(head: &Parts) -> Option<String> {
    let header = head.headers.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
    header.or_else(|| head.uri.authority().map(|authority| authority.as_str().to_owned()))
}

/// CloudTrail writes a request's members in lower camel case: `MaxResults` as `maxResults`.
fn lower_camel(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (lower_first(&name), lower_camel(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(lower_camel).collect()),
        other => other,
    }
}

fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    characters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(characters).collect()
}
