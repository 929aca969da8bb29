//! What the disk has left, and the write-ahead log's share of it.
//!
//! The log must always fit into the database beside what is to stay free: taking records out of a buffer needs room too,
//! so that a disk which the log itself had filled would stay full for ever.

use std::path::Path;

use edgetrail_disk::Medium;

use super::store::BUFFER_FILE;

/// One look at a buffer's file system, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) free: u64,
    /// The log that SQLite keeps beside the database.
    pub(super) log: u64,
}

impl Space {
    /// A file system that does not say is taken to have room: a failing write says the rest.
    pub(super) fn of(medium: &Medium, dir: &Path) -> Self {
        let log = medium.length(&dir.join(format!("{BUFFER_FILE}-wal"))).ok().flatten().unwrap_or(0);
        Self { free: medium.free_bytes(dir).unwrap_or(u64::MAX), log }
    }

    /// Whether the log is to be folded into the database now, while it still fits.
    pub(super) const fn is_tight(&self, min_free: u64) -> bool {
        self.log > 0 && self.free < min_free.saturating_add(self.log)
    }

    /// Whether nothing more is to be taken. Rows first take what the database file holds `reusable`, which costs the disk
    /// nothing; the log needs some of the disk even then.
    pub(super) const fn is_full(&self, reusable: u64, min_free: u64) -> bool {
        self.free.saturating_add(reusable) < min_free || self.free < min_free / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_folded_in_while_it_fits() {
        let space = |free, log| Space { free, log };
        assert!(!space(1000, 400).is_tight(600));
        assert!(space(999, 400).is_tight(600));
        assert!(!space(10, 0).is_tight(600), "there is nothing to fold in");
        assert!(space(0, 1).is_tight(u64::MAX));
    }

    #[test]
    fn a_drained_buffer_has_room_though_its_file_did_not_shrink() {
        let space = |free| Space { free, log: 0 };
        assert!(space(599).is_full(0, 600) && !space(600).is_full(0, 600));
        assert!(!space(500).is_full(100, 600));
        assert!(space(299).is_full(u64::MAX, 600), "the log has nowhere to go");
    }
}
