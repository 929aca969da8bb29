//! One record under way from a message: who, what, from where, how it ended.

use std::borrow::Cow;

use edgetrail_proto::record::{EventCategory, EventType, Record, Resource};
use serde_json::{Map, Value, json};

use super::Message;
use super::connections::{Connections, Process};
use super::message::{By, Change, CommandAct, FAILED_AUTHENTICATION, Said, Statement, Thing};
use super::place::Carrier;
use super::sessions::Sessions;
use crate::normalize::actor::{Actor, Person, host_arn};
use crate::normalize::names::Names;
use crate::normalize::{Act, Draft, Host, Made, act, report};
use crate::sources::journal::Entry;

/// userName of a refused login whose name the host does not know: what was typed may be a password. Source: CloudTrail,
/// ConsoleLogin with a wrong name.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

pub(super) struct Making<'a> {
    /// Where it happened: this host, or the other one whose message it is.
    pub(super) host: Cow<'a, Host>,
    pub(super) entry: &'a Entry,
    pub(super) record: Record,
    pub(super) act: Option<Act>,
    pub(super) time: u64,
    carrier: Carrier<'a>,
    names: &'a mut Names,
    parameters: Map<String, Value>,
    /// Of another host: this one's users are not its users, nor its acts this one's.
    is_foreign: bool,
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
    fn mark(&mut self, key: &str, value: Value) {
        let data = self.record.additional_event_data.as_mut();
        if let Some(mark) = data.and_then(|data| data.get_mut("edgetrail")).and_then(Value::as_object_mut) {
            mark.insert(key.to_owned(), value);
        }
    }

    pub(super) fn say(&mut self, statement: Statement, connections: &mut Connections) {
        let Statement { said, is_step, times, part } = statement;
        let process = self.process();
        let is_told = match (&process, part) {
            // Repetitions are attempts of their own.
            (Some(process), Some(part)) => connections.is_told(process.clone(), part, self.time) && times.is_none(),
            _ => false,
        };
        match said {
            Said::Command { act: CommandAct::Sudo, .. } => {
                if let Some(process) = process {
                    connections.commands(process, self.record.event_id, self.time);
                }
                self.command(said);
            }
            Said::Command { .. } => self.command(said),
            Said::ContinuedCommand { user, text } => {
                let login = self.login_name().unwrap_or(user);
                self.name("ContinueCommand");
                self.acting(&login, &login);
                self.parameter("command", &text);
                if let Some(first) = process.and_then(|process| connections.command(&process)) {
                    self.mark("relatedEventID", first.to_string().into());
                }
            }
            Said::Alert { user, target, tty, cwd, why } => {
                let login = self.login_name().unwrap_or(user);
                self.name("ReportAlert");
                self.acting(&login, &login);
                for (key, value) in [("user", &*target), ("tty", act::terminal(&tty)), ("cwd", &*cwd)] {
                    self.parameter(key, value);
                }
                self.failed("Failed", &why);
            }
            Said::SwitchGroup { user, group, tty, is_refused } => {
                self.name("SwitchGroup");
                self.acting(&user, &user);
                self.parameter("group", &group);
                self.parameter("tty", act::terminal(&tty));
                self.ended(is_refused);
                self.resource("Host::Group", &format!("group/{group}"));
            }
            Said::Login { user, address, port, method, key } => {
                self.sign_in("Login", &user, &address, &port);
                self.parameter("authenticationMethod", &method);
                self.parameter("keyFingerprint", key.as_deref().unwrap_or_default());
                self.record.response_elements = Some(json!({"Login": "Success"}));
                self.act = Some(act::login(&user, &address, self.time));
            }
            Said::LoginFailure { user, address, port, method, is_unknown, why } => {
                self.sign_in("Login", &user, &address, &port);
                if is_unknown {
                    self.unknown(&user);
                }
                self.parameter("authenticationMethod", &method);
                self.record.response_elements = Some(json!({"Login": "Failure"}));
                self.denied(&why);
                self.act = Some(act::login_failure(if is_unknown { "" } else { &user }, &address, self.time));
            }
            Said::Logout { user } => {
                self.sign_in("Logout", &user, "", "");
                self.record.response_elements = Some(json!({"Logout": "Success"}));
                self.act = Some(act::logout(&user, self.time));
            }
            Said::SwitchUser { by, target, tty, is_refused } => self.switch(&by, &target, &tty, is_refused),
            Said::AuthenticationFailure { program, by, user, tty, address, is_unknown, why } => {
                self.name("Authenticate");
                self.record.event_source = event_source(&program);
                let by = self.person(&by);
                self.acting_as(&by, &by);
                if is_unknown {
                    self.unknown(&user);
                }
                self.parameter("user", &user);
                self.parameter("tty", act::terminal(&tty));
                self.address(&address);
                if why == FAILED_AUTHENTICATION {
                    self.act = Some(act::authentication_failure(&program, &user, self.time));
                }
                self.denied(&why);
            }
            Said::Connection { name, user, address, port, why } => {
                self.name(name);
                self.acting(&user, &user);
                self.address(&address);
                self.parameter("user", &user);
                self.parameter("port", &port);
                if let Some(why) = why {
                    self.denied(&why);
                }
            }
            Said::Change(change) => self.change(change),
            Said::ScheduledCommand { user, command, job } => self.scheduled(&user, &command, &job),
            Said::Authorization { user, action, subject, is_refused } => {
                self.name("Authorize");
                self.acting(&user, &user);
                self.parameter("action", &action);
                self.parameter("subject", &subject);
                if is_refused {
                    self.denied("Failed authentication");
                }
            }
            Said::Session { name, program, user, session } => {
                self.name(name);
                let source = event_source(&program);
                self.service(&source);
                self.record.event_source = source;
                self.parameter("user", &user);
                self.parameter("session", &session);
            }
        }
        if let Some(times) = times {
            self.parameters.insert("times".to_owned(), times.into());
        }
        if is_step || is_told {
            self.step();
        }
    }

    /// Who sent it, where that is known.
    fn process(&self) -> Option<Process> {
        let pid = self.entry.number("_PID").or_else(|| self.entry.number("SYSLOG_PID"))?;
        let host = if self.is_foreign { self.host.name.clone() } else { String::new() };
        Some(Process { source: self.carrier.source(), host, pid })
    }

    /// Another record stands for the act: this one is kept only where Data events are.
    fn step(&mut self) {
        self.record.event_category = EventCategory::Data;
        self.record.management_event = Some(false);
        self.act = None;
        self.mark("step", true.into());
    }

    fn command(&mut self, said: Said) {
        let Said::Command { user, target, tty, cwd, command, group, refusal, act } = said else { return };
        let login = self.login_name().unwrap_or_else(|| user.clone());
        self.name("RunCommand");
        self.acting(&login, if refusal.is_some() { &login } else { &target });
        let invoking = if login == user { "" } else { &*user };
        for (key, value) in [
            ("command", &*command),
            ("cwd", &*cwd),
            ("tty", act::terminal(&tty)),
            ("user", &*target),
            ("group", &*group),
            ("invokingUser", invoking),
        ] {
            self.parameter(key, value);
        }
        self.resource("Host::User", &format!("user/{target}"));
        let matched = if refusal.is_some() { "" } else { &*target };
        self.act = Some(match act {
            CommandAct::Sudo => act::sudo_command(&login, matched, &tty, &command, self.time),
            CommandAct::Switch => act::switch_user(&login, &target, self.time),
        });
        match refusal {
            Some(why) => self.denied(&why),
            None => self.record.response_elements = Some(json!({"result": "success"})),
        }
    }

    fn switch(&mut self, by: &By, target: &str, tty: &str, is_refused: bool) {
        let login = self.login_name().map(|name| By { name, uid: None });
        let login = self.person(login.as_ref().unwrap_or(by));
        self.name("SwitchUser");
        let effective = if is_refused { login.clone() } else { (target.to_owned(), self.uid(target)) };
        self.acting_as(&login, &effective);
        self.parameter("user", target);
        self.parameter("tty", act::terminal(tty));
        self.ended(is_refused);
        self.resource("Host::User", &format!("user/{target}"));
        self.act = Some(act::switch_user(&login.0, target, self.time));
    }

    fn ended(&mut self, is_refused: bool) {
        if is_refused {
            self.denied(FAILED_AUTHENTICATION);
        } else {
            self.record.response_elements = Some(json!({"result": "success"}));
        }
    }

    fn scheduled(&mut self, user: &str, command: &str, job: &str) {
        self.name("RunCommand");
        let source = self.record.event_source.clone();
        let uid = self.uid(user);
        self.record.event_type = EventType::AwsServiceEvent;
        let effective = Person { uid: uid.unwrap_or(u32::MAX), name: Some(user.to_owned()) };
        self.record.user_identity = Actor::Daemon { effective, program: source }.identity(&self.host);
        if uid.is_none() {
            self.record.user_identity.principal_id = Some(user.to_owned());
        }
        self.parameter("user", user);
        self.parameter("command", command);
        self.parameter("job", job);
    }

    fn change(&mut self, change: Change) {
        let Change { name, what, subject, by, details, failure, is_own } = change;
        self.name(name);
        match is_own {
            true => {
                let source = self.record.event_source.clone();
                self.service(&source);
            }
            false => self.process_or(&by),
        }
        let (member, kind, path) = what.names();
        self.parameter(member, &subject);
        let uid = details.iter().find(|(key, _)| *key == "uid" && !matches!(what, Thing::User)).map(|(_, uid)| uid.clone());
        if let Some(uid) = uid.and_then(|uid| uid.parse().ok()) {
            // A service that acts for whoever called it names the caller.
            let person = Person { uid, name: self.user_name(uid) };
            self.record.user_identity = Actor::Login { login: person.clone(), effective: person }.identity(&self.host);
        }
        for (key, value) in details {
            self.parameter(key, &value);
        }
        if !subject.is_empty() && !kind.is_empty() {
            let separator = if subject.starts_with('/') { "" } else { "/" };
            self.resource(kind, &format!("{path}{separator}{subject}"));
        }
        if let Some((code, why)) = failure {
            self.failed(code, &why);
        }
        let class = match (name, what) {
            ("CreateUser", _) => act::class::CREATE_USER,
            ("DeleteUser", _) => act::class::DELETE_USER,
            ("CreateGroup", _) => act::class::CREATE_GROUP,
            ("DeleteGroup", _) => act::class::DELETE_GROUP,
            ("ChangePassword", _) => act::class::CHANGE_PASSWORD,
            ("ModifyGroup", _) => act::class::MODIFY_GROUP,
            (_, Thing::User) => act::class::MODIFY_USER,
            _ => return,
        };
        self.act = Some(act::account(class, &subject, self.time));
    }

    /// A login or its end: the user itself acts, though the program runs as root.
    fn sign_in(&mut self, name: &str, user: &str, address: &str, port: &str) {
        self.name(name);
        self.record.event_type = EventType::AwsConsoleSignIn;
        self.acting(user, user);
        self.address(address);
        self.parameter("user", user);
        self.parameter("port", port);
    }

    fn unknown(&mut self, user: &str) {
        self.record.user_identity = Actor::Unknown.identity(&self.host);
        if !user.is_empty() {
            self.record.user_identity.user_name = Some(HIDDEN.to_owned());
        }
    }

    fn acting(&mut self, login: &str, effective: &str) {
        let (login_uid, effective_uid) = (self.uid(login), self.uid(effective));
        self.acting_as(&(login.to_owned(), login_uid), &(effective.to_owned(), effective_uid));
    }

    fn acting_as(&mut self, login: &(String, Option<u32>), effective: &(String, Option<u32>)) {
        let ((login, login_uid), (effective, effective_uid)) = (login.clone(), effective.clone());
        let actor = match login.as_str() {
            "" => Actor::Unknown,
            _ => Actor::NamedAs { login, login_uid, effective, effective_uid },
        };
        self.record.user_identity = actor.identity(&self.host);
    }

    /// Name and id of whom a message tells by either: an id that nobody here has a name for stands for itself.
    fn person(&mut self, by: &By) -> (String, Option<u32>) {
        match by.uid.filter(|_| by.name.is_empty()) {
            Some(uid) => (self.user_name(uid).unwrap_or_else(|| uid.to_string()), Some(uid).filter(|_| !self.is_foreign)),
            None => (by.name.clone(), self.uid(&by.name)),
        }
    }

    fn user_name(&mut self, uid: u32) -> Option<String> {
        match (uid, self.is_foreign) {
            // On every host.
            (0, true) => Some("root".to_owned()),
            (_, true) => None,
            (uid, false) => self.names.user(uid),
        }
    }

    fn uid(&mut self, name: &str) -> Option<u32> {
        if self.is_foreign { None } else { self.names.uid(name) }
    }

    /// The sending process as the kernel names it; where it does not, the user that the message names.
    fn process_or(&mut self, named: &str) {
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
    fn login_name(&mut self) -> Option<String> {
        let uid = self.entry.number("_AUDIT_LOGINUID").filter(|uid| *uid != u32::MAX)?;
        Some(self.names.user(uid).unwrap_or_else(|| uid.to_string()))
    }

    pub(super) fn name(&mut self, name: &str) {
        name.clone_into(&mut self.record.event_name);
    }

    fn address(&mut self, address: &str) {
        if !address.is_empty() {
            address.clone_into(&mut self.record.source_ip_address);
        }
    }

    pub(super) fn parameter(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.parameters.insert(name.to_owned(), value.into());
        }
    }

    fn denied(&mut self, why: &str) {
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

impl Thing {
    /// Its parameter, the type of its resource and the folder of its ARN.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::User => ("userName", "Host::User", "user"),
            Self::Group => ("groupName", "Host::Group", "group"),
            Self::Crontab => ("user", "Host::Crontab", "crontab"),
            Self::Package => ("package", "Host::Package", "package"),
            Self::File => ("path", "Host::File", "file"),
            Self::Interface => ("interface", "Host::NetworkInterface", "interface"),
            Self::Connection => ("connection", "Host::NetworkConnection", "connection"),
            Self::Firewall => ("firewall", "Host::Firewall", "firewall"),
            Self::Host => ("subject", "", ""),
        }
    }
}

/// `PROGRAM.linux`, one name for a program whatever it calls itself.
fn event_source(identifier: &str) -> String {
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
