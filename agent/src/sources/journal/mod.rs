//! systemd's journal.
//!
//! Entries of the programs that administer the host are read from the journal's files, from a cursor on. A journal
//! that rotates or vanishes is survived; a cursor that is gone is reported as a loss.

mod reader;

mod wanted;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::reader::{Files, Mark, ReadError, Reader};
use self::wanted::DROPPED;
pub use self::wanted::{PROGRAMS, is_pams};
use super::SourceError;
use super::watch::Watch;
use crate::observation::{Cursor, GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Stopped};

/// The section `[sources.journal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Where the journal's files lie, in directories named by machine id.
    pub directories: Vec<PathBuf>,
}

/// One journal entry: its time and the fields that normalize reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `__REALTIME_TIMESTAMP`, microseconds.
    pub realtime_us: u64,
    /// The first value of each field.
    pub fields: BTreeMap<String, Vec<u8>>,
}

/// The source, its journal found.
#[derive(Debug)]
pub struct JournalSource {
    directories: Vec<PathBuf>,
    cursor: Option<Vec<u8>>,
}

/// Fields that are kept. Source: systemd.journal-fields(7).
const FIELDS: &[&str] = &[
    "MESSAGE",
    "MESSAGE_ID",
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_PID",
    "_PID",
    "_UID",
    "_GID",
    "_COMM",
    "_EXE",
    "_CMDLINE",
    "_AUDIT_LOGINUID",
    "_AUDIT_SESSION",
    "_SYSTEMD_UNIT",
    "_TRANSPORT",
    "_HOSTNAME",
    "_BOOT_ID",
    "UNIT",
    "JOB_TYPE",
    "JOB_RESULT",
    "JOB_ID",
    "USER_ID",
    "SESSION_ID",
    "LEADER",
];

/// The cursor's key.
pub(crate) const CURSOR_KEY: &str = "journal";

/// How often a journal that does not exist yet is looked for, should its parent not be watchable.
const ABSENT_WAIT: Duration = Duration::from_secs(60);

/// How soon a reading that failed is tried again, and how many failures in a row are reported.
const RETRY_WAIT: Duration = Duration::from_secs(1);
const FAILURES_REPORTED: u32 = 3;

impl Default for Config {
    fn default() -> Self {
        Self { enabled: true, directories: vec!["/var/log/journal".into(), "/run/log/journal".into()] }
    }
}

impl Entry {
    /// A field as text; what is not UTF-8 is replaced.
    pub fn text(&self, field: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.fields.get(field).map(|value| String::from_utf8_lossy(value))
    }

    pub fn number(&self, field: &str) -> Option<u32> {
        self.text(field)?.parse().ok()
    }
}

/// `Suppressed 123 messages from /system.slice/ssh.service`, said by journald itself: how many, and where.
fn suppressed(entry: &Entry) -> Option<(u64, String)> {
    let is_journalds = entry.fields.get("MESSAGE_ID").is_some_and(|id| id == DROPPED) && entry.text("_TRANSPORT")? == "driver";
    let message = entry.text("MESSAGE").filter(|_| is_journalds)?;
    let (count, from) = message.strip_prefix("Suppressed ")?.split_once(" messages from ")?;
    Some((count.parse().ok()?, from.to_owned()))
}

impl JournalSource {
    /// `cursor` is this source's, as the buffer holds it.
    pub fn new(config: Config, cursor: Option<Cursor>) -> Result<Self, SourceError> {
        let unavailable = |why: String| SourceError::Unavailable { source_name: SourceName::Journal, why };
        if !config.enabled {
            return Err(unavailable("turned off by sources.journal.enabled".to_owned()));
        }
        if !config.directories.iter().any(|directory| directory.is_dir()) {
            let there: Vec<_> = config.directories.iter().map(|directory| directory.display().to_string()).collect();
            let why = format!("none of {} exists: is systemd-journald running? (sources.journal.directories)", there.join(", "));
            return Err(unavailable(why));
        }
        let source = Self { directories: config.directories, cursor: cursor.map(|cursor| cursor.value) };
        match source.files().newest() {
            Ok(_) => Ok(source),
            Err(error) => Err(unavailable(chain(&error))),
        }
    }

    /// Reads until told to stop.
    pub async fn run(self, intake: Intake, stop: CancellationToken) -> Result<(), SourceError> {
        let failed =
            |doing: &str, cause| SourceError::Failed { source_name: SourceName::Journal, doing: doing.to_owned(), cause };
        let (watch, waker) = Watch::new().map_err(|error| failed("setting up inotify", error.into()))?;
        let reading = Follower { reader: self.files(), directories: self.directories, watch, mark: None, failures: 0 };
        let cursor = self.cursor;
        let ended = waker.run(&stop, move |seen| reading.run(cursor.as_deref(), &intake, seen)).await;
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed("waiting for entries", error.into())),
            Err(error) => Err(failed("reading the journal", error.into())),
        }
    }

    fn files(&self) -> Files {
        Files { directories: self.directories.clone() }
    }
}

/// The thread's state.
struct Follower<R> {
    reader: R,
    directories: Vec<PathBuf>,
    watch: Watch,
    /// The last entry that was sent or passed over.
    mark: Option<Mark>,
    /// Readings that failed since the last good one.
    failures: u32,
}

impl<R: Reader> Follower<R> {
    fn run(mut self, cursor: Option<&[u8]>, intake: &Intake, stop: &CancellationToken) -> std::io::Result<()> {
        self.watch_directories();
        let start = self.start(cursor);
        if send(intake, start).is_err() {
            return Ok(());
        }
        while !stop.is_cancelled() {
            if self.read_all(intake, stop).is_err() {
                return Ok(());
            }
            let is_watched = self.watch_directories();
            let wait = if self.failures > 0 { Some(RETRY_WAIT) } else { (!is_watched).then_some(ABSENT_WAIT) };
            self.watch.wait(wait)?;
        }
        Ok(())
    }

    /// Watches whatever exists of the directories and of those within; true if anything does.
    fn watch_directories(&self) -> bool {
        let mut any = false;
        for directory in &self.directories {
            any |= self.watch.tree(directory).is_ok();
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                any |= self.watch.tree(&entry.path()).is_ok();
            }
        }
        any
    }

    /// Where to begin: after the cursor; at the present where there is none, with a report if there should be one.
    fn start(&mut self, cursor: Option<&[u8]>) -> Vec<Observation> {
        let mut out = Vec::new();
        let mark = cursor.map(serde_json::from_slice::<Mark>);
        if let Some(Ok(mark)) = mark
            && mark.is_readable()
        {
            let oldest_us = self.reader.oldest_us().ok().flatten();
            let mark_us = mark.realtime_us;
            self.mark = Some(mark);
            if let Some(oldest_us) = oldest_us.filter(|oldest_us| *oldest_us > mark_us) {
                let evidence = "the journal begins after the last entry read: what lay between was vacuumed or deleted";
                out.push(self.lost(evidence.to_owned(), mark_us, oldest_us));
            }
            return out;
        }
        let was_there = cursor.is_some();
        self.mark = self.reader.newest().ok().flatten();
        if was_there {
            let now = now_us();
            out.push(self.lost("the cursor can't be read: reading goes on at the present".to_owned(), now, now));
        }
        // The start itself is made durable: a restart before the first entry must not start at a later present.
        if let Some(mark) = &self.mark {
            out.push(observation(mark, String::new(), Payload::Nothing));
        }
        out
    }

    fn read_all(&mut self, intake: &Intake, stop: &CancellationToken) -> Result<(), Stopped> {
        loop {
            let reading = match self.reader.read(self.mark.as_ref(), now_us(), GROUP_MAX) {
                Ok(reading) => reading,
                Err(error) => return send(intake, self.broken(&error)),
            };
            self.failures = 0;
            let before_us = self.mark.as_ref().map_or(0, |mark| mark.realtime_us);
            let is_empty = reading.entries.is_empty();
            let mut out: Vec<Observation> = reading
                .entries
                .into_iter()
                .map(|(mark, entry)| observation(&mark, mark.cursor.clone(), payload(&mark, entry)))
                .collect();
            self.mark = reading.last.or(self.mark.take());
            if reading.damaged > 0 {
                let evidence = format!("{} entries of the journal could not be read", reading.damaged);
                let until_us = self.mark.as_ref().map_or(before_us, |mark| mark.realtime_us);
                out.push(Observation {
                    payload: loss(evidence, Some(reading.damaged), before_us, until_us),
                    ..self.lost(String::new(), 0, 0)
                });
            }
            // Entries that nobody wants move the cursor with the next wanted one; a long run of them by itself.
            if is_empty
                && reading.more
                && let Some(mark) = &self.mark
            {
                out.push(observation(mark, String::new(), Payload::Nothing));
            }
            send(intake, out)?;
            if !reading.more || stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// A journal that can't be read is reported once, until it can be again. A file that is just being made is no
    /// failure: only the third reading in a row counts.
    fn broken(&mut self, error: &ReadError) -> Vec<Observation> {
        self.failures = self.failures.saturating_add(1);
        if self.failures != FAILURES_REPORTED {
            return Vec::new();
        }
        let text = chain(error);
        tracing::warn!(error = %text, "can't read the journal, trying again when it changes");
        let now = now_us();
        vec![self.lost(text, now, now)]
    }

    fn lost(&self, evidence: String, from_us: u64, to_us: u64) -> Observation {
        let position = uuid::Uuid::new_v4().to_string();
        Observation {
            source: SourceName::Journal,
            position,
            time: now_us().saturating_mul(1000),
            payload: loss(evidence, None, from_us, to_us),
            cursor: self.mark.as_ref().map(cursor_of),
            answer: None,
        }
    }
}

/// An entry; or a gap, where it says that others were dropped before they could be read.
fn payload(mark: &Mark, entry: Entry) -> Payload {
    let Some((count, from)) = suppressed(&entry) else { return Payload::Journal(entry) };
    // Which messages it dropped is not known: at most so many were events.
    let evidence = format!("journald suppressed {count} messages from {from}: it wrote faster than RateLimitBurst= allows");
    let at = mark.realtime_us.saturating_mul(1000);
    Payload::Loss(Loss { cause: GapCause::SourceOverflow, count: Some(count), exact: false, evidence, from: at, to: at })
}

fn loss(evidence: String, count: Option<u64>, from_us: u64, to_us: u64) -> Payload {
    let (from, to) = (from_us.saturating_mul(1000), to_us.saturating_mul(1000));
    Payload::Loss(Loss { cause: GapCause::SourceUnreadable, count, exact: count.is_some(), evidence, from, to })
}

fn observation(mark: &Mark, position: String, payload: Payload) -> Observation {
    let time = mark.realtime_us.saturating_mul(1000);
    Observation { source: SourceName::Journal, position, time, payload, cursor: Some(cursor_of(mark)), answer: None }
}

fn cursor_of(mark: &Mark) -> Cursor {
    Cursor { key: CURSOR_KEY.to_owned(), value: serde_json::to_vec(mark).unwrap_or_default() }
}

fn send(intake: &Intake, group: Vec<Observation>) -> Result<(), Stopped> {
    if group.is_empty() { Ok(()) } else { intake.send_blocking(group) }
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
