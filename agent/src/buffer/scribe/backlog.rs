//! What a start finds committed and unsealed, however much it is.
//!
//! What is damaged or gone of it becomes a gap in its place, before anything behind it is sealed.

use edgetrail_proto::chain::{BatchKind, Counters, Hash};

use super::{Chunk, Scribe};
use crate::buffer::addition::{self, Addition};
use crate::buffer::store::{self, ChunkRow, Content, Reach, Store};
use crate::buffer::unsealed::{Lost, unsealed};
use crate::buffer::{BufferError, tally};
use crate::observation::{GapCause, Loss};

/// Chunks that are loaded at a time when records left unsealed are sealed.
const BACKLOG_CHUNKS_MAX: usize = 1024;

impl Scribe {
    /// Seals what lies committed and unsealed in the database, however much it is.
    pub(in crate::buffer) fn seal_backlog(&mut self, now: u64) -> Result<(), BufferError> {
        self.mend_backlog(now)?;
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

    /// Puts one gap where the first chunk was that is damaged or gone, and closes up what is behind; knows again how far the
    /// stream reaches.
    fn mend_backlog(&mut self, now: u64) -> Result<(), BufferError> {
        let (ordinal, from) = (self.line.ordinal, self.line.writer.next_seq());
        let reach = self.desk.state.reach;
        let found = unsealed(&self.desk.store.db, ordinal, from, reach.map(|reach| reach.next_seq))?;
        let whole = tally::plus(tally::of_records(self.line.counters), found.counters);
        match found.missing.first() {
            None if reach.is_some() => Ok(()),
            None => {
                self.desk.state.reach = Some(Reach { next_seq: from + found.records, counted: whole });
                self.desk.begin()?;
                store::put_state(&self.desk.store.db, &self.desk.state)?;
                self.desk.commit()
            }
            Some(first) => {
                let lost = found.lost(self.line.counters, reach);
                let evidence = format!("unsealed records could not be read: {}", found.missing);
                self.desk.begin()?;
                store::drop_damaged_chunks(&self.desk.store.db, ordinal, from, u64::MAX)?;
                self.put_gap(first, &lost, evidence, self.desk.state.committed, now, whole)
            }
        }
    }

    /// Puts a gap in the place of an unsealed chunk whose records can't be read any more.
    fn replace_damaged(&mut self, row: &ChunkRow, now: u64) -> Result<(), BufferError> {
        let lost = Lost::of(row.count.into(), Some(row.counters));
        let last = row.first_seq.saturating_add(u64::from(row.count)).saturating_sub(1);
        let evidence = format!("unsealed records could not be read: seq {} to {last}", row.first_seq);
        let counted = self.desk.state.reach.unwrap_or_default().counted;
        self.desk.begin()?;
        store::drop_chunks(&self.desk.store.db, self.line.ordinal, row.first_seq, row.first_seq + 1)?;
        self.put_gap(row.first_seq, &lost, evidence, row.committed, now, tally::minus(counted, row.counters))
    }

    /// Puts a gap at a seq where no chunk is any more, and numbers what follows behind it, in the open transaction; commits.
    /// `counted` is what the other chunks count.
    fn put_gap(
        &mut self,
        at: u64,
        lost: &Lost,
        evidence: String,
        from: u64,
        now: u64,
        counted: Counters,
    ) -> Result<(), BufferError> {
        let Self { desk, line } = self;
        let (count, exact) = (Some(lost.events), lost.exact);
        let loss = Loss { cause: GapCause::BufferDamaged, count, exact, evidence, from, to: now };
        let mut addition = Addition::default();
        addition.record(&desk.reporter.gap(&loss, now), lost.counted);
        let mut seq = at;
        let mut counted = counted;
        for part in addition::parts(&addition, 0, 0) {
            let counters = tally::plus(part.counters, lost.counters);
            let content = Content::of(&part.leaves);
            let gap = ChunkRow { first_seq: seq, count: 1, bytes: part.bytes, committed: now, counters, content, body: 0 };
            store::insert_chunk(&desk.store.db, line.ordinal, &gap, part.body)?;
            counted = tally::plus(counted, counters);
            seq += 1;
        }
        // One gap stands for one record or more: what follows keeps its numbers or moves down.
        let next_seq = store::move_chunks(&desk.store.db, (line.ordinal, at + 1), (line.ordinal, seq))?;
        desk.state.reach = Some(Reach { next_seq, counted });
        store::put_state(&desk.store.db, &desk.state)?;
        desk.commit()
    }
}

fn read_leaves(store: &Store, row: &ChunkRow) -> Option<Vec<Hash>> {
    let mut body = Vec::new();
    store::read_body(&store.db, row.body, &mut body).ok()?;
    addition::leaves(&body, row.count).filter(|leaves| Content::of(leaves) == row.content)
}
