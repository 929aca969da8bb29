//! The agent's durable store: commits, chain, key file.
//!
//! What it promises:
//! - A record whose commit returned is in the stream exactly once, across kills and power cuts (ARCHITECTURE, G1). Records,
//!   cursors and counters move in one transaction.
//! - Nothing of batch k leaves the host before k's database commit and the key file's next slot are durable (docs/protocol.md §3.5).
//! - Rows go only against a receipt for a head in this buffer's own chain.
//! - A damaged buffer or key file never stops capture: it becomes a gap and a successor stream. What was put aside,
//!   [`repair`] brings back.
//!
//! In the order of a record's way: an [`Addition`] goes over a bounded channel to the [`writer`] thread, which groups
//! additions into commits; the [`scribe`] commits, seals and releases, synchronously and with time as an argument;
//! [`store`] holds the rows, the disk crate's key file the ratchet. [`recovery`] and [`succession`] are what a start, a rollback or a
//! damage asks for; [`open`] signs what begins a stream. The [`outbox`] is what the uplink sees.

mod addition;
mod ballast;
mod check;
mod export;
mod open;
mod outbox;
mod recovery;
mod repair;
mod salvage;
mod scribe;
mod space;
mod status;
mod store;
mod succession;
mod tally;
#[cfg(test)]
pub(crate) mod tests;
mod unsealed;
mod writer;

pub use addition::{Addition, Caller, Counted};
pub use check::{Checked, check};
pub use edgetrail_disk::KeyFileError;
pub use export::{export, export_file};
pub use open::{Opener, OpenerError};
pub use outbox::Shelf;
pub use repair::{Repaired, repair};
pub use status::{Status, status};
pub use store::{BUFFER_FILE, StoreError};
pub(crate) use writer::RETRY_AFTER_S;
pub use writer::{Buffer, BufferTask, Limits, Room};

use std::path::Path;

use edgetrail_disk::Medium;

/// The key file's name in the state directory.
pub const KEY_FILE: &str = "ratchet.key";

/// Why the buffer can't do what it should. `Display` says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    #[error(transparent)]
    Opener(#[from] OpenerError),
    #[error("the buffer's writer has stopped")]
    Stopped,
    #[error("an agent uses this state directory and is not reached on its control socket: stop it, then repair again")]
    Running,
    #[error("the buffer has no room: let it drain, free space on its disk or raise buffer.max_bytes, then repair again")]
    NoRoom,
    #[cfg(test)]
    #[error("a test stopped the writer {0}")]
    Injected(&'static str),
}

impl BufferError {
    /// Whether the database's content is at fault: the same file would fail again and again.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_damage())
    }

    fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_disk_full(),
            Self::KeyFile(KeyFileError::Io { source, .. }) => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for BufferError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Leaves an empty buffer where none is: by this a first start is told from a lost buffer (docs/protocol.md §3.5, the last row).
/// Join calls it before it writes the identity.
pub fn prepare(medium: &Medium, dir: &Path) -> Result<(), BufferError> {
    store::Store::open(medium, dir)?;
    Ok(())
}
