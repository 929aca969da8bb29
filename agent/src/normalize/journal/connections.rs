//! What this host's programs said lately, by process: parts of one act are known by the process that told them.
//!
//! A server tells several parts of a login that it refused: that the name is unknown, that the proof was wrong, that the
//! peer went away. The first stands for the attempt, and so does each further wrong proof; the others are steps. sudo tells a
//! long command in several messages. Bounded in number and time; what is forgotten makes a record too many, never one too few.

use std::collections::VecDeque;

use uuid::Uuid;

use super::message::Part;
use crate::observation::SourceName;

/// Processes that told something lately, the latest last.
#[derive(Debug, Default)]
pub(super) struct Connections {
    recent: VecDeque<Recent>,
}

/// A process, by its number and where it runs, empty for this host; and what carried its message, for two sources may carry
/// the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) source: SourceName,
    pub(super) host: String,
    pub(super) pid: u32,
}

#[derive(Debug)]
struct Recent {
    process: Process,
    told: Told,
    /// Unix nanoseconds.
    time: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// A login was refused before any proof: the first wrong proof is of the same attempt.
    Opened,
    /// A proof was refused.
    Failed,
    /// The connection ended, which more than one message may tell.
    Closed,
    /// A command whose rest may follow; its record.
    Command(Uuid),
}

/// Processes remembered at once.
const RECENT_MAX: usize = 1024;

/// How long after a connection's end a message is still of it, nanoseconds: its number may be another's soon.
const CLOSED_NS: u64 = 2_000_000_000;

/// How long, nanoseconds. Source: sshd_config(5), LoginGraceTime's default of 120 s; numbers are used anew after that.
const REMEMBER_NS: u64 = 300_000_000_000;

impl Connections {
    /// Whether this part of a refused login is told by another of the same process already.
    pub(super) fn is_told(&mut self, process: Process, part: Part, time: u64) -> bool {
        let before = self.take(&process, time).filter(|told| !matches!(told, Told::Command(_)));
        let (now, is_told) = match (part, before) {
            (Part::Opens, _) => (Told::Opened, false),
            (Part::Fails, before) => (Told::Failed, before == Some(Told::Opened)),
            (Part::Closes, before) => (Told::Closed, before.is_some()),
        };
        self.put(process, now, time);
        is_told
    }

    /// A command was told whose rest may follow.
    pub(super) fn commands(&mut self, process: Process, record: Uuid, time: u64) {
        self.take(&process, time);
        self.put(process, Told::Command(record), time);
    }

    /// The record of the command that this process told.
    pub(super) fn command(&self, process: &Process) -> Option<Uuid> {
        self.recent.iter().rev().find(|recent| recent.process == *process).and_then(|recent| match recent.told {
            Told::Command(record) => Some(record),
            Told::Opened | Told::Failed | Told::Closed => None,
        })
    }

    fn take(&mut self, process: &Process, time: u64) -> Option<Told> {
        let longest = |told| if told == Told::Closed { CLOSED_NS } else { REMEMBER_NS };
        self.recent.retain(|recent| time.saturating_sub(recent.time) <= longest(recent.told));
        let at = self.recent.iter().position(|recent| recent.process == *process)?;
        self.recent.remove(at).map(|recent| recent.told)
    }

    fn put(&mut self, process: Process, told: Told, time: u64) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { process, told, time });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process { source: SourceName::Journal, host: String::new(), pid }
    }

    #[test]
    fn memory_is_bounded_in_number_and_time() {
        let mut connections = Connections::default();
        let flood = u32::try_from(RECENT_MAX).unwrap() * 2;
        for pid in 0..flood {
            assert!(!connections.is_told(process(pid), Part::Fails, 1));
        }
        assert_eq!(connections.recent.len(), RECENT_MAX);
        assert!(!connections.is_told(process(0), Part::Closes, 2), "forgotten: it stands for itself");
        assert!(connections.is_told(process(flood - 1), Part::Closes, 2));
        assert!(connections.is_told(process(flood - 1), Part::Closes, 3), "the end may be told twice");
        assert!(!connections.is_told(process(flood - 1), Part::Closes, 4 + CLOSED_NS));
        assert!(!connections.is_told(process(flood - 2), Part::Closes, 2 + REMEMBER_NS), "another connection by now");
    }
}
