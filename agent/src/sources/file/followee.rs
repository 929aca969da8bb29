//! One file of a path: under it, resting beside it, or let go.
//!
//! A file that left its path rests once its writer is silent, and is kept. Only one that no name leads to, or that was not
//! written for [`UNWRITTEN_MAX`], is done with.

use std::fs::Metadata;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::place::Place;
use super::tail::{Given, Tail};

/// An open file of a path.
#[derive(Debug)]
pub(super) struct Followee {
    pub(super) tail: Tail,
    /// Since when it is under the path no more, or under none, and had nothing to read.
    quiet_since: Option<Instant>,
    /// No name leads to it.
    pub(super) is_deleted: bool,
    /// Read to its end for good.
    pub(super) done: bool,
}

/// A file that was read to its end and let go.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) place: Place,
    /// As it was then, and under which name.
    pub(super) metadata: Metadata,
    pub(super) name: Option<PathBuf>,
    /// It is not beside the path any more. Its name is still told from that of a packed file.
    pub(super) is_gone: bool,
}

/// A file that left its path rests when it was not written for this long, for loggers reopen within seconds: its last line
/// is then taken without its end. A deleted one is let go.
pub(super) const LEAVING_QUIET: Duration = Duration::from_secs(10);

/// A resting file is let go when it was not written for this long.
pub(super) const UNWRITTEN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Resting files of one path that are kept: each costs a descriptor and a watch.
pub(super) const KEPT_MAX: usize = 2;

impl Followee {
    /// A file that is followed from now on.
    pub(super) const fn new(tail: Tail) -> Self {
        Self { tail, quiet_since: None, is_deleted: false, done: false }
    }

    /// Something of it was read: whatever became of its name, it is written.
    pub(super) const fn written(&mut self) {
        (self.quiet_since, self.tail.place.is_resting) = (None, false);
    }

    /// Until it may come to rest or be let go; `None` while it is under its path.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let quiet = LEAVING_QUIET.saturating_sub(self.quiet_since?.elapsed());
        let is_kept = self.tail.place.is_resting && !self.is_deleted;
        let unwritten = if is_kept { UNWRITTEN_MAX.saturating_sub(self.tail.unwritten()) } else { Duration::ZERO };
        Some(quiet.max(unwritten) + Duration::from_millis(1))
    }

    /// At its end: whether it is under the path, rests beside it or is done with.
    pub(super) fn come_to_rest(&mut self, under: Option<(u64, u64)>, now: Instant, given: &mut Vec<Given>) {
        let is_deleted = self.tail.is_unlinked();
        let has_left = is_deleted || under.is_some_and(|(device, inode)| !self.tail.is(device, inode));
        if !has_left {
            (self.quiet_since, self.is_deleted, self.tail.place.is_resting) = (None, false, false);
            return;
        }
        if std::mem::replace(&mut self.is_deleted, is_deleted) != is_deleted {
            self.quiet_since = None;
        }
        let since = *self.quiet_since.get_or_insert(now);
        if now.saturating_duration_since(since) < LEAVING_QUIET {
            return;
        }
        given.extend(self.tail.rest());
        self.tail.place.is_resting = true;
        self.done = is_deleted || self.tail.unwritten() >= UNWRITTEN_MAX;
    }
}

impl Left {
    pub(super) fn of(tail: &Tail) -> Option<Self> {
        let name = std::fs::read_link(tail.own_path()).ok().map(|name| {
            let name = name.to_string_lossy().into_owned();
            PathBuf::from(name.strip_suffix(" (deleted)").unwrap_or(&name))
        });
        Some(Self { place: tail.place.clone(), metadata: tail.metadata().ok()?, name, is_gone: false })
    }
}
