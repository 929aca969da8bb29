//! SQLite as every store of Edgetrail opens it.
//!
//! One writing connection per file; readers beside it. WAL with `synchronous=FULL`: what a COMMIT returned for survives a
//! power cut. After an fsync that failed, what a COMMIT wrote may lie in the page cache alone, whole to every reader and
//! gone with the power: so each start folds the log into the database, which writes and syncs every page of it again,
//! before anything is believed. `mmap_size=0`: a memory map turns a disk's error into a dead process. Versions before 3.51.3 may corrupt a
//! WAL that is reset while it is read and are refused.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::medium::{Access, Medium};

/// Oldest SQLite that is safe here: 3.51.3 fixes a WAL reset race.
pub const SQLITE_MIN: i32 = 3_051_003;

/// How long a connection waits for another one's checkpoint.
const BUSY: Duration = Duration::from_secs(10);

/// What a store may choose. The rest is the same for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Of a file that is made now; SQLite's own otherwise, 4096.
    pub page_bytes: Option<u32>,
    /// At most this much of the file in memory, KiB.
    pub cache_kib: Option<u32>,
    /// Pages in the log after which a commit folds it in.
    pub checkpoint_pages: Option<u32>,
    /// The log's file is cut to this after it was folded in, bytes.
    pub log_bytes: Option<u64>,
    /// Free pages can be given back to the disk by `PRAGMA incremental_vacuum`. Holds for a file that is made now.
    pub shrinks: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("SQLite {found} may corrupt a log that is reset while it is read: link 3.51.3 or newer, as the bundled one is")]
    Version { found: &'static str },
    #[error("{} can't be created: check the directory's permissions and the disk's free space", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("{} is being read by another process that does not end: stop it first", path.display())]
    Busy { path: PathBuf },
    #[error("the database can't be opened")]
    Sqlite(#[from] rusqlite::Error),
}

/// Opens the writing connection; makes the file, with mode 0600, where it is not there.
pub fn open_writer(medium: &Medium, path: &Path, tuning: &Tuning) -> Result<Connection, DatabaseError> {
    if rusqlite::version_number() < SQLITE_MIN {
        return Err(DatabaseError::Version { found: rusqlite::version() });
    }
    let create = |source| DatabaseError::Create { path: path.to_owned(), source };
    // Made before SQLite does, so that no moment exists in which others can read it. SQLite gives its log the same mode.
    drop(medium.open(path, Access::Write).map_err(create)?);
    // SQLite syncs the directory for its log, not for the database: the name must outlive a crash as surely as the rows.
    medium.sync_name(path).map_err(create)?;
    let db = connect(medium, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if let Some(bytes) = tuning.page_bytes {
        db.pragma_update(None, "page_size", bytes)?;
    }
    if tuning.shrinks {
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    if let Some(kib) = tuning.cache_kib {
        // Negative: KiB, not pages.
        db.pragma_update(None, "cache_size", -i64::from(kib))?;
    }
    if let Some(pages) = tuning.checkpoint_pages {
        db.pragma_update(None, "wal_autocheckpoint", pages)?;
    }
    if let Some(bytes) = tuning.log_bytes {
        db.pragma_update(None, "journal_size_limit", i64::try_from(bytes).unwrap_or(i64::MAX))?;
    }
    // From here on what the log held is in the database, durably: an fsync that failed before is made good.
    if fold_log(&db)? { Ok(db) } else { Err(DatabaseError::Busy { path: path.to_owned() }) }
}

/// Moves what the log holds into the database and gives the log's room back to the disk; false while a reader needs it.
pub fn fold_log(db: &Connection) -> Result<bool, rusqlite::Error> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// A connection that reads beside the writing one. It changes no row; the log's index in shared memory it does write.
pub fn open_reader(medium: &Medium, path: &Path) -> Result<Connection, DatabaseError> {
    let db = connect(medium, path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

/// A connection that works for a user who may not write the file.
pub fn open_visitor(medium: &Medium, path: &Path) -> Result<Connection, DatabaseError> {
    connect(medium, path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(medium: &Medium, path: &Path, access: OpenFlags) -> Result<Connection, DatabaseError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match medium.vfs() {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "mmap_size", 0)?;
    Ok(db)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_syncs_every_commit_and_maps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        let tuning = Tuning { page_bytes: Some(8192), shrinks: true, ..Tuning::default() };
        let db = open_writer(&Medium::real(), &path, &tuning).unwrap();
        let one = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!([one("synchronous"), one("mmap_size"), one("page_size"), one("auto_vacuum")], [2, 0, 8192, 2]);
        let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn readers_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sqlite");
        assert!(open_reader(&Medium::real(), &path).is_err(), "a reader makes no file");
        let db = open_writer(&Medium::real(), &path, &Tuning::default()).unwrap();
        db.execute_batch("CREATE TABLE t (a)").unwrap();
        for reader in [open_reader(&Medium::real(), &path).unwrap(), open_visitor(&Medium::real(), &path).unwrap()] {
            assert!(reader.execute("INSERT INTO t VALUES (1)", []).is_err());
        }
    }
}
