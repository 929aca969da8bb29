//! The one writer of the buffer: commits, seals, receipts. Synchronous; time is an argument.
//!
//! After any error the scribe is dropped and opened again: what the files say is the truth, never what memory says.
//! So nothing here undoes anything; an open transaction dies with its connection.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use edgetrail_proto::chain::{BatchKind, Cause, Counters, Hash, Header, KeySlot, Receipt, SealInput, SealedBatch, Writer};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use tokio::sync::watch;

use super::addition::{self, Addition, Counted};
use super::key_file::KeyFile;
use super::open::Opener;
use super::recovery::{self, Found, Start};
use super::store::{self, BatchRow, ChunkRow, State, Store, StoreError, StreamRow};
use super::succession::{Missing, Plan};
use super::{BUFFER_FILE, BufferError, tally};
use crate::observation::Loss;
use crate::report::Reporter;

/// Streams that a start looks through, and that are named on resuming.
pub(super) const STREAMS_READ_MAX: usize = edgetrail_proto::limits::STREAMS_NAMED_MAX;

/// Chunks that are loaded at a time when records left unsealed are sealed.
const BACKLOG_CHUNKS_MAX: usize = 1024;

/// Batches that are released in one transaction: 64 MiB of bodies.
const RELEASE_BATCHES_MAX: u64 = 64;

/// What the scribe works with, whatever stream it writes.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) store: Store,
    pub(super) key_file: KeyFile,
    pub(super) opener: Arc<Opener>,
    pub(super) reporter: Reporter,
    pub(super) published: Arc<Published>,
    pub(super) state: State,
    boot_id: [u8; 16],
    #[cfg(test)]
    pub(super) fault: Option<Step>,
}

/// The current stream's writing end.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) ordinal: i64,
    pub(super) stream: StreamId,
    pub(super) writer: Writer,
    /// Those of the head.
    pub(super) counters: Counters,
    /// Committed and not sealed, in order; less than a batch between calls.
    pub(super) unsealed: VecDeque<Chunk>,
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct Scribe {
    pub(super) desk: Desk,
    pub(super) line: Line,
}

/// An unsealed chunk with what its sealing needs.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) row: ChunkRow,
    pub(super) leaves: Vec<Hash>,
}

/// Up to where the key file covers the database: nothing beyond it leaves the host.
#[derive(Debug)]
pub(super) struct Published {
    position: Mutex<Position>,
    changes: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The newest stream whose open may be shown.
    pub(super) ordinal: i64,
    /// Its batches below this may be sent.
    pub(super) next_k: u64,
}

/// Where, what and for whom.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) opener: Arc<Opener>,
    pub(super) reporter: Reporter,
    pub(super) published: Arc<Published>,
}

/// Why the buffer is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// The process starts: what the last one held in memory is gone.
    Start,
    /// After an error, within one process: memory is whole.
    Again,
}

/// Where a crash may fall.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    BeforeCommit,
    AfterCommit,
    AfterSlot,
    AfterErase,
}

#[cfg(test)]
impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before the commit",
            Self::AfterCommit => "after the commit",
            Self::AfterSlot => "after the slot",
            Self::AfterErase => "after the erasure",
        }
    }
}

impl Published {
    pub(super) fn new() -> Self {
        Self { position: Mutex::default(), changes: watch::Sender::new(0) }
    }

    pub(super) fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, position: Position) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
        self.changes.send_modify(|version| *version += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Desk {
    pub(super) fn begin(&self) -> Result<(), BufferError> {
        Ok(self.store.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&self) -> Result<(), BufferError> {
        #[cfg(test)]
        self.step(Step::BeforeCommit)?;
        self.store.db.execute_batch("COMMIT")?;
        // From here on a crash recovers to the state with everything of this transaction.
        #[cfg(test)]
        self.step(Step::AfterCommit)?;
        Ok(())
    }

    /// Makes the key file cover the line's head, shows it to the uplink, erases the key before.
    pub(super) fn cover(&mut self, line: &Line) -> Result<(), BufferError> {
        let writer = &line.writer;
        self.key_file.write(line.stream, writer.next_k(), writer.head(), writer.ratchet())?;
        #[cfg(test)]
        self.step(Step::AfterSlot)?;
        self.published.set(Position { ordinal: line.ordinal, next_k: writer.next_k() });
        self.key_file.erase_old()?;
        // From here on the last batch can't be sealed otherwise by anyone.
        #[cfg(test)]
        self.step(Step::AfterErase)?;
        Ok(())
    }

    #[cfg(test)]
    fn step(&self, step: Step) -> Result<(), BufferError> {
        if self.fault == Some(step) { Err(BufferError::Injected(step.name())) } else { Ok(()) }
    }
}

impl Scribe {
    /// Opens the buffer and brings it to where the next commit can follow. Gives how many commits it found.
    pub(super) fn open(place: &Place, why: Opening, now: u64) -> Result<(Self, u64), BufferError> {
        let (key_file, slot) = KeyFile::open(&place.dir)?;
        let Opened { store, state, current, existed, damage } = open_store(&place.dir, now)?;
        let commits = state.commits;
        let (was_running, committed) = (state.running, state.committed);
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
        if why == Opening::Start && was_running {
            losses.push(Loss {
                cause: "unclean-restart",
                count: None,
                exact: false,
                evidence: "the last run did not stop in order: what it held in memory is not known".to_owned(),
                from: committed,
                to: now,
            });
        }
        let mut addition = Addition::default();
        for loss in &losses {
            let gap = scribe.desk.reporter.gap(loss, now);
            addition.record(&gap, Counted::Gap { lost_agent: 0, lost_source: loss.count.unwrap_or(0) });
        }
        if !losses.is_empty() || !scribe.desk.state.running {
            scribe.commit(&addition, false, now)?;
        }
        Ok((scribe, commits))
    }

    /// Makes an addition durable; seals what it fills, and all of it when a caller waits for the receipt.
    pub(super) fn commit(&mut self, addition: &Addition, waits: bool, now: u64) -> Result<(), BufferError> {
        let Self { desk, line } = self;
        let (count, bytes) = line.open_size();
        let mut seq = line.next_seq();
        desk.begin()?;
        for part in addition::parts(addition, count, bytes) {
            let count = u32::try_from(part.leaves.len()).unwrap_or(u32::MAX);
            let row = ChunkRow { first_seq: seq, count, bytes: part.bytes, committed: now, counters: part.counters, body: 0 };
            let body = store::insert_chunk(&desk.store.db, line.ordinal, &row, part.body)?;
            line.unsealed.push_back(Chunk { row: ChunkRow { body, ..row }, leaves: part.leaves });
            seq += u64::from(count);
        }
        for (source, cursor) in &addition.cursors {
            store::put_cursor(&desk.store.db, source.as_str(), &cursor.key, &cursor.value)?;
        }
        if let Some(hold) = &addition.hold {
            store::put_hold(&desk.store.db, hold)?;
        }
        desk.state.tail = tally::plus(desk.state.tail, addition.refusals());
        desk.state.commits += 1;
        desk.state.committed = now;
        desk.state.running = true;
        // A batch that this commit fills is sealed in the same transaction: one fsync less. One at most, since the key
        // file tells only one batch from none.
        let filled = line.full().or((waits && !line.unsealed.is_empty()).then_some(line.unsealed.len()));
        let sealed = filled.map(|chunks| self.seal_in_transaction(chunks, BatchKind::Records, waits, now)).transpose()?;
        store::put_state(&self.desk.store.db, &self.desk.state)?;
        self.desk.commit()?;
        if let Some(sealed) = sealed {
            self.cover(sealed)?;
            while let Some(chunks) =
                self.line.full().or((waits && !self.line.unsealed.is_empty()).then_some(self.line.unsealed.len()))
            {
                self.seal(chunks, BatchKind::Records, waits, now)?;
            }
        }
        Ok(())
    }

    /// Seals all that is committed and not sealed; a heartbeat where there is nothing.
    pub(super) fn seal_open(&mut self, now: u64) -> Result<(), BufferError> {
        match self.line.unsealed.len() {
            0 => self.seal(0, BatchKind::Heartbeat, false, now),
            chunks => self.seal(chunks, BatchKind::Records, false, now),
        }
    }

    /// The orderly end: what is open, then a close. Nothing follows.
    pub(super) fn close(&mut self, now: u64) -> Result<(), BufferError> {
        if !self.line.unsealed.is_empty() {
            self.seal_open(now)?;
        }
        self.desk.state.running = false;
        self.seal(0, BatchKind::Close, false, now)
    }

    /// Stores a verified receipt and releases what it covers. One for a head that is not in this chain changes nothing.
    pub(super) fn receipt(&mut self, receipt: &Receipt) -> Result<bool, BufferError> {
        let db = &self.desk.store.db;
        let Some(stream) = store::stream(db, receipt.stream)? else { return Ok(false) };
        if stream.receipted.as_ref().is_some_and(|(header, ..)| header.k >= receipt.k) {
            return Ok(true);
        }
        let Some(batch) = store::batch(db, stream.ordinal, receipt.k)?.filter(|batch| batch.hash == receipt.head) else {
            return Ok(false);
        };
        self.desk.begin()?;
        store::put_receipt(&self.desk.store.db, stream.ordinal, &batch, receipt)?;
        self.desk.state.receipt = receipt.message_hash();
        store::put_state(&self.desk.store.db, &self.desk.state)?;
        self.desk.commit()?;
        let receipted = Some((batch.header, batch.seal, receipt.clone()));
        self.release(&StreamRow { receipted, ..stream })?;
        Ok(true)
    }

    /// Remembers that a collector holds two branches; the next join opens a successor.
    pub(super) fn forked(&mut self, stream: StreamId) -> Result<(), BufferError> {
        self.desk.state.forked = Some(stream);
        self.desk.begin()?;
        store::put_state(&self.desk.store.db, &self.desk.state)?;
        self.desk.commit()
    }

    /// Forgets what a stream's receipt covers, a slice at a time: the receipt is stored, so a crash goes on here.
    fn release(&mut self, stream: &StreamRow) -> Result<(), BufferError> {
        let Some((header, ..)) = &stream.receipted else { return Ok(()) };
        while let Some(first) = store::first_batch(&self.desk.store.db, stream.ordinal)?.filter(|&first| first <= header.k) {
            let last = (first + RELEASE_BATCHES_MAX - 1).min(header.k);
            let Some(batch) = store::batch(&self.desk.store.db, stream.ordinal, last)? else { break };
            self.desk.begin()?;
            store::delete_chunks(&self.desk.store.db, stream.ordinal, 0, end_seq(&batch.header), true)?;
            store::delete_batches(&self.desk.store.db, stream.ordinal, 0, last + 1)?;
            self.desk.commit()?;
        }
        Ok(())
    }

    /// Seals what lies committed and unsealed in the database, however much it is.
    pub(super) fn seal_backlog(&mut self, now: u64) -> Result<(), BufferError> {
        loop {
            let (ordinal, from) = (self.line.ordinal, self.line.writer.next_seq());
            let rows = store::chunks(&self.desk.store.db, ordinal, from, u64::MAX, BACKLOG_CHUNKS_MAX)?;
            if rows.is_empty() {
                return Ok(());
            }
            self.line.unsealed.clear();
            for row in rows {
                // A batch at a time: leaves of more need not lie in memory.
                if self.line.full().is_some() {
                    break;
                }
                match read_leaves(&self.desk.store, &row) {
                    Some(leaves) => self.line.unsealed.push_back(Chunk { row, leaves }),
                    None => {
                        self.replace_damaged(&row, now)?;
                        break;
                    }
                }
            }
            if let Some(chunks) = self.line.full().or((!self.line.unsealed.is_empty()).then_some(self.line.unsealed.len())) {
                self.seal(chunks, BatchKind::Records, false, now)?;
            }
            self.line.unsealed.clear();
        }
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

    fn seal(&mut self, chunks: usize, kind: BatchKind, waits: bool, now: u64) -> Result<(), BufferError> {
        self.desk.begin()?;
        let sealed = self.seal_in_transaction(chunks, kind, waits, now)?;
        store::put_state(&self.desk.store.db, &self.desk.state)?;
        self.desk.commit()?;
        self.cover(sealed)
    }

    /// Seals the first `chunks` unsealed ones into the open transaction.
    fn seal_in_transaction(
        &mut self,
        chunks: usize,
        kind: BatchKind,
        waits: bool,
        now: u64,
    ) -> Result<(SealedBatch, Writer), BufferError> {
        let Self { desk, line } = self;
        let taken: Vec<Chunk> = line.unsealed.drain(..chunks.min(line.unsealed.len())).collect();
        let mut counters = line.counters;
        let mut leaves = Vec::with_capacity(taken.iter().map(|chunk| chunk.leaves.len()).sum());
        for chunk in &taken {
            leaves.extend_from_slice(&chunk.leaves);
            counters = tally::plus(counters, chunk.row.counters);
        }
        // Refusals count up to a header's sealing; where records follow that this header does not hold, the next has them.
        if line.unsealed.is_empty() {
            counters = tally::plus(counters, std::mem::take(&mut desk.state.tail));
        }
        let (sealed, writer) = line.writer.seal(&SealInput {
            kind,
            leaves: &leaves,
            boot_id: desk.boot_id,
            t_sealed: now,
            t_min: taken.first().map_or(0, |chunk| chunk.row.committed),
            t_max: taken.last().map_or(0, |chunk| chunk.row.committed),
            counters,
            last_receipt: desk.state.receipt,
        });
        debug_assert!(counters.balance(writer.next_seq()), "docs/protocol.md §3.3 holds at every head");
        let row = BatchRow { header: sealed.header.clone(), hash: sealed.hash, seal: sealed.seal, waits };
        store::insert_batch(&desk.store.db, line.ordinal, &row)?;
        store::put_head(&desk.store.db, line.ordinal, &row.header, &row.seal)?;
        Ok((sealed, writer))
    }

    /// After the commit: the batch may leave once the key file has moved on.
    fn cover(&mut self, (sealed, writer): (SealedBatch, Writer)) -> Result<(), BufferError> {
        self.line.writer = writer;
        self.line.counters = sealed.header.counters;
        self.line.closed = sealed.header.kind == BatchKind::Close;
        self.desk.cover(&self.line)
    }

    /// Puts a gap in the place of an unsealed chunk that can't be read any more.
    fn replace_damaged(&mut self, row: &ChunkRow, now: u64) -> Result<(), BufferError> {
        let Self { desk, line } = self;
        let loss = Loss {
            cause: "buffer-damaged",
            count: Some(row.counters.observed),
            exact: true,
            evidence: format!("{} unsealed records from seq {} could not be read", row.count, row.first_seq),
            from: row.committed,
            to: now,
        };
        let mut addition = Addition::default();
        addition.record(&desk.reporter.gap(&loss, now), Counted::Gap { lost_agent: row.counters.observed, lost_source: 0 });
        let following = store::chunks(&desk.store.db, line.ordinal, row.first_seq + 1, u64::MAX, usize::MAX)?;
        desk.begin()?;
        store::delete_chunks(&desk.store.db, line.ordinal, row.first_seq, u64::MAX, false)?;
        desk.store.db.execute("DELETE FROM body WHERE id = ?1", [row.body])?;
        let mut seq = row.first_seq;
        for part in addition::parts(&addition, 0, 0) {
            let counters = Counters { observed: row.counters.observed, lost_source: row.counters.lost_source, ..part.counters };
            let gap = ChunkRow { first_seq: seq, count: 1, bytes: part.bytes, committed: now, counters, body: 0 };
            store::insert_chunk(&desk.store.db, line.ordinal, &gap, part.body)?;
            seq += 1;
        }
        for chunk in following {
            store::put_chunk(&desk.store.db, line.ordinal, &ChunkRow { first_seq: seq, ..chunk })?;
            seq += u64::from(chunk.count);
        }
        desk.commit()
    }
}

impl Line {
    /// Chunks that make a full batch: 1,024 records, or the next would pass 1 MiB.
    fn full(&self) -> Option<usize> {
        let (mut count, mut bytes) = (0, 0);
        for (index, chunk) in self.unsealed.iter().enumerate() {
            count += chunk.leaves.len();
            bytes += chunk.row.bytes;
            if index > 0 && (count > BATCH_RECORDS_MAX || bytes > BATCH_BYTES_MAX as u64) {
                return Some(index);
            }
        }
        (count >= BATCH_RECORDS_MAX || bytes >= BATCH_BYTES_MAX as u64).then_some(self.unsealed.len())
    }

    fn open_size(&self) -> (usize, u64) {
        self.unsealed.iter().fold((0, 0), |(count, bytes), chunk| (count + chunk.leaves.len(), bytes + chunk.row.bytes))
    }

    fn next_seq(&self) -> u64 {
        self.unsealed.iter().fold(self.writer.next_seq(), |seq, chunk| seq + u64::from(chunk.row.count))
    }
}

/// The seq behind a batch's last record.
pub(super) fn end_seq(header: &Header) -> u64 {
    header.first_seq.saturating_add(u64::from(header.count))
}

fn read_leaves(store: &Store, row: &ChunkRow) -> Option<Vec<Hash>> {
    let mut body = Vec::new();
    store::read_body(&store.db, row.body, &mut body).ok()?;
    addition::leaves(&body, row.count)
}

struct Opened {
    store: Store,
    state: State,
    current: Option<StreamRow>,
    existed: bool,
    damage: Option<Loss>,
}

/// Opens the database; one whose content can't be read is put aside, kept, and a new one begins.
fn open_store(dir: &Path, now: u64) -> Result<Opened, BufferError> {
    let path = dir.join(BUFFER_FILE);
    let existed = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    let read = |store: &Store| -> Result<(State, Option<StreamRow>), StoreError> {
        let state = store::state(&store.db)?;
        let current = state.current.map(|ordinal| store::stream_at(&store.db, ordinal)).transpose()?.flatten();
        Ok((state, current))
    };
    let opened = Store::open(dir).and_then(|store| read(&store).map(|(state, current)| (store, state, current)));
    match opened {
        Ok((store, state, current)) => Ok(Opened { store, state, current, existed, damage: None }),
        Err(error) if error.is_damage() => {
            tracing::error!(error = &error as &dyn std::error::Error, "the buffer is damaged: it is kept beside a new one");
            for suffix in ["", "-wal", "-shm"] {
                let from = dir.join(format!("{BUFFER_FILE}{suffix}"));
                let to = dir.join(format!("{BUFFER_FILE}.damaged-{now}{suffix}"));
                if from.exists() {
                    std::fs::rename(&from, &to).map_err(StoreError::Create)?;
                }
            }
            let store = Store::open(dir)?;
            let (state, current) = read(&store)?;
            let damage = Loss {
                cause: "buffer-damaged",
                count: None,
                exact: false,
                evidence: format!("{error}; kept as {BUFFER_FILE}.damaged-{now}"),
                from: 0,
                to: now,
            };
            Ok(Opened { store, state, current, existed: false, damage: Some(damage) })
        }
        Err(error) => Err(error.into()),
    }
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
                    self.published.set(Position { ordinal: line.ordinal, next_k: line.writer.next_k() });
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
