//! What a statement makes of the record under way: the act, its parameters, how it ended.

use edgetrail_proto::record::{EventCategory, EventType};
use serde_json::json;

use super::connections::{Connections, Process};
use super::making::{Making, event_source};
use super::message::{By, Change, CommandAct, FAILED_AUTHENTICATION, Said, Statement, Thing};
use crate::normalize::act;
use crate::normalize::actor::{Actor, Person};

/// userName of a refused login whose name the host does not know: what was typed may be a password. Source: CloudTrail,
/// ConsoleLogin with a wrong name.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

impl Making<'_> {
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
