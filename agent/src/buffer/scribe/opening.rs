//! Opening the buffer: what the two files say, what follows from it, what is reported of it.
//!
//! A database whose content is damaged is put aside, kept, and a new one begins behind the key file's head: capture goes
//! on. One that the disk does not give is asked for again first: what passes is no reason to begin anew.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_disk::{KeyFile, Medium};
use edgetrail_proto::chain::{BatchKind, Cause, Counters, KeySlot, Writer};
use rusqlite::types::Value;

use super::{Desk, Line, Published, STREAMS_READ_MAX, Scribe, end_seq};
use crate::buffer::addition::{Addition, Counted};
use crate::buffer::open::Opener;
use crate::buffer::recovery::{self, Found, Start};
use crate::buffer::store::{self, State, Store, StoreError, StreamRow};
use crate::buffer::succession::{Missing, Plan};
use crate::buffer::{BUFFER_FILE, BufferError, KEY_FILE};
use crate::clock::STEP_NS_MIN;
use crate::observation::{GapCause, Loss};
use crate::report::Reporter;

/// How often a database that the disk does not give is asked for, and the pause between.
const READS_MAX: u32 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Damaged cursors that a report names.
const CURSORS_NAMED_MAX: usize = 16;

/// Where, what and for whom.
#[derive(Clone, Debug)]
pub(in crate::buffer) struct Place {
    pub(in crate::buffer) medium: Medium,
    pub(in crate::buffer) dir: PathBuf,
    pub(in crate::buffer) opener: Arc<Opener>,
    pub(in crate::buffer) reporter: Reporter,
    pub(in crate::buffer) published: Arc<Published>,
}

/// Why the buffer is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) enum Opening {
    /// The process starts: what the last one held in memory is gone.
    Start,
    /// After an error, within one process: memory is whole.
    Again,
    /// The same, and it was the database's content that was at fault.
    Condemned,
}

impl Scribe {
    /// Opens the buffer and brings it to where the next commit can follow. Gives how many commits it found.
    pub(in crate::buffer) fn open(place: &Place, why: Opening, now: u64) -> Result<(Self, u64), BufferError> {
        match Self::open_files(place, why, why == Opening::Condemned, now) {
            // Damage that showed behind the first rows: the same files would fail for ever.
            Err(error) if error.is_damage() => Self::open_files(place, why, true, now),
            opened => opened,
        }
    }

    fn open_files(place: &Place, why: Opening, condemned: bool, now: u64) -> Result<(Self, u64), BufferError> {
        let (key_file, slot) = KeyFile::open(&place.medium, &place.dir.join(KEY_FILE))?;
        let Opened { store, state, current, existed, damage } = open_store(place, condemned, now)?;
        let commits = state.commits;
        let (was_running, committed, is_sound) = (state.running, state.committed, state.reach.is_some());
        let found = current.as_ref().map(|row| found(&store, row)).transpose()?;
        let start = recovery::decide(slot.as_ref(), found.as_ref(), existed, |id| {
            store::streams(&store.db, STREAMS_READ_MAX).is_ok_and(|streams| {
                streams.iter().any(|s| s.open.stream == id || s.open.predecessor.is_some_and(|p| p.stream == id))
            })
        });
        let mut desk = Desk {
            store,
            key_file,
            opener: Arc::clone(&place.opener),
            reporter: place.reporter.clone(),
            published: Arc::clone(&place.published),
            state,
            boot_id: boot_id(),
            #[cfg(test)]
            fault: None,
        };
        let line = desk.start(start, current, slot, now)?;
        let mut scribe = Self { desk, line };
        for stream in store::streams(&scribe.desk.store.db, STREAMS_READ_MAX)? {
            scribe.release(&stream)?;
        }
        // Records left unsealed by a crash are sealed first and alone, docs/protocol.md §3.7.
        scribe.seal_backlog(now)?;
        scribe.rebind(now)?;
        let mut losses = Vec::from_iter(damage);
        if !existed && losses.is_empty() {
            // Join leaves a database: where none is, one is gone, with what it held.
            let evidence = "the buffer's database was gone at the start: what it held unsent can't be known".to_owned();
            losses.push(Loss { cause: GapCause::BufferDamaged, count: None, exact: false, evidence, from: 0, to: now });
        }
        if !is_sound {
            let evidence = "the buffer's state row was damaged: the last unsealed records may be missing".to_owned();
            losses.push(Loss { cause: GapCause::BufferDamaged, count: None, exact: false, evidence, from: committed, to: now });
        }
        let cursors = if why == Opening::Start { store::damaged_cursors(&scribe.desk.store.db)? } else { Vec::new() };
        if !cursors.is_empty() {
            losses.push(cursors_lost(&cursors, committed, now));
        }
        if why == Opening::Start && was_running {
            losses.push(Loss {
                cause: GapCause::UncleanRestart,
                count: None,
                exact: false,
                evidence: "the last run did not stop in order: what it held in memory is not known".to_owned(),
                from: committed,
                to: now,
            });
        }
        if committed > now.saturating_add(STEP_NS_MIN) {
            let evidence = format!("the host's clock stands {} ms before the last commit", (committed - now) / 1_000_000);
            losses.push(Loss { cause: GapCause::ClockStep, count: Some(0), exact: true, evidence, from: now, to: committed });
        }
        let mut addition = Addition::default();
        for loss in &losses {
            let gap = scribe.desk.reporter.gap(loss, now);
            addition.record(&gap, Counted::Gap { lost_agent: 0, lost_source: loss.count.unwrap_or(0) });
        }
        if !losses.is_empty() || !scribe.desk.state.running {
            scribe.commit(&addition, false, now)?;
        }
        // Behind the report: a crash before finds and reports them again.
        for cursor in &cursors {
            store::drop_cursor(&scribe.desk.store.db, cursor)?;
        }
        Ok((scribe, commits))
    }

    /// A new account, region or host name: this stream ends in order and another begins.
    fn rebind(&mut self, now: u64) -> Result<(), BufferError> {
        let Some(current) = store::stream_at(&self.desk.store.db, self.line.ordinal)? else { return Ok(()) };
        if self.line.closed || current.open.binding == self.desk.opener.binding_hash() {
            return Ok(());
        }
        self.close(now)?;
        let predecessor = Some(self.predecessor());
        let plan = Plan { cause: Cause::AfterClose, predecessor, dissolve: Vec::new(), missing: Vec::new() };
        self.line = self.desk.succeed(plan, now)?;
        Ok(())
    }
}

/// Sources that must go on without the place that they had reached. What that passes over nobody knows.
fn cursors_lost(cursors: &[(Value, Value)], from: u64, to: u64) -> Loss {
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        _ => "?".to_owned(),
    };
    let named: Vec<String> =
        cursors.iter().take(CURSORS_NAMED_MAX).map(|(s, key)| format!("{} ({})", text(s), text(key))).collect();
    let evidence =
        format!("{} damaged cursors, of sources that start at the present or read again: {}", cursors.len(), named.join(", "));
    Loss { cause: GapCause::BufferDamaged, count: None, exact: false, evidence, from, to }
}

struct Opened {
    store: Store,
    state: State,
    current: Option<StreamRow>,
    existed: bool,
    damage: Option<Loss>,
}

/// Opens the database; one whose content can't be read is put aside, kept, and a new one begins.
fn open_store(place: &Place, condemned: bool, now: u64) -> Result<Opened, BufferError> {
    let length = |name: &str| place.medium.length(&place.dir.join(name)).map_err(StoreError::File);
    let existed = length(BUFFER_FILE)?.is_some_and(|length| length > 0);
    if !existed && length(&format!("{BUFFER_FILE}-wal"))?.is_some_and(|length| length > 0) {
        // SQLite would remove the log of a database that is gone: it is all that is left of it.
        put_aside(place, now)?;
    }
    let what = if condemned {
        "its content is damaged".to_owned()
    } else {
        match read_store(place) {
            Ok((store, state, current)) => return Ok(Opened { store, state, current, existed, damage: None }),
            Err(error) if error.is_damage() || error.is_schema_lost() || error.is_unreadable() => chain_of(&error),
            Err(error) => return Err(error.into()),
        }
    };
    tracing::error!(error = what, "the buffer is damaged: it is kept beside a new one");
    put_aside(place, now)?;
    place.published.replaced();
    let (store, state, current) = read_store(place)?;
    let damage = Loss {
        cause: GapCause::BufferDamaged,
        count: None,
        exact: false,
        evidence: format!("{what}; kept as {BUFFER_FILE}.damaged-{now}"),
        from: 0,
        to: now,
    };
    Ok(Opened { store, state, current, existed: false, damage: Some(damage) })
}

fn read_store(place: &Place) -> Result<(Store, State, Option<StreamRow>), StoreError> {
    let read = || {
        let store = Store::open(&place.medium, &place.dir)?;
        let state = store::state(&store.db)?;
        let current = state.current.map(|ordinal| store::stream_at(&store.db, ordinal)).transpose()?.flatten();
        Ok((store, state, current))
    };
    for _ in 1..READS_MAX {
        match read() {
            Err(error) if StoreError::is_unreadable(&error) => std::thread::sleep(READ_AGAIN_AFTER),
            done => return done,
        }
    }
    read()
}

/// The log first: a crash between the two leaves an older database, which the key file tells, never a log without one.
fn put_aside(place: &Place, now: u64) -> Result<(), StoreError> {
    for suffix in ["-wal", "-shm", ""] {
        let from = place.dir.join(format!("{BUFFER_FILE}{suffix}"));
        if place.medium.length(&from).map_err(StoreError::File)?.is_some() {
            let to = place.dir.join(format!("{BUFFER_FILE}.damaged-{now}{suffix}"));
            place.medium.rename(&from, &to).map_err(StoreError::File)?;
        }
    }
    place.medium.sync_dir(&place.dir).map_err(StoreError::File)
}

/// An error with its causes, for a report.
fn chain_of(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn found(store: &Store, row: &StreamRow) -> Result<Found, BufferError> {
    let before = match row.head.as_ref().and_then(|(header, _)| header.k.checked_sub(1)) {
        Some(k) => match store::batch(&store.db, row.ordinal, k)? {
            Some(batch) => Some(batch.header),
            None => row.receipted.as_ref().map(|(header, ..)| header.clone()).filter(|header| header.k == k),
        },
        None => None,
    };
    let (begin, first_key) = (row.open.hash(), row.open.first_key);
    Ok(Found { stream: row.open.stream, begin, first_key, head: row.head.clone(), before })
}

impl Desk {
    /// Does what [`recovery::decide`] says.
    fn start(&mut self, start: Start, current: Option<StreamRow>, slot: Option<KeySlot>, now: u64) -> Result<Line, BufferError> {
        match (start, current) {
            (Start::GoOn { ratchet, write }, Some(row)) => {
                let (head, next_seq, counters) = match &row.head {
                    Some((header, _)) => (header.hash(), end_seq(header), header.counters),
                    None => (row.open.hash(), 0, Counters::default()),
                };
                let line = Line {
                    ordinal: row.ordinal,
                    stream: row.open.stream,
                    writer: Writer::resume(head, next_seq, ratchet),
                    counters,
                    unsealed: VecDeque::new(),
                    closed: row.head.as_ref().is_some_and(|(header, _)| header.kind == BatchKind::Close),
                };
                if write {
                    self.cover(&line)?;
                } else {
                    self.published.set(line.ordinal, line.writer.next_k());
                }
                let rejoined = self.state.forked.is_some() && self.opener.joined_since(&row.opening)?;
                let cause = if rejoined { Cause::Fork } else { Cause::AfterClose };
                if line.closed || rejoined {
                    self.state.forked = None;
                    let predecessor = Some(line.predecessor());
                    return self.succeed(Plan { cause, predecessor, dissolve: Vec::new(), missing: Vec::new() }, now);
                }
                Ok(line)
            }
            (Start::Successor(succession), current) => {
                let dissolve = match (&current, succession.dissolve_head) {
                    (Some(row), true) => row.head.as_ref().map(|(header, _)| (row.ordinal, header.k)),
                    _ => None,
                };
                let missing =
                    succession.rolled_back.then(|| Missing::rollback(slot.as_ref(), current.as_ref(), self.state.committed, now));
                self.succeed(
                    Plan {
                        cause: succession.cause,
                        predecessor: succession.predecessor,
                        dissolve: Vec::from_iter(dissolve),
                        missing: Vec::from_iter(missing),
                    },
                    now,
                )
            }
            (Start::First(cause), _) => {
                self.succeed(Plan { cause, predecessor: None, dissolve: Vec::new(), missing: Vec::new() }, now)
            }
            // Never made: `decide` goes on only with a stream that was found.
            (Start::GoOn { .. }, None) => {
                let cause = Cause::BufferOrKeyLost;
                self.succeed(Plan { cause, predecessor: None, dissolve: Vec::new(), missing: Vec::new() }, now)
            }
        }
    }
}

/// The kernel's random id of this boot; zeros where /proc does not give one.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().parse::<uuid::Uuid>().map(uuid::Uuid::into_bytes).unwrap_or_default()
}
