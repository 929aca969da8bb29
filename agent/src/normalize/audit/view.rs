//! An event with its records' fields read, and the questions that all decoding asks of it.

use std::borrow::Cow;

use super::sessions::UNSET;
use crate::normalize::actor::{Actor, Person};
use crate::normalize::names::Names;
use crate::sources::audit::fields::{Fields, Part};
use crate::sources::audit::{Event, RawRecord, kinds};

/// The texts that a [`View`] borrows from.
#[derive(Debug)]
pub struct Texts<'a> {
    records: Vec<(&'a RawRecord, Cow<'a, str>)>,
    related: Vec<Cow<'a, str>>,
}

/// An event whose records' fields have been read.
#[derive(Debug)]
pub struct View<'a> {
    pub records: Vec<(&'a RawRecord, Fields<'a>)>,
    pub related: Vec<Fields<'a>>,
    /// Which record says what the event is.
    primary: usize,
    /// The system call's.
    syscall: Option<usize>,
}

impl<'a> Texts<'a> {
    pub fn of(event: &'a Event) -> Self {
        let records = event.records.iter().map(|record| (record, record.text())).collect();
        Self { records, related: event.related.iter().map(RawRecord::text).collect() }
    }
}

impl<'a> View<'a> {
    pub fn of(texts: &'a Texts<'a>) -> Self {
        let records: Vec<_> = texts.records.iter().map(|(record, text)| (*record, Fields::parse(text))).collect();
        let related = texts.related.iter().map(|text| Fields::parse(text)).collect();
        let is_auxiliary = |record: &RawRecord| record.kind.number().is_some_and(kinds::is_auxiliary);
        let syscall = records.iter().position(|(record, _)| record.is(kinds::SYSCALL));
        let primary = records.iter().position(|(record, _)| !is_auxiliary(record)).or(syscall).unwrap_or(0);
        Self { records, related, primary, syscall }
    }

    /// What the event is, as a record type; 0 where it has a name only.
    pub fn kind(&self) -> u16 {
        self.records.get(self.primary).and_then(|(record, _)| record.kind.number()).unwrap_or(0)
    }

    /// The type's name.
    pub fn kind_name(&self) -> String {
        self.records.get(self.primary).map(|(record, _)| record.kind.to_string()).unwrap_or_default()
    }

    pub fn primary(&self) -> Option<&Fields<'a>> {
        self.records.get(self.primary).map(|(_, fields)| fields)
    }

    pub fn first(&self, kind: u16) -> Option<&Fields<'a>> {
        self.all(kind).next()
    }

    pub fn all(&self, kind: u16) -> impl Iterator<Item = &Fields<'a>> {
        self.records.iter().filter(move |(record, _)| record.is(kind)).map(|(_, fields)| fields)
    }

    /// Each record's fields once: the primary record's, the system call's, then the others'.
    fn by_rank(&self) -> impl Iterator<Item = &Fields<'a>> {
        let (primary, syscall) = (Some(self.primary), self.syscall.filter(|at| *at != self.primary));
        let is_other = move |at: &usize| Some(*at) != primary && Some(*at) != syscall;
        let order = primary.into_iter().chain(syscall).chain((0..self.records.len()).filter(is_other));
        order.filter_map(|at| self.records.get(at).map(|(_, fields)| fields))
    }

    /// The first value of a key: of the primary record, then of the system call's, then of any.
    pub fn get(&self, key: &str) -> Option<Cow<'_, str>> {
        self.by_rank().find_map(|fields| fields.get(key))
    }

    /// A number of the record that knows the process: the system call's, else the primary.
    pub fn id(&self, key: &str) -> Option<u32> {
        let syscall = self.first(kinds::SYSCALL);
        syscall.into_iter().chain(self.primary()).find_map(|fields| fields.number(key))
    }

    /// The audit session, if the process is in one.
    pub fn session(&self) -> Option<u32> {
        self.id("ses").filter(|ses| *ses != UNSET)
    }

    /// The login user, if there is one.
    pub fn login(&self, names: &mut Names) -> Option<Person> {
        self.person("auid", names).filter(|person| person.uid != UNSET)
    }

    /// Whom the process acts as.
    pub fn effective(&self, names: &mut Names) -> Option<Person> {
        self.person("euid", names).or_else(|| self.person("uid", names))
    }

    /// The user that a field's id names; auditd's name for it (`AUID="alice"`) wins, for the log may be another host's.
    fn person(&self, key: &str, names: &mut Names) -> Option<Person> {
        let uid = self.id(key)?;
        let name = self.named(&key.to_ascii_uppercase()).or_else(|| if uid == UNSET { None } else { names.user(uid) });
        Some(Person { uid, name })
    }

    /// The name that auditd gives an id (`AUID`, `ID`), if it knew one.
    pub fn named(&self, key: &str) -> Option<String> {
        self.by_rank().find_map(|fields| named(fields, key))
    }

    pub fn actor(&self, names: &mut Names) -> Actor {
        match (self.login(names), self.effective(names)) {
            (login, Some(effective)) => Actor::of(login, effective, &self.event_source()),
            (Some(login), None) if login.uid == 0 => Actor::Login { effective: login.clone(), login },
            (Some(login), None) => {
                let (uid, label) = (login.uid, login.label());
                Actor::NamedAs { login: label, login_uid: Some(uid), effective: "unknown".to_owned(), effective_uid: None }
            }
            (None, None) => Actor::Unknown,
        }
    }

    /// The acting program's path, or its short name; of a type that one program alone writes, that one.
    pub fn exe(&self) -> Option<Cow<'_, str>> {
        let told = self.get("exe").or_else(|| self.get("comm"));
        told.or_else(|| match self.kind() {
            kinds::USER_CMD => Some("sudo".into()),
            kinds::DAEMON_START..=1299 => Some("auditd".into()),
            _ => None,
        })
    }

    /// The acting program's name, as in eventSource: lower case, no directory, no version of its file.
    pub fn program(&self) -> String {
        self.exe().as_deref().map_or_else(|| "kernel".to_owned(), program_name)
    }

    pub fn event_source(&self) -> String {
        format!("{}.linux", self.program())
    }

    pub fn succeeded(&self) -> Option<bool> {
        let syscall = self.first(kinds::SYSCALL);
        self.primary().into_iter().chain(syscall).find_map(Fields::succeeded)
    }
}

/// The name that auditd added to a record for an id. A program's own words (`msg='…'`) are none, nor is what auditd
/// says where it found nothing: `unset`, `unknown(1002)`.
pub fn named(fields: &Fields<'_>, key: &str) -> Option<String> {
    let told = fields.iter().find(|field| field.is(key) && field.part != Part::Message)?.decoded();
    let is_name = !matches!(told.as_ref(), "" | "?" | "(null)" | "unset" | "unknown") && !told.starts_with("unknown(");
    is_name.then(|| told.into_owned())
}

/// `sshd` of `/usr/sbin/sshd`, of its helpers `sshd-session` and `sshd-auth`, and of `/usr/sbin/sshd (deleted)`.
pub fn program_name(exe: &str) -> String {
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    let name = exe.rsplit('/').next().unwrap_or(exe);
    let name = match name {
        "sshd-session" | "sshd-auth" => "sshd",
        "su-l" => "su",
        "crond" => "cron",
        "systemd-executor" => "systemd",
        other => other,
    };
    let allowed = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c.to_ascii_lowercase() } else { '-' };
    // Source: a DNS label, which eventSource's first part should look like, has at most 63 bytes.
    let name: String = name.chars().map(allowed).take(63).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}
