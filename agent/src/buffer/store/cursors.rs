//! `cursor` rows: where each source goes on. One whose sum does not hold is as one that is not there, and is reported: a
//! source never goes on from a place that it did not reach.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params};

use super::columns::{Bytes, is_unfit};
use super::{StoreError, Sum};

/// A source's cursors by key.
pub(in crate::buffer) fn cursors(db: &Connection, source: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT source, key, value, sum FROM cursor WHERE source = ?1 ORDER BY key")?;
    let rows = statement.query_map([source], cursor_row)?;
    let whole = rows.filter_map(|row| row.map(|cursor| cursor.map(|(_, key, value)| (key, value))).transpose());
    Ok(whole.collect::<Result<_, _>>()?)
}

pub(in crate::buffer) fn put_cursor(db: &Connection, source: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached(
        "INSERT INTO cursor VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET value = excluded.value, sum = excluded.sum",
    )?
    .execute(params![source, key, value, Bytes(sum(source, key, value))])?;
    Ok(())
}

/// Source and key, as they stand there, of those whose sum does not hold.
pub(in crate::buffer) fn damaged_cursors(db: &Connection) -> Result<Vec<(Value, Value)>, StoreError> {
    let mut statement = db.prepare("SELECT source, key, value, sum FROM cursor")?;
    let rows = statement.query_map([], |row| {
        let damaged = cursor_row(row)?.is_none();
        Ok(if damaged { Some((row.get(0)?, row.get(1)?)) } else { None })
    })?;
    Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

pub(in crate::buffer) fn drop_cursor(db: &Connection, (source, key): &(Value, Value)) -> Result<(), StoreError> {
    db.execute("DELETE FROM cursor WHERE source = ?1 AND key = ?2", params![source, key])?;
    Ok(())
}

/// Gives each row of a schema that had none its sum.
pub(super) fn sum_cursors(db: &Connection) -> Result<(), StoreError> {
    let mut statement = db.prepare("SELECT source, key, value FROM cursor")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows = rows.collect::<Result<Vec<(String, String, Vec<u8>)>, _>>()?;
    rows.iter().try_for_each(|(source, key, value)| put_cursor(db, source, key, value))
}

/// `None` where it is not what was written.
fn cursor_row(row: &Row<'_>) -> rusqlite::Result<Option<(String, String, Vec<u8>)>> {
    let read = || -> rusqlite::Result<_> {
        let (source, key, value): (String, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let holds = row.get::<_, Bytes<16>>(3)?.0 == sum(&source, &key, &value);
        Ok(holds.then_some((source, key, value)))
    };
    match read() {
        Err(error) if is_unfit(&error) => Ok(None),
        read => read,
    }
}

fn sum(source: &str, key: &str, value: &[u8]) -> Sum {
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    let pieces = [&length(source), source.as_bytes(), &length(key), key.as_bytes(), value];
    super::sum(b"edgetrail/cursor/v1\n", &pieces)
}
