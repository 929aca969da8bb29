//! `batch` rows: sealed batches without a receipt. Their records are the chunks that the header's seq range covers.
//!
//! A row that can't be read as a batch, or as one of another k, is as one that is not there: a hole, never an error that
//! comes again at every reading.

use edgetrail_proto::chain::{Hash, Header, PublicKey, Seal, verify_seal};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::StoreError;
use super::columns::{Bytes, HeaderBytes, Unsigned, is_unfit};
use super::streams::StreamRow;

/// One row of `batch`; whether seal and records fit the header, who uses them checks.
#[derive(Clone, Debug)]
pub(in crate::buffer) struct BatchRow {
    pub(in crate::buffer) header: Header,
    /// As it was written beside the header; one that the header does not hash to says that either is damaged.
    pub(in crate::buffer) hash: Hash,
    pub(in crate::buffer) seal: Seal,
    pub(in crate::buffer) waits: bool,
}

pub(in crate::buffer) fn insert_batch(db: &Connection, ordinal: i64, batch: &BatchRow) -> Result<(), StoreError> {
    let mut insert = db.prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let k = batch.header.k;
    let mut put = || {
        insert.execute(params![
            ordinal,
            Unsigned(k),
            batch.header.encode().as_slice(),
            Bytes(batch.hash.0),
            Bytes(batch.seal.0),
            batch.waits,
        ])
    };
    match put() {
        // A damaged row in the place makes way: it is no batch, and would be in the way for ever.
        Err(error)
            if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) && self::batch(db, ordinal, k)?.is_none() =>
        {
            delete_batches(db, ordinal, k, k.saturating_add(1))?;
            put()?;
        }
        done => {
            done?;
        }
    }
    Ok(())
}

pub(in crate::buffer) fn batch(db: &Connection, ordinal: i64, k: u64) -> Result<Option<BatchRow>, StoreError> {
    let mut statement = db.prepare_cached("SELECT k, header, hash, seal, waits FROM batch WHERE stream = ?1 AND k = ?2")?;
    Ok(statement.query_row(params![ordinal, Unsigned(k)], batch_row).optional()?.flatten())
}

/// Whether there is a row from `from_k` on, whole or not.
pub(in crate::buffer) fn any_batch(db: &Connection, ordinal: i64, from_k: u64) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached("SELECT 1 FROM batch WHERE stream = ?1 AND k >= ?2 LIMIT 1")?;
    Ok(statement.exists(params![ordinal, Unsigned(from_k)])?)
}

/// Whether batch k is there under this head, by its header or by the hash beside it: one of them may be damaged.
pub(in crate::buffer) fn has_head(db: &Connection, ordinal: i64, k: u64, head: Hash) -> Result<bool, StoreError> {
    let mut statement = db.prepare_cached("SELECT header, hash FROM batch WHERE stream = ?1 AND k = ?2")?;
    let of_row = |row: &Row<'_>| {
        let by_header = row.get::<_, HeaderBytes>(0).is_ok_and(|header| header.0.hash() == head);
        Ok(by_header || row.get::<_, Bytes<32>>(1).is_ok_and(|hash| hash.0 == head.0))
    };
    Ok(statement.query_row(params![ordinal, Unsigned(k)], of_row).optional()?.unwrap_or(false))
}

/// The oldest batch without a receipt.
pub(in crate::buffer) fn first_batch(db: &Connection, ordinal: i64) -> Result<Option<u64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT min(k) FROM batch WHERE stream = ?1")?;
    Ok(statement.query_row([ordinal], |row| row.get::<_, Option<Unsigned>>(0))?.map(|k| k.0))
}

/// Batches from `from_k` on, in order, at most `limit`.
pub(in crate::buffer) fn batches(db: &Connection, ordinal: i64, from_k: u64, limit: usize) -> Result<Vec<BatchRow>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT k, header, hash, seal, waits FROM batch WHERE stream = ?1 AND k >= ?2 ORDER BY k")?;
    let rows = statement.query_map(params![ordinal, Unsigned(from_k)], batch_row)?;
    Ok(rows.filter_map(Result::transpose).take(limit).collect::<Result<_, _>>()?)
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

impl BatchRow {
    /// Whether the header is what was sealed: by the key that checks its seal, or where that is not known, by its hash.
    pub(in crate::buffer) fn is_sealed_by(&self, key: Option<&PublicKey>) -> bool {
        let head = self.header.hash();
        key.map_or(head == self.hash, |key| verify_seal(key, &head, &self.seal))
    }
}

/// pk_k of a stream: what its open names, or the header before; `None` where that is not held or not what was sealed.
pub(in crate::buffer) fn key_of(db: &Connection, row: &StreamRow, k: u64) -> Result<Option<PublicKey>, StoreError> {
    let Some(before) = k.checked_sub(1) else { return Ok(Some(row.open.first_key)) };
    if let Some((header, ..)) = row.receipted.as_ref().filter(|(header, ..)| header.k == before) {
        return Ok(Some(header.next_key));
    }
    let batch = batch(db, row.ordinal, before)?.filter(|batch| batch.header.hash() == batch.hash);
    Ok(batch.map(|batch| batch.header.next_key))
}

/// `None` where the row is damaged in itself.
fn batch_row(row: &Row<'_>) -> rusqlite::Result<Option<BatchRow>> {
    let read = || -> rusqlite::Result<(u64, BatchRow)> {
        let header = row.get::<_, HeaderBytes>(1)?.0;
        let (hash, seal) = (Hash(row.get::<_, Bytes<32>>(2)?.0), Seal(row.get::<_, Bytes<64>>(3)?.0));
        Ok((row.get::<_, Unsigned>(0)?.0, BatchRow { header, hash, seal, waits: row.get(4)? }))
    };
    match read() {
        Ok((k, batch)) => Ok((batch.header.k == k).then_some(batch)),
        Err(error) if is_unfit(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
