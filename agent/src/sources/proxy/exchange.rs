//! A request and what became of it, before it is a record.
//!
//! Holds copies of what a record tells, and its place in the queue: as long as an exchange is somewhere in the agent,
//! its place is taken.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName};
use http::request::Parts;

use super::config::AnswerAfter;
use super::jwt::Bearer;
use super::queue::Room;
use super::recorded_after;
use super::service::Service;
use crate::sources::api::{self, Trace};
use crate::sources::listener::Certificate;

/// One request.
#[derive(Debug)]
pub struct Exchange {
    pub service: Arc<Service>,
    /// Names it within the source.
    pub position: String,
    /// When its head had come, Unix nanoseconds.
    pub time: u64,
    /// From then to the answer's head.
    pub duration_us: u64,
    pub asked: Asked,
    pub caller: Caller,
    /// What its bearer token says, once it was looked into.
    pub bearer: Option<Bearer>,
    /// Of its body, as much as was passed on until the end was known.
    pub body: Option<Copied>,
    pub end: End,
    pub answer_after: AnswerAfter,
    pub(crate) _room: Option<Room>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub protocol: &'static str,
    pub host: Option<String>,
    pub user_agent: Option<String>,
    pub referer: Option<String>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub forwarded: Option<String>,
    pub request_id: Option<String>,
    pub authorization: Option<String>,
    pub trace: Option<Trace>,
    /// Those that the section names, and those that say who it is; names in lower case.
    pub headers: Vec<(String, String)>,
}

/// Who asked, as far as the connection says.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The client's address: the connection's, or the one that trusted proxies noted.
    pub address: IpAddr,
    /// The connection's own.
    pub peer: IpAddr,
    pub port: u16,
    /// Whether the connection comes from a trusted proxy.
    pub is_trusted: bool,
    pub tls: Option<Arc<Secured>>,
}

/// A TLS connection.
#[derive(Clone, Debug)]
pub struct Secured {
    pub version: &'static str,
    pub cipher: &'static str,
    pub certificate: Option<Certificate>,
}

/// The beginning of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub bytes: Vec<u8>,
    /// How many bytes passed.
    pub passed: u64,
    /// Whether all of it passed.
    pub is_whole: bool,
    /// What Content-Length says.
    pub declared: Option<u64>,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The service answered.
    Answered(Answered),
    /// The service gave no answer; the client had this one.
    Failed { status: u16, reason: String },
    /// The proxy did not pass it on.
    Refused { status: u16, reason: String },
    /// The client went away first.
    Abandoned,
}

#[derive(Clone, Debug, Default)]
pub struct Answered {
    pub status: u16,
    pub content_type: Option<String>,
    /// Of Content-Length.
    pub bytes: Option<u64>,
    pub request_id: Option<String>,
    /// `grpc-status` and `grpc-message`, of the head or the trailers.
    pub grpc: Option<(u32, Option<String>)>,
    pub body: Option<Copied>,
    /// The connection became a tunnel of this protocol.
    pub tunnel: Option<String>,
}

/// Headers that name a request, in order of preference. Source: what gateways and CloudTrail's services send.
const REQUEST_IDS: [&str; 4] = ["x-request-id", "x-amzn-requestid", "x-correlation-id", "request-id"];

impl Exchange {
    /// What its record waits for before the pipeline says that it is there.
    pub fn recorded_after(&self) -> api::AnswerAfter {
        recorded_after(self.answer_after)
    }
}

impl Asked {
    /// Copies what a record tells of a head.
    pub(super) fn of(parts: &Parts, service: &Service) -> Self {
        let headers = &parts.headers;
        let uri = &parts.uri;
        let told = service.headers.iter().filter_map(|name| Some((name.as_str().to_owned(), joined(headers, name)?)));
        let authority = uri.authority().map(|authority| authority.as_str().to_owned());
        Self {
            method: parts.method.as_str().to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().filter(|_| service.takes.query).map(str::to_owned),
            protocol: protocol(parts.version),
            host: authority.or_else(|| text(headers, &header::HOST)),
            user_agent: text(headers, &header::USER_AGENT),
            referer: text(headers, &header::REFERER),
            content_type: text(headers, &header::CONTENT_TYPE),
            content_encoding: text(headers, &header::CONTENT_ENCODING),
            forwarded: joined(headers, &HeaderName::from_static("x-forwarded-for")),
            request_id: request_id(headers),
            authorization: text(headers, &header::AUTHORIZATION).filter(|_| service.reads_authorization()),
            trace: Trace::of(headers),
            headers: told.collect(),
        }
    }
}

/// The first of the headers that name a request.
pub(super) fn request_id(headers: &HeaderMap) -> Option<String> {
    REQUEST_IDS.iter().find_map(|name| text(headers, &HeaderName::from_static(name)))
}

pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).filter(|text| !text.is_empty())
}

/// All values of a header as one list.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

const fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
