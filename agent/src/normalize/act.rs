//! The acts that more than one source reports, and the keys by which their reports find each other.
//!
//! A key is built from what every source can read: the kernel's record and the program's own message spell the same
//! act differently (`/dev/pts/0` and `pts/0`, `/usr/bin/id` and `id`), and these functions take the difference away.
//! Equal key, same class and near in time: one act. A key never holds a source's own ids (pid, session, cursor).

use super::Act;

/// The classes of acts, named as in docs/events.md.
pub mod class {
    pub const SUDO_COMMAND: &str = "sudo-command";
    pub const SUDO_END: &str = "sudo-end";
    pub const LOGIN: &str = "login";
    pub const LOGIN_FAILURE: &str = "login-failure";
    pub const LOGOUT: &str = "logout";
    pub const SWITCH_USER: &str = "switch-user";
    pub const CREATE_USER: &str = "create-user";
    pub const DELETE_USER: &str = "delete-user";
    pub const MODIFY_USER: &str = "modify-user";
    pub const CHANGE_PASSWORD: &str = "change-password";
    pub const CREATE_GROUP: &str = "create-group";
    pub const DELETE_GROUP: &str = "delete-group";
    pub const MODIFY_GROUP: &str = "modify-group";
    pub const AUTHENTICATION_FAILURE: &str = "authentication-failure";
    pub const START_UNIT: &str = "start-unit";
    pub const STOP_UNIT: &str = "stop-unit";
}

/// Joins the parts of a key: no part holds a NUL.
const SEPARATOR: char = '\0';

fn act(class: &'static str, parts: &[&str], time: u64) -> Act {
    let mut key = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            key.push(SEPARATOR);
        }
        key.extend(part.chars().filter(|c| *c != SEPARATOR));
    }
    Act { class, key, time }
}

/// A command run through sudo, or refused by it. `user` typed it, `target` is whom it runs as (empty where refused or
/// unknown), `tty` as either source spells it, `command` with its arguments.
pub fn sudo_command(user: &str, target: &str, tty: &str, command: &str, time: u64) -> Act {
    act(class::SUDO_COMMAND, &[at(tty, user), target, terminal(tty), &plain_command(command)], time)
}

/// The end of a command that ran through sudo.
pub fn sudo_end(user: &str, target: &str, tty: &str, command: &str, time: u64) -> Act {
    act(class::SUDO_END, &[at(tty, user), target, terminal(tty), &plain_command(command)], time)
}

/// Whoever typed a command, where its terminal does not tell: within a shell that is another user's, sudo names that user
/// and the kernel whoever logged in.
fn at<'a>(tty: &str, user: &'a str) -> &'a str {
    if terminal(tty).is_empty() { user } else { "" }
}

/// A login over the network or at a console; `address` is empty where there is none.
pub fn login(user: &str, address: &str, time: u64) -> Act {
    act(class::LOGIN, &[user, address], time)
}

/// A refused login. `user` is empty where the host knows no such user: the kernel's record then withholds the name.
pub fn login_failure(user: &str, address: &str, time: u64) -> Act {
    act(class::LOGIN_FAILURE, &[user, address], time)
}

/// The end of a login session.
pub fn logout(user: &str, time: u64) -> Act {
    act(class::LOGOUT, &[user], time)
}

/// su and its like: `user` becomes, or is refused to become, `target`.
pub fn switch_user(user: &str, target: &str, time: u64) -> Act {
    act(class::SWITCH_USER, &[user, target], time)
}

/// A proof of identity that a PAM service refused, outside of a login: sudo's password prompt.
pub fn authentication_failure(service: &str, user: &str, time: u64) -> Act {
    act(class::AUTHENTICATION_FAILURE, &[service, user], time)
}

/// A change of the user or group `name`; `class` is one of CREATE_USER … DELETE_GROUP.
pub fn account(class: &'static str, name: &str, time: u64) -> Act {
    act(class, &[name], time)
}

/// The start or stop of a unit; the kernel's record has services only, without their suffix.
pub fn unit(class: &'static str, name: &str, time: u64) -> Act {
    act(class, &[name.strip_suffix(".service").unwrap_or(name)], time)
}

/// `pts/0` of `/dev/pts/0`; empty where there is none.
pub fn terminal(tty: &str) -> &str {
    match tty.strip_prefix("/dev/").unwrap_or(tty) {
        "?" | "unknown" | "(none)" | "none" | "ssh" | "sshd" | "cron" => "",
        tty => tty,
    }
}

/// A command without what the sources spell differently: the program's directory (sudo's message has the path that it
/// found, the kernel's record what was typed), runs of white space, backslashes; and of a long one its beginning, for
/// sudo's message may hold no more.
fn plain_command(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let mut plain = program.rsplit('/').next().unwrap_or(program).to_owned();
    for word in words {
        plain.push(' ');
        plain.extend(word.chars().filter(|c| *c != '\\'));
    }
    plain.chars().take(COMMAND_CHARS_MAX).collect()
}

/// What is compared of a command. Source: sudo's syslog_maxlen is 980 bytes, of which user, terminal and directory take some.
const COMMAND_CHARS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_command_are_one_act() {
        let kernel = sudo_command("alice", "root", "/dev/pts/0", "id  -u", 1);
        let message = sudo_command("alice", "root", "pts/0", "/usr/bin/id -u", 1);
        assert_eq!(kernel, message);
        assert_eq!(sudo_command("alice", "root", "unknown", "id", 1), sudo_command("alice", "root", "?", "id", 1));
        assert_ne!(sudo_command("alice", "root", "", "id", 1), sudo_command("alice", "bob", "", "id", 1));
    }

    /// sudo names whoever typed it, the kernel whoever logged in; a terminal has one user at a time.
    #[test]
    fn behind_another_s_shell_a_command_is_the_same_act() {
        assert_eq!(sudo_command("alice", "root", "/dev/pts/0", "id", 1), sudo_command("bob", "root", "pts/0", "/usr/bin/id", 1));
        assert_ne!(sudo_command("alice", "root", "pts/0", "id", 1), sudo_command("bob", "root", "pts/1", "id", 1));
        assert_ne!(sudo_command("alice", "root", "", "id", 1), sudo_command("bob", "root", "", "id", 1));
    }

    #[test]
    fn a_part_can_not_pose_as_two() {
        assert_ne!(login("a\0b", "", 1).key, login("a", "b", 1).key);
        assert_eq!(unit(class::START_UNIT, "ssh.service", 1), unit(class::START_UNIT, "ssh", 1));
    }
}
