//! The file behind [`super::Control`]: its schema, its mode, and the pragmas that make it safe to share.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use edgetrail_disk::Medium;
use edgetrail_disk::database::{self, DatabaseError, Tuning};
use rusqlite::{Connection, TransactionBehavior};

use super::ControlError;

/// How long somebody else may be at the file; each takes milliseconds.
const OTHERS_TIME_MAX: Duration = Duration::from_secs(10);
const OTHERS_PAUSE: Duration = Duration::from_millis(50);

/// Bumped when the tables change; a file of a later version is refused.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// Before there were principals, every key might do everything in its account: it still may.
const PRINCIPALS: &str = r#"
CREATE TABLE principals (                  -- policies: a JSON array
  account TEXT NOT NULL, name TEXT NOT NULL, policies TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (account, name)
) STRICT;
INSERT INTO principals (account, name, policies, created)
  SELECT account, name, '[{"managed":"Administrator"}]', min(created) FROM access_keys GROUP BY account, name;
"#;

/// Times are Unix nanoseconds; scopes are JSON arrays of [account, region].
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS access_keys (
  id TEXT PRIMARY KEY, secret TEXT NOT NULL, account TEXT NOT NULL, name TEXT NOT NULL, created INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
  id TEXT PRIMARY KEY, hash TEXT NOT NULL, uses_left INTEGER NOT NULL, expires INTEGER NOT NULL,
  scopes TEXT NOT NULL, gateway INTEGER NOT NULL, created INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS agents (
  id BLOB PRIMARY KEY, host TEXT NOT NULL, version TEXT NOT NULL, scopes TEXT NOT NULL, gateway INTEGER NOT NULL,
  certificate_serial TEXT NOT NULL, certificate_expires INTEGER NOT NULL,
  joined INTEGER NOT NULL, revoked INTEGER, last_seen INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS relay_tokens (  -- of `tokens`, those with which a relay joins
  id TEXT PRIMARY KEY, relay TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS relays (        -- names: a JSON array of DNS names and addresses
  name TEXT PRIMARY KEY, names TEXT NOT NULL, version TEXT NOT NULL,
  certificate_serial TEXT NOT NULL, certificate_expires INTEGER NOT NULL,
  joined INTEGER NOT NULL, revoked INTEGER, forgotten INTEGER, last_seen INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS relay_standings (  -- as each says of itself, and since when it is connected
  name TEXT PRIMARY KEY, connected INTEGER, owing INTEGER, waiting INTEGER, last_receipt INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS relay_keys (    -- receipt keys, kept for ever: receipts are checked long after
  public_key BLOB PRIMARY KEY, relay TEXT NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS acts (          -- what operators did by commands and the internal stream does not hold yet
  id INTEGER PRIMARY KEY AUTOINCREMENT, position TEXT NOT NULL, time INTEGER NOT NULL, operator TEXT NOT NULL,
  name TEXT NOT NULL, parameters TEXT NOT NULL, error TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS trails (arn TEXT PRIMARY KEY, name TEXT NOT NULL, config TEXT NOT NULL) STRICT;
";

pub(super) fn open(path: &Path) -> Result<Connection, ControlError> {
    let file_error = |source| ControlError::File { path: path.display().to_string(), source };
    // Made before SQLite does, so that no moment exists in which others can read it. SQLite gives its WAL the same mode.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file_error)?;
    let mode = file.metadata().map_err(file_error)?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(file_error)?;
    }
    drop(file);

    let mut connection = open_beside_others(path)?;
    // Of two that find an old file at once, the second one waits and finds it new.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(SCHEMA)?;
    match transaction.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => {
            transaction.execute_batch(PRINCIPALS)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        found => return Err(ControlError::Schema { found }),
    }
    transaction.commit()?;
    Ok(connection)
}

/// Commands and a running collector open the file at the same time: whoever finds the other at it tries again.
fn open_beside_others(path: &Path) -> Result<Connection, ControlError> {
    let deadline = Instant::now() + OTHERS_TIME_MAX;
    loop {
        match database::open_writer(&Medium::real(), path, &Tuning::default()) {
            Err(DatabaseError::Busy { .. }) if Instant::now() < deadline => std::thread::sleep(OTHERS_PAUSE),
            opened => return Ok(opened?),
        }
    }
}

/// Changes whenever another connection has committed.
pub(super) fn data_version(connection: &Connection) -> Result<i64, ControlError> {
    Ok(connection.query_row("PRAGMA data_version", [], |row| row.get(0))?)
}
