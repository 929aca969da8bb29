//! The events of a container engine: Docker, or Podman, whose API is the same; and of containerd ([`containerd`]).
//!
//! The stream has no acknowledgement; it is resumed by time (`since`). An engine keeps its last events only and forgets
//! them when it restarts, so after each interruption what it replays must hold the last event that is known: if it does
//! not, events are missing, and a gap says so. What a container was started with is asked for, bounded in time.

mod client;

mod containerd;

mod images;

pub mod message;

mod seen;

#[cfg(test)]
mod real;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::client::{Client, ClientError};
use self::containerd::Containerd;
pub use self::images::Images;
use self::seen::Seen;
use super::SourceError;
use super::file::{Format, Line};
use super::inlet::{Frame, Frames};
use super::lines::Mapping;
use super::lines::shape::AccessShape;
use crate::clock::unix_ns;
use crate::observation::{Cursor, GapCause, Intake, Loss, Observation, Payload, SourceName, Unparsed};

/// The section `[sources.docker]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Sockets of engines, such as `/var/run/docker.sock` and `/run/podman/podman.sock`; off while empty.
    pub sockets: Vec<PathBuf>,
    /// Sockets of containerd, such as `/run/containerd/containerd.sock`.
    pub containerd: Vec<PathBuf>,
    /// Whether containers are asked what they were started with: privileges, mounts, command.
    pub inspect: bool,
}

/// One engine.
#[derive(Debug)]
struct Engine {
    socket: PathBuf,
    label: Arc<str>,
    inspect: bool,
    mapping: Arc<Mapping>,
    seen: Seen,
    images: Images,
}

/// Between two attempts to reach an engine: first and last.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Events that Docker keeps for a replay. Source: moby, daemon/events, `eventsLimit`.
const REPLAYED_MAX: usize = 256;

impl Default for Config {
    fn default() -> Self {
        Self { sockets: Vec::new(), containerd: Vec::new(), inspect: true }
    }
}

impl Config {
    pub const fn is_off(&self) -> bool {
        self.sockets.is_empty() && self.containerd.is_empty()
    }
}

/// Follows every engine until told to stop. `cursors` are this source's; `images` learns what containers are made of.
pub async fn run(
    config: Config,
    cursors: Vec<Cursor>,
    images: Images,
    intake: Intake,
    stop: CancellationToken,
) -> Result<(), SourceError> {
    let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::Docker, why };
    let mut following = JoinSet::new();
    for socket in config.sockets {
        let label: Arc<str> = socket.to_string_lossy().into();
        let name = if label.contains("podman") { "podman" } else { "docker" };
        let mapping = Mapping::open(name, AccessShape::default()).map_err(|error| unavailable(error.to_string()))?;
        let cursor = cursors.iter().find(|cursor| cursor.key == *label);
        let seen = Seen::restore(cursor.map(|cursor| cursor.value.as_slice()));
        let engine = Engine { socket, label, inspect: config.inspect, mapping, seen, images: images.clone() };
        following.spawn(engine.follow(intake.clone(), stop.clone()));
    }
    for socket in config.containerd {
        let label: Arc<str> = socket.to_string_lossy().into();
        let mapping = Mapping::open("containerd", AccessShape::default()).map_err(|error| unavailable(error.to_string()))?;
        let cursor = cursors.iter().find(|cursor| cursor.key == *label);
        let known = cursor.and_then(|cursor| std::str::from_utf8(&cursor.value).ok()?.parse().ok()).unwrap_or(0);
        let containerd = Containerd { socket, label, inspect: config.inspect, mapping, known, images: images.clone() };
        following.spawn(containerd.follow(intake.clone(), stop.clone()));
    }
    drop(intake);
    while following.join_next().await.is_some() {}
    Ok(())
}

impl Engine {
    async fn follow(mut self, intake: Intake, stop: CancellationToken) {
        let mut pause = RETRY_MIN;
        let mut is_silent = false;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.session(&intake, &mut pause) => ended,
            };
            match ended {
                Ok(()) => {}
                Err(Ended::Stopped) => return,
                Err(Ended::Client(error)) => {
                    if !std::mem::replace(&mut is_silent, true) {
                        tracing::warn!(socket = %self.label, %error, "a container engine can't be followed: trying again");
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
    async fn session(&mut self, intake: &Intake, pause: &mut Duration) -> Result<(), Ended> {
        let now = unix_ns();
        let client = Client::new(&self.socket);
        if self.seen.is_new() {
            // The start is made durable: a restart before the first event must not start later.
            self.seen.begin(now);
            self.send(intake, vec![self.observation(String::new(), now, Payload::Nothing)]).await?;
        } else {
            self.replay(&client, now, intake).await?;
        }
        // Containers that were there before: their images are worth knowing, not worth waiting for.
        for (id, image) in client.containers().await.unwrap_or_default() {
            self.images.learn(&id, &image);
        }
        let mut stream = client.events(self.seen.since(), None).await?;
        *pause = RETRY_MIN;
        let mut frames = Frames::lines();
        while let Some(chunk) = stream.next().await? {
            let mut found = Vec::new();
            frames.push(&chunk, &mut found);
            self.take(found, &client, intake).await?;
        }
        Ok(())
    }

    /// What happened since the last known event: without that one in it, something is missing.
    async fn replay(&mut self, client: &Client, now: u64, intake: &Intake) -> Result<(), Ended> {
        let mut stream = client.events(self.seen.since(), Some(now)).await?;
        let (mut frames, mut found) = (Frames::lines(), Vec::new());
        while let Some(chunk) = stream.next().await? {
            frames.push(&chunk, &mut found);
        }
        found.extend(frames.finish());
        let known = found.iter().any(|frame| matches!(frame, Frame::Whole(line) if self.seen.is_last(line)));
        let may_be_cut = if self.seen.has_last() { !known } else { found.len() >= REPLAYED_MAX };
        if may_be_cut {
            let evidence = format!(
                "{}: its replay of {} events does not reach back to the last one known: it restarted, or more happened than it keeps",
                self.label,
                found.len()
            );
            let loss =
                Loss { cause: GapCause::SourceUnreadable, count: None, exact: false, evidence, from: self.seen.time(), to: now };
            self.send(intake, vec![self.observation(Uuid::new_v4().to_string(), now, Payload::Loss(loss))]).await?;
        }
        self.take(found, client, intake).await
    }

    async fn take(&mut self, found: Vec<Frame>, client: &Client, intake: &Intake) -> Result<(), Ended> {
        for frame in found {
            let line = match frame {
                Frame::Whole(line) => line,
                // An engine counts no octets: there is no cut one.
                Frame::TooLong(beginning) | Frame::Cut(beginning) => {
                    let reason = "an event of more bytes than are read: only its beginning is here".to_owned();
                    let payload = Payload::Unparsed(Unparsed { bytes: beginning.to_vec(), reason });
                    self.send(intake, vec![self.observation(Uuid::new_v4().to_string(), unix_ns(), payload)]).await?;
                    continue;
                }
            };
            let Ok(Value::Object(mut event)) = serde_json::from_slice(&line) else {
                let payload = Payload::Unparsed(Unparsed { bytes: line.to_vec(), reason: "no event of an engine".to_owned() });
                self.send(intake, vec![self.observation(Uuid::new_v4().to_string(), unix_ns(), payload)]).await?;
                continue;
            };
            let time = time_of(&event).unwrap_or_else(unix_ns);
            let Some(position) = self.seen.take(&line, time) else { continue };
            if let (Some(id), Some(image)) = of_container(&event) {
                self.images.learn(id, image);
            }
            let details = if self.inspect { inspected(&event, client).await } else { None };
            let bytes = match details {
                Some(details) => {
                    event.insert("inspect".to_owned(), details);
                    Bytes::from(Value::Object(event).to_string())
                }
                None => line,
            };
            let format = Format::Mapped(Arc::clone(&self.mapping));
            let payload = Payload::Line(Line { bytes, format, path: Arc::clone(&self.label) });
            self.send(intake, vec![self.observation(position, time, payload)]).await?;
        }
        Ok(())
    }

    fn observation(&self, position: String, time: u64, payload: Payload) -> Observation {
        let position = format!("{}:{position}", self.label);
        let cursor = Some(Cursor { key: self.label.to_string(), value: self.seen.encode() });
        Observation { source: SourceName::Docker, position, time, payload, cursor, answer: None }
    }

    async fn send(&self, intake: &Intake, group: Vec<Observation>) -> Result<(), Ended> {
        intake.send(group).await.map_err(|_| Ended::Stopped)
    }
}

/// Why a session ended.
enum Ended {
    Stopped,
    Client(ClientError),
}

impl From<ClientError> for Ended {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// The container that an event is of, and its image.
fn of_container(event: &Map<String, Value>) -> (Option<&str>, Option<&str>) {
    if event.get("Type").and_then(Value::as_str) != Some("container") {
        return (None, None);
    }
    let actor = event.get("Actor");
    let image = actor.and_then(|actor| actor.pointer("/Attributes/image")).and_then(Value::as_str);
    (actor.and_then(|actor| actor.get("ID")).and_then(Value::as_str), image)
}

fn time_of(event: &Map<String, Value>) -> Option<u64> {
    let nanoseconds = event.get("timeNano").and_then(Value::as_u64);
    nanoseconds.or_else(|| event.get("time").and_then(Value::as_u64)?.checked_mul(1_000_000_000))
}

/// What of a container is worth knowing when it is made or started; nothing where it is gone already.
async fn inspected(event: &Map<String, Value>, client: &Client) -> Option<Value> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    if text("Type") != Some("container") || !matches!(text("Action"), Some("create" | "start")) {
        return None;
    }
    let id = event.get("Actor")?.get("ID")?.as_str()?;
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let whole = client.container(id).await.ok()?;
    let (config, host) = (whole.get("Config")?, whole.get("HostConfig")?);
    let mounts: Vec<Value> = whole
        .get("Mounts")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|mount| json!({"type": mount.get("Type"), "source": mount.get("Source"), "destination": mount.get("Destination"), "rw": mount.get("RW")}))
        .collect();
    Some(json!({
        "command": config.get("Cmd"),
        "entrypoint": config.get("Entrypoint"),
        "environment": config.get("Env"),
        "user": config.get("User"),
        "privileged": host.get("Privileged"),
        "capabilitiesAdded": host.get("CapAdd"),
        "securityOptions": host.get("SecurityOpt"),
        "networkMode": host.get("NetworkMode"),
        "pidMode": host.get("PidMode"),
        "ipcMode": host.get("IpcMode"),
        "userNamespaceMode": host.get("UsernsMode"),
        "binds": host.get("Binds"),
        "ports": host.get("PortBindings"),
        "mounts": mounts,
    }))
}

/// Whether an engine's socket is there and may be written to, for `check`.
pub fn ready(socket: &Path) -> Result<(), String> {
    std::os::unix::net::UnixStream::connect(socket).map(drop).map_err(|error| error.to_string())
}
