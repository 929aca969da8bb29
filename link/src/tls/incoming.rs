//! Accepted connections, each after its TLS handshake.
//!
//! Handshakes run beside one another, bounded in number and each for at most [`HANDSHAKE_TIME_MAX`]; one that dawdles
//! gives way to a new one: a peer that is slow on purpose holds up nobody for long. The configuration is read anew for
//! each connection, so that a rotation or revocation counts from the next handshake on. Dropping the stream ends
//! listening and unfinished handshakes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;

use super::connection::Connection;
use super::crowd::{AgentPlaces, Crowd, CrowdLimits, Place, Room};
use super::frames::{AGENT_FRAMES, FrameAllowance, RELAY_FRAMES};
use super::peer::{Admission, Peer, PeerError, PeerIdentity};
use crate::transport::{Listen, Transport};

/// A handshake takes two round trips; a peer that needs longer than this comes again.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Wait while every handshake is younger than what gives way.
const CROWDED_PAUSE: Duration = Duration::from_millis(50);

/// At most one refusal is logged in this time, with the count of those that were not: whoever floods a port does not
/// fill the log.
const REFUSAL_LOGGED: Duration = Duration::from_millis(600);

/// The stream of accepted connections; never ends by itself and never yields an error.
pub struct Incoming {
    listener: Box<dyn Listen>,
    config: watch::Receiver<Arc<ServerConfig>>,
    admission: Option<Arc<dyn Admission>>,
    frames: FrameAllowance,
    crowd: Crowd,
    handshakes: JoinSet<Result<Connection, Refused>>,
    pause: Option<Pin<Box<Sleep>>>,
    refusals: Refusals,
}

/// Who got no connection, and why.
#[derive(Debug)]
struct Refused {
    address: SocketAddr,
    error: HandshakeError,
}

/// Those that are not logged one by one.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    logged: Option<Instant>,
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
    Peer(#[source] PeerError),
    #[error("the peer's certificate is not admitted any more")]
    Admission(#[source] rustls::Error),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("crowd", &self.crowd).finish_non_exhaustive()
    }
}

impl Incoming {
    pub fn new(listener: impl Listen, config: watch::Receiver<Arc<ServerConfig>>) -> Self {
        let (crowd, handshakes) = (Crowd::new(CrowdLimits::default()), JoinSet::new());
        Self {
            listener: Box::new(listener),
            config,
            admission: None,
            frames: AGENT_FRAMES,
            crowd,
            handshakes,
            pause: None,
            refusals: Refusals::default(),
        }
    }

    /// Who a peer is, is what the admission says; without one, what its SPIFFE id says.
    pub fn admitting(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission = Some(admission);
        self
    }

    /// No more connections at a time than these.
    pub fn at_most(mut self, limits: CrowdLimits) -> Self {
        self.crowd = Crowd::new(limits);
        self
    }

    /// What each connection may send of frames that carry nothing, instead of [`AGENT_FRAMES`].
    pub fn counting(mut self, frames: FrameAllowance) -> Self {
        self.frames = frames;
        self
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
                Poll::Ready(Some(Ok(Err(refused)))) => {
                    self.refusals.note(&refused);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    // One that gave way is no error.
                    if error.is_panic() {
                        tracing::error!(%error, "a handshake ended in a panic");
                    }
                    continue;
                }
                Poll::Ready(None) | Poll::Pending => {}
            }
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            if !self.crowd.has_room(Instant::now()) {
                self.pause = Some(Box::pin(tokio::time::sleep(CROWDED_PAUSE)));
                continue;
            }
            match std::task::ready!(self.listener.poll_accept(context)) {
                Ok((transport, address)) => self.begin(transport, address),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }

    fn begin(&mut self, transport: Transport, address: SocketAddr) {
        let now = Instant::now();
        if self.crowd.arrive(address.ip(), now) == Room::Refused {
            self.refusals.note_crowded(address);
            return;
        }
        let handshake = Handshake {
            config: Arc::clone(&self.config.borrow()),
            admission: self.admission.clone(),
            frames: self.frames,
            place: self.crowd.place(address.ip()),
            agents: self.crowd.agents(),
        };
        let shaken = async move { handshake.run(transport, address).await.map_err(|error| Refused { address, error }) };
        let abort = self.handshakes.spawn(shaken);
        self.crowd.begin(address.ip(), now, abort);
    }
}

/// What a handshake needs of its port.
struct Handshake {
    config: Arc<ServerConfig>,
    admission: Option<Arc<dyn Admission>>,
    frames: FrameAllowance,
    place: Place,
    agents: AgentPlaces,
}

impl Handshake {
    async fn run(self, transport: Transport, address: SocketAddr) -> Result<Connection, HandshakeError> {
        let accepted = tokio::time::timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(self.config).accept(transport));
        let tls = accepted.await.map_err(|_| HandshakeError::TimedOut)?.map_err(HandshakeError::Tls)?;
        let chain = tls.get_ref().1.peer_certificates();
        let chain: Option<Vec<_>> = chain.map(|chain| chain.iter().map(|c| c.clone().into_owned()).collect());
        let peer = match (chain, self.admission) {
            (None, _) => None,
            (Some(chain), None) => Some(Peer::from_chain(chain).map_err(HandshakeError::Peer)?),
            (Some(chain), Some(admission)) => {
                let identity = admission.identify(&chain, UnixTime::now()).map_err(HandshakeError::Admission)?;
                Some(Peer::identified(chain, identity).map_err(HandshakeError::Peer)?)
            }
        };
        let peer = peer.map(Arc::new);
        let of_agent = peer.as_ref().map(|peer| self.agents.enter(peer.identity.id()));
        let is_relay = peer.as_ref().is_some_and(|peer| matches!(peer.identity, PeerIdentity::Relay(_)));
        Ok(Connection::new(tls, if is_relay { RELAY_FRAMES } else { self.frames }, address, peer, (self.place, of_agent)))
    }
}

impl Refusals {
    fn note(&mut self, refused: &Refused) {
        let Refused { address, error } = refused;
        if self.due() {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::info!(%address, %error, cause, unlogged = self.count, "connection refused");
            self.count = 0;
        }
    }

    fn note_crowded(&mut self, address: SocketAddr) {
        if self.due() {
            tracing::warn!(%address, unlogged = self.count, "connection refused: too many of this address, or on this port");
            self.count = 0;
        }
    }

    fn due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= REFUSAL_LOGGED);
        if due {
            self.logged = Some(now);
        } else {
            self.count = self.count.saturating_add(1);
        }
        due
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(context).map(|connection| Some(Ok(connection)))
    }
}
