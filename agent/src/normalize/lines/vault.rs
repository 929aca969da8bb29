//! Vault's and OpenBao's audit entries: a request and its response are one act.
//!
//! The response's entry holds the whole request, so it makes the record; the request's entry waits for it. One that is
//! not answered within [`ANSWER_MAX`], or has no place to wait, makes the record itself, and a response that comes after all
//! makes one that names the first. What waits is part of a cursor and outlives a restart. Values are HMACs already: Vault made them.

use std::collections::VecDeque;
use std::sync::Arc;

use edgetrail_proto::record::{EventType, Record, Resource, UserIdentity};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Place, category, event_name, event_type, identity, mapped, object, set_category, source_name};
use crate::observation::{Cursor, SourceName};
use crate::sources::lines::mapping::Mapping;
use crate::sources::lines::shape::AccessShape;
use crate::sources::lines::template::pascal;
use crate::sources::lines::{fields, time};

/// How long a request waits for its response, nanoseconds: Vault gives up on one after 90 s.
const ANSWER_MAX: u64 = 120 * 1_000_000_000;

/// Requests that wait at once; then the oldest is told without its response.
const WAITING_MAX: usize = 256;

/// Bytes of entries that wait at once: the cursor that holds them is written with every entry.
const WAITING_BYTES_MAX: usize = 512 * 1024;

/// Requests that were told without their responses and are remembered.
const TOLD_MAX: usize = 1024;

/// The cursor's key, under the source `vault`.
pub const CURSOR_KEY: &str = "requests";

/// One entry of an audit device.
#[derive(Debug)]
pub(super) struct Entry(Map<String, Value>);

/// Requests without a response so far.
#[derive(Debug, Default)]
pub struct Requests {
    waiting: VecDeque<Waiting>,
    /// Told already, oldest first.
    told: VecDeque<Told>,
    is_changed: bool,
}

/// A request that makes a record of its own, and where that is from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    id: String,
    pub(crate) source: SourceName,
    pub(crate) position: String,
}

/// All that is carried, as a cursor holds it.
#[derive(Default, Serialize, Deserialize)]
struct Saved {
    waiting: VecDeque<Waiting>,
    told: VecDeque<Told>,
}

/// A request's entry, with all that its record needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// `request.id`.
    id: String,
    pub(crate) source: SourceName,
    pub(crate) position: String,
    pub(crate) path: Option<String>,
    /// When it was read, Unix nanoseconds.
    pub(crate) time: u64,
    /// The mapping's name; its own again after a restart where it ships.
    mapping_name: String,
    #[serde(skip)]
    mapping: Option<Arc<Mapping>>,
    pub(crate) line: String,
}

/// What an entry is to the pairing.
pub(crate) enum Part {
    /// Waits now; those that had waited too long are to be told.
    Request,
    /// To be told: a response, or what has no pair.
    Whole,
    /// To be told: the response to a request that has its record.
    Late(Told),
}

/// Why a line is no entry.
pub(super) fn refusal(line: &str) -> &'static str {
    // Source: Vault's audit, `format=jsonx`: JSON as XML.
    if line.contains("<json:object") {
        return "JSONx is not read: set `format=json` on the audit device";
    }
    "no entry of an audit device: it has no `type` and `request`"
}

impl Entry {
    /// `None` where it is no entry. A prefix that the device was told to write goes before the object.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let object = line.get(line.find('{')?..)?;
        let Value::Object(members) = serde_json::from_str(object).ok()? else { return None };
        (members.get("type").is_some_and(Value::is_string) && members.get("request").is_some_and(Value::is_object))
            .then_some(Self(members))
    }

    fn text(&self, path: &str) -> Option<String> {
        fields::said(&self.0, path).and_then(fields::text)
    }

    fn value(&self, path: &str) -> Option<Value> {
        fields::said(&self.0, path).filter(|value| !value.as_object().is_some_and(Map::is_empty)).cloned()
    }
}

impl Requests {
    /// What waited when the agent stopped.
    pub fn restore(cursor: Option<&Cursor>) -> Self {
        let saved: Option<Saved> = cursor.and_then(|cursor| serde_json::from_slice(&cursor.value).ok());
        // As it was written when there was nothing but requests that wait.
        let older = || cursor.and_then(|cursor| serde_json::from_slice(&cursor.value).ok()).unwrap_or_default();
        let Saved { waiting, told } = saved.unwrap_or_else(|| Saved { waiting: older(), ..Saved::default() });
        Self { waiting, told, is_changed: false }
    }

    /// What waits now, where it changed.
    pub(crate) fn take_cursor(&mut self) -> Option<Cursor> {
        let saved = || Saved { waiting: self.waiting.clone(), told: self.told.clone() };
        let value = || serde_json::to_vec(&saved()).unwrap_or_default();
        std::mem::take(&mut self.is_changed).then(|| Cursor { key: CURSOR_KEY.to_owned(), value: value() })
    }

    /// Looks at an entry: a request waits, a response ends its request's wait.
    pub(crate) fn offer(
        &mut self,
        source: SourceName,
        position: &str,
        path: Option<&str>,
        time: u64,
        mapping: &Arc<Mapping>,
        line: &[u8],
    ) -> Part {
        let Some(entry) = std::str::from_utf8(line).ok().and_then(Entry::parse) else { return Part::Whole };
        let Some(id) = entry.text("request.id") else { return Part::Whole };
        match entry.text("type").as_deref() {
            Some("request") => {
                let line = String::from_utf8_lossy(line).into_owned();
                let (position, path) = (position.to_owned(), path.map(str::to_owned));
                let (mapping_name, mapping) = (mapping.name.clone(), Some(Arc::clone(mapping)));
                self.waiting.push_back(Waiting { id, source, position, path, time, mapping_name, mapping, line });
                self.is_changed = true;
                Part::Request
            }
            _ => {
                let before = self.waiting.len();
                self.waiting.retain(|waiting| waiting.id != id);
                self.is_changed |= self.waiting.len() < before;
                match self.told.iter().rposition(|told| told.id == id).and_then(|at| self.told.remove(at)) {
                    Some(told) => {
                        self.is_changed = true;
                        Part::Late(told)
                    }
                    None => Part::Whole,
                }
            }
        }
    }

    /// Those that have waited too long, or are too many.
    pub(crate) fn due(&mut self, now: u64) -> Vec<Waiting> {
        let mut due = Vec::new();
        let mut bytes: usize = self.waiting.iter().map(|waiting| waiting.line.len()).sum();
        while let Some(first) = self.waiting.front() {
            let is_late = now.saturating_sub(first.time) >= ANSWER_MAX;
            if !is_late && self.waiting.len() <= WAITING_MAX && bytes <= WAITING_BYTES_MAX {
                break;
            }
            bytes = bytes.saturating_sub(first.line.len());
            due.extend(self.waiting.pop_front());
            self.is_changed = true;
        }
        for Waiting { id, source, position, .. } in &due {
            self.told.push_back(Told { id: id.clone(), source: *source, position: position.clone() });
        }
        let over = self.told.len().saturating_sub(TOLD_MAX);
        self.told.drain(..over);
        due
    }

    /// All of them: no response will come any more.
    pub(crate) fn drain(&mut self) -> Vec<Waiting> {
        self.is_changed |= !self.waiting.is_empty();
        self.waiting.drain(..).collect()
    }

    /// When the first is due, Unix nanoseconds.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.time.saturating_add(ANSWER_MAX))
    }
}

impl Waiting {
    pub(crate) fn mapping(&self) -> Option<Arc<Mapping>> {
        let shipped = |name: &str| Mapping::open(name, AccessShape::default()).ok();
        self.mapping.clone().or_else(|| shipped(&self.mapping_name)).or_else(|| shipped("vault"))
    }
}

/// The record of an entry.
pub(super) fn record(place: &Place<'_>, mapping: &Mapping, entry: &Entry) -> Record {
    let mut record = place.blank(fields::find(&entry.0, "time").and_then(|value| time::of_value(value, place.time)));
    let operation = entry.text("request.operation").unwrap_or_default();
    let path = entry.text("request.path").unwrap_or_default();
    let facts = object([
        ("operation", Some(Value::from(operation.clone()))),
        ("path", Some(Value::from(short(&path, &entry.text("request.mount_point").unwrap_or_default())))),
        ("mount_type", entry.value("request.mount_type")),
    ]);
    let rule = mapping.events.iter().find(|event| mapped::fits(event, &facts)).map(|event| &event.record);
    let filled = |choice: Option<&Vec<_>>| {
        choice.and_then(|choice: &Vec<crate::sources::lines::template::Template>| choice.iter().find_map(|it| it.fill(&facts)))
    };
    let source = mapping.record.source.iter().find_map(|it| it.fill(&facts)).and_then(|text| source_name(&text));
    record.event_source = source.unwrap_or_else(|| "vault.hashicorp".to_owned());
    let named = filled(rule.map(|rule| &rule.name)).and_then(|name| event_name(&name));
    record.event_name = named.unwrap_or_else(|| format!("{}Path", pascal(&operation)));
    record.read_only = Some(matches!(operation.as_str(), "read" | "list" | "help" | "header"));
    if filled(rule.map(|rule| &rule.read_only)).as_deref() == Some("true") {
        record.read_only = Some(true);
    }
    if let Some(category) = filled(rule.map(|rule| &rule.category)).and_then(|name| category(&name)) {
        set_category(&mut record, category);
    }
    record.event_type = filled(rule.map(|rule| &rule.kind)).and_then(|name| event_type(&name)).unwrap_or(EventType::AwsApiCall);
    record.user_identity = actor(place, &record, entry, &path);
    if let Some(address) = entry.text("request.remote_address") {
        record.source_ip_address = address;
    }
    record.user_agent = entry.text("request.headers.user-agent");
    if let Some(error) = entry.text("error") {
        let is_login = record.event_type == EventType::AwsConsoleSignIn;
        record.error_code = Some(error_code(&error, is_login));
        record.error_message = Some(error);
    }
    record.request_id = entry.text("request.id");
    record.request_parameters = Some(Value::Object(object([
        ("path", Some(Value::from(path.clone()))),
        ("operation", Some(Value::from(operation))),
        ("namespace", entry.value("request.namespace.path")),
        ("mountPoint", entry.value("request.mount_point")),
        ("mountType", entry.value("request.mount_type")),
        ("data", entry.value("request.data")),
        ("headers", entry.value("request.headers")),
        ("wrapTtl", entry.value("request.wrap_ttl")),
        ("policies", entry.value("auth.policies")),
        ("tokenType", entry.value("auth.token_type")),
        ("accessor", entry.value("auth.accessor")),
        ("answered", (entry.text("type").as_deref() == Some("request")).then_some(Value::Bool(false))),
    ])));
    record.response_elements = entry.value("response");
    let resource = Resource {
        account_id: Some(place.host.account.to_string()),
        kind: Some("Vault::Path".to_owned()),
        arn: Some(place.arn("vault", &path)),
        ..Resource::default()
    };
    record.resources = Some(vec![resource]);
    record
}

/// The token's owner. A login has no token yet: it is who logged in, or tried to under the name in the path.
fn actor(place: &Place<'_>, record: &Record, entry: &Entry, path: &str) -> UserIdentity {
    let provider = record.event_source.as_str();
    let is_login = record.event_type == EventType::AwsConsoleSignIn;
    let block = if is_login && entry.value("response.auth.display_name").is_some() { "response.auth" } else { "auth" };
    let text = |member: &str| entry.text(&format!("{block}.{member}"));
    if let Some(name) = text("display_name") {
        let policies = fields::find(&entry.0, &format!("{block}.policies")).and_then(Value::as_array);
        let is_root = name == "root" && policies.is_some_and(|policies| policies.iter().any(|policy| policy == "root"));
        let id = text("entity_id").or_else(|| text("accessor"));
        let mut identity = identity::user(&name, id, provider);
        if is_root {
            identity.kind = Some("Root".to_owned());
            identity.account_id = Some(place.host.account.to_string());
        }
        return identity;
    }
    let tried =
        path.split_once("/login/").map(|(_, name)| name.trim_end_matches('/')).filter(|name| is_login && !name.is_empty());
    match tried.map(str::to_owned).or_else(|| text("metadata.username")).or_else(|| text("entity_id")) {
        Some(name) => identity::user(&name, None, provider),
        None => identity::unknown(),
    }
}

/// The path as rules know it: a mount, which may stand in folders, as one segment.
fn short(path: &str, mount: &str) -> String {
    let (before, name) = mount.strip_prefix("auth/").map_or(("", mount), |name| ("auth/", name));
    let name = name.trim_end_matches('/');
    match path.strip_prefix(mount) {
        Some(rest) if name.contains('/') => format!("{before}{}/{rest}", name.replace('/', "-")),
        _ => path.to_owned(),
    }
}

/// Vault's own words for what went wrong, as a name. Source: its logical errors; several are one text. A login that is
/// refused is denied, however its method says so.
fn error_code(error: &str, is_login: bool) -> String {
    const KNOWN: &[(&str, &str)] = &[
        ("permission denied", "AccessDenied"),
        ("missing client token", "AccessDenied"),
        ("invalid username or password", "AccessDenied"),
        ("bad token", "AccessDenied"),
        ("invalid token", "AccessDenied"),
        ("ldap operation failed", "AccessDenied"),
        ("unsupported path", "UnsupportedPath"),
        ("unsupported operation", "UnsupportedOperation"),
        ("no handler for route", "UnsupportedPath"),
        ("rate limit quota exceeded", "RateLimitExceeded"),
        ("internal error", "InternalError"),
        ("invalid request", "InvalidRequest"),
    ];
    let lower = error.to_lowercase();
    let found = KNOWN.iter().find(|(words, _)| lower.contains(words));
    let name = found.map_or("InvalidRequest", |(_, name)| name);
    let is_own = matches!(name, "InternalError" | "RateLimitExceeded" | "UnsupportedOperation");
    if is_login && !is_own { "AccessDenied".to_owned() } else { name.to_owned() }
}
