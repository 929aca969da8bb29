//! Events of the Kubernetes API server's audit as records: who asked for what, and what came of it.
//!
//! One request, one record ([`stages`]). What a request and its response hold goes into parameters and response, bounded
//! and without the values of Secrets. Nothing here fails: what is no audit event is said to be none by the caller.

mod catalogue;

mod objects;

mod request;

mod stages;

mod started;

#[cfg(test)]
mod tests;

mod who;

use std::borrow::Cow;

use edgetrail_proto::chain::event_id;
use edgetrail_proto::limits::STRING_FIELD_BYTES_MAX;
use edgetrail_proto::record::{Record, Resource};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Draft, Host, report};
use crate::observation::{Cursor, SourceName};
use crate::sources::kubernetes::{self as source, Audit, ObjectRef, Stage, Status, User, position};
use stages::{Fate, Stages};
use started::Started;

/// eventSource of every record made here.
pub const EVENT_SOURCE: &str = "kube-apiserver.kubernetes";

/// Key of the cursor that holds the announced requests.
const STAGES_KEY: &str = "kubernetes/stages";

/// What the keys of those begin with that hold the ones that run on; a number follows.
const STARTED_KEY: &str = "kubernetes/started/";

/// Makes records of audit events; carries announced requests from one to the next.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The cluster's name in ARNs; the host's where it has none.
    cluster: Option<String>,
    stages: Stages,
}

/// Where ARNs are made.
struct Place<'a> {
    host: &'a Host,
    cluster: &'a str,
}

/// Largest user, annotations or list of addresses kept, in bytes: all of them stay below additionalEventData's limit.
const CONTEXT_BYTES_MAX: usize = 6 * 1024;

/// Longest original that is kept beside its record, in bytes: with its escapes it stays below additionalEventData's limit.
const RAW_BYTES_MAX: usize = edgetrail_proto::limits::ADDITIONAL_BYTES_MAX / 4;

impl Place<'_> {
    /// `arn:P:kubernetes:REGION:ACCOUNT:CLUSTER/…`.
    fn arn(&self, rest: &str) -> String {
        let Host { partition, region, account, .. } = self.host;
        format!("arn:{partition}:kubernetes:{region}:{account}:{}/{rest}", self.cluster)
    }
}

impl Decoder {
    /// Goes on from what [`Decoder::take_cursors`] gave; other cursors are of no matter.
    pub fn restore(cluster: Option<String>, cursors: &[Cursor]) -> Self {
        let part = |cursor: &Cursor| Some((cursor.key.strip_prefix(STARTED_KEY)?.parse().ok()?, cursor.value.clone()));
        let started = Started::restore(cursors.iter().filter_map(part));
        let announced = cursors.iter().find(|cursor| cursor.key == STAGES_KEY);
        let saved = announced.map(|cursor| cursor.value.as_slice()).unwrap_or_default();
        Self { cluster, stages: Stages::restore(saved, started) }
    }

    /// The requests that were announced or run on, where they changed since this was last called: to be committed with the
    /// records made since.
    pub fn take_cursors(&mut self) -> Vec<Cursor> {
        let announced = self.stages.save().map(|value| Cursor { key: STAGES_KEY.to_owned(), value });
        let started = self.stages.save_started().into_iter();
        let started = started.map(|(number, value)| Cursor { key: format!("{STARTED_KEY}{number}"), value });
        announced.into_iter().chain(started).collect()
    }

    /// The records of an event: its own, and those of announcements that found no more room. `time` in Unix nanoseconds
    /// where the event has none, `now` by this host's clock. `Err` says why it is no audit event.
    pub fn decode(&mut self, host: &Host, event: &[u8], time: u64, now: u64) -> Result<Vec<Draft>, String> {
        let audit = Audit::parse(event)?;
        let event_id = event_id(host.agent, SourceName::Kubernetes.as_str(), &position(event), 0);
        let fate = match source::request(event) {
            Some((request, stage)) => {
                let code = audit.response_status.map(|raw| Status::read(raw).code).unwrap_or_default();
                self.stages.judge(&request, stage, code, event, event_id, now)
            }
            None => Fate::Record,
        };
        let related = match fate {
            Fate::Step => return Ok(self.due(host, now)),
            Fate::Related(event_id) => Some(event_id),
            Fate::Record => None,
        };
        let mut drafts = vec![Draft::of(self.record(host, &audit, event, event_id, audit.time().unwrap_or(time), related))];
        drafts.extend(self.due(host, now));
        Ok(drafts)
    }

    /// The records of announcements that nothing followed in time.
    pub fn due(&mut self, host: &Host, now: u64) -> Vec<Draft> {
        let events = self.stages.due(now);
        events.iter().filter_map(|event| self.announced(host, event, now)).collect()
    }

    /// The records of all announcements: nothing more will come.
    pub fn drain(&mut self, host: &Host, now: u64) -> Vec<Draft> {
        let events = self.stages.drain();
        events.iter().filter_map(|event| self.announced(host, event, now)).collect()
    }

    /// When the next announcement is due, Unix nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.stages.deadline()
    }

    fn announced(&mut self, host: &Host, event: &[u8], now: u64) -> Option<Draft> {
        let audit = Audit::parse(event).ok()?;
        let event_id = event_id(host.agent, SourceName::Kubernetes.as_str(), &position(event), 0);
        if let Some((request, _)) = source::request(event) {
            self.stages.announced(&request, event_id);
        }
        Some(Draft::of(self.record(host, &audit, event, event_id, audit.time().unwrap_or(now), None)))
    }

    fn record(&self, host: &Host, audit: &Audit<'_>, event: &[u8], event_id: Uuid, time: u64, related: Option<Uuid>) -> Record {
        let place = Place { host, cluster: self.cluster.as_deref().unwrap_or(&host.name) };
        let object = audit.object_ref.map(ObjectRef::read).filter(|object| !object.resource.is_empty());
        let object = object.as_ref();
        let mut record = report::blank(host, Some(SourceName::Kubernetes), event_id, time);
        let user = audit.user.map(User::read);
        record.user_identity = who::identity(&place, user.as_ref(), audit.impersonated_user.map(User::read).as_ref());
        record.event_source = EVENT_SOURCE.to_owned();
        record.event_name = catalogue::event_name(&audit.verb, object);
        if let Some(address) = address(audit) {
            record.source_ip_address = address;
        }
        record.user_agent.clone_from(&audit.user_agent);
        (record.error_code, record.error_message) = error(audit);
        record.request_parameters = Some(parameters(audit, object));
        record.response_elements = response(audit, object);
        record.request_id = audit.audit_id.clone().filter(|id| id.len() <= STRING_FIELD_BYTES_MAX);
        record.read_only = Some(catalogue::is_read_only(&audit.verb, object));
        record.resources = object.map(|object| vec![resource(&place, object, audit)]);
        if let Some(data) = &mut record.additional_event_data {
            if let Some(Value::Object(mark)) = data.get_mut("edgetrail") {
                if audit.stage() == Stage::Received {
                    mark.insert("incomplete".to_owned(), true.into());
                }
                if let Some(related) = related {
                    mark.insert("relatedEventID".to_owned(), related.to_string().into());
                }
                if host.keep_raw {
                    mark.insert("raw".to_owned(), raw(event, audit, object));
                }
            }
            data.insert("kubernetes".to_owned(), context(audit, place.cluster));
        }
        record
    }
}

/// The caller as the API server saw it: those before the last one of the list are only what the caller says.
fn address(audit: &Audit<'_>) -> Option<String> {
    let addresses: Vec<String> = serde_json::from_str(audit.source_ips?.get()).ok()?;
    addresses.into_iter().next_back().filter(|address| !address.is_empty())
}

/// errorCode and errorMessage of what was refused or failed.
fn error(audit: &Audit<'_>) -> (Option<String>, Option<String>) {
    let status = audit.response_status.map(Status::read).unwrap_or_default();
    let message = Some(status.message).filter(|message| !message.is_empty());
    match status.code {
        401 | 403 => (Some("AccessDenied".to_owned()), message.or(Some(status.reason).filter(|reason| !reason.is_empty()))),
        400.. if !status.reason.is_empty() => (Some(status.reason), message),
        400.. => (Some(format!("Http{}", status.code)), message),
        _ if audit.stage() == Stage::Panic => (Some("Panic".to_owned()), message),
        _ => (None, None),
    }
}

fn parameters(audit: &Audit<'_>, object: Option<&ObjectRef>) -> Value {
    let mut parameters = Map::new();
    parameters.insert("verb".to_owned(), audit.verb.clone().into());
    if let Some(uri) = &audit.request_uri {
        let subresource = object.map(|object| object.subresource.as_str()).unwrap_or_default();
        let shown = request::without_command(uri, subresource).unwrap_or_else(|| uri.clone());
        parameters.insert("requestURI".to_owned(), shown.into());
        for (name, value) in request::arguments(uri, subresource) {
            parameters.insert(name, value);
        }
    }
    if let Some(reference) = audit.object_ref.and_then(|raw| objects::bounded(raw, CONTEXT_BYTES_MAX)) {
        parameters.insert("objectRef".to_owned(), reference);
    }
    if let Some(value) = audit.request_object.and_then(|raw| objects::object(raw, object)) {
        parameters.insert("requestObject".to_owned(), value);
    }
    Value::Object(parameters)
}

fn response(audit: &Audit<'_>, object: Option<&ObjectRef>) -> Option<Value> {
    let mut response = Map::new();
    if let Some(status) = audit.response_status.and_then(|raw| objects::bounded(raw, objects::OBJECT_BYTES_MAX)) {
        response.insert("responseStatus".to_owned(), status);
    }
    if let Some(value) = audit.response_object.and_then(|raw| objects::object(raw, object)) {
        response.insert("responseObject".to_owned(), value);
    }
    (!response.is_empty()).then_some(Value::Object(response))
}

/// `CLUSTER/RESOURCE[.GROUP][/NAMESPACE]/NAME`; `*` for the name where the request is about all of them.
fn resource(place: &Place<'_>, object: &ObjectRef, audit: &Audit<'_>) -> Resource {
    let mut path = object.resource.clone();
    for (separator, part) in [('.', &object.api_group), ('/', &object.namespace)] {
        // A namespace is in no other one, though it names itself as its own.
        let is_itself = separator == '/' && object.resource == "namespaces";
        if !is_itself && !part.is_empty() {
            path.push(separator);
            path.push_str(part);
        }
    }
    let name = Some(object.name.clone()).filter(|name| !name.is_empty()).or_else(|| request::made_name(audit));
    let arn = place.arn(&format!("{path}/{}", name.as_deref().unwrap_or("*")));
    Resource {
        account_id: Some(place.host.account.to_string()),
        kind: Some(format!("Kubernetes::{}", catalogue::kind(&object.resource))),
        arn: Some(arn),
        ..Resource::default()
    }
}

/// What has no place of its own in a record.
fn context(audit: &Audit<'_>, cluster: &str) -> Value {
    let mut context = Map::new();
    context.insert("cluster".to_owned(), cluster.into());
    let texts = [
        ("level", &audit.level),
        ("stage", &audit.stage),
        ("requestReceivedTimestamp", &audit.request_received_timestamp),
        ("stageTimestamp", &audit.stage_timestamp),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            context.insert(name.to_owned(), text.clone().into());
        }
    }
    let values = [
        ("user", audit.user),
        ("impersonatedUser", audit.impersonated_user),
        ("sourceIPs", audit.source_ips),
        ("annotations", audit.annotations),
    ];
    for (name, raw) in values {
        if let Some(value) = raw.and_then(|raw| objects::bounded(raw, CONTEXT_BYTES_MAX)) {
            context.insert(name.to_owned(), value);
        }
    }
    Value::Object(context)
}

/// The original, but for a command's words, which its parameters hold; none where it holds values of Secrets.
fn raw(event: &[u8], audit: &Audit<'_>, object: Option<&ObjectRef>) -> Value {
    let is_secret = |raw: Option<&serde_json::value::RawValue>| raw.is_some_and(|raw| raw.get().contains("Secret"));
    let holds_secrets =
        object.is_some_and(objects::is_secret) || is_secret(audit.request_object) || is_secret(audit.response_object);
    let subresource = object.map(|object| object.subresource.as_str()).unwrap_or_default();
    let shown = audit.request_uri.as_deref().and_then(|uri| request::without_command(uri, subresource));
    let shown = match shown.map(|uri| with_uri(event, &uri)) {
        None => Cow::Borrowed(event),
        Some(Some(shown)) => Cow::Owned(shown),
        Some(None) => return omitted(event),
    };
    if event.len() > RAW_BYTES_MAX || holds_secrets && (audit.request_object.is_some() || audit.response_object.is_some()) {
        return omitted(event);
    }
    String::from_utf8_lossy(&shown).into_owned().into()
}

/// The event with another requestURI; `None` where its members can't be told apart.
fn with_uri(event: &[u8], uri: &str) -> Option<Vec<u8>> {
    let members = crate::sources::event::members(std::str::from_utf8(event).ok()?).ok()?;
    let uri = Value::from(uri).to_string();
    let member = |(name, raw): (&str, &str)| format!("\"{name}\":{}", if name == "requestURI" { &uri } else { raw });
    let members: Vec<String> = members.into_iter().map(member).collect();
    Some(format!("{{{}}}", members.join(",")).into_bytes())
}

/// Size and hash of what is not kept.
fn omitted(event: &[u8]) -> Value {
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(event));
    json!({"omitted": true, "edgetrailBytes": event.len(), "edgetrailSha256": hash})
}
