//! The thread that receives from the kernel, and does nothing else.
//!
//! It moves datagrams into chunks and hands them on through a bounded queue. With the queue full it waits, and the
//! kernel's own buffer fills; what overruns that is reported by recv as ENOBUFS, counted in the chunk, and found again
//! by the hole in the serials. The chunk says too whether it was the queue that was full.
//!
//! An event is five records and more, of which each would wake this thread and then the next: it waits [`GATHER_MS`] for
//! the others, and [`GATHER_BUSY_MS`] while event follows event, where the kernel's buffer has room for what comes meanwhile.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SocketAddrAny};

use super::socket::{Listener, RECEIVE_BUFFER_BYTES};

/// Datagrams received in one go.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Each datagram behind its length as u32.
    pub(super) bytes: Vec<u8>,
    /// Lines of auditd's stream, whole ones.
    pub(super) lines: Vec<u8>,
    /// How often recv said ENOBUFS.
    pub overruns: u32,
    /// The queue was full when the chunk before was handed on: the kernel's buffer filled while nobody received.
    pub is_behind: bool,
    /// It is full: more may lie in the kernel's buffer.
    pub is_full: bool,
    /// Why nothing more will come.
    pub failed: Option<Errno>,
}

/// Chunks between the threads: with full ones 4 MiB.
pub const CHUNKS_MAX: usize = 64;

/// A chunk is handed on at this size, or when nothing more lies in the kernel.
const CHUNK_BYTES: usize = 64 * 1024;

/// Room for one datagram. Source: the kernel's MAX_AUDIT_MESSAGE_LENGTH, 8970, and its header.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

/// How long the records of a single event gather before they are received, milliseconds: they come together, and its
/// process still lives.
const GATHER_MS: usize = 2;

/// How long they gather while events follow each other, milliseconds: waking every thread for each of a thousand commands
/// a second costs as much as what the commands did.
const GATHER_BUSY_MS: usize = 16;

/// Events follow each other where the next one comes within this time of the last that was received.
const BUSY_WITHIN: Duration = Duration::from_millis(50);

/// Bytes of the kernel's buffer that hold what the fastest host writes in a millisecond: some 400 records of 5 KiB.
const BYTES_A_MS: usize = 2 * 1024 * 1024;

// The kernel doubles what is asked for, for its own bookkeeping (socket(7), SO_RCVBUF).
const _: () = assert!(GATHER_BUSY_MS * BYTES_A_MS <= 2 * RECEIVE_BUFFER_BYTES, "the kernel's buffer holds what gathers");

/// Until `wake` becomes readable, the receiving end goes away or the socket fails.
pub fn receive(listener: &Listener, wake: &OwnedFd, chunks: &SyncSender<Chunk>) {
    let socket = &listener.fd;
    let held_ms = listener.buffer_bytes / BYTES_A_MS;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let (mut is_behind, mut is_full) = (false, false);
    let (mut last, mut room) = (None::<Instant>, 0);
    loop {
        let mut ready = [PollFd::new(socket, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
        match rustix::event::poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                let failed = Chunk { failed: Some(errno), ..Chunk::default() };
                if chunks.send(failed).is_err() {
                    tracing::debug!("nobody waits for the receiver's failure");
                }
                return;
            }
        }
        if ready.get(1).is_some_and(|wake| !wake.revents().is_empty()) {
            return;
        }
        // Behind a full chunk lies more.
        if !is_full {
            let is_busy = last.is_some_and(|last| last.elapsed() < BUSY_WITHIN);
            if let Some(time) = gathering(is_busy, held_ms) {
                std::thread::sleep(time);
            }
        }
        let chunk = Chunk { is_behind, ..drain(socket, &mut buffer, room) };
        (is_full, room, last) = (chunk.is_full, chunk.bytes.len(), Some(Instant::now()));
        let is_last = chunk.failed.is_some();
        let sent = match chunks.try_send(chunk) {
            Err(TrySendError::Full(chunk)) => {
                is_behind = true;
                chunks.send(chunk).is_ok()
            }
            sent => {
                is_behind = false;
                sent.is_ok()
            }
        };
        if !sent || is_last {
            return;
        }
    }
}

/// How long to wait for more, where the kernel's buffer holds what comes in `held_ms` milliseconds; none without room.
fn gathering(is_busy: bool, held_ms: usize) -> Option<Duration> {
    let wanted = if is_busy && held_ms >= GATHER_BUSY_MS { GATHER_BUSY_MS } else { GATHER_MS };
    (held_ms >= wanted).then(|| Duration::from_millis(wanted as u64))
}

/// All that lies in the kernel now, up to one chunk; about as much as the last time, `room` bytes, is expected.
fn drain(socket: &OwnedFd, buffer: &mut [u8], room: usize) -> Chunk {
    let mut chunk = Chunk { bytes: Vec::with_capacity(room), ..Chunk::default() };
    while chunk.bytes.len() < CHUNK_BYTES {
        match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _, from)) if is_kernel(from.as_ref()) => chunk.push(buffer.get(..length).unwrap_or(buffer)),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::NOBUFS) => chunk.overruns = chunk.overruns.saturating_add(1),
            Err(Errno::AGAIN) => break,
            Err(errno) => {
                chunk.failed = Some(errno);
                break;
            }
        }
    }
    chunk.is_full = chunk.bytes.len() >= CHUNK_BYTES;
    chunk
}

/// Port 0 is the kernel's; another process could send to our port.
fn is_kernel(from: Option<&SocketAddrAny>) -> bool {
    from.and_then(|from| SocketAddrNetlink::try_from(from.clone()).ok()).is_some_and(|from| from.pid() == 0)
}

impl Chunk {
    pub(super) fn push(&mut self, datagram: &[u8]) {
        // Proof: a datagram is no longer than DATAGRAM_BYTES_MAX.
        let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(datagram);
    }

    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (datagram, after) = after.split_at_checked(usize::try_from(u32::from_ne_bytes(*length)).ok()?)?;
            rest = after;
            Some(datagram)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_as_they_went_in() {
        let mut chunk = Chunk::default();
        for datagram in [&b"abc"[..], b"", b"de"] {
            chunk.push(datagram);
        }
        assert_eq!(chunk.datagrams().collect::<Vec<_>>(), [&b"abc"[..], b"", b"de"]);
    }

    #[test]
    fn nothing_gathers_where_the_kernel_could_not_hold_it() {
        let (single, busy) = (Some(Duration::from_millis(2)), Some(Duration::from_millis(16)));
        let of = |buffer_bytes: usize| [false, true].map(|is_busy| gathering(is_busy, buffer_bytes / BYTES_A_MS));
        assert_eq!(of(2 * RECEIVE_BUFFER_BYTES), [single, busy]);
        assert_eq!(of(8 * 1024 * 1024), [single, single], "room for four milliseconds");
        assert_eq!(of(212_992), [None, None], "what an agent without CAP_NET_ADMIN gets");
    }
}
