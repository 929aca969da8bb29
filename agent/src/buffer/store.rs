//! The buffer's SQLite file: every row it has, and nobody else opens it.
//!
//! A commit is one `chunk` row with its records framed in one `body` row, not a row per record. Chunks never cross a
//! batch: a batch is the run of chunks that its header's seq range covers. The stream's head is a column of its own,
//! never "the largest k left". WAL, `synchronous=FULL`: what [`rusqlite::Transaction::commit`] returned for survives a
//! power cut.

mod batches;
mod chunks;
mod columns;
mod cursors;
mod receipt_keys;
mod state;
mod streams;

use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_disk::database::{self, DatabaseError, Tuning};
use edgetrail_proto::chain::Hash;
use rusqlite::Connection;

pub(super) use batches::{
    BatchRow, any_batch, batch, batches, delete_batches, first_batch, has_head, insert_batch, key_of, names,
};
pub(super) use chunks::{
    ChunkRow, Content, bodies_between, chunks, delete_chunks, depth, drop_chunks, drop_damaged_chunks, insert_chunk, move_chunks,
    oldest, read_body,
};
use columns::is_unfit;
pub(super) use cursors::{cursors, damaged_cursors, drop_cursor, put_cursor};
pub(super) use receipt_keys::{put_receipt_key, receipt_keys};
pub(super) use state::{Reach, State, hold, put_hold, put_state, state};
pub(super) use streams::{
    StreamRow, insert_stream, latest_time, put_damaged, put_head, put_receipt, put_stream, stream, stream_at, streams,
};

/// The file's name in the state directory.
pub const BUFFER_FILE: &str = "buffer.sqlite";

/// `user_version` of the schema below.
const SCHEMA_VERSION: i64 = 3;

/// Without sums: what wrote it came before them.
const SCHEMA_WITHOUT_SUMS: i64 = 1;

/// With them, without receipt keys.
const SCHEMA_WITHOUT_RECEIPT_KEYS: i64 = 2;

/// Of a row that no header, root or seal vouches for: it tells what a disk made of it from what was written.
pub(super) type Sum = [u8; 16];

/// SQLite's extended codes of reads that the disk refused.
const UNREADABLE: [i32; 3] =
    [rusqlite::ffi::SQLITE_IOERR_READ, rusqlite::ffi::SQLITE_IOERR_SHORT_READ, rusqlite::ffi::SQLITE_IOERR_FSTAT];

/// Free pages up to this stay in the file beside what the rows take: a busy hour takes them again, bytes.
const SHRINK_ABOVE_BYTES: u64 = 16 * 1024 * 1024;

/// 1,024 pages, 8 MiB, at a time: some ten milliseconds.
const SHRINK: &str = "PRAGMA incremental_vacuum(1024)";

/// Of each buffer's file. Bodies are up to 1 MiB, and larger pages make shorter overflow chains.
pub(super) const PAGE_BYTES: u32 = 8192;

const TUNING: Tuning = Tuning {
    page_bytes: Some(PAGE_BYTES),
    // A commit's dirty pages fit; at rest the cache stays small.
    cache_kib: Some(1536),
    // 4 MiB of log between checkpoints: four full batches.
    checkpoint_pages: Some(512),
    log_bytes: Some(8 * 1024 * 1024),
    shrinks: true,
};

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
  hold        BLOB,                -- what the hold must know after a restart
  reach       BLOB,                -- the seq behind the last commit's records, and what its chunks count so far
  sum         BLOB                 -- over all but hold
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
  content     BLOB,                -- what its records hash to
  sum         BLOB,                -- over all of the row
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
  sum         BLOB,
  PRIMARY KEY (source, key)
) WITHOUT ROWID;
";

/// The CA's statements on keys whose receipts are kept: each holds by its signature.
const RECEIPT_KEYS: &str = "
CREATE TABLE receipt_key (
  public_key  BLOB PRIMARY KEY,
  not_before  INTEGER NOT NULL,    -- Unix ns
  not_after   INTEGER NOT NULL,
  signature   BLOB NOT NULL
) WITHOUT ROWID;
";

/// From the schema without sums to this one.
const SUMS: &str = "
ALTER TABLE chunk ADD COLUMN content BLOB;
ALTER TABLE chunk ADD COLUMN sum BLOB;
ALTER TABLE cursor ADD COLUMN sum BLOB;
ALTER TABLE state ADD COLUMN reach BLOB;
ALTER TABLE state ADD COLUMN sum BLOB;
";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the buffer's schema is version {found}, this agent knows {SCHEMA_VERSION}: use the agent that wrote it, or a newer one"
    )]
    Schema { found: i64 },
    #[error("the buffer is as an older agent left it: start this agent once, then ask again")]
    NotMigrated,
    #[error(transparent)]
    Open(#[from] DatabaseError),
    #[error("the buffer's directory can't be used: check its permissions and the disk's free space")]
    File(#[source] std::io::Error),
    #[error("the buffer can't be read or written")]
    Sqlite(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether the file's content is at fault, not the disk or a permission: it is put aside and capture goes on.
    pub(super) fn is_damage(&self) -> bool {
        let (Self::Sqlite(error) | Self::Open(DatabaseError::Sqlite(error))) = self else { return false };
        matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
            || is_unfit(error)
    }

    /// Whether, of a file that was just opened, a table, a column or the one row of `state` is not there.
    pub(super) fn is_schema_lost(&self) -> bool {
        use rusqlite::Error::{QueryReturnedNoRows, SqlInputError, SqliteFailure};
        let (Self::Sqlite(error) | Self::Open(DatabaseError::Sqlite(error))) = self else { return false };
        match error {
            SqliteFailure(failure, _) => failure.code == rusqlite::ErrorCode::Unknown,
            QueryReturnedNoRows | SqlInputError { .. } => true,
            _ => false,
        }
    }

    pub(super) fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite(error) | Self::Open(DatabaseError::Sqlite(error)) => {
                error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::File(error) | Self::Open(DatabaseError::Create { source: error, .. }) => {
                error.kind() == std::io::ErrorKind::StorageFull
            }
            _ => false,
        }
    }

    /// Whether the disk did not give what the file holds. It may be a broken sector, or pass.
    pub(super) fn is_unreadable(&self) -> bool {
        let (Self::Sqlite(error) | Self::Open(DatabaseError::Sqlite(error))) = self else { return false };
        matches!(error, rusqlite::Error::SqliteFailure(failure, _) if UNREADABLE.contains(&failure.extended_code))
    }
}

/// Makes room at the old end: the ordinal before every stream's. Rows that a repair left without a stream are forgotten.
pub(super) fn begin_before(db: &Connection) -> Result<i64, StoreError> {
    db.execute_batch(
        "DELETE FROM body WHERE id IN (SELECT body FROM chunk WHERE stream NOT IN (SELECT ordinal FROM stream));
         DELETE FROM chunk WHERE stream NOT IN (SELECT ordinal FROM stream);
         DELETE FROM batch WHERE stream NOT IN (SELECT ordinal FROM stream);",
    )?;
    Ok(db.query_row("SELECT ifnull(min(ordinal), 1) - 1 FROM stream", [], |row| row.get(0))?)
}

/// The writing connection.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) db: Connection,
}

impl Store {
    /// Opens the file, creating it if it is not there.
    pub(super) fn open(medium: &Medium, dir: &Path) -> Result<Self, StoreError> {
        let db = database::open_writer(medium, &dir.join(BUFFER_FILE), &TUNING)?;
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
                tx.execute_batch(RECEIPT_KEYS)?;
                state::insert(&tx)?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                Ok(tx.commit()?)
            }
            SCHEMA_WITHOUT_SUMS => {
                let tx = self.db.transaction()?;
                tx.execute_batch(SUMS)?;
                // What the rows say now is taken for what was written: nothing is left that could tell.
                chunks::sum_chunks(&tx)?;
                cursors::sum_cursors(&tx)?;
                state::sum_state(&tx)?;
                tx.execute_batch(RECEIPT_KEYS)?;
                tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                // From here on a crash finds the new schema with every row of the old one.
                Ok(tx.commit()?)
            }
            SCHEMA_WITHOUT_RECEIPT_KEYS => {
                let tx = self.db.transaction()?;
                tx.execute_batch(RECEIPT_KEYS)?;
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

    /// What the database file holds and rows may take again: it grows by need, and [`Store::shrink`] gives back.
    pub(super) fn reusable_bytes(&self) -> Result<u64, StoreError> {
        self.bytes_of("freelist_count")
    }

    /// Gives free pages back to the disk, a bounded piece of them, where they are more than the rows take by much, or the
    /// disk needs each.
    pub(super) fn shrink(&self, needed: bool) -> Result<(), StoreError> {
        let kept = if needed { 0 } else { self.used_bytes()?.saturating_add(SHRINK_ABOVE_BYTES) };
        if self.reusable_bytes()? <= kept {
            return Ok(());
        }
        let mut pages = self.db.prepare_cached(SHRINK)?;
        // Each row is one page given back.
        let mut rows = pages.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    fn bytes_of(&self, pages: &str) -> Result<u64, StoreError> {
        let one = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        Ok(u64::from(one(pages)?) * u64::from(one("page_size")?))
    }

    /// Moves what the write-ahead log holds into the database and gives the log's room back to the disk.
    pub(super) fn fold_log(&self) -> Result<(), StoreError> {
        // A reader that needs it is gone by the next time.
        let _folded = database::fold_log(&self.db)?;
        Ok(())
    }
}

/// A second connection for readers: the uplink, `status`.
pub(super) fn open_reader(medium: &Medium, dir: &Path) -> Result<Connection, StoreError> {
    let db = database::open_visitor(medium, &dir.join(BUFFER_FILE))?;
    db.pragma_update(None, "cache_size", -256)?;
    let version = db.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
    if [SCHEMA_WITHOUT_SUMS, SCHEMA_WITHOUT_RECEIPT_KEYS].contains(&version) {
        return Err(StoreError::NotMigrated);
    }
    Ok(db)
}

/// The first half of a SHA-256, of pieces of fixed length but for the last.
fn sum(kind: &[u8], pieces: &[&[u8]]) -> Sum {
    let mut bytes = kind.to_vec();
    pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
    let mut sum = Sum::default();
    sum.iter_mut().zip(Hash::of(&bytes).0).for_each(|(to, from)| *to = from);
    sum
}
