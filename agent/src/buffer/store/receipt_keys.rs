//! `receipt_key` rows: the CA's statements on the keys that have signed the receipts kept here.
//!
//! A collector that went back to an older copy of itself may know of such a key no more, and believes the statement.

use edgetrail_link::receipt_keys::{RECEIPT_KEYS_MAX, ReceiptKey};
use edgetrail_proto::chain::PublicKey;
use rusqlite::{Connection, params};

use super::StoreError;
use super::columns::{Bytes, Unsigned};

/// The same key twice is one: what was stated first stays.
pub(in crate::buffer) fn put_receipt_key(db: &Connection, key: &ReceiptKey) -> Result<(), StoreError> {
    db.prepare_cached("INSERT OR IGNORE INTO receipt_key VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        Bytes(key.public_key.0),
        Unsigned(key.not_before),
        Unsigned(key.not_after),
        key.ca_signature
    ])?;
    Ok(())
}

pub(in crate::buffer) fn receipt_keys(db: &Connection) -> Result<Vec<ReceiptKey>, StoreError> {
    let mut statement = db.prepare_cached("SELECT public_key, not_before, not_after, signature FROM receipt_key LIMIT ?1")?;
    let rows = statement.query_map([i64::try_from(RECEIPT_KEYS_MAX).unwrap_or(i64::MAX)], |row| {
        Ok(ReceiptKey {
            public_key: PublicKey(row.get::<_, Bytes<32>>(0)?.0),
            not_before: row.get::<_, Unsigned>(1)?.0,
            not_after: row.get::<_, Unsigned>(2)?.0,
            ca_signature: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
