//! The login sessions of this boot: what happens in one has the address that it was opened from.
//!
//! Bounded: closed sessions give way first, then the one unused longest. Kept in a cursor, since a session outlives a
//! restart of the agent and its address is told only once.

use std::collections::BTreeMap;

use edgetrail_proto::record::format_time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One audit session (`ses`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The login user's id (`auid`).
    pub login: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The terminal, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// How the user proved who it is: `password`, `publickey` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The program that opened it: `sshd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// When the kernel opened it, Unix seconds; 0 where that was not seen.
    #[serde(default)]
    pub since: u64,
    /// A Login stands for it.
    #[serde(default)]
    pub reported: bool,
    /// A Logout stands for it. Its processes may live on.
    #[serde(default)]
    pub closed: bool,
    /// When it was last heard of, Unix seconds.
    #[serde(default)]
    used: u64,
}

#[derive(Debug, Default)]
pub struct Sessions {
    by_id: BTreeMap<u32, Session>,
    changed: bool,
}

/// Most sessions remembered, some 100 bytes each.
const SESSIONS_MAX: usize = 1024;

/// The kernel's value for "no session" and "no login user".
pub const UNSET: u32 = u32::MAX;

#[derive(Serialize, Deserialize)]
struct Saved {
    boot: String,
    sessions: BTreeMap<u32, Session>,
}

impl Session {
    /// As `additionalEventData.edgetrail.login` has it; none where nothing is known.
    pub fn describe(&self) -> Option<Value> {
        let texts = [("tty", &self.tty), ("method", &self.method), ("program", &self.program)];
        let mut members: Map<String, Value> =
            texts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into()))).collect();
        if self.since > 0 {
            members.insert("since".to_owned(), format_time(self.since.saturating_mul(1_000_000_000)).into());
        }
        (!members.is_empty()).then_some(Value::Object(members))
    }
}

impl Sessions {
    /// What [`Self::save`] wrote, if in the same boot: session numbers begin anew with each.
    pub fn restore(boot: &str, saved: &[u8]) -> Self {
        let sessions = serde_json::from_slice::<Saved>(saved).ok().filter(|saved| saved.boot == boot);
        let mut by_id = sessions.map(|saved| saved.sessions).unwrap_or_default();
        while by_id.len() > SESSIONS_MAX {
            by_id.pop_first();
        }
        Self { by_id, changed: false }
    }

    /// Its bytes, where something changed since it last was asked for them.
    pub fn save(&mut self, boot: &str) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let saved = Saved { boot: boot.to_owned(), sessions: self.by_id.clone() };
        serde_json::to_vec(&saved).ok()
    }

    pub fn get(&self, id: u32) -> Option<&Session> {
        self.by_id.get(&id)
    }

    /// A new session has begun: the kernel gave a process this login user and session.
    pub fn open(&mut self, id: u32, login: u32, time: u64) {
        if id != UNSET {
            self.by_id.insert(id, Session { login, since: time, used: time, ..Session::default() });
            self.changed = true;
            self.make_room();
        }
    }

    /// Changes a session, which need not have been seen before.
    pub fn update(&mut self, id: u32, login: u32, time: u64, change: impl FnOnce(&mut Session)) {
        if id == UNSET {
            return;
        }
        let session = self.by_id.entry(id).or_insert_with(|| Session { login, ..Session::default() });
        let before = session.clone();
        change(session);
        self.changed |= before != *session;
        session.used = time;
        self.make_room();
    }

    /// The newest open session of a login user from an address.
    pub fn newest(&self, login: u32, address: &str) -> Option<u32> {
        let is_it = |session: &Session| session.login == login && !session.closed && session.address.as_deref() == Some(address);
        self.by_id.iter().filter(|(_, session)| is_it(session)).max_by_key(|(_, session)| session.since).map(|(id, _)| *id)
    }

    fn make_room(&mut self) {
        while self.by_id.len() > SESSIONS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, session)| (!session.closed, session.used)).map(|(id, _)| *id);
            if let Some(id) = oldest {
                self.by_id.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_its_address_across_a_restart_but_not_a_reboot() {
        let mut sessions = Sessions::default();
        sessions.open(3, 1000, 5);
        sessions.update(3, 1000, 6, |session| session.address = Some("192.0.2.7".into()));
        let saved = sessions.save("boot-a").unwrap();
        assert_eq!(sessions.save("boot-a"), None, "nothing changed since");
        assert_eq!(Sessions::restore("boot-a", &saved).get(3).unwrap().address.as_deref(), Some("192.0.2.7"));
        assert_eq!(Sessions::restore("boot-b", &saved).get(3), None);
        assert_eq!(Sessions::restore("boot-a", b"junk").get(3), None);
    }

    #[test]
    fn closed_sessions_give_way_first() {
        let mut sessions = Sessions::default();
        for id in 0..1024 {
            sessions.open(id, 1000, u64::from(id));
        }
        sessions.update(500, 1000, 9999, |session| session.closed = true);
        sessions.open(5000, 1000, 9999);
        assert_eq!(sessions.get(500), None);
        assert!(sessions.get(0).is_some());
        sessions.open(5001, 1000, 9999);
        assert_eq!(sessions.get(0), None);
    }
}
