//! Events that local programs post to a Unix socket.
//!
//! Who posts is what the kernel says (SO_PEERCRED), never what the body says. A caller gets its 200 after the commit
//! and not before. Every limit answers with a 4xx that names the place and the way out.

use bytes::Bytes;
use serde::Deserialize;

/// The section `[sources.api]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Where the socket lies; `api.sock` in the state directory unless given.
    pub path: Option<std::path::PathBuf>,
    /// Who may post, as permission bits in octal text: `0660` lets owner and group.
    pub mode: String,
    /// When a caller is answered.
    pub answer_after: AnswerAfter,
    /// Most connections served at once; more wait in the socket's backlog.
    pub connections_max: usize,
}

/// When a posted event counts as taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AnswerAfter {
    /// Durable in this host's buffer.
    #[default]
    Commit,
    /// Durable at the collector.
    Receipt,
}

/// One posted event with the caller as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The event's JSON text, checked by [`super::event::Event::parse`].
    pub event: Bytes,
    pub peer: Peer,
}

/// The process at the other end of the socket, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    /// 0 where the kernel does not say (a process of another PID namespace).
    pub pid: u32,
    /// Unknown without CAP_SYS_PTRACE for a process of another user.
    pub exe: Option<String>,
    /// The login user that the process descends from; `None` for a daemon.
    pub login_uid: Option<u32>,
    /// The audit session of that login.
    pub session: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            path: None,
            mode: "0660".to_owned(),
            answer_after: AnswerAfter::Commit,
            connections_max: CONNECTIONS_MAX_DEFAULT,
        }
    }
}

/// Connections served at once unless configured. A connection holds at most one body of [`BODY_BYTES_MAX`].
const CONNECTIONS_MAX_DEFAULT: usize = 64;

/// Largest body, in bytes: a full batch of 1,024 events of 4 KiB.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
