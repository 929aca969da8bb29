//! The thread that receives from the kernel, and does nothing else.
//!
//! It moves datagrams into chunks and hands them on through a bounded queue. With the queue full it waits, and the
//! kernel's own buffer fills; what overruns that is reported by recv as ENOBUFS, counted in the chunk, and found again
//! by the hole in the serials. The chunk says too whether it was the queue that was full.
//!
//! An event is five records and more, of which each would wake this thread and then the next: it waits [`GATHER`] for the
//! others where the kernel's buffer has room for what comes meanwhile.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SocketAddrAny};

use super::socket::Listener;

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

/// How long records gather before they are received: a command's events come together, and its process still lives.
const GATHER: Duration = Duration::from_millis(2);

/// Bytes of the kernel's buffer that hold what the fastest host writes in [`GATHER`]: some 800 records of 5 KiB.
const GATHER_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Until `wake` becomes readable, the receiving end goes away or the socket fails.
pub fn receive(listener: &Listener, wake: &OwnedFd, chunks: &SyncSender<Chunk>) {
    let (socket, gathers) = (&listener.fd, listener.buffer_bytes >= GATHER_BUFFER_BYTES);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let (mut is_behind, mut is_full) = (false, false);
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
        if gathers && !is_full {
            std::thread::sleep(GATHER);
        }
        let chunk = Chunk { is_behind, ..drain(socket, &mut buffer) };
        is_full = chunk.is_full;
        let last = chunk.failed.is_some();
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
        if !sent || last {
            return;
        }
    }
}

/// All that lies in the kernel now, up to one chunk.
fn drain(socket: &OwnedFd, buffer: &mut [u8]) -> Chunk {
    let mut chunk = Chunk::default();
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
}
