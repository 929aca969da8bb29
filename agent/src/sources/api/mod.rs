//! Events that programs post: to a Unix socket, and over the network where configured.
//!
//! Who posts is what the kernel says (SO_PEERCRED), or whose token was shown, never what the body says. A caller gets its
//! 200 after the commit and not before. Every limit answers with a 4xx that names the place and the way out.

pub mod audit_events;

mod body;

mod peer;

mod reply;

mod request;

mod socket;

mod trace;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgetrail_proto::chain::Binding;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::audit_events::{AccessKeys, ChannelConfig};
use self::request::Door;
use self::socket::Socket;
pub use self::trace::Trace;
use super::SourceError;
use super::listener::{Answer, Caller, Listener, Reader, Reply, ReplyBody, Settings};
use crate::observation::{Intake, SourceName};

/// The section `[sources.api]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Where the socket lies; `api.sock` in the state directory unless given.
    pub path: Option<PathBuf>,
    /// Who may post, as permission bits in octal text: `0660` lets owner and group.
    pub mode: String,
    /// Where it is taken over the network, too: for containers that share no file system. Tokens are then needed.
    pub listen: Vec<SocketAddr>,
    /// PEM: the certificate chain and key of HTTPS.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: callers over the network must show a certificate of one of these, too.
    pub client_ca: Option<PathBuf>,
    /// Bearer tokens that admit, `NAME TOKEN` on a line: the name is who acts.
    pub token_file: Option<PathBuf>,
    /// Who may call PutAuditEvents over the network: a file of lines `KEYID PRINCIPAL SECRETFILE`.
    pub access_keys: Option<PathBuf>,
    /// Where PutAuditEvents puts events.
    pub channels: Vec<ChannelConfig>,
    /// When a caller is answered.
    pub answer_after: AnswerAfter,
    /// Most connections served at once; more wait in the socket's backlog.
    pub connections_max: usize,
}

/// When a posted event counts as taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerAfter {
    /// Durable in this host's buffer.
    #[default]
    Commit,
    /// Durable at the collector.
    Receipt,
}

/// One posted event with who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The event's JSON text, checked by [`super::event::Event::parse`].
    pub event: Bytes,
    pub sender: Sender,
    /// The trace in which its request was made, where it says so.
    pub trace: Option<Arc<Trace>>,
}

/// Who posts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// A process of this host, as the kernel names it.
    Process(Peer),
    /// Whoever holds a token, from wherever.
    Network(Remote),
}

/// A caller over the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// Its token's name.
    pub name: Arc<str>,
    pub address: IpAddr,
}

/// The process at the other end of the socket, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    /// 0 where the kernel does not say (a process of another PID namespace).
    pub pid: u32,
    /// Unknown without CAP_SYS_PTRACE for a process of another user.
    pub exe: Option<String>,
    /// The login user that the process descends from; `None` for a daemon.
    pub login_uid: Option<u32>,
    /// The audit session of that login.
    pub session: Option<u32>,
}

/// The source, listening.
#[derive(Debug)]
pub struct ApiSource {
    socket: Socket,
    connections_max: usize,
    network: Option<Network>,
}

/// The source over the network.
#[derive(Debug)]
struct Network {
    listener: Listener,
    /// Who may call PutAuditEvents, and where it puts events.
    audit_events: Option<(AccessKeys, Vec<ChannelConfig>, Binding)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            path: None,
            mode: "0660".to_owned(),
            listen: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            token_file: None,
            access_keys: None,
            channels: Vec::new(),
            answer_after: AnswerAfter::Commit,
            connections_max: CONNECTIONS_MAX_DEFAULT,
        }
    }
}

/// Connections served at once unless configured. A connection holds at most one body of [`BODY_BYTES_MAX`].
const CONNECTIONS_MAX_DEFAULT: usize = 64;

/// Largest body, in bytes: a full batch of 1,024 events of 4 KiB.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request's head that takes longer is given up; also how long an idle connection is kept.
const HEAD_WAIT: Duration = Duration::from_secs(60);

/// How long requests in flight are waited for at a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which means that descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl ApiSource {
    /// Listens on the configured path, or on `api.sock` in `state_dir`. Needs a runtime. `binding` is what this agent's
    /// records may be of.
    pub async fn open(config: &Config, state_dir: &Path, binding: &Binding) -> Result<Self, SourceError> {
        let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::Api, why };
        if !config.enabled {
            return Err(unavailable("turned off by sources.api.enabled".to_owned()));
        }
        let path = config.path.clone().unwrap_or_else(|| state_dir.join("api.sock"));
        let socket = Socket::open(&path, &config.mode).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            unavailable(format!("{error}{cause}"))
        })?;
        let network = match config.listen.is_empty() {
            true => None,
            false => {
                let keys = config.access_keys.as_deref().map(AccessKeys::open).transpose();
                let keys = keys.map_err(|error| unavailable(error.to_string()))?;
                let audit_events = keys.map(|keys| (keys, config.channels.clone(), binding.clone()));
                Some(Network { listener: Listener::open(SourceName::Api, &config.settings()).await?, audit_events })
            }
        };
        Ok(Self { socket, connections_max: config.connections_max.max(1), network })
    }

    /// Serves until told to stop, then lets requests in flight end.
    pub async fn run(self, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        let seats = Arc::new(Semaphore::new(self.connections_max));
        let mut connections = JoinSet::new();
        let mut network = JoinSet::new();
        if let Some(Network { listener, audit_events }) = self.network {
            let open = |(keys, channels, binding): (AccessKeys, Vec<ChannelConfig>, Binding)| {
                audit_events::Door::open(intake.clone(), keys, &channels, &binding)
            };
            let door = NetworkDoor { intake: intake.clone(), audit_events: audit_events.map(open) };
            network.spawn(listener.run(door, stop.clone()));
        }
        loop {
            // A seat first: who finds none waits in the socket's backlog, not in our memory.
            let seat = tokio::select! {
                () = stop.cancelled() => break,
                seat = Arc::clone(&seats).acquire_owned() => seat,
            };
            let Ok(seat) = seat else { break };
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.socket.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = serve(stream, intake.clone(), stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection on the API socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
            tracing::warn!("API requests were still in flight at the stop");
        }
        while network.join_next().await.is_some() {}
        Ok(())
    }
}

impl Config {
    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        let is_open = !self.listen.is_empty() && self.token_file.is_none() && self.access_keys.is_none();
        if is_open {
            return Some("`listen` needs `token_file` or `access_keys`: over the network nobody else says who posts".to_owned());
        }
        if self.access_keys.is_some() && self.listen.is_empty() {
            return Some("`access_keys` needs `listen`: PutAuditEvents is called over the network".to_owned());
        }
        if self.access_keys.is_none() != self.channels.is_empty() {
            return Some("give both `access_keys` and `channels`, or neither: PutAuditEvents needs both".to_owned());
        }
        self.settings().trouble()
    }

    /// Whether its files can be used here.
    pub fn ready(&self) -> Result<(), String> {
        self.access_keys.as_deref().map(AccessKeys::open).transpose().map_err(|error| error.to_string())?;
        self.settings().ready()
    }

    fn settings(&self) -> Settings {
        Settings {
            listen: self.listen.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            token_file: self.token_file.clone(),
            is_signed: self.access_keys.is_some(),
            connections_max: self.connections_max,
            body_bytes_max: BODY_BYTES_MAX as u64,
        }
    }
}

/// Requests over the network.
struct NetworkDoor {
    intake: Intake,
    audit_events: Option<audit_events::Door>,
}

impl Answer for NetworkDoor {
    fn proves(&self, request: &Request<Incoming>) -> bool {
        self.audit_events.is_some() && request.uri().path() == audit_events::PATH && audit_events::is_signed(request.headers())
    }

    async fn answer(&self, request: Request<Incoming>, caller: Caller, reader: &Reader) -> Reply {
        if let Some(door) = self.audit_events.as_ref().filter(|_| request.uri().path() == audit_events::PATH) {
            return door.answer(request, caller.address.ip(), reader).await;
        }
        // Without tokens nothing but signed requests is taken here.
        let Some(name) = caller.name else {
            let refusal = reply::fault(StatusCode::UNAUTHORIZED, "Unauthorized", "sources.api.token_file is not given");
            return refusal.map(ReplyBody::new);
        };
        let sender = Sender::Network(Remote { name, address: caller.address.ip() });
        let reply = Door { intake: self.intake.clone(), sender }.answer(request).await;
        reply.map(ReplyBody::new)
    }
}

async fn serve(stream: UnixStream, intake: Intake, stop: CancellationToken) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "can't tell who connected to the API socket, closing");
            return;
        }
    };
    let door = Arc::new(Door { intake, sender: Sender::Process(peer) });
    let service = service_fn(move |request| Arc::clone(&door).serve(request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "API connection ended");
    }
}

#[cfg(test)]
mod tests;
