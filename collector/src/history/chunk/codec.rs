//! A chunk's bytes: the dictionary and fixed-width rows of its facets, and the compression of both parts.
//!
//! Stored: a change of the layout is a new version of the file. All integers big-endian; a damaged file is an error,
//! never a panic, and never decodes to more than a bound.

use edgetrail_proto::identity::StreamId;
use uuid::Uuid;

use super::{CHUNK_BYTES_FULL, Position, Row};
use crate::history::HistoryError;

/// Most bytes that a part of a chunk may claim to decode to: full, one largest record beyond, and room for the facets'
/// numbers.
const PART_BYTES_MAX: usize = 4 * (CHUNK_BYTES_FULL + edgetrail_proto::limits::RECORD_BYTES_FOREIGN_MAX);
/// zstd level of both parts: the fastest, since history is derived and short-lived.
const ZSTD_LEVEL: i32 = 1;

pub(super) fn encode_facets(dictionary: &[Box<[u8]>], rows: &[Row]) -> Vec<u8> {
    let mut output = Vec::with_capacity(dictionary.len() * 32 + rows.len() * 96);
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    output.extend_from_slice(&length(dictionary.len()));
    for value in dictionary {
        output.extend_from_slice(&length(value.len()));
        output.extend_from_slice(value);
    }
    output.extend_from_slice(&length(rows.len()));
    for row in rows {
        output.extend_from_slice(&row.position.time.to_be_bytes());
        output.extend_from_slice(row.position.stream.as_bytes());
        output.extend_from_slice(&row.position.seq.to_be_bytes());
        output.push(u8::from(row.event_id.is_some()));
        output.extend_from_slice(row.event_id.unwrap_or_default().as_bytes());
        output.push(match row.read_only {
            None => 0,
            Some(false) => 1,
            Some(true) => 2,
        });
        for number in [row.agent, row.account, row.region, row.source, row.name, optional(row.user), optional(row.access_key)] {
            output.extend_from_slice(&number.to_be_bytes());
        }
        output.extend_from_slice(&length(row.resources.len()));
        for (kind, name) in &row.resources {
            output.extend_from_slice(&kind.to_be_bytes());
            output.extend_from_slice(&name.to_be_bytes());
        }
    }
    output
}

/// No number is `u32::MAX`: a chunk has fewer values by far.
fn optional(number: Option<u32>) -> u32 {
    number.unwrap_or(u32::MAX)
}

/// Reads what `encode_facets` wrote; a damaged file is an error, never a panic.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, length: u32) -> Result<&'a [u8], HistoryError> {
        let length = usize::try_from(length).map_err(|_| HistoryError::Damaged)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(HistoryError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HistoryError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(HistoryError::Damaged)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, HistoryError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, HistoryError> {
        self.array().map(u64::from_be_bytes)
    }

    fn optional(&mut self) -> Result<Option<u32>, HistoryError> {
        self.u32().map(|number| (number != u32::MAX).then_some(number))
    }

    pub(super) fn row(&mut self) -> Result<Row, HistoryError> {
        let time = self.u64()?;
        let stream = StreamId::from_bytes(self.array()?);
        let seq = self.u64()?;
        let [has_id] = self.array()?;
        let id = Uuid::from_bytes(self.array()?);
        let [read_only] = self.array()?;
        Ok(Row {
            position: Position { time, stream, seq },
            event_id: (has_id == 1).then_some(id),
            read_only: match read_only {
                1 => Some(false),
                2 => Some(true),
                _ => None,
            },
            agent: self.u32()?,
            account: self.u32()?,
            region: self.u32()?,
            source: self.u32()?,
            name: self.u32()?,
            user: self.optional()?,
            access_key: self.optional()?,
            resources: {
                let count = self.u32()?;
                let mut resources = Vec::new();
                for _ in 0..count {
                    resources.push((self.u32()?, self.u32()?));
                }
                resources
            },
        })
    }
}

pub(super) fn count(length: usize) -> Result<u32, HistoryError> {
    u32::try_from(length).map_err(|_| HistoryError::Damaged)
}

pub(super) fn compress(bytes: &[u8]) -> Result<Vec<u8>, HistoryError> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).map_err(HistoryError::Compression)
}

pub(super) fn decompress(bytes: &[u8], decoded_bytes: u32) -> Result<Vec<u8>, HistoryError> {
    let decoded_bytes =
        usize::try_from(decoded_bytes).ok().filter(|bytes| *bytes <= PART_BYTES_MAX).ok_or(HistoryError::Damaged)?;
    zstd::bulk::decompress(bytes, decoded_bytes).map_err(HistoryError::Compression)
}
