//! What of former streams moves into a successor, and what is missing there.
//!
//! Every batch that is dissolved is hashed again: one that is not whole, or not there, is a hole that is named with its
//! exact seqs, never sealed again as if it were a record. Rows are looked at a slice at a time: a backlog of any length
//! takes the memory of one batch.

use edgetrail_proto::chain::{Counters, Hash, Header, Verifier};
use edgetrail_proto::identity::StreamId;

use super::{Missing, Plan};
use crate::buffer::addition::{self, Counted};
use crate::buffer::scribe::{Desk, end_seq};
use crate::buffer::store::{self, BatchRow, StreamRow};
use crate::buffer::unsealed::{Lost, Unsealed, unsealed};
use crate::buffer::{BufferError, tally};
use crate::observation::{GapCause, Loss};
use crate::report::Rehomed;

/// Rows that are in memory at a time.
const ROWS_MAX: usize = 256;

/// Holes of one stream that are named each; further ones are named together, with their exact sum.
const HOLES_MAX: usize = 256;

/// What moves, over all streams.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) rehomed: Vec<Rehomed>,
    /// Chunks of these streams move, from these seqs on.
    pub(super) runs: Vec<(i64, u64)>,
    /// What the moved records, and refusals between them, add to a stream's counters.
    pub(super) counters: Counters,
    /// What of these the moved chunks hold themselves.
    pub(super) held: Counters,
    pub(super) missing: Vec<Missing>,
}

/// Where a stream stood behind its last whole batch.
#[derive(Clone, Copy, Debug)]
struct Whole {
    /// The next batch.
    next_k: u64,
    next_seq: u64,
    counters: Counters,
    /// When it was sealed, Unix nanoseconds.
    t: u64,
}

/// Batches that are gone between two points of a stream.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from: Whole,
    /// The last batch that is gone.
    to_k: u64,
    to_seq: u64,
    /// How many records, and the agent's own among them.
    records: u64,
    own: u64,
    t: u64,
    /// Whole batches lie between so many.
    places: u64,
}

impl Hole {
    /// What lies between a point and the first record behind the hole, where `own` were counted so far.
    fn between(from: Whole, (next_k, next_seq): (u64, u64), own: u64, t: u64) -> Self {
        let own = own.saturating_sub(from.counters.own);
        let records = next_seq.saturating_sub(from.next_seq);
        Self { from, to_k: next_k.saturating_sub(1), to_seq: next_seq, records, own, t, places: 1 }
    }

    /// Events that are gone: the agent's own records are none.
    fn events(&self) -> u64 {
        self.records.saturating_sub(self.own)
    }

    fn missing(&self, stream: StreamId) -> Missing {
        let Self { from, to_k, to_seq, records, own, t, places } = *self;
        let batches = match (places, from.next_k == to_k) {
            (1, true) => format!("batch {to_k} of stream {stream} is damaged"),
            (1, false) => format!("batches {} to {to_k} of stream {stream} are damaged", from.next_k),
            _ => format!("stream {stream} is damaged in {places} places from batch {} to {to_k}, {records} records", from.next_k),
        };
        let (first, last) = (from.next_seq, to_seq.saturating_sub(1));
        let evidence = format!("{batches}: seq {first} to {last}, {own} of the agent's own among them");
        let loss =
            Loss { cause: GapCause::BufferDamaged, count: Some(self.events()), exact: true, evidence, from: from.t, to: t };
        Missing { loss, counted: Counted::Gap { lost_agent: self.events(), lost_source: 0 } }
    }

    fn fold(&mut self, later: &Self) {
        (self.to_k, self.to_seq, self.t) = (later.to_k, later.to_seq, later.t);
        self.records = self.records.saturating_add(later.records);
        self.own = self.own.saturating_add(later.own);
        self.places = self.places.saturating_add(1);
    }
}

impl Whole {
    fn before(row: &StreamRow) -> Self {
        Self { next_k: 0, next_seq: 0, counters: Counters::default(), t: row.open.t_opened }
    }

    /// Before a batch of which only the header and what it counts are known.
    fn at(header: &Header, counted: Counters) -> Self {
        let counters = tally::minus(header.counters, counted);
        Self { next_k: header.k, next_seq: header.first_seq, counters, t: header.t_min }
    }

    fn behind(header: &Header) -> Self {
        let (next_k, next_seq) = (header.k.saturating_add(1), end_seq(header));
        Self { next_k, next_seq, counters: header.counters, t: header.t_sealed }
    }
}

impl Desk {
    /// Dissolved batches in order, then what the current stream holds unsealed. Chunks in holes are dropped here.
    pub(super) fn survey(&self, plan: &Plan, now: u64) -> Result<Moved, BufferError> {
        let mut moved = Moved::default();
        let mut ordinals: Vec<i64> = plan.dissolve.iter().map(|&(ordinal, _)| ordinal).collect();
        ordinals.extend(self.state.current.filter(|current| !ordinals.contains(current)));
        ordinals.sort_unstable();
        for ordinal in ordinals {
            let Some(row) = store::stream_at(&self.store.db, ordinal)? else { continue };
            let from_k = plan.dissolve.iter().find(|&&(of, _)| of == ordinal).map(|&(_, k)| k);
            self.survey_stream(&row, from_k, now, &mut moved)?;
        }
        Ok(moved)
    }

    fn survey_stream(&self, row: &StreamRow, from_k: Option<u64>, now: u64, moved: &mut Moved) -> Result<(), BufferError> {
        let db = &self.store.db;
        let head = row.head.as_ref().map(|(header, _)| header);
        let sealed = head.map_or(Whole::before(row), Whole::behind);
        let mut rehomed =
            Rehomed { stream: row.open.stream, from_k: None, to_k: None, from_head: None, to_head: None, records: 0 };
        let mut counters = Counters::default();
        let mut from_seq = sealed.next_seq;
        if let Some(from_k) = from_k.filter(|&k| k < sealed.next_k) {
            let mut whole = self.whole_before(row, from_k)?;
            let mut start = whole;
            let mut holes: Vec<Hole> = Vec::new();
            let mut next_k = from_k;
            loop {
                let batches = store::batches(db, row.ordinal, next_k, ROWS_MAX)?;
                let Some(last) = batches.last() else { break };
                next_k = last.header.k.saturating_add(1);
                for batch in &batches {
                    let header = &batch.header;
                    rehomed.from_k.get_or_insert(header.k);
                    rehomed.from_head.get_or_insert(batch.hash);
                    (rehomed.to_k, rehomed.to_head) = (Some(header.k), Some(batch.hash));
                    let Some(sum) = self.whole(row, batch)? else {
                        whole.get_or_insert_with(|| {
                            Whole::at(header, Counters { observed: header.count.into(), ..Counters::default() })
                        });
                        continue;
                    };
                    let before = *whole.get_or_insert_with(|| Whole::at(header, sum));
                    start.get_or_insert(before);
                    let own = header.counters.own.saturating_sub(sum.own);
                    let t = if header.t_min == 0 { header.t_sealed } else { header.t_min };
                    self.drop_hole(row, Hole::between(before, (header.k, header.first_seq), own, t), &mut holes)?;
                    moved.held = tally::plus(moved.held, sum);
                    rehomed.records = rehomed.records.saturating_add(u64::from(header.count));
                    whole = Some(Whole::behind(header));
                }
            }
            let before = whole.unwrap_or(Whole { next_k: from_k, ..sealed });
            let t = if sealed.t == 0 { now } else { sealed.t };
            let last = Hole::between(before, (sealed.next_k, sealed.next_seq), sealed.counters.own, t);
            self.drop_hole(row, last, &mut holes)?;
            let start = start.unwrap_or(before);
            from_seq = start.next_seq;
            counters = tally::minus(sealed.counters, start.counters);
            counters.own = counters.own.saturating_sub(holes.iter().map(|hole| hole.own).sum());
            moved.missing.extend(holes.iter().map(|hole| hole.missing(row.open.stream)));
        }
        // Beyond its sealed batches a former stream holds nothing but what a repair brought.
        let unsealed = self.unsealed(row, &sealed, now, moved)?;
        counters = tally::plus(counters, unsealed.counters);
        rehomed.records = rehomed.records.saturating_add(unsealed.records);
        if self.state.current == Some(row.ordinal) {
            counters = tally::plus(counters, self.state.tail);
        }
        if rehomed.records > 0 || rehomed.from_k.is_some() {
            moved.rehomed.push(rehomed);
        }
        moved.runs.push((row.ordinal, from_seq));
        moved.counters = tally::plus(moved.counters, counters);
        Ok(())
    }

    /// Where the stream stood before batch k; `None` where no header that is held says it.
    fn whole_before(&self, row: &StreamRow, k: u64) -> Result<Option<Whole>, BufferError> {
        let Some(before) = k.checked_sub(1) else { return Ok(Some(Whole::before(row))) };
        if let Some(batch) = store::batch(&self.store.db, row.ordinal, before)? {
            return Ok(Some(Whole::behind(&batch.header)));
        }
        Ok(row.receipted.as_ref().filter(|(header, ..)| header.k == before).map(|(header, ..)| Whole::behind(header)))
    }

    /// Hashes a batch again; gives what its chunks count, `None` where it is not whole.
    fn whole(&self, row: &StreamRow, batch: &BatchRow) -> Result<Option<Counters>, BufferError> {
        let header = &batch.header;
        let mut body = Vec::new();
        let mut sum = Counters::default();
        // A batch has no more chunks than records.
        for chunk in store::chunks(&self.store.db, row.ordinal, header.first_seq, end_seq(header), header.count as usize)? {
            match store::read_body(&self.store.db, chunk.body, &mut body) {
                Ok(()) => sum = tally::plus(sum, chunk.counters),
                Err(_) => return Ok(None),
            }
        }
        let leaves: Option<Vec<Hash>> = addition::leaves(&body, header.count);
        // The seal is of no use any more: records that make the root of a header that is what it was are whole.
        let is_what_was_sealed = header.stream == row.open.stream
            && (header.hash() == batch.hash || batch.is_sealed_by(store::key_of(&self.store.db, row, header.k)?.as_ref()));
        let whole = is_what_was_sealed && leaves.is_some_and(|leaves| Verifier::check_leaves(header, &leaves).is_ok());
        Ok(whole.then_some(sum))
    }

    /// Forgets what is left of a hole; one without records is none.
    fn drop_hole(&self, row: &StreamRow, hole: Hole, holes: &mut Vec<Hole>) -> Result<(), BufferError> {
        if hole.records == 0 {
            return Ok(());
        }
        store::drop_chunks(&self.store.db, row.ordinal, hole.from.next_seq, hole.to_seq)?;
        if holes.len() < HOLES_MAX {
            holes.push(hole);
        } else if let Some(last) = holes.last_mut() {
            last.fold(&hole);
        }
        Ok(())
    }

    /// Counts what lies behind the head; what is not there is named, and counted by what the state row says of all.
    fn unsealed(&self, row: &StreamRow, sealed: &Whole, now: u64, moved: &mut Moved) -> Result<Unsealed, BufferError> {
        // Of a former stream, which a repair brought, nothing says how far it reached.
        let reach = self.state.reach.filter(|_| self.state.current == Some(row.ordinal));
        let mut found = unsealed(&self.store.db, row.ordinal, sealed.next_seq, reach.map(|reach| reach.next_seq))?;
        moved.held = tally::plus(moved.held, found.counters);
        if found.missing.first().is_some() {
            let Lost { events, exact, counters, counted } = found.lost(sealed.counters, reach);
            let evidence = format!("unsealed records of stream {}: {}", row.open.stream, found.missing);
            let loss = Loss { cause: GapCause::BufferDamaged, count: Some(events), exact, evidence, from: sealed.t, to: now };
            moved.missing.push(Missing { loss, counted });
            found.counters = tally::plus(found.counters, counters);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_named_by_its_seqs_and_counts_events_only() {
        let from = Whole { next_k: 4, next_seq: 10, counters: Counters::default(), t: 7 };
        let missing = Hole::between(from, (5, 15), 1, 8).missing(StreamId::from_bytes([1; 16]));
        assert_eq!(missing.loss.count, Some(4));
        assert!(missing.loss.evidence.contains("batch 4 of") && missing.loss.evidence.contains("seq 10 to 14"));
        assert_eq!((missing.loss.from, missing.loss.to), (7, 8));
    }
}
