//! The state of the kernel's audit system: whether it is on, and how many records it lost by itself.
//!
//! Needs CAP_AUDIT_CONTROL. `lost` counts what the kernel could not queue; what overran a multicast socket is not in it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags};

use super::message::{self, Message};
use super::socket::{self, SocketError};

/// The members of the kernel's `struct audit_status` that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// 0 off, 1 on, 2 on and locked until the next boot.
    pub enabled: u32,
    /// Process that owns the unicast stream (auditd), 0 where none does.
    pub owner: u32,
    pub backlog_limit: u32,
    /// Records lost since boot or the last reset.
    pub lost: u32,
    pub backlog: u32,
}

/// What to tell where [`Status::enabled`] is 0: the source listens, and the kernel says nothing.
pub const AUDITING_IS_OFF: &str = "the kernel's auditing is off, so that nothing is captured: switch it on with `auditctl -e 1`, and for each boot with the kernel's option audit=1";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the kernel refused: give this process CAP_AUDIT_CONTROL, outside of any PID namespace")]
    Denied,
    #[error("no understandable answer came from the kernel")]
    Answer,
    #[error("the request failed")]
    Failed(#[source] std::io::Error),
}

/// A socket for requests, kept open between them.
#[derive(Debug)]
pub struct Control {
    fd: OwnedFd,
    sequence: u32,
}

/// Longest wait for the kernel's answer, which it gives at once.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// Messages read of a listing, and the bytes of one: a rule's fixed part and its texts, of which a path has 4096.
const LISTED_MAX: usize = 8192;
const LISTED_BYTES_MAX: usize = 16 * 1024;

/// Messages read in search of an answer: the reply and its acknowledgement, with room for strays.
const ANSWERS_MAX: usize = 8;

/// `AUDIT_STATUS_PID` in `audit_status.mask`. Source: linux/audit.h.
const MASK_OWNER: u32 = 4;

/// `AUDIT_STATUS_ENABLED` in `audit_status.mask`. Source: linux/audit.h.
const MASK_ENABLED: u32 = 1;

/// What the kernel answers to a process without the capability, or inside a PID namespace. Source: asm-generic/errno.h.
const PERM: i32 = 1;
const CONNREFUSED: i32 = 111;

/// Size of `struct audit_status` up to its version 3 member, bytes; older kernels take and give less.
const STATUS_BYTES: usize = 40;

impl Control {
    pub fn open() -> Result<Self, StatusError> {
        let fd = socket::requests()?;
        sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER_MAX)).map_err(failed)?;
        Ok(Self { fd, sequence: 0 })
    }

    pub fn status(&mut self) -> Result<Status, StatusError> {
        self.exchange(message::GET, &[], |message| {
            (message.kind == message::GET).then(|| Status::parse(message.payload)).flatten()
        })
    }

    /// Switches auditing on or off. Never locks it.
    pub fn set_enabled(&mut self, enabled: bool) -> Result<(), StatusError> {
        self.set(&status_of(MASK_ENABLED, 1, u32::from(enabled)))
    }

    /// Gives the stream back, if this process owns it.
    pub fn give_back(&mut self) -> Result<(), StatusError> {
        self.set(&status_of(MASK_OWNER, 3, 0))
    }

    fn set(&mut self, status: &[u8]) -> Result<(), StatusError> {
        self.exchange(message::SET, status, |message| (message.errno() == Some(0)).then_some(()))
    }

    /// Every message of a listing, until the kernel says that it is done.
    pub fn list(&mut self, kind: u16) -> Result<Vec<Vec<u8>>, StatusError> {
        let mut all = Vec::new();
        self.ask(kind, &[])?;
        let mut buffer = vec![0; LISTED_BYTES_MAX];
        for _ in 0..LISTED_MAX {
            let (length, _) = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let Some(message) = buffer.get(..length).and_then(Message::of_datagram) else { continue };
            match message.errno() {
                Some(0) => {}
                Some(PERM | CONNREFUSED) => return Err(StatusError::Denied),
                Some(errno) => return Err(StatusError::Failed(std::io::Error::from_raw_os_error(errno))),
                None if message.kind == message::DONE => return Ok(all),
                None if message.kind == kind => all.push(message.payload.to_vec()),
                None => {}
            }
        }
        Err(StatusError::Answer)
    }

    /// A request that is only acknowledged. `Exists` where the kernel has it already.
    pub fn request(&mut self, kind: u16, payload: &[u8]) -> Result<(), StatusError> {
        match self.exchange(kind, payload, |message| (message.errno() == Some(0)).then_some(())) {
            Err(StatusError::Failed(error)) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn ask(&mut self, kind: u16, payload: &[u8]) -> Result<(), StatusError> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.fd, &message::request(kind, self.sequence, payload))
    }

    fn exchange<T>(&mut self, kind: u16, payload: &[u8], read: impl Fn(&Message<'_>) -> Option<T>) -> Result<T, StatusError> {
        self.ask(kind, payload)?;
        let mut buffer = [0; 1024];
        for _ in 0..ANSWERS_MAX {
            let (length, _) = match rustix::net::recv(&self.fd, &mut buffer[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            let Some(message) = buffer.get(..length).and_then(Message::of_datagram) else { continue };
            if let Some(answer) = read(&message) {
                return Ok(answer);
            }
            match message.errno() {
                None | Some(0) => {}
                Some(PERM | CONNREFUSED) => return Err(StatusError::Denied),
                // Not `Errno`, which panics on numbers that are none.
                Some(errno) => return Err(StatusError::Failed(std::io::Error::from_raw_os_error(errno))),
            }
        }
        Err(StatusError::Answer)
    }
}

/// Makes this process the owner of the stream, and this socket where the kernel sends it. Unacknowledged: the first
/// record may come before an acknowledgement would.
pub(super) fn claim(fd: &OwnedFd) -> Result<(), StatusError> {
    let request = message::request_unacknowledged(message::SET, 1, &status_of(MASK_OWNER, 3, std::process::id()));
    send(fd, &request)
}

fn send(fd: &OwnedFd, request: &[u8]) -> Result<(), StatusError> {
    let kernel = rustix::net::netlink::SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(fd, request, SendFlags::empty(), &kernel).map(drop).map_err(failed)
}

/// A `struct audit_status` that sets one member, counted in u32 from 0.
fn status_of(mask: u32, member: usize, value: u32) -> [u8; STATUS_BYTES] {
    let mut payload = [0; STATUS_BYTES];
    for (at, value) in [(0, mask), (member, value)] {
        if let Some(slot) = payload.get_mut(at * 4..at * 4 + 4) {
            slot.copy_from_slice(&value.to_ne_bytes());
        }
    }
    payload
}

fn failed(errno: Errno) -> StatusError {
    StatusError::Failed(errno.into())
}

impl Status {
    /// Members in order: mask, enabled, failure, pid, rate_limit, backlog_limit, lost, backlog; u32 each.
    fn parse(payload: &[u8]) -> Option<Self> {
        let member = |index: usize| payload.get(index * 4..index * 4 + 4)?.try_into().ok().map(u32::from_ne_bytes);
        Some(Self { enabled: member(1)?, owner: member(3)?, backlog_limit: member(5)?, lost: member(6)?, backlog: member(7)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_member_by_member() {
        let payload: Vec<u8> = (0u32..10).flat_map(u32::to_ne_bytes).collect();
        assert_eq!(Status::parse(&payload), Some(Status { enabled: 1, owner: 3, backlog_limit: 5, lost: 6, backlog: 7 }));
        assert_eq!(Status::parse(&payload[..31]), None);
    }
}
