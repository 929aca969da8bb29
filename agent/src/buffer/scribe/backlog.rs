//! What a start finds committed and unsealed, however much it is.

use edgetrail_proto::chain::{BatchKind, Counters, Hash};

use super::{Chunk, Scribe};
use crate::buffer::BufferError;
use crate::buffer::addition::{self, Addition, Counted};
use crate::buffer::store::{self, ChunkRow, Store};
use crate::observation::{GapCause, Loss};

/// Chunks that are loaded at a time when records left unsealed are sealed.
const BACKLOG_CHUNKS_MAX: usize = 1024;

impl Scribe {
    /// Seals what lies committed and unsealed in the database, however much it is.
    pub(in crate::buffer) fn seal_backlog(&mut self, now: u64) -> Result<(), BufferError> {
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

    /// Puts a gap in the place of an unsealed chunk that can't be read any more.
    fn replace_damaged(&mut self, row: &ChunkRow, now: u64) -> Result<(), BufferError> {
        let Self { desk, line } = self;
        let loss = Loss {
            cause: GapCause::BufferDamaged,
            count: Some(row.counters.observed),
            exact: true,
            evidence: format!("{} unsealed records from seq {} could not be read", row.count, row.first_seq),
            from: row.committed,
            to: now,
        };
        let mut addition = Addition::default();
        addition.record(&desk.reporter.gap(&loss, now), Counted::Gap { lost_agent: row.counters.observed, lost_source: 0 });
        desk.begin()?;
        store::drop_chunks(&desk.store.db, line.ordinal, row.first_seq, row.first_seq + 1)?;
        let mut seq = row.first_seq;
        for part in addition::parts(&addition, 0, 0) {
            let counters = Counters { observed: row.counters.observed, lost_source: row.counters.lost_source, ..part.counters };
            let gap = ChunkRow { first_seq: seq, count: 1, bytes: part.bytes, committed: now, counters, body: 0 };
            store::insert_chunk(&desk.store.db, line.ordinal, &gap, part.body)?;
            seq += 1;
        }
        // One gap stands for one record or more: what follows keeps its numbers or moves down.
        store::move_chunks(&desk.store.db, (line.ordinal, row.first_seq + 1), (line.ordinal, seq))?;
        desk.commit()
    }
}

fn read_leaves(store: &Store, row: &ChunkRow) -> Option<Vec<Hash>> {
    let mut body = Vec::new();
    store::read_body(&store.db, row.body, &mut body).ok()?;
    addition::leaves(&body, row.count)
}
