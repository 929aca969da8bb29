//! `relay.sqlite`: what home has given its receipt for, and what it says that it lacks.
//!
//! A batch is home's once a receipt of home's covers it and home does not name it as missing: no receipt for a later batch
//! stands for what is missing. Only then may its body go. Forgetting all of this would lose nothing: home says it again at
//! the next resume. A home that was restored may lack what it gave receipts for: all of it is missing until home says more.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgetrail_disk::Medium;
use edgetrail_disk::database::{self, DatabaseError, Tuning};
use edgetrail_proto::chain::{Hash, Receipt};
use edgetrail_proto::identity::StreamId;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::watch;

use super::notices;

const FILE: &str = "relay.sqlite";

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS receipts (   -- home's, the greatest of each stream
  stream BLOB PRIMARY KEY,
  k INTEGER NOT NULL,
  receipt BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS missing (    -- at home, below its heads, as of the last resume
  stream BLOB NOT NULL,
  first_k INTEGER NOT NULL,
  last_k INTEGER NOT NULL,
  PRIMARY KEY (stream, first_k)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS passed (     -- everything before this ledger index is home's
  one INTEGER PRIMARY KEY CHECK (one = 1),
  ledger_index INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS kept (       -- of forks: headers and opens, by hash, that home keeps as evidence
  stream BLOB NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (stream, hash)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS home (       -- SHA-256 of the key that home signs with
  one INTEGER PRIMARY KEY CHECK (one = 1),
  signs_as BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS connection ( -- since when home is heard; NULL while it is not
  one INTEGER PRIMARY KEY CHECK (one = 1),
  since INTEGER
) STRICT;
";

#[derive(Debug, thiserror::Error)]
pub enum ProgressError {
    #[error("the record of home's receipts can't be read or written: check the disk's free space and health")]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("a receipt in relay.sqlite is damaged: move the file away, home gives its receipts anew")]
    Damaged,
}

/// How far home has come, by stream.
#[derive(Debug)]
pub struct Progress {
    state: Mutex<State>,
    /// Counts what was noticed for home.
    pub(super) news: watch::Sender<u64>,
    /// Counts how often home was found to be an older copy of itself.
    doubts: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) connection: Connection,
    streams: HashMap<StreamId, Standing>,
    passed: u64,
    signs_as: Option<Hash>,
    last_receipt_ns: Option<u64>,
}

/// What the record says, read beside a running relay.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) streams: HashMap<StreamId, Standing>,
    /// What home keeps as evidence of forks.
    pub(super) kept: Vec<(StreamId, Hash)>,
    pub(super) connected_ns: Option<u64>,
    pub(super) last_receipt_ns: Option<u64>,
    pub(super) notices: u64,
}

/// One stream, as home stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The greatest batch with home's receipt.
    pub receipted: Option<u64>,
    /// First and last of each range that home lacks, of those that its receipts cover.
    pub missing: Vec<(u64, u64)>,
    /// Home's head, as of the last resume; `None` before it has said it, `Some(None)` before batch 0. Not kept.
    pub head: Option<Option<u64>>,
    /// Home takes nothing more of it. Said anew at each resume; not kept.
    pub frozen: bool,
}

impl Standing {
    /// Whether home holds batch k.
    pub fn covers(&self, k: u64) -> bool {
        self.receipted.is_some_and(|receipted| k <= receipted)
            && !self.missing.iter().any(|(from, to)| (*from..=*to).contains(&k))
    }
}

impl Progress {
    /// Opens or creates the record in the state directory.
    pub fn open(medium: &Medium, dir: &Path) -> Result<Self, ProgressError> {
        let connection = database::open_writer(medium, &dir.join(FILE), &Tuning::default())?;
        connection.execute_batch(SCHEMA)?;
        connection.execute_batch(notices::SCHEMA)?;
        connection.execute("UPDATE connection SET since = NULL", [])?;
        let (streams, last_receipt_ns) = (read_streams(&connection)?, last_receipt(&connection)?);
        let passed: Option<i64> = connection.query_row("SELECT ledger_index FROM passed", [], |row| row.get(0)).optional()?;
        let passed = passed.unwrap_or(0).cast_unsigned();
        let signs_as: Option<[u8; 32]> = connection.query_row("SELECT signs_as FROM home", [], |row| row.get(0)).optional()?;
        let state = Mutex::new(State { connection, streams, passed, signs_as: signs_as.map(Hash), last_receipt_ns });
        Ok(Self { state, news: watch::Sender::new(0), doubts: watch::Sender::new(0) })
    }

    /// What the record says beside a running relay; `None` where there is none.
    pub(super) fn read(medium: &Medium, dir: &Path) -> Result<Option<Known>, ProgressError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let connection = database::open_reader(medium, &path)?;
        let connected: Option<Option<i64>> =
            connection.query_row("SELECT since FROM connection", [], |row| row.get(0)).optional()?;
        let notices: i64 = connection.query_row("SELECT count(*) FROM notices", [], |row| row.get(0))?;
        let mut select = connection.prepare("SELECT stream, hash FROM kept")?;
        let kept = select.query_map([], |row| Ok((StreamId::from_bytes(row.get(0)?), Hash(row.get(1)?))))?;
        Ok(Some(Known {
            streams: read_streams(&connection)?,
            kept: kept.collect::<Result<_, _>>()?,
            connected_ns: connected.flatten().map(i64::cast_unsigned),
            last_receipt_ns: last_receipt(&connection)?,
            notices: notices.cast_unsigned(),
        }))
    }

    /// Since when home is heard; `None`: it is no more.
    pub fn connected(&self, since_ns: Option<u64>) -> Result<(), ProgressError> {
        let state = self.lock();
        let mut put = state
            .connection
            .prepare_cached("INSERT INTO connection (one, since) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET since = ?1")?;
        put.execute([since_ns.map(u64::cast_signed)])?;
        Ok(())
    }

    /// The newest of home's receipts, by home's clock.
    pub fn last_receipt_ns(&self) -> Option<u64> {
        self.lock().last_receipt_ns
    }

    pub fn standing(&self, stream: StreamId) -> Standing {
        self.lock().streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Home's receipt for the greatest batch of the stream.
    pub fn receipt(&self, stream: StreamId) -> Result<Option<Receipt>, ProgressError> {
        let state = self.lock();
        let mut select = state.connection.prepare_cached("SELECT receipt FROM receipts WHERE stream = ?1")?;
        let found: Option<Vec<u8>> = select.query_row([stream.as_bytes()], |row| row.get(0)).optional()?;
        found.map(|bytes| Receipt::decode(&bytes).map_err(|_| ProgressError::Damaged)).transpose()
    }

    /// Keeps a receipt of home's that was verified and is for a batch of the relay's own chain.
    pub fn store(&self, receipt: &Receipt) -> Result<(), ProgressError> {
        let mut state = self.lock();
        if state.streams.get(&receipt.stream).and_then(|known| known.receipted).is_some_and(|known| known > receipt.k) {
            return Ok(());
        }
        state
            .connection
            .prepare_cached(
                "INSERT INTO receipts (stream, k, receipt) VALUES (?1, ?2, ?3)
                 ON CONFLICT (stream) DO UPDATE SET k = excluded.k, receipt = excluded.receipt",
            )?
            .execute(params![receipt.stream.as_bytes(), receipt.k.cast_signed(), receipt.encode()])?;
        // From here on a crash recovers to a relay that knows that home has these batches.
        state.last_receipt_ns = state.last_receipt_ns.max(Some(receipt.t_received));
        state.streams.entry(receipt.stream).or_default().receipted = Some(receipt.k);
        Ok(())
    }

    /// Home's receipt with the greatest ledger_index: what an older copy of home does not know.
    pub fn newest_receipt(&self) -> Result<Option<Receipt>, ProgressError> {
        newest_receipt(&self.lock().connection)
    }

    /// What home says at a resume: its head, and what it lacks of the stream below. A receipt beyond the head is one of
    /// before home was restored: it lacks what lies between too.
    pub fn note(&self, stream: StreamId, head: Option<u64>, missing: &[(u64, u64)], frozen: bool) -> Result<(), ProgressError> {
        let mut state = self.lock();
        let known = state.streams.entry(stream).or_default();
        (known.frozen, known.head) = (frozen, Some(head));
        let mut lacking = missing.to_vec();
        let beyond = head.map_or(0, |head| head.saturating_add(1));
        lacking.extend(known.receipted.filter(|receipted| *receipted >= beyond).map(|receipted| (beyond, receipted)));
        if known.missing == lacking {
            return Ok(());
        }
        known.missing.clone_from(&lacking);
        let transaction = state.connection.transaction()?;
        put_missing(&transaction, stream, &lacking)?;
        Ok(transaction.commit()?)
    }

    /// Home signs with this key. Where that is another one than before, nothing that it gave a receipt for is sure to be
    /// home's any more, before it says so again: whether that is so.
    pub fn hear_of(&self, signs_as: Hash) -> Result<bool, ProgressError> {
        let mut state = self.lock();
        let State { connection, streams, signs_as: known, .. } = &mut *state;
        let restored = known.is_some_and(|known| known != signs_as);
        if !restored && known.is_some() {
            return Ok(false);
        }
        let transaction = connection.transaction()?;
        transaction.execute(
            "INSERT INTO home (one, signs_as) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET signs_as = ?1",
            [signs_as.0],
        )?;
        let doubted = streams.iter().filter(|_| restored).filter_map(|(stream, known)| Some((*stream, known.receipted?)));
        let doubted: Vec<(StreamId, u64)> = doubted.collect();
        for (stream, receipted) in &doubted {
            put_missing(&transaction, *stream, &[(0, *receipted)])?;
        }
        transaction.execute("DELETE FROM kept WHERE ?1", [restored])?;
        transaction.commit()?;
        // From here on a crash recovers to a relay that asks home for all of these.
        *known = Some(signs_as);
        for (stream, receipted) in doubted {
            let known = streams.entry(stream).or_default();
            (known.missing, known.head) = (vec![(0, receipted)], None);
        }
        drop(state);
        if restored {
            self.doubts.send_modify(|doubts| *doubts += 1);
        }
        Ok(restored)
    }

    /// Changes whenever home was found to be an older copy of itself.
    pub fn doubts(&self) -> watch::Receiver<u64> {
        self.doubts.subscribe()
    }

    /// Home keeps it as evidence of a fork, or has committed it.
    pub fn keep(&self, stream: StreamId, hash: Hash) -> Result<(), ProgressError> {
        let state = self.lock();
        let mut insert = state.connection.prepare_cached("INSERT OR IGNORE INTO kept (stream, hash) VALUES (?1, ?2)")?;
        insert.execute(params![stream.as_bytes(), hash.0])?;
        Ok(())
    }

    /// Whether home keeps it as evidence.
    pub fn is_kept(&self, stream: StreamId, hash: Hash) -> Result<bool, ProgressError> {
        let state = self.lock();
        let mut select = state.connection.prepare_cached("SELECT 1 FROM kept WHERE stream = ?1 AND hash = ?2")?;
        Ok(select.exists(params![stream.as_bytes(), hash.0])?)
    }

    /// Everything before this index of the relay's ledger is home's.
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    pub fn pass(&self, index: u64) -> Result<(), ProgressError> {
        let mut state = self.lock();
        state
            .connection
            .prepare_cached(
                "INSERT INTO passed (one, ledger_index) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET ledger_index = ?1",
            )?
            .execute([index.cast_signed()])?;
        state.passed = index;
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_streams(connection: &Connection) -> Result<HashMap<StreamId, Standing>, ProgressError> {
    let mut streams: HashMap<StreamId, Standing> = HashMap::new();
    let mut select = connection.prepare("SELECT stream, k FROM receipts")?;
    let rows = select.query_map([], |row| Ok((StreamId::from_bytes(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned())))?;
    for row in rows {
        let (stream, k) = row?;
        streams.entry(stream).or_default().receipted = Some(k);
    }
    let mut select = connection.prepare("SELECT stream, first_k, last_k FROM missing ORDER BY stream, first_k")?;
    let rows = select.query_map([], |row| {
        let range = (row.get::<_, i64>(1)?.cast_unsigned(), row.get::<_, i64>(2)?.cast_unsigned());
        Ok((StreamId::from_bytes(row.get(0)?), range))
    })?;
    for row in rows {
        let (stream, range) = row?;
        streams.entry(stream).or_default().missing.push(range);
    }
    Ok(streams)
}

fn newest_receipt(connection: &Connection) -> Result<Option<Receipt>, ProgressError> {
    let mut select = connection.prepare_cached("SELECT receipt FROM receipts")?;
    let mut rows = select.query([])?;
    let mut newest: Option<Receipt> = None;
    while let Some(row) = rows.next()? {
        let receipt = Receipt::decode(&row.get::<_, Vec<u8>>(0)?).map_err(|_| ProgressError::Damaged)?;
        let age = |receipt: &Receipt| (receipt.t_received, receipt.ledger_index);
        if newest.as_ref().is_none_or(|newest| age(&receipt) > age(newest)) {
            newest = Some(receipt);
        }
    }
    Ok(newest)
}

fn last_receipt(connection: &Connection) -> Result<Option<u64>, ProgressError> {
    Ok(newest_receipt(connection)?.map(|receipt| receipt.t_received))
}

fn put_missing(connection: &Connection, stream: StreamId, missing: &[(u64, u64)]) -> Result<(), ProgressError> {
    connection.prepare_cached("DELETE FROM missing WHERE stream = ?1")?.execute([stream.as_bytes()])?;
    for (first, last) in missing {
        let mut insert = connection.prepare_cached("INSERT INTO missing (stream, first_k, last_k) VALUES (?1, ?2, ?3)")?;
        insert.execute(params![stream.as_bytes(), first.cast_signed(), last.cast_signed()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::chain::ReceiptSigner;

    use super::*;

    #[test]
    fn a_receipt_covers_everything_before_it_but_what_home_lacks_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let stream = StreamId::from_bytes([1; 16]);
        let receipt = |k| ReceiptSigner::from_seed(&[1; 32]).sign(stream, k, Hash::ZERO, k, 1);
        let progress = Progress::open(&Medium::real(), directory.path()).unwrap();
        assert!(!progress.standing(stream).covers(0));
        progress.store(&receipt(9)).unwrap();
        progress.store(&receipt(4)).unwrap();
        progress.note(stream, Some(9), &[(3, 5)], false).unwrap();
        progress.pass(3).unwrap();
        for progress in [Progress::open(&Medium::real(), directory.path()).unwrap(), progress] {
            let standing = progress.standing(stream);
            let covered: Vec<u64> = (0..12).filter(|k| standing.covers(*k)).collect();
            assert_eq!(covered, [0, 1, 2, 6, 7, 8, 9]);
            assert_eq!((progress.receipt(stream).unwrap(), progress.passed()), (Some(receipt(9)), 3));
        }
    }

    #[test]
    fn a_home_with_another_key_has_nothing_until_it_says_what() {
        let directory = tempfile::tempdir().unwrap();
        let (stream, other) = (StreamId::from_bytes([1; 16]), StreamId::from_bytes([2; 16]));
        let receipt = |stream, k, index| ReceiptSigner::from_seed(&[1; 32]).sign(stream, k, Hash::ZERO, index, index);
        let progress = Progress::open(&Medium::real(), directory.path()).unwrap();
        assert!(!progress.hear_of(Hash([1; 32])).unwrap(), "the first key is no other");
        progress.store(&receipt(stream, 9, 20)).unwrap();
        progress.store(&receipt(other, 3, 30)).unwrap();
        assert_eq!(progress.newest_receipt().unwrap(), Some(receipt(other, 3, 30)));
        assert!(!progress.hear_of(Hash([1; 32])).unwrap());
        assert!(progress.hear_of(Hash([2; 32])).unwrap());
        for progress in [&Progress::open(&Medium::real(), directory.path()).unwrap(), &progress] {
            assert!(!(0..12).any(|k| progress.standing(stream).covers(k)));
        }
        progress.note(stream, Some(6), &[], false).unwrap();
        let covered: Vec<u64> = (0..12).filter(|k| progress.standing(stream).covers(*k)).collect();
        assert_eq!(covered, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(progress.standing(stream).missing, [(7, 9)]);
        progress.note(stream, Some(9), &[], false).unwrap();
        assert!(progress.standing(stream).covers(9));
        progress.note(other, None, &[], false).unwrap();
        assert_eq!(progress.standing(other).missing, [(0, 3)]);
    }
}
