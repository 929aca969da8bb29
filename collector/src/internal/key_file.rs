//! The key file of the internal stream: the ratchet's state between two batches, outside SQLite. docs/protocol.md §3.5.
//!
//! Two slots of 4 KiB. Order of a batch: ledger commit → [`KeyFile::advance`] (other slot, fdatasync; old slot zeroed,
//! fdatasync). A crash between the two leaves the slot of the batch just committed, from which the next one follows.
//! Holds the lock that keeps a second collector off the same state directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use edgetrail_proto::chain::{KEY_SLOT_BYTES, KeySlot, Writer};
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    file: File,
    generation: u64,
    /// Which of the two slots holds the state now.
    at: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("another collector runs on this state directory: stop it first, or give this one a directory of its own")]
    Locked,
    #[error("{} can't be read or written: check its permissions and the disk's free space", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl KeyFile {
    /// Opens or creates the file, locks it and gives the newest whole slot; what else is in it is zeroed.
    pub(super) fn open(path: &Path) -> Result<(Self, Option<KeySlot>), KeyFileError> {
        let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(failed)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_held| KeyFileError::Locked)?;
        if file.metadata().map_err(failed)?.len() != 2 * KEY_SLOT_BYTES as u64 {
            file.set_len(2 * KEY_SLOT_BYTES as u64).and_then(|()| file.sync_all()).map_err(failed)?;
            // The file's name must outlive a crash as surely as the batches that it seals.
            let dir = path.parent().unwrap_or(Path::new("."));
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        let mut newest: Option<(usize, KeySlot)> = None;
        for at in [0, 1] {
            let mut bytes = Zeroizing::new([0; KEY_SLOT_BYTES]);
            file.read_exact_at(bytes.as_mut_slice(), offset(at)).map_err(failed)?;
            let slot = KeySlot::decode(bytes.as_slice());
            if let Some(slot) = slot.filter(|slot| newest.as_ref().is_none_or(|(_, other)| slot.generation > other.generation)) {
                newest = Some((at, slot));
            }
        }
        let (at, generation) = newest.as_ref().map_or((1, 0), |(at, slot)| (*at, slot.generation));
        let key_file = Self { path: path.to_owned(), file, generation, at };
        key_file.put(1 - at, &[0; KEY_SLOT_BYTES])?;
        Ok((key_file, newest.map(|(_, slot)| slot)))
    }

    /// Makes `writer`'s state durable, then erases the one before.
    pub(super) fn advance(&mut self, writer: &Writer) -> Result<(), KeyFileError> {
        let slot = KeySlot {
            generation: self.generation.saturating_add(1),
            stream: writer.stream(),
            next_k: writer.next_k(),
            head: writer.head(),
            seed: writer.ratchet().seed().clone(),
        };
        let (old, new) = (self.at, 1 - self.at);
        self.put(new, slot.encode().as_slice())?;
        // From here on a crash recovers to the new state.
        (self.generation, self.at) = (slot.generation, new);
        self.put(old, &[0; KEY_SLOT_BYTES])
    }

    fn put(&self, at: usize, bytes: &[u8]) -> Result<(), KeyFileError> {
        let written = self.file.write_all_at(bytes, offset(at)).and_then(|()| self.file.sync_data());
        written.map_err(|source| KeyFileError::Io { path: self.path.clone(), source })
    }
}

/// `at` is 0 or 1.
fn offset(at: usize) -> u64 {
    if at == 0 { 0 } else { KEY_SLOT_BYTES as u64 }
}
