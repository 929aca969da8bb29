//! Messages of the host's programs as records, from the journal or from lines of syslog.
//!
//! The actor is what the kernel told journald of the sender (`_AUDIT_LOGINUID`, `_UID`), completed by the message.
//! Anybody can write to the journal under any identifier: an entry counts only if its sender is root or the program
//! itself, as installed. A line of syslog has no such proof; whoever configured its file vouches for it. For a message
//! from the network nobody does: it never tells of this host, whatever name it bears.

pub mod catalogue;

mod connections;

mod making;

mod message;

mod place;

mod repeats;

mod saying;

pub mod sessions;

mod units;

use std::path::Path;

use uuid::Uuid;

use self::connections::Connections;
use self::making::Making;
pub use self::place::Carrier;
pub(super) use self::repeats::Repeats;
use self::sessions::Sessions;
use super::names::Names;
use super::{Draft, Host};
use crate::sources::journal::{Entry, PROGRAMS, is_pams};

/// Where a genuine program lies.
const SYSTEM_DIRECTORIES: &[&str] =
    &["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/lib/", "/usr/libexec/", "/lib/", "/usr/local/sbin/", "/usr/local/bin/"];

/// What is carried from one message to the next.
#[derive(Debug, Default)]
pub struct Memory {
    pub(super) sessions: Sessions,
    connections: Connections,
}

/// A message with what its carrier knows of it: SYSLOG_IDENTIFIER and MESSAGE, and whatever else of the journal's fields.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub carrier: Carrier<'a>,
    pub event_id: Uuid,
    /// Unix nanoseconds.
    pub time: u64,
    pub entry: &'a Entry,
}

/// The record of a journal's entry; none for what is no act, or not genuine.
pub(super) fn draft(host: &Host, names: &mut Names, memory: &mut Memory, message: &Message<'_>) -> Option<Draft> {
    let program = message.entry.text("SYSLOG_IDENTIFIER")?;
    let is_known = PROGRAMS.contains(&&*program) || message.entry.fields.get("MESSAGE").is_some_and(|text| is_pams(text));
    if !is_known || !is_genuine(message.entry, &program) {
        return None;
    }
    carried(host, names, memory, message)
}

/// The record of a message whose carrier vouches for its sender, or says that nobody does. None for what is no act.
pub fn carried(host: &Host, names: &mut Names, memory: &mut Memory, message: &Message<'_>) -> Option<Draft> {
    let entry = message.entry;
    let program = entry.text("SYSLOG_IDENTIFIER")?;
    // gdm's processes are called `gdm-session-worker [pam/gdm-password]`, and their messages by what follows the last slash.
    let program = program.strip_suffix(']').filter(|_| !program.starts_with('[')).unwrap_or(&program);
    let mut making = Making::new(host, names, message, program);
    if units::is_managers(entry, program) {
        units::read(&mut making)?;
    } else {
        let statement = message::read(program, &entry.text("MESSAGE")?)?;
        making.say(statement, &mut memory.connections);
    }
    if message.carrier == Carrier::Journal {
        making.place(&mut memory.sessions);
    }
    Some(making.done())
}

/// Whether the sender is what its identifier says: root, or the program of that name where the system keeps its own. What
/// else lies there (an interpreter, logger, systemd-cat) writes what its user likes.
fn is_genuine(entry: &Entry, program: &str) -> bool {
    if entry.number("_UID") == Some(0) {
        return true;
    }
    let own = match program {
        "su-l" => "su",
        "sg" => "newgrp",
        "PackageKit" => "packagekitd",
        program => program,
    };
    match (entry.text("_EXE"), entry.text("_COMM")) {
        (Some(exe), _) => {
            let is_systems = SYSTEM_DIRECTORIES.iter().any(|directory| exe.starts_with(directory));
            let is_own = |name: &std::ffi::OsStr| name == own || (own == "sudo" && name == "sudo-rs");
            is_systems && Path::new(&*exe).file_name().is_some_and(is_own)
        }
        (None, Some(comm)) => comm.eq_ignore_ascii_case(own),
        // No sender is known: fixtures, and journals filled from elsewhere by root.
        (None, None) => !entry.fields.contains_key("_UID"),
    }
}

#[cfg(test)]
mod tests;
