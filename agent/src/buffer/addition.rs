//! What the pipeline asks to be made durable together.
//!
//! Records are framed and hashed here, on the pipeline's thread, so that the writer does nothing per record but copy.
//! An addition never splits an observation: its records and its cursor stand or fall together.

use edgetrail_link::body::{frame, unframe};
use edgetrail_proto::chain::{Counters, Hash};
use edgetrail_proto::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, RECORD_FRAME_BYTES};
use edgetrail_proto::merkle;

use super::tally;
use crate::observation::{Answer, Cursor, Outcome, SourceName};
use crate::sources::api::AnswerAfter;

/// Records, refusals, cursors and waiting callers for one commit.
#[derive(Debug, Default)]
pub struct Addition {
    /// Each record behind its length as u32, big-endian: the body of a batch.
    pub(super) body: Vec<u8>,
    pub(super) entries: Vec<Entry>,
    pub(super) refused: u64,
    pub(super) cursors: Vec<(SourceName, Cursor)>,
    pub(super) callers: Vec<Caller>,
    pub(super) hold: Option<Vec<u8>>,
}

/// One record of an addition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    /// Without its frame.
    pub(super) bytes: u32,
    pub(super) leaf: Hash,
    pub(super) counted: Counted,
}

/// How a record enters the stream's counters. docs/protocol.md §3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Came through normalize and selection.
    Observed,
    /// The agent's own: a report.
    Own,
    /// The agent's own: so many events are missing.
    Gap { lost_agent: u64, lost_source: u64 },
    /// The agent's own: so many records were made and kept by selection, and then there was no room for them.
    Shed { count: u64 },
}

/// Who waits for what becomes of an observation.
#[derive(Debug)]
pub struct Caller {
    pub answer: Answer,
    /// What it is told when it went well.
    pub outcome: Outcome,
    pub after: AnswerAfter,
}

impl Counted {
    pub(super) fn counters(self) -> Counters {
        match self {
            Self::Observed => Counters { observed: 1, ..Counters::default() },
            Self::Own => Counters { own: 1, ..Counters::default() },
            Self::Gap { lost_agent, lost_source } => Counters { own: 1, lost_agent, lost_source, ..Counters::default() },
            Self::Shed { count } => Counters { observed: count, own: 1, lost_agent: count, ..Counters::default() },
        }
    }
}

impl Caller {
    /// Tells the caller; one that has gone away is no error.
    pub(super) fn tell(self, outcome: Outcome) {
        drop(self.answer.0.send(outcome));
    }

    pub(super) fn tell_done(self) {
        let Self { answer, outcome, .. } = self;
        drop(answer.0.send(outcome));
    }
}

impl Addition {
    /// Adds a record; `record` is the exact bytes that end up in log files.
    pub fn record(&mut self, record: &[u8], counted: Counted) {
        // Proof: a record is at most RECORD_BYTES_FOREIGN_MAX long, far below u32::MAX.
        let bytes = u32::try_from(record.len()).unwrap_or(u32::MAX);
        frame(&mut self.body, record);
        self.entries.push(Entry { bytes, leaf: merkle::leaf_hash(record), counted });
    }

    /// Counts records that selection turned away: observed and refused.
    pub fn refuse(&mut self, count: u64) {
        self.refused = self.refused.saturating_add(count);
    }

    /// Moves a source's cursor with this commit; a later one of the same key stands.
    pub fn cursor(&mut self, source: SourceName, cursor: Cursor) {
        match self.cursors.iter_mut().find(|(s, c)| *s == source && c.key == cursor.key) {
            Some(place) => place.1 = cursor,
            None => self.cursors.push((source, cursor)),
        }
    }

    pub fn caller(&mut self, caller: Caller) {
        self.callers.push(caller);
    }

    /// What the hold must know after a restart, stored with this commit.
    pub fn hold(&mut self, state: Vec<u8>) {
        self.hold = Some(state);
    }

    /// Whether it has grown to a batch's worth: the pipeline sends it on.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_RECORDS_MAX || self.body.len() >= BATCH_BYTES_MAX
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.refused == 0 && self.cursors.is_empty() && self.callers.is_empty() && self.hold.is_none()
    }

    pub fn records(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn refusals(&self) -> Counters {
        Counters { observed: self.refused, refused: self.refused, ..Counters::default() }
    }

    /// Takes everything of `later`, behind what is here.
    pub(super) fn absorb(&mut self, later: Self) {
        if self.body.is_empty() {
            self.body = later.body;
            self.entries = later.entries;
        } else {
            self.body.extend_from_slice(&later.body);
            self.entries.extend_from_slice(&later.entries);
        }
        self.refused = self.refused.saturating_add(later.refused);
        for (source, cursor) in later.cursors {
            self.cursor(source, cursor);
        }
        self.callers.extend(later.callers);
        if later.hold.is_some() {
            self.hold = later.hold;
        }
    }
}

/// Records that follow one another and lie within one batch: a commit's, cut where a batch is full.
#[derive(Clone, Debug, Default)]
pub(super) struct Part<'a> {
    pub(super) body: &'a [u8],
    pub(super) leaves: Vec<Hash>,
    /// Record bytes, without frames.
    pub(super) bytes: u64,
    pub(super) counters: Counters,
}

/// Cuts a commit's records so that no part crosses a batch limit; `count` and `bytes` are what the open batch holds already.
pub(super) fn parts(addition: &Addition, mut count: usize, mut bytes: u64) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut part = Part::default();
    let (mut start, mut end) = (0, 0);
    for entry in &addition.entries {
        let size = u64::from(entry.bytes);
        if count >= BATCH_RECORDS_MAX || (count > 0 && bytes + size > BATCH_BYTES_MAX as u64) {
            if !part.leaves.is_empty() {
                part.body = addition.body.get(start..end).unwrap_or_default();
                parts.push(std::mem::take(&mut part));
            }
            (start, count, bytes) = (end, 0, 0);
        }
        part.leaves.push(entry.leaf);
        part.bytes += size;
        part.counters = tally::plus(part.counters, entry.counted.counters());
        (count, bytes) = (count + 1, bytes + size);
        end += entry.bytes as usize + RECORD_FRAME_BYTES;
    }
    if !part.leaves.is_empty() {
        part.body = addition.body.get(start..end).unwrap_or_default();
        parts.push(part);
    }
    parts
}

/// The leaf hashes of a framed body of `count` records, or `None` where it does not hold as many.
pub(super) fn leaves(body: &[u8], count: u32) -> Option<Vec<Hash>> {
    let leaves: Vec<Hash> = unframe(body).map(|record| record.map(merkle::leaf_hash)).collect::<Result<_, _>>().ok()?;
    (leaves.len() == count as usize).then_some(leaves)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_keep_every_record_and_no_part_passes_a_limit(
            sizes in prop::collection::vec(1usize..3000, 0..3000),
            count in 0usize..=BATCH_RECORDS_MAX,
        ) {
            let mut addition = Addition::default();
            for (i, size) in sizes.iter().enumerate() {
                addition.record(&vec![u8::try_from(i % 251).unwrap(); *size], Counted::Observed);
            }
            let before = count as u64 * 100;
            let parts = parts(&addition, count, before);
            prop_assert_eq!(parts.iter().flat_map(|p| p.body).copied().collect::<Vec<_>>(), addition.body.clone());
            prop_assert_eq!(parts.iter().map(|p| p.leaves.len()).sum::<usize>(), sizes.len());
            for (i, part) in parts.iter().enumerate() {
                let (had, had_bytes) = if i == 0 && part.leaves.len() + count <= BATCH_RECORDS_MAX { (count, before) } else { (0, 0) };
                prop_assert!(part.leaves.len() + had <= BATCH_RECORDS_MAX);
                let total = part.bytes + had_bytes;
                prop_assert!(total <= BATCH_BYTES_MAX as u64);
                prop_assert_eq!(leaves(part.body, u32::try_from(part.leaves.len()).unwrap()), Some(part.leaves.clone()));
            }
        }
    }
}
