//! What is kept of a second branch: every batch and open that shows that two parties held one agent's state.
//!
//! Nothing of it is in the ledger proper: it is delivered nowhere and has no index. A branch lies under its stream and
//! the hash of its first header, whole as it came, up to a bound for each agent. docs/protocol.md §9.

use edgetrail_proto::chain::{Hash, Header, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::store::{self, get_u64};
use super::take_up::Evidence;
use super::{Encoding, Incoming, LedgerError, StreamInfo};

/// Most that is kept of one agent: a clone that races costs no more disk than this. What comes beyond is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceBound {
    pub batches: u64,
    /// Of bodies.
    pub bytes: u64,
    pub opens: u64,
}

impl Default for EvidenceBound {
    fn default() -> Self {
        Self { batches: 4096, bytes: 64 * 1024 * 1024, opens: 64 }
    }
}

/// What came beyond the bound. What was brought twice counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Beyond {
    pub(super) batches: u64,
    pub(super) opens: u64,
}

pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS evidence_batches (
  stream BLOB NOT NULL,
  branch BLOB NOT NULL,               -- H of the branch's first header
  k INTEGER NOT NULL,
  hash BLOB NOT NULL,
  agent BLOB NOT NULL,
  t_received INTEGER NOT NULL,
  header BLOB NOT NULL,
  seal BLOB NOT NULL,
  encoding INTEGER NOT NULL,
  body_bytes INTEGER NOT NULL,        -- decoded
  body BLOB,                          -- NULL: its records never came, a receipt names the header
  receipt BLOB,
  PRIMARY KEY (stream, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS evidence_batches_agent ON evidence_batches (agent);
CREATE TABLE IF NOT EXISTS evidence_opens (
  stream BLOB NOT NULL,
  hash BLOB NOT NULL,
  agent BLOB NOT NULL,
  t_received INTEGER NOT NULL,
  open BLOB NOT NULL,
  open_signature BLOB NOT NULL,
  certificate_chain BLOB NOT NULL,
  binding BLOB NOT NULL,
  PRIMARY KEY (stream, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence_beyond (  -- what came of an agent's forks when no more of it was kept
  agent BLOB PRIMARY KEY,
  batches INTEGER NOT NULL,
  opens INTEGER NOT NULL,
  last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A batch of a later branch.
#[derive(Clone, Debug)]
pub(super) struct KeptBatch {
    pub(super) stream: StreamId,
    /// H of the branch's first header.
    pub(super) branch: Hash,
    pub(super) t_received: u64,
    pub(super) header: Header,
    pub(super) seal: Seal,
    pub(super) encoding: Encoding,
    pub(super) body_bytes: usize,
    pub(super) body: Option<Vec<u8>>,
    pub(super) receipt: Option<Vec<u8>>,
}

/// An open of a later branch.
#[derive(Clone, Debug)]
pub(super) struct KeptOpen {
    pub(super) t_received: u64,
    pub(super) open: Vec<u8>,
    pub(super) open_signature: Vec<u8>,
    pub(super) certificate_chain: Vec<Vec<u8>>,
    pub(super) binding: Vec<u8>,
}

/// Keeps a batch of the later branch, or counts it where there is no room; the same one twice is once.
pub(super) fn keep_batch(
    connection: &Connection,
    agent: AgentId,
    incoming: &Incoming,
    now: u64,
    most: EvidenceBound,
) -> Result<(), LedgerError> {
    let header = &incoming.header;
    let branch = branch_of(connection, header)?.unwrap_or(incoming.hash);
    if !has_room(connection, agent, incoming.body.len(), most)? {
        if holds(connection, header.stream, incoming.hash)? {
            return Ok(());
        }
        tracing::warn!(%agent, stream = %header.stream, k = header.k, "a later branch has more batches than are kept");
        return count_beyond(connection, agent, Beyond { batches: 1, opens: 0 }, now);
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO evidence_batches
           (stream, branch, k, hash, agent, t_received, header, seal, encoding, body_bytes, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    insert.execute(params![
        header.stream.as_bytes(),
        branch.0,
        header.k.cast_signed(),
        incoming.hash.0,
        agent.as_bytes(),
        now.cast_signed(),
        header.encode(),
        incoming.seal.0,
        incoming.encoding.to_wire(),
        incoming.body_bytes,
        incoming.body.as_ref(),
    ])?;
    Ok(())
}

/// Keeps a header of the later branch whose records nobody brought, with the receipt that vouches for it.
pub(super) fn keep_header(connection: &Connection, agent: AgentId, evidence: &Evidence, now: u64) -> Result<(), LedgerError> {
    let header = &evidence.header;
    let branch = branch_of(connection, header)?.unwrap_or(evidence.hash);
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO evidence_batches
           (stream, branch, k, hash, agent, t_received, header, seal, encoding, body_bytes, receipt)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, ?10)",
    )?;
    insert.execute(params![
        header.stream.as_bytes(),
        branch.0,
        header.k.cast_signed(),
        evidence.hash.0,
        agent.as_bytes(),
        now.cast_signed(),
        header.encode(),
        evidence.seal.0,
        Encoding::Identity.to_wire(),
        evidence.receipt.encode(),
    ])?;
    Ok(())
}

/// Counts what is not kept.
pub(super) fn count_beyond(connection: &Connection, agent: AgentId, more: Beyond, now: u64) -> Result<(), LedgerError> {
    let mut count = connection.prepare_cached(
        "INSERT INTO evidence_beyond (agent, batches, opens, last) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (agent) DO UPDATE SET batches = batches + ?2, opens = opens + ?3, last = ?4",
    )?;
    count.execute(params![agent.as_bytes(), more.batches.cast_signed(), more.opens.cast_signed(), now.cast_signed()])?;
    Ok(())
}

/// What was counted.
pub(super) fn beyond(connection: &Connection, agent: AgentId) -> Result<Beyond, LedgerError> {
    let mut select = connection.prepare_cached("SELECT batches, opens FROM evidence_beyond WHERE agent = ?1")?;
    let found = select.query_row([agent.as_bytes()], |row| Ok(Beyond { batches: get_u64(row, 0)?, opens: get_u64(row, 1)? }));
    Ok(found.optional()?.unwrap_or_default())
}

/// Keeps an open that a second party made, or counts it.
pub(super) fn keep_open(connection: &Connection, info: &StreamInfo, now: u64, most: EvidenceBound) -> Result<(), LedgerError> {
    let kept: u64 = connection
        .prepare_cached("SELECT count(*) FROM evidence_opens WHERE agent = ?1")?
        .query_row([info.agent.as_bytes()], |row| get_u64(row, 0))?;
    if kept >= most.opens {
        let (stream, hash) = (info.stream.as_bytes(), info.open.hash().0);
        let known = connection
            .prepare_cached("SELECT 1 FROM evidence_opens WHERE stream = ?1 AND hash = ?2")?
            .exists(params![stream, hash])?;
        return if known { Ok(()) } else { count_beyond(connection, info.agent, Beyond { batches: 0, opens: 1 }, now) };
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO evidence_opens
           (stream, hash, agent, t_received, open, open_signature, certificate_chain, binding)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.execute(params![
        info.stream.as_bytes(),
        info.open.hash().0,
        info.agent.as_bytes(),
        now.cast_signed(),
        info.open_bytes.as_ref(),
        info.open_signature.as_ref(),
        store::frame_chain(&info.certificate_chain),
        info.binding.to_bytes(),
    ])?;
    Ok(())
}

/// What is kept of an agent's later branches, each branch in order.
pub(super) fn batches_of(connection: &Connection, agent: AgentId) -> Result<Vec<KeptBatch>, LedgerError> {
    let mut select = connection.prepare(
        "SELECT stream, branch, t_received, header, seal, encoding, body_bytes, body, receipt FROM evidence_batches
         WHERE agent = ?1 ORDER BY stream, branch, k",
    )?;
    let mut rows = select.query([agent.as_bytes()])?;
    let mut kept = Vec::new();
    while let Some(row) = rows.next()? {
        kept.push(read_batch(row)?);
    }
    Ok(kept)
}

fn read_batch(row: &Row<'_>) -> Result<KeptBatch, LedgerError> {
    let damaged = |what| LedgerError::DamagedRow { what, row: 0 };
    let header: Vec<u8> = row.get(3)?;
    Ok(KeptBatch {
        stream: StreamId::from_bytes(row.get(0)?),
        branch: Hash(row.get(1)?),
        t_received: get_u64(row, 2)?,
        header: Header::decode(&header).map_err(|_| damaged("kept header"))?,
        seal: Seal(row.get(4)?),
        encoding: Encoding::from_wire(row.get(5)?).ok_or_else(|| damaged("kept body's encoding"))?,
        body_bytes: row.get::<_, u32>(6)? as usize,
        body: row.get(7)?,
        receipt: row.get(8)?,
    })
}

/// What is kept of an agent's later branches, by stream, k and hash, each branch in order: bodies may be many.
pub(super) fn hashes_of(connection: &Connection, agent: AgentId) -> Result<Vec<(StreamId, u64, Hash)>, LedgerError> {
    let mut select =
        connection.prepare_cached("SELECT stream, k, hash FROM evidence_batches WHERE agent = ?1 ORDER BY stream, k, hash")?;
    let rows = select
        .query_map([agent.as_bytes()], |row| Ok((StreamId::from_bytes(row.get(0)?), get_u64(row, 1)?, Hash(row.get(2)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// One of them.
pub(super) fn batch(connection: &Connection, stream: StreamId, hash: Hash) -> Result<Option<KeptBatch>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT stream, branch, t_received, header, seal, encoding, body_bytes, body, receipt FROM evidence_batches
         WHERE stream = ?1 AND hash = ?2",
    )?;
    let mut rows = select.query(params![stream.as_bytes(), hash.0])?;
    rows.next()?.map(read_batch).transpose()
}

/// Whether a batch is kept.
pub(super) fn holds(connection: &Connection, stream: StreamId, hash: Hash) -> Result<bool, LedgerError> {
    let mut select = connection.prepare_cached("SELECT 1 FROM evidence_batches WHERE stream = ?1 AND hash = ?2")?;
    Ok(select.exists(params![stream.as_bytes(), hash.0])?)
}

pub(super) fn opens_of(connection: &Connection, agent: AgentId) -> Result<Vec<KeptOpen>, LedgerError> {
    let mut select = connection.prepare(
        "SELECT t_received, open, open_signature, certificate_chain, binding FROM evidence_opens
         WHERE agent = ?1 ORDER BY t_received",
    )?;
    let mut rows = select.query([agent.as_bytes()])?;
    let mut kept = Vec::new();
    while let Some(row) = rows.next()? {
        let chain: Vec<u8> = row.get(3)?;
        let chain = store::unframe_chain(chain.into()).ok_or(LedgerError::DamagedRow { what: "kept certificates", row: 0 })?;
        kept.push(KeptOpen {
            t_received: get_u64(row, 0)?,
            open: row.get(1)?,
            open_signature: row.get(2)?,
            certificate_chain: chain.iter().map(|der| der.to_vec()).collect(),
            binding: row.get(4)?,
        });
    }
    Ok(kept)
}

/// Agents of which something is kept.
pub(super) fn agents(connection: &Connection) -> Result<Vec<AgentId>, LedgerError> {
    let mut select = connection.prepare("SELECT agent FROM evidence_batches UNION SELECT agent FROM evidence_opens")?;
    let agents = select.query_map([], |row| Ok(AgentId::from_bytes(row.get(0)?)))?;
    Ok(agents.collect::<Result<_, _>>()?)
}

/// The branch that a header goes on with.
fn branch_of(connection: &Connection, header: &Header) -> Result<Option<Hash>, LedgerError> {
    let mut select = connection.prepare_cached("SELECT branch FROM evidence_batches WHERE stream = ?1 AND hash = ?2")?;
    let branch = select.query_row(params![header.stream.as_bytes(), header.previous.0], |row| Ok(Hash(row.get(0)?)));
    Ok(branch.optional()?)
}

fn has_room(connection: &Connection, agent: AgentId, bytes: usize, most: EvidenceBound) -> Result<bool, LedgerError> {
    let mut select =
        connection.prepare_cached("SELECT count(*), ifnull(sum(length(body)), 0) FROM evidence_batches WHERE agent = ?1")?;
    let (batches, kept) = select.query_row([agent.as_bytes()], |row| Ok((get_u64(row, 0)?, get_u64(row, 1)?)))?;
    Ok(batches < most.batches && kept.saturating_add(bytes as u64) <= most.bytes)
}
