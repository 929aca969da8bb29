//! The Kubernetes API server's audit events, posted by its webhook backend.
//!
//! The API server has its 200 after the commit of every event of a batch and not before; it sends the same batch again
//! otherwise. What is posted and is no audit event is kept as it is. A followed audit log holds the same events and is
//! read by the `file` source.

mod event;

mod list;

use std::net::SocketAddr;
use std::path::PathBuf;

use bytes::Bytes;
use edgetrail_settings::Size;
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use self::event::{Audit, ObjectRef, Request, Stage, Status, User, position, request, time_of};
pub use self::list::{ListError, events};
use super::SourceError;
use super::api::AnswerAfter;
use super::listener::{Answer, Caller, Listener, Reader, Reply, Settings, Verdict, commit, plain};
use crate::clock::unix_ns;
use crate::observation::{Intake, Observation, Payload, SourceName};

/// The section `[sources.kubernetes]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the webhook is taken; off while empty.
    pub listen: Vec<SocketAddr>,
    /// PEM: the certificate chain and key of the webhook's HTTPS.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: who signed the API server's client certificate.
    pub client_ca: Option<PathBuf>,
    /// Bearer tokens that admit, one a line.
    pub token_file: Option<PathBuf>,
    /// The cluster's name in ARNs; the host's unless given.
    pub cluster: Option<String>,
    /// When the API server is answered.
    pub answer_after: AnswerAfter,
    /// Largest body, as it is after decompression.
    pub body_max: Size,
    pub connections_max: usize,
}

/// One audit event as it was posted or logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its JSON text.
    pub bytes: Bytes,
}

/// The source, listening.
#[derive(Debug)]
pub struct KubernetesSource {
    listener: Listener,
}

/// Largest body unless configured. Source: the API server sends batches of at most 10 MiB (`--audit-webhook-truncate-max-batch-size`).
const BODY_BYTES_MAX_DEFAULT: u64 = 16 * 1024 * 1024;

/// Connections served at once unless configured: an API server opens one.
const CONNECTIONS_MAX_DEFAULT: usize = 16;

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            token_file: None,
            cluster: None,
            answer_after: AnswerAfter::Commit,
            body_max: Size(BODY_BYTES_MAX_DEFAULT),
            connections_max: CONNECTIONS_MAX_DEFAULT,
        }
    }
}

impl Config {
    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        if self.cluster.as_deref().is_some_and(|name| name.is_empty() || name.contains(['/', ':', '*', '\n'])) {
            return Some("`cluster` is part of ARNs: give a name without `/`, `:`, `*` and line feeds".to_owned());
        }
        self.settings().trouble()
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

impl KubernetesSource {
    /// Listens as configured.
    pub async fn open(config: &Config) -> Result<Self, SourceError> {
        Ok(Self { listener: Listener::open(SourceName::Kubernetes, &config.settings()).await? })
    }

    /// Serves until told to stop.
    pub async fn run(self, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        self.listener.run(Webhook { intake }, stop).await;
        Ok(())
    }
}

/// Takes any path: the API server posts to the one of its kubeconfig.
struct Webhook {
    intake: Intake,
}

impl Answer for Webhook {
    async fn answer(&self, request: http::Request<Incoming>, caller: Caller, reader: &Reader) -> Reply {
        if request.method() == Method::GET {
            return plain(StatusCode::OK, "the audit webhook: POST an EventList of audit.k8s.io/v1\n");
        }
        if request.method() != Method::POST {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "POST an EventList of audit.k8s.io/v1\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, GET"));
            return refusal;
        }
        let encoding = request.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = match reader.read(request.into_body(), encoding.as_deref()).await {
            Ok(body) => body,
            Err(error) if error.is_retryable() => return again(1),
            Err(error) => {
                tracing::warn!(caller = %caller.address, %error, "refused a body of the audit webhook");
                return plain(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n"));
            }
        };
        let events = match events(&body.bytes) {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(caller = %caller.address, %error, "refused a body of the audit webhook");
                return plain(StatusCode::BAD_REQUEST, format!("{error}\n"));
            }
        };
        let now = unix_ns();
        match commit(&self.intake, events.into_iter().map(|event| observation(event, now))).await {
            Verdict::Done => plain(StatusCode::OK, ""),
            Verdict::Again { retry_after_s } => again(retry_after_s),
        }
    }
}

/// The observation of one posted event; `now` in Unix nanoseconds.
pub fn observation(bytes: Bytes, now: u64) -> Observation {
    Observation {
        source: SourceName::Kubernetes,
        position: position(&bytes),
        time: time_of(&bytes).unwrap_or(now),
        payload: Payload::Kubernetes(Event { bytes }),
        cursor: None,
        answer: None,
    }
}

fn again(retry_after_s: u64) -> Reply {
    let mut reply = plain(StatusCode::SERVICE_UNAVAILABLE, "nothing is lost: send the same batch again\n");
    reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
    reply
}

#[cfg(test)]
mod tests;
