//! Which entries are read: those of programs that administer the host, what PAM says under any name, and journald's word on
//! what it dropped.

/// Programs whose entries are read, by SYSLOG_IDENTIFIER; of others, what PAM says under their names, for display managers
/// and servers are many. Whether an entry is genuine, normalize judges.
pub const PROGRAMS: &[&str] = &[
    "sudo",
    "su",
    "su-l",
    "doas",
    "sshd",
    "sshd-session",
    "sshd-auth",
    "dropbear",
    "login",
    "systemd-logind",
    "polkitd",
    "polkit-agent-helper-1",
    "pkexec",
    "useradd",
    "usermod",
    "userdel",
    "groupadd",
    "groupmod",
    "groupdel",
    "gpasswd",
    "newgrp",
    "sg",
    "vipw",
    "vigr",
    "passwd",
    "chpasswd",
    "chage",
    "chfn",
    "chsh",
    "newusers",
    "cron",
    "CRON",
    "crond",
    "CROND",
    "crontab",
    "anacron",
    "atd",
    "systemd",
    "systemd-networkd",
    "systemd-hostnamed",
    "systemd-timedated",
    "NetworkManager",
    "firewalld",
    "yum",
    "dnf",
    "rpm",
    "[RPM]",
    "pacman",
    "PackageKit",
    "packagekitd",
    "vsftpd",
];

/// journald's word on what it dropped. Source: systemd's sd-messages.h, SD_MESSAGE_JOURNAL_DROPPED.
pub(super) const DROPPED: &[u8] = b"a596d6fe7bfa4994828e72309e95d61e";

/// Whether an entry with these fields is of a program that administers the host, or journald's on what it dropped.
pub(super) fn is_wanted<'a>(field: impl Fn(&str) -> Option<&'a [u8]>) -> bool {
    if field("MESSAGE_ID") == Some(DROPPED) {
        return true;
    }
    let Some(program) = field("SYSLOG_IDENTIFIER") else { return false };
    PROGRAMS.iter().any(|known| known.as_bytes() == program) || field("MESSAGE").is_some_and(is_pams)
}

/// Whether a message has the form in which PAM's modules speak, whatever program uses them.
pub fn is_pams(message: &[u8]) -> bool {
    let Some(rest) = message.strip_prefix(b"pam_") else { return false };
    let head = rest.get(..PAM_HEAD_BYTES_MAX).unwrap_or(rest);
    let text = String::from_utf8_lossy(head);
    let Some((module, rest)) = text.split_once('(') else { return false };
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    rest.split_once("): ")
        .and_then(|(head, _)| head.split_once(':'))
        .is_some_and(|(service, stage)| is_word(module) && is_word(service) && is_word(stage))
}

/// Module, service and stage are names: longer heads are none.
const PAM_HEAD_BYTES_MAX: usize = 160;
