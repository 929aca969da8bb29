//! The listener: TLS handshakes and connections, each bounded.
//!
//! The TLS configuration is taken anew for every handshake, so a renewed certificate needs no restart. A handshake that
//! does not end, a head that does not arrive, a connection too many: none of them holds up another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use edgetrail_link::tls::{ALPN_H2, CLIENT_FRAMES, ConnectionInfo, Metered};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::{Peer, TlsFacts};

/// Connections open at once; the next one waits in the listener's backlog.
const CONNECTIONS_MAX: usize = 512;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
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
/// After an accept that failed for want of descriptors or memory.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

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
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let closing = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, address, permit)) => {
                let peer = Peer { address, tls: None };
                let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
                let tracked = Tracked(tracker.clone());
                tracker.spawn(connection(stream, peer, acceptor, router.clone(), tracked, closing.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the api port accepts no connection; retrying");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    closing.cancel();
    tracker.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "api connections were cut: they did not end in time");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, std::net::SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, permit))
}

async fn connection(
    stream: TcpStream,
    mut peer: Peer,
    acceptor: TlsAcceptor,
    router: Router,
    tracked: Tracked,
    closing: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let stream = tokio::select! {
        handshake = handshake => match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(peer = %peer.address, error = &error as &dyn std::error::Error, "tls handshake failed");
                return;
            }
            Err(_elapsed) => return,
        },
        () = closing.cancelled() => return,
    };
    peer.tls = TlsFacts::of(stream.get_ref().1);
    let address = peer.address;
    // Who enrols is known by address alone.
    let info = ConnectionInfo { address, peer: None, protocol: None, cipher: None };
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
    let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    let metered = Metered::new(stream, http2, CLIENT_FRAMES);
    let connection = builder.serve_connection(TokioIo::new(metered), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, error = &*error as &dyn std::error::Error, "api connection ended");
    }
}
