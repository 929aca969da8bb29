//! A proxy's requests as records: docs/sources/proxy.md has the table.
//!
//! Named by the section's routes, then by the OpenAPI document, then by gRPC's method; a path that none of these knows is
//! no name, for whoever sends requests could make up any. Whom nothing proves is `Unknown`, or named with a note that
//! says so.

mod body;

mod caller;

#[cfg(test)]
mod tests;

use edgetrail_proto::record::{EventCategory, Record, Resource};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::http::{query_of, reads, status_name};
use super::{Host, report};
use crate::observation::SourceName;
use crate::sources::lines::template::pascal;
use crate::sources::proxy::Exchange;
use crate::sources::proxy::exchange::{Answered, Asked, End};

/// Longest path within an ARN, characters.
const ARN_PATH_CHARS_MAX: usize = 1024;

/// Longest eventName, characters.
const NAME_CHARS_MAX: usize = 128;

/// gRPC's codes. Source: google.rpc.Code; 7 and 16 are refusals.
const GRPC_ERRORS: [&str; 17] = [
    "Ok",
    "Cancelled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "AccessDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "AccessDenied",
];

/// What a request is called.
struct Named {
    event: String,
    /// The template that it fits.
    route: Option<String>,
    operation_id: Option<String>,
    parameters: Map<String, Value>,
    is_data: bool,
    reads: bool,
}

pub(super) fn record(host: &Host, event_id: Uuid, exchange: &Exchange) -> Record {
    let Exchange { service, asked, end, .. } = exchange;
    let named = named(exchange);
    let mut record = report::blank(host, Some(SourceName::Proxy), event_id, exchange.time);
    let (identity, note) = caller::identity(exchange);
    record.user_identity = identity;
    record.event_source.clone_from(&service.name);
    record.event_name.clone_from(&named.event);
    record.source_ip_address = exchange.caller.address.to_string();
    record.user_agent.clone_from(&asked.user_agent);
    (record.error_code, record.error_message) = error(end);
    record.request_id = match end {
        End::Answered(answered) => answered.request_id.clone().or_else(|| asked.request_id.clone()),
        _ => asked.request_id.clone(),
    };
    record.read_only = Some(named.reads);
    record.management_event = Some(!named.is_data);
    record.event_category = if named.is_data { EventCategory::Data } else { EventCategory::Management };
    record.resources = resource(host, exchange).map(|resource| vec![resource]);
    record.response_elements = Some(Value::Object(response(exchange)));
    record.request_parameters = Some(Value::Object(parameters(exchange, named)));
    if let Some(tls) = &exchange.caller.tls {
        let details = [
            ("tlsVersion", Some(Value::from(tls.version))),
            ("cipherSuite", Some(Value::from(tls.cipher))),
            ("clientProvidedHostHeader", asked.host.clone().map(Value::from)),
        ];
        record.tls_details = Some(Value::Object(object(details)));
    }
    if let Some(data) = &mut record.additional_event_data {
        trace(asked, data);
        if let Some(Value::Object(mark)) = data.get_mut("edgetrail") {
            mark.insert("caller".to_owned(), Value::Object(note));
        }
    }
    record
}

fn named(exchange: &Exchange) -> Named {
    let Exchange { service, asked, .. } = exchange;
    let (method, path) = (asked.method.as_str(), asked.path.as_str());
    let plain = Named {
        event: String::new(),
        route: None,
        operation_id: None,
        parameters: Map::new(),
        is_data: service.is_data,
        reads: reads(method),
    };
    let routes = service.routes.iter();
    if let Some((route, parameters)) = routes.filter_map(|route| Some((route, route.matches(method, path)?))).next() {
        return Named {
            event: route.event_name(method),
            route: Some(route.path.clone()),
            parameters,
            is_data: route.category.as_deref().map_or(plain.is_data, |category| category == "Data"),
            reads: route.read_only.unwrap_or(plain.reads),
            ..plain
        };
    }
    if let Some(found) = service.operations.find(method, path) {
        let parameters = found.parameters.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        let operation = found.operation;
        return Named {
            event: operation.name.clone(),
            route: Some(operation.path.clone()),
            operation_id: operation.id.clone(),
            parameters,
            ..plain
        };
    }
    let is_grpc = asked.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/grpc"));
    let call = path.strip_prefix('/').and_then(|path| path.split_once('/')).filter(|(_, call)| is_grpc && !call.contains('/'));
    let event = call.map(|(_, call)| pascal(call)).filter(|name| !name.is_empty());
    let event = event.unwrap_or_else(|| format!("{}Resource", pascal(&method.to_lowercase())));
    Named { event: event.chars().take(NAME_CHARS_MAX).collect(), ..plain }
}

fn error(end: &End) -> (Option<String>, Option<String>) {
    match end {
        End::Answered(Answered { status, .. }) if *status >= 400 => (Some(status_name(*status)), None),
        End::Answered(Answered { grpc: Some((code, message)), .. }) if *code != 0 => {
            let name = usize::try_from(*code).ok().and_then(|code| GRPC_ERRORS.get(code));
            (Some(name.map_or_else(|| format!("Grpc{code}"), |name| (*name).to_owned())), message.clone())
        }
        End::Answered(_) => (None, None),
        End::Failed { status, reason } | End::Refused { status, reason } => (Some(status_name(*status)), Some(reason.clone())),
        End::Abandoned => (Some(status_name(499)), Some("the client went away before the answer".to_owned())),
    }
}

fn response(exchange: &Exchange) -> Map<String, Value> {
    #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds for people to read")]
    let duration = Value::from(exchange.duration_us as f64 / 1000.0);
    let mut members = match &exchange.end {
        End::Answered(answered) => object([
            ("status", Some(answered.status.into())),
            ("bytes", answered.bytes.map(Value::from)),
            ("contentType", answered.content_type.clone().map(Value::from)),
            ("grpcStatus", answered.grpc.as_ref().map(|(code, _)| Value::from(*code))),
            ("tunnel", answered.tunnel.clone().map(Value::from)),
        ]),
        End::Failed { status, .. } | End::Refused { status, .. } => {
            object([("status", Some((*status).into())), ("answeredBy", Some("proxy".into()))])
        }
        End::Abandoned => Map::new(),
    };
    if let End::Answered(Answered { body: Some(copied), content_type, .. }) = &exchange.end {
        body::tell(&mut members, copied, content_type.as_deref(), true);
    }
    members.insert("durationMs".to_owned(), duration);
    members
}

fn parameters(exchange: &Exchange, named: Named) -> Map<String, Value> {
    let Exchange { service, asked, caller, .. } = exchange;
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let recorded = |name: &String| service.recorded.iter().any(|recorded| recorded.as_str() == name);
    let headers = asked.headers.iter().filter(|(name, _)| recorded(name));
    let headers: Map<String, Value> = headers.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let takes_path = service.takes.path;
    let values = Some(named.parameters).filter(|values| takes_path && !values.is_empty());
    let mut members = object([
        ("method", Some(asked.method.clone().into())),
        ("path", takes_path.then(|| asked.path.clone().into())),
        ("query", asked.query.as_deref().map(query_of)),
        ("route", text(&named.route)),
        ("operationId", text(&named.operation_id)),
        ("pathParameters", values.map(Value::Object)),
        ("protocol", Some(asked.protocol.into())),
        ("host", text(&asked.host)),
        ("referer", text(&asked.referer)),
        ("clientPort", Some(caller.port.into())),
        ("forwardedFor", text(&asked.forwarded)),
        ("upstream", Some(service.upstream.clone().into())),
        ("contentType", text(&asked.content_type)),
        ("contentEncoding", text(&asked.content_encoding)),
        ("headers", (!headers.is_empty()).then_some(Value::Object(headers))),
    ]);
    if let Some(copied) = &exchange.body {
        let is_encoded = asked.content_encoding.is_some();
        body::tell(&mut members, copied, asked.content_type.as_deref().filter(|_| !is_encoded), service.takes.body > 0);
    }
    members
}

fn resource(host: &Host, exchange: &Exchange) -> Option<Resource> {
    let Exchange { service, asked, .. } = exchange;
    let name = asked.host.as_deref().filter(|_| service.takes.path)?;
    let path: String = asked.path.chars().take(ARN_PATH_CHARS_MAX).collect();
    let Host { partition, region, account, .. } = host;
    Some(Resource {
        account_id: Some(account.to_string()),
        kind: Some("Http::Resource".to_owned()),
        arn: Some(format!("arn:{partition}:http:{region}:{account}:{name}{path}")),
        ..Resource::default()
    })
}

/// The trace in which it was asked, under the names that OpenTelemetry gives them in JSON.
fn trace(asked: &Asked, data: &mut Map<String, Value>) {
    let Some(trace) = &asked.trace else { return };
    let members = json!({"trace_id": trace.trace_id, "span_id": trace.span_id, "trace_flags": trace.flags});
    if let Value::Object(members) = members {
        data.extend(members);
    }
    if let Some(state) = &trace.state {
        data.insert("trace_state".to_owned(), state.clone().into());
    }
}

/// Members that are there.
fn object<const N: usize>(members: [(&'static str, Option<Value>); N]) -> Map<String, Value> {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
