//! How values lie in columns. What does not fit its type is damage, not a panic.

use edgetrail_proto::chain::{Counters, Header};
use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};

use crate::buffer::tally;

/// A blob of exactly N bytes.
pub(super) struct Bytes<const N: usize>(pub(super) [u8; N]);

/// k, seq, times: far below 2^63, which is where SQLite's integers end.
pub(super) struct Unsigned(pub(super) u64);

pub(super) struct Tally(pub(super) Counters);

pub(super) struct HeaderBytes(pub(super) Header);

impl<const N: usize> FromSql for Bytes<N> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let blob = value.as_blob()?;
        blob.try_into().map(Self).map_err(|_| FromSqlError::InvalidBlobSize { expected_size: N, blob_size: blob.len() })
    }
}

impl<const N: usize> ToSql for Bytes<N> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for Unsigned {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = value.as_i64()?;
        u64::try_from(value).map(Self).map_err(|_| FromSqlError::OutOfRange(value))
    }
}

impl ToSql for Unsigned {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        i64::try_from(self.0).map(ToSqlOutput::from).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    }
}

impl FromSql for Tally {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let blob = value.as_blob()?;
        tally::decode(blob).map(Self).ok_or(FromSqlError::InvalidBlobSize { expected_size: 40, blob_size: blob.len() })
    }
}

impl FromSql for HeaderBytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Header::decode(value.as_blob()?).map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// Whether a value is not of its column's type: the row is damaged, not the disk.
pub(super) fn is_unfit(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

pub(super) fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
}
