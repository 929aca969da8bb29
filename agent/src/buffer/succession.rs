//! How a successor stream begins: what moves into it, behind which report, and when a collector's word asks for one.
//!
//! Records of sealed batches that can't be sent are dissolved and sealed again, visibly: they stand behind a `rehomed`
//! report that names where they came from. A hole is a gap with its exact seqs. All of it is one transaction, so a
//! crash leaves the old stream or the new one, never half. docs/protocol.md §8.

use std::collections::VecDeque;

use edgetrail_link::outbox::{CollectorPosition, Reconciled};
use edgetrail_proto::chain::{Cause, Counters, Hash, KeySlot, Predecessor, Writer};
use edgetrail_proto::identity::StreamId;

use super::addition::{self, Addition, Counted};
use super::scribe::{Desk, Line, STREAMS_READ_MAX, Scribe, end_seq};
use super::store::{self, BatchRow, ChunkRow, StreamRow};
use super::{BufferError, tally};
use crate::observation::Loss;
use crate::report::Rehomed;

/// What a successor is to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cause: Cause,
    pub(super) predecessor: Option<Predecessor>,
    /// Streams whose batches from k on are dissolved, with the batch k of each lost if it is damaged.
    pub(super) dissolve: Vec<(i64, u64)>,
    pub(super) missing: Vec<Missing>,
}

/// Events that are gone, and whether they were counted as observed before.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) loss: Loss,
    pub(super) counted: Counted,
}

/// What of one stream moves.
#[derive(Debug, Default)]
struct Moved {
    rehomed: Vec<Rehomed>,
    chunks: Vec<(i64, ChunkRow)>,
    /// What the moved records, and refusals between them, add to a stream's counters.
    counters: Counters,
    missing: Vec<Missing>,
}

impl Missing {
    /// The key file knows batches that the database lost.
    pub(super) fn rollback(slot: Option<&KeySlot>, current: Option<&StreamRow>, committed: u64, now: u64) -> Self {
        let evidence = match (slot, current.and_then(|row| row.head.as_ref())) {
            (Some(slot), Some((header, _))) => {
                format!(
                    "the key file is at batch {} of stream {}, the buffer at {} of {}",
                    slot.next_k, slot.stream, header.k, header.stream
                )
            }
            (Some(slot), None) => {
                format!("the key file is at batch {} of stream {}, which the buffer does not hold", slot.next_k, slot.stream)
            }
            (None, _) => "the buffer is older than what was sealed".to_owned(),
        };
        let loss = Loss { cause: "buffer-rollback", count: None, exact: false, evidence, from: committed, to: now };
        Self { loss, counted: Counted::Gap { lost_agent: 0, lost_source: 0 } }
    }

    /// A batch that no longer hashes to its root: its records can't be sent by anyone.
    fn hole(batch: &BatchRow, before: Counters, now: u64) -> Self {
        let header = &batch.header;
        let own = header.counters.own.saturating_sub(before.own);
        let lost = u64::from(header.count).saturating_sub(own);
        let loss = Loss {
            cause: "buffer-damaged",
            count: Some(lost),
            exact: true,
            evidence: format!(
                "batch {} of stream {} is damaged: seq {} to {}, {own} of the agent's own among them",
                header.k,
                header.stream,
                header.first_seq,
                end_seq(header).saturating_sub(1)
            ),
            from: header.t_min,
            to: if header.t_max == 0 { now } else { header.t_max },
        };
        Self { loss, counted: Counted::Gap { lost_agent: lost, lost_source: 0 } }
    }
}

impl Line {
    /// The head as a successor names it.
    pub(super) fn predecessor(&self) -> Predecessor {
        let k = self.writer.next_k().checked_sub(1).unwrap_or(Predecessor::NO_BATCH);
        Predecessor { stream: self.stream, k, hash: self.writer.head() }
    }
}

impl Desk {
    /// Opens a successor, moves into it what is unsealed or dissolved, and makes the key file its own.
    pub(super) fn succeed(&mut self, plan: Plan, now: u64) -> Result<Line, BufferError> {
        let opened = self.opener.open(plan.cause, plan.predecessor, now)?;
        self.begin()?;
        let moved = self.gather(&plan, now)?;
        let mut reports = Addition::default();
        for rehomed in &moved.rehomed {
            reports.record(&self.reporter.rehomed(rehomed, now), Counted::Own);
        }
        for missing in plan.missing.iter().chain(&moved.missing) {
            reports.record(&self.reporter.gap(&missing.loss, now), missing.counted);
        }
        // What the moved chunks don't hold themselves: refusals that a dissolved header counted, events in a hole.
        let held = moved.chunks.iter().fold(Counters::default(), |sum, (_, chunk)| tally::plus(sum, chunk.counters));
        let mut beyond = tally::minus(moved.counters, held);

        let ordinal = store::insert_stream(&self.store.db, opened.open.stream, &opened.opening)?;
        let mut seq = 0;
        for part in addition::parts(&reports, 0, 0) {
            let counters = tally::plus(part.counters, std::mem::take(&mut beyond));
            let count = u32::try_from(part.leaves.len()).unwrap_or(u32::MAX);
            let row = ChunkRow { first_seq: seq, count, bytes: part.bytes, committed: now, counters, body: 0 };
            store::insert_chunk(&self.store.db, ordinal, &row, part.body)?;
            seq += u64::from(count);
        }
        for (from, chunk) in &moved.chunks {
            store::delete_chunks(&self.store.db, *from, chunk.first_seq, chunk.first_seq + 1, false)?;
            store::put_chunk(&self.store.db, ordinal, &ChunkRow { first_seq: seq, ..chunk.clone() })?;
            seq += u64::from(chunk.count);
        }
        for &(from, k) in &plan.dissolve {
            store::delete_batches(&self.store.db, from, k, u64::MAX)?;
            store::put_damaged(&self.store.db, from, None)?;
        }
        self.state.current = Some(ordinal);
        self.state.running = true;
        self.state.tail = beyond;
        store::put_state(&self.store.db, &self.state)?;
        self.commit()?;
        // From here on a crash finds an open without a slot: it is succeeded, not dropped.
        let line = Line {
            ordinal,
            stream: opened.open.stream,
            writer: Writer::begin(&opened.open, opened.ratchet),
            counters: Counters::default(),
            unsealed: VecDeque::new(),
            closed: false,
        };
        self.cover(&line)?;
        tracing::info!(stream = %line.stream, cause = ?plan.cause, records = seq, "opened a stream");
        Ok(line)
    }

    /// What moves: dissolved batches in order, then what the current stream holds unsealed. Holes are dropped here.
    fn gather(&mut self, plan: &Plan, now: u64) -> Result<Moved, BufferError> {
        let mut moved = Moved::default();
        let mut ordinals: Vec<i64> = plan.dissolve.iter().map(|&(ordinal, _)| ordinal).collect();
        ordinals.extend(self.state.current.filter(|current| !ordinals.contains(current)));
        ordinals.sort_unstable();
        for ordinal in ordinals {
            let Some(row) = store::stream_at(&self.store.db, ordinal)? else { continue };
            let from_k = plan.dissolve.iter().find(|&&(of, _)| of == ordinal).map(|&(_, k)| k);
            self.gather_stream(&row, from_k, now, &mut moved)?;
        }
        Ok(moved)
    }

    fn gather_stream(&mut self, row: &StreamRow, from_k: Option<u64>, now: u64, moved: &mut Moved) -> Result<(), BufferError> {
        let current = self.state.current == Some(row.ordinal);
        let (head_counters, head_seq) =
            row.head.as_ref().map_or_else(Default::default, |(header, _)| (header.counters, end_seq(header)));
        let batches = from_k.map(|k| store::batches(&self.store.db, row.ordinal, k)).transpose()?.unwrap_or_default();
        let before = match from_k {
            Some(k) => self.counters_before(row, k)?,
            None => head_counters,
        };
        let from_seq = batches.first().map_or(head_seq, |batch| batch.header.first_seq);
        let mut counters = tally::minus(head_counters, before);
        let mut chunks = store::chunks(&self.store.db, row.ordinal, from_seq, u64::MAX, usize::MAX)?;
        // Beyond its sealed batches a former stream holds nothing: its unsealed records moved when it was succeeded.
        for chunk in chunks.iter().filter(|chunk| chunk.first_seq >= head_seq) {
            counters = tally::plus(counters, chunk.counters);
        }
        if current {
            counters = tally::plus(counters, self.state.tail);
        }
        if let Some(hole) = row.damaged.and_then(|k| batches.iter().find(|batch| batch.header.k == k)) {
            let own = hole.header.counters.own.saturating_sub(self.counters_before(row, hole.header.k)?.own);
            moved.missing.push(Missing::hole(hole, self.counters_before(row, hole.header.k)?, now));
            counters.own = counters.own.saturating_sub(own);
            let (from, to) = (hole.header.first_seq, end_seq(&hole.header));
            store::delete_chunks(&self.store.db, row.ordinal, from, to, true)?;
            chunks.retain(|chunk| !(from..to).contains(&chunk.first_seq));
        }
        if !chunks.is_empty() || !batches.is_empty() {
            let head = |batch: Option<&BatchRow>| batch.map(|batch| batch.hash);
            moved.rehomed.push(Rehomed {
                stream: row.open.stream,
                from_k: batches.first().map(|batch| batch.header.k),
                to_k: batches.last().map(|batch| batch.header.k),
                from_head: head(batches.first()),
                to_head: head(batches.last()),
                records: chunks.iter().map(|chunk| u64::from(chunk.count)).sum(),
            });
        }
        moved.counters = tally::plus(moved.counters, counters);
        moved.chunks.extend(chunks.into_iter().map(|chunk| (row.ordinal, chunk)));
        Ok(())
    }

    /// The counters of the header before batch k.
    fn counters_before(&self, row: &StreamRow, k: u64) -> Result<Counters, BufferError> {
        let Some(before) = k.checked_sub(1) else { return Ok(Counters::default()) };
        if let Some(batch) = store::batch(&self.store.db, row.ordinal, before)? {
            return Ok(batch.header.counters);
        }
        Ok(row
            .receipted
            .as_ref()
            .filter(|(header, ..)| header.k == before)
            .map_or_else(Counters::default, |(header, ..)| header.counters))
    }
}

impl Scribe {
    pub(super) fn predecessor(&self) -> Predecessor {
        self.line.predecessor()
    }

    /// Compares the collector's positions with these chains; opens a successor where docs/protocol.md §8 asks for one.
    ///
    /// Called after the collector's receipts for what it holds of this chain were stored: what is left unreceipted
    /// beyond a common point is what the collector does not hold.
    pub(super) fn reconcile(
        &mut self,
        latest: Option<StreamId>,
        positions: &[CollectorPosition],
        now: u64,
    ) -> Result<Reconciled, BufferError> {
        let streams = store::streams(&self.desk.store.db, STREAMS_READ_MAX)?;
        let holds = |id: StreamId| streams.iter().find(|row| row.open.stream == id);
        let mut dissolve = Vec::new();
        let mut successor: Option<(Cause, Predecessor)> = None;
        for position in positions {
            let Some(row) = holds(position.stream) else { continue };
            let beyond = self.beyond(row, position)?;
            if beyond.lacks_head && self.line.ordinal == row.ordinal {
                let (k, hash) = position.head.unwrap_or((Predecessor::NO_BATCH, row.open.hash()));
                successor = Some((Cause::Rollback, Predecessor { stream: position.stream, k, hash }));
            }
            if let Some(k) = beyond.from_k {
                dissolve.push((row.ordinal, k));
            }
        }
        // One that a stream of this buffer names is known, though the collector has not heard of that stream yet.
        let names = |id: StreamId| streams.iter().any(|row| row.open.predecessor.is_some_and(|named| named.stream == id));
        if let Some(unknown) = latest.filter(|&id| holds(id).is_none() && !names(id)) {
            // Restored behind a later stream: that one is succeeded, at the collector's head of it.
            let head = positions.iter().find(|position| position.stream == unknown).and_then(|position| position.head);
            let (k, hash) = head.unwrap_or((Predecessor::NO_BATCH, Hash::ZERO));
            successor = Some((Cause::RestoredBehindLater, Predecessor { stream: unknown, k, hash }));
        }
        if successor.is_none() && dissolve.is_empty() {
            return Ok(Reconciled::Continue);
        }
        let (cause, predecessor) = successor.unwrap_or((Cause::BufferOrKeyLost, self.predecessor()));
        let plan = Plan { cause, predecessor: Some(predecessor), dissolve, missing: Vec::new() };
        self.line.unsealed.clear();
        self.line = self.desk.succeed(plan, now)?;
        self.seal_backlog(now)?;
        Ok(Reconciled::Successor)
    }

    /// Remembers a batch that no longer hashes to its root; the next reconcile dissolves from there.
    pub(super) fn damaged(&mut self, stream: StreamId, k: u64) -> Result<(), BufferError> {
        let Some(row) = store::stream(&self.desk.store.db, stream)? else { return Ok(()) };
        self.desk.begin()?;
        store::put_damaged(&self.desk.store.db, row.ordinal, Some(row.damaged.map_or(k, |before| before.min(k))))?;
        self.desk.commit()
    }

    fn beyond(&self, row: &StreamRow, position: &CollectorPosition) -> Result<Beyond, BufferError> {
        let db = &self.desk.store.db;
        let first = store::first_batch(db, row.ordinal)?;
        let mut beyond = Beyond { lacks_head: false, from_k: None };
        if let Some((k, hash)) = position.head {
            let receipted = row.receipted.as_ref().map(|(header, ..)| (header.k, header.hash()));
            let known = receipted.is_some_and(|(at, head)| k < at || (k == at && hash == head))
                || store::batch(db, row.ordinal, k)?.is_some_and(|batch| batch.hash == hash);
            if !known {
                // Another branch was committed from this stream: nothing without a receipt can go out under it.
                beyond = Beyond { lacks_head: true, from_k: first };
            }
        }
        if let Some(bound) = position.bound.filter(|_| position.superseded) {
            let over = bound.checked_add(1).or((position.head.is_none()).then_some(0));
            let last = row.head.as_ref().map(|(header, _)| header.k);
            if let Some(over) = over.filter(|&over| last.is_some_and(|last| last >= over)) {
                let from = first.filter(|&first| last.is_some_and(|last| first <= last)).map(|first| first.max(over));
                beyond.from_k = [beyond.from_k, from].into_iter().flatten().min();
            }
        }
        if let Some(k) = row.damaged.filter(|&k| position.head.is_none_or(|(head, _)| head < k)) {
            beyond.from_k = Some(beyond.from_k.map_or(k, |from| from.min(k)));
        }
        // A close or heartbeat beyond the point carries nothing that could be lost.
        Ok(beyond)
    }
}

/// What of a stream can't go out under it.
#[derive(Debug)]
struct Beyond {
    /// The collector's head is not in this chain.
    lacks_head: bool,
    from_k: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_named_by_its_seqs_and_counts_events_only() {
        let header = edgetrail_proto::chain::Header {
            stream: StreamId::from_bytes([1; 16]),
            k: 4,
            kind: edgetrail_proto::chain::BatchKind::Records,
            first_seq: 10,
            count: 5,
            root: Hash::ZERO,
            previous: Hash::ZERO,
            next_key: edgetrail_proto::chain::PublicKey([0; 32]),
            boot_id: [0; 16],
            t_sealed: 9,
            t_min: 7,
            t_max: 8,
            counters: Counters { observed: 13, own: 2, ..Counters::default() },
            last_receipt: Hash::ZERO,
        };
        let hash = header.hash();
        let batch = BatchRow { header, hash, seal: edgetrail_proto::chain::Seal([0; 64]), waits: false };
        let missing = Missing::hole(&batch, Counters { observed: 9, own: 1, ..Counters::default() }, 99);
        assert_eq!(missing.loss.count, Some(4));
        assert!(missing.loss.evidence.contains("seq 10 to 14"));
        assert_eq!((missing.loss.from, missing.loss.to), (7, 8));
    }
}
