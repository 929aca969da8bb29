//! The sections `[[sources.proxy]]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use edgetrail_settings::{Parsed, Size, Span};
use serde::Deserialize;

use super::certificate_files;
use super::upstream::Target;
use super::{jwks, openapi};
use crate::sources::lines::access::route::Route;
use crate::sources::lines::shape::RouteShape;

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// The service: `http://HOST:PORT`, `h2c://HOST:PORT`, `unix:/PATH` or `unix+h2c:/PATH`.
    pub upstream: Option<Parsed<Target>>,
    /// The service's name: eventSource.
    pub service: String,
    /// Its OpenAPI document, JSON or YAML, which names its operations.
    pub openapi: Option<PathBuf>,
    /// Names of requests besides, which go first.
    #[serde(rename = "route")]
    pub routes: Vec<RouteShape>,
    /// Category of requests that no route gives one.
    pub category: Category,
    /// PEM: the certificate chain and key of TLS.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: clients' certificates are of one of these.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show one.
    pub client_certificates: ClientCertificates,
    /// How a caller is known, in order of preference: `certificate`, `certificate:uri`, `jwt:CLAIM`, `header:NAME`, `basic`.
    pub identity: Vec<String>,
    /// A JSON web key set: only tokens that one of its keys signed name anybody.
    pub jwt_keys: Option<PathBuf>,
    pub jwt_issuer: Option<String>,
    pub jwt_audience: Option<String>,
    /// Addresses of proxies before this one, whose X-Forwarded-For and identity headers are believed: `10.0.0.0/8`.
    pub trusted_proxies: Vec<Parsed<Network>>,
    /// What of a request is recorded besides its method and path.
    pub parameters: Vec<Parameter>,
    /// Headers that are recorded.
    pub headers: Vec<String>,
    /// So much of a JSON or form body is recorded.
    pub body_bytes: Size,
    /// So much of a JSON answer is recorded.
    pub response_bytes: Size,
    /// What becomes of requests that can't be recorded.
    pub when_unavailable: WhenUnavailable,
    /// When an answer is passed on.
    pub answer_after: AnswerAfter,
    /// How long an answer is held for its record at most.
    pub hold_max: Span,
    /// Connections served at once.
    pub connections_max: usize,
    /// Records that wait for the buffer, in memory.
    pub queue_max: Size,
    /// How long connecting to the service may take.
    pub connect_timeout: Span,
    /// How long the service may take to answer, from the last piece of the request on.
    pub response_timeout: Span,
}

/// What becomes of requests that can't be recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenUnavailable {
    /// They are passed on, and counted into a gap.
    #[default]
    Open,
    /// They are answered 503 before anything of them reaches the service.
    Closed,
}

/// When an answer is passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerAfter {
    /// At once; its record is on its way.
    #[default]
    Forward,
    /// When its record is durable on this host.
    Commit,
    /// When its record is durable at the collector.
    Receipt,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    #[default]
    Required,
    Optional,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Category {
    #[default]
    Management,
    Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parameter {
    Path,
    Query,
    Body,
}

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give an address or a network, such as `10.0.0.0/8`")]
pub struct NetworkError;

/// Most of a body that can be recorded: with its escapes it stays below requestParameters' limit.
pub const BODY_BYTES_MAX: u64 = 64 * 1024;

const BODY_BYTES_DEFAULT: u64 = 16 * 1024;

/// Some 8,000 small requests, or 800 with a body of the largest size.
const QUEUE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// The largest request's record must find a place in an empty queue.
const QUEUE_BYTES_MIN: u64 = 1024 * 1024;

const CONNECTIONS_MAX_DEFAULT: usize = 512;

const HOLD_MAX_DEFAULT: Duration = Duration::from_secs(10);

const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Source: what nginx and most gateways wait for a service.
const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How a caller is known unless configured otherwise.
const IDENTITY_DEFAULT: [&str; 2] = ["certificate", "jwt:sub"];

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            upstream: None,
            service: String::new(),
            openapi: None,
            routes: Vec::new(),
            category: Category::default(),
            certificate: None,
            key: None,
            client_ca: None,
            client_certificates: ClientCertificates::default(),
            identity: IDENTITY_DEFAULT.map(str::to_owned).into(),
            jwt_keys: None,
            jwt_issuer: None,
            jwt_audience: None,
            trusted_proxies: Vec::new(),
            parameters: vec![Parameter::Path, Parameter::Query, Parameter::Body],
            headers: Vec::new(),
            body_bytes: Size(BODY_BYTES_DEFAULT),
            response_bytes: Size(0),
            when_unavailable: WhenUnavailable::default(),
            answer_after: AnswerAfter::default(),
            hold_max: Span(HOLD_MAX_DEFAULT),
            connections_max: CONNECTIONS_MAX_DEFAULT,
            queue_max: Size(QUEUE_BYTES_DEFAULT),
            connect_timeout: Span(CONNECT_TIMEOUT_DEFAULT),
            response_timeout: Span(RESPONSE_TIMEOUT_DEFAULT),
        }
    }
}

impl Config {
    /// What it is called in logs and in the status: its service, and where it listens.
    pub fn title(&self) -> String {
        let listen: Vec<String> = self.listen.iter().map(SocketAddr::to_string).collect();
        format!("{} on {}", self.service, listen.join(", "))
    }

    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        let said = |text: &str| Some(text.to_owned());
        if self.listen.is_empty() || self.upstream.is_none() || self.service.is_empty() {
            return said("give `listen`, `upstream` and `service` (the eventSource, such as `orders.example`)");
        }
        if !is_event_source(&self.service) {
            return said("`service` is the eventSource: letters, digits, `.`, `-` and `_`, and not ending in `.edgetrail`");
        }
        if self.certificate.is_some() != self.key.is_some() {
            return said("give both `certificate` and `key`, or neither");
        }
        if self.client_ca.is_some() && self.certificate.is_none() {
            return said("`client_ca` needs TLS: give `certificate` and `key`");
        }
        if self.client_ca.is_none() && self.client_certificates == ClientCertificates::Optional {
            return said("`client_certificates` needs `client_ca`");
        }
        if self.jwt_keys.is_none() && (self.jwt_issuer.is_some() || self.jwt_audience.is_some()) {
            return said("`jwt_issuer` and `jwt_audience` need `jwt_keys`: nothing else is checked of a token");
        }
        if self.body_bytes.0 > BODY_BYTES_MAX || self.response_bytes.0 > BODY_BYTES_MAX {
            return Some(format!("`body_bytes` and `response_bytes` are at most {} KiB", BODY_BYTES_MAX / 1024));
        }
        if self.response_bytes.0 > 0 && self.answer_after != AnswerAfter::Forward {
            return said("`response_bytes` needs answer_after = \"forward\": an answer that is held has no body yet");
        }
        if self.queue_max.0 < QUEUE_BYTES_MIN {
            return said("`queue_max` is at least 1MiB");
        }
        let way = self.identity.iter().find(|way| !is_way(way));
        if let Some(way) = way {
            return Some(format!(
                "identity `{way}`: use certificate, certificate:uri|dns|email, jwt:CLAIM, header:NAME or basic"
            ));
        }
        let named = self.headers.iter().map(String::as_str).chain(self.identity_headers());
        if let Some(name) = named.into_iter().find(|name| http::HeaderName::from_str(name).is_err()) {
            return Some(format!("`{name}` is no header's name"));
        }
        self.routes.iter().find_map(|route| Route::new(route).err()).map(|error| error.to_string())
    }

    /// Whether its files can be used here; how many operations the document names.
    pub fn ready(&self) -> Result<Option<usize>, String> {
        certificate_files(self).map_err(|error| error.to_string())?;
        self.jwt_keys.as_deref().map(jwks::read).transpose().map_err(|error| error.to_string())?;
        let routes = self.openapi.as_deref().map(openapi::read).transpose().map_err(|error| error.to_string())?;
        Ok(routes.map(|routes| routes.len()))
    }

    /// Headers that say who it is.
    pub(super) fn identity_headers(&self) -> impl Iterator<Item = &str> {
        self.identity.iter().filter_map(|way| way.strip_prefix("header:"))
    }
}

fn is_event_source(name: &str) -> bool {
    let is_plain =
        name.len() <= 256 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    is_plain && !name.starts_with('.') && !name.ends_with('.') && name.rsplit('.').next() != Some("edgetrail")
}

fn is_way(way: &str) -> bool {
    match way.split_once(':') {
        None => matches!(way, "certificate" | "jwt" | "basic"),
        Some(("certificate", kind)) => matches!(kind, "uri" | "dns" | "email"),
        Some(("jwt" | "header", name)) => !name.is_empty(),
        Some(_) => false,
    }
}

impl Network {
    pub fn holds(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        width == other_width && (own ^ other).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.trim().parse().map_err(|_| NetworkError)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.trim().parse().map_err(|_| NetworkError))?;
        if bits > width { Err(NetworkError) } else { Ok(Self { address, bits }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let holds = |network: &str, address: &str| network.parse::<Network>().unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("0.0.0.0/0", "203.0.113.9") && !holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("2001:db8::/32", "2001:db8:1::1") && holds("127.0.0.1", "::ffff:127.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "host", "10.0.0.0/x", "::/129"] {
            assert_eq!(wrong.parse::<Network>(), Err(NetworkError), "{wrong}");
        }
    }

    #[test]
    fn what_can_t_work_is_said_with_what_to_do() {
        let whole = Config {
            listen: vec!["127.0.0.1:1".parse().unwrap()],
            upstream: Some(Parsed("http://127.0.0.1:2".parse().unwrap())),
            service: "orders.example".to_owned(),
            ..Config::default()
        };
        assert_eq!(whole.trouble(), None);
        let trouble = |change: fn(&mut Config)| {
            let mut config = whole.clone();
            change(&mut config);
            config.trouble().unwrap()
        };
        assert!(trouble(|it| it.upstream = None).contains("upstream"));
        assert!(trouble(|it| it.service = "agent.edgetrail".to_owned()).contains("eventSource"));
        assert!(trouble(|it| it.key = Some("k".into())).contains("both"));
        assert!(trouble(|it| it.client_ca = Some("k".into())).contains("needs TLS"));
        assert!(trouble(|it| it.jwt_issuer = Some("k".into())).contains("jwt_keys"));
        assert!(trouble(|it| it.body_bytes = Size(1 << 20)).contains("64 KiB"));
        assert!(trouble(|it| it.identity = vec!["header:".to_owned()]).contains("header:NAME"));
        assert!(trouble(|it| it.headers = vec!["a b".to_owned()]).contains("no header"));
        assert!(trouble(|it| (it.response_bytes, it.answer_after) = (Size(1), AnswerAfter::Commit)).contains("forward"));
    }
}
