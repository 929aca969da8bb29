//! Messages of the host's programs as records, from the journal or from lines of syslog.
//!
//! The actor is what the kernel told journald of the sender (`_AUDIT_LOGINUID`, `_UID`), completed by the message.
//! Anybody can write to the journal under any identifier: an entry counts only if its sender is root or the program
//! itself, as installed. A line of syslog has no such proof; whoever configured its file vouches for it.

pub mod catalogue;

mod making;

mod message;

mod units;

use uuid::Uuid;

use self::making::Making;
use super::names::Names;
use super::{Draft, Host};
use crate::observation::SourceName;
use crate::sources::journal::{Entry, PROGRAMS};

/// Where a genuine program lies.
const SYSTEM_DIRECTORIES: &[&str] =
    &["/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/lib/", "/usr/libexec/", "/lib/", "/usr/local/sbin/", "/usr/local/bin/"];

/// The record of a journal's entry; none for what is no act, or not genuine.
pub(super) fn draft(host: &Host, names: &mut Names, event_id: Uuid, time: u64, entry: &Entry) -> Option<Draft> {
    let program = entry.text("SYSLOG_IDENTIFIER")?;
    if !PROGRAMS.contains(&&*program) || !is_genuine(entry, &program) {
        return None;
    }
    carried(host, names, SourceName::Journal, event_id, time, entry)
}

/// The record of a message whose carrier vouches for its sender: SYSLOG_IDENTIFIER and MESSAGE, and whatever else of
/// the journal's fields the carrier knows. None for what is no act.
pub fn carried(host: &Host, names: &mut Names, source: SourceName, event_id: Uuid, time: u64, entry: &Entry) -> Option<Draft> {
    let program = entry.text("SYSLOG_IDENTIFIER")?;
    let mut making = Making::new(host, names, source, entry, &program, event_id, time);
    if units::is_managers(entry, &program) {
        units::read(&mut making)?;
    } else {
        let message = entry.text("MESSAGE")?;
        making.say(message::read(&program, &message)?);
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

#[cfg(test)]
mod tests;
