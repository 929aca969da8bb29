//! The control socket: `status` and `tap` of a running agent.
//!
//! One request line, then answer lines, all JSON. Only root and the agent's own user may connect; nothing can be
//! changed through it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
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
    /// Why it is off.
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
}

/// A collector that would be preferred, and why it is not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    pub collector: String,
    pub error: String,
    /// Unix nanoseconds.
    pub since: u64,
}

/// Gives the status of now; may block on disk.
pub type StatusOf = Arc<dyn Fn() -> Result<Status, buffer::BufferError> + Send + Sync>;

/// The socket, listening.
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    status: StatusOf,
    tap: Tap,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Control {
    /// Listens on `path`; a socket that a killed agent left is replaced. Needs a runtime.
    pub fn listen(path: &Path, status: StatusOf, tap: Tap) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), status, tap })
    }

    /// Serves until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(serve(stream, Arc::clone(&self.status), self.tap.clone()))),
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

async fn serve(stream: UnixStream, status: StatusOf, tap: Tap) {
    if let Err(error) = answer(stream, status, tap).await {
        tracing::debug!(%error, "a control client went away");
    }
}

async fn answer(mut stream: UnixStream, status: StatusOf, tap: Tap) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(256, reader.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_WAIT, reader.read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Request::Status) => {
            let status = tokio::task::spawn_blocking(move || status()).await.map_err(io::Error::other)?;
            let text = match status {
                Ok(status) => serde_json::to_string(&status)?,
                Err(error) => serde_json::json!({ "error": error.to_string() }).to_string(),
            };
            writer.write_all(format!("{text}\n").as_bytes()).await
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
            let text = serde_json::json!({ "error": format!("ask for status or tap: {error}") });
            writer.write_all(format!("{text}\n").as_bytes()).await
        }
    }
}
