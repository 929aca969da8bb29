//! The listener: TLS handshakes and connections, each bounded.
//!
//! The TLS configuration is taken anew for every handshake, so a renewed certificate needs no restart. A handshake that
//! does not end, a head that does not arrive, a connection too many: none of them holds up another.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use edgetrail_link::tls::{CLIENT_FRAMES, Connection, CrowdLimits, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::{Peer, TlsFacts};

/// Connections open at once, in total and of one address; one more is closed, and its client tries again.
const CONNECTIONS_MAX: usize = 512;
const CONNECTIONS_OF_ADDRESS_MAX: usize = 256;
/// A connection is told to end after this long, and cut when its last answers take longer than that: places that
/// somebody only keeps are free again in a while.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(10 * 60);
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(60);
/// How long a request's head may take, and how long an idle HTTP/1.1 connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// HTTP/2: a silent peer is asked this often, and has as long to answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// Largest head. S3 keys and tokens fit; source: 8 KiB is AWS's own limit, doubled.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// After the stop, how long answers under way may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Owns the server; it ends when the token that it was started with is cancelled.
#[derive(Debug)]
pub struct ServerTask(JoinSet<()>);

/// Serves the router until stopped.
pub fn serve(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    router: Router,
    stop: CancellationToken,
) -> ServerTask {
    let mut task = JoinSet::new();
    task.spawn(run(listener, tls, router, stop));
    ServerTask(task)
}

impl ServerTask {
    pub async fn join(mut self) {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = ended {
                tracing::error!(error = &error as &dyn std::error::Error, "the api server ended abnormally");
            }
        }
    }
}

/// HTTP/2 makes tasks of its own: they are kept count of with the connection's.
#[derive(Clone, Debug)]
struct Tracked(TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tracked {
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

async fn run(listener: TcpListener, tls: watch::Receiver<Arc<ServerConfig>>, router: Router, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let limits = CrowdLimits { connections: CONNECTIONS_MAX, connections_of_address: CONNECTIONS_OF_ADDRESS_MAX };
    let mut incoming = Incoming::new(listener, tls).at_most(limits).counting(CLIENT_FRAMES);
    let closing = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = incoming.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let tracked = Tracked(tracker.clone());
        tracker.spawn(connection(accepted, router.clone(), tracked, closing.clone()));
    }
    drop(incoming);
    closing.cancel();
    tracker.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "api connections were cut: they did not end in time");
    }
}

async fn connection(stream: Connection, router: Router, tracked: Tracked, closing: CancellationToken) {
    // Who enrols is known by address alone.
    let info = stream.info().clone();
    let address = info.address;
    let peer = Peer { address, tls: TlsFacts::of(stream.session()) };
    let service = TowerToHyperService::new(router.layer(Extension(peer)).layer(Extension(info)));
    let mut builder = Builder::new(tracked);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Ok(ended),
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            Ok(connection.await)
        }
        () = tokio::time::sleep(CONNECTION_AGE_MAX) => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWERS_MAX, connection).await
        }
    };
    let Ok(ended) = ended else { return };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, error = &*error as &dyn std::error::Error, "api connection ended");
    }
}
