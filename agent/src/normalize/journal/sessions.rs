//! The login sessions that the journal tells of: what is done in one has the address that it was opened from.
//!
//! A login's message comes from a process that has no session yet; the session is tied to it by the same process's next
//! message, whose `_AUDIT_SESSION` the kernel vouches for, or by logind's, which names the session and its leader. Kept in a
//! cursor, since a session outlives a restart of the agent and its address is told only once. Bounded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::observation::Cursor;
use crate::sources::journal::Entry;

/// Key of the cursor that holds the sessions.
pub const KEY: &str = "journal/sessions";

/// Sessions of one boot, and logins whose session is not known yet.
#[derive(Debug, Default)]
pub struct Sessions {
    saved: Saved,
    is_changed: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    boot: String,
    /// The address of each session's login, by the session's number.
    sessions: BTreeMap<u32, String>,
    /// The address that a login came from, by the process that told it.
    logins: BTreeMap<u32, String>,
}

/// Sessions and logins remembered at once, some 50 bytes each: of more, those with the lowest numbers are forgotten,
/// which are the oldest until numbers begin anew.
const SESSIONS_MAX: usize = 1024;

/// Whose messages name a session and the process that leads it.
const LOGIND: &str = "systemd-logind";

/// Whose processes open the session that they told a login of.
const SERVERS: &[&str] = &["sshd", "dropbear"];

impl Sessions {
    /// Goes on from the cursor of [`KEY`], if there is one.
    pub fn restore(cursor: Option<&Cursor>) -> Self {
        let saved = cursor.and_then(|cursor| serde_json::from_slice(&cursor.value).ok()).unwrap_or_default();
        Self { saved, is_changed: false }
    }

    /// The sessions, where they changed since this was last called.
    pub fn take_cursor(&mut self) -> Option<Cursor> {
        let is_changed = std::mem::take(&mut self.is_changed);
        is_changed.then(|| Cursor { key: KEY.to_owned(), value: serde_json::to_vec(&self.saved).unwrap_or_default() })
    }

    /// The session that an entry was written in, and its login's address. `login` is the address where the entry itself
    /// tells of a login.
    pub(super) fn place(&mut self, entry: &Entry, login: Option<&str>) -> (Option<u32>, Option<String>) {
        self.begin(entry);
        let pid = entry.number("_PID");
        if let (Some(pid), Some(address)) = (pid, login.filter(|address| !address.is_empty())) {
            remember(&mut self.saved.logins, pid, address);
            self.is_changed = true;
        }
        let session = entry.number("_AUDIT_SESSION").filter(|session| *session != u32::MAX);
        let program = entry.text("SYSLOG_IDENTIFIER").unwrap_or_default();
        if program == LOGIND {
            self.tie(entry.number("LEADER"), entry.number("SESSION_ID"));
        } else if SERVERS.iter().any(|server| program.starts_with(server)) {
            self.tie(pid, session);
        }
        (session, session.and_then(|session| self.saved.sessions.get(&session)).cloned())
    }

    /// A session's process told of a login: the session was opened by it.
    fn tie(&mut self, pid: Option<u32>, session: Option<u32>) {
        let (Some(pid), Some(session)) = (pid, session) else { return };
        if let Some(address) = self.saved.logins.remove(&pid) {
            remember(&mut self.saved.sessions, session, &address);
            self.is_changed = true;
        }
    }

    /// Numbers of sessions and processes begin anew with each boot.
    fn begin(&mut self, entry: &Entry) {
        let Some(boot) = entry.text("_BOOT_ID").filter(|boot| *boot != self.saved.boot) else { return };
        self.saved = Saved { boot: boot.into_owned(), ..Saved::default() };
        self.is_changed = true;
    }
}

fn remember(all: &mut BTreeMap<u32, String>, number: u32, address: &str) {
    all.insert(number, address.to_owned());
    while all.len() > SESSIONS_MAX {
        all.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_can_not_be_read_is_none() {
        let entry = |pid: u32| {
            let number = pid.to_string();
            let fields = [("SYSLOG_IDENTIFIER", "sshd".to_owned()), ("_PID", number.clone()), ("_AUDIT_SESSION", number)];
            Entry {
                realtime_us: 1,
                fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value.into_bytes())).collect(),
            }
        };
        let mut sessions = Sessions::default();
        let flood = u32::try_from(SESSIONS_MAX).unwrap() * 2;
        for pid in 0..flood {
            assert_eq!(sessions.place(&entry(pid), Some("192.0.2.1")), (Some(pid), Some("192.0.2.1".to_owned())));
        }
        assert_eq!((sessions.saved.sessions.len(), sessions.saved.logins.len()), (SESSIONS_MAX, 0));
        assert_eq!(sessions.place(&entry(0), None), (Some(0), None));
        let junk = Cursor { key: KEY.to_owned(), value: b"junk".to_vec() };
        assert!(Sessions::restore(Some(&junk)).saved.sessions.is_empty());
    }
}
