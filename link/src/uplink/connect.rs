//! A gRPC channel to one endpoint, over TLS of our own making.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tonic::transport::Channel;

use crate::transport::{Dial, Tcp};

/// TCP and TLS together; a healthy collector answers in two round trips.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// The connection's ping and the time it may stay unanswered: together below `SILENCE_MAX` of 15 s.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIME_MAX: Duration = Duration::from_secs(8);

const _: () = assert!(
    PING_INTERVAL.as_secs() + PING_TIME_MAX.as_secs() <= edgetrail_proto::limits::SILENCE_MAX.as_secs(),
    "silence is flagged in time"
);

/// Where a collector listens: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A DNS name or an IP address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an endpoint: give `host:port`")]
pub struct EndpointError(String);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("`{0}` is no host that a certificate could name")]
    Host(String),
    #[error("no connection to {endpoint}")]
    Connect {
        endpoint: Endpoint,
        #[source]
        source: tonic::transport::Error,
    },
}

/// Connects; the channel carries gRPC and pings so that silence is noticed.
pub async fn channel(endpoint: &Endpoint, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    channel_over(&Tcp::dialer(), endpoint, tls).await
}

/// As [`channel`], over another network.
pub async fn channel_over(dial: &Arc<dyn Dial>, endpoint: &Endpoint, tls: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let bad_host = || ConnectError::Host(endpoint.host.clone());
    let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| bad_host())?;
    let (dial, to) = (Arc::clone(dial), endpoint.clone());
    let connector = tower::service_fn(move |_: Uri| {
        let (dialing, name, tls) = (dial.dial(&to), name.clone(), TlsConnector::from(Arc::clone(&tls)));
        async move { Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, dialing.await?).await?)) }
    });
    // The scheme is plain to tonic because the connector above already speaks TLS.
    let channel = Channel::from_shared(format!("http://{endpoint}"))
        .map_err(|_| bad_host())?
        .connect_timeout(CONNECT_TIME_MAX)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIME_MAX)
        .keep_alive_while_idle(true);
    let connected = channel.connect_with_connector(connector).await;
    connected.map_err(|source| ConnectError::Connect { endpoint: endpoint.clone(), source })
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(malformed)?;
        if ServerName::try_from(host).is_err() {
            return Err(malformed());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        for text in ["localhost:7443", "127.0.0.1:7443", "[::1]:7443", "collector.example:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in ["localhost", "localhost:0", ":7443", "::1:7443", "[::1:7443", "a b:1", "h:99999", "h/x:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
