//! What is asked of an engine: HTTP/1.1 over its Unix socket, one connection a request.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// Asks one engine.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// A response whose body is still coming. Its connection ends with it.
#[derive(Debug)]
pub(super) struct Stream {
    body: Incoming,
    _connection: JoinSet<()>,
}

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{} can't be reached: is the engine running, and may the agent's user write to its socket? ({cause})", socket.display())]
    Connect { socket: PathBuf, cause: std::io::Error },
    #[error("the engine did not answer: {0}")]
    Http(String),
    #[error("the engine answered {0}")]
    Status(StatusCode),
}

/// An answer's head is waited for this long.
const HEAD_WAIT: Duration = Duration::from_secs(30);

/// A container's description is waited for this long: events wait behind it.
const INSPECT_WAIT: Duration = Duration::from_secs(2);

/// Largest description of a container, bytes.
const INSPECT_BYTES_MAX: usize = 1024 * 1024;

/// Largest list of containers, bytes: some thousand.
const LIST_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Client {
    pub(super) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The events from `since` on, Unix nanoseconds; to the end of the connection, or to `until`.
    pub(super) async fn events(&self, since: u64, until: Option<u64>) -> Result<Stream, ClientError> {
        let until = until.map(|until| format!("&until={}", seconds(until))).unwrap_or_default();
        let path = format!("/events?since={}{until}", seconds(since));
        let (response, connection) = tokio::time::timeout(HEAD_WAIT, self.get(&path))
            .await
            .map_err(|_| ClientError::Http(format!("no answer within {} s", HEAD_WAIT.as_secs())))??;
        Ok(Stream { body: response.into_body(), _connection: connection })
    }

    /// A container's description.
    pub(super) async fn container(&self, id: &str) -> Result<Value, ClientError> {
        let asked = async {
            let (response, _connection) = self.get(&format!("/containers/{id}/json")).await?;
            let body = Limited::new(response.into_body(), INSPECT_BYTES_MAX).collect().await;
            let bytes = body.map_err(|error| ClientError::Http(error.to_string()))?.to_bytes();
            serde_json::from_slice(&bytes).map_err(|error| ClientError::Http(error.to_string()))
        };
        tokio::time::timeout(INSPECT_WAIT, asked).await.unwrap_or_else(|_| Err(ClientError::Http("no answer in time".to_owned())))
    }

    /// The containers that are there, with their images.
    pub(super) async fn containers(&self) -> Result<Vec<(String, String)>, ClientError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            id: String,
            image: String,
        }
        let asked = async {
            let (response, _connection) = self.get("/containers/json?all=1").await?;
            let body = Limited::new(response.into_body(), LIST_BYTES_MAX).collect().await;
            let bytes = body.map_err(|error| ClientError::Http(error.to_string()))?.to_bytes();
            let listed: Vec<Listed> = serde_json::from_slice(&bytes).map_err(|error| ClientError::Http(error.to_string()))?;
            Ok(listed.into_iter().map(|Listed { id, image }| (id, image)).collect())
        };
        tokio::time::timeout(INSPECT_WAIT, asked).await.unwrap_or_else(|_| Err(ClientError::Http("no answer in time".to_owned())))
    }

    async fn get(&self, path: &str) -> Result<(Response<Incoming>, JoinSet<()>), ClientError> {
        let connect = |cause| ClientError::Connect { socket: self.socket.clone(), cause };
        let http = |error: hyper::Error| ClientError::Http(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(connect)?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to a container engine ended");
            }
        });
        // Without a version the engine takes its newest.
        let request = Request::get(path).header(header::HOST, "engine").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| ClientError::Http(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(http)?;
        match response.status() {
            StatusCode::OK => Ok((response, connection)),
            other => Err(ClientError::Status(other)),
        }
    }
}

impl Stream {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Http(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// `SECONDS.NANOSECONDS`, as `since` takes it.
fn seconds(time: u64) -> String {
    format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000)
}
