//! `last message repeated 12 times`: what the message before it said, as often.
//!
//! Bounded: of more than a few hosts, or of a longer message, the repetition is not counted.

use std::collections::VecDeque;

use crate::sources::file::syslog::SyslogLine;
use crate::sources::journal::Entry;

/// The last message of each host, by the file or peer that it came from.
#[derive(Debug, Default)]
pub(in crate::normalize) struct Repeats {
    last: VecDeque<Last>,
}

#[derive(Debug)]
struct Last {
    path: String,
    host: String,
    entry: Entry,
}

const HOSTS_MAX: usize = 64;

/// Longest message remembered, in bytes: an act's are shorter.
const MESSAGE_BYTES_MAX: usize = 4096;

impl Repeats {
    /// The line's entry; of a repetition the one that it repeats, counted. None of one that is not remembered.
    pub(in crate::normalize) fn entry(&mut self, path: &str, line: &SyslogLine<'_>) -> Option<Entry> {
        let times = (line.program == "last").then(|| line.message.strip_prefix("message repeated ")).flatten();
        let times = times.and_then(|rest| rest.trim_end_matches('.').strip_suffix(" times"));
        let at = self.last.iter().position(|last| last.path == path && last.host == line.host);
        if let Some(times) = times {
            let last = self.last.get(at?)?;
            let mut entry = Entry { realtime_us: line.entry().realtime_us, ..last.entry.clone() };
            let message = last.entry.text("MESSAGE")?;
            entry.fields.insert("MESSAGE".to_owned(), format!("message repeated {times} times: [ {message}]").into_bytes());
            return Some(entry);
        }
        if let Some(at) = at {
            self.last.remove(at);
        }
        let entry = line.entry();
        if line.message.len() <= MESSAGE_BYTES_MAX {
            if self.last.len() >= HOSTS_MAX {
                self.last.pop_front();
            }
            self.last.push_back(Last { path: path.to_owned(), host: line.host.to_owned(), entry: entry.clone() });
        }
        Some(entry)
    }
}
