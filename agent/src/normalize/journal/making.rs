//! One record under way from a message: where it happened, who acted, from where. What was done is [`super::saying`]'s.

use std::borrow::Cow;

use edgetrail_proto::record::{EventType, Record, Resource};
use serde_json::{Map, Value};

use super::Message;
use super::message::By;
use super::place::Carrier;
use super::sessions::Sessions;
use crate::normalize::actor::{Actor, Person, host_arn};
use crate::normalize::names::Names;
use crate::normalize::{Act, Draft, Host, Made, report};
use crate::sources::journal::Entry;

pub(super) struct Making<'a> {
    /// Where it happened: this host, or the other one whose message it is.
    pub(super) host: Cow<'a, Host>,
    pub(super) entry: &'a Entry,
    pub(super) record: Record,
    pub(super) act: Option<Act>,
    pub(super) time: u64,
    pub(super) carrier: Carrier<'a>,
    names: &'a mut Names,
    pub(super) parameters: Map<String, Value>,
    /// Of another host: this one's users are not its users, nor its acts this one's.
    pub(super) is_foreign: bool,
}

impl<'a> Making<'a> {
    pub(super) fn new(host: &'a Host, names: &'a mut Names, message: &Message<'a>, program: &str) -> Self {
        let Message { carrier, event_id, time, entry } = *message;
        let mut record = report::blank(host, Some(carrier.source()), event_id, time);
        record.event_source = event_source(program);
        record.user_agent = Some(entry.text("_EXE").map_or_else(|| program.to_owned(), Cow::into_owned));
        let named = entry.text("_HOSTNAME");
        let elsewhere = carrier.elsewhere(host, named.as_deref());
        let is_foreign = elsewhere.is_some();
        if let Some(name) = &elsewhere {
            record.source_ip_address.clone_from(name);
        }
        let keep_raw = host.keep_raw;
        let host = elsewhere.map_or(Cow::Borrowed(host), |name| Cow::Owned(Host { name, ..host.clone() }));
        let mut making = Self { host, entry, record, act: None, time, carrier, names, parameters: Map::new(), is_foreign };
        if let Some(name) = named.filter(|_| is_foreign) {
            making.mark("loggedBy", name.into());
        }
        if keep_raw {
            let fields = entry.fields.iter().map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into()));
            let raw = Value::Object(fields.collect());
            making.mark("raw", raw);
        }
        making
    }

    /// The login session that the sender was in, and where it was opened from.
    pub(super) fn place(&mut self, sessions: &mut Sessions) {
        let is_login = self.record.event_name == "Login" && self.record.error_code.is_none();
        let from = Some(&*self.record.source_ip_address).filter(|from| is_login && *from != self.host.name);
        let (session, address) = sessions.place(self.entry, from);
        if let Some(session) = session {
            self.parameters.entry("session").or_insert_with(|| session.into());
        }
        if let Some(address) = address.filter(|_| self.record.source_ip_address == self.host.name) {
            self.record.source_ip_address = address;
        }
    }

    pub(super) fn done(mut self) -> Draft {
        self.record.request_parameters = (!self.parameters.is_empty()).then_some(Value::Object(self.parameters));
        self.record.fit();
        let act = self.act.filter(|_| !self.is_foreign);
        Draft { record: Made::Record(Box::new(self.record)), act }
    }

    /// A member of `additionalEventData.edgetrail`.
    pub(super) fn mark(&mut self, key: &str, value: Value) {
        let data = self.record.additional_event_data.as_mut();
        if let Some(mark) = data.and_then(|data| data.get_mut("edgetrail")).and_then(Value::as_object_mut) {
            mark.insert(key.to_owned(), value);
        }
    }

    pub(super) fn acting(&mut self, login: &str, effective: &str) {
        let (login_uid, effective_uid) = (self.uid(login), self.uid(effective));
        self.acting_as(&(login.to_owned(), login_uid), &(effective.to_owned(), effective_uid));
    }

    pub(super) fn acting_as(&mut self, login: &(String, Option<u32>), effective: &(String, Option<u32>)) {
        let ((login, login_uid), (effective, effective_uid)) = (login.clone(), effective.clone());
        let actor = match login.as_str() {
            "" => Actor::Unknown,
            _ => Actor::NamedAs { login, login_uid, effective, effective_uid },
        };
        self.record.user_identity = actor.identity(&self.host);
    }

    /// Name and id of whom a message tells by either: an id that nobody here has a name for stands for itself.
    pub(super) fn person(&mut self, by: &By) -> (String, Option<u32>) {
        match by.uid.filter(|_| by.name.is_empty()) {
            Some(uid) => (self.user_name(uid).unwrap_or_else(|| uid.to_string()), Some(uid).filter(|_| !self.is_foreign)),
            None => (by.name.clone(), self.uid(&by.name)),
        }
    }

    pub(super) fn user_name(&mut self, uid: u32) -> Option<String> {
        match (uid, self.is_foreign) {
            // On every host.
            (0, true) => Some("root".to_owned()),
            (_, true) => None,
            (uid, false) => self.names.user(uid),
        }
    }

    pub(super) fn uid(&mut self, name: &str) -> Option<u32> {
        if self.is_foreign { None } else { self.names.uid(name) }
    }

    /// The sending process as the kernel names it; where it does not, the user that the message names.
    pub(super) fn process_or(&mut self, named: &str) {
        let Some(uid) = self.entry.number("_UID") else { return self.acting(named, named) };
        let names = &mut *self.names;
        let mut person = |uid| Person { uid, name: names.user(uid) };
        let login = self.entry.number("_AUDIT_LOGINUID").filter(|uid| *uid != u32::MAX).map(&mut person);
        let actor = Actor::of(login, person(uid), &self.record.event_source);
        self.record.user_identity = actor.identity(&self.host);
    }

    /// The host does it by itself.
    pub(super) fn service(&mut self, program: &str) {
        self.record.event_type = EventType::AwsServiceEvent;
        let effective = Person { uid: 0, name: Some("root".to_owned()) };
        self.record.user_identity = Actor::Daemon { effective, program: program.to_owned() }.identity(&self.host);
    }

    /// The login user whom the kernel names.
    pub(super) fn login_name(&mut self) -> Option<String> {
        let uid = self.entry.number("_AUDIT_LOGINUID").filter(|uid| *uid != u32::MAX)?;
        Some(self.names.user(uid).unwrap_or_else(|| uid.to_string()))
    }

    pub(super) fn name(&mut self, name: &str) {
        name.clone_into(&mut self.record.event_name);
    }

    pub(super) fn address(&mut self, address: &str) {
        if !address.is_empty() {
            address.clone_into(&mut self.record.source_ip_address);
        }
    }

    pub(super) fn parameter(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.parameters.insert(name.to_owned(), value.into());
        }
    }

    pub(super) fn denied(&mut self, why: &str) {
        self.failed("AccessDenied", why);
    }

    pub(super) fn failed(&mut self, code: &str, why: &str) {
        self.record.error_code = Some(code.to_owned());
        self.record.error_message = (!why.is_empty()).then(|| why.to_owned());
    }

    pub(super) fn resource(&mut self, kind: &str, path: &str) {
        if path.ends_with('/') {
            return;
        }
        let (account_id, arn) = (Some(self.host.account.to_string()), Some(host_arn(&self.host, path)));
        self.record.resources = Some(vec![Resource { account_id, kind: Some(kind.to_owned()), arn, ..Resource::default() }]);
    }
}

/// `PROGRAM.linux`, one name for a program whatever it calls itself.
pub(super) fn event_source(identifier: &str) -> String {
    let program = match identifier {
        "sshd-session" | "sshd-auth" => "sshd",
        "CRON" | "crond" | "CROND" | "/usr/sbin/cron" => "cron",
        "su-l" => "su",
        "[RPM]" => "rpm",
        "packagekitd" => "packagekit",
        other => other,
    };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c.to_ascii_lowercase() } else { '-' };
    // Source: a DNS label, which eventSource's first part should look like, has at most 63 bytes.
    let program: String = program.chars().map(allowed).take(63).collect();
    format!("{}.linux", if program.is_empty() { "unknown" } else { &program })
}
