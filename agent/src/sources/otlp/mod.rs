//! Log records of OpenTelemetry, by its own protocol: gRPC and HTTP, protobuf and JSON, gzip and zstd.
//!
//! An exporter is told that a request was taken after the commit of all of it and not before, or that it is to send all
//! of it again. No part of a request is ever given up: the protocol's partial success, after which a client may not
//! retry, is never answered.

mod grpc;

mod json;

mod log;

mod message;

mod reply;

mod request;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use edgetrail_settings::Size;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use self::log::{Entry, Log};
use self::reply::{Refusal, Wire};
pub use self::request::{Encoding, RequestError, observations};
use super::SourceError;
use super::api::AnswerAfter;
use super::lines::Mapping;
use super::lines::shape::AccessShape;
use super::listener::{Answer, Body, Caller, Listener, Reader, Reply, Settings, Verdict, commit};
use crate::clock::unix_ns;
use crate::observation::{Intake, SourceName};

/// The section `[sources.otlp]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where gRPC and HTTP are taken, either on each; off while empty.
    pub listen: Vec<SocketAddr>,
    /// PEM: the certificate chain and key of TLS.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: exporters must show a certificate of one of these.
    pub client_ca: Option<PathBuf>,
    /// Bearer tokens that admit, one a line.
    pub token_file: Option<PathBuf>,
    /// When an exporter is answered.
    pub answer_after: AnswerAfter,
    /// Largest request, as it is after decompression.
    pub body_max: Size,
    pub connections_max: usize,
    /// How requests become records that a gateway's logger sends.
    pub access: AccessShape,
}

/// The source, listening.
#[derive(Debug)]
pub struct OtlpSource {
    listener: Listener,
}

/// Largest request unless configured: 8,192 records, a Collector's batch, of 2 KiB.
const BODY_BYTES_MAX_DEFAULT: u64 = 16 * 1024 * 1024;

/// Connections served at once unless configured: each exporter opens one.
const CONNECTIONS_MAX_DEFAULT: usize = 64;

/// Source: opentelemetry.io, OTLP specification: the default path and the service's method.
const HTTP_PATH: &str = "/v1/logs";
const GRPC_PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            token_file: None,
            answer_after: AnswerAfter::Commit,
            body_max: Size(BODY_BYTES_MAX_DEFAULT),
            connections_max: CONNECTIONS_MAX_DEFAULT,
            access: AccessShape::default(),
        }
    }
}

impl Config {
    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        let access = Mapping::open("access", self.access.clone()).err().map(|error| error.to_string());
        self.settings().trouble().or(access)
    }

    /// Whether its files can be used here.
    pub fn ready(&self) -> Result<(), String> {
        self.settings().ready()
    }

    fn settings(&self) -> Settings {
        Settings {
            listen: self.listen.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            token_file: self.token_file.clone(),
            is_signed: false,
            connections_max: self.connections_max,
            body_bytes_max: self.body_max.0,
        }
    }
}

impl OtlpSource {
    /// Listens as configured.
    pub async fn open(config: &Config) -> Result<Self, SourceError> {
        Ok(Self { listener: Listener::open(SourceName::Otlp, &config.settings()).await? })
    }

    /// Serves until told to stop.
    pub async fn run(self, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        self.listener.run(Door { intake }, stop).await;
        Ok(())
    }
}

struct Door {
    intake: Intake,
}

impl Answer for Door {
    async fn answer(&self, request: Request<Incoming>, caller: Caller, reader: &Reader) -> Reply {
        let Some(wire) = wire(request.headers()) else {
            let mut reply = Wire::Json.refused(&Refusal::Unsupported {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                message: "send application/x-protobuf, application/json or application/grpc".to_owned(),
            });
            reply.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/x-protobuf, application/json"));
            return reply;
        };
        match self.take(request, wire, reader).await {
            Ok(()) => wire.taken(),
            Err(refusal) => {
                if !refusal.is_retryable() {
                    tracing::warn!(caller = %caller.address, reason = refusal.message(), "refused a request of an OpenTelemetry exporter");
                }
                wire.refused(&refusal)
            }
        }
    }
}

impl Door {
    async fn take(&self, request: Request<Incoming>, wire: Wire, reader: &Reader) -> Result<(), Refusal> {
        check_head(&request, wire)?;
        let named = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (http_encoding, grpc_encoding) = (named("content-encoding"), named("grpc-encoding"));
        let body = match wire {
            Wire::Grpc => {
                let framed = reader.read(request.into_body(), None).await?;
                grpc::message(reader, &framed, grpc_encoding.as_deref())?
            }
            Wire::Protobuf | Wire::Json => reader.read(request.into_body(), http_encoding.as_deref()).await?,
        };
        self.commit(&body, wire.encoding()).await
    }

    async fn commit(&self, body: &Body, encoding: Encoding) -> Result<(), Refusal> {
        let observations = observations(&body.bytes, encoding, unix_ns())?;
        match commit(&self.intake, observations.into_iter()).await {
            Verdict::Done => Ok(()),
            Verdict::Again { retry_after_s } => Err(Refusal::Again { retry_after_s }),
        }
    }
}

/// How a request is written, and so how it is answered.
fn wire(headers: &HeaderMap) -> Option<Wire> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-protobuf" | "application/protobuf" => Some(Wire::Protobuf),
        "application/json" => Some(Wire::Json),
        "application/grpc" | "application/grpc+proto" => Some(Wire::Grpc),
        _ => None,
    }
}

fn check_head(request: &Request<Incoming>, wire: Wire) -> Result<(), Refusal> {
    let path = if wire == Wire::Grpc { GRPC_PATH } else { HTTP_PATH };
    if request.uri().path() != path {
        let message = format!("only logs are taken here, at {path}");
        return Err(Refusal::Unsupported { status: StatusCode::NOT_FOUND, message });
    }
    if request.method() != Method::POST {
        return Err(Refusal::Unsupported { status: StatusCode::METHOD_NOT_ALLOWED, message: format!("use POST {path}") });
    }
    Ok(())
}
