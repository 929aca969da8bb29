//! auditd's own stream: the lines that it hands to its plugins.
//!
//! Either auditd starts the agent as a plugin and writes to its standard input, or its `af_unix` plugin serves a socket
//! that the agent connects to. The thread does what the kernel's receiver does: it moves lines into chunks. A full queue
//! makes it wait; what auditd then drops from its own queue is found again by the holes in the serials.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::SyncSender;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::receiver::Chunk;

/// Bytes read in one go.
const READ_BYTES: usize = 64 * 1024;

/// Longest line that is waited for: enriched records of the kernel's longest stay below.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Standard input, or the socket of auditd's `af_unix` plugin.
pub fn open(socket: Option<&Path>) -> std::io::Result<OwnedFd> {
    match socket {
        Some(path) => Ok(UnixStream::connect(path)?.into()),
        None => std::io::stdin().as_fd().try_clone_to_owned(),
    }
}

/// Until `wake` becomes readable, the receiving end goes away or the input ends: an end is a failure, for auditd lives on.
pub fn receive(input: &OwnedFd, wake: &OwnedFd, chunks: &SyncSender<Chunk>) {
    let mut buffer = vec![0; READ_BYTES];
    let mut half = Vec::new();
    loop {
        let mut ready = [PollFd::new(input, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
        let chunk = match rustix::event::poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            Err(errno) => Chunk { failed: Some(errno), ..Chunk::default() },
            Ok(_) if ready.get(1).is_some_and(|wake| !wake.revents().is_empty()) => return,
            Ok(_) => match rustix::io::read(input, &mut buffer[..]) {
                Ok(0) => Chunk { lines: std::mem::take(&mut half), failed: Some(Errno::PIPE), ..Chunk::default() },
                Ok(length) => whole_lines(&mut half, buffer.get(..length).unwrap_or_default()),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(errno) => Chunk { failed: Some(errno), ..Chunk::default() },
            },
        };
        let is_last = chunk.failed.is_some();
        if chunks.send(chunk).is_err() || is_last {
            return;
        }
    }
}

/// What is whole of `half` and `more`; the rest stays in `half`, unless it is longer than any line.
fn whole_lines(half: &mut Vec<u8>, more: &[u8]) -> Chunk {
    half.extend_from_slice(more);
    let end = match memchr::memrchr(b'\n', half) {
        Some(last) => last + 1,
        None if half.len() > LINE_BYTES_MAX => half.len(),
        None => 0,
    };
    let rest = half.split_off(end);
    Chunk { lines: std::mem::replace(half, rest), ..Chunk::default() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn lines_come_whole_whatever_way_they_are_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audispd_events");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let input = open(Some(&path)).unwrap();
        let (mut auditd, _) = listener.accept().unwrap();
        let wake = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let (chunks, outlet) = sync_channel(64);
        let thread = std::thread::spawn(move || receive(&input, &wake, &chunks));
        for piece in ["type=A msg", "=audit(1.1:1): x\ntype=B", " msg=audit(1.1:2): y\nhalf"] {
            auditd.write_all(piece.as_bytes()).unwrap();
        }
        drop(auditd);
        let all: Vec<Chunk> = outlet.iter().collect();
        thread.join().unwrap();
        let text: Vec<u8> = all.iter().flat_map(|chunk| chunk.lines.clone()).collect();
        assert_eq!(text, b"type=A msg=audit(1.1:1): x\ntype=B msg=audit(1.1:2): y\nhalf");
        assert_eq!(all.last().unwrap().failed, Some(Errno::PIPE));
    }

    #[test]
    fn a_line_without_end_is_not_waited_for() {
        let mut half = vec![b'x'; LINE_BYTES_MAX];
        assert!(!whole_lines(&mut half, b"yy").lines.is_empty());
        assert!(half.is_empty());
    }
}
