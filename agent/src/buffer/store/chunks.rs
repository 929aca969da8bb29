//! `chunk` and `body` rows: what one commit wrote, up to a batch's limits. A chunk never crosses a batch.

use edgetrail_proto::chain::Counters;
use rusqlite::{Connection, OptionalExtension, params};

use super::StoreError;
use super::columns::{Tally, Unsigned};
use crate::buffer::tally;

/// Rows that are in memory at a time while they are numbered anew.
const MOVED_MAX: usize = 256;

/// One row of `chunk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct ChunkRow {
    pub(in crate::buffer) first_seq: u64,
    pub(in crate::buffer) count: u32,
    pub(in crate::buffer) bytes: u64,
    pub(in crate::buffer) committed: u64,
    pub(in crate::buffer) counters: Counters,
    pub(in crate::buffer) body: i64,
}

/// Stores records and the chunk that names them.
pub(in crate::buffer) fn insert_chunk(
    db: &Connection,
    ordinal: i64,
    chunk: &ChunkRow,
    records: &[u8],
) -> Result<i64, StoreError> {
    db.prepare_cached("INSERT INTO body (records) VALUES (?1)")?.execute([records])?;
    let body = db.last_insert_rowid();
    put_chunk(db, ordinal, &ChunkRow { body, ..chunk.clone() })?;
    Ok(body)
}

/// Names records that are stored already.
fn put_chunk(db: &Connection, ordinal: i64, chunk: &ChunkRow) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        ordinal,
        Unsigned(chunk.first_seq),
        chunk.count,
        Unsigned(chunk.bytes),
        Unsigned(chunk.committed),
        tally::encode(chunk.counters).as_slice(),
        chunk.body,
    ])?;
    Ok(())
}

/// Chunks with a first_seq in `from..to`, in order, at most `limit`.
pub(in crate::buffer) fn chunks(
    db: &Connection,
    ordinal: i64,
    from: u64,
    to: u64,
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT first_seq, count, bytes, committed, counters, body FROM chunk
         WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3 ORDER BY first_seq LIMIT ?4",
    )?;
    let to = i64::try_from(to).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![ordinal, Unsigned(from), to, limit], |row| {
        Ok(ChunkRow {
            first_seq: row.get::<_, Unsigned>(0)?.0,
            count: row.get(1)?,
            bytes: row.get::<_, Unsigned>(2)?.0,
            committed: row.get::<_, Unsigned>(3)?.0,
            counters: row.get::<_, Tally>(4)?.0,
            body: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Gives chunks from a stream's seq on to a stream, numbered anew from its seq; gives the seq behind them. In one stream,
/// only downward. A slice at a time, however many they are.
pub(in crate::buffer) fn move_chunks(db: &Connection, from: (i64, u64), to: (i64, u64)) -> Result<u64, StoreError> {
    let mut renumber = db.prepare_cached("UPDATE chunk SET stream = ?3, first_seq = ?4 WHERE stream = ?1 AND first_seq = ?2")?;
    let ((from_stream, mut next), (to_stream, mut seq)) = (from, to);
    loop {
        let slice = chunks(db, from_stream, next, u64::MAX, MOVED_MAX)?;
        let Some(last) = slice.last() else { return Ok(seq) };
        next = last.first_seq.saturating_add(1);
        for chunk in &slice {
            renumber.execute(params![from_stream, Unsigned(chunk.first_seq), to_stream, Unsigned(seq)])?;
            seq = seq.saturating_add(u64::from(chunk.count));
        }
    }
}

/// Appends a body's records to `into`.
pub(in crate::buffer) fn read_body(db: &Connection, body: i64, into: &mut Vec<u8>) -> Result<(), StoreError> {
    db.prepare_cached("SELECT records FROM body WHERE id = ?1")?.query_row([body], |row| {
        into.extend_from_slice(row.get_ref(0)?.as_blob()?);
        Ok(())
    })?;
    Ok(())
}

/// Forgets chunks with a first_seq in `from..to`, and their records.
pub(in crate::buffer) fn delete_chunks(db: &Connection, ordinal: i64, from: u64, to: u64) -> Result<(), StoreError> {
    let range = params![ordinal, Unsigned(from), i64::try_from(to).unwrap_or(i64::MAX)];
    db.prepare_cached(
        "DELETE FROM body WHERE id IN (SELECT body FROM chunk WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3)",
    )?
    .execute(range)?;
    db.prepare_cached("DELETE FROM chunk WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3")?.execute(range)?;
    Ok(())
}

/// The same of damaged ones: the records they point at may be another chunk's, and then they stay.
pub(in crate::buffer) fn drop_chunks(db: &Connection, ordinal: i64, from: u64, to: u64) -> Result<(), StoreError> {
    let range = params![ordinal, Unsigned(from), i64::try_from(to).unwrap_or(i64::MAX)];
    db.execute(
        "DELETE FROM body WHERE id IN (SELECT body FROM chunk WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3)
           AND id NOT IN (SELECT body FROM chunk WHERE stream <> ?1 OR first_seq < ?2 OR first_seq >= ?3)",
        range,
    )?;
    db.execute("DELETE FROM chunk WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3", range)?;
    Ok(())
}

/// Records without a receipt: how many, their bytes, and when the oldest was committed.
pub(in crate::buffer) fn depth(db: &Connection) -> Result<(u64, u64, Option<u64>), StoreError> {
    Ok(db.query_row("SELECT ifnull(sum(count), 0), ifnull(sum(bytes), 0), min(committed) FROM chunk", [], |row| {
        Ok((row.get::<_, Unsigned>(0)?.0, row.get::<_, Unsigned>(1)?.0, row.get::<_, Option<Unsigned>>(2)?.map(|t| t.0)))
    })?)
}

/// When the first of the records without a receipt was committed, Unix nanoseconds.
pub(in crate::buffer) fn oldest(db: &Connection) -> Result<Option<u64>, StoreError> {
    let mut first = db.prepare_cached("SELECT committed FROM chunk ORDER BY stream, first_seq LIMIT 1")?;
    Ok(first.query_row([], |row| row.get::<_, Unsigned>(0)).optional()?.map(|committed| committed.0))
}
