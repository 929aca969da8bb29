//! Receipts of other collectors that headers name: kept for ever, since proofs of these headers show them.

use edgetrail_proto::chain::{Hash, Receipt};
use rusqlite::{Connection, OptionalExtension, params};

use super::LedgerError;

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS named_receipts (
  message BLOB PRIMARY KEY,           -- SHA-256 of the receipt's message, as a header names it
  receipt BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";

pub(super) fn put(connection: &Connection, receipt: &Receipt) -> Result<(), LedgerError> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO named_receipts (message, receipt) VALUES (?1, ?2)")?;
    insert.execute(params![receipt.message_hash().0, receipt.encode()])?;
    Ok(())
}

pub(super) fn get(connection: &Connection, message: &Hash) -> Result<Option<Receipt>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT receipt FROM named_receipts WHERE message = ?1")?;
    let found: Option<Vec<u8>> = select.query_row([message.0], |row| row.get(0)).optional()?;
    // One that can't be read any more is one that is not known: a verifier says so.
    Ok(found.and_then(|receipt| Receipt::decode(&receipt).ok()))
}
