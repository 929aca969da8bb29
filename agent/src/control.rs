//! The control socket: `status`, `tap` and `buffer repair` of a running agent.
//!
//! One request line, then answer lines, all JSON. Only root and the agent's own user may connect. Nothing can be taken
//! away through it: a repair adds what was put aside.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::buffer;
use crate::pipeline::Tap;

/// Longest request line, bytes.
const REQUEST_BYTES_MAX: u64 = 4096;

/// Connections at once: a few taps and the odd status.
const CONNECTIONS_MAX: usize = 16;

/// How long a client may take for its request.
const REQUEST_WAIT: Duration = Duration::from_secs(5);

/// What a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    Status,
    /// Records from now on, one a line, until the client goes.
    Tap,
    /// Bring back what damaged files still hold: one answer, when it is done.
    Repair,
}

/// All that `status` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: &'static str,
    /// Unix nanoseconds.
    pub started: u64,
    pub sources: Vec<SourceStatus>,
    /// Whether the buffer can take more.
    pub room: bool,
    pub buffer: buffer::Status,
    pub uplink: UplinkStatus,
    /// When the certificate ends, Unix seconds.
    pub certificate_ends: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    pub source: String,
    pub on: bool,
    /// Why it is off, or what is wrong with it though it is on.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UplinkStatus {
    /// The collector, while connected.
    pub connected: Option<String>,
    /// Since when, Unix nanoseconds.
    pub since: Option<u64>,
    /// Collectors that would be preferred to it.
    pub passed_over: Vec<PassedOver>,
    pub in_flight: usize,
    pub trouble: Option<String>,
    pub forked: bool,
    /// Streams that stand still until another collector brings what it gave a receipt for.
    pub waiting: Vec<WaitingStream>,
}

/// A collector that would be preferred, and why it is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    pub collector: String,
    pub error: String,
    /// Unix nanoseconds.
    pub since: u64,
}

/// A stream of which the collector lacks batches that this agent holds no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingStream {
    pub stream: String,
    /// First and last missing batch.
    pub from: u64,
    pub to: u64,
    /// SHA-256 of the receipt key that vouches for them.
    pub signer: String,
}

/// Gives the status of now; may block on disk.
pub type StatusOf = Arc<dyn Fn() -> Result<Status, buffer::BufferError> + Send + Sync>;

/// Repairs the buffer; blocks on disk.
pub type RepairOf = Arc<dyn Fn() -> Result<Vec<buffer::Repaired>, buffer::BufferError> + Send + Sync>;

/// What a connection may ask.
#[derive(Clone)]
pub struct Offers {
    pub status: StatusOf,
    pub repair: RepairOf,
    pub tap: Tap,
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offers").finish_non_exhaustive()
    }
}

/// The socket, listening.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    offers: Offers,
    /// One repair at a time.
    repairs: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Control {
    /// Listens on `path`; a socket that a killed agent left is replaced. Needs a runtime.
    pub fn listen(path: &Path, offers: Offers) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), offers, repairs: Arc::default() })
    }

    /// Serves until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(serve(stream, self.offers.clone(), Arc::clone(&self.repairs)))),
                    Err(error) => {
                        tracing::warn!(%error, "the control socket could not accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        connections.shutdown().await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket could not be removed");
        }
    }
}

async fn serve(stream: UnixStream, offers: Offers, repairs: Arc<Mutex<()>>) {
    if let Err(error) = answer(stream, offers, repairs).await {
        tracing::debug!(%error, "a control client went away");
    }
}

async fn answer(mut stream: UnixStream, offers: Offers, repairs: Arc<Mutex<()>>) -> io::Result<()> {
    let Offers { status, repair, tap } = offers;
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(256, reader.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_WAIT, reader.read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Request::Status) => {
            let status = tokio::task::spawn_blocking(move || status()).await.map_err(io::Error::other)?;
            writer.write_all(&line_of(status)?).await
        }
        Ok(Request::Repair) => {
            let _alone = repairs.lock_owned().await;
            let repaired = tokio::task::spawn_blocking(move || repair()).await.map_err(io::Error::other)?;
            writer.write_all(&line_of(repaired)?).await
        }
        Ok(Request::Tap) => {
            let mut records = tap.subscribe();
            // The client's end of file is its going away.
            let mut gone = [0; 1];
            let mut reader = reader.into_inner().into_inner();
            loop {
                let record = tokio::select! {
                    _ = reader.read(&mut gone) => return Ok(()),
                    record = records.recv() => record,
                };
                match record {
                    Ok(record) => {
                        writer.write_all(&record).await?;
                        writer.write_all(b"\n").await?;
                    }
                    Err(RecvError::Lagged(missed)) => writer.write_all(format!("{{\"missed\":{missed}}}\n").as_bytes()).await?,
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        }
        Err(error) => {
            let text = serde_json::json!({ "error": format!("ask for status, tap or repair: {error}") });
            writer.write_all(format!("{text}\n").as_bytes()).await
        }
    }
}

fn line_of<T: Serialize>(answer: Result<T, buffer::BufferError>) -> io::Result<Vec<u8>> {
    let mut line = match answer {
        Ok(answer) => serde_json::to_vec(&answer)?,
        Err(error) => serde_json::to_vec(&serde_json::json!({ "error": error.to_string() }))?,
    };
    line.push(b'\n');
    Ok(line)
}
