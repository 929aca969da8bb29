//! The key file: the ratchet's state between two batches, outside SQLite, whose WAL and free pages keep old images.
//!
//! Two slots of 4 KiB. Order of a batch k: database commit → [`KeyFile::write`] (other slot, fdatasync) → only now may
//! anything of k leave the host → [`KeyFile::erase_old`] (old slot zeroed, fdatasync). docs/protocol.md §3.5.
//! Holds the lock that keeps a second agent off the same state directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use edgetrail_proto::chain::{Hash, KEY_SLOT_BYTES, KeySlot, Ratchet};
use edgetrail_proto::identity::StreamId;
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

/// The file's name in the state directory.
pub const KEY_FILE: &str = "ratchet.key";

#[derive(Debug)]
pub(super) struct KeyFile {
    file: File,
    generation: u64,
    /// The slot that holds the state now.
    at: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Second,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("another agent runs on this state directory: stop it first")]
    Locked,
    #[error("the key file can't be {doing}: check the state directory's permissions and free space")]
    Io {
        doing: &'static str,
        #[source]
        cause: io::Error,
    },
}

impl Place {
    const fn offset(self) -> u64 {
        match self {
            Self::First => 0,
            Self::Second => KEY_SLOT_BYTES as u64,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

impl KeyFile {
    /// Opens or creates the file, locks it, and gives the newest whole slot. Of two, the older is zeroed; so is a broken one.
    pub(super) fn open(dir: &Path) -> Result<(Self, Option<KeySlot>), KeyFileError> {
        let io = |doing| move |cause| KeyFileError::Io { doing, cause };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(KEY_FILE))
            .map_err(io("opened"))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| KeyFileError::Locked)?;
        let empty = file.metadata().map_err(io("read"))?.len() < 2 * KEY_SLOT_BYTES as u64;
        if empty {
            file.set_len(2 * KEY_SLOT_BYTES as u64).map_err(io("extended"))?;
            file.sync_all().map_err(io("synced"))?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("synced"))?;
        }
        let mut key_file = Self { file, generation: 0, at: None };
        let first = key_file.read(Place::First)?;
        let second = key_file.read(Place::Second)?;
        let newest = match (first, second) {
            (Some(first), Some(second)) if second.generation > first.generation => Some((Place::Second, second)),
            (Some(first), _) => Some((Place::First, first)),
            (None, Some(second)) => Some((Place::Second, second)),
            (None, None) => None,
        };
        match newest {
            Some((place, slot)) => {
                (key_file.generation, key_file.at) = (slot.generation, Some(place));
                key_file.zero(place.other())?;
                Ok((key_file, Some(slot)))
            }
            None => {
                key_file.zero(Place::First)?;
                key_file.zero(Place::Second)?;
                Ok((key_file, None))
            }
        }
    }

    /// Makes the state before batch `next_k` durable beside the old one.
    pub(super) fn write(&mut self, stream: StreamId, next_k: u64, head: Hash, ratchet: &Ratchet) -> Result<(), KeyFileError> {
        let place = self.at.map_or(Place::First, Place::other);
        let slot = KeySlot { generation: self.generation.saturating_add(1), stream, next_k, head, seed: ratchet.seed().clone() };
        self.put(place, slot.encode().as_slice())?;
        // From here on a crash recovers to the batch before `next_k`: it may leave the host.
        self.generation = slot.generation;
        self.at = Some(place);
        Ok(())
    }

    /// Erases the state before the one that [`KeyFile::write`] made durable.
    pub(super) fn erase_old(&mut self) -> Result<(), KeyFileError> {
        match self.at {
            Some(place) => self.zero(place.other()),
            None => Ok(()),
        }
    }

    /// `None` for what is not a whole slot.
    fn read(&self, place: Place) -> Result<Option<KeySlot>, KeyFileError> {
        let mut bytes = Zeroizing::new([0; KEY_SLOT_BYTES]);
        match self.file.read_exact_at(bytes.as_mut_slice(), place.offset()) {
            Ok(()) => Ok(KeySlot::decode(bytes.as_slice())),
            Err(cause) => Err(KeyFileError::Io { doing: "read", cause }),
        }
    }

    /// Writes zeros only where there are others, so that a start costs no fsync.
    fn zero(&self, place: Place) -> Result<(), KeyFileError> {
        let zeros = [0; KEY_SLOT_BYTES];
        let mut bytes = Zeroizing::new([1; KEY_SLOT_BYTES]);
        match self.file.read_exact_at(bytes.as_mut_slice(), place.offset()) {
            Ok(()) if bytes.as_slice() == zeros => Ok(()),
            _ => self.put(place, &zeros),
        }
    }

    fn put(&self, place: Place, bytes: &[u8]) -> Result<(), KeyFileError> {
        self.file.write_all_at(bytes, place.offset()).map_err(|cause| KeyFileError::Io { doing: "written", cause })?;
        self.file.sync_data().map_err(|cause| KeyFileError::Io { doing: "synced", cause })
    }
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::chain::Seed;

    use super::*;

    fn stream() -> StreamId {
        StreamId::from_bytes([7; 16])
    }

    fn ratchet(k: u64) -> Ratchet {
        Ratchet::new(stream(), k, Seed(Zeroizing::new([u8::try_from(k).unwrap(); 32])))
    }

    #[test]
    fn the_newer_slot_wins_and_the_older_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let (mut key_file, slot) = KeyFile::open(dir.path()).unwrap();
        assert!(slot.is_none());
        for k in 1..5 {
            key_file.write(stream(), k, Hash::ZERO, &ratchet(k)).unwrap();
        }
        drop(key_file);
        let (key_file, slot) = KeyFile::open(dir.path()).unwrap();
        let slot = slot.unwrap();
        assert_eq!((slot.next_k, slot.generation), (4, 4));
        drop(key_file);
        let bytes = std::fs::read(dir.path().join(KEY_FILE)).unwrap();
        assert_eq!(bytes.chunks(KEY_SLOT_BYTES).filter(|slot| slot.iter().any(|&b| b != 0)).count(), 1);
    }

    #[test]
    fn a_torn_slot_is_erased_and_the_whole_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let (mut key_file, _) = KeyFile::open(dir.path()).unwrap();
        key_file.write(stream(), 1, Hash::ZERO, &ratchet(1)).unwrap();
        key_file.write(stream(), 2, Hash::ZERO, &ratchet(2)).unwrap();
        key_file.file.write_all_at(&[0xff; 9], KEY_SLOT_BYTES as u64 + 90).unwrap();
        drop(key_file);
        let (_key_file, slot) = KeyFile::open(dir.path()).unwrap();
        assert_eq!(slot.unwrap().next_k, 1);
    }

    #[test]
    fn a_second_agent_is_kept_off() {
        let dir = tempfile::tempdir().unwrap();
        let _first = KeyFile::open(dir.path()).unwrap();
        assert!(matches!(KeyFile::open(dir.path()), Err(KeyFileError::Locked)));
    }
}
