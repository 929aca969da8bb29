//! Access logs as JSON: Traefik's and Caddy's own, and nginx's, Envoy's, Apache's and HAProxy's, whose names the operator
//! chose.
//!
//! Names are compared without case, `-`, `_` and `.`, nested or not, against those that the servers document for their
//! values. What no name takes is kept as it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Request, is_protocol, said};
use crate::sources::lines::{fields, time};

/// Members of an object that are looked at.
const MEMBERS_MAX: usize = 256;

/// Objects within objects that are.
const DEPTH_MAX: usize = 4;

const METHOD: &[&str] = &["method", "requestmethod", "httpmethod", "reqmethod", "verb", "httpverb", "httprequestmethod"];
const TARGET: &[&str] = &[
    "xenvoyoriginalpath",
    "xenvoyoriginpath",
    "originalpath",
    "requesturi",
    "uri",
    "requesturl",
    "requestpath",
    "url",
    "path",
    "urloriginal",
    "urlpath",
    "httptarget",
    "requri",
    "reqpath",
    "httpurl",
    "httpuri",
    "urlfull",
];
const STATUS: &[&str] = &[
    "status",
    "downstreamstatus",
    "responsecode",
    "statuscode",
    "responsestatus",
    "httpstatus",
    "httpstatuscode",
    "httpcode",
    "code",
    "httpresponsestatuscode",
    "responsestatuscode",
    "originstatus",
];
const ADDRESS: &[&str] = &[
    "clientip",
    "requestclientip",
    "remoteaddr",
    "remoteip",
    "requestremoteip",
    "requestremoteaddr",
    "clienthost",
    "clientaddr",
    "clientaddress",
    "downstreamremoteaddress",
    "downstreamdirectremoteaddress",
    "downstreamremoteaddresswithoutport",
    "downstreamdirectremoteaddresswithoutport",
    "remotehost",
    "remoteaddress",
    "sourceip",
    "srcip",
    "peer",
    "client",
    "httpclientip",
    "ip",
    "sourceaddress",
    "realip",
    "networkpeeraddress",
    "netsockpeeraddr",
    "netpeerip",
];
const PORT: &[&str] = &["clientport", "remoteport", "requestremoteport", "sourceport"];
const FORWARDED: &[&str] =
    &["xforwardedfor", "httpxforwardedfor", "forwardedfor", "requestheadersxforwardedfor", "requestxforwardedfor", "forwarded"];
const USER: &[&str] = &["remoteuser", "clientusername", "username", "user", "authuser", "httpuser", "requestuser", "userid"];
const TIME: &[&str] = &[
    "startutc",
    "starttime",
    "timeiso8601",
    "timelocal",
    "time",
    "ts",
    "timestamp",
    "@timestamp",
    "msec",
    "startlocal",
    "date",
    "datetime",
    "requesttimestamp",
    "acceptdate",
    "timeunix",
];
const PROTOCOL: &[&str] =
    &["protocol", "serverprotocol", "requestprotocol", "requestproto", "proto", "httpversion", "httpprotocol"];
const BYTES: &[&str] = &[
    "bodybytessent",
    "bytessent",
    "downstreamcontentsize",
    "size",
    "responsebytes",
    "responsesize",
    "bytes",
    "bytesread",
    "contentlength",
    "byteswritten",
    "bytesout",
    "httpresponsebodybytes",
];
const REFERER: &[&str] =
    &["referer", "referrer", "httpreferer", "httpreferrer", "requestreferer", "requestheadersreferer", "httprequestreferrer"];
const AGENT: &[&str] =
    &["useragent", "httpuseragent", "requestuseragent", "requestheadersuseragent", "agent", "useragentoriginal"];
const HOST: &[&str] = &[
    "authority",
    ":authority",
    "requesthost",
    "requestaddr",
    "host",
    "httphost",
    "servername",
    "vhost",
    "virtualhost",
    "domain",
    "serveraddress",
];
const REQUEST_ID: &[&str] =
    &["requestid", "xrequestid", "reqid", "requestheadersxrequestid", "requestxrequestid", "traceid", "uniqueid", "rid", "id"];
const ROUTE: &[&str] = &["routername", "routename", "route", "frontend", "frontendname", "location", "virtualserver"];
const UPSTREAM: &[&str] = &[
    "upstreamcluster",
    "servicename",
    "serviceurl",
    "serviceaddr",
    "upstreamhost",
    "upstreamaddr",
    "upstream",
    "backend",
    "backendname",
    "proxyupstreamname",
];
const CERTIFICATE: &[&str] = &[
    "downstreampeersubject",
    "sslclientsdn",
    "tlsclientsubject",
    "requesttlsclientsubject",
    "requesttlsclientcommonname",
    "sslcsdn",
    "clientsubject",
    "clientdn",
    "downstreampeerurisan",
    "clientcertsubject",
];
const ERROR: &[&str] =
    &["responseflags", "error", "errormessage", "responsecodedetails", "terminationstate", "upstreamtransportfailurereason"];
const SECONDS: &[&str] = &["requesttime", "durations", "durationseconds", "upstreamresponsetime"];
const MILLISECONDS: &[&str] = &["durationms", "elapsedms", "latencyms", "responsetimems", "timetaken", "ta", "responsetime"];

pub(super) fn parse(line: &str, now: u64) -> Option<Request> {
    let Value::Object(members) = serde_json::from_str(line).ok()? else { return None };
    of_members(&members, now).or_else(|| message(members, now))
}

/// What a server says of itself: a level and a text.
fn message(members: Map<String, Value>, now: u64) -> Option<Request> {
    let says = |names: &[&str]| names.iter().any(|name| fields::said(&members, name).is_some());
    if !says(&["level", "severity", "lvl"]) || !says(&["msg", "message"]) {
        return None;
    }
    let time = ["ts", "time", "timestamp", "@timestamp"].iter().find_map(|name| time::of_value(members.get(*name)?, now));
    Some(Request { server: server(&members), time, is_message: true, extra: members, ..Request::default() })
}

/// `None` for an object that tells of no request.
pub fn of_members(members: &Map<String, Value>, now: u64) -> Option<Request> {
    let mut flat = Flat::default();
    flat.take("", members, 0);
    let mut request = Request { server: server(members), ..Request::default() };
    let line = flat.text(&["request", "requestline", "httprequest"]);
    if let Some(line) = line {
        request.take_request_line(&line);
    }
    if request.method.is_none() {
        request.method =
            flat.text(METHOD).filter(|method| super::is_method(&method.to_uppercase())).map(|method| method.to_uppercase());
    }
    if request.target.is_none() {
        request.target = flat.text(TARGET);
    }
    request.protocol = request
        .protocol
        .take()
        .or_else(|| flat.text(PROTOCOL).filter(|text| is_protocol(text) || text.starts_with(|c: char| c.is_ascii_digit())));
    request.status = flat.text(STATUS).and_then(|status| status.parse().ok()).filter(|status| *status > 0);
    request.malformed = request.malformed.take().filter(|_| request.method.is_none());
    let address = flat.text(ADDRESS);
    let is_connection = address.is_some() && request.server.is_some_and(|server| server != "caddy");
    let is_request =
        request.method.is_some() || request.malformed.is_some() || request.status.is_some() && request.target.is_some();
    if !is_request && !is_connection {
        return None;
    }
    request.time = TIME.iter().find_map(|name| time::of_value(flat.0.get(*name)?, now));
    if let Some(query) = flat
        .text(&["querystring", "args", "query", "requestquery", "urlquery", "httpquery"])
        .filter(|_| request.target.as_deref().is_some_and(|target| !target.contains('?')))
    {
        let query = query.trim_start_matches('?').to_owned();
        request.target = request.target.map(|target| format!("{target}?{query}"));
    }
    if let Some(address) = address {
        request.take_address(&address);
    }
    request.port = flat.text(PORT).and_then(|port| port.parse().ok()).or(request.port);
    request.forwarded = flat.text(FORWARDED);
    if request.address.is_none()
        && let Some(first) = request.forwarded.clone()
    {
        request.take_address(first.rsplit(',').next().unwrap_or_default());
    }
    request.user = flat.text(USER);
    request.bytes = flat.text(BYTES).and_then(|bytes| bytes.parse().ok());
    request.referer = flat.text(REFERER);
    request.agent = flat.text(AGENT);
    request.host = flat.text(HOST);
    request.request_id = flat.text(REQUEST_ID);
    request.route = flat.text(ROUTE);
    request.upstream = flat.text(UPSTREAM);
    request.certificate = flat.text(CERTIFICATE);
    // `--` is HAProxy's for a session that ended in order.
    request.error = flat.text(ERROR).filter(|error| error != "via_upstream" && !error.starts_with("--"));
    let logger = members.get("logger").and_then(Value::as_str).unwrap_or_default();
    if request.server == Some("caddy") && logger.starts_with("http.log.error") {
        request.is_report = true;
        request.error = flat.text(&["msg"]).or(request.error);
    }
    request.duration_ms = duration(&flat, request.server);
    request.claims = members
        .iter()
        .find(|(name, value)| value.is_object() && CLAIMS.contains(&fold(name).as_str()))
        .and_then(|(_, value)| value.as_object().cloned());
    take_headers(&mut request, members);
    Some(request)
}

/// Members that hold a token's claims, as Envoy's dynamic metadata of its JWT filter is logged.
const CLAIMS: &[&str] = &["jwt", "jwtpayload", "claims", "jwtclaims", "token"];

/// Known by names that only its log has.
fn server(members: &Map<String, Value>) -> Option<&'static str> {
    let has = |name: &str| members.contains_key(name);
    if has("DownstreamStatus") || has("RequestMethod") && has("ClientHost") {
        Some("traefik")
    } else if members.get("request").is_some_and(Value::is_object)
        && members.get("logger").is_none_or(|logger| logger.as_str().is_some_and(|logger| logger.starts_with("http.log")))
        && (has("ts") || has("logger"))
    {
        Some("caddy")
    } else if has("response_code") || has("response_flags") || has(":authority") || has("upstream_cluster") {
        Some("envoy")
    } else if has("remote_addr") || has("request_uri") || has("time_local") || has("time_iso8601") || has("body_bytes_sent") {
        Some("nginx")
    } else {
        None
    }
}

/// Traefik counts nanoseconds, Caddy seconds, Envoy milliseconds.
fn duration(flat: &Flat<'_>, server: Option<&'static str>) -> Option<f64> {
    let number = |names: &[&str]| {
        flat.text(names).and_then(|text| text.trim_end_matches("ms").parse::<f64>().ok()).filter(|n| n.is_finite())
    };
    match (server, number(&["duration"])) {
        (Some("traefik"), Some(duration)) => Some(duration / 1e6),
        (Some("caddy"), Some(duration)) => Some(duration * 1e3),
        (_, Some(duration)) => Some(duration),
        (_, None) => number(SECONDS).map(|seconds| seconds * 1e3).or_else(|| number(MILLISECONDS)),
    }
}

/// Caddy's `request.headers`, Traefik's `request_Name`, nginx's `http_name`.
fn take_headers(request: &mut Request, members: &Map<String, Value>) {
    let nested = ["request.headers", "headers", "request_headers", "requestHeaders"];
    let nested = nested.iter().filter_map(|path| fields::find(members, path)).filter_map(Value::as_object).flatten();
    let prefixed = members.iter().filter_map(|(name, value)| {
        // nginx has variables of both beginnings that are no headers.
        let header = name
            .strip_prefix("request_")
            .filter(|header| header.starts_with(|c: char| c.is_ascii_uppercase()))
            .or_else(|| name.strip_prefix("http_").filter(|_| !is_known(name)))
            .or_else(|| name.strip_prefix("x-").map(|_| name.as_str()))?;
        value.is_string().then_some((header, value))
    });
    let all = nested.map(|(name, value)| (name.as_str(), value)).chain(prefixed);
    for (name, value) in all.take(MEMBERS_MAX) {
        if let Some(text) = fields::text(value).and_then(|text| said(&text)) {
            request.headers.insert(name.to_lowercase().replace('_', "-"), Value::from(text));
        }
    }
}

/// Whether a name is that of a request's own part.
fn is_known(name: &str) -> bool {
    let folded = fold(name);
    [METHOD, TARGET, STATUS, PROTOCOL].iter().any(|names| names.contains(&folded.as_str()))
}

/// All members under their folded names, `a.b` as `ab`.
#[derive(Default)]
struct Flat<'a>(BTreeMap<String, &'a Value>);

impl<'a> Flat<'a> {
    fn take(&mut self, before: &str, members: &'a Map<String, Value>, depth: usize) {
        for (name, value) in members {
            if self.0.len() >= MEMBERS_MAX {
                return;
            }
            let name = format!("{before}{}", fold(name));
            match value {
                Value::Object(inner) if depth < DEPTH_MAX => self.take(&name, inner, depth + 1),
                // A name of the object itself goes before one that was put together.
                _ if depth == 0 => drop(self.0.insert(name, value)),
                _ => drop(self.0.entry(name).or_insert(value)),
            }
        }
        if depth == 0
            && let Some(Value::Object(request)) = members.get("request")
        {
            // What stands in `request` is the request's own, under the names that it has elsewhere.
            self.take("", request, 1);
        }
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| said(&fields::text(self.0.get(*name)?)?))
    }
}

fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_' | '.' | ' '))
        .flat_map(char::to_lowercase)
        .collect::<String>()
        .trim_start_matches(':')
        .to_owned()
}
