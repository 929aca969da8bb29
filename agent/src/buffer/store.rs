//! The buffer's SQLite file: every row it has, and nobody else opens it.
//!
//! A commit is one `chunk` row with its records framed in one `body` row, not a row per record. Chunks never cross a
//! batch: a batch is the run of chunks that its header's seq range covers. The stream's head is a column of its own,
//! never "the largest k left". WAL, `synchronous=FULL`: what [`rusqlite::Transaction::commit`] returned for survives a
//! power cut.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use edgetrail_link::body::{frame, unframe};
use edgetrail_link::outbox::Opening;
use edgetrail_proto::chain::{Counters, Hash, Header, Open, Receipt, Seal};
use edgetrail_proto::identity::StreamId;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, params};

use super::tally;

/// The file's name in the state directory.
pub const BUFFER_FILE: &str = "buffer.sqlite";

/// Oldest SQLite that is safe here: 3.51.3 fixes a WAL reset race.
const SQLITE_MIN: i32 = 3_051_003;

/// `user_version` of the schema below.
const SCHEMA_VERSION: i64 = 1;

/// Page size, bytes: bodies are up to 1 MiB, and larger pages make shorter overflow chains.
const PAGE_BYTES: u32 = 8192;

const SCHEMA: &str = "
CREATE TABLE state (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  current     INTEGER,             -- ordinal of the stream that takes commits
  running     INTEGER NOT NULL,    -- 1 from start to orderly stop
  forked      BLOB,                -- the stream that a collector called a fork
  receipt     BLOB NOT NULL,       -- message hash of the last verified receipt
  commits     INTEGER NOT NULL,    -- tells after an error whether the last commit went through
  committed   INTEGER NOT NULL,    -- time of the last commit, Unix ns
  tail        BLOB NOT NULL,       -- counters that no chunk and no header holds
  hold        BLOB                 -- what the hold must know after a restart
);
CREATE TABLE stream (
  ordinal     INTEGER PRIMARY KEY, -- oldest first
  id          BLOB NOT NULL UNIQUE,
  open        BLOB NOT NULL,
  binding     BLOB NOT NULL,
  signature   BLOB NOT NULL,
  certificates BLOB NOT NULL,      -- each DER behind its length
  header      BLOB,                -- the head, kept when its batch is released
  seal        BLOB,
  receipted_header BLOB,           -- kept for ever: the take-up evidence
  receipted_seal   BLOB,
  receipt     BLOB,
  damaged     INTEGER              -- first batch that no longer hashes to its root
);
CREATE TABLE batch (
  stream      INTEGER NOT NULL,
  k           INTEGER NOT NULL,
  header      BLOB NOT NULL,
  hash        BLOB NOT NULL,
  seal        BLOB NOT NULL,
  waits       INTEGER NOT NULL,    -- a push caller waits for the receipt
  PRIMARY KEY (stream, k)
) WITHOUT ROWID;
CREATE TABLE chunk (
  stream      INTEGER NOT NULL,
  first_seq   INTEGER NOT NULL,
  count       INTEGER NOT NULL,
  bytes       INTEGER NOT NULL,    -- of its records, without frames
  committed   INTEGER NOT NULL,    -- Unix ns
  counters    BLOB NOT NULL,       -- what it adds to the stream's
  body        INTEGER NOT NULL,
  PRIMARY KEY (stream, first_seq)
) WITHOUT ROWID;
CREATE TABLE body (
  id          INTEGER PRIMARY KEY,
  records     BLOB NOT NULL        -- each record behind its length
);
CREATE TABLE cursor (
  source      TEXT NOT NULL,
  key         TEXT NOT NULL,
  value       BLOB NOT NULL,
  PRIMARY KEY (source, key)
) WITHOUT ROWID;
";

/// The one row of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) current: Option<i64>,
    pub(super) running: bool,
    pub(super) forked: Option<StreamId>,
    pub(super) receipt: Hash,
    pub(super) commits: u64,
    pub(super) committed: u64,
    pub(super) tail: Counters,
}

/// One row of `stream`.
#[derive(Clone, Debug)]
pub(super) struct StreamRow {
    pub(super) ordinal: i64,
    pub(super) open: Open,
    pub(super) opening: Opening,
    pub(super) head: Option<(Header, Seal)>,
    pub(super) receipted: Option<(Header, Seal, Receipt)>,
    pub(super) damaged: Option<u64>,
}

/// One row of `batch`.
#[derive(Clone, Debug)]
pub(super) struct BatchRow {
    pub(super) header: Header,
    pub(super) hash: Hash,
    pub(super) seal: Seal,
    pub(super) waits: bool,
}

/// One row of `chunk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkRow {
    pub(super) first_seq: u64,
    pub(super) count: u32,
    pub(super) bytes: u64,
    pub(super) committed: u64,
    pub(super) counters: Counters,
    pub(super) body: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("SQLite {found} is too old: this build needs 3.51.3 or later")]
    Version { found: &'static str },
    #[error(
        "the buffer's schema is version {found}, this agent knows {SCHEMA_VERSION}: use the agent that wrote it, or a newer one"
    )]
    Schema { found: i64 },
    #[error("the buffer can't be created: check the state directory's permissions")]
    Create(#[source] std::io::Error),
    #[error("the buffer can't be read or written")]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether the file's content is at fault, not the disk or a permission: it is put aside and capture goes on.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(error) => {
                matches!(
                    error.sqlite_error_code(),
                    Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
                ) || matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..))
            }
            Self::Version { .. } | Self::Schema { .. } | Self::Create(_) => false,
        }
    }
}

/// The writing connection.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) db: Connection,
}

impl Store {
    /// Opens the file, creating it if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        if rusqlite::version_number() < SQLITE_MIN {
            return Err(StoreError::Version { found: rusqlite::version() });
        }
        let path = dir.join(BUFFER_FILE);
        let created = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        drop(created.map_err(StoreError::Create)?);
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "page_size", PAGE_BYTES)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "mmap_size", 0)?;
        // Negative: KiB. A commit's dirty pages fit; at rest the cache stays small.
        db.pragma_update(None, "cache_size", -1536)?;
        // 4 MiB of WAL between checkpoints: four full batches.
        db.pragma_update(None, "wal_autocheckpoint", 512)?;
        db.pragma_update(None, "journal_size_limit", 8 * 1024 * 1024)?;
        db.set_prepared_statement_cache_capacity(24);
        let mut store = Self { db };
        store.migrate()?;
        Ok(store)
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        match self.db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
            SCHEMA_VERSION => Ok(()),
            0 => {
                let tx = self.db.transaction()?;
                tx.execute_batch(SCHEMA)?;
                tx.execute(
                    "INSERT INTO state (id, running, receipt, commits, committed, tail) VALUES (1, 0, ?1, 0, 0, ?2)",
                    params![Bytes(Hash::ZERO.0), tally::encode(Counters::default()).as_slice()],
                )?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                Ok(tx.commit()?)
            }
            found => Err(StoreError::Schema { found }),
        }
    }

    /// Bytes that rows take, free pages not counted.
    pub(super) fn used_bytes(&self) -> Result<u64, StoreError> {
        Ok((self.bytes_of("page_count")?).saturating_sub(self.reusable_bytes()?))
    }

    /// What the database file holds and rows may take again: it grows by need and never shrinks.
    pub(super) fn reusable_bytes(&self) -> Result<u64, StoreError> {
        self.bytes_of("freelist_count")
    }

    fn bytes_of(&self, pages: &str) -> Result<u64, StoreError> {
        let one = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        Ok(u64::from(one(pages)?) * u64::from(one("page_size")?))
    }

    /// Moves what the write-ahead log holds into the database and gives the log's room back to the disk.
    pub(super) fn fold_log(&self) -> Result<(), StoreError> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }
}

/// A second connection for readers: the uplink, `status`.
pub(super) fn open_reader(dir: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(dir.join(BUFFER_FILE), flags)?;
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "cache_size", -256)?;
    Ok(db)
}

pub(super) fn state(db: &Connection) -> Result<State, StoreError> {
    Ok(db
        .prepare_cached("SELECT current, running, forked, receipt, commits, committed, tail FROM state WHERE id = 1")?
        .query_row([], |row| {
            Ok(State {
                current: row.get(0)?,
                running: row.get(1)?,
                forked: row.get::<_, Option<Bytes<16>>>(2)?.map(|id| StreamId::from_bytes(id.0)),
                receipt: Hash(row.get::<_, Bytes<32>>(3)?.0),
                commits: row.get::<_, Unsigned>(4)?.0,
                committed: row.get::<_, Unsigned>(5)?.0,
                tail: row.get::<_, Tally>(6)?.0,
            })
        })?)
}

/// Writes everything of the state row but `hold`.
pub(super) fn put_state(db: &Connection, state: &State) -> Result<(), StoreError> {
    db.prepare_cached(
        "UPDATE state SET current = ?1, running = ?2, forked = ?3, receipt = ?4, commits = ?5, committed = ?6, tail = ?7 WHERE id = 1",
    )?
    .execute(params![
        state.current,
        state.running,
        state.forked.map(|id| Bytes(*id.as_bytes())),
        Bytes(state.receipt.0),
        Unsigned(state.commits),
        Unsigned(state.committed),
        tally::encode(state.tail).as_slice(),
    ])?;
    Ok(())
}

pub(super) fn hold(db: &Connection) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(db.query_row("SELECT hold FROM state WHERE id = 1", [], |row| row.get(0))?)
}

pub(super) fn put_hold(db: &Connection, hold: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE state SET hold = ?1 WHERE id = 1")?.execute([hold])?;
    Ok(())
}

pub(super) fn cursors(db: &Connection, source: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT key, value FROM cursor WHERE source = ?1 ORDER BY key")?;
    let rows = statement.query_map([source], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn put_cursor(db: &Connection, source: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO cursor VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET value = excluded.value")?
        .execute(params![source, key, value])?;
    Ok(())
}

const STREAM_COLUMNS: &str =
    "ordinal, open, binding, signature, certificates, header, seal, receipted_header, receipted_seal, receipt, damaged";

/// The newest `limit` streams, oldest first.
pub(super) fn streams(db: &Connection, limit: usize) -> Result<Vec<StreamRow>, StoreError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream ORDER BY ordinal DESC LIMIT ?1");
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], stream_row)?;
    let mut streams = rows.collect::<Result<Vec<_>, _>>()?;
    streams.reverse();
    Ok(streams)
}

pub(super) fn stream(db: &Connection, id: StreamId) -> Result<Option<StreamRow>, StoreError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream WHERE id = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([Bytes(*id.as_bytes())], stream_row).optional()?)
}

pub(super) fn stream_at(db: &Connection, ordinal: i64) -> Result<Option<StreamRow>, StoreError> {
    let sql = format!("SELECT {STREAM_COLUMNS} FROM stream WHERE ordinal = ?1");
    Ok(db.prepare_cached(&sql)?.query_row([ordinal], stream_row).optional()?)
}

/// Records an open; gives the stream's ordinal.
pub(super) fn insert_stream(db: &Connection, id: StreamId, opening: &Opening) -> Result<i64, StoreError> {
    let mut certificates = Vec::new();
    opening.certificate_chain.iter().for_each(|der| frame(&mut certificates, der));
    db.prepare_cached("INSERT INTO stream (id, open, binding, signature, certificates) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![Bytes(*id.as_bytes()), opening.open, opening.binding, opening.signature, certificates])?;
    Ok(db.last_insert_rowid())
}

pub(super) fn put_head(db: &Connection, ordinal: i64, header: &Header, seal: &Seal) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE stream SET header = ?2, seal = ?3 WHERE ordinal = ?1")?.execute(params![
        ordinal,
        header.encode().as_slice(),
        Bytes(seal.0)
    ])?;
    Ok(())
}

pub(super) fn put_damaged(db: &Connection, ordinal: i64, k: Option<u64>) -> Result<(), StoreError> {
    db.execute("UPDATE stream SET damaged = ?2 WHERE ordinal = ?1", params![ordinal, k.map(Unsigned)])?;
    Ok(())
}

pub(super) fn insert_batch(db: &Connection, ordinal: i64, batch: &BatchRow) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO batch VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        ordinal,
        Unsigned(batch.header.k),
        batch.header.encode().as_slice(),
        Bytes(batch.hash.0),
        Bytes(batch.seal.0),
        batch.waits,
    ])?;
    Ok(())
}

pub(super) fn batch(db: &Connection, ordinal: i64, k: u64) -> Result<Option<BatchRow>, StoreError> {
    let mut statement = db.prepare_cached("SELECT header, hash, seal, waits FROM batch WHERE stream = ?1 AND k = ?2")?;
    Ok(statement.query_row(params![ordinal, Unsigned(k)], batch_row).optional()?)
}

/// The oldest batch without a receipt.
pub(super) fn first_batch(db: &Connection, ordinal: i64) -> Result<Option<u64>, StoreError> {
    let mut statement = db.prepare_cached("SELECT min(k) FROM batch WHERE stream = ?1")?;
    Ok(statement.query_row([ordinal], |row| row.get::<_, Option<Unsigned>>(0))?.map(|k| k.0))
}

/// Batches from `from_k` on, in order.
pub(super) fn batches(db: &Connection, ordinal: i64, from_k: u64) -> Result<Vec<BatchRow>, StoreError> {
    let mut statement =
        db.prepare_cached("SELECT header, hash, seal, waits FROM batch WHERE stream = ?1 AND k >= ?2 ORDER BY k")?;
    let rows = statement.query_map(params![ordinal, Unsigned(from_k)], batch_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// k and head of every batch without a receipt up to `to_k`, the newest `limit`, in order.
pub(super) fn names(db: &Connection, ordinal: i64, to_k: Option<u64>, limit: usize) -> Result<Vec<(u64, Hash)>, StoreError> {
    let mut statement = db.prepare_cached("SELECT k, hash FROM batch WHERE stream = ?1 AND k <= ?2 ORDER BY k DESC LIMIT ?3")?;
    let to_k = to_k.map_or(i64::MAX, |k| i64::try_from(k).unwrap_or(i64::MAX));
    let rows = statement.query_map(params![ordinal, to_k, i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
        Ok((row.get::<_, Unsigned>(0)?.0, Hash(row.get::<_, Bytes<32>>(1)?.0)))
    })?;
    let mut names = rows.collect::<Result<Vec<_>, _>>()?;
    names.reverse();
    Ok(names)
}

/// Stores records and the chunk that names them.
pub(super) fn insert_chunk(db: &Connection, ordinal: i64, chunk: &ChunkRow, records: &[u8]) -> Result<i64, StoreError> {
    db.prepare_cached("INSERT INTO body (records) VALUES (?1)")?.execute([records])?;
    let body = db.last_insert_rowid();
    put_chunk(db, ordinal, &ChunkRow { body, ..chunk.clone() })?;
    Ok(body)
}

/// Names records that are stored already.
pub(super) fn put_chunk(db: &Connection, ordinal: i64, chunk: &ChunkRow) -> Result<(), StoreError> {
    db.prepare_cached("INSERT INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        ordinal,
        Unsigned(chunk.first_seq),
        chunk.count,
        Unsigned(chunk.bytes),
        Unsigned(chunk.committed),
        tally::encode(chunk.counters).as_slice(),
        chunk.body,
    ])?;
    Ok(())
}

/// Chunks with a first_seq in `from..to`, in order, at most `limit`.
pub(super) fn chunks(db: &Connection, ordinal: i64, from: u64, to: u64, limit: usize) -> Result<Vec<ChunkRow>, StoreError> {
    let mut statement = db.prepare_cached(
        "SELECT first_seq, count, bytes, committed, counters, body FROM chunk
         WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3 ORDER BY first_seq LIMIT ?4",
    )?;
    let to = i64::try_from(to).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![ordinal, Unsigned(from), to, limit], |row| {
        Ok(ChunkRow {
            first_seq: row.get::<_, Unsigned>(0)?.0,
            count: row.get(1)?,
            bytes: row.get::<_, Unsigned>(2)?.0,
            committed: row.get::<_, Unsigned>(3)?.0,
            counters: row.get::<_, Tally>(4)?.0,
            body: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Appends a body's records to `into`.
pub(super) fn read_body(db: &Connection, body: i64, into: &mut Vec<u8>) -> Result<(), StoreError> {
    db.prepare_cached("SELECT records FROM body WHERE id = ?1")?.query_row([body], |row| {
        into.extend_from_slice(row.get_ref(0)?.as_blob()?);
        Ok(())
    })?;
    Ok(())
}

/// Forgets chunks with a first_seq in `from..to`, and their records if `bodies`.
pub(super) fn delete_chunks(db: &Connection, ordinal: i64, from: u64, to: u64, bodies: bool) -> Result<(), StoreError> {
    let to = i64::try_from(to).unwrap_or(i64::MAX);
    if bodies {
        db.prepare_cached(
            "DELETE FROM body WHERE id IN (SELECT body FROM chunk WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3)",
        )?
        .execute(params![ordinal, Unsigned(from), to])?;
    }
    db.prepare_cached("DELETE FROM chunk WHERE stream = ?1 AND first_seq >= ?2 AND first_seq < ?3")?.execute(params![
        ordinal,
        Unsigned(from),
        to
    ])?;
    Ok(())
}

/// Forgets batches with k in `from..to`.
pub(super) fn delete_batches(db: &Connection, ordinal: i64, from: u64, to: u64) -> Result<(), StoreError> {
    db.prepare_cached("DELETE FROM batch WHERE stream = ?1 AND k >= ?2 AND k < ?3")?.execute(params![
        ordinal,
        Unsigned(from),
        i64::try_from(to).unwrap_or(i64::MAX)
    ])?;
    Ok(())
}

/// Stores a receipt with the header and seal that it covers.
pub(super) fn put_receipt(db: &Connection, ordinal: i64, batch: &BatchRow, receipt: &Receipt) -> Result<(), StoreError> {
    db.prepare_cached("UPDATE stream SET receipted_header = ?2, receipted_seal = ?3, receipt = ?4 WHERE ordinal = ?1")?
        .execute(params![ordinal, batch.header.encode().as_slice(), Bytes(batch.seal.0), receipt.encode()])?;
    Ok(())
}

/// Records without a receipt: how many, their bytes, and when the oldest was committed.
pub(super) fn depth(db: &Connection) -> Result<(u64, u64, Option<u64>), StoreError> {
    Ok(db.query_row("SELECT ifnull(sum(count), 0), ifnull(sum(bytes), 0), min(committed) FROM chunk", [], |row| {
        Ok((row.get::<_, Unsigned>(0)?.0, row.get::<_, Unsigned>(1)?.0, row.get::<_, Option<Unsigned>>(2)?.map(|t| t.0)))
    })?)
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

fn batch_row(row: &Row<'_>) -> rusqlite::Result<BatchRow> {
    Ok(BatchRow {
        header: row.get::<_, HeaderBytes>(0)?.0,
        hash: Hash(row.get::<_, Bytes<32>>(1)?.0),
        seal: Seal(row.get::<_, Bytes<64>>(2)?.0),
        waits: row.get(3)?,
    })
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
}

/// A blob of exactly N bytes.
struct Bytes<const N: usize>([u8; N]);

/// k, seq, times: far below 2^63, which is where SQLite's integers end.
struct Unsigned(u64);

struct Tally(Counters);

struct HeaderBytes(Header);

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
