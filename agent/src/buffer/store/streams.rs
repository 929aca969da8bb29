//! `stream` rows: opens, heads, receipts. One for each stream since the agent joined; never removed.

use edgetrail_link::body::{frame, unframe};
use edgetrail_link::outbox::Opening;
use edgetrail_proto::chain::{Header, Open, Receipt, Seal};
use edgetrail_proto::identity::StreamId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::StoreError;
use super::columns::{Bytes, HeaderBytes, Unsigned, unreadable};

/// One row of `stream`.
#[derive(Clone, Debug)]
pub(in crate::buffer) struct StreamRow {
    pub(in crate::buffer) ordinal: i64,
    pub(in crate::buffer) open: Open,
    pub(in crate::buffer) opening: Opening,
    pub(in crate::buffer) head: Option<(Header, Seal)>,
    pub(in crate::buffer) receipted: Option<(Header, Seal, Receipt)>,
    pub(in crate::buffer) damaged: Option<u64>,
}

const STREAM_COLUMNS: &str =
    "ordinal, open, binding, signature, certificates, header, seal, receipted_header, receipted_seal, receipt, damaged";

/// Where t_opened lies in an open and t_sealed in a header, from 1: docs/protocol.md §3.2, §3.3.
const T_OPENED: usize = 140;
const T_SEALED: usize = 169;

/// The newest `limit` streams, oldest first.
pub(in crate::buffer) fn streams(db: &Connection, limit: usize) -> Result<Vec<StreamRow>, StoreError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream ORDER BY ordinal DESC LIMIT ?1");
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], stream_row)?;
    let mut streams = rows.collect::<Result<Vec<_>, _>>()?;
    streams.reverse();
    Ok(streams)
}

pub(in crate::buffer) fn stream(db: &Connection, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream WHERE id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([Bytes(*id.as_bytes())], stream_row).optional()?)
}

pub(in crate::buffer) fn stream_at(db: &Connection, ordinal: i64) -> Result<Option<StreamRow>, StoreError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream WHERE ordinal = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([ordinal], stream_row).optional()?)
}

/// The latest time before `until` that an open or a header says, Unix nanoseconds: of all streams, whatever their order.
/// The clock may have been set back within a stream, so the head's is not always the latest of its batches'.
pub(in crate::buffer) fn latest_time(db: &Connection, until: u64) -> Result<u64, StoreError> {
    // Big-endian at a fixed place: compared as bytes.
    let sql = format!(
        "SELECT max(t) FROM (SELECT substr(open, {T_OPENED}, 8) AS t FROM stream
           UNION ALL SELECT substr(header, {T_SEALED}, 8) FROM stream
           UNION ALL SELECT substr(receipted_header, {T_SEALED}, 8) FROM stream
           UNION ALL SELECT substr(header, {T_SEALED}, 8) FROM batch) WHERE t < ?1"
    );
    let latest: Option<Bytes<8>> = db.query_row(&sql, [Bytes(until.to_be_bytes())], |row| row.get(0))?;
    Ok(latest.map_or(0, |time| u64::from_be_bytes(time.0)))
}

/// Records an open; gives the stream's ordinal.
pub(in crate::buffer) fn insert_stream(db: &Connection, id: StreamId, opening: &Opening) -> Result<i64, StoreError> {
    let mut certificates = Vec::new();
    opening.certificate_chain.iter().for_each(|der| frame(&mut certificates, der));
    db.prepare_cached("INSERT INTO stream (id, open, binding, signature, certificates) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![Bytes(*id.as_bytes()), opening.open, opening.binding, opening.signature, certificates])?;
    Ok(db.last_insert_rowid())
}

/// Records a stream whole, under its own ordinal.
pub(in crate::buffer) fn put_stream(db: &Connection, row: &StreamRow) -> Result<(), StoreError> {
    insert_stream(db, row.open.stream, &row.opening)?;
    let receipted = row.receipted.as_ref();
    db.execute(
        "UPDATE stream SET ordinal = ?2, header = ?3, seal = ?4, receipted_header = ?5, receipted_seal = ?6, receipt = ?7,
           damaged = ?8 WHERE id = ?1",
        params![
            Bytes(*row.open.stream.as_bytes()),
            row.ordinal,
            row.head.as_ref().map(|(header, _)| header.encode().to_vec()),
            row.head.as_ref().map(|(_, seal)| Bytes(seal.0)),
            receipted.map(|(header, ..)| header.encode().to_vec()),
            receipted.map(|(_, seal, _)| Bytes(seal.0)),
            receipted.map(|(.., receipt)| receipt.encode().to_vec()),
            row.damaged.map(Unsigned),
        ],
    )?;
    Ok(())
}

pub(in crate::buffer) fn put_head(db: &Connection, ordinal: i64, header: &Header, seal: &Seal) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE stream SET header = ?2, seal = ?3 WHERE ordinal = ?1")?.execute(params![
        ordinal,
        header.encode().as_slice(),
        Bytes(seal.0)
    ])?;
    Ok(())
}

pub(in crate::buffer) fn put_damaged(db: &Connection, ordinal: i64, k: Option<u64>) -> Result<(), StoreError> {
    db.execute("UPDATE stream SET damaged = ?2 WHERE ordinal = ?1", params![ordinal, k.map(Unsigned)])?;
    Ok(())
}

/// Stores a receipt with the header and seal that it covers.
pub(in crate::buffer) fn put_receipt(
    db: &Connection,
    ordinal: i64,
    header: &Header,
    seal: &Seal,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE stream SET receipted_header = ?2, receipted_seal = ?3, receipt = ?4 WHERE ordinal = ?1")?
        .execute(params![ordinal, header.encode().as_slice(), Bytes(seal.0), receipt.encode()])?;
    Ok(())
}

fn stream_row(row: &Row<'_>) -> rusqlite::Result<StreamRow> {
    let open: Vec<u8> = row.get(1)?;
    let header = |index| row.get::<_, Option<HeaderBytes>>(index).map(|header| header.map(|h| h.0));
    let seal = |index| row.get::<_, Option<Bytes<64>>>(index).map(|seal| seal.map(|s| Seal(s.0)));
    let receipt: Option<Vec<u8>> = row.get(9)?;
    let receipt = receipt.as_deref().map(Receipt::decode).transpose().map_err(|error| unreadable(9, error))?;
    Ok(StreamRow {
        ordinal: row.get(0)?,
        head: header(5)?.zip(seal(6)?),
        receipted: header(7)?.zip(seal(8)?).zip(receipt).map(|((header, seal), receipt)| (header, seal, receipt)),
        damaged: row.get::<_, Option<Unsigned>>(10)?.map(|k| k.0),
        opening: Opening {
            binding: row.get(2)?,
            signature: row.get(3)?,
            certificate_chain: unframe(row.get_ref(4)?.as_blob()?)
                .map(|der| der.map(<[u8]>::to_vec))
                .collect::<Result<_, _>>()
                .map_err(|error| unreadable(4, error))?,
            open: open.clone(),
        },
        open: Open::decode(&open).map_err(|error| unreadable(1, error))?,
    })
}
