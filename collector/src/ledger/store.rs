//! `ledger.sqlite`: streams with their heads, the batch index, segments.
//!
//! Only the ledger opens it. Functions here are single statements over a connection; what must happen together is the
//! writer's transaction. u64 values are stored as the i64 of the same bits.

use std::path::Path;

use bytes::Bytes;
use edgetrail_disk::Medium;
use edgetrail_disk::database::{self, Tuning};
use edgetrail_proto::chain::{Binding, Counters, Hash, Head, Header, Open, PublicKey, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::segments::Position;
use super::{Committed, Encoding, Incoming, LedgerError, StreamInfo, StreamState, anchors, forks, named};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS streams (
  id INTEGER PRIMARY KEY,             -- in the order recorded
  stream BLOB NOT NULL UNIQUE,
  agent BLOB NOT NULL,
  open BLOB NOT NULL,
  open_signature BLOB NOT NULL,
  certificate_chain BLOB NOT NULL,    -- each certificate behind its length, u32
  binding BLOB NOT NULL,
  internal INTEGER NOT NULL,
  -- the head
  k INTEGER,                          -- NULL before batch 0
  hash BLOB NOT NULL,
  next_key BLOB NOT NULL,
  next_seq INTEGER NOT NULL,
  counters BLOB NOT NULL,             -- observed, refused, own, lost_agent, lost_source
  closed INTEGER NOT NULL,
  -- what came after
  superseded_by BLOB,
  superseded_at INTEGER,              -- t_opened of that open
  bound INTEGER,                      -- NULL with superseded_by: not even batch 0
  frozen INTEGER NOT NULL DEFAULT 0   -- 0, or since when
) STRICT;
CREATE INDEX IF NOT EXISTS streams_agent ON streams (agent);
CREATE INDEX IF NOT EXISTS streams_frozen ON streams (agent, frozen) WHERE frozen > 0;
CREATE INDEX IF NOT EXISTS streams_current ON streams (agent) WHERE superseded_by IS NULL;
-- what the open's bytes say (docs/protocol.md §3.2): the stream that it names, and that its cause is 5
CREATE INDEX IF NOT EXISTS streams_naming ON streams (agent, substr(open, 83, 16));
CREATE INDEX IF NOT EXISTS streams_restored ON streams (agent) WHERE substr(open, 139, 1) = X'05';
CREATE TABLE IF NOT EXISTS batches (
  ledger_index INTEGER PRIMARY KEY,
  stream INTEGER NOT NULL,            -- streams.id
  k INTEGER NOT NULL,
  t_received INTEGER NOT NULL,
  hash BLOB NOT NULL,
  header BLOB NOT NULL,
  seal BLOB NOT NULL,
  encoding INTEGER NOT NULL,          -- the wire's number
  body_bytes INTEGER NOT NULL,        -- decoded
  segment INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  length INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS batches_stream ON batches (stream, k);
CREATE TABLE IF NOT EXISTS segments (
  segment INTEGER PRIMARY KEY,
  last_index INTEGER NOT NULL,
  last_received INTEGER NOT NULL
) STRICT;
";

const STREAM_COLUMNS: &str = "id, stream, agent, open, open_signature, certificate_chain, binding, internal,
  k, hash, next_key, next_seq, counters, closed, superseded_by, superseded_at, bound, frozen";

/// Streams that name the same one, of which so many are looked at.
const NAMING_MAX: u32 = 16;

/// A stream as its row says.
#[derive(Clone, Debug)]
pub(super) struct StreamRow {
    pub(super) id: i64,
    pub(super) state: StreamState,
    pub(super) superseded_at: Option<u64>,
}

/// A batch as its row says, without its body.
#[derive(Debug)]
pub(super) struct BatchRow {
    pub(super) index: u64,
    pub(super) t_received: u64,
    pub(super) stream: StreamId,
    pub(super) hash: Hash,
    pub(super) header: Header,
    pub(super) seal: Seal,
    pub(super) encoding: Encoding,
    pub(super) body_bytes: usize,
    pub(super) position: Position,
}

/// What the ledger goes on from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastCommit {
    pub(super) next_index: u64,
    pub(super) t_received: u64,
    pub(super) position: Option<Position>,
}

pub(super) fn open(medium: &Medium, path: &Path) -> Result<Connection, LedgerError> {
    let connection = database::open_writer(medium, path, &Tuning::default())?;
    connection.execute_batch(SCHEMA)?;
    connection.execute_batch(anchors::SCHEMA)?;
    connection.execute_batch(forks::SCHEMA)?;
    connection.execute_batch(named::SCHEMA)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A connection for what reads beside the writer.
pub(super) fn open_reader(medium: &Medium, path: &Path) -> Result<Connection, LedgerError> {
    let connection = database::open_reader(medium, path)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

pub(super) fn last_commit(connection: &Connection) -> Result<LastCommit, LedgerError> {
    let mut last = connection.prepare_cached(
        "SELECT ledger_index, t_received, segment, offset, length FROM batches ORDER BY ledger_index DESC LIMIT 1",
    )?;
    let last = last.query_row([], |row| {
        let position = Position { segment: row.get(2)?, offset: get_u64(row, 3)?, length: row.get(4)? };
        Ok(LastCommit { next_index: get_u64(row, 0)? + 1, t_received: get_u64(row, 1)?, position: Some(position) })
    });
    Ok(last.optional()?.unwrap_or_default())
}

pub(super) fn stream(connection: &Connection, stream: StreamId) -> Result<Option<StreamRow>, LedgerError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams WHERE stream = ?1");
    let row = connection.prepare_cached(&sql)?.query_row([stream.as_bytes()], |row| Ok(stream_row(row))).optional()?;
    row.transpose()
}

pub(super) fn stream_at(connection: &Connection, id: i64) -> Result<Option<StreamRow>, LedgerError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams WHERE id = ?1");
    let row = connection.prepare_cached(&sql)?.query_row([id], |row| Ok(stream_row(row))).optional()?;
    row.transpose()
}

/// All streams of an agent, in the order recorded.
pub(super) fn streams_of(connection: &Connection, agent: AgentId) -> Result<Vec<StreamRow>, LedgerError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams WHERE agent = ?1 ORDER BY id");
    collect_streams(&mut *connection.prepare_cached(&sql)?, params![agent.as_bytes()])
}

/// The one that nothing supersedes.
pub(super) fn latest(connection: &Connection, agent: AgentId) -> Result<Option<StreamRow>, LedgerError> {
    let sql = format!(
        "SELECT {STREAM_COLUMNS} FROM streams INDEXED BY streams_current
         WHERE agent = ?1 AND superseded_by IS NULL ORDER BY id DESC LIMIT 1"
    );
    let row = connection.prepare_cached(&sql)?.query_row([agent.as_bytes()], |row| Ok(stream_row(row))).optional()?;
    row.transpose()
}

/// Streams of cause 5 that are not frozen, the newest `limit`, newest first.
pub(super) fn restored(connection: &Connection, agent: AgentId, limit: usize) -> Result<Vec<StreamRow>, LedgerError> {
    let sql = format!(
        "SELECT {STREAM_COLUMNS} FROM streams INDEXED BY streams_restored
         WHERE agent = ?1 AND substr(open, 139, 1) = X'05' AND frozen = 0 ORDER BY id DESC LIMIT ?2"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    collect_streams(&mut *connection.prepare_cached(&sql)?, params![agent.as_bytes(), limit])
}

/// What bears on an open, in the order recorded: the agent's current stream, the one that the open names, those that name
/// either of the two (a few: a second successor is recorded only after a fork), and, of a frozen agent, one under the open's own
/// certificate. However many streams the agent has, these are few.
pub(super) fn streams_about(connection: &Connection, open: &Open) -> Result<Vec<StreamRow>, LedgerError> {
    let naming = |named| {
        format!(
            "SELECT id FROM (SELECT id FROM streams INDEXED BY streams_naming
               WHERE agent = ?1 AND substr(open, 83, 16) = {named} ORDER BY id LIMIT {NAMING_MAX})"
        )
    };
    let sql = format!(
        "SELECT {STREAM_COLUMNS} FROM streams WHERE stream <> ?2 AND id IN (
           SELECT id FROM streams INDEXED BY streams_current WHERE agent = ?1 AND superseded_by IS NULL
           UNION SELECT id FROM streams WHERE stream = ?3 AND agent = ?1
           UNION {}
           UNION {}
           UNION SELECT id FROM (SELECT id FROM streams WHERE agent = ?1 AND substr(open, 180, 32) = ?4 AND EXISTS (
             SELECT 1 FROM streams INDEXED BY streams_current WHERE agent = ?1 AND superseded_by IS NULL AND frozen > 0) LIMIT 1)
         ) ORDER BY id",
        naming("?2"),
        naming("?3"),
    );
    // Where the open names nobody: this id is nobody's.
    let named = open.predecessor.map_or([0xff; 16], |named| *named.stream.as_bytes());
    let params = params![open.agent.as_bytes(), open.stream.as_bytes(), named, open.certificate.0];
    collect_streams(&mut *connection.prepare_cached(&sql)?, params)
}

/// The collector's own streams, in the order recorded.
pub(super) fn internal_streams(connection: &Connection) -> Result<Vec<StreamRow>, LedgerError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams WHERE internal = 1 ORDER BY id");
    collect_streams(&mut *connection.prepare_cached(&sql)?, params![])
}

/// All streams, in the order recorded.
pub(super) fn streams(connection: &Connection) -> Result<Vec<StreamRow>, LedgerError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM streams ORDER BY id");
    collect_streams(&mut *connection.prepare_cached(&sql)?, params![])
}

pub(super) fn insert_stream(
    connection: &Connection,
    info: &StreamInfo,
    superseded: Option<(StreamId, u64, Option<u64>)>,
) -> Result<(), LedgerError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO streams (stream, agent, open, open_signature, certificate_chain, binding, internal,
           k, hash, next_key, next_seq, counters, closed, superseded_by, superseded_at, bound)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, ?8, ?9, 0, ?10, 0, ?11, ?12, ?13)",
    )?;
    let (by, at, bound) = superseded.map_or((None, None, None), |(by, at, bound)| (Some(by), Some(at), bound));
    insert.execute(params![
        info.stream.as_bytes(),
        info.agent.as_bytes(),
        info.open_bytes.as_ref(),
        info.open_signature.as_ref(),
        frame_chain(&info.certificate_chain),
        info.binding.to_bytes(),
        info.internal,
        info.open.hash().0,
        info.open.first_key.0,
        counters_bytes(&Counters::default()),
        by.map(|by| *by.as_bytes()),
        at.map(u64::cast_signed),
        bound.map(u64::cast_signed),
    ])?;
    Ok(())
}

pub(super) fn supersede(
    connection: &Connection,
    stream: StreamId,
    bound: Option<u64>,
    by: StreamId,
    at: u64,
) -> Result<(), LedgerError> {
    let mut update =
        connection.prepare_cached("UPDATE streams SET superseded_by = ?2, superseded_at = ?3, bound = ?4 WHERE stream = ?1")?;
    update.execute(params![stream.as_bytes(), by.as_bytes(), at.cast_signed(), bound.map(u64::cast_signed)])?;
    Ok(())
}

/// Compare-and-set: false when the head is no longer `before`.
pub(super) fn advance(connection: &Connection, id: i64, before: &Head, after: &Head) -> Result<bool, LedgerError> {
    let mut update = connection.prepare_cached(
        "UPDATE streams SET k = ?3, hash = ?4, next_key = ?5, next_seq = ?6, counters = ?7, closed = ?8,
           -- what is committed as tail moves the bound with it
           bound = CASE WHEN superseded_by IS NULL THEN NULL ELSE max(ifnull(bound, -1), ?3) END
         WHERE id = ?1 AND hash = ?2 AND frozen = 0",
    )?;
    let changed = update.execute(params![
        id,
        before.hash.0,
        after.k.map(u64::cast_signed),
        after.hash.0,
        after.next_key.0,
        after.next_seq.cast_signed(),
        counters_bytes(&after.counters),
        after.closed,
    ])?;
    Ok(changed == 1)
}

pub(super) fn insert_batch(
    connection: &Connection,
    id: i64,
    committed: &Committed,
    incoming: &Incoming,
    position: Position,
) -> Result<(), LedgerError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO batches (ledger_index, stream, k, t_received, hash, header, seal, encoding, body_bytes, segment, offset, length)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        committed.index.cast_signed(),
        id,
        committed.k.cast_signed(),
        committed.t_received.cast_signed(),
        committed.hash.0,
        incoming.header.encode(),
        incoming.seal.0,
        incoming.encoding.to_wire(),
        incoming.body_bytes,
        position.segment,
        position.offset.cast_signed(),
        position.length,
    ])?;
    let mut segment = connection.prepare_cached(
        "INSERT INTO segments (segment, last_index, last_received) VALUES (?1, ?2, ?3)
         ON CONFLICT (segment) DO UPDATE SET last_index = excluded.last_index, last_received = excluded.last_received",
    )?;
    segment.execute(params![position.segment, committed.index.cast_signed(), committed.t_received.cast_signed()])?;
    Ok(())
}

pub(super) fn committed(connection: &Connection, id: i64, stream: StreamId, k: u64) -> Result<Option<Committed>, LedgerError> {
    let mut select =
        connection.prepare_cached("SELECT ledger_index, t_received, hash FROM batches WHERE stream = ?1 AND k = ?2")?;
    let found = select.query_row(params![id, k.cast_signed()], |row| {
        Ok(Committed { stream, k, hash: Hash(row.get(2)?), index: get_u64(row, 0)?, t_received: get_u64(row, 1)? })
    });
    Ok(found.optional()?)
}

pub(super) fn freeze_agent(connection: &Connection, agent: AgentId, now: u64) -> Result<(), LedgerError> {
    connection
        .prepare_cached("UPDATE streams SET frozen = ?2 WHERE agent = ?1 AND frozen = 0")?
        .execute(params![agent.as_bytes(), now.max(1).cast_signed()])?;
    Ok(())
}

/// Agents that are frozen, with the time of their last fork; the newest `limit`.
pub(super) fn frozen(connection: &Connection, limit: u32) -> Result<Vec<(AgentId, u64)>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT agent, max(frozen) AS last FROM streams WHERE frozen > 0 GROUP BY agent ORDER BY last DESC LIMIT ?1",
    )?;
    let rows = select.query_map([limit], |row| Ok((AgentId::from_bytes(row.get(0)?), get_u64(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Rows from `from` on, at most `rows_max`.
pub(super) fn batches(connection: &Connection, from: u64, rows_max: u32) -> Result<Vec<BatchRow>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT b.ledger_index, b.t_received, s.stream, b.hash, b.header, b.seal, b.encoding, b.body_bytes, b.segment, b.offset, b.length
         FROM batches b JOIN streams s ON s.id = b.stream WHERE b.ledger_index >= ?1 ORDER BY b.ledger_index LIMIT ?2",
    )?;
    let mut rows = select.query(params![from.cast_signed(), rows_max])?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        let index = get_u64(row, 0)?;
        let damaged = |what| LedgerError::DamagedRow { what, row: index.cast_signed() };
        let header: Vec<u8> = row.get(4)?;
        out.push(BatchRow {
            index,
            t_received: get_u64(row, 1)?,
            stream: StreamId::from_bytes(row.get(2)?),
            hash: Hash(row.get(3)?),
            header: Header::decode(&header).map_err(|_| damaged("header"))?,
            seal: Seal(row.get(5)?),
            encoding: Encoding::from_wire(row.get(6)?).ok_or_else(|| damaged("encoding"))?,
            body_bytes: row.get::<_, u32>(7)? as usize,
            position: Position { segment: row.get(8)?, offset: get_u64(row, 9)?, length: row.get(10)? },
        });
    }
    Ok(out)
}

/// Segments whose last batch stands before `index` and was received before `received_before`; never the newest one.
pub(super) fn releasable(connection: &Connection, index: u64, received_before: u64) -> Result<Vec<u32>, LedgerError> {
    let mut select = connection.prepare_cached(
        "SELECT segment FROM segments WHERE last_index < ?1 AND last_received < ?2 AND segment < (SELECT max(segment) FROM segments)",
    )?;
    let rows = select.query_map(params![index.cast_signed(), received_before.cast_signed()], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn forget_segment(connection: &Connection, segment: u32) -> Result<(), LedgerError> {
    connection.prepare_cached("DELETE FROM segments WHERE segment = ?1")?.execute([segment])?;
    Ok(())
}

fn collect_streams(select: &mut rusqlite::Statement<'_>, params: impl rusqlite::Params) -> Result<Vec<StreamRow>, LedgerError> {
    let mut rows = select.query(params)?;
    let mut out = Vec::new();
    while let Some(row) = rows.next()? {
        out.push(stream_row(row)?);
    }
    Ok(out)
}

fn stream_row(row: &Row<'_>) -> Result<StreamRow, LedgerError> {
    let id: i64 = row.get(0)?;
    let damaged = |what| LedgerError::DamagedRow { what, row: id };
    let stream = StreamId::from_bytes(row.get(1)?);
    let open_bytes: Vec<u8> = row.get(3)?;
    let chain: Vec<u8> = row.get(5)?;
    let binding: Vec<u8> = row.get(6)?;
    let info = StreamInfo {
        stream,
        agent: AgentId::from_bytes(row.get(2)?),
        open: Open::decode(&open_bytes).map_err(|_| damaged("open"))?,
        open_bytes: open_bytes.into(),
        open_signature: row.get::<_, Vec<u8>>(4)?.into(),
        certificate_chain: unframe_chain(chain.into()).ok_or_else(|| damaged("certificate chain"))?,
        binding: Binding::parse(&binding).map_err(|_| damaged("binding"))?,
        internal: row.get(7)?,
    };
    let head = Head {
        stream,
        k: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
        hash: Hash(row.get(9)?),
        next_key: PublicKey(row.get(10)?),
        next_seq: get_u64(row, 11)?,
        counters: counters(&row.get::<_, [u8; 40]>(12)?),
        closed: row.get(13)?,
    };
    let state = StreamState {
        info: info.into(),
        head,
        superseded_by: row.get::<_, Option<[u8; 16]>>(14)?.map(StreamId::from_bytes),
        bound: row.get::<_, Option<i64>>(16)?.map(i64::cast_unsigned),
        frozen_at: row.get::<_, Option<i64>>(17)?.filter(|at| *at != 0).map(i64::cast_unsigned),
    };
    Ok(StreamRow { id, state, superseded_at: row.get::<_, Option<i64>>(15)?.map(i64::cast_unsigned) })
}

pub(super) fn get_u64(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn counters_bytes(counters: &Counters) -> [u8; 40] {
    let Counters { observed, refused, own, lost_agent, lost_source } = *counters;
    let mut bytes = [0; 40];
    for (field, value) in bytes.as_chunks_mut::<8>().0.iter_mut().zip([observed, refused, own, lost_agent, lost_source]) {
        *field = value.to_be_bytes();
    }
    bytes
}

fn counters(bytes: &[u8; 40]) -> Counters {
    let field = |index: usize| bytes.as_chunks::<8>().0.get(index).map_or(0, |field| u64::from_be_bytes(*field));
    Counters { observed: field(0), refused: field(1), own: field(2), lost_agent: field(3), lost_source: field(4) }
}

pub(super) fn frame_chain(chain: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::new();
    for certificate in chain {
        // A certificate came in a message far below 4 GiB.
        out.extend_from_slice(&u32::try_from(certificate.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(certificate);
    }
    out
}

pub(super) fn unframe_chain(mut bytes: Bytes) -> Option<Vec<Bytes>> {
    let mut chain = Vec::new();
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        if bytes.len() < 4 + length {
            return None;
        }
        chain.push(bytes.slice(4..4 + length));
        bytes = bytes.slice(4 + length..);
    }
    Some(chain)
}
