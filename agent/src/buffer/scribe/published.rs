//! Up to where the key file covers the database: nothing beyond it leaves the host.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Up to where the key file covers the database: nothing beyond it leaves the host.
#[derive(Debug)]
pub(in crate::buffer) struct Published {
    position: Mutex<Position>,
    changes: watch::Sender<u64>,
    /// A repair brought a stream that the session under way has not named.
    older: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::buffer) struct Position {
    /// The newest stream whose open may be shown.
    pub(in crate::buffer) ordinal: i64,
    /// Its batches below this may be sent.
    pub(in crate::buffer) next_k: u64,
    /// How often the database's file was replaced: a reader of an older one opens the new one.
    pub(in crate::buffer) file: u64,
}

impl Published {
    pub(in crate::buffer) fn new() -> Self {
        Self { position: Mutex::default(), changes: watch::Sender::new(0), older: AtomicBool::new(false) }
    }

    pub(in crate::buffer) fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows batches of a stream below `next_k`.
    pub(in crate::buffer) fn set(&self, ordinal: i64, next_k: u64) {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        (position.ordinal, position.next_k) = (ordinal, next_k);
        drop(position);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Another file is in the database's place: nothing of it may leave yet.
    pub(in crate::buffer) fn replaced(&self) {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        *position = Position { file: position.file + 1, ..Position::default() };
    }

    /// A stream from before the current one came: it is named at the next resume.
    pub(in crate::buffer) fn older_came(&self) {
        self.older.store(true, Ordering::Release);
        self.changes.send_modify(|version| *version += 1);
    }

    /// Whether one came since this was asked last.
    pub(in crate::buffer) fn take_older(&self) -> bool {
        self.older.swap(false, Ordering::AcqRel)
    }

    pub(in crate::buffer) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
