//! The one writer of the buffer: commits, seals, receipts. Synchronous; time is an argument.
//!
//! After any error the scribe is dropped and opened again: what the files say is the truth, never what memory says.
//! So nothing here undoes anything; an open transaction dies with its connection.

mod backlog;
mod opening;
mod published;
mod receipts;

use std::collections::VecDeque;
use std::sync::Arc;

use edgetrail_disk::{KeyFile, crash_point};
use edgetrail_proto::chain::{BatchKind, Counters, Hash, Header, SealInput, SealedBatch, Writer};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};

use super::addition::{self, Addition};
use super::open::Opener;
use super::store::{self, BatchRow, ChunkRow, Content, State, Store};
use super::{BufferError, tally};
use crate::report::Reporter;

pub(super) use opening::{Opening, Place};
pub(super) use published::{Position, Published};

/// Streams that a start looks through, and that are named on resuming.
pub(super) const STREAMS_READ_MAX: usize = edgetrail_proto::limits::STREAMS_NAMED_MAX;

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

impl Desk {
    pub(super) fn begin(&self) -> Result<(), BufferError> {
        Ok(self.store.db.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(super) fn commit(&self) -> Result<(), BufferError> {
        #[cfg(test)]
        self.step(Step::BeforeCommit)?;
        crash_point("agent/buffer-before-commit");
        self.store.db.execute_batch("COMMIT")?;
        crash_point("agent/buffer-committed");
        // From here on a crash recovers to the state with everything of this transaction.
        #[cfg(test)]
        self.step(Step::AfterCommit)?;
        Ok(())
    }

    /// Makes the key file cover the line's head, shows it to the uplink, erases the key before.
    pub(super) fn cover(&mut self, line: &Line) -> Result<(), BufferError> {
        let writer = &line.writer;
        self.key_file.write(writer)?;
        #[cfg(test)]
        self.step(Step::AfterSlot)?;
        self.published.set(line.ordinal, writer.next_k());
        crash_point("agent/seal-published");
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
    /// Makes an addition durable; seals what it fills, and all of it when a caller waits for the receipt.
    pub(super) fn commit(&mut self, addition: &Addition, waits: bool, now: u64) -> Result<(), BufferError> {
        let Self { desk, line } = self;
        let (count, bytes) = line.open_size();
        let mut seq = line.next_seq();
        desk.begin()?;
        for part in addition::parts(addition, count, bytes) {
            let count = u32::try_from(part.leaves.len()).unwrap_or(u32::MAX);
            let content = Content::of(&part.leaves);
            let counters = part.counters;
            let row = ChunkRow { first_seq: seq, count, bytes: part.bytes, committed: now, counters, content, body: 0 };
            let body = store::insert_chunk(&desk.store.db, line.ordinal, &row, part.body)?;
            line.unsealed.push_back(Chunk { row: ChunkRow { body, ..row }, leaves: part.leaves });
            seq += u64::from(count);
            desk.state.reach_on(seq, counters);
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
