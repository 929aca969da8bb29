//! Connections to the service: HTTP/1.1, kept alive and used again, or one of HTTP/2; over TCP or a Unix socket.
//!
//! A request is sent a second time only where nothing of it was sent the first: on a kept connection that the service had
//! closed meanwhile.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::door::Tasks;
use super::headers::Wire;
use super::tee::Tee;

/// Where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    place: Place,
    is_h2: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(String),
    Unix(PathBuf),
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give `http://HOST:PORT`, `h2c://HOST:PORT`, `unix:/PATH` or `unix+h2c:/PATH`")]
pub struct TargetError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpstreamError {
    #[error("the service can't be reached: {0}")]
    Connect(std::io::Error),
    #[error("the service can't be reached within {} ms", .0.as_millis())]
    ConnectTimeout(Duration),
    #[error("the service's connection failed: {}", chain(.0))]
    Http(hyper::Error),
}

/// All connections to one service.
#[derive(Debug)]
pub(super) struct Upstream {
    target: Target,
    connect_timeout: Duration,
    tasks: Tasks,
    idle: Mutex<VecDeque<Idle>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Tee>>>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Tee>,
    since: Instant,
}

/// A connection in use. Given back when its answer's body has ended; dropped, it is closed.
#[derive(Debug)]
pub(super) struct Lease {
    upstream: Arc<Upstream>,
    sender: http1::SendRequest<Tee>,
}

/// A kept connection is used again for this long. Source: below Node's keepAliveTimeout of 5 s, the shortest of common servers.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Kept connections.
const IDLE_CONNECTIONS_MAX: usize = 128;

/// A kept connection that is not ready within this is left to itself.
const READY_WAIT: Duration = Duration::from_millis(20);

/// A request of which nothing was sent is sent this often over HTTP/2, each time over the connection that is there.
const ATTEMPTS_MAX: u32 = 3;

/// Largest head of an answer, bytes.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Bytes that the service may send ahead on one stream, and on all of a connection: streams whose clients read slowly must
/// not stop the others.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// The service is asked for a sign of life this often.
const PING_INTERVAL: Duration = Duration::from_secs(20);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (place, is_h2) = if let Some(rest) = text.strip_prefix("http://") {
            (Place::Tcp(address(rest)?), false)
        } else if let Some(rest) = text.strip_prefix("h2c://") {
            (Place::Tcp(address(rest)?), true)
        } else if let Some(path) = text.strip_prefix("unix+h2c:") {
            (Place::Unix(path.into()), true)
        } else {
            (Place::Unix(text.strip_prefix("unix:").ok_or(TargetError)?.into()), false)
        };
        match &place {
            Place::Unix(path) if !path.is_absolute() => Err(TargetError),
            _ => Ok(Self { place, is_h2 }),
        }
    }
}

fn address(text: &str) -> Result<String, TargetError> {
    let address = text.strip_suffix('/').unwrap_or(text);
    let authority: http::uri::Authority = address.parse().map_err(|_| TargetError)?;
    let is_plain = authority.port_u16().is_some() && !authority.host().is_empty() && !address.contains('@');
    is_plain.then(|| address.to_owned()).ok_or(TargetError)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.is_h2) {
            (Place::Tcp(address), false) => write!(f, "http://{address}"),
            (Place::Tcp(address), true) => write!(f, "h2c://{address}"),
            (Place::Unix(path), false) => write!(f, "unix:{}", path.display()),
            (Place::Unix(path), true) => write!(f, "unix+h2c:{}", path.display()),
        }
    }
}

impl Target {
    pub(super) const fn wire(&self) -> Wire {
        if self.is_h2 { Wire::Http2 } else { Wire::Http1 }
    }
}

impl Upstream {
    pub(super) fn new(target: Target, connect_timeout: Duration, tasks: Tasks) -> Self {
        Self { target, connect_timeout, tasks, idle: Mutex::default(), shared: tokio::sync::Mutex::default() }
    }

    pub(super) const fn wire(&self) -> Wire {
        self.target.wire()
    }

    /// Lets go of every connection that is not in use.
    pub(super) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Ok(mut shared) = self.shared.try_lock() {
            *shared = None;
        }
    }

    /// The answer, with the connection that its body comes over.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: Request<Tee>,
    ) -> Result<(Response<Incoming>, Option<Lease>), UpstreamError> {
        match self.wire() {
            Wire::Http1 => self.send_http1(request).await.map(|(response, lease)| (response, Some(lease))),
            Wire::Http2 => self.send_http2(request).await.map(|response| (response, None)),
        }
    }

    async fn send_http1(self: &Arc<Self>, mut request: Request<Tee>) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        loop {
            let (mut sender, is_fresh) = match self.kept().await {
                Some(sender) => (sender, false),
                None => (self.connect_http1().await?, true),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, Lease { upstream: Arc::clone(self), sender })),
                Err(mut failed) => match failed.take_message() {
                    // Nothing of it was sent: kept connections end at last, and a fresh one decides.
                    Some(unsent) if !is_fresh => request = unsent,
                    _ => return Err(UpstreamError::Http(failed.into_error())),
                },
            }
        }
    }

    async fn send_http2(&self, mut request: Request<Tee>) -> Result<Response<Incoming>, UpstreamError> {
        let mut attempts = 0;
        loop {
            let (mut sender, is_fresh) = self.shared_http2().await?;
            attempts += 1;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !is_fresh && attempts < ATTEMPTS_MAX => request = unsent,
                    _ => return Err(UpstreamError::Http(failed.into_error())),
                },
            }
        }
    }

    /// A kept connection that is ready, the last used first.
    async fn kept(&self) -> Option<http1::SendRequest<Tee>> {
        loop {
            let Idle { mut sender, since } = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_back()?;
            if since.elapsed() > IDLE_MAX || sender.is_closed() {
                continue;
            }
            if sender.is_ready() || matches!(tokio::time::timeout(READY_WAIT, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<Tee>, UpstreamError> {
        match &self.target.place {
            Place::Tcp(address) => self.begin_http1(TokioIo::new(self.tcp(address).await?)).await,
            Place::Unix(path) => self.begin_http1(TokioIo::new(self.unix(path).await?)).await,
        }
    }

    async fn begin_http1(
        &self,
        io: impl Read + Write + Unpin + Send + 'static,
    ) -> Result<http1::SendRequest<Tee>, UpstreamError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).preserve_header_case(true);
        let (sender, connection) = builder.handshake(io).await.map_err(UpstreamError::Http)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a service ended");
            }
        });
        Ok(sender)
    }

    /// The one connection of HTTP/2, opened anew where it has ended; true where it is a new one.
    async fn shared_http2(&self) -> Result<(http2::SendRequest<Tee>, bool), UpstreamError> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok((sender.clone(), false));
        }
        let sender = match &self.target.place {
            Place::Tcp(address) => self.begin_http2(TokioIo::new(self.tcp(address).await?)).await?,
            Place::Unix(path) => self.begin_http2(TokioIo::new(self.unix(path).await?)).await?,
        };
        *shared = Some(sender.clone());
        Ok((sender, true))
    }

    async fn begin_http2(
        &self,
        io: impl Read + Write + Unpin + Send + 'static,
    ) -> Result<http2::SendRequest<Tee>, UpstreamError> {
        let mut builder = http2::Builder::new(self.tasks.clone());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
        let (sender, connection) = builder.handshake(io).await.map_err(UpstreamError::Http)?;
        self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a service ended");
            }
        });
        Ok(sender)
    }

    async fn tcp(&self, address: &str) -> Result<TcpStream, UpstreamError> {
        let stream = self.within(TcpStream::connect(address)).await?;
        stream.set_nodelay(true).map_err(UpstreamError::Connect)?;
        Ok(stream)
    }

    async fn unix(&self, path: &PathBuf) -> Result<UnixStream, UpstreamError> {
        self.within(UnixStream::connect(path)).await
    }

    async fn within<T>(&self, connecting: impl Future<Output = std::io::Result<T>>) -> Result<T, UpstreamError> {
        let connected = tokio::time::timeout(self.connect_timeout, connecting).await;
        connected.map_err(|_| UpstreamError::ConnectTimeout(self.connect_timeout))?.map_err(UpstreamError::Connect)
    }
}

impl Lease {
    /// The answer's body has ended: the connection may be used again.
    pub(super) fn give_back(self) {
        let Self { upstream, sender } = self;
        if sender.is_closed() {
            return;
        }
        let mut idle = upstream.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.len() >= IDLE_CONNECTIONS_MAX || idle.front().is_some_and(|oldest| oldest.since.elapsed() > IDLE_MAX) {
            idle.pop_front();
        }
        idle.push_back(Idle { sender, since: Instant::now() });
    }
}

/// An error with its causes: hyper's own text leaves them out.
fn chain(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written_alike() {
        for text in
            ["http://127.0.0.1:9000", "h2c://[::1]:50051", "http://orders:80", "unix:/run/app.sock", "unix+h2c:/run/app.sock"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for wrong in ["", "127.0.0.1:1", "https://a:1", "http://a", "http://a:1/path", "http://u@a:1", "unix:app.sock"] {
            assert_eq!(wrong.parse::<Target>(), Err(TargetError), "{wrong}");
        }
    }
}
