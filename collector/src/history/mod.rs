//! Recent events by attribute. Derived from the ledger, rebuildable.
//!
//! A row of SQLite files (`NNNNNNNN.sqlite`) of at most [`FILE_EVENTS_MAX`] events each. Only the last one is written
//! to, and it has no index: its chunks carry the hashes of what they hold and are passed over or decoded. When it
//! closes, those hashes are sorted into one table, so that no event ever pays for a random insert. Retention unlinks
//! whole files. The ledger cursor stands in the open file, in the same transaction as the events: each is here exactly
//! once, across kills. Management events only; quarantined records never.
//!
//! Nobody else opens these files; nothing here writes anything but them.

mod attribute;
mod chunk;
mod consumer;
mod lookup;
mod shelf;
mod store;
mod token;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use attribute::Attribute;
pub use consumer::HistoryTask;
pub use lookup::{Found, Page, Query};
pub use token::TokenError;

use edgetrail_disk::database::DatabaseError;

use crate::ledger::{Ledger, LedgerError};
use shelf::Shelf;
use tokio_util::sync::CancellationToken;

/// A file takes no batch that would bring it above this many events: what one closing has to sort.
pub const FILE_EVENTS_MAX: u64 = 500_000;
/// A file is closed at this age even when it is not full, so that retention can unlink it.
pub const FILE_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// How long events are kept. Source: CloudTrail's event history, 90 days.
pub const RETENTION_DEFAULT: Duration = Duration::from_secs(90 * 24 * 3600);
/// The name under which the ledger knows this consumer.
pub const CONSUMER: &str = "history";

/// A cheap handle for look-ups.
#[derive(Clone, Debug)]
pub struct History {
    shelf: Arc<Shelf>,
}

#[derive(Clone, Debug)]
pub struct HistoryOptions {
    pub dir: PathBuf,
    pub retention: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("cannot use the history file {path}: check the disk; history is rebuilt from the ledger when its folder is removed")]
    File {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error(transparent)]
    Open(#[from] DatabaseError),
    #[error("cannot use the history folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("a chunk of history cannot be compressed or decompressed")]
    Compression(#[source] std::io::Error),
    #[error("a chunk of history is damaged: remove the history folder, it is rebuilt from the ledger")]
    Damaged,
    #[error("a history file was written by a newer version ({0}): run that version, or remove the history folder")]
    Version(u32),
    #[error("history cannot read the ledger")]
    Ledger(#[from] LedgerError),
    #[error("the next token is not one of this look-up")]
    Token(#[from] TokenError),
    #[error("the look-up was stopped")]
    Stopped,
}

impl History {
    /// Opens the row of files and starts following the ledger; the task ends some moments after `stop`.
    pub fn open(options: HistoryOptions, ledger: Ledger, stop: CancellationToken) -> Result<(Self, HistoryTask), HistoryError> {
        let shelf = Arc::new(Shelf::open(&options.dir)?);
        let task = HistoryTask::start(Arc::clone(&shelf), options.retention, ledger, stop)?;
        Ok((Self { shelf }, task))
    }

    /// The newest events that match, at most `query.max`.
    pub async fn lookup(&self, query: Query) -> Result<Page, HistoryError> {
        let shelf = Arc::clone(&self.shelf);
        let search = move || lookup::run(&shelf, &query);
        tokio::task::spawn_blocking(search).await.map_err(|_| HistoryError::Stopped)?
    }
}
