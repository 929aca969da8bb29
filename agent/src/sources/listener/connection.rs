//! One client's connection: HTTP/1.1 or HTTP/2, as its first bytes say, until it ends or is told to.
//!
//! What one connection may hold is bounded by [`Bounds`], how long it may be silent here. A stop lets requests in flight
//! end.

use std::error::Error;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, Write};
use hyper::service::Service;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::{Builder, HttpServerConnExec};
use tokio_util::sync::CancellationToken;

/// What one connection may hold.
#[derive(Clone, Copy, Debug)]
pub(in crate::sources) struct Bounds {
    /// Requests at once over HTTP/2.
    pub(in crate::sources) streams_max: u32,
    /// Largest head over HTTP/2, bytes.
    pub(in crate::sources) head_bytes_max: u32,
    /// Bytes that a client may send ahead of what is read, on one stream and on all of them.
    pub(in crate::sources) stream_window_bytes: u32,
    pub(in crate::sources) window_bytes: u32,
}

type BoxError = Box<dyn Error + Send + Sync>;

/// A request's head that takes longer is given up; also how long an idle connection is kept.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// An idle HTTP/2 connection is asked for a sign of life this often, and closed without one for as long.
const PING_INTERVAL: Duration = Duration::from_secs(30);

impl Bounds {
    /// What serves connections within these bounds; the rest is hyper's, or its caller's to say.
    pub(in crate::sources) fn builder<E>(self, executor: E) -> Builder<E> {
        let mut builder = Builder::new(executor);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_INTERVAL)
            .max_concurrent_streams(self.streams_max)
            .max_header_list_size(self.head_bytes_max)
            .initial_connection_window_size(self.window_bytes)
            .initial_stream_window_size(self.stream_window_bytes);
        builder
    }
}

/// Answers what comes until the connection ends; from the stop on, only what has come already.
pub(in crate::sources) async fn serve<S, B, E>(
    builder: &Builder<E>,
    io: impl Read + Write + Unpin + Send + 'static,
    service: S,
    stop: &CancellationToken,
) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>, Future: 'static, Error: Into<BoxError>>,
    B: Body<Error: Into<BoxError>> + 'static,
    E: HttpServerConnExec<S::Future, B>,
{
    let mut connection = std::pin::pin!(builder.serve_connection_with_upgrades(io, service));
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
