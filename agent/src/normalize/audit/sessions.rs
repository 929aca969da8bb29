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
    /// When it was first heard of, Unix seconds.
    #[serde(default)]
    heard: u64,
    /// When it was last heard of, Unix seconds.
    #[serde(default)]
    used: u64,
}

/// Programs whose sessions nobody logged in to: they run what a table says at its time.
pub const TIMERS: &[&str] = &["cron", "atd", "anacron", "fcron"];

#[derive(Debug)]
pub struct Sessions {
    by_id: BTreeMap<u32, Session>,
    changed: bool,
    most: usize,
}

/// Most sessions remembered of this host and of another node of an aggregated log, some 100 bytes each.
const SESSIONS_MAX: usize = 1024;
const NODE_SESSIONS_MAX: usize = 64;

/// The kernel's value for "no session" and "no login user".
pub const UNSET: u32 = u32::MAX;

/// What a cursor holds: this host's sessions of one boot, and those of other nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    boot: String,
    sessions: BTreeMap<u32, Session>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<String, BTreeMap<u32, Session>>,
}

impl Saved {
    pub fn new(boot: &str, sessions: &Sessions) -> Self {
        Self { boot: boot.to_owned(), sessions: sessions.by_id.clone(), nodes: BTreeMap::new() }
    }

    pub fn add(&mut self, node: &str, sessions: &Sessions) {
        self.nodes.insert(node.to_owned(), sessions.by_id.clone());
    }

    pub fn parse(saved: &[u8]) -> Self {
        serde_json::from_slice(saved).unwrap_or_default()
    }

    /// This host's, if of the same boot: session numbers begin anew with each.
    pub fn sessions(&mut self, boot: &str) -> Sessions {
        let by_id = if self.boot == boot { std::mem::take(&mut self.sessions) } else { BTreeMap::new() };
        Sessions { by_id, ..Sessions::default() }.within_bounds()
    }

    /// Other nodes': their boots are told by their own records.
    pub fn nodes(self) -> impl Iterator<Item = (String, Sessions)> {
        self.nodes.into_iter().map(|(node, by_id)| (node, Sessions { by_id, ..Sessions::of_node() }.within_bounds()))
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self { by_id: BTreeMap::new(), changed: false, most: SESSIONS_MAX }
    }
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

    /// Whether nobody logged in to it.
    pub fn is_timers(&self) -> bool {
        self.program.as_deref().is_some_and(|program| TIMERS.contains(&program))
    }
}

impl Sessions {
    /// Of another node of an aggregated log.
    pub fn of_node() -> Self {
        Self { most: NODE_SESSIONS_MAX, ..Self::default() }
    }

    fn within_bounds(mut self) -> Self {
        while self.by_id.len() > self.most {
            self.by_id.pop_first();
        }
        self
    }

    /// Whether something changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The host began anew: so do the numbers of its sessions.
    pub fn forget_before(&mut self, time: u64) {
        let before = self.by_id.len();
        self.by_id.retain(|_, session| session.used >= time);
        self.changed |= self.by_id.len() != before;
    }

    pub fn get(&self, id: u32) -> Option<&Session> {
        self.by_id.get(&id)
    }

    /// A new session has begun: the kernel gave a process this login user and session. The record of it is of several
    /// parts and may come behind what happened in the session since, which stays known.
    pub fn open(&mut self, id: u32, login: u32, time: u64) {
        if id == UNSET {
            return;
        }
        self.changed = true;
        let is_this = |session: &&mut Session| {
            session.login == login && (session.since == time || session.since == 0 && session.heard >= time)
        };
        if let Some(known) = self.by_id.get_mut(&id).filter(is_this) {
            known.since = time;
            return;
        }
        self.by_id.insert(id, Session { login, since: time, heard: time, used: time, ..Session::default() });
        self.make_room();
    }

    /// Changes a session, which need not have been seen before.
    pub fn update(&mut self, id: u32, login: u32, time: u64, change: impl FnOnce(&mut Session)) {
        if id == UNSET {
            return;
        }
        let session = self.by_id.entry(id).or_insert_with(|| Session { login, heard: time, ..Session::default() });
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
        while self.by_id.len() > self.most {
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
        assert!(sessions.take_changed() && !sessions.take_changed(), "nothing changed since");
        let mut saved = Saved::new("boot-a", &sessions);
        saved.add("web-2", &sessions);
        let saved = serde_json::to_vec(&saved).unwrap();
        let restored = |boot: &str, saved: &[u8]| Saved::parse(saved).sessions(boot);
        assert_eq!(restored("boot-a", &saved).get(3).unwrap().address.as_deref(), Some("192.0.2.7"));
        assert_eq!(restored("boot-b", &saved).get(3), None);
        assert_eq!(restored("boot-a", b"junk").get(3), None);
        let (node, sessions) = Saved::parse(&saved).nodes().next().unwrap();
        assert_eq!((node.as_str(), sessions.get(3).unwrap().login), ("web-2", 1000), "another node's boots are its own");
    }

    #[test]
    fn a_late_record_of_its_beginning_takes_nothing_from_a_session() {
        let mut sessions = Sessions::default();
        sessions.update(3, 1000, 100, |session| session.address = Some("192.0.2.7".into()));
        sessions.open(3, 1000, 100);
        let session = sessions.get(3).unwrap();
        assert_eq!((session.address.as_deref(), session.since), (Some("192.0.2.7"), 100));
        sessions.open(3, 1000, 100);
        assert!(sessions.get(3).unwrap().address.is_some(), "the same record once more");
        sessions.open(3, 1001, 100);
        assert_eq!(sessions.get(3).unwrap().address, None, "another user's is another session");
        sessions.update(4, 1000, 100, |session| session.address = Some("192.0.2.8".into()));
        sessions.open(4, 1000, 5000);
        assert_eq!(sessions.get(4).unwrap().address, None, "what was heard before it began is another boot's");
        sessions.forget_before(5000);
        assert!(sessions.get(3).is_none() && sessions.get(4).is_some());
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
