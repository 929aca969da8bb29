//! What PAM and the programs that use it report: logins, sudo, su, sessions.
//!
//! One act, one record: of the many records of a login or a sudo command exactly one stands for the act, chosen because
//! it always comes and knows enough; the others add to the session and are its steps. docs/events.md has the table.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::attempts::Report;
use super::deed::{Deed, Failure, Kind};
use super::sessions::{TIMERS, UNSET};
use super::view::View;
use super::{Context, Memory, methods};
use crate::normalize::act;
use crate::normalize::actor::{Actor, Person};
use crate::sources::audit::kinds;

/// Programs whose session is a login of a human, local or remote.
const LOGIN_PROGRAMS: &[&str] = &[
    "sshd",
    "login",
    "dropbear",
    "gdm-session-worker",
    "sddm-helper",
    "lightdm",
    "xrdp-sesman",
    "cockpit-session",
    "vsftpd",
    "telnetd",
    "kdm",
    "xdm",
    "gdm",
    "remote",
    "rlogin",
    "agetty",
    "greetd",
];

/// Programs by which a user becomes another.
const SWITCH_PROGRAMS: &[&str] = &["su", "runuser", "pkexec", "doas", "machinectl", "run0"];

impl Memory {
    /// USER_AUTH, USER_ACCT, CRED_*, USER_START, USER_END, USER_LOGIN, USER_LOGOUT, USER_ERR, USER_CMD.
    pub(super) fn pam(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Deed {
        let program = view.program();
        self.learn(context, view, &program);
        let succeeded = view.succeeded() != Some(false);
        let is_login = LOGIN_PROGRAMS.contains(&program.as_str());
        let is_switch = SWITCH_PROGRAMS.contains(&program.as_str());
        let stands = match view.kind() {
            kinds::USER_CMD => Some(self.command(context, view, succeeded)),
            kinds::USER_LOGIN if succeeded => self.login(context, view),
            kinds::USER_LOGIN => self.refused_login(context, view, Report::Login),
            kinds::USER_START if is_login && succeeded => self.login(context, view),
            kinds::USER_LOGOUT => self.logout(context, view),
            kinds::USER_END if is_login => self.logout(context, view),
            kinds::USER_AUTH if is_login && !succeeded => self.refused_login(context, view, Report::Authentication),
            // Everything else of a login is said by its Login.
            _ if is_login => None,
            kinds::USER_START if is_switch => Some(self.switch(context, view, succeeded)),
            kinds::USER_AUTH | kinds::USER_ACCT if is_switch && !succeeded => Some(self.switch(context, view, false)),
            _ if is_switch => None,
            kinds::USER_AUTH if !succeeded => Some(self.authentication(context, view)),
            // Everything else of a command is said by its RunCommand.
            _ if program == "sudo" => None,
            kinds::USER_START => Some(self.session(context, view, "StartSession")),
            kinds::USER_END => Some(self.session(context, view, "EndSession")),
            kinds::USER_AUTH => Some(self.authentication(context, view)),
            // Steps on the way to a session, which has its own record.
            _ if succeeded => None,
            _ => Some(self.authentication(context, view)),
        };
        stands.unwrap_or_else(|| Deed { name: step_name(view.kind()), ..self.authentication(context, view).step() })
    }

    /// Keeps what a login program says of its own session: address, terminal, how its user proved who it is.
    fn learn(&mut self, context: &Context<'_>, view: &View<'_>, program: &str) {
        if TIMERS.contains(&program)
            && let (Some(session), Some(login)) = (view.session(), view.id("auid"))
        {
            let is_end = view.kind() == kinds::USER_END;
            self.sessions.update(session, login, context.seconds(), |session| {
                session.program = Some(program.to_owned());
                session.closed |= is_end;
            });
        }
        if !LOGIN_PROGRAMS.contains(&program) {
            return;
        }
        let (address, seconds) = (remote_address(view), context.seconds());
        let account = view.get("acct").map(Cow::into_owned);
        if view.kind() == kinds::USER_AUTH && view.succeeded() == Some(true) {
            let method = methods::of(&view.get("op").unwrap_or_default(), &view.get("grantors").unwrap_or_default());
            let (account, address) = (account.clone().unwrap_or_default(), address.clone().unwrap_or_default());
            self.methods.proven(&account, &address, &method, seconds);
        }
        let (Some(session), Some(login)) = (view.session(), view.id("auid")) else { return };
        let tty = view.get("terminal").map(|tty| act::terminal(&tty).to_owned()).filter(|tty| !tty.is_empty());
        let is_known = self.sessions.get(session).is_some_and(|session| session.method.is_some());
        let method = account.filter(|_| !is_known);
        let method = method.and_then(|account| self.methods.take(&account, address.as_deref().unwrap_or_default(), seconds));
        self.sessions.update(session, login, seconds, |session| {
            session.address = address.or(session.address.take());
            session.tty = tty.or(session.tty.take());
            session.method = method.or(session.method.take());
            session.program = Some(program.to_owned());
        });
    }

    fn login(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Option<Deed> {
        if self.is_reported(context, view, |session| std::mem::replace(&mut session.reported, true)) {
            return None;
        }
        let person = signed_in(context, view);
        let user = person.as_ref().map(Person::label).unwrap_or_default();
        let mut deed = self.sign_in(view, "Login", person);
        deed.response = Some(json!({"Login": "Success"}));
        deed.act = Some(act::login(&user, deed.address.as_deref().unwrap_or_default(), context.event.stamp.nanoseconds()));
        Some(deed)
    }

    fn logout(&mut self, context: &mut Context<'_>, view: &View<'_>) -> Option<Deed> {
        if self.is_reported(context, view, |session| std::mem::replace(&mut session.closed, true)) {
            return None;
        }
        let person = signed_in(context, view);
        let user = person.as_ref().map(Person::label).unwrap_or_default();
        let mut deed = self.sign_in(view, "Logout", person);
        deed.response = Some(json!({"Logout": "Success"}));
        deed.act = Some(act::logout(&user, context.event.stamp.nanoseconds()));
        Some(deed)
    }

    fn refused_login(&mut self, context: &mut Context<'_>, view: &View<'_>, report: Report) -> Option<Deed> {
        let address = remote_address(view).unwrap_or_default();
        let pid = view.id("pid").unwrap_or(0);
        let is_withheld = view.get("acct").is_some_and(|name| name.starts_with('('));
        let person = if is_withheld { None } else { account(context, view) };
        let mut person = person.filter(|person| person.name.is_some() || person.uid != UNSET);
        if let Some(unnamed) = person.as_mut().filter(|person| person.name.is_none()) {
            unnamed.name = self.attempts.account_of(pid, &address, context.seconds());
        }
        let is_unknown = person.is_none();
        let user = person.as_ref().map(Person::label).unwrap_or_default();
        if !self.attempts.begins(&user, &address, pid, report, is_unknown, context.seconds()) {
            return None;
        }
        let mut deed = self.sign_in(view, "Login", person);
        deed.response = Some(json!({"Login": "Failure"}));
        deed.error = Some(Failure::denied("Failed authentication"));
        deed.act = Some(act::login_failure(&user, &address, context.event.stamp.nanoseconds()));
        Some(deed)
    }

    /// Whether the session already has such a record; without a session each report is its own.
    fn is_reported(
        &mut self,
        context: &Context<'_>,
        view: &View<'_>,
        mark: impl FnOnce(&mut super::sessions::Session) -> bool,
    ) -> bool {
        let (Some(session), Some(login)) = (view.session(), view.id("auid")) else { return false };
        let mut was = false;
        self.sessions.update(session, login, context.seconds(), |session| was = mark(session));
        was
    }

    /// The user who logs in acts as itself, though the program runs as root.
    fn sign_in(&self, view: &View<'_>, name: &'static str, person: Option<Person>) -> Deed {
        let label = person.as_ref().map(Person::label);
        let actor = match person {
            Some(person) if person.uid == UNSET => Actor::Named { name: person.label() },
            Some(person) => Actor::Login { login: person.clone(), effective: person },
            None => Actor::Unknown,
        };
        let mut deed = Deed::new(view.event_source(), name, Kind::SignIn, actor);
        deed.parameter("user", view.get("acct").map(|name| name.into_owned()).or(label));
        self.describe(view, &mut deed);
        deed.address = remote_address(view).or(deed.address);
        deed
    }

    /// sudo: the command as the user it runs as, who stands in a related record.
    fn command(&self, context: &mut Context<'_>, view: &View<'_>, succeeded: bool) -> Deed {
        let target = view.related.iter().find_map(|related| related.get("acct")).map(|name| name.into_owned());
        let target_uid = target.as_deref().and_then(|name| context.names.uid(name));
        let login = view.login(context.names);
        let user = login.clone().or_else(|| view.effective(context.names));
        let actor = match (&login, &target) {
            _ if !succeeded => match &login {
                Some(login) => Actor::Login { login: login.clone(), effective: login.clone() },
                None => view.actor(context.names),
            },
            (Some(login), target) => Actor::NamedAs {
                login: login.label(),
                login_uid: Some(login.uid),
                effective: target.clone().unwrap_or_else(|| "unknown".to_owned()),
                effective_uid: target_uid,
            },
            (None, Some(target)) => {
                let effective = Person { uid: target_uid.unwrap_or(UNSET), name: Some(target.clone()) };
                Actor::Daemon { effective, program: view.event_source() }
            }
            (None, None) => Actor::Unknown,
        };
        let command = view.get("cmd").map(|command| command.into_owned()).unwrap_or_default();
        let tty = view.get("terminal").map(|tty| tty.into_owned()).unwrap_or_default();
        let mut deed = Deed::new(view.event_source(), "RunCommand", Kind::Management, actor);
        deed.parameter("command", Some(command.clone()));
        deed.parameter("cwd", view.get("cwd").map(|cwd| cwd.into_owned()));
        deed.parameter("user", target.clone());
        if login.is_none() {
            deed.parameter("invokingUser", user.as_ref().map(Person::label));
        }
        self.describe(view, &mut deed);
        if succeeded {
            deed.response = Some(json!({"result": "success"}));
        } else {
            deed.error = Some(Failure::denied("sudo refused the command"));
        }
        if let Some(target) = &target {
            deed.resource(context.host, "Host::User", &format!("user/{target}"));
        }
        let user = user.as_ref().map(Person::label).unwrap_or_default();
        let target = if succeeded { target.unwrap_or_default() } else { String::new() };
        deed.act = Some(act::sudo_command(&user, &target, &tty, &command, context.event.stamp.nanoseconds()));
        deed
    }

    fn switch(&self, context: &mut Context<'_>, view: &View<'_>, succeeded: bool) -> Deed {
        let target = view.get("acct").map(|name| name.into_owned());
        let target_uid = target.as_deref().and_then(|name| context.names.uid(name));
        let actor = match (view.login(context.names), &target) {
            (Some(login), Some(target)) if succeeded => Actor::NamedAs {
                login: login.label(),
                login_uid: Some(login.uid),
                effective: target.clone(),
                effective_uid: target_uid,
            },
            _ => view.actor(context.names),
        };
        let from = view.login(context.names).or_else(|| view.effective(context.names));
        let mut deed = Deed::new(view.event_source(), "SwitchUser", Kind::Management, actor);
        deed.parameter("user", target.clone());
        self.describe(view, &mut deed);
        if succeeded {
            deed.response = Some(json!({"result": "success"}));
        } else {
            deed.error = Some(Failure::denied("Failed authentication"));
        }
        if let Some(target) = &target {
            deed.resource(context.host, "Host::User", &format!("user/{target}"));
        }
        let from = from.as_ref().map(Person::label).unwrap_or_default();
        deed.act = Some(act::switch_user(&from, target.as_deref().unwrap_or_default(), context.event.stamp.nanoseconds()));
        deed
    }

    /// A proof of identity for something that is no login.
    fn authentication(&self, context: &mut Context<'_>, view: &View<'_>) -> Deed {
        let mut deed = Deed::new(view.event_source(), "Authenticate", Kind::Management, view.actor(context.names));
        deed.parameter("user", view.get("acct").map(|name| name.into_owned()));
        deed.parameter("operation", view.get("op").map(|op| op.into_owned()));
        self.describe(view, &mut deed);
        if view.succeeded() == Some(false) {
            deed.error = Some(Failure::denied("Failed authentication"));
            let user = view.get("acct").unwrap_or_default();
            deed.act = Some(act::authentication_failure(&view.program(), &user, context.event.stamp.nanoseconds()));
        } else {
            deed.response = Some(json!({"result": "success"}));
        }
        deed
    }

    /// A session that a program opened by itself: cron, systemd.
    fn session(&self, context: &mut Context<'_>, view: &View<'_>, name: &'static str) -> Deed {
        let effective = view.effective(context.names);
        let actor = match effective {
            Some(effective) => Actor::Daemon { effective, program: view.event_source() },
            None => Actor::Unknown,
        };
        let mut deed = Deed::new(view.event_source(), name, Kind::Service, actor);
        deed.parameter("user", view.get("acct").map(|name| name.into_owned()));
        self.describe(view, &mut deed);
        if view.succeeded() == Some(false) {
            deed.error = Some(Failure::denied("the session was refused"));
        }
        deed
    }

    /// Terminal, process, session and the address of the login.
    pub(super) fn describe(&self, view: &View<'_>, deed: &mut Deed) {
        deed.agent = view.exe().map(Cow::into_owned);
        let tty = view.get("terminal").or_else(|| view.get("tty")).map(|tty| act::terminal(&tty).to_owned());
        deed.parameter("tty", tty.filter(|tty| !tty.is_empty()));
        deed.parameter("terminal", view.primary().and_then(|fields| fields.get("terminal")).map(Cow::into_owned));
        deed.parameter("pid", view.id("pid").map(Value::from));
        deed.parameter("session", view.session().map(Value::from));
        deed.parameter("grantors", view.get("grantors").map(|grantors| grantors.into_owned()));
        deed.address = view.session().and_then(|session| self.sessions.get(session)).and_then(|session| session.address.clone());
    }
}

/// Who logged in or out: the account by its name, with the id that the kernel gave the session.
fn signed_in(context: &mut Context<'_>, view: &View<'_>) -> Option<Person> {
    let login = view.login(context.names);
    let account = account(context, view).or_else(|| login.clone())?;
    Some(Person { uid: login.map_or(account.uid, |login| login.uid), ..account })
}

/// What a step of an act is called.
fn step_name(kind: u16) -> &'static str {
    match kind {
        kinds::USER_ACCT => "CheckAccount",
        kinds::CRED_ACQ => "AcquireCredentials",
        kinds::CRED_REFR => "RefreshCredentials",
        kinds::CRED_DISP => "ReleaseCredentials",
        kinds::USER_START => "StartSession",
        kinds::USER_END => "EndSession",
        kinds::USER_LOGIN => "ConfirmLogin",
        kinds::USER_LOGOUT => "ConfirmLogout",
        _ => "Authenticate",
    }
}

/// The account that the record is about: its name with its uid, or its uid with its name.
fn account(context: &mut Context<'_>, view: &View<'_>) -> Option<Person> {
    if let Some(name) = view.get("acct") {
        let uid = context.names.uid(&name).unwrap_or(UNSET);
        return Some(Person { uid, name: Some(name.into_owned()) });
    }
    let uid = view.primary()?.number("id")?;
    Some(Person { uid, name: view.named("ID").or_else(|| if uid == UNSET { None } else { context.names.user(uid) }) })
}

/// The peer's address, else its name.
fn remote_address(view: &View<'_>) -> Option<String> {
    view.get("addr").or_else(|| view.get("hostname")).map(|address| address.into_owned())
}
