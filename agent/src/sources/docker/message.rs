//! The messages of containerd's events, by their field numbers, as the JSON that the mapping reads.
//!
//! Source: containerd 1.6 and 2.0, api/services/events/v1/events.proto, api/events/*.proto. Fields are read by a table and not by generated
//! types: what a later containerd adds is passed over, and an event of no known type keeps its bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{self, WireType};
use serde_json::{Map, Value, json};

/// `Envelope`: one event.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Envelope {
    #[prost(message, optional, tag = "1")]
    time: Option<Time>,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(string, tag = "3")]
    pub(super) topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanoseconds: i32,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `GetContainerRequest` of the containers service.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerRequest {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// `GetContainerResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainerResponse {
    #[prost(message, optional, tag = "1")]
    container: Option<Container>,
}

/// `Container`, as far as it says what runs.
#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "3")]
    image: String,
    #[prost(message, optional, tag = "5")]
    spec: Option<Any>,
}

/// `ListContainersResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

/// `ListNamespacesResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NamespacesResponse {
    #[prost(message, repeated, tag = "1")]
    namespaces: Vec<Namespace>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Namespace {
    #[prost(string, tag = "1")]
    name: String,
}

impl ContainersResponse {
    /// `(container, image)`
    pub(super) fn images(&self) -> impl Iterator<Item = (&str, &str)> {
        self.containers.iter().map(|container| (container.id.as_str(), container.image.as_str()))
    }
}

impl NamespacesResponse {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(|namespace| namespace.name.as_str())
    }
}

/// What is read of one type of event: `(field, name)`.
type Fields = &'static [(u32, &'static str)];

/// Texts and numbers of the events, by their types. `object` is what an event is about.
const EVENTS: &[(&str, Fields)] = &[
    ("containerd.events.ContainerCreate", &[(1, "object"), (2, "image")]),
    ("containerd.events.ContainerUpdate", &[(1, "object"), (2, "image"), (4, "snapshotKey")]),
    ("containerd.events.ContainerDelete", &[(1, "object")]),
    ("containerd.events.ContentDelete", &[(1, "object")]),
    ("containerd.events.ImageCreate", &[(1, "object")]),
    ("containerd.events.ImageUpdate", &[(1, "object")]),
    ("containerd.events.ImageDelete", &[(1, "object")]),
    ("containerd.events.NamespaceCreate", &[(1, "object")]),
    ("containerd.events.NamespaceUpdate", &[(1, "object")]),
    ("containerd.events.NamespaceDelete", &[(1, "object")]),
    ("containerd.events.SnapshotPrepare", &[(1, "object"), (2, "parent")]),
    ("containerd.events.SnapshotCommit", &[(1, "object"), (2, "name")]),
    ("containerd.events.SnapshotRemove", &[(1, "object")]),
    ("containerd.events.TaskCreate", &[(1, "object"), (2, "bundle"), (5, "checkpoint"), (6, "pid")]),
    ("containerd.events.TaskStart", &[(1, "object"), (2, "pid")]),
    ("containerd.events.TaskDelete", &[(1, "object"), (2, "pid"), (3, "exitStatus"), (5, "exec")]),
    ("containerd.events.TaskExit", &[(1, "object"), (2, "exec"), (3, "pid"), (4, "exitStatus")]),
    ("containerd.events.TaskOOM", &[(1, "object")]),
    ("containerd.events.TaskExecAdded", &[(1, "object"), (2, "exec")]),
    ("containerd.events.TaskExecStarted", &[(1, "object"), (2, "exec"), (3, "pid")]),
    ("containerd.events.TaskPaused", &[(1, "object")]),
    ("containerd.events.TaskResumed", &[(1, "object")]),
    ("containerd.events.TaskCheckpointed", &[(1, "object"), (2, "checkpoint")]),
];

/// Names of fields that stand by themselves; others are details.
const OWN: &[&str] = &["object", "image", "exec", "pid", "exitStatus"];

/// Bytes kept of an event of no known type.
const UNKNOWN_BYTES_MAX: usize = 8 * 1024;

impl Envelope {
    /// Unix nanoseconds; 0 where it does not say.
    pub(super) fn time(&self) -> u64 {
        let Some(Time { seconds, nanoseconds }) = self.time else { return 0 };
        let seconds = u64::try_from(seconds).unwrap_or_default();
        seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(nanoseconds).unwrap_or_default())
    }

    /// What an event is about, where it says.
    pub(super) fn event(&self) -> Map<String, Value> {
        let mut event = Map::new();
        let (kind, action) = kind_and_action(&self.topic);
        for (name, value) in [("topic", self.topic.as_str()), ("namespace", &self.namespace), ("type", kind)] {
            event.insert(name.to_owned(), value.into());
        }
        event.insert("timeNano".to_owned(), self.time().into());
        let mut details = Map::new();
        if let Some(Any { type_url, value }) = &self.event {
            let name = type_url.rsplit('/').next().unwrap_or_default();
            match EVENTS.iter().find(|(known, _)| *known == name) {
                Some((_, fields)) => {
                    for (name, value) in read(value.clone(), fields) {
                        let place = if OWN.contains(&name) { &mut event } else { &mut details };
                        place.insert(name.to_owned(), value);
                    }
                }
                None => {
                    let kept = value.get(..UNKNOWN_BYTES_MAX).unwrap_or(value);
                    details.insert("type".to_owned(), name.into());
                    details.insert("bytes".to_owned(), STANDARD.encode(kept).into());
                }
            }
        }
        // The end of a command within a container, not of the container.
        let is_exec = event.get("exec").is_some_and(|exec| Some(exec) != event.get("object"));
        let action = if self.topic == "/tasks/exit" && is_exec { "exec-exit" } else { action };
        event.insert("action".to_owned(), action.into());
        if !details.is_empty() {
            event.insert("details".to_owned(), Value::Object(details));
        }
        event
    }
}

impl ContainerResponse {
    /// What a container is to run, out of its OCI runtime specification.
    pub(super) fn details(&self) -> Option<Value> {
        let container = self.container.as_ref()?;
        let spec: Value = serde_json::from_slice(&container.spec.as_ref()?.value).ok()?;
        let at = |pointer: &str| spec.pointer(pointer);
        let mounts: Option<Vec<&Value>> = at("/mounts").and_then(Value::as_array).map(|mounts| {
            let is_bind = |mount: &&Value| mount.get("type").and_then(Value::as_str) == Some("bind");
            mounts.iter().filter(is_bind).collect()
        });
        Some(json!({
            "image": container.image,
            "command": at("/process/args"),
            "environment": at("/process/env"),
            "workingDirectory": at("/process/cwd"),
            "user": at("/process/user"),
            "capabilities": at("/process/capabilities/bounding"),
            "noNewPrivileges": at("/process/noNewPrivileges"),
            "namespaces": at("/linux/namespaces"),
            "mounts": mounts,
        }))
    }
}

/// `/tasks/exec-added` in two: `task`, `exec-added`.
fn kind_and_action(topic: &str) -> (&str, &str) {
    let mut parts = topic.trim_matches('/').splitn(2, '/');
    let (kind, action) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    (kind.strip_suffix('s').unwrap_or(kind), action)
}

/// The texts and numbers of these fields; nothing behind a fault.
fn read(mut bytes: Bytes, fields: Fields) -> Vec<(&'static str, Value)> {
    let mut found = Vec::new();
    while bytes.has_remaining() {
        let Ok((tag, wire)) = encoding::decode_key(&mut bytes) else { break };
        let name = fields.iter().find(|(field, _)| *field == tag).map(|(_, name)| *name);
        let value = match (name, wire) {
            (Some(name), WireType::LengthDelimited) => {
                let Some(text) = text(&mut bytes) else { break };
                Some((name, Value::from(text))).filter(|(_, value)| *value != "")
            }
            (Some(name), WireType::Varint) => match encoding::decode_varint(&mut bytes) {
                Ok(number) => Some((name, Value::from(number))),
                Err(_) => break,
            },
            _ => match encoding::skip_field(wire, tag, &mut bytes, encoding::DecodeContext::default()) {
                Ok(()) => None,
                Err(_) => break,
            },
        };
        found.extend(value);
    }
    found
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(encoding::decode_varint(bytes).ok()?).ok()?;
    if length > bytes.remaining() {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes.split_to(length)).into_owned())
}

/// For the fuzz target and the tests: an envelope's event.
pub fn event(envelope: &[u8]) -> Option<Map<String, Value>> {
    <Envelope as prost::Message>::decode(envelope).ok().map(|envelope| envelope.event())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn envelope(topic: &str, type_url: &str, value: &[u8]) -> Vec<u8> {
        let event = Some(Any { type_url: type_url.to_owned(), value: Bytes::copy_from_slice(value) });
        let time = Some(Time { seconds: 1_700_000_000, nanoseconds: 7 });
        Envelope { time, namespace: "shop".to_owned(), topic: topic.to_owned(), event }.encode_to_vec()
    }

    #[test]
    fn events_say_what_they_are_about() {
        // TaskExit: container_id web1, id e1, pid 7, exit_status 3.
        let exit = b"\x0a\x04web1\x12\x02e1\x18\x07\x20\x03";
        let made = event(&envelope("/tasks/exit", "containerd.events.TaskExit", exit)).unwrap();
        let expected = json!({"topic": "/tasks/exit", "namespace": "shop", "type": "task", "action": "exec-exit", "object": "web1",
            "exec": "e1", "pid": 7, "exitStatus": 3, "timeNano": 1_700_000_000_000_000_007_u64});
        assert_eq!(Value::Object(made), expected);
        let own = b"\x0a\x04web1\x12\x04web1\x18\x07";
        assert_eq!(event(&envelope("/tasks/exit", "containerd.events.TaskExit", own)).unwrap()["action"], "exit");
        let unknown = event(&envelope("/sandboxes/start", "containerd.events.SandboxStart", b"\x0a\x01s")).unwrap();
        assert_eq!(
            (&unknown["type"], &unknown["details"]),
            (&json!("sandboxe"), &json!({"type": "containerd.events.SandboxStart", "bytes": "CgFz"}))
        );
    }

    #[test]
    fn an_envelope_cut_anywhere_never_panics() {
        let whole = envelope("/tasks/exit", "containerd.events.TaskExit", b"\x0a\x04web1\x12\x02e1\x18\x07\x20\x03");
        for end in 0..whole.len() {
            let _either = event(&whole[..end]);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _either = event(&bytes);
            for (name, _) in EVENTS {
                let _either = event(&envelope("/tasks/exit", name, &bytes));
            }
        }
    }
}
