//! What the programs' messages say: one line of text to one statement.
//!
//! The texts are those of the programs' sources (sudo, shadow, util-linux, OpenSSH, Linux-PAM, cron, polkit). A text
//! that is none of them says nothing: most of what these programs log is no act.

/// What a message says was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// sudo: who typed it, as whom it ran, where, what; `refusal` if it did not.
    Command {
        user: String,
        target: String,
        tty: String,
        cwd: String,
        command: String,
        refusal: Option<String>,
    },
    Login {
        user: String,
        address: String,
        port: String,
        method: String,
        key: Option<String>,
    },
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
        user: String,
        target: String,
        tty: String,
        is_refused: bool,
    },
    /// A password that was wrong, outside of a login: sudo, su.
    AuthenticationFailure {
        program: String,
        user: String,
        tty: String,
        address: String,
    },
    Account {
        name: &'static str,
        what: Account,
        subject: String,
        details: Vec<(&'static str, String)>,
        is_refused: bool,
    },
    ScheduledCommand {
        user: String,
        command: String,
    },
    Crontab {
        name: &'static str,
        user: String,
        owner: String,
    },
    Authorization {
        user: String,
        action: String,
        subject: String,
        is_refused: bool,
    },
    Session {
        name: &'static str,
        user: String,
        session: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    User,
    Group,
}

/// Reads one message of a program.
pub(super) fn read(program: &str, message: &str) -> Option<Said> {
    let message = message.trim();
    if let Some(said) = pam(program, message) {
        return Some(said);
    }
    match program {
        "sudo" => sudo(message),
        "sshd" | "sshd-session" => sshd(message),
        "dropbear" => dropbear(message),
        "su" => su(message),
        "login" => login(message),
        "pkexec" => pkexec(message),
        "polkitd" => polkit(message),
        "cron" | "CRON" | "crond" | "anacron" => cron(message),
        "crontab" => crontab(message),
        "systemd-logind" => logind(message),
        "useradd" | "newusers" | "usermod" | "userdel" | "groupadd" | "groupmod" | "groupdel" | "gpasswd" | "passwd"
        | "chpasswd" | "chage" | "chfn" | "chsh" => shadow(message),
        _ => None,
    }
}

/// The text between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(value, _)| value)
}

fn word_after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.split_whitespace().next()
}

/// `alice : [why ;] TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id`. A user's name holds no ` : `.
fn sudo(message: &str) -> Option<Said> {
    let (user, rest) = message.split_once(" : ")?;
    let (fields, command) = rest.split_once("COMMAND=").map(|(fields, command)| (fields, command.to_owned()))?;
    let mut refusal = None;
    let (mut target, mut tty, mut cwd) = (String::new(), String::new(), String::new());
    for field in fields.split(" ; ") {
        match field.split_once('=') {
            Some(("USER", value)) => target = value.trim_end_matches([' ', ';']).to_owned(),
            Some(("TTY", value)) => tty = value.to_owned(),
            Some(("PWD", value)) => cwd = value.to_owned(),
            Some(_) => {}
            None if !field.trim_matches([' ', ';']).is_empty() => refusal = Some(field.trim().to_owned()),
            None => {}
        }
    }
    Some(Said::Command { user: user.trim().to_owned(), target, tty, cwd, command, refusal })
}

/// `pam_unix(sshd:session): session closed for user alice`, and failures.
fn pam(program: &str, message: &str) -> Option<Said> {
    let (head, text) = message.split_once("): ")?;
    let (module, service_and_stage) = head.split_once('(')?;
    if !module.starts_with("pam_") {
        return None;
    }
    let (service, stage) = service_and_stage.split_once(':')?;
    let is_login = matches!(service, "sshd" | "login" | "dropbear" | "gdm-password" | "lightdm" | "sddm");
    if stage == "session" && is_login {
        let user = text.strip_prefix("session closed for user ")?;
        return Some(Said::Logout { user: user.split_whitespace().next()?.to_owned() });
    }
    if stage == "session" && matches!(service, "su" | "su-l" | "runuser" | "runuser-l") {
        // The program's own message says the same where it has one (util-linux's su); PAM's is always there.
        let rest = text.strip_prefix("session opened for user ")?;
        let (target, by) = rest.split_once(" by ")?;
        let plain = |name: &str| name.split('(').next().unwrap_or_default().trim().to_owned();
        return Some(Said::SwitchUser { user: plain(by), target: plain(target), tty: String::new(), is_refused: false });
    }
    if stage == "chauthtok" {
        let subject = text.strip_prefix("password changed for ")?.to_owned();
        return Some(Said::Account {
            name: "ChangePassword",
            what: Account::User,
            subject,
            details: Vec::new(),
            is_refused: false,
        });
    }
    if stage == "auth" && text.contains("authentication failure") {
        let field = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned();
        let user = Some(field("user=")).filter(|user| !user.is_empty()).unwrap_or_else(|| field("ruser="));
        // A login's failure is said by its program, which knows how it was tried.
        if is_login && program != "login" {
            return None;
        }
        return Some(Said::AuthenticationFailure {
            program: service.to_owned(),
            user,
            tty: field("tty="),
            address: field("rhost="),
        });
    }
    if stage == "auth" && text.contains(" tally ") {
        // `user zbadguy (4001) tally 6, deny 5`
        let user = word_after(text, "user ")?.to_owned();
        return Some(Said::AuthenticationFailure {
            program: service.to_owned(),
            user,
            tty: String::new(),
            address: String::new(),
        });
    }
    None
}

fn sshd(message: &str) -> Option<Said> {
    // `Accepted publickey for alice from 192.0.2.1 port 1 ssh2: ED25519 SHA256:…`
    if let Some(rest) = message.strip_prefix("Accepted ") {
        let (method, rest) = rest.split_once(" for ")?;
        let (user, address, port, tail) = from_port(rest)?;
        let key = tail.split_once(": ").map(|(_, key)| key.trim().to_owned());
        return Some(Said::Login { user, address, port, method: method.to_owned(), key });
    }
    if let Some(rest) = message.strip_prefix("Failed ") {
        let (method, rest) = rest.split_once(" for ")?;
        let (rest, is_unknown) = unknown(rest);
        let (user, address, port, _) = from_port(rest)?;
        return Some(failure(user, address, port, method, is_unknown, "Failed authentication"));
    }
    for prefix in ["Invalid user ", "Illegal user "] {
        if let Some(rest) = message.strip_prefix(prefix) {
            let (user, address, port, _) = from_port(rest)?;
            return Some(failure(user, address, port, "", true, "Invalid user"));
        }
    }
    // `User alice from 192.0.2.1 not allowed because not listed in AllowUsers`
    if let Some(rest) = message.strip_prefix("User ").filter(|rest| rest.contains(" not allowed because ")) {
        let (who, why) = rest.split_once(" not allowed because ")?;
        let (user, address) = who.rsplit_once(" from ")?;
        return Some(failure(user.to_owned(), address.to_owned(), String::new(), "", false, why));
    }
    let limit = message.strip_prefix("error: ").unwrap_or(message).strip_prefix("maximum authentication attempts exceeded for ");
    if let Some(rest) = limit {
        let (rest, is_unknown) = unknown(rest);
        let (user, address, port, _) = from_port(rest)?;
        return Some(failure(user, address, port, "", is_unknown, "Maximum authentication attempts exceeded"));
    }
    // `Connection closed by authenticating user root 192.0.2.1 port 1 [preauth]`, also `Disconnected from`, `reset by`
    for mark in ["authenticating user ", "invalid user "] {
        let starts = ["Connection closed by ", "Connection reset by ", "Disconnected from "];
        let rest = starts.iter().find_map(|start| message.strip_prefix(start)).and_then(|rest| rest.strip_prefix(mark));
        if let Some((user, tail)) = rest.and_then(|rest| rest.rsplit_once(" port ")) {
            let (user, address) = user.rsplit_once(' ')?;
            let port = tail.split_whitespace().next()?.to_owned();
            let why = "Disconnected before authentication";
            return Some(failure(user.to_owned(), address.to_owned(), port, "", mark == "invalid user ", why));
        }
    }
    None
}

fn failure(user: String, address: String, port: String, method: &str, is_unknown: bool, why: &str) -> Said {
    Said::LoginFailure { user, address, port, method: method.to_owned(), is_unknown, why: why.to_owned() }
}

fn unknown(rest: &str) -> (&str, bool) {
    let stripped = rest.strip_prefix("invalid user ").or_else(|| rest.strip_prefix("illegal user "));
    (stripped.unwrap_or(rest), stripped.is_some())
}

/// `USER from ADDRESS port PORT …`; the user's name is the peer's word and may hold anything, so the last `from` counts.
fn from_port(rest: &str) -> Option<(String, String, String, &str)> {
    let (user, tail) = match rest.rsplit_once(" from ") {
        Some(found) => found,
        None => ("", rest.strip_prefix("from ")?),
    };
    let mut parts = tail.splitn(2, char::is_whitespace);
    let address = parts.next()?.to_owned();
    let rest = parts.next().unwrap_or_default();
    let port = rest.strip_prefix("port ").and_then(|rest| rest.split_whitespace().next()).unwrap_or_default().to_owned();
    Some((user.to_owned(), address, port, rest))
}

fn dropbear(message: &str) -> Option<Said> {
    let split = |address: &str| {
        let (address, port) = address.rsplit_once(':').unwrap_or((address, ""));
        (address.to_owned(), port.to_owned())
    };
    if message.contains("auth succeeded for '") {
        let user = between(message, "'", "'")?.to_owned();
        let (address, port) = split(word_after(message, " from ")?);
        let method = message.split_whitespace().next()?.to_lowercase();
        return Some(Said::Login { user, address, port, method, key: None });
    }
    if message.starts_with("Bad ") && message.contains(" attempt for '") {
        let user = between(message, "'", "'")?.to_owned();
        let (address, port) = split(word_after(message, " from ")?);
        return Some(failure(user, address, port, "password", false, "Failed authentication"));
    }
    if let Some(rest) = message.strip_prefix("Login attempt for nonexistent user") {
        let (address, port) = split(word_after(rest, "from ")?);
        return Some(failure(String::new(), address, port, "", true, "Invalid user"));
    }
    None
}

/// `(to root) alice on pts/0`, `FAILED SU (to root) alice on pts/0`.
fn su(message: &str) -> Option<Said> {
    let refused = message.strip_prefix("FAILED SU ");
    let rest = refused.unwrap_or(message).strip_prefix("(to ")?;
    let (target, rest) = rest.split_once(") ")?;
    let (user, tty) = rest.split_once(" on ")?;
    // The success is said by PAM's session too; one of them must be enough.
    refused?;
    Some(Said::SwitchUser { user: user.to_owned(), target: target.to_owned(), tty: tty.to_owned(), is_refused: true })
}

fn login(message: &str) -> Option<Said> {
    if let Some(rest) = message.strip_prefix("LOGIN ON ").or_else(|| message.strip_prefix("DIALUP AT ")) {
        let user = word_after(rest, " BY ")?.to_owned();
        let address = word_after(rest, " FROM ").unwrap_or_default().to_owned();
        return Some(Said::Login { user, address, port: String::new(), method: "password".to_owned(), key: None });
    }
    if message.starts_with("ROOT LOGIN") {
        let address = word_after(message, " FROM ").or_else(|| between(message, "from '", "'")).unwrap_or_default().to_owned();
        return Some(Said::Login {
            user: "root".to_owned(),
            address,
            port: String::new(),
            method: "password".to_owned(),
            key: None,
        });
    }
    if message.starts_with("FAILED LOGIN") {
        let user = between(message, "FOR '", "'")
            .or_else(|| word_after(message, "FOR "))
            .unwrap_or_default()
            .trim_end_matches(',')
            .to_owned();
        let is_unknown = message.contains("User not known") || user == "UNKNOWN";
        let address = word_after(message, " FROM ").unwrap_or_default().to_owned();
        return Some(failure(user, address, String::new(), "password", is_unknown, "Failed authentication"));
    }
    None
}

/// `alice: Executing command [USER=root] [TTY=/dev/pts/0] [CWD=/home/alice] [COMMAND=/usr/bin/id]`
fn pkexec(message: &str) -> Option<Said> {
    let (user, rest) = message.split_once(": ")?;
    let is_executed = rest.starts_with("Executing command");
    let field = |name: &str| between(rest, &format!("[{name}="), "]").unwrap_or_default().to_owned();
    let command = rest.split_once("[COMMAND=").map(|(_, command)| command.strip_suffix(']').unwrap_or(command).to_owned())?;
    let refusal = (!is_executed).then(|| rest.split(" [").next().unwrap_or_default().to_owned());
    Some(Said::Command { user: user.to_owned(), target: field("USER"), tty: field("TTY"), cwd: field("CWD"), command, refusal })
}

/// `Operator of unix-session:2 successfully authenticated as unix-user:root to gain … for action ACTION for SUBJECT (owned by unix-user:alice)`
fn polkit(message: &str) -> Option<Said> {
    if !message.starts_with("Operator of ") {
        return None;
    }
    let action = word_after(message, "for action ")?.to_owned();
    let user = between(message, "(owned by unix-user:", ")").unwrap_or_default().to_owned();
    let subject = between(message, "for system-bus-name::", " (owned")
        .or_else(|| between(message, "for unix-process:", " (owned"))
        .unwrap_or_default();
    Some(Said::Authorization { user, action, subject: subject.to_owned(), is_refused: message.contains("FAILED") })
}

/// `(root) CMD (run-parts /etc/cron.hourly)`
fn cron(message: &str) -> Option<Said> {
    let (user, rest) = message.strip_prefix('(')?.split_once(") ")?;
    let command = rest.strip_prefix("CMD (")?;
    Some(Said::ScheduledCommand {
        user: user.to_owned(),
        command: command.strip_suffix(')').unwrap_or(command).trim().to_owned(),
    })
}

/// `(root) REPLACE (alice)`
fn crontab(message: &str) -> Option<Said> {
    let (user, rest) = message.strip_prefix('(')?.split_once(") ")?;
    let (verb, owner) = rest.split_once(" (")?;
    let name = match verb {
        "REPLACE" => "ModifyCrontab",
        "DELETE" => "DeleteCrontab",
        _ => return None,
    };
    Some(Said::Crontab { name, user: user.to_owned(), owner: owner.trim_end_matches(')').to_owned() })
}

/// `New session 5 of user alice.`, `Removed session 5.`
fn logind(message: &str) -> Option<Said> {
    if let Some(rest) = message.strip_prefix("New session ") {
        let (session, user) = rest.split_once(" of user ")?;
        let user = user.split(" with class").next().unwrap_or(user).trim_end_matches('.').trim_matches('\'');
        return Some(Said::Session {
            name: "StartSession",
            user: user.to_owned(),
            session: session.trim_matches('\'').to_owned(),
        });
    }
    let session = message.strip_prefix("Removed session ")?.trim_end_matches('.').to_owned();
    Some(Said::Session { name: "EndSession", user: String::new(), session })
}

/// The shadow suite.
fn shadow(message: &str) -> Option<Said> {
    let account = |name, what, subject: &str, details| Said::Account {
        name,
        what,
        subject: subject.to_owned(),
        details,
        is_refused: false,
    };
    let field = |name: &str| between(&format!("{message}, "), &format!("{name}="), ", ").map(str::to_owned);
    let fields = |list: &[(&'static str, &str)]| {
        list.iter().filter_map(|(to, from)| field(from).map(|value| (*to, value))).collect::<Vec<_>>()
    };
    if message.starts_with("new user: ") {
        let details = fields(&[("uid", "UID"), ("gid", "GID"), ("home", "home"), ("shell", "shell")]);
        return Some(account("CreateUser", Account::User, &field("name")?, details));
    }
    if message.starts_with("new group: ") {
        return Some(account("CreateGroup", Account::Group, &field("name")?, fields(&[("gid", "GID")])));
    }
    if let Some(rest) = message.strip_prefix("delete user ") {
        return Some(account("DeleteUser", Account::User, quoted(rest)?, Vec::new()));
    }
    if let Some(rest) = message.strip_prefix("add ").filter(|rest| rest.contains(" to group ")) {
        let (user, group) = rest.split_once(" to group ")?;
        return Some(account("AddUserToGroup", Account::User, quoted(user)?, vec![("group", quoted(group)?.to_owned())]));
    }
    if let Some(rest) = message.strip_prefix("delete ").filter(|rest| rest.contains(" from group ")) {
        let (user, group) = rest.split_once(" from group ")?;
        return Some(account("RemoveUserFromGroup", Account::User, quoted(user)?, vec![("group", quoted(group)?.to_owned())]));
    }
    // gpasswd: `user bob added by root to group sudo`
    if let Some(rest) = message.strip_prefix("user ") {
        for (mark, end, name) in
            [(" added by ", " to group ", "AddUserToGroup"), (" removed by ", " from group ", "RemoveUserFromGroup")]
        {
            if let Some((user, tail)) = rest.split_once(mark) {
                let group = tail.split_once(end)?.1.to_owned();
                return Some(account(name, Account::User, user, vec![("group", group)]));
            }
        }
        return None;
    }
    for prefix in ["removed group ", "group "] {
        let Some(rest) = message.strip_prefix(prefix) else { continue };
        let is_removed = prefix == "removed group " || rest.ends_with(" removed");
        return is_removed.then(|| quoted(rest).map(|group| account("DeleteGroup", Account::Group, group, Vec::new())))?;
    }
    if let Some(rest) = message.strip_prefix("change user ") {
        let user = quoted(rest)?;
        let what = rest.get(user.len() + 2..).unwrap_or_default().trim();
        return Some(account("ModifyUser", Account::User, user, vec![("change", what.to_owned())]));
    }
    for (prefix, what) in
        [("lock user ", "lock"), ("unlock user ", "unlock"), ("changed password expiry for ", "password expiry")]
    {
        if let Some(rest) = message.strip_prefix(prefix) {
            return Some(account("ModifyUser", Account::User, quoted(rest)?, vec![("change", what.to_owned())]));
        }
    }
    if let Some(rest) = message.strip_prefix("password for ").filter(|rest| rest.contains(" changed by ")) {
        return Some(account("ChangePassword", Account::User, quoted(rest)?, Vec::new()));
    }
    None
}

/// `'bob' …` or `bob …`: the name.
fn quoted(text: &str) -> Option<&str> {
    match text.trim_start().strip_prefix(['\'', '"', '`']) {
        Some(rest) => rest.split(['\'', '"']).next(),
        None => text.split_whitespace().next(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sudo_says_who_ran_what_as_whom() {
        let said = read("sudo", "   alice : TTY=pts/0 ; PWD=/home/alice ; USER=root ; COMMAND=/usr/bin/id -u ; x").unwrap();
        let Said::Command { user, target, tty, cwd, command, refusal } = said else { panic!() };
        assert_eq!(
            (&*user, &*target, &*tty, &*cwd, &*command, refusal),
            ("alice", "root", "pts/0", "/home/alice", "/usr/bin/id -u ; x", None)
        );
        let said = read("sudo", "eve : user NOT in sudoers ; TTY=pts/1 ; PWD=/ ; USER=root ; COMMAND=/bin/sh").unwrap();
        assert!(matches!(said, Said::Command { refusal: Some(why), .. } if why == "user NOT in sudoers"));
    }

    #[test]
    fn a_user_name_can_not_pose_as_an_address() {
        let said = read("sshd", "Failed password for invalid user x from 192.0.2.9 from 198.51.100.1 port 22 ssh2").unwrap();
        assert!(
            matches!(said, Said::LoginFailure { address, user, is_unknown: true, .. } if address == "198.51.100.1" && user == "x from 192.0.2.9")
        );
    }

    #[test]
    fn accounts_are_read_from_the_shadow_suites_words() {
        for (message, name, subject) in [
            ("new user: name=bob, UID=1001, GID=1001, home=/home/bob, shell=/bin/sh, from=none", "CreateUser", "bob"),
            ("new group: name=bob, GID=1001", "CreateGroup", "bob"),
            ("delete user 'bob'", "DeleteUser", "bob"),
            ("removed group 'bob' owned by 'bob'", "DeleteGroup", "bob"),
            ("group 'x' removed", "DeleteGroup", "x"),
            ("add 'bob' to group 'sudo'", "AddUserToGroup", "bob"),
            ("user bob removed by root from group sudo", "RemoveUserFromGroup", "bob"),
            ("change user 'bob' shell from '/bin/sh' to '/bin/bash'", "ModifyUser", "bob"),
            ("lock user 'bob' password", "ModifyUser", "bob"),
            ("password for 'bob' changed by 'root'", "ChangePassword", "bob"),
            ("pam_unix(passwd:chauthtok): password changed for bob", "ChangePassword", "bob"),
        ] {
            let Some(Said::Account { name: found, subject: who, .. }) = read("usermod", message) else { panic!("{message}") };
            assert_eq!((found, &*who), (name, subject), "{message}");
        }
        assert_eq!(read("groupadd", "group added to /etc/group: name=x, GID=1002"), None, "said once more by `new group`");
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(program in 0..super::super::PROGRAMS_TRIED.len(), message in "\\PC{0,80}|(Accepted |Failed |from |for |user |port |'|\\(|\\)|: |=| ){0,12}") {
            let _either = read(super::super::PROGRAMS_TRIED[program], &message);
        }
    }
}
