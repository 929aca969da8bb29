//! A file that only takes room, so that a disk which somebody else filled to its end still lets receipts release rows.
//!
//! Releasing needs room itself, for SQLite's log. When a write finds none, the ballast is dropped and the work goes on in
//! its place; once the disk has room again the ballast is written anew.

use std::io;
use std::path::{Path, PathBuf};

use edgetrail_disk::{Access, Medium};

/// The file's name in the state directory.
const BALLAST_FILE: &str = "ballast";

/// Room for what a release needs at once: to fold the log in (4 MiB between checkpoints and the commit that passed them),
/// and to log the release itself.
const BALLAST_BYTES: u64 = 8 * 1024 * 1024;

/// Written at a time, bytes.
const BLOCK_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Ballast {
    medium: Medium,
    path: PathBuf,
    bytes: u64,
    lies: bool,
    /// It was dropped for receipts: records must not take its room.
    spent: bool,
}

impl Ballast {
    /// What lies there from an earlier run is taken as it is. Without a reserve for gaps there is none for receipts either.
    pub(super) fn new(medium: &Medium, dir: &Path, reserve_bytes: u64) -> Self {
        Self::of(medium, dir, if reserve_bytes == 0 { 0 } else { BALLAST_BYTES })
    }

    fn of(medium: &Medium, dir: &Path, bytes: u64) -> Self {
        let path = dir.join(BALLAST_FILE);
        let lies = medium.length(&path).ok().flatten().is_some_and(|length| length >= bytes);
        Self { medium: medium.clone(), path, bytes, lies, spent: false }
    }

    /// Writes the file where it does not lie and the disk keeps `min_free` beside it.
    pub(super) fn lay(&mut self, free: u64, min_free: u64) {
        if self.lies || self.bytes == 0 || free < min_free.saturating_add(self.bytes) {
            return;
        }
        match self.write() {
            Ok(()) => (self.lies, self.spent) = (true, false),
            Err(error) => {
                tracing::warn!(%error, "the ballast could not be written: a full disk may hold the buffer's records for longer");
                self.drop_it();
            }
        }
    }

    /// Whether the disk was full and has no room for the ballast yet.
    pub(super) const fn is_spent(&self) -> bool {
        self.spent
    }

    /// Gives the room back; false where there was none to give.
    pub(super) fn drop_it(&mut self) -> bool {
        let dropped = std::mem::take(&mut self.lies);
        self.spent |= dropped;
        if let Err(error) = self.medium.remove(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the ballast could not be dropped");
            return false;
        }
        dropped
    }

    /// Bytes that no file system keeps as a hole or compresses.
    fn write(&self) -> io::Result<()> {
        let file = self.medium.open(&self.path, Access::Write)?;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = vec![0; BLOCK_BYTES];
        let mut written = 0;
        while written < self.bytes {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all_at(&block, written)?;
            written = written.saturating_add(block.len() as u64);
        }
        file.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_while_there_is_room_and_gives_it_back_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(BALLAST_FILE);
        let mut ballast = Ballast::of(&Medium::real(), dir.path(), 300_000);
        ballast.lay(399_999, 100_000);
        assert!(!path.exists(), "what is to stay free stays free");
        ballast.lay(400_000, 100_000);
        assert!(path.metadata().unwrap().len() >= 300_000);
        let mut again = Ballast::of(&Medium::real(), dir.path(), 300_000);
        assert!(again.drop_it() && !path.exists());
        assert!(!again.drop_it());
    }
}
