//! The HTTP door of the sources that are posted to over the network: TCP, TLS where configured, HTTP/1.1 and HTTP/2.
//!
//! What it promises its sources: a caller is who its token or client certificate says before a byte of its body is
//! read; connections, streams, heads, bodies, decompression and waiting are bounded; a stop lets requests in flight
//! end. What is beyond the loopback interface is encrypted and authenticated, or not opened at all.

mod body;

mod certificate;

mod commit;

pub(super) mod connection;

mod reply;

mod tls;

mod token;

#[cfg(test)]
pub(crate) mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) use self::body::{Body, BodyError, Reader};
pub(super) use self::certificate::Certificate;
pub(super) use self::commit::{Verdict, commit};
use self::connection::Bounds;
pub(super) use self::reply::{Reply, ReplyBody, plain};
pub(super) use self::tls::{Files as TlsFiles, Tls, TlsError};
use self::token::Token;
use super::SourceError;
use crate::observation::SourceName;

/// Where a source listens and whom it lets in: the keys that the sections of such sources share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) listen: Vec<SocketAddr>,
    /// PEM: the certificate chain, leaf first, and its key. Both or neither.
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// PEM: callers must show a certificate of one of these.
    pub(super) client_ca: Option<PathBuf>,
    /// Callers must send `Authorization: Bearer …` with one of this file's lines.
    pub(super) token_file: Option<PathBuf>,
    /// Besides, or instead, callers may sign their requests: the source checks that.
    pub(super) is_signed: bool,
    pub(super) connections_max: usize,
    /// Largest body, in bytes, as it is after decompression.
    pub(super) body_bytes_max: u64,
}

/// Sockets that listen, and who may come in.
#[derive(Debug)]
pub(super) struct Listener {
    source: SourceName,
    sockets: Vec<TcpListener>,
    tls: Option<Tls>,
    token: Option<Token>,
    seats: Arc<Semaphore>,
    reader: Reader,
}

/// Who sends a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    /// The name of the token that it showed, where one is asked for.
    pub(super) name: Option<Arc<str>>,
}

/// What a source makes of a request.
pub(super) trait Answer: Send + Sync + 'static {
    /// Whether the source itself proves who sends this request, by a signature over it: no token is then asked for.
    fn proves(&self, _: &Request<Incoming>) -> bool {
        false
    }

    /// `caller` has been let in. The body is still to be read, with `reader`.
    fn answer(&self, request: Request<Incoming>, caller: Caller, reader: &Reader) -> impl Future<Output = Reply> + Send;
}

/// A TLS handshake that takes longer is given up.
pub(super) const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// Of one caller's connection: exporters send one request after the other. Head: what hyper takes for HTTP/2 by default.
const BOUNDS: Bounds =
    Bounds { streams_max: 16, head_bytes_max: 16 * 1024, stream_window_bytes: 1024 * 1024, window_bytes: 1024 * 1024 };

/// How long requests in flight are waited for at a stop.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which means that descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Settings {
    /// What makes these settings unusable, whatever the host offers.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Some("give both `certificate` and `key`, or neither".to_owned());
        }
        if self.client_ca.is_some() && self.certificate.is_none() {
            return Some("`client_ca` needs TLS: give `certificate` and `key`".to_owned());
        }
        let is_guarded = self.certificate.is_some() && (self.client_ca.is_some() || self.token_file.is_some() || self.is_signed);
        let open = self.listen.iter().find(|address| !address.ip().is_loopback() && !is_guarded);
        open.map(|address| {
            format!("{address} is not loopback: give `certificate` and `key`, and `client_ca` or `token_file`, so that nobody else can write events")
        })
    }

    /// Whether the files that they name can be used.
    pub(super) fn ready(&self) -> Result<(), String> {
        Tls::open(self).map_err(|error| error.to_string())?;
        self.token_file.as_deref().map(Token::open).transpose().map(drop).map_err(|error| error.to_string())
    }
}

impl Listener {
    /// Reads the files and listens. Needs a runtime.
    pub(super) async fn open(source: SourceName, settings: &Settings) -> Result<Self, SourceError> {
        let unavailable = |why: String| SourceError::Unavailable { source_name: source, why };
        if let Some(trouble) = settings.trouble() {
            return Err(unavailable(trouble));
        }
        let tls = Tls::open(settings).map_err(|error| unavailable(error.to_string()))?;
        let token = settings.token_file.as_deref().map(Token::open).transpose();
        let token = token.map_err(|error| unavailable(error.to_string()))?;
        let mut sockets = Vec::new();
        for address in &settings.listen {
            let socket = TcpListener::bind(address).await;
            // Another program may let go of the port: worth trying again.
            sockets.push(socket.map_err(|cause| SourceError::Failed {
                source_name: source,
                doing: format!("listening on {address}"),
                cause: Box::new(cause),
            })?);
        }
        let seats = Arc::new(Semaphore::new(settings.connections_max.max(1)));
        Ok(Self { source, sockets, tls, token, seats, reader: Reader::new(settings.body_bytes_max) })
    }

    /// Where it listens: the ports that 0 became.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// Serves until told to stop, then lets requests in flight end.
    pub(super) async fn run(self, door: impl Answer, stop: CancellationToken) {
        let shared = Arc::new(Shared { door, token: self.token, reader: self.reader, source: self.source });
        let tls = self.tls.map(Arc::new);
        let mut accepting = JoinSet::new();
        for socket in self.sockets {
            let (shared, tls, seats, stop) = (Arc::clone(&shared), tls.clone(), Arc::clone(&self.seats), stop.clone());
            accepting.spawn(accept(socket, shared, tls, seats, stop));
        }
        while accepting.join_next().await.is_some() {}
    }
}

/// What every connection of a listener needs.
struct Shared<D> {
    door: D,
    token: Option<Token>,
    reader: Reader,
    source: SourceName,
}

async fn accept<D: Answer>(
    socket: TcpListener,
    shared: Arc<Shared<D>>,
    tls: Option<Arc<Tls>>,
    seats: Arc<Semaphore>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        // A seat first: who finds none waits in the socket's backlog, not in our memory.
        let seat = tokio::select! {
            () = stop.cancelled() => break,
            seat = Arc::clone(&seats).acquire_owned() => seat,
        };
        let Ok(seat) = seat else { break };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, caller)) => {
                let connection = connect(stream, caller, Arc::clone(&shared), tls.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(source = %shared.source, %error, "can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WAIT, ended).await.is_err() {
        tracing::warn!(source = %shared.source, "requests were still in flight at the stop: their callers send again");
    }
}

async fn connect<D: Answer>(
    stream: TcpStream,
    caller: SocketAddr,
    shared: Arc<Shared<D>>,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) {
    let source = shared.source;
    // Answers are small and awaited: they must not wait for more.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%source, %caller, %error, "a connection ended at once");
        return;
    }
    let Some(tls) = tls else { return serve(TokioIo::new(stream), caller, shared, stop).await };
    match tokio::time::timeout(HANDSHAKE_WAIT, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => Box::pin(serve(TokioIo::new(stream), caller, shared, stop)).await,
        Ok(Err(error)) => tracing::debug!(%source, %caller, %error, "a TLS handshake failed"),
        Err(_elapsed) => tracing::debug!(%source, %caller, "a TLS handshake took too long"),
    }
}

async fn serve<D: Answer>(
    io: impl Read + Write + Unpin + Send + 'static,
    caller: SocketAddr,
    shared: Arc<Shared<D>>,
    stop: CancellationToken,
) {
    let source = shared.source;
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request, caller).await) }
    });
    let builder = BOUNDS.builder(TokioExecutor::new());
    if let Err(error) = connection::serve(&builder, io, service, &stop).await {
        tracing::debug!(%source, %caller, %error, "a connection ended");
    }
}

impl<D: Answer> Shared<D> {
    async fn answer(&self, request: Request<Incoming>, address: SocketAddr) -> Reply {
        let name = match &self.token {
            None => None,
            Some(_) if self.door.proves(&request) => None,
            Some(token) => match token.admits(request.headers()) {
                Some(name) => Some(name),
                None => {
                    tracing::warn!(source = %self.source, caller = %address, "refused a request without a right token");
                    return plain(http::StatusCode::UNAUTHORIZED, "send `Authorization: Bearer …` with a token of token_file\n");
                }
            },
        };
        self.door.answer(request, Caller { address, name }, &self.reader).await
    }
}
