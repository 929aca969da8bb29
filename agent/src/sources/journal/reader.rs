//! Reading journal files: the narrow way to the crate that knows their format.
//!
//! The files are opened anew for each reading, so that rotation, vacuuming and a vanished directory need no care. What
//! was read already is known by boot and monotonic time besides the cursor: the wall clock may step back, and entries
//! are ordered by it.

use std::path::PathBuf;

use sdjournal::{Cursor, EntryRef, Journal, JournalConfig, JournalQuery, SdJournalError};
use serde::{Deserialize, Serialize};

use super::Entry;

/// How far the reading is: where it goes on, and the last entry that is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The crate's cursor text: file, offset, sequence number, time.
    pub(super) cursor: String,
    pub(super) boot: String,
    pub(super) monotonic_us: u64,
    pub(super) realtime_us: u64,
    /// The time that the clock showed before it was set back: up to there all is read that it wrote then. 0 where it was not.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) ahead_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Mark {
    /// Whether an entry was read before this mark was set, `current` being the boot that this runs in: once something of
    /// this boot is read, all of the boots before is.
    fn is_done_with(&self, entry: &Self, current: &str) -> bool {
        if self.boot == entry.boot { entry.monotonic_us <= self.monotonic_us } else { self.boot == current }
    }

    pub(super) fn is_readable(&self) -> bool {
        Cursor::parse(&self.cursor).is_ok()
    }
}

/// What a reading gave.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) entries: Vec<(Mark, Entry)>,
    /// The last entry seen, wanted or not.
    pub(super) last: Option<Mark>,
    /// Whether there may be more.
    pub(super) more: bool,
    /// Entries that could not be read.
    pub(super) damaged: u64,
}

/// A journal: the files of a host, or entries that a test makes.
pub(super) trait Reader: Send {
    /// Up to `limit` wanted entries after `mark`; all there are where there is no mark.
    fn read(&mut self, mark: Option<&Mark>, now_us: u64, limit: usize) -> Result<Reading, ReadError>;

    /// The newest entry.
    fn newest(&mut self) -> Result<Option<Mark>, ReadError>;

    /// Time of the oldest entry, microseconds.
    fn oldest_us(&mut self) -> Result<Option<u64>, ReadError>;
}

#[derive(Debug, thiserror::Error)]
#[error("can't read the journal: let the agent's user be in the group systemd-journal")]
pub(super) struct ReadError(#[source] SdJournalError);

/// The journal's files in these directories.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) directories: Vec<PathBuf>,
}

/// Entries looked at in one reading, wanted or not: bounds the time until the stop is noticed.
const LOOKED_AT_MAX: usize = 20_000;

/// How far back a reading begins when the clock stepped back, microseconds.
const STEP_BACK_US: u64 = 10 * 60 * 1_000_000;

/// Entries looked at in that one reading: some 300 in each second of the ten minutes.
const AMONG_MAX: usize = 200_000;

/// Longest value of a field that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// Most namespaces of one directory: each has files of its own to open.
const NAMESPACES_MAX: usize = 64;

impl Files {
    /// `None` while there are no files.
    fn open(&self) -> Result<Option<Journal>, ReadError> {
        let mut there: Vec<PathBuf> = self.directories.iter().filter(|directory| directory.is_dir()).cloned().collect();
        let namespaces: Vec<PathBuf> = there.iter().flat_map(|directory| namespaces(directory)).collect();
        there.extend(namespaces);
        if there.is_empty() {
            return Ok(None);
        }
        match Journal::open_dirs_with_config(&there, JournalConfig::default()) {
            Ok(journal) => Ok(Some(journal)),
            Err(SdJournalError::NotFound | SdJournalError::Transient { .. }) => Ok(None),
            Err(error) => Err(ReadError(error)),
        }
    }

    fn edge(&self, reverse: bool) -> Result<Option<EntryRef>, ReadError> {
        let Some(journal) = self.open()? else { return Ok(None) };
        let mut query = journal.query();
        query.reverse(reverse).limit(1);
        query.iter().map_err(ReadError)?.next().transpose().map_err(ReadError)
    }
}

impl Reader for Files {
    fn read(&mut self, mark: Option<&Mark>, now_us: u64, limit: usize) -> Result<Reading, ReadError> {
        let Some(journal) = self.open()? else { return Ok(Reading::default()) };
        let mut query = journal.query();
        let Some(mark) = mark else { return scan(&query, None, limit, LOOKED_AT_MAX) };
        query.after_cursor(Cursor::parse(&mark.cursor).map_err(ReadError)?);
        // What lies ahead of the clock was read before it was set back.
        if now_us < mark.ahead_us {
            query.until_realtime(now_us);
        }
        let mut reading = scan(&query, Some(mark), limit, LOOKED_AT_MAX)?;
        let is_back = mark.realtime_us > now_us;
        if !is_back || !reading.entries.is_empty() || reading.more {
            reading.more |= is_back;
            return Ok(reading);
        }
        // All is read, and the clock stands before it: it was set back, and what is new stands among the old.
        let ahead_us = mark.ahead_us.max(mark.realtime_us);
        let mut query = journal.query();
        query.since_realtime(now_us.saturating_sub(STEP_BACK_US)).until_realtime(now_us);
        let mut among = scan(&query, Some(&Mark { ahead_us, ..mark.clone() }), limit, AMONG_MAX)?;
        among.damaged += reading.damaged;
        among.last = among.last.or(reading.last);
        Ok(among)
    }

    fn newest(&mut self) -> Result<Option<Mark>, ReadError> {
        Ok(self.edge(true)?.as_ref().map(mark_of))
    }

    fn oldest_us(&mut self) -> Result<Option<u64>, ReadError> {
        Ok(self.edge(false)?.as_ref().map(EntryRef::realtime_usec))
    }
}

/// Reads what a query finds and is not done with, at most `limit` wanted entries. Each mark stands where the reading goes on
/// and knows the greatest time of this host's boot, for older entries may follow where the clock was set back.
fn scan(query: &JournalQuery, mark: Option<&Mark>, limit: usize, looked_at_max: usize) -> Result<Reading, ReadError> {
    let mut reading = Reading::default();
    let (boot, machine) = (id_of("/proc/sys/kernel/random/boot_id"), id_of("/etc/machine-id"));
    let mut last = mark.cloned();
    for (looked_at, entry) in query.iter().map_err(ReadError)?.enumerate() {
        if reading.entries.len() >= limit || looked_at >= looked_at_max {
            // Without progress there is nothing more to be hoped for.
            reading.more = last.as_ref() != mark;
            break;
        }
        let Ok(entry) = entry else {
            reading.damaged += 1;
            continue;
        };
        // A container's journal has boots of its own.
        let is_own = entry.get("_MACHINE_ID").is_none_or(|id| id == machine.as_bytes());
        let here = mark_of(&entry);
        let is_done = is_own && mark.is_some_and(|mark| mark.is_done_with(&here, &boot));
        let here = match last {
            Some(last) if is_done || !is_own => Mark { cursor: here.cursor, realtime_us: here.realtime_us, ..last },
            Some(last) if last.boot == here.boot => {
                Mark { monotonic_us: here.monotonic_us.max(last.monotonic_us), ahead_us: last.ahead_us, ..here }
            }
            Some(last) => Mark { ahead_us: last.ahead_us, ..here },
            None => here,
        };
        if !is_done && super::wanted::is_wanted(|field| entry.get(field)) {
            reading.entries.push((here.clone(), entry_of(&entry)));
        }
        last = Some(here);
    }
    reading.last = last.filter(|last| Some(last) != mark);
    Ok(reading)
}

/// An id as entries spell it.
fn id_of(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default().trim().replace('-', "")
}

/// Directories of the journal's namespaces, which the crate does not look into: `MACHINE.NAMESPACE`.
fn namespaces(directory: &std::path::Path) -> Vec<PathBuf> {
    let is_namespace = |name: &str| {
        let machine = name.split_once('.').map(|(machine, _)| machine);
        machine.is_some_and(|machine| machine.len() == 32 && machine.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let found = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_namespace)).map(|entry| entry.path());
    found.filter(|path| path.is_dir()).take(NAMESPACES_MAX).collect()
}

fn mark_of(entry: &EntryRef) -> Mark {
    Mark {
        cursor: entry.cursor().map(|cursor| cursor.to_string()).unwrap_or_default(),
        boot: hex::encode(entry.boot_id()),
        monotonic_us: entry.monotonic_usec(),
        realtime_us: entry.realtime_usec(),
        ahead_us: 0,
    }
}

fn entry_of(entry: &EntryRef) -> Entry {
    let mut kept = Entry { realtime_us: entry.realtime_usec(), ..Entry::default() };
    for (name, value) in entry.iter_fields() {
        if super::FIELDS.contains(&name) {
            let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
            kept.fields.entry(name.to_owned()).or_insert_with(|| value.to_vec());
        }
    }
    kept
}
