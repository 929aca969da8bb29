//! The one row of `state`: what holds for the buffer as a whole.
//!
//! Where its sum does not hold nothing of it is believed but what the streams say too, and the reader is told so.

use edgetrail_proto::chain::{Counters, Hash};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::STREAMS_NAMED_MAX;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{Bytes, Tally, Unsigned};
use super::{StoreError, StreamRow, Sum, chunks, streams};
use crate::buffer::tally;

/// The one row of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct State {
    pub(in crate::buffer) current: Option<i64>,
    pub(in crate::buffer) running: bool,
    pub(in crate::buffer) forked: Option<StreamId>,
    pub(in crate::buffer) receipt: Hash,
    pub(in crate::buffer) commits: u64,
    pub(in crate::buffer) committed: u64,
    /// Refusals that no header counts yet.
    pub(in crate::buffer) tail: Counters,
    /// How far the current stream's records reach; `None` where the row was damaged and nothing else says it.
    pub(in crate::buffer) reach: Option<Reach>,
}

/// How far a stream's records reach, sealed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::buffer) struct Reach {
    /// The seq behind the last one.
    pub(in crate::buffer) next_seq: u64,
    /// What all of its chunks count together.
    pub(in crate::buffer) counted: Counters,
}

const STATE: &str = "SELECT current, running, forked, receipt, commits, committed, tail, reach, sum FROM state WHERE id = 1";

/// The row as it was written; rebuilt from the streams, with no reach, where it is not that any more.
pub(in crate::buffer) fn state(db: &Connection) -> Result<State, StoreError> {
    let (state, sum) = db.prepare_cached(STATE)?.query_row([], state_row)?;
    if state.reach.is_some() && sum == Some(state.sum()) { Ok(state) } else { rebuilt(db, state) }
}

/// Writes everything of the state row but `hold`.
pub(in crate::buffer) fn put_state(db: &Connection, state: &State) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE state SET current = ?1, running = ?2, forked = ?3, receipt = ?4, commits = ?5, committed = ?6, tail = ?7,
           reach = ?8, sum = ?9 WHERE id = 1",
    )?
    .execute(params![
        state.current,
        state.running,
        state.forked.map(|id| Bytes(*id.as_bytes())),
        Bytes(state.receipt.0),
        Unsigned(state.commits),
        Unsigned(state.committed),
        tally::encode(state.tail).as_slice(),
        state.reach.map(|reach| Bytes(reach.encode())),
        Bytes(state.sum()),
    ])?;
    Ok(())
}

/// The row of an empty buffer.
pub(super) fn insert(db: &Connection) -> Result<(), StoreError> {
    let state = State {
        current: None,
        running: false,
        forked: None,
        receipt: Hash::ZERO,
        commits: 0,
        committed: 0,
        tail: Counters::default(),
        reach: Some(Reach::default()),
    };
    db.execute(
        "INSERT INTO state (id, running, receipt, commits, committed, tail) VALUES (1, 0, ?1, 0, 0, ?2)",
        params![Bytes(state.receipt.0), tally::encode(state.tail).as_slice()],
    )?;
    put_state(db, &state)
}

/// Gives the row of a schema that had none its sum, and the reach that the chunks show.
pub(super) fn sum_state(db: &Connection) -> Result<(), StoreError> {
    let (mut state, _) = db.query_row(STATE, [], state_row)?;
    let mut reach = Reach::default();
    if let Some(row) = state.current.map(|current| streams::stream_at(db, current)).transpose()?.flatten() {
        if let Some((header, _)) = &row.head {
            let next_seq = header.first_seq.saturating_add(u64::from(header.count));
            reach = Reach { next_seq, counted: header.counters };
        }
        loop {
            let slice = chunks(db, row.ordinal, reach.next_seq, u64::MAX, chunks::MOVED_MAX)?;
            if slice.is_empty() {
                break;
            }
            for chunk in slice {
                reach.next_seq = chunk.first_seq.saturating_add(u64::from(chunk.count));
                reach.counted = tally::plus(reach.counted, chunk.counters);
            }
        }
    }
    state.reach = Some(reach);
    put_state(db, &state)
}

pub(in crate::buffer) fn hold(db: &Connection) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(db.query_row("SELECT hold FROM state WHERE id = 1", [], |row| row.get(0))?)
}

pub(in crate::buffer) fn put_hold(db: &Connection, hold: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE state SET hold = ?1 WHERE id = 1")?.execute([hold])?;
    Ok(())
}

fn state_row(row: &Row<'_>) -> rusqlite::Result<(State, Option<Sum>)> {
    let state = State {
        current: row.get(0)?,
        running: row.get(1)?,
        forked: row.get::<_, Option<Bytes<16>>>(2)?.map(|id| StreamId::from_bytes(id.0)),
        receipt: Hash(row.get::<_, Bytes<32>>(3)?.0),
        commits: row.get::<_, Unsigned>(4)?.0,
        committed: row.get::<_, Unsigned>(5)?.0,
        tail: row.get::<_, Tally>(6)?.0,
        reach: row.get::<_, Option<Bytes<48>>>(7)?.and_then(|bytes| Reach::decode(&bytes.0)),
    };
    Ok((state, row.get::<_, Option<Bytes<16>>>(8)?.map(|sum| sum.0)))
}

/// What is safe to go on from. The newest stream is the current one; that it ran says that memory may have held something.
fn rebuilt(db: &Connection, state: State) -> Result<State, StoreError> {
    let newest: Option<i64> = db.query_row("SELECT max(ordinal) FROM stream", [], |row| row.get(0)).optional()?.flatten();
    let known = streams(db, STREAMS_NAMED_MAX)?;
    let receipts = known.iter().filter_map(|row| row.receipted.as_ref()).map(|(.., receipt)| receipt);
    let receipt = receipts.max_by_key(|receipt| receipt.t_received).map_or(Hash::ZERO, |receipt| receipt.message_hash());
    let last_time = |row: &StreamRow| row.head.as_ref().map_or(row.open.t_opened, |(header, _)| header.t_sealed);
    Ok(State {
        current: newest,
        running: newest.is_some(),
        receipt,
        committed: known.last().map_or(0, last_time),
        tail: Counters::default(),
        reach: None,
        ..state
    })
}

impl State {
    /// Records were added up to `next_seq`, which count so much.
    pub(in crate::buffer) fn reach_on(&mut self, next_seq: u64, counted: Counters) {
        let before = self.reach.unwrap_or_default().counted;
        self.reach = Some(Reach { next_seq, counted: tally::plus(before, counted) });
    }

    fn sum(&self) -> Sum {
        let forked = self.forked.map_or([0; 16], |id| *id.as_bytes());
        let flags = [u8::from(self.current.is_some()), u8::from(self.running), u8::from(self.forked.is_some())];
        super::sum(
            b"edgetrail/state/v1\n",
            &[
                &flags,
                &self.current.unwrap_or(0).to_be_bytes(),
                &forked,
                &self.receipt.0,
                &self.commits.to_be_bytes(),
                &self.committed.to_be_bytes(),
                &tally::encode(self.tail),
                &self.reach.map_or([0; 48], Reach::encode),
            ],
        )
    }
}

impl Reach {
    fn encode(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let (seq, counted) = bytes.split_at_mut(8);
        seq.copy_from_slice(&self.next_seq.to_be_bytes());
        counted.copy_from_slice(&tally::encode(self.counted));
        bytes
    }

    fn decode(bytes: &[u8; 48]) -> Option<Self> {
        let (seq, counted) = bytes.split_first_chunk::<8>()?;
        Some(Self { next_seq: u64::from_be_bytes(*seq), counted: tally::decode(counted)? })
    }
}
