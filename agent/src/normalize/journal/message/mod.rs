//! What the programs' messages say: one line of text to one statement. One catalogue for both carriers: an entry of the
//! journal and a line of syslog hold the same text.
//!
//! The texts are those of the programs' sources (OpenSSH, dropbear, Linux-PAM, sudo, shadow, util-linux, cron, at,
//! polkit, systemd, NetworkManager, firewalld, rpm). A text that is none of them says nothing: most of what these
//! programs log is no act. A statement that only leads to another one (PAM's word on a login that sshd reports itself)
//! is a *step*: it becomes a Data event.
//!
//! What a peer sent (a user's name) may hold anything, so texts are read from their end where it stands before a mark, and
//! from their beginning where it stands behind one.

mod accounts;
mod console;
mod ftp;
mod machine;
mod pam;
mod privilege;
mod schedule;
mod software;
mod ssh;

#[cfg(test)]
mod examples;

/// A message's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) said: Said,
    /// Whether another statement stands for the act.
    pub(super) is_step: bool,
    /// How often syslog saw it, where it says so instead of repeating it.
    pub(super) times: Option<u32>,
    /// Which part of a refused login it tells, where its program tells several.
    pub(super) part: Option<Part>,
}

/// A part of what a server says of one connection that was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Before any proof was asked for: the name is not known, or not allowed.
    Opens,
    /// A proof was refused.
    Fails,
    /// The connection ended without a login.
    Closes,
}

/// Who acted, as far as a message knows: its name, its id, or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct By {
    pub(super) name: String,
    pub(super) uid: Option<u32>,
}

/// What a message says was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// sudo and its like: who typed it, as whom it ran, where, what; `refusal` if it did not.
    Command {
        user: String,
        target: String,
        tty: String,
        cwd: String,
        command: String,
        group: String,
        refusal: Option<String>,
        /// What the kernel's audit calls the same act.
        act: CommandAct,
    },
    /// The rest of a command that was too long for one message.
    ContinuedCommand {
        user: String,
        text: String,
    },
    /// A program's trouble with what it was asked, where no command is named.
    Alert {
        user: String,
        target: String,
        tty: String,
        cwd: String,
        why: String,
    },
    Login {
        user: String,
        address: String,
        port: String,
        method: String,
        key: Option<String>,
    },
    /// `user` is empty where none was tried.
    LoginFailure {
        user: String,
        address: String,
        port: String,
        method: String,
        is_unknown: bool,
        why: String,
    },
    Logout {
        user: String,
    },
    SwitchUser {
        by: By,
        target: String,
        tty: String,
        is_refused: bool,
    },
    SwitchGroup {
        user: String,
        group: String,
        tty: String,
        is_refused: bool,
    },
    /// A proof of identity that was refused, outside of a login or as its step. `by` asked for it, to act as `user`.
    AuthenticationFailure {
        program: String,
        by: By,
        user: String,
        tty: String,
        address: String,
        is_unknown: bool,
        why: String,
    },
    /// A connection's beginning or end; `why` where it was not let in.
    Connection {
        name: &'static str,
        user: String,
        address: String,
        port: String,
        why: Option<String>,
    },
    /// A user, a group, a package …: what was changed.
    Change(Change),
    ScheduledCommand {
        user: String,
        command: String,
        job: String,
    },
    Authorization {
        user: String,
        action: String,
        subject: String,
        is_refused: bool,
    },
    Session {
        name: &'static str,
        program: String,
        user: String,
        session: String,
    },
}

/// A command's class of acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandAct {
    /// sudo's, which has a record of the kernel's of its own.
    Sudo,
    /// A change of user, as the kernel sees pkexec and doas.
    Switch,
}

/// An administrative change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: &'static str,
    pub(super) what: Thing,
    /// Empty for the host itself.
    pub(super) subject: String,
    /// Who did it, where the message says so.
    pub(super) by: String,
    pub(super) details: Vec<(&'static str, String)>,
    /// errorCode and errorMessage.
    pub(super) failure: Option<(&'static str, String)>,
    /// Whether the host does it by itself.
    pub(super) is_own: bool,
}

/// What a change is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Thing {
    User,
    Group,
    Crontab,
    Package,
    File,
    Interface,
    Connection,
    Firewall,
    #[default]
    Host,
}

/// Why a proof of identity was refused, where the program says no more.
pub(super) const FAILED_AUTHENTICATION: &str = "Failed authentication";

impl Statement {
    fn of(said: Said) -> Self {
        Self { said, is_step: false, times: None, part: None }
    }

    fn step(said: Said) -> Self {
        Self { is_step: true, ..Self::of(said) }
    }

    fn part(self, part: Part) -> Self {
        Self { part: Some(part), ..self }
    }
}

impl By {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), uid: None }
    }
}

impl Change {
    fn of(name: &'static str, what: Thing, subject: &str) -> Self {
        Self { name, what, subject: subject.to_owned(), ..Self::default() }
    }

    fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.details.push((key, value.into()));
        self
    }

    fn said(self) -> Option<Statement> {
        Some(Statement::of(Said::Change(self)))
    }
}

/// Reads one message of a program.
pub(super) fn read(program: &str, message: &str) -> Option<Statement> {
    let message = message.trim();
    if let Some((times, inner)) = repeated(message) {
        return Some(Statement { times: Some(times), ..read_once(program, inner)? });
    }
    read_once(program, message)
}

fn read_once(program: &str, message: &str) -> Option<Statement> {
    // PAM speaks under its program's identifier.
    if let Some(said) = pam::read(program, message) {
        return said;
    }
    match program {
        "sshd" | "sshd-session" | "sshd-auth" => ssh::server(message),
        "dropbear" => ssh::dropbear(message),
        "sudo" => privilege::sudo(message),
        "su" | "su-l" => privilege::su(message),
        "doas" => privilege::doas(message),
        "pkexec" => privilege::pkexec(message),
        "polkitd" => privilege::polkit(message),
        "login" => console::login(message),
        "systemd-logind" => console::logind(message),
        "cron" | "CRON" | "crond" | "CROND" | "anacron" | "/usr/sbin/cron" => schedule::cron(message),
        "crontab" => schedule::crontab(message),
        "atd" => schedule::atd(message),
        "useradd" | "newusers" | "usermod" | "userdel" | "groupadd" | "groupmod" | "groupdel" | "gpasswd" | "passwd"
        | "chpasswd" | "chage" | "chfn" | "chsh" | "vipw" | "vigr" => accounts::shadow(message),
        "newgrp" | "sg" => privilege::newgrp(message),
        "vsftpd" => ftp::vsftpd(message),
        "yum" | "dnf" => software::yum(message),
        "[RPM]" | "rpm" => software::rpm(message),
        "pacman" => software::pacman(message),
        "PackageKit" | "packagekitd" => software::packagekit(message),
        "firewalld" => machine::firewalld(message),
        "systemd-networkd" => machine::networkd(message),
        "NetworkManager" => machine::network_manager(message),
        "systemd-hostnamed" => machine::hostnamed(message),
        "systemd-timedated" => machine::timedated(message),
        _ => None,
    }
}

/// `message repeated 5 times: [ Failed password …]`: rsyslog's and journald's way to shorten.
fn repeated(message: &str) -> Option<(u32, &str)> {
    let (times, rest) = message.strip_prefix("message repeated ")?.split_once(" times: [")?;
    Some((times.parse().ok()?, rest.strip_suffix(']').unwrap_or(rest).trim()))
}

/// The text between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(value, _)| value)
}

fn word_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.split_whitespace().next()
}

/// `'bob' …` or `bob …`: the name.
fn quoted(text: &str) -> Option<&str> {
    match text.trim_start().strip_prefix(['\'', '"', '`']) {
        Some(rest) => rest.split(['\'', '"']).next(),
        None => text.split_whitespace().next(),
    }
}

/// `alice(uid=1000)` without its id; the kernel's or PAM's own name for nobody is none.
fn plain(name: &str) -> &str {
    name.split_once('(').map_or(name, |(name, _)| name).trim()
}
