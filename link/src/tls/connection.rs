//! A connection whose handshake succeeded.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::ALPN_H2;
use super::crowd::{AgentPlace, Place};
use super::frames::{FrameAllowance, Metered};
use super::peer::Peer;
use crate::transport::Transport;

/// An accepted connection: its frames are counted, and it ends when newer ones of its agent need its place.
pub struct Connection {
    tls: Metered<TlsStream<Transport>>,
    info: ConnectionInfo,
    displaced: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Left when the connection is dropped.
    _places: (Place, Option<AgentPlace>),
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
    pub heard: LastSign,
}

/// When anything was read from a connection last: the answer to a ping, too.
#[derive(Clone, Debug)]
pub struct LastSign(Arc<Mutex<Instant>>);

impl LastSign {
    fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(
        tls: TlsStream<Transport>,
        frames: FrameAllowance,
        address: SocketAddr,
        peer: Option<Arc<Peer>>,
        places: (Place, Option<AgentPlace>),
    ) -> Self {
        let session = tls.get_ref().1;
        let info = ConnectionInfo {
            address,
            peer,
            protocol: session.protocol_version().and_then(|version| version.as_str()),
            cipher: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()),
            heard: LastSign::now(),
        };
        let http2 = session.alpn_protocol() == Some(ALPN_H2);
        let displaced = places.1.as_ref().map(|place| Box::pin(place.displaced()));
        Self { tls: Metered::new(tls, http2, frames), info, displaced, _places: places }
    }

    /// The TLS session: what was negotiated.
    pub fn session(&self) -> &rustls::ServerConnection {
        self.tls.get_ref().get_ref().1
    }

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
        if let Some(displaced) = &mut self.displaced
            && displaced.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "newer connections took the place")));
        }
        let before = buf.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.tls).poll_read(cx, buf));
        if buf.filled().len() > before {
            self.info.heard.give();
        }
        Poll::Ready(read)
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
