//! What an event says was done, and the record made of it.

use edgetrail_proto::record::{EventCategory, EventType, Resource};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::normalize::actor::{Actor, host_arn};
use crate::normalize::{Act, Draft, Host, Made, report};
use crate::observation::SourceName;
use crate::sources::audit::Event;

/// One act.
#[derive(Debug)]
pub struct Deed {
    pub source: String,
    pub name: &'static str,
    pub kind: Kind,
    pub actor: Actor,
    /// The remote address of the session that it happened in.
    pub address: Option<String>,
    pub agent: Option<String>,
    pub parameters: Map<String, Value>,
    pub response: Option<Value>,
    pub error: Option<Failure>,
    pub resources: Vec<Resource>,
    pub act: Option<Act>,
    /// Whether another record stands for the act.
    pub is_step: bool,
    /// Members of `additionalEventData.edgetrail`: the login session, where the process stands.
    pub marks: Vec<(&'static str, Value)>,
}

/// How the record is classed. Source: docs/events.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Administers the host.
    Management,
    /// A login or its end.
    SignIn,
    /// What the system does by itself.
    Service,
    /// A command, file or object access that changes something.
    Data,
    /// One that only reads.
    DataRead,
}

/// errorCode and errorMessage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub message: Option<String>,
}

impl Failure {
    pub fn denied(message: impl Into<String>) -> Self {
        Self { code: "AccessDenied".to_owned(), message: Some(message.into()) }
    }
}

impl Deed {
    pub fn new(source: String, name: &'static str, kind: Kind, actor: Actor) -> Self {
        let (parameters, resources) = (Map::new(), Vec::new());
        Self {
            source,
            name,
            kind,
            actor,
            address: None,
            agent: None,
            parameters,
            response: None,
            error: None,
            resources,
            act: None,
            is_step: false,
            marks: Vec::new(),
        }
    }

    /// Another record stands for the act: this one is kept only where Data events are.
    pub fn step(self) -> Self {
        Self { kind: Kind::Data, act: None, is_step: true, ..self }
    }

    /// Adds a parameter, if there is a value.
    pub fn parameter(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.parameters.insert(key.to_owned(), value.into());
        }
    }

    /// Adds a thing of this host that was acted on: `Host::User` and `user/alice`.
    pub fn resource(&mut self, host: &Host, kind: &str, path: &str) {
        let arn = host_arn(host, path);
        let (account_id, kind) = (Some(host.account.to_string()), Some(kind.to_owned()));
        self.resources.push(Resource { account_id, kind, arn: Some(arn), ..Resource::default() });
    }

    /// Whether it is a Data event.
    pub fn is_data(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::DataRead)
    }

    /// The record for a selection that turns Data events away: no more of it than is counted.
    pub fn refused_draft(self, host: &Host, event: &Event, event_id: Uuid) -> Draft {
        let mut record = report::blank(host, Some(SourceName::Audit), event_id, event.stamp.nanoseconds());
        (record.event_category, record.management_event) = (EventCategory::Data, Some(false));
        Draft { record: Made::Record(Box::new(record)), act: self.act }
    }

    pub fn draft(self, host: &Host, event: &Event, event_id: Uuid) -> Draft {
        let is_data = self.is_data();
        let mut record = report::blank(host, Some(SourceName::Audit), event_id, event.stamp.nanoseconds());
        record.user_identity = self.actor.identity(host);
        record.event_source = self.source;
        record.event_name = self.name.to_owned();
        if let Some(address) = self.address {
            record.source_ip_address = address;
        }
        record.user_agent = self.agent;
        (record.error_code, record.error_message) = match self.error {
            Some(Failure { code, message }) => (Some(code), message),
            None => (None, None),
        };
        record.request_parameters = (!self.parameters.is_empty()).then_some(Value::Object(self.parameters));
        record.response_elements = self.response;
        record.resources = (!self.resources.is_empty()).then_some(self.resources);
        record.event_type = match self.kind {
            Kind::SignIn => EventType::AwsConsoleSignIn,
            Kind::Service => EventType::AwsServiceEvent,
            Kind::Management | Kind::Data | Kind::DataRead => EventType::AwsApiCall,
        };
        record.event_category = if is_data { EventCategory::Data } else { EventCategory::Management };
        record.management_event = Some(!is_data);
        record.read_only = Some(self.kind == Kind::DataRead);
        if let Some(mark) =
            record.additional_event_data.as_mut().and_then(|data| data.get_mut("edgetrail")).and_then(Value::as_object_mut)
        {
            note(mark, host, event);
            mark.extend(self.marks.into_iter().map(|(key, value)| (key.to_owned(), value)));
            if self.is_step {
                mark.insert("step".to_owned(), true.into());
            }
        }
        Draft { record: Made::Record(Box::new(record)), act: self.act }
    }
}

/// What is to be known of the observation itself.
fn note(mark: &mut Map<String, Value>, host: &Host, event: &Event) {
    if !event.complete {
        mark.insert("incomplete".to_owned(), true.into());
    }
    if event.cut.records > 0 {
        mark.insert("cut".to_owned(), json!({"records": event.cut.records, "bytes": event.cut.bytes}));
    }
    if host.keep_raw {
        mark.insert("raw".to_owned(), raw(event).into());
    }
}

/// The event as lines of audit.log.
fn raw(event: &Event) -> String {
    let stamp = event.stamp.to_string();
    let mut lines = String::with_capacity(event.records.iter().map(|record| record.text.len() + RAW_PREFIX_BYTES).sum());
    for record in &event.records {
        if !lines.is_empty() {
            lines.push('\n');
        }
        let (kind, text) = (record.kind.to_string(), record.text());
        lines.extend(["type=", kind.as_str(), " msg=audit(", stamp.as_str(), "): ", text.as_ref()]);
    }
    lines
}

/// What stands before a record's text on its line, about.
const RAW_PREFIX_BYTES: usize = 64;
