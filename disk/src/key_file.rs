//! The key file: a ratchet's state between two batches, outside SQLite, whose WAL and free pages keep old images.
//!
//! Two slots of 4 KiB. Order of a batch k: database commit → [`KeyFile::write`] (other slot, fdatasync) → only now may
//! anything of k leave the host → [`KeyFile::erase_old`] (old slot zeroed, fdatasync). docs/protocol.md §3.5.
//! Holds the lock that keeps a second process off the same state directory.
//!
//! Invariant: at every moment a whole slot is on disk once one was, whatever a crash leaves of the write under way.

use std::io;
use std::path::{Path, PathBuf};

use edgetrail_proto::chain::{KEY_SLOT_BYTES, KeySlot, Writer};
use zeroize::Zeroizing;

use crate::crash_point::crash_point;
use crate::medium::{Access, Handle, Medium};

/// A sector that could not be read once is read so often in all: what a flaky bus does passes, a broken sector stays.
const READS_MAX: usize = 3;

#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    handle: Box<dyn Handle>,
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
    #[error("another process runs on {}: stop it first, or give this one a state directory of its own", path.display())]
    Locked { path: PathBuf },
    #[error("{} can't be {doing}: check its permissions and the disk's free space", path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
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
    /// Opens or creates the file, locks it, and gives the newest whole slot; what else is in it is zeroed.
    ///
    /// The slot is written anew before it is believed: after an fsync that failed it may lie in the page cache alone.
    pub fn open(medium: &Medium, path: &Path) -> Result<(Self, Option<KeySlot>), KeyFileError> {
        let io = |doing| move |source| KeyFileError::Io { path: path.to_owned(), doing, source };
        let handle = medium.open(path, Access::Write).map_err(io("opened"))?;
        if !handle.lock().map_err(io("locked"))? {
            return Err(KeyFileError::Locked { path: path.to_owned() });
        }
        if handle.length().map_err(io("read"))? != 2 * KEY_SLOT_BYTES as u64 {
            handle.set_length(2 * KEY_SLOT_BYTES as u64).map_err(io("extended"))?;
            handle.sync().map_err(io("synced"))?;
        }
        // Whoever made the file may have died before its name was durable.
        medium.sync_name(path).map_err(io("synced"))?;
        let mut key_file = Self { path: path.to_owned(), handle, generation: 0, at: None };
        let newest = newest(&*key_file.handle);
        match &newest {
            Some((place, slot)) => {
                let again = KeySlot { generation: slot.generation.saturating_add(1), ..slot.clone() };
                key_file.put(place.other(), again.encode().as_slice())?;
                (key_file.generation, key_file.at) = (again.generation, Some(place.other()));
                key_file.zero(*place)?;
            }
            None => {
                key_file.zero(Place::First)?;
                key_file.zero(Place::Second)?;
            }
        }
        Ok((key_file, newest.map(|(_, slot)| slot)))
    }

    /// What the file of a process that may be running says: takes no lock, changes nothing. `None` without a whole slot.
    pub fn peek(medium: &Medium, path: &Path) -> Result<Option<KeySlot>, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), doing: "read", source };
        if medium.length(path).map_err(io)?.is_none() {
            return Ok(None);
        }
        let handle = medium.open(path, Access::Read).map_err(io)?;
        Ok(newest(&*handle).map(|(_, slot)| slot))
    }

    /// Makes `writer`'s state durable beside the old one.
    pub fn write(&mut self, writer: &Writer) -> Result<(), KeyFileError> {
        let place = self.at.map_or(Place::First, Place::other);
        let slot = KeySlot {
            generation: self.generation.saturating_add(1),
            stream: writer.stream(),
            next_k: writer.next_k(),
            head: writer.head(),
            seed: writer.ratchet().seed().clone(),
        };
        self.put(place, slot.encode().as_slice())?;
        // From here on a crash recovers to the batch before `next_k`: it may leave the host.
        crash_point("key-file/written");
        self.generation = slot.generation;
        self.at = Some(place);
        Ok(())
    }

    /// Erases the state before the one that [`KeyFile::write`] made durable.
    pub fn erase_old(&mut self) -> Result<(), KeyFileError> {
        match self.at {
            Some(place) => self.zero(place.other())?,
            None => return Ok(()),
        }
        crash_point("key-file/erased");
        Ok(())
    }

    /// Both, for whom nothing lies between.
    pub fn advance(&mut self, writer: &Writer) -> Result<(), KeyFileError> {
        self.write(writer)?;
        self.erase_old()
    }

    /// Writes zeros only where there are others, so that a start costs no fsync.
    fn zero(&self, place: Place) -> Result<(), KeyFileError> {
        let zeros = [0; KEY_SLOT_BYTES];
        match bytes_of(&*self.handle, place) {
            Ok(bytes) if *bytes == zeros => Ok(()),
            Ok(_) | Err(_) => self.put(place, &zeros),
        }
    }

    fn put(&self, place: Place, bytes: &[u8]) -> Result<(), KeyFileError> {
        let io = |doing| move |source| KeyFileError::Io { path: self.path.clone(), doing, source };
        self.handle.write_all_at(bytes, place.offset()).map_err(io("written"))?;
        self.handle.sync().map_err(io("synced"))
    }
}

fn newest(handle: &dyn Handle) -> Option<(Place, KeySlot)> {
    match (slot_of(handle, Place::First), slot_of(handle, Place::Second)) {
        (Some(first), Some(second)) if second.generation > first.generation => Some((Place::Second, second)),
        (Some(first), _) => Some((Place::First, first)),
        (None, Some(second)) => Some((Place::Second, second)),
        (None, None) => None,
    }
}

/// `None` for what is not a whole slot, or can't be read: a broken sector must not keep a process from starting.
fn slot_of(handle: &dyn Handle, place: Place) -> Option<KeySlot> {
    (0..READS_MAX).find_map(|_| bytes_of(handle, place).ok()).and_then(|bytes| KeySlot::decode(bytes.as_slice()))
}

fn bytes_of(handle: &dyn Handle, place: Place) -> io::Result<Zeroizing<[u8; KEY_SLOT_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_SLOT_BYTES]);
    handle.read_exact_at(bytes.as_mut_slice(), place.offset())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{read, write};

    use edgetrail_proto::chain::{Hash, Ratchet, Seed};
    use edgetrail_proto::identity::StreamId;

    use super::*;

    fn writer(k: u64) -> Writer {
        let seed = Seed(Zeroizing::new([u8::try_from(k).unwrap(); 32]));
        Writer::resume(Hash::ZERO, 0, Ratchet::new(StreamId::from_bytes([7; 16]), k, seed))
    }

    fn open(dir: &tempfile::TempDir) -> (KeyFile, Option<KeySlot>) {
        KeyFile::open(&Medium::real(), &dir.path().join("key")).unwrap()
    }

    #[test]
    fn the_newer_slot_wins_and_the_older_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let (mut key_file, slot) = open(&dir);
        assert!(slot.is_none());
        for k in 1..5 {
            key_file.write(&writer(k)).unwrap();
        }
        drop(key_file);
        let (key_file, slot) = open(&dir);
        let slot = slot.unwrap();
        assert_eq!((slot.next_k, slot.generation), (4, 4));
        assert_eq!(key_file.generation, 5, "written anew at each start");
        drop(key_file);
        let bytes = read(dir.path().join("key")).unwrap();
        assert_eq!(bytes.chunks(KEY_SLOT_BYTES).filter(|slot| slot.iter().any(|&b| b != 0)).count(), 1);
    }

    #[test]
    fn a_torn_slot_is_erased_and_the_whole_one_stands() {
        let dir = tempfile::tempdir().unwrap();
        let (mut key_file, _) = open(&dir);
        key_file.write(&writer(1)).unwrap();
        key_file.write(&writer(2)).unwrap();
        key_file.handle.write_all_at(&[0xff; 9], KEY_SLOT_BYTES as u64 + 90).unwrap();
        drop(key_file);
        assert_eq!(open(&dir).1.unwrap().next_k, 1);
    }

    #[test]
    fn a_file_of_another_length_is_made_whole() {
        for length in [0, 100, KEY_SLOT_BYTES, 3 * KEY_SLOT_BYTES] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path().join("key"), vec![1; length]).unwrap();
            assert!(open(&dir).1.is_none());
            assert_eq!(read(dir.path().join("key")).unwrap(), vec![0; 2 * KEY_SLOT_BYTES]);
        }
    }

    #[test]
    fn a_second_process_is_kept_off_and_may_look() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, _) = open(&dir);
        first.advance(&writer(3)).unwrap();
        let path = dir.path().join("key");
        assert!(matches!(KeyFile::open(&Medium::real(), &path), Err(KeyFileError::Locked { .. })));
        assert_eq!(KeyFile::peek(&Medium::real(), &path).unwrap().unwrap().next_k, 3);
        assert!(KeyFile::peek(&Medium::real(), &dir.path().join("none")).unwrap().is_none());
    }
}
