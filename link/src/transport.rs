//! What lies below TLS: ordered bytes both ways between two hosts. TCP; in a simulation, its network.
//!
//! Everything above (handshake, peer, HTTP/2, session) is the same code over either. A transport neither authenticates
//! nor bounds anything: that is [`crate::tls`]'s.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::uplink::Endpoint;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One connection.
pub type Transport = Box<dyn Duplex>;

/// A connection that is being made.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Transport>> + Send>>;

/// How connections are made.
pub trait Dial: Send + Sync + 'static {
    fn dial(&self, endpoint: &Endpoint) -> Dialing;
}

/// What connections come in on.
pub trait Listen: Send + Unpin + 'static {
    /// The next one and where it comes from.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Transport, SocketAddr)>>;

    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// The network of the host.
#[derive(Clone, Copy, Debug)]
pub struct Tcp;

impl Tcp {
    pub fn dialer() -> Arc<dyn Dial> {
        Arc::new(Self)
    }
}

impl Dial for Tcp {
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        let (host, port) = (endpoint.host.clone(), endpoint.port);
        Box::pin(async move {
            let tcp = TcpStream::connect((host.as_str(), port)).await?;
            tcp.set_nodelay(true)?;
            Ok(Box::new(tcp) as Transport)
        })
    }
}

impl Listen for TcpListener {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Transport, SocketAddr)>> {
        let (tcp, address) = std::task::ready!(TcpListener::poll_accept(self, context))?;
        // Small messages (receipts) go out at once; failing to set it costs latency only.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "nodelay was not set");
        }
        Poll::Ready(Ok((Box::new(tcp), address)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}
