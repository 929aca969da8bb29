//! `batch` rows: sealed batches without a receipt. Their records are the chunks that the header's seq range covers.

use edgetrail_proto::chain::{Hash, Header, Seal};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::columns::{Bytes, HeaderBytes, Unsigned};

/// One row of `batch`.
#[derive(Clone, Debug)]
pub(in crate::buffer) struct BatchRow {
    pub(in crate::buffer) header: Header,
    pub(in crate::buffer) hash: Hash,
    pub(in crate::buffer) seal: Seal,
    pub(in crate::buffer) waits: bool,
}

pub(in crate::buffer) fn insert_batch(db: &Connection, ordinal: i64, batch: &BatchRow) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        ordinal,
        Unsigned(batch.header.k),
        batch.header.encode().as_slice(),
        Bytes(batch.hash.0),
        Bytes(batch.seal.0),
        batch.waits,
    ])?;
    Ok(())
}

pub(in crate::buffer) fn batch(db: &Connection, ordinal: i64, k: u64) -> Result<Option<BatchRow>, StoreError> {
    let mut statement = db.prepare_cached("SELECT header, hash, seal, waits FROM batch WHERE stream = ?1 AND k = ?2")?;
    Ok(statement.query_row(params![ordinal, Unsigned(k)], batch_row).optional()?)
}

/// The oldest batch without a receipt.
pub(in crate::buffer) fn first_batch(db: &Connection, ordinal: i64) -> Result<Option<u64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT min(k) FROM batch WHERE stream = ?1")?;
    Ok(statement.query_row([ordinal], |row| row.get::<_, Option<Unsigned>>(0))?.map(|k| k.0))
}

/// Batches from `from_k` on, in order, at most `limit`.
pub(in crate::buffer) fn batches(db: &Connection, ordinal: i64, from_k: u64, limit: usize) -> Result<Vec<BatchRow>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT header, hash, seal, waits FROM batch WHERE stream = ?1 AND k >= ?2 ORDER BY k LIMIT ?3")?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![ordinal, Unsigned(from_k), limit], batch_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// k and head of every batch without a receipt up to `to_k`, the newest `limit`, in order.
pub(in crate::buffer) fn names(
    db: &Connection,
    ordinal: i64,
    to_k: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, Hash)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT k, hash FROM batch WHERE stream = ?1 AND k <= ?2 ORDER BY k DESC LIMIT ?3")?;
    let to_k = to_k.map_or(i64::MAX, |k| i64::try_from(k).unwrap_or(i64::MAX));
    let rows = statement.query_map(params![ordinal, to_k, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, Unsigned>(0)?.0, Hash(row.get::<_, Bytes<32>>(1)?.0)))
    })?;
    let mut names = rows.collect::<Result<Vec<_>, _>>()?;
    names.reverse();
    Ok(names)
}

/// Forgets batches with k in `from..to`.
pub(in crate::buffer) fn delete_batches(db: &Connection, ordinal: i64, from: u64, to: u64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM batch WHERE stream = ?1 AND k >= ?2 AND k < ?3")?.execute(params![
        ordinal,
        Unsigned(from),
        i64::try_from(to).unwrap_or(i64::MAX)
    ])?;
    Ok(())
}

fn batch_row(row: &Row<'_>) -> rusqlite::Result<BatchRow> {
    Ok(BatchRow {
        header: row.get::<_, HeaderBytes>(0)?.0,
        hash: Hash(row.get::<_, Bytes<32>>(1)?.0),
        seal: Seal(row.get::<_, Bytes<64>>(2)?.0),
        waits: row.get(3)?,
    })
}
