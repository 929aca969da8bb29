//! Journal entries as records.
//!
//! The actor is what the kernel told journald of the sender (`_AUDIT_LOGINUID`, `_UID`), completed by the message.
//! Anybody can write to the journal under any identifier: an entry counts only if its sender is root or the program
//! itself, as installed. docs/events.md lists what is made of what.

mod message;

use edgetrail_proto::record::{EventType, Record, Resource};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::message::{Account, Said};
use super::actor::{Actor, Person, host_arn};
use super::names::Names;
use super::{Act, Draft, Host, Made, act, report};
use crate::observation::SourceName;
use crate::sources::journal::{Entry, PROGRAMS};

#[cfg(test)]
const PROGRAMS_TRIED: &[&str] = PROGRAMS;

/// systemd's messages about units. Source: systemd's catalogue, sd-messages.h.
const UNIT_STARTED: &str = "39f53479d3a045ac8e11786248231fbf";
const UNIT_STOPPED: &str = "9d1aaa27d60140bd96365438aad20286";
const UNIT_FAILED: &str = "be02cf6855d2428ba40df7e9d022f03d";
const UNIT_RELOADED: &str = "7b05ebc668384222baa8881179cfda54";

/// Kinds of units that come and go with sessions and devices: no administration.
const PASSING_UNITS: &[&str] = &[".scope", ".slice", ".device"];

/// Where a genuine program lies.
const SYSTEM_DIRECTORIES: &[&str] =
    &["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/lib/", "/usr/libexec/", "/lib/", "/usr/local/sbin/", "/usr/local/bin/"];

/// The record of an entry; none for what is no act, or not genuine.
pub(super) fn draft(host: &Host, names: &mut Names, event_id: Uuid, time: u64, entry: &Entry) -> Option<Draft> {
    let program = entry.text("SYSLOG_IDENTIFIER")?;
    if !PROGRAMS.contains(&&*program) || !is_genuine(entry, &program) {
        return None;
    }
    let mut making = Making::new(host, names, entry, &program, event_id, time);
    if program == "systemd" {
        making.unit()?;
    } else {
        let said = message::read(&program, &entry.text("MESSAGE")?)?;
        making.say(said);
    }
    Some(making.done())
}

/// Whether the sender is what its identifier says: root, or a program of that name where the system keeps its own.
fn is_genuine(entry: &Entry, program: &str) -> bool {
    if entry.number("_UID") == Some(0) {
        return true;
    }
    match (entry.text("_EXE"), entry.text("_COMM")) {
        (Some(exe), _) => {
            SYSTEM_DIRECTORIES.iter().any(|directory| exe.starts_with(directory)) && exe.rsplit('/').next() != Some("logger")
        }
        (None, Some(comm)) => comm.eq_ignore_ascii_case(program),
        // No sender is known: fixtures, and journals filled from elsewhere by root.
        (None, None) => !entry.fields.contains_key("_UID"),
    }
}

/// A record under way.
struct Making<'a> {
    host: &'a Host,
    names: &'a mut Names,
    entry: &'a Entry,
    record: Record,
    parameters: Map<String, Value>,
    act: Option<Act>,
    time: u64,
}

impl<'a> Making<'a> {
    fn new(host: &'a Host, names: &'a mut Names, entry: &'a Entry, program: &str, event_id: Uuid, time: u64) -> Self {
        let mut record = report::blank(host, Some(SourceName::Journal), event_id, time);
        let source = match program {
            "sshd-session" => "sshd",
            "CRON" | "crond" => "cron",
            program => program,
        };
        record.event_source = format!("{source}.linux");
        record.user_agent = Some(entry.text("_EXE").map_or_else(|| program.to_owned(), std::borrow::Cow::into_owned));
        if host.keep_raw
            && let Some(mark) =
                record.additional_event_data.as_mut().and_then(|data| data.get_mut("edgetrail")).and_then(Value::as_object_mut)
        {
            let fields = entry.fields.iter().map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into()));
            mark.insert("raw".to_owned(), Value::Object(fields.collect()));
        }
        Self { host, names, entry, record, parameters: Map::new(), act: None, time }
    }

    fn done(mut self) -> Draft {
        self.record.request_parameters = (!self.parameters.is_empty()).then_some(Value::Object(self.parameters));
        self.record.fit();
        Draft { record: Made::Record(Box::new(self.record)), act: self.act }
    }

    fn say(&mut self, said: Said) {
        match said {
            Said::Command { user, target, tty, cwd, command, refusal } => {
                self.command(&user, &target, &tty, &cwd, &command, refusal)
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
                let is_unknown = is_unknown || self.names.uid(&user).is_none();
                if is_unknown {
                    self.record.user_identity = Actor::Unknown.identity(self.host);
                    // What was typed as a name may be a password. Source: CloudTrail, ConsoleLogin with a wrong name.
                    self.record.user_identity.user_name = Some("HIDDEN_DUE_TO_SECURITY_REASONS".to_owned());
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
            Said::SwitchUser { user, target, tty, is_refused } => {
                let login = self.login_name().unwrap_or_else(|| user.clone());
                self.record.event_name = "SwitchUser".to_owned();
                self.acting(&login, if is_refused { &login } else { &target });
                self.parameter("user", &target);
                self.parameter("tty", act::terminal(&tty));
                if is_refused {
                    self.denied("Failed authentication");
                } else {
                    self.record.response_elements = Some(json!({"result": "success"}));
                }
                self.resource("Host::User", &format!("user/{target}"));
                self.act = Some(act::switch_user(&login, &target, self.time));
            }
            Said::AuthenticationFailure { program, user, tty, address } => {
                self.record.event_name = "Authenticate".to_owned();
                self.record.event_source = format!("{program}.linux");
                self.acting(&user, &user);
                self.parameter("user", &user);
                self.parameter("tty", act::terminal(&tty));
                self.address(&address);
                self.denied("Failed authentication");
            }
            Said::Account { name, what, subject, details, is_refused } => self.account(name, what, &subject, details, is_refused),
            Said::ScheduledCommand { user, command } => {
                self.record.event_name = "RunCommand".to_owned();
                self.record.event_type = EventType::AwsServiceEvent;
                let uid = self.names.uid(&user);
                let effective = Person { uid: uid.unwrap_or(u32::MAX), name: Some(user.clone()) };
                self.record.user_identity = Actor::Daemon { effective, program: "cron.linux".to_owned() }.identity(self.host);
                if uid.is_none() {
                    self.record.user_identity.principal_id = Some(user.clone());
                }
                self.parameter("user", &user);
                self.parameter("command", &command);
            }
            Said::Crontab { name, user, owner } => {
                self.record.event_name = name.to_owned();
                self.process_or(&user);
                self.parameter("user", &owner);
                self.resource("Host::Crontab", &format!("crontab/{owner}"));
            }
            Said::Authorization { user, action, subject, is_refused } => {
                self.record.event_name = "Authorize".to_owned();
                self.acting(&user, &user);
                self.parameter("action", &action);
                self.parameter("subject", &subject);
                if is_refused {
                    self.denied("Failed authentication");
                }
            }
            Said::Session { name, user, session } => {
                self.record.event_name = name.to_owned();
                self.record.event_type = EventType::AwsServiceEvent;
                self.daemon("systemd-logind.linux");
                self.parameter("user", &user);
                self.parameter("session", &session);
            }
        }
    }

    fn command(&mut self, user: &str, target: &str, tty: &str, cwd: &str, command: &str, refusal: Option<String>) {
        let login = self.login_name().unwrap_or_else(|| user.to_owned());
        self.record.event_name = "RunCommand".to_owned();
        self.acting(&login, if refusal.is_some() { &login } else { target });
        self.parameter("command", command);
        self.parameter("cwd", cwd);
        self.parameter("tty", act::terminal(tty));
        self.parameter("user", target);
        if login != user {
            self.parameter("invokingUser", user);
        }
        self.resource("Host::User", &format!("user/{target}"));
        let matched = if refusal.is_some() { "" } else { target };
        self.act = Some(act::sudo_command(&login, matched, tty, command, self.time));
        match refusal {
            Some(why) => self.denied(&why),
            None => self.record.response_elements = Some(json!({"result": "success"})),
        }
    }

    fn account(
        &mut self,
        name: &'static str,
        what: Account,
        subject: &str,
        details: Vec<(&'static str, String)>,
        is_refused: bool,
    ) {
        self.record.event_name = name.to_owned();
        self.process_or("");
        let (member, kind, path) = match what {
            Account::User => ("userName", "Host::User", "user"),
            Account::Group => ("groupName", "Host::Group", "group"),
        };
        self.parameter(member, subject);
        for (key, value) in details {
            self.parameter(key, &value);
        }
        self.resource(kind, &format!("{path}/{subject}"));
        if is_refused {
            self.denied("");
        }
        let class = match name {
            "CreateUser" => act::class::CREATE_USER,
            "DeleteUser" => act::class::DELETE_USER,
            "CreateGroup" => act::class::CREATE_GROUP,
            "DeleteGroup" => act::class::DELETE_GROUP,
            "ChangePassword" => act::class::CHANGE_PASSWORD,
            _ => act::class::MODIFY_USER,
        };
        self.act = Some(act::account(class, subject, self.time));
    }

    /// systemd's own message about a unit whose job is done.
    fn unit(&mut self) -> Option<()> {
        if self.entry.number("_PID").is_some_and(|pid| pid != 1) {
            return None;
        }
        let unit = self.entry.text("UNIT")?.into_owned();
        if PASSING_UNITS.iter().any(|end| unit.ends_with(end)) {
            return None;
        }
        let id = self.entry.text("MESSAGE_ID")?;
        let (name, class) = match &*id {
            UNIT_STARTED => ("StartUnit", Some(act::class::START_UNIT)),
            UNIT_STOPPED => ("StopUnit", Some(act::class::STOP_UNIT)),
            UNIT_FAILED => ("StartUnit", Some(act::class::START_UNIT)),
            UNIT_RELOADED => ("ReloadUnit", None),
            _ => return None,
        };
        self.record.event_name = name.to_owned();
        self.record.event_type = EventType::AwsServiceEvent;
        self.daemon("systemd.linux");
        self.parameter("unit", &unit);
        let result = self.entry.text("JOB_RESULT").map(std::borrow::Cow::into_owned).unwrap_or_default();
        if !result.is_empty() {
            self.record.response_elements = Some(json!({"result": result}));
        }
        if *id == *UNIT_FAILED || !matches!(result.as_str(), "" | "done" | "skipped") {
            self.record.error_code = Some("UnitFailed".to_owned());
            self.record.error_message = self.entry.text("MESSAGE").map(std::borrow::Cow::into_owned);
        }
        self.resource("Host::Unit", &format!("unit/{unit}"));
        self.act = class.map(|class| act::unit(class, &unit, self.time));
        Some(())
    }

    /// A login or its end: the user itself acts, though the program runs as root.
    fn sign_in(&mut self, name: &str, user: &str, address: &str, port: &str) {
        self.record.event_name = name.to_owned();
        self.record.event_type = EventType::AwsConsoleSignIn;
        self.acting(user, user);
        self.address(address);
        self.parameter("user", user);
        self.parameter("port", port);
    }

    fn acting(&mut self, login: &str, effective: &str) {
        let (login_uid, effective_uid) = (self.names.uid(login), self.names.uid(effective));
        let actor = if login.is_empty() {
            Actor::Unknown
        } else {
            Actor::NamedAs { login: login.to_owned(), login_uid, effective: effective.to_owned(), effective_uid }
        };
        self.record.user_identity = actor.identity(self.host);
    }

    /// The sending process as the kernel names it; where it does not, the user that the message names.
    fn process_or(&mut self, named: &str) {
        let Some(uid) = self.entry.number("_UID") else { return self.acting(named, named) };
        let names = &mut *self.names;
        let mut person = |uid| Person { uid, name: names.user(uid) };
        let login = self.entry.number("_AUDIT_LOGINUID").filter(|uid| *uid != u32::MAX).map(&mut person);
        let actor = Actor::of(login, person(uid), &self.record.event_source);
        self.record.user_identity = actor.identity(self.host);
    }

    fn daemon(&mut self, program: &str) {
        let effective = Person { uid: 0, name: Some("root".to_owned()) };
        self.record.user_identity = Actor::Daemon { effective, program: program.to_owned() }.identity(self.host);
    }

    /// The login user whom the kernel names.
    fn login_name(&mut self) -> Option<String> {
        let uid = self.entry.number("_AUDIT_LOGINUID").filter(|uid| *uid != u32::MAX)?;
        Some(self.names.user(uid).unwrap_or_else(|| uid.to_string()))
    }

    fn address(&mut self, address: &str) {
        if !address.is_empty() {
            address.clone_into(&mut self.record.source_ip_address);
        }
    }

    fn parameter(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.parameters.insert(name.to_owned(), value.into());
        }
    }

    fn denied(&mut self, why: &str) {
        self.record.error_code = Some("AccessDenied".to_owned());
        self.record.error_message = (!why.is_empty()).then(|| why.to_owned());
    }

    fn resource(&mut self, kind: &str, path: &str) {
        if path.ends_with('/') {
            return;
        }
        let (account_id, arn) = (Some(self.host.account.to_string()), Some(host_arn(self.host, path)));
        self.record.resources = Some(vec![Resource { account_id, kind: Some(kind.to_owned()), arn, ..Resource::default() }]);
    }
}

#[cfg(test)]
mod tests;
