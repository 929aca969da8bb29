//! What a relay reads of its ledger to bring it on: bodies as they were received, by stream and batch.

use std::path::Path;

use bytes::Bytes;
use edgetrail_disk::Medium;
use edgetrail_proto::chain::{Hash, Header, Receipt, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};
use rusqlite::{Connection, OptionalExtension, params};

use super::forks::{self, KeptBatch, KeptOpen};
use super::store::{BatchRow, get_u64};
use super::{Committed, Encoding, Evidence, Ledger, LedgerError, anchors, segments, store};

/// A batch as it was received.
#[derive(Clone, Debug)]
pub struct HeldBatch {
    pub header: Header,
    pub seal: Seal,
    pub encoding: Encoding,
    pub body: Bytes,
    /// Length of the decoded body, in bytes.
    pub body_bytes: u32,
}

/// Something of a fork that this ledger keeps beside what it has committed.
#[derive(Clone, Debug)]
pub enum HeldBranch {
    Batch(Box<HeldBatch>),
    /// A header whose records never came, with the receipt that vouches for it.
    Header(Box<Evidence>),
}

/// An open as it was received.
#[derive(Clone, Debug)]
pub struct HeldOpen {
    pub open: Vec<u8>,
    pub open_signature: Vec<u8>,
    pub certificate_chain: Vec<Vec<u8>>,
    pub binding: Vec<u8>,
}

impl Ledger {
    /// The opens that are kept of an agent's later branches.
    pub fn branch_opens(&self, agent: AgentId) -> Result<Vec<HeldOpen>, LedgerError> {
        let opens = forks::opens_of(&self.shared.reader(), agent)?;
        let held = |KeptOpen { open, open_signature, certificate_chain, binding, .. }: KeptOpen| HeldOpen {
            open,
            open_signature,
            certificate_chain,
            binding,
        };
        Ok(opens.into_iter().map(held).collect())
    }

    /// The batches that are kept of an agent's later branches: stream, k and hash.
    pub fn branch_hashes(&self, agent: AgentId) -> Result<Vec<(StreamId, u64, Hash)>, LedgerError> {
        forks::hashes_of(&self.shared.reader(), agent)
    }

    /// One of them.
    pub fn branch(&self, stream: StreamId, hash: Hash) -> Result<Option<HeldBranch>, LedgerError> {
        let Some(kept) = forks::batch(&self.shared.reader(), stream, hash)? else { return Ok(None) };
        let KeptBatch { header, seal, encoding, body_bytes, body, receipt, .. } = kept;
        if let Some(body) = body {
            let (body, body_bytes) = (body.into(), u32::try_from(body_bytes).unwrap_or(u32::MAX));
            return Ok(Some(HeldBranch::Batch(Box::new(HeldBatch { header, seal, encoding, body, body_bytes }))));
        }
        let receipt = receipt.and_then(|receipt| Receipt::decode(&receipt).ok());
        let evidence = receipt.and_then(|receipt| Evidence::new(header, seal, receipt));
        Ok(evidence.map(|evidence| HeldBranch::Header(Box::new(evidence))))
    }

    /// Whether a batch is kept as evidence of a fork.
    pub fn keeps(&self, stream: StreamId, hash: Hash) -> Result<bool, LedgerError> {
        forks::holds(&self.shared.reader(), stream, hash)
    }

    /// Whether an open of an agent's forks came beyond what is kept, and was only counted.
    pub fn has_opens_beyond(&self, agent: AgentId) -> Result<bool, LedgerError> {
        Ok(forks::beyond(&self.shared.reader(), agent)?.opens > 0)
    }

    /// Batch k with its body; `None` where the ledger never had it, or has released it.
    pub fn held(&self, stream: StreamId, k: u64) -> Result<Option<HeldBatch>, LedgerError> {
        let Some(row) = self.row(stream, k)? else { return Ok(None) };
        let BatchRow { index, header, seal, encoding, position, .. } = row;
        match segments::read_body(&self.shared.medium, &self.shared.segments_dir, index, position) {
            Ok(body) => {
                let body_bytes = u32::try_from(row.body_bytes).unwrap_or(u32::MAX);
                Ok(Some(HeldBatch { header, seal, encoding, body, body_bytes }))
            }
            Err(LedgerError::Released { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first batch behind `after`, or from 0 on, whose body is still here.
    pub fn next_held(&self, stream: StreamId, after: Option<u64>) -> Result<Option<u64>, LedgerError> {
        let reader = self.shared.reader();
        store::stream(&reader, stream)?.map_or(Ok(None), |row| next_held(&reader, row.id, after))
    }

    /// H_k of the batches from `from` on, in order, at most `limit`: also of those whose bodies are released.
    pub fn hashes(&self, stream: StreamId, from: u64, limit: u32) -> Result<Vec<(u64, Hash)>, LedgerError> {
        let reader = self.shared.reader();
        store::stream(&reader, stream)?.map_or(Ok(Vec::new()), |row| hashes(&reader, row.id, from, limit))
    }

    /// Header, seal and place of batch k, whether its body is here or not.
    pub fn header(&self, stream: StreamId, k: u64) -> Result<Option<(Header, Seal, Committed)>, LedgerError> {
        Ok(self.row(stream, k)?.map(|row| {
            let committed = Committed { stream, k, hash: row.hash, index: row.index, t_received: row.t_received };
            (row.header, row.seal, committed)
        }))
    }

    /// The evidence for batch k on which the stream was taken up.
    pub fn anchor(&self, stream: StreamId, k: u64) -> Result<Option<Evidence>, LedgerError> {
        let reader = self.shared.reader();
        store::stream(&reader, stream)?.map_or(Ok(None), |row| anchors::at(&reader, row.id, k))
    }

    fn row(&self, stream: StreamId, k: u64) -> Result<Option<BatchRow>, LedgerError> {
        let Some(committed) = self.committed(stream, k)? else { return Ok(None) };
        let row = store::batches(&self.shared.reader(), committed.index, 1)?.pop();
        Ok(row.filter(|row| row.index == committed.index))
    }
}

/// A relay's copies, read beside the running relay.
#[derive(Debug)]
pub struct HeldStreams(Connection);

impl HeldStreams {
    /// Reads the ledger in `dir`.
    pub fn open(medium: &Medium, dir: &Path) -> Result<Self, LedgerError> {
        Ok(Self(store::open_reader(medium, &dir.join("ledger.sqlite"))?))
    }

    pub fn streams(&self) -> Result<Vec<(AgentId, StreamId)>, LedgerError> {
        Ok(store::streams(&self.0)?.into_iter().map(|row| (row.state.info.agent, row.state.info.stream)).collect())
    }

    /// Whether a batch from the first to the last is here with its body.
    pub fn holds(&self, stream: StreamId, hash: Hash, first: u64, last: u64) -> Result<bool, LedgerError> {
        let mut select = self.0.prepare_cached(
            "SELECT 1 FROM batches b JOIN segments s ON s.segment = b.segment
             WHERE b.stream = (SELECT id FROM streams WHERE stream = ?1) AND b.k BETWEEN ?2 AND ?3 AND b.hash = ?4",
        )?;
        Ok(select.exists(params![stream.as_bytes(), first.cast_signed(), last.cast_signed(), hash.0])?)
    }

    /// How many batches from the first to the last are here with their bodies.
    pub fn count(&self, stream: StreamId, first: u64, last: u64) -> Result<u64, LedgerError> {
        let mut select = self.0.prepare_cached(
            "SELECT count(*) FROM batches b JOIN segments s ON s.segment = b.segment
             WHERE b.stream = (SELECT id FROM streams WHERE stream = ?1) AND b.k BETWEEN ?2 AND ?3",
        )?;
        Ok(select.query_row(params![stream.as_bytes(), first.cast_signed(), last.cast_signed()], |row| get_u64(row, 0))?)
    }
}

fn next_held(connection: &Connection, stream: i64, after: Option<u64>) -> Result<Option<u64>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT b.k FROM batches b JOIN segments s ON s.segment = b.segment
         WHERE b.stream = ?1 AND b.k > ?2 ORDER BY b.k LIMIT 1",
    )?;
    // No k reaches 2^63: one batch a nanosecond would take three centuries.
    let after = after.map_or(-1, u64::cast_signed);
    Ok(select.query_row(params![stream, after], |row| get_u64(row, 0)).optional()?)
}

fn hashes(connection: &Connection, stream: i64, from: u64, limit: u32) -> Result<Vec<(u64, Hash)>, LedgerError> {
    let mut select =
        connection.prepare_cached("SELECT k, hash FROM batches WHERE stream = ?1 AND k >= ?2 ORDER BY k LIMIT ?3")?;
    let rows = select.query_map(params![stream, from.cast_signed(), limit], |row| Ok((get_u64(row, 0)?, Hash(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
