//! Waiting for files to change: inotify, and a waker for the stop. Nobody polls.
//!
//! A change may be reported more often than it happened, never less: when the kernel's queue overflows, the answer is
//! [`Change::Everything`] and the caller looks at all it follows.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

/// One inotify instance. Blocks its thread: belongs on one of its own.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    wake: Arc<OwnedFd>,
}

/// Ends a [`Watch::wait`] from another thread, also when dropped.
#[derive(Debug)]
pub(super) struct Waker(Arc<OwnedFd>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The watched file was written, truncated, renamed or unlinked; or the watched directory got or lost an entry.
    At(i32),
    /// The watch itself is gone with what it watched.
    Gone(i32),
    /// Changes were lost: anything may have changed.
    Everything,
}

/// Bytes of events read at once: some hundred events.
const EVENT_BYTES: usize = 16 * 1024;

impl Watch {
    pub(super) fn new() -> io::Result<(Self, Waker)> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let wake = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Self { inotify, wake: Arc::clone(&wake) }, Waker(wake)))
    }

    /// Entries that appear in or vanish from a directory.
    pub(super) fn directory(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.inotify, path, flags)?)
    }

    /// What is written to a file, or to any file of a directory.
    pub(super) fn content(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        Ok(inotify::add_watch(&self.inotify, path, flags)?)
    }

    /// Entries and contents of a directory.
    pub(super) fn tree(&self, path: &Path) -> io::Result<i32> {
        let flags = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.inotify, path, flags)?)
    }

    /// Blocks until something changed, the waker was used or the time is over; then gives all changes at hand.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Change>> {
        let mut ends = [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&*self.wake, PollFlags::IN)];
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match rustix::event::poll(&mut ends, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Empty when it was not the waker.
        let _unwoken = rustix::io::read(&*self.wake, &mut [0u8; 8]);
        self.changes()
    }

    fn changes(&self) -> io::Result<Vec<Change>> {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut changes = Vec::new();
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN) => return Ok(changes),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let change = if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                Change::Everything
            } else if event.events().contains(ReadFlags::IGNORED) {
                Change::Gone(event.wd())
            } else {
                Change::At(event.wd())
            };
            if changes.last() != Some(&change) {
                changes.push(change);
            }
        }
    }
}

impl Waker {
    /// Runs a follower on a thread of its own until it ends or is told to stop, which wakes it.
    pub(super) async fn run<T: Send + 'static>(
        self,
        stop: &CancellationToken,
        follow: impl FnOnce(&CancellationToken) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Dropping this future ends the thread too: first the guard cancels, then the waker wakes.
        let seen = stop.child_token();
        let _ended_with_this = seen.clone().drop_guard();
        let mut thread = tokio::task::spawn_blocking(move || follow(&seen));
        tokio::select! {
            ended = &mut thread => ended,
            () = stop.cancelled() => {
                self.wake();
                thread.await
            }
        }
    }

    pub(super) fn wake(&self) {
        // A full counter wakes as well.
        let _full = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_write_a_new_entry_and_the_waker_end_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = std::fs::File::create(&path).unwrap();
        let (mut watch, waker) = Watch::new().unwrap();
        let entries = watch.directory(dir.path()).unwrap();
        let content = watch.content(&path).unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(watch.wait(None).unwrap(), [Change::At(content)]);
        std::fs::write(dir.path().join("g"), "").unwrap();
        assert_eq!(watch.wait(None).unwrap(), [Change::At(entries)]);
        waker.wake();
        assert_eq!(watch.wait(None).unwrap(), []);
        assert_eq!(watch.wait(Some(Duration::ZERO)).unwrap(), []);
    }
}
