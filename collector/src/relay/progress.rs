//! `relay.sqlite`: what home has given its receipt for, and what it says that it lacks.
//!
//! A batch is home's once a receipt of home's covers it and home does not name it as missing: no receipt for a later batch
//! stands for what is missing. Only then may its body go. Forgetting all of this would lose nothing: home says it again at
//! the next resume.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use edgetrail_disk::Medium;
use edgetrail_disk::database::{self, DatabaseError, Tuning};
use edgetrail_proto::chain::Receipt;
use edgetrail_proto::identity::StreamId;
use rusqlite::{Connection, OptionalExtension, params};

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
pub struct Progress(Mutex<State>);

#[derive(Debug)]
struct State {
    connection: Connection,
    streams: HashMap<StreamId, Standing>,
    passed: u64,
}

/// One stream, as home stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The greatest batch with home's receipt.
    pub receipted: Option<u64>,
    /// First and last of each range that home lacks below its head.
    pub missing: Vec<(u64, u64)>,
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
        let mut streams: HashMap<StreamId, Standing> = HashMap::new();
        let mut select = connection.prepare("SELECT stream, k FROM receipts")?;
        let rows = select.query_map([], |row| Ok((StreamId::from_bytes(row.get(0)?), row.get::<_, i64>(1)?.cast_unsigned())))?;
        for row in rows {
            let (stream, k) = row?;
            streams.entry(stream).or_default().receipted = Some(k);
        }
        drop(select);
        let mut select = connection.prepare("SELECT stream, first_k, last_k FROM missing ORDER BY stream, first_k")?;
        let rows = select.query_map([], |row| {
            let range = (row.get::<_, i64>(1)?.cast_unsigned(), row.get::<_, i64>(2)?.cast_unsigned());
            Ok((StreamId::from_bytes(row.get(0)?), range))
        })?;
        for row in rows {
            let (stream, range) = row?;
            streams.entry(stream).or_default().missing.push(range);
        }
        drop(select);
        let passed: Option<i64> = connection.query_row("SELECT ledger_index FROM passed", [], |row| row.get(0)).optional()?;
        let passed = passed.unwrap_or(0).cast_unsigned();
        Ok(Self(Mutex::new(State { connection, streams, passed })))
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
        if state.streams.get(&receipt.stream).and_then(|known| known.receipted).is_some_and(|known| known >= receipt.k) {
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
        state.streams.entry(receipt.stream).or_default().receipted = Some(receipt.k);
        Ok(())
    }

    /// What home says at a resume that it lacks of the stream below its head.
    pub fn note(&self, stream: StreamId, missing: &[(u64, u64)], frozen: bool) -> Result<(), ProgressError> {
        let mut state = self.lock();
        let known = state.streams.entry(stream).or_default();
        known.frozen = frozen;
        if known.missing == missing {
            return Ok(());
        }
        missing.clone_into(&mut known.missing);
        let transaction = state.connection.transaction()?;
        transaction.prepare_cached("DELETE FROM missing WHERE stream = ?1")?.execute([stream.as_bytes()])?;
        for (first, last) in missing {
            let mut insert = transaction.prepare_cached("INSERT INTO missing (stream, first_k, last_k) VALUES (?1, ?2, ?3)")?;
            insert.execute(params![stream.as_bytes(), first.cast_signed(), last.cast_signed()])?;
        }
        Ok(transaction.commit()?)
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::chain::{Hash, ReceiptSigner};

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
        progress.note(stream, &[(3, 5)], false).unwrap();
        progress.pass(3).unwrap();
        for progress in [Progress::open(&Medium::real(), directory.path()).unwrap(), progress] {
            let standing = progress.standing(stream);
            let covered: Vec<u64> = (0..12).filter(|k| standing.covers(*k)).collect();
            assert_eq!(covered, [0, 1, 2, 6, 7, 8, 9]);
            assert_eq!((progress.receipt(stream).unwrap(), progress.passed()), (Some(receipt(9)), 3));
        }
    }
}
