//! What consumers read: recent entries from memory, older ones from their segments.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use edgetrail_link::body;
use edgetrail_proto::chain::{Hash, Header, Seal};
use edgetrail_proto::merkle::leaf_hash;

use super::store::BatchRow;
use super::{Entry, EntryRecord, Ledger, LedgerError, StreamInfo, segments, store};

/// Rows read at once. Source: about 600 bytes each, so 150 KiB.
const ROWS_MAX: u32 = 256;

/// A batch without its records: what stays for ever.
#[derive(Debug)]
pub struct IndexEntry {
    pub index: u64,
    pub t_received: u64,
    pub stream: Arc<StreamInfo>,
    pub header: Header,
    pub hash: Hash,
    pub seal: Seal,
}

impl Ledger {
    /// The entries from `from` on, in order, until `bytes_max` of record bytes is passed; at least one if there is one.
    ///
    /// Blocks on disk when `from` lies before what memory holds.
    pub fn read(&self, from: u64, bytes_max: usize) -> Result<Vec<Arc<Entry>>, LedgerError> {
        // Bound by what was published: a row may be committed and not be in the tail for a moment.
        let next_index = self.next_index();
        if from >= next_index {
            return Ok(Vec::new());
        }
        let tail = self.shared.tail.lock().unwrap_or_else(PoisonError::into_inner).read(from, bytes_max);
        if let Some(entries) = tail {
            return Ok(entries);
        }
        let rows = store::batches(&self.shared.reader(), from, ROWS_MAX)?;
        let mut bytes = 0;
        let mut entries = Vec::new();
        for row in rows.into_iter().take_while(|row| row.index < next_index) {
            if !entries.is_empty() && bytes >= bytes_max {
                break;
            }
            let entry = self.entry(row)?;
            bytes += entry.record_bytes();
            entries.push(Arc::new(entry));
        }
        Ok(entries)
    }

    /// Headers and seals of [from, to), at most `rows_max`: also of batches whose bodies are released.
    pub fn index(&self, from: u64, to: u64, rows_max: u32) -> Result<Vec<IndexEntry>, LedgerError> {
        let rows = store::batches(&self.shared.reader(), from, rows_max)?;
        let rows = rows.into_iter().take_while(|row| row.index < to);
        rows.map(|row| {
            let stream = self.info(&row)?;
            let BatchRow { index, t_received, header, hash, seal, .. } = row;
            Ok(IndexEntry { index, t_received, stream, header, hash, seal })
        })
        .collect()
    }

    /// Reads a body again and judges its records as ingest did.
    fn entry(&self, row: BatchRow) -> Result<Entry, LedgerError> {
        let body = segments::read_body(&self.shared.medium, &self.shared.segments_dir, row.index, row.position)?;
        let stream = self.info(&row)?;
        let records = records(&row, &body).ok_or(LedgerError::DamagedRow { what: "body", row: row.index.cast_signed() })?;
        Ok(Entry {
            index: row.index,
            t_received: row.t_received,
            records: records
                .into_iter()
                .map(|bytes| {
                    let leaf = leaf_hash(&bytes);
                    EntryRecord::judge(bytes, leaf, &stream.binding)
                })
                .collect(),
            stream,
            header: row.header,
            hash: row.hash,
            seal: row.seal,
        })
    }

    fn info(&self, row: &BatchRow) -> Result<Arc<StreamInfo>, LedgerError> {
        let held = self.shared.infos.lock().unwrap_or_else(PoisonError::into_inner).get(&row.stream).cloned();
        match held {
            Some(info) => Ok(info),
            None => match self.stream(row.stream)? {
                Some(state) => Ok(state.info),
                None => Err(LedgerError::DamagedRow { what: "stream", row: row.index.cast_signed() }),
            },
        }
    }
}

fn records(row: &BatchRow, encoded: &[u8]) -> Option<Vec<Bytes>> {
    let decoded = body::Decoder::new().ok()?.decode(row.encoding, encoded, row.body_bytes).ok()?;
    let decoded = Bytes::from(decoded);
    body::unframe(&decoded).map(|record| record.ok().map(|record| decoded.slice_ref(record))).collect()
}
