//! Accepted connections, each after its TLS handshake.
//!
//! Handshakes run beside one another, at most [`HANDSHAKES_MAX`] and each for at most [`HANDSHAKE_TIME_MAX`]: a peer
//! that dawdles holds up nobody for long. The configuration is read anew for each connection, so that a rotation or
//! revocation counts from the next handshake on. Dropping the stream ends listening and unfinished handshakes.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::peer::Peer;

/// Most handshakes at a time. At some 1 ms of CPU each, a full set is a quarter of a second of one core.
pub const HANDSHAKES_MAX: usize = 256;

/// A handshake takes two round trips; a peer that needs longer than this comes again.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The stream of accepted connections; never ends by itself and never yields an error.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    handshakes: JoinSet<Result<Connection, Refused>>,
    pause: Option<Pin<Box<Sleep>>>,
}

/// A connection whose handshake succeeded.
#[derive(Debug)]
pub struct Connection {
    tls: TlsStream<TcpStream>,
    info: ConnectionInfo,
}

/// Who is at the other end. A request's extension with tonic.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    pub address: SocketAddr,
    /// Absent where the port asks for no client certificate.
    pub peer: Option<Arc<Peer>>,
    /// Such as `TLSv1.3` and `TLS_AES_128_GCM_SHA256`, for a record's tlsDetails.
    pub protocol: Option<&'static str>,
    pub cipher: Option<&'static str>,
}

/// Who got no connection, and why.
#[derive(Debug)]
struct Refused {
    address: SocketAddr,
    error: HandshakeError,
}

#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("no handshake within {HANDSHAKE_TIME_MAX:?}")]
    TimedOut,
    #[error(
        "the handshake failed: a client needs this collector's CA, an agent also a certificate of it; one that has none or an expired one is to join again"
    )]
    Tls(#[source] io::Error),
    #[error("the peer's certificate names no agent")]
    Peer(#[source] super::peer::PeerError),
}

impl Incoming {
    pub fn new(listener: TcpListener, config: watch::Receiver<Arc<ServerConfig>>) -> Self {
        Self { listener, config, handshakes: JoinSet::new(), pause: None }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next connection that is ready; cancel-safe.
    pub async fn accept(&mut self) -> Connection {
        std::future::poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Connection> {
        loop {
            match self.handshakes.poll_join_next(context) {
                Poll::Ready(Some(Ok(Ok(connection)))) => return Poll::Ready(connection),
                Poll::Ready(Some(Ok(Err(Refused { address, error })))) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::info!(%address, %error, cause, "connection refused");
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::error!(%error, "a handshake ended in a panic");
                    continue;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            if self.handshakes.len() >= HANDSHAKES_MAX {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((tcp, address)) => {
                    let config = Arc::clone(&self.config.borrow());
                    let shaken = async move { handshake(tcp, address, config).await.map_err(|error| Refused { address, error }) };
                    self.handshakes.spawn(shaken);
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

async fn handshake(tcp: TcpStream, address: SocketAddr, config: Arc<ServerConfig>) -> Result<Connection, HandshakeError> {
    // Small messages (receipts) go out at once; failing to set it costs latency only.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "nodelay was not set");
    }
    let accepted = tokio::time::timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(config).accept(tcp));
    let tls = accepted.await.map_err(|_| HandshakeError::TimedOut)?.map_err(HandshakeError::Tls)?;
    let session = tls.get_ref().1;
    let chain = session.peer_certificates().map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
    let peer = chain.map(Peer::from_chain).transpose().map_err(HandshakeError::Peer)?.map(Arc::new);
    let info = ConnectionInfo {
        address,
        peer,
        protocol: session.protocol_version().and_then(|version| version.as_str()),
        cipher: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
    };
    Ok(Connection { tls, info })
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(context).map(|connection| Some(Ok(connection)))
    }
}

impl Connection {
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
