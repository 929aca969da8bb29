//! `chunk` and `body` rows: what one commit wrote, up to a batch's limits. A chunk never crosses a batch.
//!
//! Each row has a sum over all of itself and what its records hash to. A row whose sum does not hold is as one that is not
//! there: what it covered is missing from between its neighbours, which say exactly which seqs that is.

use edgetrail_proto::chain::{Counters, Hash};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::columns::{Bytes, Tally, Unsigned, is_unfit};
use super::{StoreError, Sum};
use crate::buffer::{addition, tally};

/// Rows that are in memory at a time while they are numbered anew.
pub(super) const MOVED_MAX: usize = 256;

/// One row of `chunk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct ChunkRow {
    pub(in crate::buffer) first_seq: u64,
    pub(in crate::buffer) count: u32,
    pub(in crate::buffer) bytes: u64,
    pub(in crate::buffer) committed: u64,
    pub(in crate::buffer) counters: Counters,
    pub(in crate::buffer) content: Content,
    pub(in crate::buffer) body: i64,
}

/// What a chunk's records hash to, whoever holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::buffer) struct Content(pub(in crate::buffer) Sum);

impl Content {
    /// Of leaf hashes, which the records' way through the buffer needs anyway.
    pub(in crate::buffer) fn of(leaves: &[Hash]) -> Self {
        let mut joined = Vec::with_capacity(leaves.len() * 32);
        leaves.iter().for_each(|leaf| joined.extend_from_slice(&leaf.0));
        Self(super::sum(b"edgetrail/content/v1\n", &[&joined]))
    }
}

impl ChunkRow {
    /// Over every column; what moves to another stream or seq is summed anew.
    pub(in crate::buffer) fn sum(&self, ordinal: i64) -> Sum {
        super::sum(
            b"edgetrail/chunk/v1\n",
            &[
                &ordinal.to_be_bytes(),
                &self.first_seq.to_be_bytes(),
                &self.count.to_be_bytes(),
                &self.bytes.to_be_bytes(),
                &self.committed.to_be_bytes(),
                &tally::encode(self.counters),
                &self.content.0,
                &self.body.to_be_bytes(),
            ],
        )
    }
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

/// Names records that are stored already. A damaged row in the place makes way: it is no chunk.
fn put_chunk(db: &Connection, ordinal: i64, chunk: &ChunkRow) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached("INSERT INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    let mut put = || {
        insert.execute(params![
            ordinal,
            Unsigned(chunk.first_seq),
            chunk.count,
            Unsigned(chunk.bytes),
            Unsigned(chunk.committed),
            tally::encode(chunk.counters).as_slice(),
            chunk.body,
            Bytes(chunk.content.0),
            Bytes(chunk.sum(ordinal)),
        ])
    };
    match put() {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            drop_damaged_chunks(db, ordinal, chunk.first_seq, chunk.first_seq.saturating_add(1))?;
            put()?;
        }
        done => {
            done?;
        }
    }
    Ok(())
}

/// Chunks with a first_seq in `from..to`, in order, at most `limit`; those whose sum does not hold are passed over.
pub(in crate::buffer) fn chunks(
    db: &Connection,
    ordinal: i64,
    from: u64,
    to: u64,
    limit: usize,
) -> Result<Vec<ChunkRow>, StoreError> {
    let mut statement = db.prepare_cached(CHUNKS_BETWEEN)?;
    let rows = statement.query_map(params![ordinal, Unsigned(from), i64::try_from(to).unwrap_or(i64::MAX)], chunk_row)?;
    let whole = rows.filter_map(|row| match row {
        Ok((_, Some((chunk, sum)))) => (sum == chunk.sum(ordinal)).then_some(Ok(chunk)),
        Ok((_, None)) => None,
        Err(error) => Some(Err(error)),
    });
    Ok(whole.take(limit).collect::<Result<_, _>>()?)
}

/// Where the records of `from..to` lie as far as rows say, damaged ones too: for those that a root vouches for.
pub(in crate::buffer) fn bodies_between(db: &Connection, ordinal: i64, from: u64, to: u64) -> Result<Vec<i64>, StoreError> {
    let mut statement = db.prepare_cached(CHUNKS_BETWEEN)?;
    let rows = statement.query_map(params![ordinal, Unsigned(from), i64::try_from(to).unwrap_or(i64::MAX)], chunk_row)?;
    let bodies = rows.filter_map(|row| row.map(|(_, chunk)| chunk.map(|(chunk, _)| chunk.body)).transpose());
    Ok(bodies.collect::<Result<_, _>>()?)
}

const CHUNKS_BETWEEN: &str = "SELECT first_seq, count, bytes, committed, counters, body, content, sum FROM chunk
    WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3 ORDER BY first_seq";

/// A row's key, and the row with its sum where it can be read as one.
fn chunk_row(row: &Row<'_>) -> rusqlite::Result<(i64, Option<(ChunkRow, Sum)>)> {
    let read = || -> rusqlite::Result<(ChunkRow, Sum)> {
        let chunk = ChunkRow {
            first_seq: row.get::<_, Unsigned>(0)?.0,
            count: row.get(1)?,
            bytes: row.get::<_, Unsigned>(2)?.0,
            committed: row.get::<_, Unsigned>(3)?.0,
            counters: row.get::<_, Tally>(4)?.0,
            body: row.get(5)?,
            content: Content(row.get::<_, Bytes<16>>(6)?.0),
        };
        Ok((chunk, row.get::<_, Bytes<16>>(7)?.0))
    };
    match read() {
        Ok(chunk) => Ok((row.get(0)?, Some(chunk))),
        Err(error) if is_unfit(&error) => Ok((row.get(0)?, None)),
        Err(error) => Err(error),
    }
}

/// Forgets rows with a first_seq in `from..to` whose sum does not hold.
pub(in crate::buffer) fn drop_damaged_chunks(db: &Connection, ordinal: i64, from: u64, to: u64) -> Result<(), StoreError> {
    let mut statement = db.prepare_cached(CHUNKS_BETWEEN)?;
    let rows = statement.query_map(params![ordinal, Unsigned(from), i64::try_from(to).unwrap_or(i64::MAX)], chunk_row)?;
    let is_damaged = |chunk: Option<(ChunkRow, Sum)>| chunk.is_none_or(|(chunk, sum)| sum != chunk.sum(ordinal));
    let damaged = rows.filter_map(|row| row.map(|(key, chunk)| is_damaged(chunk).then_some(key)).transpose());
    for key in damaged.collect::<Result<Vec<i64>, _>>()? {
        let key = u64::try_from(key).unwrap_or(0);
        drop_chunks(db, ordinal, key, key.saturating_add(1))?;
    }
    Ok(())
}

/// Gives each row of a schema that had none its sum, a slice at a time. What can't be read gets none, and so is damaged.
pub(super) fn sum_chunks(db: &Connection) -> Result<(), StoreError> {
    let mut place = (i64::MIN, -1);
    loop {
        let mut statement = db.prepare_cached(
            "SELECT first_seq, count, bytes, committed, counters, body, zeroblob(16), zeroblob(16), stream FROM chunk
             WHERE (stream, first_seq) > (?1, ?2) ORDER BY stream, first_seq LIMIT ?3",
        )?;
        let limit = i64::try_from(MOVED_MAX).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![place.0, place.1, limit], |row| Ok((row.get::<_, i64>(8)?, chunk_row(row)?)))?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let Some((stream, (key, _))) = rows.last() else { return Ok(()) };
        place = (*stream, *key);
        for (stream, (key, chunk)) in rows {
            let Some((chunk, _)) = chunk else { continue };
            let mut body = Vec::new();
            let leaves = read_body(db, chunk.body, &mut body).ok().and_then(|()| addition::leaves(&body, chunk.count));
            let Some(leaves) = leaves else { continue };
            let chunk = ChunkRow { content: Content::of(&leaves), ..chunk };
            db.prepare_cached("UPDATE chunk SET content = ?3, sum = ?4 WHERE stream = ?1 AND first_seq = ?2")?
                .execute(params![stream, key, Bytes(chunk.content.0), Bytes(chunk.sum(stream))])?;
        }
    }
}

/// Gives chunks from a stream's seq on to a stream, numbered anew from its seq; gives the seq behind them. In one stream,
/// only downward. A slice at a time, however many they are.
pub(in crate::buffer) fn move_chunks(db: &Connection, from: (i64, u64), to: (i64, u64)) -> Result<u64, StoreError> {
    let mut renumber =
        db.prepare_cached("UPDATE chunk SET stream = ?3, first_seq = ?4, sum = ?5 WHERE stream = ?1 AND first_seq = ?2")?;
    let ((from_stream, mut next), (to_stream, mut seq)) = (from, to);
    loop {
        let slice = chunks(db, from_stream, next, u64::MAX, MOVED_MAX)?;
        let Some(last) = slice.last() else { return Ok(seq) };
        next = last.first_seq.saturating_add(1);
        for chunk in &slice {
            let moved = ChunkRow { first_seq: seq, ..chunk.clone() };
            let sum = Bytes(moved.sum(to_stream));
            renumber.execute(params![from_stream, Unsigned(chunk.first_seq), to_stream, Unsigned(seq), sum])?;
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
