//! delivery.sqlite: what trails have planned, and how far delivery has come.
//!
//! One file for all trails, one writer connection, every transaction synced before it counts. A plan (log files,
//! digests and their proofs, and the trail's own state after them) is one transaction: after a crash all of it is
//! there, or none of it, and nothing of it has been sent before.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use edgetrail_disk::database::{self, DatabaseError, Tuning};
use edgetrail_disk::{Medium, crash_point};
use edgetrail_proto::chain::Hash;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::plan::{LaneState, NO_DIGEST, ObjectKind, Plan, PlannedObject, PublicDigestKey, TrailState};

/// Bumped when the tables change; a file of a later version is refused.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE trails (
  arn TEXT PRIMARY KEY, logging INTEGER NOT NULL, from_index INTEGER NOT NULL, window_start INTEGER NOT NULL,
  counter INTEGER NOT NULL, started INTEGER, stopped INTEGER) STRICT;
CREATE TABLE lanes (
  id INTEGER PRIMARY KEY, trail TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, active INTEGER NOT NULL,
  planned_to INTEGER NOT NULL, previous TEXT, UNIQUE (trail, account, region)) STRICT;
CREATE TABLE objects (
  id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, kind INTEGER NOT NULL, bucket TEXT NOT NULL,
  key TEXT NOT NULL UNIQUE, from_index INTEGER NOT NULL, to_index INTEGER NOT NULL, planned INTEGER NOT NULL,
  sha256 BLOB NOT NULL, records INTEGER NOT NULL, oldest INTEGER NOT NULL, newest INTEGER NOT NULL,
  window_end INTEGER, meta TEXT NOT NULL, body BLOB, delivered INTEGER) STRICT;
CREATE INDEX undelivered ON objects (lane, id) WHERE delivered IS NULL;
CREATE INDEX undigested ON objects (lane, id) WHERE kind = 0 AND window_end IS NULL;
CREATE TABLE digest_keys (
  fingerprint TEXT PRIMARY KEY, region TEXT NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL,
  der BLOB NOT NULL) STRICT;
";

/// The one connection.
#[derive(Debug)]
pub(super) struct Store(Mutex<Connection>);

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Open(#[from] DatabaseError),
    #[error("delivery.sqlite has version {found}, this program knows {SCHEMA_VERSION}: start the newer program")]
    Schema { found: i64 },
    #[error("delivery.sqlite could not be read or written: check the disk and the permissions of the state directory")]
    Sqlite(#[from] rusqlite::Error),
    #[error("delivery.sqlite holds a row that this program did not write: {0}")]
    Row(&'static str),
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = database::open_writer(&Medium::real(), path, &Tuning::default())?;
        let transaction = connection.transaction()?;
        match transaction.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))? {
            0 => {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            SCHEMA_VERSION => {}
            found => return Err(StoreError::Schema { found }),
        }
        transaction.commit()?;
        Ok(Self(Mutex::new(connection)))
    }

    pub(super) fn trail(&self, arn: &str) -> Result<Option<TrailState>, StoreError> {
        let sql = "SELECT logging, from_index, window_start, counter, started, stopped FROM trails WHERE arn = ?1";
        let row = |row: &Row<'_>| {
            Ok(TrailState {
                logging: row.get(0)?,
                from_index: unsigned(row, 1)?,
                window_start: unsigned(row, 2)?,
                counter: unsigned(row, 3)?,
                started: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
                stopped: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
            })
        };
        Ok(self.connection().prepare_cached(sql)?.query_row([arn], row).optional()?)
    }

    /// Whether no trail was ever planned for.
    pub(super) fn is_new(&self) -> Result<bool, StoreError> {
        let sql = "SELECT NOT EXISTS (SELECT 1 FROM trails)";
        Ok(self.connection().query_row(sql, [], |row| row.get(0))?)
    }

    pub(super) fn lanes(&self, arn: &str) -> Result<Vec<LaneState>, StoreError> {
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached("SELECT id, account, region, active, planned_to, previous FROM lanes WHERE trail = ?1 ORDER BY id")?;
        let mut rows = statement.query([arn])?;
        let mut lanes = Vec::new();
        while let Some(row) = rows.next()? {
            let previous: Option<String> = row.get(5)?;
            let previous = previous.map(|text| serde_json::from_str(&text)).transpose();
            lanes.push(LaneState {
                id: row.get(0)?,
                account: row.get(1)?,
                region: row.get(2)?,
                active: row.get(3)?,
                planned_to: unsigned(row, 4)?,
                previous: previous.map_err(|_| StoreError::Row("lanes.previous"))?,
            });
        }
        Ok(lanes)
    }

    /// A lane's row for an account and region that is new to the trail, or was seen before logging last stopped.
    pub(super) fn lane(&self, arn: &str, account: &str, region: &str) -> Result<i64, StoreError> {
        let sql = "INSERT INTO lanes (trail, account, region, active, planned_to) VALUES (?1, ?2, ?3, 0, 0)
                   ON CONFLICT (trail, account, region) DO UPDATE SET active = active RETURNING id";
        Ok(self.connection().prepare_cached(sql)?.query_row([arn, account, region], |row| row.get(0))?)
    }

    /// Commits a plan and returns its objects with their ids.
    pub(super) fn commit(&self, arn: &str, mut plan: Plan) -> Result<Vec<PlannedObject>, StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        for object in &mut plan.objects {
            insert_object(&transaction, object)?;
        }
        for lane in &plan.lanes {
            let previous = lane.previous.as_ref().map(serde_json::to_string).transpose();
            let previous = previous.map_err(|_| StoreError::Row("lanes.previous"))?;
            transaction
                .prepare_cached("UPDATE lanes SET active = ?2, planned_to = ?3, previous = ?4 WHERE id = ?1")?
                .execute(params![lane.id, lane.active, lane.planned_to.cast_signed(), previous])?;
        }
        if let Some((lanes, window_end)) = &plan.digested {
            let sql = "UPDATE objects SET window_end = ?2 WHERE lane = ?1 AND kind = 0 AND window_end IS NULL";
            for lane in lanes {
                transaction.prepare_cached(sql)?.execute(params![lane, window_end.cast_signed()])?;
            }
        }
        if let Some(state) = &plan.state {
            transaction.prepare_cached("INSERT OR REPLACE INTO trails VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
                arn,
                state.logging,
                state.from_index.cast_signed(),
                state.window_start.cast_signed(),
                state.counter.cast_signed(),
                state.started.map(u64::cast_signed),
                state.stopped.map(u64::cast_signed)
            ])?;
        }
        crash_point("collector/plan-before-commit");
        transaction.commit()?;
        // From here on a crash recovers to this plan: the same keys, the same bytes, the same signatures.
        crash_point("collector/plan-committed");
        Ok(plan.objects)
    }

    /// Log files of a lane that no digest lists yet, in plan order.
    pub(super) fn undigested(&self, lane: i64) -> Result<Vec<PlannedObject>, StoreError> {
        self.objects("lane = ?1 AND kind = 0 AND window_end IS NULL ORDER BY id", lane)
    }

    /// Lanes of a trail with something to deliver.
    pub(super) fn undelivered_lanes(&self, arn: &str) -> Result<Vec<i64>, StoreError> {
        let sql = "SELECT id FROM lanes l WHERE trail = ?1
                   AND EXISTS (SELECT 1 FROM objects o WHERE o.lane = l.id AND o.delivered IS NULL)";
        let connection = self.connection();
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_map([arn], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// Account and region of a lane.
    pub(super) fn lane_place(&self, lane: i64) -> Result<(String, String), StoreError> {
        let sql = "SELECT account, region FROM lanes WHERE id = ?1";
        Ok(self.connection().prepare_cached(sql)?.query_row([lane], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// The object that a lane has to deliver next.
    pub(super) fn next_undelivered(&self, lane: i64) -> Result<Option<PlannedObject>, StoreError> {
        Ok(self.objects("lane = ?1 AND delivered IS NULL ORDER BY id LIMIT 1", lane)?.pop())
    }

    /// The least ledger_index that an undelivered log file of the trail still needs.
    pub(super) fn needed_from(&self, arn: &str) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT min(o.from_index) FROM objects o JOIN lanes l ON l.id = o.lane
                   WHERE l.trail = ?1 AND o.kind = 0 AND o.delivered IS NULL";
        let least: Option<i64> = self.connection().prepare_cached(sql)?.query_row([arn], |row| row.get(0))?;
        Ok(least.map(i64::cast_unsigned))
    }

    /// The object lies in its sink. What a digest lists, and the digest before it, are forgotten with its delivery; the
    /// proof stays, as the lane's last delivery that was no digest. What no digest will list is forgotten at once.
    pub(super) fn delivered(&self, object: &PlannedObject, time: u64) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction()?;
        transaction
            .prepare_cached("UPDATE objects SET delivered = ?2, body = NULL WHERE id = ?1")?
            .execute(params![object.id, time.cast_signed()])?;
        if object.kind == ObjectKind::Digest {
            let sql = "DELETE FROM objects WHERE lane = ?1 AND id < ?2 AND NOT (kind = 1 AND window_end = ?3)";
            let window_end = object.window_end.map(u64::cast_signed);
            transaction.prepare_cached(sql)?.execute(params![object.lane, object.id, window_end])?;
        } else if object.window_end == Some(NO_DIGEST) {
            let sql = "DELETE FROM objects WHERE lane = ?1 AND id < ?2 AND window_end = ?3";
            transaction.prepare_cached(sql)?.execute(params![object.lane, object.id, NO_DIGEST.cast_signed()])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Time of the last delivery of a kind, Unix nanoseconds.
    pub(super) fn last_delivery(&self, arn: &str, digest: bool) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT max(o.delivered) FROM objects o JOIN lanes l ON l.id = o.lane WHERE l.trail = ?1 AND (o.kind = 2) = ?2";
        let last: Option<i64> = self.connection().prepare_cached(sql)?.query_row(params![arn, digest], |row| row.get(0))?;
        Ok(last.map(i64::cast_unsigned))
    }

    pub(super) fn insert_key(&self, key: &PublicDigestKey) -> Result<(), StoreError> {
        self.connection().prepare_cached("INSERT OR IGNORE INTO digest_keys VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            key.fingerprint,
            key.region,
            key.not_before.cast_signed(),
            key.not_after.cast_signed(),
            key.der_pkcs1
        ])?;
        Ok(())
    }

    /// Keys whose validity overlaps `[start, end]`, Unix seconds, oldest first.
    pub(super) fn public_keys(&self, region: Option<&str>, start: u64, end: u64) -> Result<Vec<PublicDigestKey>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(
            "SELECT region, der, fingerprint, not_before, not_after FROM digest_keys
             WHERE not_after > ?1 AND not_before <= ?2 AND (?3 IS NULL OR region = ?3) ORDER BY not_before, region, fingerprint",
        )?;
        let row = |row: &Row<'_>| {
            Ok(PublicDigestKey {
                region: row.get(0)?,
                der_pkcs1: row.get(1)?,
                fingerprint: row.get(2)?,
                not_before: unsigned(row, 3)?,
                not_after: unsigned(row, 4)?,
            })
        };
        let (start, end) = (i64::try_from(start).unwrap_or(i64::MAX), i64::try_from(end).unwrap_or(i64::MAX));
        Ok(statement.query_map(params![start, end, region], row)?.collect::<Result<_, _>>()?)
    }

    fn objects(&self, condition: &str, lane: i64) -> Result<Vec<PlannedObject>, StoreError> {
        let connection = self.connection();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT id, lane, kind, bucket, key, from_index, to_index, planned, sha256, records, oldest, newest, window_end,
                    meta, body FROM objects WHERE {condition}"
        ))?;
        let mut rows = statement.query([lane])?;
        let mut objects = Vec::new();
        while let Some(row) = rows.next()? {
            objects.push(object(row)?);
        }
        Ok(objects)
    }

    /// A panic elsewhere leaves no transaction open: it was rolled back when its guard was dropped.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// u64 values are stored as the i64 of the same bits.
fn unsigned(row: &Row<'_>, column: usize) -> Result<u64, rusqlite::Error> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn insert_object(transaction: &Transaction<'_>, object: &mut PlannedObject) -> Result<(), StoreError> {
    let meta = serde_json::to_string(&object.meta).map_err(|_| StoreError::Row("objects.meta"))?;
    transaction
        .prepare_cached(
            "INSERT INTO objects (lane, kind, bucket, key, from_index, to_index, planned, sha256, records, oldest, newest,
             window_end, meta, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            object.lane,
            object.kind as i64,
            object.bucket,
            object.key,
            object.from_index.cast_signed(),
            object.to_index.cast_signed(),
            object.planned.cast_signed(),
            object.sha256.0,
            object.records.cast_signed(),
            object.oldest.cast_signed(),
            object.newest.cast_signed(),
            object.window_end.map(u64::cast_signed),
            meta,
            object.body.as_deref()
        ])?;
    object.id = transaction.last_insert_rowid();
    Ok(())
}

fn object(row: &Row<'_>) -> Result<PlannedObject, StoreError> {
    let kind = match row.get::<_, i64>(2)? {
        0 => ObjectKind::Log,
        1 => ObjectKind::Proof,
        2 => ObjectKind::Digest,
        _ => return Err(StoreError::Row("objects.kind")),
    };
    let meta: String = row.get(13)?;
    let body: Option<Vec<u8>> = row.get(14)?;
    Ok(PlannedObject {
        id: row.get(0)?,
        lane: row.get(1)?,
        kind,
        bucket: row.get(3)?,
        key: row.get(4)?,
        from_index: unsigned(row, 5)?,
        to_index: unsigned(row, 6)?,
        planned: unsigned(row, 7)?,
        sha256: Hash(row.get(8)?),
        records: unsigned(row, 9)?,
        oldest: unsigned(row, 10)?,
        newest: unsigned(row, 11)?,
        window_end: row.get::<_, Option<i64>>(12)?.map(i64::cast_unsigned),
        meta: serde_json::from_str(&meta).map_err(|_| StoreError::Row("objects.meta"))?,
        body: body.map(Bytes::from),
    })
}
