//! The simulated network, as the uplink dials on it and ingest listens on it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use edgetrail_link::transport::{Dial, Dialing, Listen, Transport};
use edgetrail_link::uplink::Endpoint;
use turmoil::net::{TcpListener, TcpStream};

pub(crate) struct Network;

impl Dial for Network {
    fn dial(&self, endpoint: &Endpoint) -> Dialing {
        let Endpoint { host, port } = endpoint.clone();
        Box::pin(async move { Ok(Box::new(TcpStream::connect((host.as_str(), port)).await?) as Transport) })
    }
}

type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send>>;

/// A port of a simulated host.
pub(crate) struct Port {
    listener: Arc<TcpListener>,
    accepting: Accepting,
}

impl Port {
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        let listener = Arc::new(TcpListener::bind(("0.0.0.0", port)).await?);
        Ok(Self { accepting: accept(&listener), listener })
    }
}

fn accept(listener: &Arc<TcpListener>) -> Accepting {
    let listener = Arc::clone(listener);
    Box::pin(async move { listener.accept().await })
}

impl Listen for Port {
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(Transport, SocketAddr)>> {
        let accepted = ready!(self.accepting.as_mut().poll(context));
        self.accepting = accept(&self.listener);
        Poll::Ready(accepted.map(|(tcp, address)| (Box::new(tcp) as Transport, address)))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
