//! The rows of what this ledger knows without holding it: anchors, streams that wait, missing ranges, forgotten keys.
//!
//! Single statements over a connection, as in [`super::store`]; what must happen together is the writer's transaction.

use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_proto::chain::{Hash, Header, Receipt, Seal};
use edgetrail_proto::identity::StreamId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::store::get_u64;
use super::take_up::{Evidence, Missing, Waiting, Why};
use super::{LedgerError, store};

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS anchors (  -- headers with another's receipt, or an own one of before a restore; kept for ever
  stream INTEGER NOT NULL,            -- streams.id
  k INTEGER NOT NULL,
  header BLOB NOT NULL,
  seal BLOB NOT NULL,
  receipt BLOB NOT NULL,
  PRIMARY KEY (stream, k)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS waiting (  -- evidence behind which the stream does not go on yet; the greatest shown
  stream INTEGER PRIMARY KEY,
  k INTEGER NOT NULL,
  header BLOB NOT NULL,
  seal BLOB NOT NULL,
  receipt BLOB NOT NULL,
  signer BLOB NOT NULL,
  since INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS missing (  -- below heads; shrinks as batches come late
  stream INTEGER NOT NULL,
  first_k INTEGER NOT NULL,
  last_k INTEGER NOT NULL,
  PRIMARY KEY (stream, first_k)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS losses (   -- every range as it was given up; reported once
  id INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,
  unknown BLOB NOT NULL DEFAULT X'',  -- id of a stream whose open never came; `stream` is then the one that names it
  first_k INTEGER NOT NULL,
  last_k INTEGER NOT NULL,
  records INTEGER,                    -- NULL: not known
  signer BLOB,                        -- whose receipt vouched; NULL: the agent never brought them
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  reported INTEGER NOT NULL DEFAULT 0,
  UNIQUE (stream, unknown, first_k, last_k)
) STRICT;
CREATE TABLE IF NOT EXISTS forgotten (
  signer BLOB PRIMARY KEY             -- SHA-256 of the receipt key
) STRICT, WITHOUT ROWID;
";

pub(super) fn put(connection: &Connection, stream: i64, evidence: &Evidence) -> Result<(), LedgerError> {
    let mut insert = connection
        .prepare_cached("INSERT OR IGNORE INTO anchors (stream, k, header, seal, receipt) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let Evidence { header, seal, receipt, .. } = evidence;
    insert.execute(params![stream, header.k.cast_signed(), header.encode(), seal.0, receipt.encode()])?;
    Ok(())
}

pub(super) fn at(connection: &Connection, stream: i64, k: u64) -> Result<Option<Evidence>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT header, seal, receipt FROM anchors WHERE stream = ?1 AND k = ?2")?;
    let found = select.query_row(params![stream, k.cast_signed()], |row| Ok(evidence(row, stream))).optional()?;
    found.transpose()
}

/// In the order of k.
pub(super) fn all(connection: &Connection, stream: i64) -> Result<Vec<Evidence>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT header, seal, receipt FROM anchors WHERE stream = ?1 ORDER BY k")?;
    let rows = select.query_map([stream], |row| Ok(evidence(row, stream)))?;
    rows.map(|row| row?).collect()
}

/// Notes that a stream waits; whether that is news.
pub(super) fn wait(connection: &Connection, stream: i64, evidence: &Evidence, now: u64) -> Result<bool, LedgerError> {
    let Evidence { header, seal, receipt, .. } = evidence;
    let mut insert = connection.prepare_cached(
        "INSERT INTO waiting (stream, k, header, seal, receipt, signer, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (stream) DO UPDATE SET k = excluded.k, header = excluded.header, seal = excluded.seal,
           receipt = excluded.receipt, signer = excluded.signer
         WHERE excluded.k > waiting.k",
    )?;
    let known = connection.prepare_cached("SELECT 1 FROM waiting WHERE stream = ?1")?.exists([stream])?;
    insert.execute(params![
        stream,
        header.k.cast_signed(),
        header.encode(),
        seal.0,
        receipt.encode(),
        receipt.key.0,
        now.cast_signed()
    ])?;
    Ok(!known)
}

/// The stream has come as far as `k`.
pub(super) fn stop_waiting(connection: &Connection, stream: i64, k: u64) -> Result<(), LedgerError> {
    connection.prepare_cached("DELETE FROM waiting WHERE stream = ?1 AND k <= ?2")?.execute(params![stream, k.cast_signed()])?;
    Ok(())
}

pub(super) fn waiting_for(connection: &Connection, signer: &Hash) -> Result<Vec<(i64, Evidence)>, LedgerError> {
    let mut select =
        connection.prepare_cached("SELECT header, seal, receipt, stream FROM waiting WHERE signer = ?1 ORDER BY stream")?;
    let rows = select.query_map([signer.0], |row| {
        let stream = row.get(3)?;
        Ok(evidence(row, stream).map(|evidence| (stream, evidence)))
    })?;
    rows.map(|row| row?).collect()
}

/// The same beside a running collector, for whoever has only the ledger's directory.
pub fn waiting_in(medium: &Medium, dir: &Path) -> Result<Vec<Waiting>, LedgerError> {
    waiting(&store::open_reader(medium, &dir.join("ledger.sqlite"))?)
}

/// Every stream that waits, in the order recorded.
pub(super) fn waiting(connection: &Connection) -> Result<Vec<Waiting>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT stream, k, signer FROM waiting ORDER BY stream")?;
    let rows: Vec<(i64, u64, Hash)> =
        select.query_map([], |row| Ok((row.get(0)?, get_u64(row, 1)?, Hash(row.get(2)?))))?.collect::<Result<_, _>>()?;
    let mut waiting = Vec::new();
    for (id, to, signer) in rows {
        let Some(row) = store::stream_at(connection, id)? else { continue };
        let from = row.state.head.k.map_or(0, |head| head.saturating_add(1));
        let (info, head) = (row.state.info, Box::new(row.state.head));
        waiting.push(Waiting { info, head, from, to, signer, is_new: false });
    }
    Ok(waiting)
}

/// Puts a range on record as missing, to be reported; gives the report's id.
pub(super) fn lose(connection: &Connection, stream: i64, missing: &Missing) -> Result<i64, LedgerError> {
    let (first, last) = (missing.from.cast_signed(), missing.to.cast_signed());
    connection
        .prepare_cached("INSERT OR REPLACE INTO missing (stream, first_k, last_k) VALUES (?1, ?2, ?3)")?
        .execute(params![stream, first, last])?;
    insert_loss(connection, stream, missing)
}

/// A range that lies beyond the head: its batches may still come in order, so nothing below the head is missing.
pub(super) fn insert_loss(connection: &Connection, stream: i64, missing: &Missing) -> Result<i64, LedgerError> {
    let signer = match &missing.why {
        Why::CollectorLost { signer } => Some(signer.0),
        Why::NotReceived { .. } => None,
    };
    let unknown: &[u8] = if missing.stream == missing.info.stream { &[] } else { missing.stream.as_bytes() };
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO losses (stream, first_k, last_k, records, signer, since, until, unknown)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.execute(params![
        stream,
        missing.from.cast_signed(),
        missing.to.cast_signed(),
        missing.records.map(u64::cast_signed),
        signer,
        missing.since.cast_signed(),
        missing.until.cast_signed(),
        unknown,
    ])?;
    let mut select =
        connection.prepare_cached("SELECT id FROM losses WHERE stream = ?1 AND first_k = ?2 AND last_k = ?3 AND unknown = ?4")?;
    Ok(select.query_row(params![stream, missing.from.cast_signed(), missing.to.cast_signed(), unknown], |row| row.get(0))?)
}

/// Whether a range that ends there was put on record before.
pub(super) fn is_lost_to(connection: &Connection, stream: i64, to: u64) -> Result<bool, LedgerError> {
    let mut select = connection.prepare_cached("SELECT 1 FROM losses WHERE stream = ?1 AND last_k = ?2 AND unknown = X''")?;
    Ok(select.exists(params![stream, to.cast_signed()])?)
}

/// Whether a stream whose open never came was put on record before.
pub(super) fn is_unknown_lost(connection: &Connection, stream: StreamId) -> Result<bool, LedgerError> {
    let mut select = connection.prepare_cached("SELECT 1 FROM losses WHERE unknown = ?1")?;
    Ok(select.exists([stream.as_bytes()])?)
}

/// Batch k is there now.
pub(super) fn found(connection: &Connection, stream: i64, k: u64) -> Result<(), LedgerError> {
    let mut select =
        connection.prepare_cached("SELECT first_k, last_k FROM missing WHERE stream = ?1 AND first_k <= ?2 AND last_k >= ?2")?;
    let range = select.query_row(params![stream, k.cast_signed()], |row| Ok((get_u64(row, 0)?, get_u64(row, 1)?))).optional()?;
    let Some((first, last)) = range else { return Ok(()) };
    connection
        .prepare_cached("DELETE FROM missing WHERE stream = ?1 AND first_k = ?2")?
        .execute(params![stream, first.cast_signed()])?;
    let mut insert = connection.prepare_cached("INSERT INTO missing (stream, first_k, last_k) VALUES (?1, ?2, ?3)")?;
    if first < k {
        insert.execute(params![stream, first.cast_signed(), k.saturating_sub(1).cast_signed()])?;
    }
    if k < last {
        insert.execute(params![stream, k.saturating_add(1).cast_signed(), last.cast_signed()])?;
    }
    Ok(())
}

/// What is missing below a stream's head, first and last of each range, in order.
pub(super) fn missing(connection: &Connection, stream: i64) -> Result<Vec<(u64, u64)>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT first_k, last_k FROM missing WHERE stream = ?1 ORDER BY first_k")?;
    let rows = select.query_map([stream], |row| Ok((get_u64(row, 0)?, get_u64(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

const LOSS_COLUMNS: &str = "id, stream, first_k, last_k, records, signer, since, until, unknown";

/// Losses that no gap reports yet, oldest first.
pub(super) fn unreported(connection: &Connection, limit: u32) -> Result<Vec<Missing>, LedgerError> {
    let sql = format!("SELECT {LOSS_COLUMNS} FROM losses WHERE reported = 0 ORDER BY id LIMIT ?1");
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map([limit], |row| {
        let signer = row.get::<_, Option<[u8; 32]>>(5)?.map(Hash);
        let unknown = row.get::<_, Vec<u8>>(8)?.try_into().ok().map(StreamId::from_bytes);
        let records = row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned);
        let stream: i64 = row.get(1)?;
        Ok((
            row.get(0)?,
            stream,
            get_u64(row, 2)?,
            get_u64(row, 3)?,
            records,
            signer,
            unknown,
            get_u64(row, 6)?,
            get_u64(row, 7)?,
        ))
    })?;
    let mut losses = Vec::new();
    for row in rows {
        let (id, stream, from, to, records, signer, unknown, since, until) = row?;
        let Some(row) = store::stream_at(connection, stream)? else { continue };
        let info = row.state.info;
        let why = signer.map_or(Why::NotReceived { named_by: info.stream }, |signer| Why::CollectorLost { signer });
        let stream = unknown.unwrap_or(info.stream);
        losses.push(Missing { id, stream, info, from, to, records, why, since, until });
    }
    Ok(losses)
}

pub(super) fn reported(connection: &Connection, id: i64) -> Result<(), LedgerError> {
    connection.prepare_cached("UPDATE losses SET reported = 1 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub(super) fn put_forgotten(connection: &Connection, signer: &Hash) -> Result<(), LedgerError> {
    connection.prepare_cached("INSERT OR IGNORE INTO forgotten (signer) VALUES (?1)")?.execute([signer.0])?;
    Ok(())
}

pub(super) fn is_forgotten(connection: &Connection, signer: &Hash) -> Result<bool, LedgerError> {
    Ok(connection.prepare_cached("SELECT 1 FROM forgotten WHERE signer = ?1")?.exists([signer.0])?)
}

fn evidence(row: &Row<'_>, stream: i64) -> Result<Evidence, LedgerError> {
    let damaged = || LedgerError::DamagedRow { what: "anchor", row: stream };
    let (header, seal, receipt): (Vec<u8>, [u8; 64], Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let header = Header::decode(&header).map_err(|_| damaged())?;
    let receipt = Receipt::decode(&receipt).map_err(|_| damaged())?;
    Evidence::new(header, Seal(seal), receipt).ok_or_else(damaged)
}
