//! sudo's log server: what sudo itself says of each command, before it runs it.
//!
//! sudo waits for this server's hello before it runs anything, and it has it only after a commit has just succeeded: a
//! full buffer therefore stops a sudo that sudoers tells to heed it. What it then tells is committed at once; a command
//! whose acceptance can't be committed is aborted. On this host only root is listened to, for nobody else is sudo; from
//! elsewhere, who shows a certificate.

mod event;

mod frame;

pub mod log;

mod message;

mod owner;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::event::{Event, Kind};
use self::frame::{FrameError, read, write};
use self::message::{Client, Server, ServerHello, Time};
use super::SourceError;
use super::api::AnswerAfter;
use super::listener::{HANDSHAKE_WAIT, Settings, Tls, Verdict, commit};
use crate::clock::unix_ns;
use crate::observation::{Intake, Observation, Payload, SourceName};

/// The section `[sources.sudo]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where sudo's `log_servers` is taken; off while empty.
    pub listen: Vec<SocketAddr>,
    /// PEM: the certificate chain and key of TLS.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// PEM: other hosts must show a certificate of one of these.
    pub client_ca: Option<PathBuf>,
    /// What becomes of a command whose input and output sudo would log here.
    pub io: Io,
    /// When a command counts as recorded.
    pub answer_after: AnswerAfter,
    /// Commands at once: each keeps its connection while it runs.
    pub connections_max: usize,
}

/// I/O logs are no events, and are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// It is not run.
    #[default]
    Refuse,
    /// It is run, and what it reads and writes is thrown away.
    Discard,
}

/// The source, listening.
#[derive(Debug)]
pub struct SudoSource {
    sockets: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    io: Io,
    connections_max: usize,
}

/// Commands at once unless configured.
const CONNECTIONS_MAX_DEFAULT: usize = 256;

/// Who connects says hello within this long.
const HELLO_WAIT: Duration = Duration::from_secs(10);

/// How long what was told already is waited for at a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which means that descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificate: None,
            key: None,
            client_ca: None,
            io: Io::default(),
            answer_after: AnswerAfter::Commit,
            connections_max: CONNECTIONS_MAX_DEFAULT,
        }
    }
}

impl Config {
    /// What is wrong with it, whatever the host offers.
    pub fn trouble(&self) -> Option<String> {
        self.settings().trouble()
    }

    /// Whether its files can be used here.
    pub fn ready(&self) -> Result<(), String> {
        self.settings().ready()
    }

    fn settings(&self) -> Settings {
        Settings {
            listen: self.listen.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            client_ca: self.client_ca.clone(),
            token_file: None,
            is_signed: false,
            connections_max: self.connections_max,
            body_bytes_max: u64::from(frame::MESSAGE_BYTES_MAX),
        }
    }
}

impl SudoSource {
    /// Listens as configured.
    pub async fn open(config: &Config) -> Result<Self, SourceError> {
        let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::Sudo, why };
        let settings = config.settings();
        if let Some(trouble) = settings.trouble() {
            return Err(unavailable(trouble));
        }
        let tls = Tls::open(&settings).map_err(|error| unavailable(error.to_string()))?.map(Arc::new);
        let mut sockets = Vec::new();
        for address in &settings.listen {
            let socket = TcpListener::bind(address).await;
            sockets.push(socket.map_err(|cause| SourceError::Failed {
                source_name: SourceName::Sudo,
                doing: format!("listening on {address}"),
                cause: Box::new(cause),
            })?);
        }
        Ok(Self { sockets, tls, io: config.io, connections_max: config.connections_max.max(1) })
    }

    /// Serves until told to stop.
    pub async fn run(self, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        let seats = Arc::new(Semaphore::new(self.connections_max));
        let mut accepting = JoinSet::new();
        for socket in self.sockets {
            let host = Arc::new(Host { intake: intake.clone(), tls: self.tls.clone(), io: self.io, stop: stop.clone() });
            accepting.spawn(accept(socket, host, Arc::clone(&seats)));
        }
        drop(intake);
        while accepting.join_next().await.is_some() {}
        Ok(())
    }
}

/// What every conversation needs.
struct Host {
    intake: Intake,
    tls: Option<Arc<Tls>>,
    io: Io,
    stop: CancellationToken,
}

async fn accept(socket: TcpListener, host: Arc<Host>, seats: Arc<Semaphore>) {
    let mut conversations = JoinSet::new();
    loop {
        let seat = tokio::select! {
            () = host.stop.cancelled() => break,
            seat = Arc::clone(&seats).acquire_owned() => seat,
        };
        let Ok(seat) = seat else { break };
        let accepted = tokio::select! {
            () = host.stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let conversation = Arc::clone(&host).connect(stream, peer);
                conversations.spawn(async move {
                    conversation.await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection of sudo");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while conversations.try_join_next().is_some() {}
    }
    let ended = async { while conversations.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
        tracing::warn!("what sudo told could not be recorded before the stop");
    }
}

impl Host {
    async fn connect(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let is_local = peer.ip().to_canonical().is_loopback();
        if is_local && !is_root(&stream, peer) {
            tracing::warn!(%peer, "a process that is not root connected as sudo, closing");
            return;
        }
        let remote = (!is_local).then(|| peer.ip().to_canonical());
        let Some(tls) = &self.tls else { return self.converse(stream, remote).await };
        match tokio::time::timeout(HANDSHAKE_WAIT, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => Box::pin(self.converse(stream, remote)).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake of sudo failed"),
            Err(_elapsed) => tracing::debug!(%peer, "a TLS handshake of sudo took too long"),
        }
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, remote: Option<IpAddr>) {
        let mut conversation = Conversation { host: self, remote, accepted: None, io: Time::default() };
        match conversation.run(&mut stream).await {
            Ok(()) => {}
            Err(error @ FrameError::Unfinished) => tracing::warn!(%error, "sudo fell silent within a message"),
            Err(error) => tracing::debug!(%error, "a conversation with sudo ended"),
        }
    }
}

/// sudo opens the connection as root, whoever runs it.
fn is_root(stream: &TcpStream, peer: SocketAddr) -> bool {
    stream.local_addr().is_ok_and(|own| owner::owner(peer, own) == Some(0))
}

/// One connection: a command with those that it runs itself.
struct Conversation<'a> {
    host: &'a Host,
    remote: Option<IpAddr>,
    /// The first accepted command, with its position.
    accepted: Option<(Event, String)>,
    /// How far the I/O log has come.
    io: Time,
}

impl Conversation<'_> {
    async fn run(&mut self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), FrameError> {
        let Ok(first) = tokio::time::timeout(HELLO_WAIT, read(stream)).await else { return Err(FrameError::Slow) };
        let mut next = first?;
        while let Some((message, bytes)) = next {
            let Some(kind) = message.kind else { return Err(FrameError::Malformed) };
            if !self.hear(stream, kind, &bytes).await? {
                return Ok(());
            }
            next = tokio::select! {
                next = read(stream) => next?,
                // The command may go on: sudo is told that nobody records its end.
                () = self.host.stop.cancelled() => return Ok(()),
            };
        }
        Ok(())
    }

    /// Whether to go on.
    async fn hear(&mut self, stream: &mut (impl AsyncWrite + Unpin), kind: Client, bytes: &Bytes) -> Result<bool, FrameError> {
        match kind {
            Client::Hello(_) => {
                // Nothing to record yet, but a commit that succeeds now is the best promise for the next.
                if self.commit("hello".to_owned(), Payload::Nothing, 0).await != Verdict::Done {
                    write(stream, Server::Error(FULL.to_owned())).await?;
                    return Ok(false);
                }
                let server_id = concat!("edgetrail-agent ", env!("CARGO_PKG_VERSION")).to_owned();
                write(stream, Server::Hello(ServerHello { server_id, subcommands: true })).await?;
            }
            Client::Accept(accept) => {
                if accept.expects_io && self.host.io == Io::Refuse {
                    write(stream, Server::Error(NO_IO.to_owned())).await?;
                    return Ok(false);
                }
                let expects_io = accept.expects_io;
                let (event, position) = (Event::accept(accept, self.remote), position(bytes));
                if self.commit(position.clone(), Payload::Sudo(event.clone()), event.time).await != Verdict::Done {
                    // What is not recorded is not done.
                    write(stream, Server::Abort(FULL.to_owned())).await?;
                    return Ok(false);
                }
                if expects_io {
                    write(stream, Server::LogId(position.clone())).await?;
                }
                self.accepted.get_or_insert((event, position));
            }
            Client::Reject(reject) => self.tell(Event::reject(reject, self.remote), position(bytes)).await,
            Client::Alert(alert) => self.tell(Event::alert(alert, self.remote), position(bytes)).await,
            Client::Exit(exit) => {
                if let Some((accepted, position)) = self.accepted.take() {
                    self.tell(accepted.exit(exit), format!("{position}/exit")).await;
                }
                write(stream, Server::CommitPoint(self.io)).await?;
                return Ok(false);
            }
            Client::Restart(_) => {
                write(stream, Server::Error(NO_IO.to_owned())).await?;
                return Ok(false);
            }
            Client::TerminalInput(io)
            | Client::TerminalOutput(io)
            | Client::StandardInput(io)
            | Client::StandardOutput(io)
            | Client::StandardError(io)
            | Client::WindowSize(io)
            | Client::Suspend(io) => self.advance(&io),
        }
        Ok(true)
    }

    /// Records what sudo does not wait for: it is tried until it is done, for nobody would tell it again.
    async fn tell(&self, event: Event, position: String) {
        loop {
            let Verdict::Again { retry_after_s } = self.commit(position.clone(), Payload::Sudo(event.clone()), event.time).await
            else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(retry_after_s)) => {}
                () = self.host.stop.cancelled() => {
                    tracing::error!(position, "what sudo told could not be recorded before the stop");
                    return;
                }
            }
        }
    }

    async fn commit(&self, position: String, payload: Payload, time: u64) -> Verdict {
        let time = if time == 0 { unix_ns() } else { time };
        let source = SourceName::Sudo;
        let observation = Observation { source, position, time, payload, cursor: None, answer: None };
        commit(&self.host.intake, std::iter::once(observation)).await
    }

    /// Every piece of an I/O log says how long after the last one it came.
    fn advance(&mut self, io: &Bytes) {
        #[derive(Clone, Copy, PartialEq, prost::Message)]
        struct Piece {
            #[prost(message, optional, tag = "1")]
            delay: Option<Time>,
        }
        let Some(delay) = Piece::decode(io.clone()).ok().and_then(|piece| piece.delay) else { return };
        let nanoseconds = i64::from(self.io.nanoseconds) + i64::from(delay.nanoseconds);
        self.io.seconds = self.io.seconds.saturating_add(delay.seconds).saturating_add(nanoseconds.div_euclid(1_000_000_000));
        self.io.nanoseconds = i32::try_from(nanoseconds.rem_euclid(1_000_000_000)).unwrap_or_default();
    }
}

const FULL: &str = "edgetrail-agent can't record now: its buffer is full, see `edgetrail-agent status`";
const NO_IO: &str =
    "edgetrail-agent keeps no I/O logs: take log_input and log_output out of sudoers, or set sources.sudo.io = \"discard\"";

/// docs/protocol.md §2: the hash of what sudo told, which has the time to the nanosecond.
fn position(bytes: &Bytes) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The event in one message of a client; `None` where it tells none.
pub fn event(bytes: &[u8]) -> Option<Event> {
    match message::ClientMessage::decode(bytes).ok()?.kind? {
        Client::Accept(accept) => Some(Event::accept(accept, None)),
        Client::Reject(reject) => Some(Event::reject(reject, None)),
        Client::Alert(alert) => Some(Event::alert(alert, None)),
        Client::Exit(exit) => Some(Event::accept(message::Accept::default(), None).exit(exit)),
        Client::Restart(_)
        | Client::TerminalInput(_)
        | Client::TerminalOutput(_)
        | Client::StandardInput(_)
        | Client::StandardOutput(_)
        | Client::StandardError(_)
        | Client::WindowSize(_)
        | Client::Suspend(_)
        | Client::Hello(_) => None,
    }
}
