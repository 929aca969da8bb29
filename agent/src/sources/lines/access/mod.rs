//! Access logs of web servers and API gateways: a line is one request, whatever server wrote it.
//!
//! Text in the forms that nginx, Apache, Traefik, HAProxy, Envoy and Caddy document, or JSON under the names they use.
//! The form is known by itself; which server wrote it shows in some forms and is said by the mapping in the others.

pub mod route;

mod combined;

mod envoy;

mod error_log;

mod haproxy;

mod json;

mod words;

use serde_json::{Map, Value};

pub use self::json::of_members;
use super::address;

/// One request as a log tells it. Texts are unescaped; what a log leaves out or writes as `-` is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The server, where the form shows it: `traefik`, `haproxy` …
    pub server: Option<&'static str>,
    /// When it was answered or came, Unix nanoseconds.
    pub time: Option<u64>,
    /// The client's address, without port.
    pub address: Option<String>,
    pub port: Option<u16>,
    /// Addresses of X-Forwarded-For.
    pub forwarded: Option<String>,
    /// Who authenticated to the server itself.
    pub user: Option<String>,
    pub method: Option<String>,
    /// Path and query as they came.
    pub target: Option<String>,
    pub protocol: Option<String>,
    /// The request line where it is none of HTTP.
    pub malformed: Option<String>,
    pub status: Option<u16>,
    pub bytes: Option<u64>,
    pub referer: Option<String>,
    pub agent: Option<String>,
    /// The host that was asked for.
    pub host: Option<String>,
    pub duration_ms: Option<f64>,
    pub request_id: Option<String>,
    /// What the gateway calls the route, router, frontend or upstream that it took.
    pub route: Option<String>,
    pub upstream: Option<String>,
    /// Subject of the client's certificate.
    pub certificate: Option<String>,
    /// Logged request headers and a token's claims, names in lower case.
    pub headers: Map<String, Value>,
    pub claims: Option<Map<String, Value>>,
    /// What the server says went wrong.
    pub error: Option<String>,
    /// Of an error log, not an access log: the request may have a line there too.
    pub is_report: bool,
    /// The server's own, of no request: `extra` holds it.
    pub is_message: bool,
    /// Request headers that HAProxy captured, in their order.
    pub captured: Vec<Option<String>>,
    /// Whatever else stood in the line.
    pub extra: Map<String, Value>,
}

/// Reads a line, already peeled. `None` where it is in no known form.
pub fn parse(line: &str, now: u64) -> Option<Request> {
    let line = line.trim();
    if line.starts_with('{') {
        return json::parse(line, now);
    }
    error_log::parse(line, now)
        .or_else(|| envoy::parse(line, now))
        .or_else(|| haproxy::parse(line, now))
        .or_else(|| combined::parse(line, now))
}

impl Request {
    /// Takes a request line: method, target and protocol, or all of it as malformed.
    fn take_request_line(&mut self, line: &str) {
        let line = line.trim_end();
        // Of a connection without a request: nothing, or a dash for each part.
        if line.split(' ').all(|part| matches!(part, "" | "-")) {
            return;
        }
        let is_known = |method: &str| is_method(method) || is_method_in_lower_case(method);
        let Some((method, rest)) = line.split_once(' ').filter(|(method, _)| is_known(method)) else {
            self.malformed = Some(line.to_owned());
            return;
        };
        let (target, protocol) = match rest.rsplit_once(' ') {
            Some((target, protocol)) if is_protocol(protocol) => (target, Some(protocol)),
            _ => (rest, None),
        };
        if target.is_empty() {
            self.malformed = Some(line.to_owned());
            return;
        }
        self.method = Some(method.to_uppercase());
        self.target = Some(target.to_owned());
        self.protocol = protocol.map(str::to_owned);
    }

    /// Takes a client's address with or without its port.
    fn take_address(&mut self, text: &str) {
        let text = text.trim().trim_end_matches(',');
        if matches!(text, "" | "-") {
            return;
        }
        let host = address::host(text);
        let behind = text.rsplit_once(host).map(|(_, behind)| behind.trim_start_matches(']')).unwrap_or_default();
        self.port = behind.strip_prefix(':').and_then(|port| port.parse().ok()).or(self.port);
        self.address = Some(host.to_owned());
    }

    /// Takes a client's address behind which its port always stands.
    fn take_client(&mut self, text: &str) {
        self.port = text.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        self.address = Some(address::host_before_port(text).to_owned());
    }

    /// Takes a list of addresses that proxies noted.
    fn take_forwarded(&mut self, text: &str) {
        self.forwarded = said(text);
    }
}

/// Whether a word is a method: HTTP's token in capitals. Source: RFC 9110 §9, WebDAV.
fn is_method(word: &str) -> bool {
    (3..=20).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// A method's usual names in another case, which servers take or refuse, but as this method.
fn is_method_in_lower_case(word: &str) -> bool {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]
        .iter()
        .any(|it| word.eq_ignore_ascii_case(it))
}

fn is_protocol(word: &str) -> bool {
    word.len() <= 16 && ["HTTP/", "HTTPS/", "RTSP/", "SIP/", "http/", "h2", "h3"].iter().any(|known| word.starts_with(known))
}

/// A text that says something.
fn said(text: &str) -> Option<String> {
    let text = text.trim();
    (!matches!(text, "" | "-")).then(|| text.to_owned())
}

/// Whether a word may be an address.
fn is_address(word: &str) -> bool {
    let word = word.trim_end_matches(',');
    word.parse::<std::net::IpAddr>().is_ok()
        || word.parse::<std::net::SocketAddr>().is_ok()
        || word.trim_start_matches('[').trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok()
        || word.starts_with("unix:")
}

#[cfg(test)]
mod tests;
