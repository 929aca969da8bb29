//! A request of an access log as a record: method and route are the eventName, the answer's status is the result.
//!
//! A query's values stand under their names, so that redaction knows the secret ones. An error log's line is the server's
//! report of a request, not the request: its name is `ReportError`.

use edgetrail_proto::record::{EventCategory, EventType, Record, Resource};
use serde_json::{Map, Value};

use super::{Place, category, event_type, identity, message, object, set_category, source_name};
use crate::normalize::http::{query_of, status_name};
use crate::sources::lines::access::Request;
use crate::sources::lines::access::route::Route;
use crate::sources::lines::address::{host, is_private, is_within};
use crate::sources::lines::envelope::Peeled;
use crate::sources::lines::mapping::Mapping;
use crate::sources::lines::shape::AccessShape;
use crate::sources::lines::template::pascal;

pub(in crate::normalize) fn record(place: &Place<'_>, mapping: &Mapping, peeled: &Peeled<'_>, mut request: Request) -> Record {
    let access = &mapping.access;
    for (name, value) in access.captured_headers.iter().flatten().zip(std::mem::take(&mut request.captured)) {
        request.headers.extend(value.map(|value| (name.to_lowercase(), Value::from(value))));
    }
    let mut record = place.blank(request.time.or(peeled.time));
    let server = request.server.or(access.server.as_deref()).unwrap_or("gateway");
    let service = access.service.as_deref().and_then(source_name).unwrap_or_else(|| format!("{server}.http"));
    let path = request.target.as_deref().map(path_of);
    let matched = request.method.as_deref().zip(path).and_then(|(method, path)| matching(&mapping.routes, method, path));
    let route = matched.as_ref().map(|(route, _)| *route);
    if request.is_message {
        let parameters = Value::Object(request.extra);
        return message(place, &service, request.time.or(peeled.time), parameters);
    }
    record.user_identity = identity::of_request(&request, access.identity.as_deref(), &service);
    record.event_source = service;
    record.event_name = event_name(&request, route);
    if let Some(address) = address(&request, access) {
        record.source_ip_address = address;
    }
    record.user_agent.clone_from(&request.agent);
    record.error_code = error_code(&request);
    record.error_message.clone_from(&request.error);
    record.request_id.clone_from(&request.request_id);
    let reads = matches!(request.method.as_deref(), Some("GET" | "HEAD" | "OPTIONS" | "TRACE")) || request.method.is_none();
    record.read_only = Some(route.and_then(|route| route.read_only).unwrap_or(reads));
    if let Some(kind) = route.and_then(|route| route.kind.as_deref()).and_then(event_type) {
        record.event_type = kind;
    }
    let configured = route.and_then(|route| route.category.as_deref()).or(access.category.as_deref());
    let category = configured.and_then(category).unwrap_or(EventCategory::Management);
    // What a server says of itself is no one's act.
    let is_own_report = request.is_report && request.address.is_none();
    set_category(&mut record, if is_own_report { EventCategory::Data } else { category });
    if request.is_report && !request.is_refused_login() {
        record.event_type = EventType::AwsServiceEvent;
        if record.user_identity.kind.as_deref() == Some("Unknown") && request.address.is_none() {
            record.user_identity = identity::service(place.host, &record.event_source);
        }
    }
    if let (Some(host), Some(path)) = (&request.host, path) {
        let arn = place.arn("http", &format!("{host}{path}"));
        let account_id = Some(place.host.account.to_string());
        let resource = Resource { account_id, kind: Some("Http::Resource".to_owned()), arn: Some(arn), ..Resource::default() };
        record.resources = Some(vec![resource]);
    }
    record.response_elements = response(&request);
    record.request_parameters = Some(parameters(request, matched, peeled));
    record
}

/// The first route that fits, with its parameters.
fn matching<'a>(routes: &'a [Route], method: &str, path: &str) -> Option<(&'a Route, Map<String, Value>)> {
    routes.iter().find_map(|route| Some((route, route.matches(method, path)?)))
}

/// Without a route a path is no name: whoever sends requests could make up any.
fn event_name(request: &Request, route: Option<&Route>) -> String {
    let method = request.method.as_deref();
    if request.is_refused_login() {
        return "Authenticate".to_owned();
    }
    if request.is_report {
        return "ReportError".to_owned();
    }
    match (method, route) {
        (Some(method), Some(route)) => route.event_name(method),
        (Some(method), None) => format!("{}Resource", pascal(&method.to_lowercase())),
        (None, _) if request.malformed.is_some() => "SendMalformedRequest".to_owned(),
        (None, _) => "OpenConnection".to_owned(),
    }
}

fn error_code(request: &Request) -> Option<String> {
    if request.is_refused_login() {
        return Some("AccessDenied".to_owned());
    }
    if let Some(status) = request.status.filter(|status| *status >= 400) {
        return Some(status_name(status));
    }
    let error = request.error.as_deref()?;
    if !request.is_report {
        return request.status.is_none().then(|| "NoResponse".to_owned());
    }
    let level = request.extra.get("level").and_then(Value::as_str).unwrap_or("error");
    let name = match error {
        text if text.starts_with("limiting requests") || text.starts_with("limiting connections") => "TooManyRequests".to_owned(),
        text if text.starts_with("access forbidden") || text.contains("client denied by server") => "AccessDenied".to_owned(),
        text if text.contains("(2: No such file") => "NotFound".to_owned(),
        text if text.contains("(13: Permission denied)") => "AccessDenied".to_owned(),
        _ => pascal(level.rsplit(':').next().unwrap_or(level)),
    };
    // What is no error is only told.
    (!matches!(name.as_str(), "Notice" | "Info" | "Debug")).then_some(name)
}

/// The caller's address; a header's where every request comes through trusted proxies. Each proxy adds whom it saw at the
/// end, so what stands before the last address that is no proxy's is only what the client wrote.
fn address(request: &Request, access: &AccessShape) -> Option<String> {
    let noted = access.address_header.as_deref().and_then(|name| match name.to_lowercase().as_str() {
        "x-forwarded-for" if request.forwarded.is_some() => request.forwarded.clone(),
        name => request.headers.get(name).and_then(Value::as_str).map(str::to_owned),
    });
    let is_proxy = |address: &&str| match &access.trusted_proxies {
        Some(ranges) => ranges.iter().any(|range| is_within(range, address)),
        None => is_private(address),
    };
    let noted = noted.and_then(|list| {
        let list: Vec<&str> = list.split(',').map(|one| host(one.trim())).filter(|one| !one.is_empty()).collect();
        list.iter().rev().find(|one| !is_proxy(one)).or(list.last()).map(|one| (*one).to_owned())
    });
    noted.or_else(|| request.address.clone())
}

fn response(request: &Request) -> Option<Value> {
    let members = object([
        ("status", request.status.map(Value::from)),
        ("bytes", request.bytes.map(Value::from)),
        ("durationMs", request.duration_ms.filter(|ms| ms.is_finite()).map(Value::from)),
    ]);
    (!members.is_empty()).then_some(Value::Object(members))
}

fn parameters(request: Request, matched: Option<(&Route, Map<String, Value>)>, peeled: &Peeled<'_>) -> Value {
    let query = request.target.as_deref().and_then(|target| target.split_once('?')).map(|(_, query)| query_of(query));
    let path = request.target.as_deref().map(|target| Value::from(path_of(target)));
    let text = |value: Option<String>| value.map(Value::from);
    let (template, values) = matched.map(|(route, values)| (route.path.clone(), values)).unzip();
    let mut headers = request.headers;
    // They have members of their own.
    for name in ["user-agent", "referer", "host", "x-forwarded-for", "x-request-id"] {
        headers.remove(name);
    }
    let mut members = object([
        ("method", text(request.method)),
        ("path", path),
        ("query", query),
        ("route", text(template)),
        ("pathParameters", values.filter(|values| !values.is_empty()).map(Value::Object)),
        ("request", text(request.malformed)),
        ("protocol", text(request.protocol)),
        ("host", text(request.host)),
        ("referer", text(request.referer)),
        ("clientPort", request.port.map(Value::from)),
        ("forwardedFor", text(request.forwarded)),
        ("gatewayRoute", text(request.route)),
        ("upstream", text(request.upstream)),
        ("certificate", text(request.certificate)),
        ("headers", (!headers.is_empty()).then_some(Value::Object(headers))),
        ("loggedBy", peeled.host.clone().map(Value::from)),
    ]);
    if !request.extra.is_empty() {
        members.insert("extra".to_owned(), Value::Object(request.extra));
    }
    Value::Object(members)
}

/// The path of a target: without query, and of an absolute one without scheme and host.
fn path_of(target: &str) -> &str {
    let plain = target.split(['?', '#']).next().unwrap_or(target);
    match plain.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_stands_before_the_query_and_behind_the_host() {
        assert_eq!(path_of("http://example.org/a?b"), "/a");
        assert_eq!((path_of("/a#b"), path_of("*"), path_of("https://h")), ("/a", "*", "/"));
    }
}
