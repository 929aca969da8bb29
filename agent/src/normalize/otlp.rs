//! Log records of OpenTelemetry as records: docs/sources/otlp.md has the table.
//!
//! Names come from OpenTelemetry's conventions, the draft for audit records first. Nothing is lost on the way: attributes
//! and body are in requestParameters, resource and scope in additionalEventData. Who may send is the operator's decision;
//! a user is therefore believed, and where none is named, it is `Unknown`.

use edgetrail_proto::limits::ADDITIONAL_BYTES_MAX;
use edgetrail_proto::record::{Record, Resource, UserIdentity, format_time};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Host, lines, report};
use crate::observation::SourceName;
use crate::sources::event::NAME_BYTES_MAX;
use crate::sources::lines::access::{self, Request};
use crate::sources::lines::envelope::Peeled;
use crate::sources::lines::{Mapping, address};
use crate::sources::otlp::{Entry, Log};

/// Ends an eventSource that is no DNS name by itself.
const SOURCE_END: &str = ".otlp";

/// Largest resource or scope kept, in bytes: both stay below additionalEventData's limit.
const CONTEXT_BYTES_MAX: usize = ADDITIONAL_BYTES_MAX / 4;

/// Attributes that name the act, the first that is there. Source: OpenTelemetry's semantic conventions; `audit.*` of the
/// draft for audit records.
const NAMES: &[&str] = &["event.name", "audit.action", "rpc.method"];
const USER_NAMES: &[&str] = &["user.name", "user.email", "enduser.id", "user.id", "audit.actor.id"];
const USER_IDS: &[&str] = &["user.id", "audit.actor.id", "enduser.id"];
const ADDRESSES: &[&str] = &[
    "client.address",
    "audit.source.address",
    "source.address",
    "network.peer.address",
    "http.client_ip",
    "net.sock.peer.addr",
    "net.peer.ip",
];
const USER_AGENTS: &[&str] = &["user_agent.original", "user_agent.name", "http.user_agent"];
const METHODS: &[&str] = &["http.request.method", "http.method"];
const STATUSES: &[&str] = &["http.response.status_code", "http.status_code"];
const ERRORS: &[&str] = &["error.type", "exception.type"];
const ERROR_MESSAGES: &[&str] = &["error.message", "exception.message"];
const RECORD_IDS: &[&str] = &["audit.record.id", "log.record.uid"];

/// Source: RFC 9110 §9, RFC 5789, RFC 4918.
const HTTP_METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
];

/// The record of an entry; `seen` is when it came, Unix nanoseconds. `gateway` says how requests become records.
pub(super) fn record(host: &Host, event_id: Uuid, seen: u64, entry: &Entry, log: &Log, gateway: Option<&Mapping>) -> Record {
    let time = [entry.time, entry.observed_time].into_iter().find(|time| *time != 0).unwrap_or(seen);
    let mut record = match gateway.and_then(|gateway| Some((gateway, request(entry, time)?))) {
        Some((gateway, request)) => {
            let place = lines::Place { host, source: SourceName::Otlp, path: None, event_id, time };
            let mut record = lines::access::record(&place, gateway, &Peeled::default(), request);
            of_request(host, entry, gateway, &mut record);
            record
        }
        None => of_event(host, event_id, time, entry),
    };
    if [entry.time, entry.observed_time] != [0, 0] {
        record.event_time = format_time(time);
    }
    record.user_agent = record.user_agent.or_else(|| program(entry));
    if let Some(target) = target(host, entry) {
        record.resources = Some(vec![target]);
    }
    if let Some(data) = &mut record.additional_event_data {
        if let Some(Value::Object(mark)) = data.get_mut("edgetrail") {
            if let Some(id) = first(entry, RECORD_IDS).filter(|id| id.len() <= NAME_BYTES_MAX) {
                mark.insert("clientID".to_owned(), id.into());
            }
            if host.keep_raw {
                mark.insert("raw".to_owned(), bounded(log.raw()));
            }
        }
        trace(entry, data);
        data.insert("otlp".to_owned(), context(entry));
    }
    record
}

/// What is no request of HTTP's.
fn of_event(host: &Host, event_id: Uuid, time: u64, entry: &Entry) -> Record {
    let mut record = report::blank(host, Some(SourceName::Otlp), event_id, time);
    record.user_identity = identity(host, entry);
    record.event_source = event_source(entry);
    record.event_name = event_name(entry);
    if let Some(address) = first(entry, ADDRESSES) {
        record.source_ip_address = address::host(&address).to_owned();
    }
    record.user_agent = first(entry, USER_AGENTS);
    (record.error_code, record.error_message) = error(entry);
    let parameters = parameters(entry);
    record.request_parameters = (!parameters.is_empty()).then_some(Value::Object(parameters));
    record.read_only = Some(is_read_only(entry));
    record
}

/// The request that an entry without a name of its own tells of, as a gateway's access log does: in its attributes, in the
/// members of its body, or in its body's text.
fn request(entry: &Entry, now: u64) -> Option<Request> {
    if !entry.event_name.is_empty() || first(entry, NAMES).is_some() {
        return None;
    }
    let is_gateway = is_envoy(entry);
    // `method` may be any program's own: only HTTP's make it a request.
    let is_method = |request: &Request| request.method.as_deref().is_some_and(|method| HTTP_METHODS.contains(&method));
    let is_told = |request: &Request| {
        let is_request = is_method(request) || is_gateway || request.server == Some("envoy");
        !request.is_report && !request.is_message && is_request
    };
    if let Value::String(text) = &entry.body
        && let Some(request) = access::parse(text, now).filter(is_told)
    {
        return Some(request);
    }
    let mut members = match &entry.body {
        Value::Object(members) => members.clone(),
        _ => Map::new(),
    };
    members.extend(entry.attributes.clone());
    let mut request = access::of_members(&members, now).filter(is_told)?;
    request.server = request.server.or(is_gateway.then_some("envoy"));
    Some(request)
}

/// Whether Envoy's logger sent it. Source: envoy.extensions.access_loggers.open_telemetry.v3: the resource's attributes.
fn is_envoy(entry: &Entry) -> bool {
    ["log_name", "cluster_name"].iter().all(|name| entry.resource.contains_key(*name))
}

/// What the conventions say of a request beyond what an access log does.
fn of_request(host: &Host, entry: &Entry, gateway: &Mapping, record: &mut Record) {
    let is_known = |identity: &UserIdentity| identity.kind.as_deref() != Some("Unknown");
    let told = identity(host, entry);
    let is_chosen = gateway.access.identity.is_some() && is_known(&record.user_identity);
    if !is_chosen && is_known(&told) {
        record.user_identity = told;
    }
    if gateway.access.service.is_none() && (entry.resource.contains_key("service.name") || record.event_source == "gateway.http")
    {
        record.event_source = event_source(entry);
    }
    // A route that the service itself names is one of few, as a configured one is.
    let is_routed = record.request_parameters.as_ref().is_some_and(|parameters| parameters.get("route").is_some());
    if let (Some(route), Some(method), false) = (first(entry, &["http.route"]), first(entry, METHODS), is_routed) {
        record.event_name = short(&pascal(&format!("{} {route}", method.to_ascii_lowercase())));
    }
    if let Some(address) = first(entry, ADDRESSES).filter(|_| record.source_ip_address == host.name) {
        record.source_ip_address = address::host(&address).to_owned();
    }
    let (code, message) = error(entry);
    // The status has a name already.
    if let Some(code) = code.filter(|code| !code.starts_with("Http")) {
        record.error_code = Some(code);
    }
    record.error_message = message.or_else(|| record.error_message.take());
    if let Some(Value::Object(all)) = &mut record.request_parameters {
        all.extend(parameters(entry));
    }
}

/// The first of these attributes that is a text or a number.
fn first(entry: &Entry, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| text(entry.attributes.get(*name)))
}

/// Gateways write `-` for what is not there. Of several values the first.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !matches!(text.trim(), "" | "-") => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(values) => values.iter().find_map(|value| text(Some(value).filter(|value| !value.is_array()))),
        _ => None,
    }
}

fn identity(host: &Host, entry: &Entry) -> UserIdentity {
    let account_id = Some(host.account.to_string());
    let Some(name) = first(entry, USER_NAMES) else {
        return UserIdentity { kind: Some("Unknown".to_owned()), account_id, ..UserIdentity::default() };
    };
    // The draft's kinds of actors: user, service, system.
    let kind = text(entry.attributes.get("audit.actor.type")).unwrap_or_default();
    let id = first(entry, USER_IDS).unwrap_or_else(|| name.clone());
    if matches!(kind.to_ascii_lowercase().as_str(), "service" | "system") {
        return UserIdentity {
            kind: Some("AWSService".to_owned()),
            principal_id: Some(id),
            account_id,
            invoked_by: Some(name),
            ..UserIdentity::default()
        };
    }
    UserIdentity {
        kind: Some("WebIdentityUser".to_owned()),
        principal_id: Some(id),
        arn: Some(arn(host, entry, &format!("user/{name}"))),
        account_id,
        user_name: Some(name),
        identity_provider: text(entry.resource.get("service.name")),
        ..UserIdentity::default()
    }
}

/// `arn:P:otlp:REGION:ACCOUNT:SERVICE/…`.
fn arn(host: &Host, entry: &Entry, rest: &str) -> String {
    let Host { partition, region, account, .. } = host;
    format!("arn:{partition}:otlp:{region}:{account}:{}/{rest}", service(entry))
}

fn service(entry: &Entry) -> String {
    let named = text(entry.resource.get("service.name"));
    named.or_else(|| Some(entry.scope_name.clone()).filter(|name| !name.is_empty())).unwrap_or_else(|| "unknown".to_owned())
}

/// The service's name where it is like a DNS name, else one made of it.
fn event_source(entry: &Entry) -> String {
    let service = service(entry);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    let name: String = service.chars().map(plain).take(NAME_BYTES_MAX - SOURCE_END.len()).collect();
    let is_own = name.to_ascii_lowercase().rsplit('.').next() == Some("edgetrail");
    if name.contains('.') && !is_own { name } else { format!("{name}{SOURCE_END}") }
}

/// PascalCase of the event's name; else the method and route of a request; else `LogMessage`.
fn event_name(entry: &Entry) -> String {
    let named = Some(entry.event_name.clone()).filter(|name| !name.is_empty());
    let name = named.or_else(|| first(entry, NAMES)).map(|name| pascal(&name)).filter(|name| !name.is_empty());
    let request = || {
        let method = first(entry, METHODS)?;
        let route = text(entry.attributes.get("http.route")).unwrap_or_default();
        Some(pascal(&format!("{} {route}", method.to_ascii_lowercase()))).filter(|name| !name.is_empty())
    };
    let name = name.or_else(request).unwrap_or_else(|| "LogMessage".to_owned());
    short(&name)
}

fn short(name: &str) -> String {
    name.chars().take(NAME_BYTES_MAX / 4).collect()
}

/// Each word's first letter in upper case; words in capitals alone (`CREATE_USER`) in lower case but for it.
fn pascal(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let is_shouted = !text.chars().any(char::is_lowercase);
    words
        .flat_map(|word| {
            let mut letters = word.chars();
            let first: Vec<char> = letters.next().into_iter().flat_map(char::to_uppercase).collect();
            let rest: Vec<char> = if is_shouted { letters.flat_map(char::to_lowercase).collect() } else { letters.collect() };
            first.into_iter().chain(rest)
        })
        .collect()
}

/// errorCode and errorMessage, where the event says that something was refused or failed.
fn error(entry: &Entry) -> (Option<String>, Option<String>) {
    let message = first(entry, ERROR_MESSAGES);
    // Gateways write numbers as text.
    let number = |names: &[&str]| first(entry, names).and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or_default();
    let (http, grpc) = (number(STATUSES), number(&["rpc.grpc.status_code"]));
    let outcome = text(entry.attributes.get("audit.outcome")).unwrap_or_default().to_ascii_lowercase();
    if matches!(http, 401 | 403) || matches!(grpc, 7 | 16) || outcome == "denied" {
        return (Some("AccessDenied".to_owned()), message);
    }
    // What names the error says more than a number.
    let code = first(entry, ERRORS)
        .filter(|name| name.parse::<i64>().is_err())
        .or_else(|| (http >= 400).then(|| format!("Http{http}")))
        .or_else(|| (grpc != 0).then(|| format!("Grpc{grpc}")))
        .or_else(|| (outcome == "failure").then(|| "Failed".to_owned()));
    (code, message)
}

fn parameters(entry: &Entry) -> Map<String, Value> {
    let mut parameters = Map::new();
    if !entry.attributes.is_empty() {
        parameters.insert("attributes".to_owned(), Value::Object(entry.attributes.clone()));
    }
    if !entry.body.is_null() {
        parameters.insert("body".to_owned(), entry.body.clone());
    }
    parameters
}

fn is_read_only(entry: &Entry) -> bool {
    let verb = text(entry.attributes.get("audit.action")).or_else(|| first(entry, METHODS));
    matches!(
        verb.unwrap_or_default().to_ascii_uppercase().as_str(),
        "GET" | "HEAD" | "OPTIONS" | "READ" | "LIST" | "VIEW" | "SEARCH"
    )
}

/// What was acted on, as the draft for audit records says it.
fn target(host: &Host, entry: &Entry) -> Option<Resource> {
    let id = text(entry.attributes.get("audit.target.id"))?;
    let kind = text(entry.attributes.get("audit.target.type"));
    let rest = kind.as_deref().map_or_else(|| id.clone(), |kind| format!("{kind}/{id}"));
    Some(Resource {
        account_id: Some(host.account.to_string()),
        arn: Some(if id.starts_with("arn:") { id } else { arn(host, entry, &rest) }),
        kind: kind.map(|kind| format!("Otlp::{}", pascal(&kind))),
        ..Resource::default()
    })
}

/// The service as the program that acted.
fn program(entry: &Entry) -> Option<String> {
    let name = text(entry.resource.get("service.name"))?;
    Some(match text(entry.resource.get("service.version")) {
        Some(version) => format!("{name}/{version}"),
        None => name,
    })
}

/// The trace in which it happened, under the names that OpenTelemetry gives them in JSON.
fn trace(entry: &Entry, data: &mut Map<String, Value>) {
    let is_id = |id: &str, digits: usize| {
        id.len() == digits && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0')
    };
    if is_id(&entry.trace_id, 32) {
        data.insert("trace_id".to_owned(), entry.trace_id.clone().into());
        data.insert("trace_flags".to_owned(), format!("{:02x}", entry.flags & 0xff).into());
    }
    if is_id(&entry.span_id, 16) {
        data.insert("span_id".to_owned(), entry.span_id.clone().into());
    }
}

/// What has no place of its own in a record.
fn context(entry: &Entry) -> Value {
    let mut context = Map::new();
    if !entry.resource.is_empty() {
        context.insert("resource".to_owned(), bounded(Value::Object(entry.resource.clone())));
    }
    let mut scope = Map::new();
    for (name, text) in [("name", &entry.scope_name), ("version", &entry.scope_version)] {
        if !text.is_empty() {
            scope.insert(name.to_owned(), text.clone().into());
        }
    }
    if !entry.scope_attributes.is_empty() {
        scope.insert("attributes".to_owned(), Value::Object(entry.scope_attributes.clone()));
    }
    if !scope.is_empty() {
        context.insert("scope".to_owned(), bounded(Value::Object(scope)));
    }
    for (name, text) in [("eventName", &entry.event_name), ("severityText", &entry.severity_text)] {
        if !text.is_empty() {
            context.insert(name.to_owned(), bounded(text.clone().into()));
        }
    }
    let numbers =
        [("severityNumber", entry.severity_number.unsigned_abs()), ("droppedAttributesCount", entry.dropped_attributes)];
    for (name, number) in numbers {
        if number != 0 {
            context.insert(name.to_owned(), number.into());
        }
    }
    for (name, time) in [("timeUnixNano", entry.time), ("observedTimeUnixNano", entry.observed_time)] {
        if time != 0 {
            // As text: 64 bits are more than a reader of JSON may hold.
            context.insert(name.to_owned(), time.to_string().into());
        }
    }
    Value::Object(context)
}

/// The value, or its size and hash where it is too large.
fn bounded(value: Value) -> Value {
    let text = value.to_string();
    if text.len() <= CONTEXT_BYTES_MAX {
        return value;
    }
    json!({"omitted": true, "edgetrailBytes": text.len(), "edgetrailSha256": hex::encode(Sha256::digest(&text))})
}

#[cfg(test)]
mod tests;
