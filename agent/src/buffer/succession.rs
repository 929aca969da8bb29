//! How a successor stream begins: what moves into it, behind which report, and when a collector's word asks for one.
//!
//! Records of sealed batches that can't be sent are dissolved and sealed again, visibly: they stand behind a `rehomed`
//! report that names where they came from. A hole is a gap with its exact seqs. All of it is one transaction, so a
//! crash leaves the old stream or the new one, never half. docs/protocol.md §8.

mod survey;

use std::collections::VecDeque;

use edgetrail_link::outbox::{CollectorPosition, Reconciled};
use edgetrail_proto::chain::{Cause, Counters, Hash, KeySlot, Predecessor, Writer};
use edgetrail_proto::identity::StreamId;

use super::addition::{self, Addition, Counted};
use super::scribe::{Desk, Line, STREAMS_READ_MAX, Scribe, end_seq};
use super::store::{self, ChunkRow, Content, Reach, StreamRow};
use super::{BufferError, tally};
use crate::observation::{GapCause, Loss};

/// What a successor is to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cause: Cause,
    pub(super) predecessor: Option<Predecessor>,
    /// Streams whose batches from k on are dissolved; those that no longer hash to their roots become holes.
    pub(super) dissolve: Vec<(i64, u64)>,
    pub(super) missing: Vec<Missing>,
}

/// Events that are gone, and whether they were counted as observed before.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) loss: Loss,
    pub(super) counted: Counted,
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
        let loss = Loss { cause: GapCause::BufferRollback, count: None, exact: false, evidence, from: committed, to: now };
        Self { loss, counted: Counted::Gap { lost_agent: 0, lost_source: 0 } }
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
    /// When a successor was opened, as its open says: behind every open and seal that this buffer knows, though the clock
    /// was set back since. By these times a collector orders opens, and tells what was sealed before one from a fork.
    ///
    /// A clock that once stood far ahead does not carry later opens along for ever: where the open would outlive the
    /// certificate that signs it, no verifier would take it, and the host's clock stands.
    fn time_of_open(&self, now: u64) -> Result<u64, BufferError> {
        let known = store::latest_time(&self.store.db, self.opener.valid_until()?)?;
        Ok(now.max(known.saturating_add(1)))
    }

    /// Opens a successor, moves into it what is unsealed or dissolved, and makes the key file its own.
    pub(super) fn succeed(&mut self, plan: Plan, now: u64) -> Result<Line, BufferError> {
        let opened = self.opener.open(plan.cause, plan.predecessor, self.time_of_open(now)?)?;
        self.begin()?;
        let moved = self.survey(&plan, now)?;
        let mut reports = Addition::default();
        for rehomed in &moved.rehomed {
            reports.record(&self.reporter.rehomed(rehomed, now), Counted::Own);
        }
        for missing in plan.missing.iter().chain(&moved.missing) {
            reports.record(&self.reporter.gap(&missing.loss, now), missing.counted);
        }
        // What the moved chunks don't hold themselves: refusals that a dissolved header counted, events in a hole.
        let mut beyond = tally::minus(moved.counters, moved.held);

        let ordinal = store::insert_stream(&self.store.db, opened.open.stream, &opened.opening)?;
        // What a flipped bit made rows of a stream that was not there yet.
        store::drop_damaged_chunks(&self.store.db, ordinal, 0, u64::MAX)?;
        self.state.reach = Some(Reach::default());
        let mut seq = 0;
        for part in addition::parts(&reports, 0, 0) {
            let counters = tally::plus(part.counters, std::mem::take(&mut beyond));
            let count = u32::try_from(part.leaves.len()).unwrap_or(u32::MAX);
            let content = Content::of(&part.leaves);
            let row = ChunkRow { first_seq: seq, count, bytes: part.bytes, committed: now, counters, content, body: 0 };
            store::insert_chunk(&self.store.db, ordinal, &row, part.body)?;
            seq += u64::from(count);
            self.state.reach_on(seq, counters);
        }
        for &(from, from_seq) in &moved.runs {
            seq = store::move_chunks(&self.store.db, (from, from_seq), (ordinal, seq))?;
        }
        for &(from, k) in &plan.dissolve {
            store::delete_batches(&self.store.db, from, k, u64::MAX)?;
            store::put_damaged(&self.store.db, from, None)?;
        }
        self.state.reach_on(seq, moved.held);
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
            // Restored behind a later stream: that one is succeeded, at the collector's head of it. Where it is the buffer that is
            // gone, with all that the collector had heard of, nothing was restored: by cause 5 an image that still comes
            // back would be told that it was replaced, and its next act be taken for a clone's.
            let lost = streams.first().is_some_and(|row| row.open.cause == Cause::BufferOrKeyLost)
                && !streams.iter().any(|row| recorded(positions, row.open.stream));
            let cause = if lost { Cause::BufferOrKeyLost } else { Cause::RestoredBehindLater };
            let head = positions.iter().find(|position| position.stream == unknown).and_then(|position| position.head);
            let (k, hash) = head.unwrap_or((Predecessor::NO_BATCH, Hash::ZERO));
            successor = Some((cause, Predecessor { stream: unknown, k, hash }));
            // What the collector never heard of comes too late under its own stream: sealed after the later one began, as
            // an image that was kept unsealed is, it would pass for a second branch.
            for row in streams.iter().filter(|row| !recorded(positions, row.open.stream)) {
                let Some(first) = store::first_batch(&self.desk.store.db, row.ordinal)? else { continue };
                dissolve.retain(|(ordinal, _)| *ordinal != row.ordinal);
                dissolve.push((row.ordinal, first));
            }
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

    /// Remembers a batch that no longer hashes to its root, or is not there; the next reconcile dissolves from there. The
    /// last one named stands: the sender goes in order, so the collector holds what was named before.
    pub(super) fn damaged(&mut self, stream: StreamId, k: u64) -> Result<(), BufferError> {
        let Some(row) = store::stream(&self.desk.store.db, stream)? else { return Ok(()) };
        self.desk.begin()?;
        store::put_damaged(&self.desk.store.db, row.ordinal, Some(k))?;
        self.desk.commit()
    }

    fn beyond(&self, row: &StreamRow, position: &CollectorPosition) -> Result<Beyond, BufferError> {
        let db = &self.desk.store.db;
        let first = store::first_batch(db, row.ordinal)?;
        let mut beyond = Beyond { lacks_head: false, from_k: None };
        if let Some((k, hash)) = position.head {
            let receipted = row.receipted.as_ref().map(|(header, ..)| (header.k, header.hash()));
            let known = receipted.is_some_and(|(at, head)| k < at || (k == at && hash == head))
                || store::has_head(db, row.ordinal, k, hash)?;
            if !known {
                // Another branch was committed from this stream: nothing without a receipt can go out under it.
                beyond = Beyond { lacks_head: true, from_k: first };
            }
        }
        if position.superseded {
            // Without a bound the collector takes not even batch 0: what came late behind a later stream's open.
            let held = position.bound.max(position.head.map(|(k, _)| k));
            let over = held.map_or(Some(0), |held| held.checked_add(1));
            let last = row.head.as_ref().map(|(header, _)| header.k);
            if let Some(over) = over.filter(|&over| last.is_some_and(|last| last >= over)) {
                let from = first.filter(|&first| last.is_some_and(|last| first <= last)).map(|first| first.max(over));
                // What was dissolved before is beyond no more, though batches up to the bound still wait to be sent.
                let from = match from {
                    Some(k) if !store::any_batch(db, row.ordinal, k)? => None,
                    from => from,
                };
                beyond.from_k = [beyond.from_k, from].into_iter().flatten().min();
            }
        }
        let held_to = position.head.map(|(head, _)| head);
        if let Some(k) = row.damaged {
            let from = held_to.map_or(k, |head| k.max(head.saturating_add(1)));
            // What the collector holds is no loss here; what lies behind that is sent, or is missing up to the head.
            let is_end = !store::any_batch(db, row.ordinal, from)?;
            if from == k || (is_end && row.head.as_ref().is_some_and(|(header, _)| from <= header.k)) {
                beyond.from_k = Some(beyond.from_k.map_or(from, |before| before.min(from)));
            }
        }
        let (sealed_k, sealed_seq) =
            row.head.as_ref().map_or((0, 0), |(header, _)| (header.k.saturating_add(1), end_seq(header)));
        // What a repair brought of a stream's unsealed records: no key is left to seal them under it.
        if row.ordinal != self.line.ordinal && !store::chunks(db, row.ordinal, sealed_seq, u64::MAX, 1)?.is_empty() {
            beyond.from_k.get_or_insert(sealed_k);
        }
        // A close or heartbeat beyond the point carries nothing that could be lost.
        Ok(beyond)
    }
}

fn recorded(positions: &[CollectorPosition], stream: StreamId) -> bool {
    positions.iter().any(|position| position.stream == stream && position.recorded)
}

/// What of a stream can't go out under it.
#[derive(Debug)]
struct Beyond {
    /// The collector's head is not in this chain.
    lacks_head: bool,
    from_k: Option<u64>,
}
