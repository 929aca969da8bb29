//! Where clients connect: TCP, TLS where configured, HTTP/1.1 and HTTP/2.
//!
//! Connections, streams, heads and idle time are bounded. A stop lets requests in flight end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::{Executor, Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::{ProtocolVersion, ServerConnection};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::exchange::Secured;
use super::forward::Forwarder;
use crate::sources::listener::connection::{self, Bounds};
use crate::sources::listener::{Certificate, HANDSHAKE_WAIT, Tls};

/// Tasks of a proxy: whoever stops it waits for them, and ends those that go on for too long.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    end: CancellationToken,
}

/// A client's connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) tls: Option<Arc<Secured>>,
    /// Held while the connection lasts, whatever it becomes.
    pub(super) seat: Arc<OwnedSemaphorePermit>,
    pub(super) stop: CancellationToken,
}

/// Sockets that listen.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) sockets: Vec<TcpListener>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) connections_max: usize,
    pub(super) title: String,
}

/// Largest head, bytes. Source: what common servers take, several times over.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Of one client's connection. As many streams as any client expects: RFC 9113 §6.5.2, no fewer than 100.
const BOUNDS: Bounds =
    Bounds { streams_max: 100, head_bytes_max: 64 * 1024, stream_window_bytes: 256 * 1024, window_bytes: 1024 * 1024 };

/// Over HTTP/1.1 and HTTP/2 alike.
const _: () = assert!(HEAD_BYTES_MAX == BOUNDS.head_bytes_max as usize);

/// Bytes of answers that wait for a client on one stream.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// How long requests in flight are waited for at a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which means that descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.execute(task);
    }

    /// Until all of them have ended; after so long they are ended. True where none had to be.
    async fn ended(&self, within: Duration) -> bool {
        self.tracker.close();
        let is_over = tokio::time::timeout(within, self.tracker.wait()).await.is_ok();
        self.end.cancel();
        self.tracker.wait().await;
        is_over
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let end = self.end.clone();
        drop(self.tracker.spawn(async move { end.run_until_cancelled_owned(task).await.is_some() }));
    }
}

impl Door {
    /// Serves until told to stop, then lets requests in flight end.
    pub(super) async fn run(self, forwarder: Arc<Forwarder>, tasks: Tasks, stop: CancellationToken) {
        let Self { sockets, tls, connections_max, title } = self;
        let seats = Arc::new(Semaphore::new(connections_max.max(1)));
        // Connections to the service outlive their requests: they end with `ended`.
        let connections = Tasks::default();
        let accepting = Tasks::default();
        for socket in sockets {
            let accept = Accept {
                forwarder: Arc::clone(&forwarder),
                tls: tls.clone(),
                seats: Arc::clone(&seats),
                connections: connections.clone(),
                stop: stop.clone(),
            };
            accepting.spawn(accept.run(socket));
        }
        stop.cancelled().await;
        accepting.ended(STOP_WAIT).await;
        if !connections.ended(STOP_WAIT).await {
            tracing::warn!(proxy = title, "requests were still in flight at the stop");
        }
        forwarder.close();
        drop(forwarder);
        tasks.ended(Duration::ZERO).await;
    }
}

/// What accepting needs.
struct Accept {
    forwarder: Arc<Forwarder>,
    tls: Option<Arc<Tls>>,
    seats: Arc<Semaphore>,
    connections: Tasks,
    stop: CancellationToken,
}

impl Accept {
    async fn run(self, socket: TcpListener) {
        loop {
            // A seat first: who finds none waits in the socket's backlog, not in our memory.
            let seat = tokio::select! {
                () = self.stop.cancelled() => return,
                seat = Arc::clone(&self.seats).acquire_owned() => seat,
            };
            let Ok(seat) = seat else { return };
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection { peer, tls: None, seat: Arc::new(seat), stop: self.stop.clone() };
                    let connected =
                        connect(stream, connection, Arc::clone(&self.forwarder), self.tls.clone(), self.connections.clone());
                    self.connections.spawn(connected);
                }
                Err(error) => {
                    tracing::warn!(%error, "a proxy can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connect(stream: TcpStream, mut connection: Connection, forwarder: Arc<Forwarder>, tls: Option<Arc<Tls>>, tasks: Tasks) {
    let peer = connection.peer;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection ended at once");
        return;
    }
    let Some(tls) = tls else { return serve(TokioIo::new(stream), connection, forwarder, tasks).await };
    match tokio::time::timeout(HANDSHAKE_WAIT, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => {
            connection.tls = Some(Arc::new(secured(stream.get_ref().1)));
            Box::pin(serve(TokioIo::new(stream), connection, forwarder, tasks)).await;
        }
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
        Err(_elapsed) => tracing::debug!(%peer, "a TLS handshake took too long"),
    }
}

fn secured(tls: &ServerConnection) -> Secured {
    let leaf = tls.peer_certificates().and_then(|chain| chain.first());
    Secured {
        version: match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        cipher: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
        certificate: leaf.and_then(|leaf| Certificate::of(leaf)),
    }
}

async fn serve(io: impl Read + Write + Unpin + Send + 'static, connection: Connection, forwarder: Arc<Forwarder>, tasks: Tasks) {
    let (peer, stop) = (connection.peer, connection.stop.clone());
    let service = service_fn(move |request| {
        let (forwarder, connection) = (Arc::clone(&forwarder), connection.clone());
        async move { Ok::<_, Infallible>(Box::pin(forwarder.answer(request, connection)).await) }
    });
    let mut builder = BOUNDS.builder(tasks);
    builder.http1().max_buf_size(HEAD_BYTES_MAX).preserve_header_case(true);
    builder.http2().max_send_buf_size(SEND_BYTES_MAX);
    if let Err(error) = connection::serve(&builder, io, service, &stop).await {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}
