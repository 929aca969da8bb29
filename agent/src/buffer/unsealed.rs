//! What lies committed behind a stream's head: which records are there, and which seqs are not any more.
//!
//! Chunks are numbered without a hole and the state row says where they end, so a row that is damaged or gone shows as the
//! seqs that no row covers, wherever it was; and as the state row says what all of them count, what is missing counts the rest.

use std::fmt;

use edgetrail_proto::chain::Counters;
use rusqlite::Connection;

use super::addition::Counted;
use super::store::{self, Reach};
use super::{BufferError, tally};

/// Rows that are in memory at a time.
const ROWS_MAX: usize = 256;

/// Runs of missing seqs that are named each; further ones are counted.
const RUNS_MAX: usize = 64;

/// Chunks behind a head that are whole.
#[derive(Debug, Default)]
pub(super) struct Unsealed {
    pub(super) counters: Counters,
    pub(super) records: u64,
    pub(super) missing: Runs,
}

/// Runs of seqs, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    named: Vec<(u64, u64)>,
    places: u64,
    pub(super) records: u64,
}

/// What of a stream's counters is gone with records that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// Events; the agent's own records are none.
    pub(super) events: u64,
    /// Whether that is known, or no record was taken for the agent's own.
    pub(super) exact: bool,
    /// What the missing records counted, without themselves: what a gap in their place counts too.
    pub(super) counters: Counters,
    pub(super) counted: Counted,
}

/// Looks through the chunks of a stream from a seq on; `to` is where they end, as far as that is known.
pub(super) fn unsealed(db: &Connection, ordinal: i64, from: u64, to: Option<u64>) -> Result<Unsealed, BufferError> {
    let mut unsealed = Unsealed::default();
    let mut next = from;
    loop {
        let chunks = store::chunks(db, ordinal, next, u64::MAX, ROWS_MAX)?;
        if chunks.is_empty() {
            break;
        }
        for chunk in &chunks {
            unsealed.missing.add(next, chunk.first_seq);
            next = chunk.first_seq.saturating_add(u64::from(chunk.count));
            unsealed.counters = tally::plus(unsealed.counters, chunk.counters);
            unsealed.records = unsealed.records.saturating_add(u64::from(chunk.count));
        }
    }
    unsealed.missing.add(next, to.unwrap_or(next));
    Ok(unsealed)
}

impl Unsealed {
    /// What is missing of a stream that counted `sealed` at its head and reaches so far.
    pub(super) fn lost(&self, sealed: Counters, reach: Option<Reach>) -> Lost {
        let held = tally::plus(tally::of_records(sealed), tally::of_records(self.counters));
        let rest = reach.map(|reach| tally::minus(tally::of_records(reach.counted), held));
        Lost::of(self.missing.records, rest)
    }
}

impl Lost {
    /// Of so many records that counted so much, where that is known.
    pub(super) fn of(records: u64, counters: Option<Counters>) -> Self {
        if let Some(counters) = counters.map(tally::of_records)
            && counters.balance(records)
        {
            let events = records.saturating_sub(counters.own);
            let counted = Counted::Gap { lost_agent: events, lost_source: 0 };
            return Self { events, exact: true, counters: Counters { own: 0, ..counters }, counted };
        }
        let counted = Counted::Gap { lost_agent: 0, lost_source: records };
        Self { events: records, exact: false, counters: Counters::default(), counted }
    }
}

impl Runs {
    /// Seqs of `from..to`.
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if to <= from {
            return;
        }
        self.places += 1;
        self.records = self.records.saturating_add(to - from);
        if self.named.len() < RUNS_MAX {
            self.named.push((from, to));
        }
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.named.first().map(|&(from, _)| from)
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(from, to)) in self.named.iter().enumerate() {
            let separator = if index == 0 { "seq" } else { "," };
            write!(f, "{separator} {from} to {}", to - 1)?;
        }
        match self.places.saturating_sub(self.named.len() as u64) {
            0 => Ok(()),
            more => write!(f, " and {more} more runs, {} records in all", self.records),
        }
    }
}
