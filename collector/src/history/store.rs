//! One history file: its tables and the single statements over them.
//!
//! `about` is one row: the format's version, the ledger cursor, what the file spans. `chunks` holds the events. `postings`
//! and `chunks_time` exist only in a closed file.

use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_disk::database::{self, DatabaseError, Tuning};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::HistoryError;
use super::chunk::{EncodedChunk, has_terms};
use super::shelf::Span;

/// Format of the file; a reader refuses what is newer.
pub(super) const VERSION: u32 = 1;
/// WAL pages after which a commit checkpoints: 16 MiB at 4 KiB, so that a bulk load writes each chunk twice at most.
const CHECKPOINT_PAGES: u32 = 4096;

const SCHEMA: &str = "
CREATE TABLE about (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,
  next_index INTEGER NOT NULL,        -- ledger_index of the next batch to read
  closed INTEGER NOT NULL,
  events INTEGER NOT NULL,
  min_time INTEGER NOT NULL,          -- eventTime, Unix seconds
  max_time INTEGER NOT NULL,
  first_received INTEGER NOT NULL,    -- ledger commit, Unix nanoseconds
  last_received INTEGER NOT NULL
) STRICT;
CREATE TABLE chunks (
  chunk INTEGER PRIMARY KEY,          -- in the order of the ledger
  min_time INTEGER NOT NULL,
  max_time INTEGER NOT NULL,
  events INTEGER NOT NULL,
  facets_bytes INTEGER NOT NULL,      -- decoded
  records_bytes INTEGER NOT NULL,     -- decoded
  terms BLOB NOT NULL,                -- sorted u32, big-endian
  facets BLOB NOT NULL,               -- zstd
  records BLOB NOT NULL               -- zstd
) STRICT;
";

/// A chunk that may hold what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub chunk: i64,
    pub max_time: u64,
}

/// What is asked of a file's chunks.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// All of them.
    pub terms: &'a [u32],
    /// Unix seconds, inclusive.
    pub from: u64,
    pub to: u64,
}

pub(super) fn open_writer(path: &Path, first_cursor: u64) -> Result<Connection, DatabaseError> {
    let tuning = Tuning { checkpoint_pages: Some(CHECKPOINT_PAGES), ..Tuning::default() };
    let mut connection = database::open_writer(&Medium::real(), path, &tuning)?;
    if !is_made(&connection)? {
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction
            .execute("INSERT INTO about VALUES (1, ?1, ?2, 0, 0, 0, 0, 0, 0)", params![VERSION, first_cursor.cast_signed()])?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// For look-ups.
pub(super) fn open_reader(path: &Path) -> Result<Connection, DatabaseError> {
    database::open_reader(&Medium::real(), path)
}

/// A crash while a file was being made leaves one without tables.
fn is_made(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'about'")?.exists([])
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("SELECT version FROM about", [], |row| row.get(0))
}

pub(super) fn cursor(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT next_index FROM about", [], |row| row.get(0).map(i64::cast_unsigned))
}

/// None for a file without tables.
pub(super) fn span(connection: &Connection) -> rusqlite::Result<Option<Span>> {
    if !is_made(connection)? {
        return Ok(None);
    }
    let sql = "SELECT closed, events, min_time, max_time, first_received, last_received FROM about";
    connection
        .query_row(sql, [], |row| {
            Ok(Span {
                closed: row.get(0)?,
                events: row.get(1).map(i64::cast_unsigned)?,
                min_time: row.get(2).map(i64::cast_unsigned)?,
                max_time: row.get(3).map(i64::cast_unsigned)?,
                first_received: row.get(4).map(i64::cast_unsigned)?,
                last_received: row.get(5).map(i64::cast_unsigned)?,
            })
        })
        .optional()
}

pub(super) fn next_chunk(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(chunk), 0) + 1 FROM chunks", [], |row| row.get(0))
}

/// Writes a chunk, or writes it again with more events.
pub(super) fn put_chunk(transaction: &Transaction<'_>, chunk: i64, encoded: &EncodedChunk) -> rusqlite::Result<()> {
    transaction.prepare_cached("INSERT OR REPLACE INTO chunks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(params![
        chunk,
        encoded.min_time.cast_signed(),
        encoded.max_time.cast_signed(),
        encoded.events,
        encoded.facets_bytes,
        encoded.records_bytes,
        encoded.terms,
        encoded.facets,
        encoded.records,
    ])?;
    Ok(())
}

pub(super) fn set_about(transaction: &Transaction<'_>, next_index: u64, span: &Span) -> rusqlite::Result<()> {
    let sql = "UPDATE about SET next_index = ?1, closed = ?2, events = ?3, min_time = ?4, max_time = ?5, first_received = ?6, last_received = ?7";
    transaction.prepare_cached(sql)?.execute(params![
        next_index.cast_signed(),
        span.closed,
        span.events.cast_signed(),
        span.min_time.cast_signed(),
        span.max_time.cast_signed(),
        span.first_received.cast_signed(),
        span.last_received.cast_signed(),
    ])?;
    Ok(())
}

/// Builds what a closed file is searched by: every (term, chunk) once, inserted in its order.
pub(super) fn build_postings(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut postings: Vec<u64> = Vec::new();
    let mut chunks = transaction.prepare("SELECT chunk, terms FROM chunks")?;
    let mut rows = chunks.query([])?;
    while let Some(row) = rows.next()? {
        let chunk: u32 = row.get(0)?;
        let (terms, _) = row.get_ref(1)?.as_blob()?.as_chunks::<4>();
        postings.extend(terms.iter().map(|term| (u64::from(u32::from_be_bytes(*term)) << 32) | u64::from(chunk)));
    }
    postings.sort_unstable();
    transaction.execute_batch(
        "CREATE TABLE postings (posting INTEGER PRIMARY KEY) STRICT; -- term << 32 | chunk, as the i64 of the same bits less 2^63
         CREATE INDEX chunks_time ON chunks (max_time, min_time);",
    )?;
    let mut insert = transaction.prepare("INSERT INTO postings VALUES (?1)")?;
    for posting in postings {
        insert.execute([ordered(posting)])?;
    }
    Ok(())
}

/// Chunks that may match, in any order.
pub(super) fn candidates(connection: &Connection, closed: bool, asked: &Asked<'_>) -> rusqlite::Result<Vec<Candidate>> {
    let times = params![asked.from.cast_signed(), asked.to.cast_signed()];
    let mut found = Vec::new();
    let [rarest, others @ ..] = asked.terms else { return Ok(found) };
    if closed {
        // One range of postings per term; only chunks in all of them are read.
        let mut chunks = posted(connection, *rarest)?;
        for term in others {
            let more = posted(connection, *term)?;
            chunks.retain(|chunk| more.binary_search(chunk).is_ok());
        }
        let mut statement =
            connection.prepare_cached("SELECT max_time FROM chunks WHERE chunk = ?3 AND max_time >= ?1 AND min_time <= ?2")?;
        for chunk in chunks {
            let [from, to] = [asked.from.cast_signed(), asked.to.cast_signed()];
            let max_time = statement.query_row(params![from, to, chunk], |row| row.get(0).map(i64::cast_unsigned)).optional()?;
            found.extend(max_time.map(|max_time| Candidate { chunk, max_time }));
        }
    } else {
        let mut statement =
            connection.prepare_cached("SELECT chunk, max_time, terms FROM chunks WHERE max_time >= ?1 AND min_time <= ?2")?;
        let mut rows = statement.query(times)?;
        while let Some(row) = rows.next()? {
            if has_terms(row.get_ref(2)?.as_blob()?, asked.terms) {
                found.push(Candidate { chunk: row.get(0)?, max_time: row.get(1).map(i64::cast_unsigned)? });
            }
        }
    }
    Ok(found)
}

/// The chunks of a closed file that hold a term, ascending.
fn posted(connection: &Connection, term: u32) -> rusqlite::Result<Vec<i64>> {
    let first = u64::from(term) << 32;
    let mut statement =
        connection.prepare_cached("SELECT posting FROM postings WHERE posting BETWEEN ?1 AND ?2 ORDER BY posting")?;
    let chunks = statement
        .query_map([ordered(first), ordered(first | u64::from(u32::MAX))], |row| Ok(i64::from(low_half(row.get(0)?))))?;
    chunks.collect()
}

pub(super) fn facets(connection: &Connection, chunk: i64) -> rusqlite::Result<(Vec<u8>, u32)> {
    let mut statement = connection.prepare_cached("SELECT facets, facets_bytes FROM chunks WHERE chunk = ?1")?;
    statement.query_row([chunk], |row| Ok((row.get(0)?, row.get(1)?)))
}

pub(super) fn records(connection: &Connection, chunk: i64) -> rusqlite::Result<(Vec<u8>, u32)> {
    let mut statement = connection.prepare_cached("SELECT records, records_bytes FROM chunks WHERE chunk = ?1")?;
    statement.query_row([chunk], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// u64 order kept in SQLite's i64.
fn ordered(posting: u64) -> i64 {
    (posting ^ (1 << 63)).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low_half(posting: i64) -> u32 {
    posting.cast_unsigned() as u32
}

impl From<(std::path::PathBuf, rusqlite::Error)> for HistoryError {
    fn from((path, source): (std::path::PathBuf, rusqlite::Error)) -> Self {
        Self::File { path, source }
    }
}
