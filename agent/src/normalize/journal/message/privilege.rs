//! Programs by which somebody acts as another: sudo, su, doas, pkexec, and polkit's decisions.
//!
//! Sources: sudo's eventlog.c, util-linux's and shadow's su.c, shadow's newgrp.c, doas.c, polkit's pkexec.c and polkitbackendinteractiveauthority.c.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{By, CommandAct, FAILED_AUTHENTICATION, Said, Statement, between, quoted, word_after};
use crate::normalize::sudo::command;
use crate::sources::sudo::{Kind, log};

/// sudo's message with `log_format=json`, behind `@cee:`.
#[derive(Deserialize)]
struct Cee<'a> {
    #[serde(borrow)]
    sudo: &'a RawValue,
}

/// What sudo puts before each further part of a message that is too long for one.
const CONTINUED: &str = "(command continued) ";

/// `alice : [why ;] TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id`. A user's name holds no ` : `; of the
/// rest the reason comes first, and a directory's name, which is the user's word, may look like anything but a field.
pub(super) fn sudo(message: &str) -> Option<Statement> {
    if let Some(json) = message.strip_prefix("@cee:") {
        return sudo_json(json);
    }
    let (user, rest) = message.split_once(" : ")?;
    let user = user.trim().to_owned();
    if let Some(text) = rest.strip_prefix(CONTINUED) {
        return Some(Statement::of(Said::ContinuedCommand { user, text: text.to_owned() }));
    }
    let (fields, command) = rest.split_once("COMMAND=").unwrap_or((rest, ""));
    let (mut target, mut tty, mut cwd, mut group) = (String::new(), String::new(), String::new(), String::new());
    let (mut refusal, mut has_fields, mut in_cwd) = (None, false, false);
    for field in fields.trim_end().trim_end_matches(';').trim_end().split(" ; ") {
        let named = field.split_once('=').filter(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_uppercase()));
        let Some((key, value)) = named else {
            if !has_fields && !field.is_empty() {
                refusal = Some(field.to_owned());
            } else if in_cwd {
                cwd.push_str(" ; ");
                cwd.push_str(field);
            }
            continue;
        };
        has_fields = true;
        in_cwd = key == "PWD";
        match key {
            "USER" => value.clone_into(&mut target),
            "TTY" => value.clone_into(&mut tty),
            "PWD" => value.clone_into(&mut cwd),
            "GROUP" => value.clone_into(&mut group),
            _ => {}
        }
    }
    match (command, refusal) {
        // Without a command only a reason says that anything was tried.
        ("", Some(why)) if has_fields => Some(Statement::of(Said::Alert { user, target, tty, cwd, why })),
        ("", _) => None,
        (command, refusal) => {
            let (command, act) = (command.to_owned(), CommandAct::Sudo);
            Some(Statement::of(Said::Command { user, target, tty, cwd, command, group, refusal, act }))
        }
    }
}

/// `{"sudo":{"accept":{…}}}`: an entry of sudo's log. Of a command's end it names nobody.
fn sudo_json(json: &str) -> Option<Statement> {
    let Cee { sudo } = serde_json::from_str(json.trim()).ok()?;
    let entry = sudo.get().strip_prefix('{')?.strip_suffix('}')?;
    let event = log::entry(entry.as_bytes()).ok()??.into_event();
    let text = |key: &str| event.text(key).unwrap_or_default();
    let (user, target, tty, cwd) = (text("submituser"), text("runuser"), text("ttyname"), text("submitcwd"));
    let refusal = match &event.kind {
        Kind::Accept => None,
        Kind::Reject { reason } => Some(reason.clone()),
        Kind::Alert { reason } => {
            return Some(Statement::of(Said::Alert { user, target, tty, cwd, why: reason.clone() }));
        }
        Kind::Exit { .. } => return None,
    };
    let (command, group, act) = (command(&event.info), text("rungroup"), CommandAct::Sudo);
    Some(Statement::of(Said::Command { user, target, tty, cwd, command, group, refusal, act }))
}

/// `(to root) alice on pts/0`, `FAILED SU (to root) alice on pts/0`; shadow's `Successful su for root by alice`,
/// `FAILED su for root by alice`, `+ /dev/pts/0 alice:root`; BSD's `BAD SU alice to root on pts/0`.
pub(super) fn su(message: &str) -> Option<Statement> {
    let switched = |user: &str, target: &str, tty: &str, is_refused: bool| {
        let (by, target, tty) = (By::named(user), target.to_owned(), tty.to_owned());
        let said = Said::SwitchUser { by, target, tty, is_refused };
        // The success is said by PAM's session too; one of them must be enough.
        Some(Statement { is_step: !is_refused, ..Statement::of(said) })
    };
    let refused = message.strip_prefix("FAILED SU ");
    if let Some(rest) = refused.unwrap_or(message).strip_prefix("(to ") {
        let (target, rest) = rest.split_once(") ")?;
        let (user, tty) = rest.split_once(" on ")?;
        return switched(user, target, tty, refused.is_some());
    }
    if let Some(rest) = message.strip_prefix("BAD SU ") {
        let (user, rest) = rest.split_once(" to ")?;
        let (target, tty) = rest.split_once(" on ").unwrap_or((rest, ""));
        return switched(user, target, tty, true);
    }
    for (start, is_refused) in [("Successful su for ", false), ("FAILED su for ", true)] {
        if let Some((target, user)) = message.strip_prefix(start).and_then(|rest| rest.split_once(" by ")) {
            return switched(user.trim(), target, "", is_refused);
        }
    }
    // Said besides the two above.
    let (sign, rest) = message.split_once(' ')?;
    let (tty, who) = rest.split_once(' ')?;
    let (user, target) = who.split_once(':').filter(|_| matches!(sign, "+" | "-"))?;
    Some(Statement { is_step: true, ..switched(user, target, tty, sign == "-")? })
}

/// `alice ran command id -u as root from /home/alice`, `command not permitted for alice: id as root`, `failed auth for alice`
pub(super) fn doas(message: &str) -> Option<Statement> {
    let said = |user: &str, target: &str, cwd: &str, command: &str, refusal: Option<&str>| {
        let (user, target, cwd, command) = (user.to_owned(), target.to_owned(), cwd.to_owned(), command.to_owned());
        let (tty, group, refusal, act) = (String::new(), String::new(), refusal.map(str::to_owned), CommandAct::Switch);
        Some(Statement::of(Said::Command { user, target, tty, cwd, command, group, refusal, act }))
    };
    if let Some((user, rest)) = message.split_once(" ran command ") {
        let (rest, cwd) = rest.rsplit_once(" from ")?;
        let (command, target) = rest.rsplit_once(" as ")?;
        return said(user, target, cwd, command, None);
    }
    for start in ["command not permitted for ", "failed command for "] {
        if let Some((user, rest)) = message.strip_prefix(start).and_then(|rest| rest.split_once(": ")) {
            let (command, target) = rest.rsplit_once(" as ").unwrap_or((rest, ""));
            return said(user, target, "", command, Some("command not permitted"));
        }
    }
    let user =
        message.strip_prefix("failed auth for ").or_else(|| message.strip_prefix("failed password for "))?.trim().to_owned();
    Some(Statement::of(Said::AuthenticationFailure {
        program: "doas".to_owned(),
        by: By::named(&user),
        user,
        tty: String::new(),
        address: String::new(),
        is_unknown: false,
        why: FAILED_AUTHENTICATION.to_owned(),
    }))
}

/// `user 'bob' (login 'bob' on pts/0) switched to group 'adm'`, `… returned to group 'bob'`,
/// `Invalid password for group 'adm' from 'bob'`
pub(super) fn newgrp(message: &str) -> Option<Statement> {
    let said = |user: &str, group: &str, tty: &str, is_refused| {
        let (user, group, tty) = (user.to_owned(), group.to_owned(), tty.to_owned());
        Some(Statement::of(Said::SwitchGroup { user, group, tty, is_refused }))
    };
    if let Some((group, user)) = message.strip_prefix("Invalid password for group ").and_then(|rest| rest.split_once(" from ")) {
        return said(quoted(user)?, quoted(group)?, "", true);
    }
    let user = quoted(message.strip_prefix("user ")?)?;
    let tty = between(message, "' on ", ")").unwrap_or_default();
    if let Some((_, group)) = message.split_once(" switched to group ") {
        return said(user, quoted(group)?, tty, false);
    }
    let group = quoted(message.split_once(" returned to group ")?.1)?;
    Some(Statement { is_step: true, ..said(user, group, tty, false)? })
}

/// `alice: Executing command [USER=root] [TTY=/dev/pts/0] [CWD=/home/alice] [COMMAND=/usr/bin/id]`
pub(super) fn pkexec(message: &str) -> Option<Statement> {
    let (user, rest) = message.split_once(": ")?;
    let is_executed = rest.starts_with("Executing command");
    let field = |name: &str| between(rest, &format!("[{name}="), "]").unwrap_or_default().to_owned();
    let command = rest.split_once("[COMMAND=").map(|(_, command)| command.strip_suffix(']').unwrap_or(command).to_owned())?;
    let refusal = (!is_executed).then(|| rest.split(" [").next().unwrap_or_default().to_owned());
    let (user, target, tty, cwd) = (user.to_owned(), field("USER"), field("TTY"), field("CWD"));
    let (group, act) = (String::new(), CommandAct::Switch);
    Some(Statement::of(Said::Command { user, target, tty, cwd, command, group, refusal, act }))
}

/// `Operator of unix-session:2 successfully authenticated as unix-user:root to gain … for action ACTION for SUBJECT (owned by unix-user:alice)`;
/// `Registered Authentication Agent for unix-session:2 (…)`
pub(super) fn polkit(message: &str) -> Option<Statement> {
    if message.starts_with("Operator of ") {
        let action = word_after(message, "for action ")?.to_owned();
        let user = between(message, "(owned by unix-user:", ")").unwrap_or_default().to_owned();
        let subject = between(message, "for system-bus-name::", " (owned")
            .or_else(|| between(message, "for unix-process:", " (owned"))
            .unwrap_or_default();
        let is_refused = message.contains("FAILED");
        return Some(Statement::of(Said::Authorization { user, action, subject: subject.to_owned(), is_refused }));
    }
    let (name, rest) = match message.strip_prefix("Registered Authentication Agent for ") {
        Some(rest) => ("StartSession", rest),
        None => ("EndSession", message.strip_prefix("Unregistered Authentication Agent for ")?),
    };
    let session = rest.split([' ', '(']).next().unwrap_or_default().trim_start_matches("unix-session:").to_owned();
    Some(Statement::step(Said::Session { name, program: "polkitd".to_owned(), user: String::new(), session }))
}
