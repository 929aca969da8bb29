//! containerd's events, over the gRPC of its socket.
//!
//! containerd replays nothing: what happened while nobody was subscribed is lost to everybody. Each interruption, the
//! agent's own restart too, is therefore a gap without a count. What a container is to run is asked for, bounded in time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::ClientError;
use super::message::{ContainerRequest, ContainerResponse, ContainersResponse, Envelope, NamespacesResponse};
use super::{Ended, Images, RETRY_MAX, RETRY_MIN};
use crate::clock::unix_ns;
use crate::observation::{Cursor, GapCause, Intake, Loss, Observation, Payload, SourceName, Unparsed};
use crate::sources::file::{Format, Line};
use crate::sources::lines::Mapping;

/// One containerd.
#[derive(Debug)]
pub(super) struct Containerd {
    pub(super) socket: PathBuf,
    pub(super) label: Arc<str>,
    pub(super) inspect: bool,
    pub(super) mapping: Arc<Mapping>,
    pub(super) images: Images,
    /// Until when everything is known, Unix nanoseconds; 0: nothing is yet.
    pub(super) known: u64,
}

/// One HTTP/2 connection.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

const SUBSCRIBE: &str = "/containerd.services.events.v1.Events/Subscribe";
const VERSION: &str = "/containerd.services.version.v1.Version/Version";
const LIST_NAMESPACES: &str = "/containerd.services.namespaces.v1.Namespaces/List";
const LIST_CONTAINERS: &str = "/containerd.services.containers.v1.Containers/List";
const GET_CONTAINER: &str = "/containerd.services.containers.v1.Containers/Get";

/// Largest message that is read, bytes. Source: containerd's own limit.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A gRPC message's frame: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

/// An answer's head is waited for this long.
const HEAD_WAIT: Duration = Duration::from_secs(30);

/// A container's description is waited for this long: events wait behind it.
const INSPECT_WAIT: Duration = Duration::from_secs(2);

impl Containerd {
    /// Until told to stop.
    pub(super) async fn follow(mut self, intake: Intake, stop: CancellationToken) {
        let mut pause = RETRY_MIN;
        let mut is_silent = false;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.session(&intake, &mut pause) => ended,
            };
            match ended {
                Ended::Stopped => return,
                Ended::Client(error) => {
                    if !std::mem::replace(&mut is_silent, true) {
                        tracing::warn!(socket = %self.label, %error, "containerd can't be followed: trying again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
            }
        }
    }

    /// One connection: what was missed, then what comes.
    async fn session(&mut self, intake: &Intake, pause: &mut Duration) -> Ended {
        let mut is_subscribed = false;
        let ended = self.subscribed(intake, pause, &mut is_subscribed).await;
        if is_subscribed {
            // Nothing was missed up to here.
            self.known = self.known.max(unix_ns());
        }
        match ended {
            Ok(()) => Ended::Client(ClientError::Http("the stream of events ended".to_owned())),
            Err(ended) => ended,
        }
    }

    async fn subscribed(&mut self, intake: &Intake, pause: &mut Duration, is_subscribed: &mut bool) -> Result<(), Ended> {
        let connection = Connection::open(&self.socket).await?;
        let mut asked = std::pin::pin!(connection.ask(SUBSCRIBE, None, &[]));
        // containerd says nothing before there is an event. What it answers to the next request shows that it has this one.
        let answered = tokio::select! {
            biased;
            answer = asked.as_mut() => Some(answer?),
            proof = tokio::time::timeout(HEAD_WAIT, connection.ask(VERSION, None, &[])) => {
                proof.map_err(|_| ClientError::Http(format!("no answer within {} s", HEAD_WAIT.as_secs())))??;
                None
            }
        };
        (*pause, *is_subscribed) = (RETRY_MIN, true);
        let (from, now) = (std::mem::replace(&mut self.known, unix_ns()), unix_ns());
        let payload = match from {
            0 => Payload::Nothing,
            from => {
                let evidence = format!("{}: containerd replays nothing, and nobody was subscribed", self.label);
                Payload::Loss(Loss { cause: GapCause::SourceUnreadable, count: None, exact: false, evidence, from, to: now })
            }
        };
        self.send(intake, Uuid::new_v4().to_string(), now, payload).await?;
        // Containers that were there before: their images are worth knowing, not worth waiting for.
        drop(tokio::time::timeout(INSPECT_WAIT, connection.learn(&self.images)).await);
        let mut events = match answered {
            Some(answer) => answer,
            None => asked.await?,
        }
        .into_body();
        let mut buffer = BytesMut::new();
        while let Some(frame) = events.frame().await {
            let frame = frame.map_err(|error| ClientError::Http(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(message) = message(&mut buffer)? {
                self.take(&message, &connection, intake).await?;
            }
        }
        Ok(())
    }

    async fn take(&mut self, message: &Bytes, connection: &Connection, intake: &Intake) -> Result<(), Ended> {
        let position = hex::encode(Sha256::digest(message).get(..8).unwrap_or_default());
        let Ok(envelope) = Envelope::decode(message.clone()) else {
            let payload = Payload::Unparsed(Unparsed { bytes: message.to_vec(), reason: "no event of containerd".to_owned() });
            return self.send(intake, format!("0:{position}"), unix_ns(), payload).await;
        };
        let time = Some(envelope.time()).filter(|time| *time > 0).unwrap_or_else(unix_ns);
        self.known = self.known.max(time);
        let mut event = envelope.event();
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        self.images.learn(text("object"), text("image"));
        let is_begun = matches!(envelope.topic.as_str(), "/containers/create" | "/tasks/start");
        if let (true, Some(id)) = (self.inspect && is_begun, event.get("object").and_then(Value::as_str)) {
            let asked = connection.container(&envelope.namespace, id);
            let details = tokio::time::timeout(INSPECT_WAIT, asked).await.ok().flatten();
            event.extend(details.map(|details| ("inspect".to_owned(), details)));
        }
        let bytes = Bytes::from(Value::Object(event).to_string());
        let format = Format::Mapped(Arc::clone(&self.mapping));
        let payload = Payload::Line(Line { bytes, format, path: Arc::clone(&self.label) });
        self.send(intake, format!("{time}:{position}"), time, payload).await
    }

    async fn send(&self, intake: &Intake, position: String, time: u64, payload: Payload) -> Result<(), Ended> {
        let position = format!("{}:{position}", self.label);
        let cursor = Some(Cursor { key: self.label.to_string(), value: self.known.to_string().into_bytes() });
        let observation = Observation { source: SourceName::Docker, position, time, payload, cursor, answer: None };
        intake.send(vec![observation]).await.map_err(|_| Ended::Stopped)
    }
}

impl Connection {
    async fn open(socket: &std::path::Path) -> Result<Self, ClientError> {
        let connect = |cause| ClientError::Connect { socket: socket.to_owned(), cause };
        let stream = UnixStream::connect(socket).await.map_err(connect)?;
        let (sender, driver) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| ClientError::Http(error.to_string()))?;
        let mut driving = JoinSet::new();
        driving.spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the connection to containerd ended");
            }
        });
        Ok(Self { sender, _driver: driving })
    }

    /// A call with one message; its answer's messages are still to come.
    async fn ask(&self, path: &str, namespace: Option<&str>, message: &[u8]) -> Result<Response<Incoming>, ClientError> {
        let http = |error: &dyn std::fmt::Display| ClientError::Http(error.to_string());
        let mut body = vec![0; FRAME_BYTES];
        body.splice(1.., u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend_from_slice(message);
        let mut request = Request::post(format!("http://containerd{path}"))
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"));
        if let Some(namespace) = namespace {
            request = request.header("containerd-namespace", namespace);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| http(&error))?;
        let response = self.sender.clone().send_request(request).await.map_err(|error| http(&error))?;
        // A refusal without a message has its status in the head.
        let refused = response.headers().get("grpc-status").is_some_and(|status| status != "0");
        match response.status() {
            StatusCode::OK if refused => {
                let why = response.headers().get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or("no reason");
                Err(ClientError::Http(format!("it refused: {why}")))
            }
            StatusCode::OK => Ok(response),
            other => Err(ClientError::Status(other)),
        }
    }

    /// What a container is to run; nothing where it can't be asked any more.
    async fn container(&self, namespace: &str, id: &str) -> Option<Value> {
        let request = ContainerRequest { id: id.to_owned() }.encode_to_vec();
        self.tell::<ContainerResponse>(GET_CONTAINER, Some(namespace), &request).await?.details()
    }

    /// The images of all containers of all namespaces.
    async fn learn(&self, images: &Images) -> Option<()> {
        let namespaces = self.tell::<NamespacesResponse>(LIST_NAMESPACES, None, &[]).await?;
        for namespace in namespaces.names() {
            let Some(containers) = self.tell::<ContainersResponse>(LIST_CONTAINERS, Some(namespace), &[]).await else { continue };
            for (id, image) in containers.images() {
                images.learn(id, image);
            }
        }
        Some(())
    }

    /// The one message of an answer.
    async fn tell<M: prost::Message + Default>(&self, path: &str, namespace: Option<&str>, request: &[u8]) -> Option<M> {
        let mut body = self.ask(path, namespace, request).await.ok()?.into_body();
        let mut buffer = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            if let Some(message) = message(&mut buffer).ok()? {
                return M::decode(message).ok();
            }
        }
        None
    }
}

/// The next whole message; an error where there can be none.
fn message(buffer: &mut BytesMut) -> Result<Option<Bytes>, ClientError> {
    let Some((&[compressed, a, b, c, d], rest)) = buffer.split_first_chunk::<FRAME_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if compressed != 0 || length > MESSAGE_BYTES_MAX {
        return Err(ClientError::Http(format!("a message of {length} bytes, or compressed: neither was asked for")));
    }
    if rest.len() < length {
        return Ok(None);
    }
    buffer.advance(FRAME_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}
